//! What this machine gives a host: ports, file watches, memory, descriptors; and how a bay stands.

use super::{finding::Finding, listener};
use hotbay::{
    admin,
    config::{BayFile, HostConfig},
};
use rustix::process::{Resource, getrlimit};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
};

/// Below these, watching a few folders beside an editor can fail.
const WATCHES_MIN: u64 = 8192;
const INSTANCES_MIN: u64 = 64;
/// Bytes of memory that a host with a build beside it should find.
const MEMORY_MIN: u64 = 1 << 30;
/// Descriptors below which a host takes few connections.
const DESCRIPTORS_MIN: u64 = 4096;
const SYSCTL: &str = "/proc/sys/fs/inotify";

/// Everything that does not depend on a language. The order is that of the text.
pub(crate) fn findings() -> Vec<Finding> {
    let config = HostConfig::default();
    let mut findings = vec![port(config.listen, "--listen"), port(config.admin, "--admin")];
    let raise = |key: &str, value: u64| format!("sysctl fs.inotify.{key}={value}    (and a line in /etc/sysctl.d to keep it)");
    findings.extend(inotify("max_user_watches", WATCHES_MIN, &raise("max_user_watches", 524_288)));
    findings.extend(inotify("max_user_instances", INSTANCES_MIN, &raise("max_user_instances", 512)));
    findings.push(memory());
    findings.push(address_space());
    findings.push(descriptors());
    findings
}

fn port(address: SocketAddr, flag: &str) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(address.to_string(), "free"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let who = listener::of(address.port()).map_or_else(|| "another user's process".to_owned(), |who| who.to_string());
            Finding::scarce(
                address.to_string(),
                format!("taken by {who}"),
                format!("stop that, or serve with {flag} 127.0.0.1:0"),
            )
        }
        Err(error) => Finding::scarce(address.to_string(), error.to_string(), format!("serve with another {flag}")),
    }
}

fn inotify(key: &str, min: u64, remedy: &str) -> Option<Finding> {
    // Absent on other systems, which watch files in other ways.
    let value: u64 = fs::read_to_string(format!("{SYSCTL}/{key}")).ok()?.trim().parse().ok()?;
    let what = format!("fs.inotify.{key}");
    Some(if value < min { Finding::scarce(what, value.to_string(), remedy) } else { Finding::ok(what, value.to_string()) })
}

fn memory() -> Finding {
    const WHAT: &str = "memory";
    match available() {
        Some(bytes) if bytes < MEMORY_MIN => {
            Finding::scarce(WHAT, in_mib(bytes), "end something else, or lower pool.instances and compile.memory in hotbay.toml")
        }
        Some(bytes) => Finding::ok(WHAT, in_mib(bytes)),
        None => Finding::ok(WHAT, "not known here"),
    }
}

/// Bytes that new processes can have without swapping.
fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn in_mib(bytes: u64) -> String {
    format!("{} MiB available", bytes >> 20)
}

/// A host reserves far more addresses than it uses memory: gigabytes for each instance.
fn address_space() -> Finding {
    const WHAT: &str = "address space (ulimit -v)";
    match getrlimit(Resource::As).current {
        Some(bytes) => {
            Finding::scarce(WHAT, format!("{} MiB", bytes >> 20), "ulimit -v unlimited, or few pool.instances in hotbay.toml")
        }
        None => Finding::ok(WHAT, "unlimited"),
    }
}

fn descriptors() -> Finding {
    const WHAT: &str = "open files (ulimit -Hn)";
    match getrlimit(Resource::Nofile).maximum {
        Some(count) if count < DESCRIPTORS_MIN => {
            Finding::scarce(WHAT, count.to_string(), "raise it: LimitNOFILE= of the unit, or /etc/security/limits.conf")
        }
        Some(count) => Finding::ok(WHAT, count.to_string()),
        None => Finding::ok(WHAT, "unlimited"),
    }
}

/// How the folder `bay` stands.
pub(crate) fn bay(bay: &Path) -> Vec<Finding> {
    let shown = bay.display().to_string();
    let entries = match fs::read_dir(bay) {
        Ok(entries) => entries,
        Err(error) => {
            let remedy = format!("make it (mkdir -p {shown}) or let hotbay's user read it");
            return vec![Finding::missing(shown, error.to_string(), remedy)];
        }
    };
    let (mut builds, mut misnamed) = (0_usize, Vec::new());
    for entry in entries.flatten() {
        match BayFile::of(&entry.file_name().to_string_lossy()) {
            BayFile::Build(_) | BayFile::Labelled(..) => builds += 1,
            BayFile::Misnamed(error) => misnamed.push(Finding::scarce(
                bay.join(entry.file_name()).display().to_string(),
                error.to_string(),
                error.remedy(),
            )),
            BayFile::Settings(_) | BayFile::Ignored => {}
        }
    }
    let mut findings = vec![Finding::ok(shown.clone(), format!("{builds} builds")), served(bay)];
    if let Err(error) = tempfile::Builder::new().prefix(".doctor").tempfile_in(bay) {
        findings.push(Finding::missing(shown, format!("cannot be written: {error}"), "let hotbay's user write it"));
    }
    findings.extend(misnamed);
    findings
}

/// Whether a host has this bay.
fn served(bay: &Path) -> Finding {
    let what = format!("host of {}", bay.display());
    let whole = bay.canonicalize().unwrap_or_else(|_| bay.to_owned());
    let hosts = admin::addresses(&HostConfig::state_of(bay)).unwrap_or_default();
    match hosts.iter().find(|host| host.bay == whole && host.is_alive()) {
        Some(host) => Finding::ok(what, format!("process {}, admin API on {}", host.pid, host.address)),
        None => Finding::ok(what, format!("none runs; start one: hotbay serve {}", bay.display())),
    }
}
