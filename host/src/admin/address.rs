//! Where the admin listeners of a state folder are: what each host leaves there for the commands.

use crate::state::{self, Lock};
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// The file in the state folder: a line of JSON for each host that uses the folder.
pub const FILE: &str = "admin.address";
/// Held while a host changes what hosts share.
const LOCK: &str = "admin.lock";

/// The admin listener of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Where commands reach it.
    pub address: SocketAddr,
    /// The process.
    pub pid: u32,
    /// The bay that it serves, as an absolute path: tells hosts with one state folder apart.
    pub bay: PathBuf,
}

impl Address {
    /// Of this process, which listens at `bound`.
    pub(super) fn of(bound: SocketAddr, bay: &Path) -> Self {
        // Listening everywhere is no address to go to.
        let ip = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let bay = bay.canonicalize().unwrap_or_else(|_| bay.to_owned());
        Self { address: SocketAddr::new(ip, bound.port()), pid: std::process::id(), bay }
    }

    /// Whether its process is there. Another user's may not be signalled, but it is there.
    pub fn is_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
    }
}

/// The hosts that say that they use the state folder; some may have died without taking their line away.
///
/// # Errors
/// Where the file is not there or cannot be read.
pub fn read(state: &Path) -> io::Result<Vec<Address>> {
    let text = fs::read_to_string(state.join(FILE))?;
    // A line that is not understood is another version's.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Keeps other hosts with this state folder from changing what they share.
pub(super) fn lock(state: &Path) -> io::Result<Lock> {
    Lock::take(&state.join(LOCK))
}

/// Puts `mine` beside the lines of other hosts that live and serve other bays: the bay's newest host is the one to go to.
pub(super) fn add(_lock: &Lock, state: &Path, mine: &Address) -> io::Result<()> {
    let others = read(state).unwrap_or_default().into_iter().filter(|other| other.bay != mine.bay && other.is_alive());
    write(state, others.chain([mine.clone()]))
}

/// Takes `mine` away, unless another host of the bay has taken its place.
pub(super) fn remove(_lock: &Lock, state: &Path, mine: &Address) -> io::Result<()> {
    write(state, read(state)?.into_iter().filter(|other| other != mine))
}

fn write(state: &Path, addresses: impl Iterator<Item = Address>) -> io::Result<()> {
    let mut text = String::new();
    for address in addresses {
        text.push_str(&serde_json::to_string(&address)?);
        text.push('\n');
    }
    if text.is_empty() {
        state::remove_if_there(&state.join(FILE))
    } else {
        state::write_whole(&state.join(FILE), text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_several_bays_stand_side_by_side_and_dead_ones_go() {
        let state = tempfile::tempdir().unwrap();
        let lock = lock(state.path()).unwrap();
        let bound = "0.0.0.0:9191".parse().unwrap();
        let (one, two) = (Address::of(bound, Path::new("/one")), Address::of(bound, Path::new("/two")));
        assert_eq!(one.address, "127.0.0.1:9191".parse().unwrap());
        let dead = Address { pid: i32::MAX.unsigned_abs(), bay: "/dead".into(), ..one.clone() };
        let before = Address { pid: 1, ..two.clone() };
        write(state.path(), [dead, before].into_iter()).unwrap();
        add(&lock, state.path(), &one).unwrap();
        add(&lock, state.path(), &two).unwrap();
        assert_eq!(read(state.path()).unwrap(), [one.clone(), two.clone()]);
        remove(&lock, state.path(), &one).unwrap();
        assert_eq!(read(state.path()).unwrap(), std::slice::from_ref(&two));
        remove(&lock, state.path(), &two).unwrap();
        assert!(!state.path().join(FILE).exists());
    }
}
