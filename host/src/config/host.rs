//! The host's own settings: `hotbay.toml` and the flags that win over it.

use super::{
    ByteSize, Count, DevConfig, KeyValueConfig, OutboundConfig, SettingsError, Span, document, machine, units::not_zero,
    without_port,
};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// What `hotbay serve` runs with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// The folder that is watched.
    pub bay: PathBuf,
    /// Where requests are answered.
    pub listen: SocketAddr,
    /// Where the admin API is answered.
    pub admin: SocketAddr,
    /// What clients may call the admin listener, besides its address and `localhost`.
    pub admin_hosts: Vec<HostName>,
    /// Compile cache, keys and the admin token; `BAY/.hotbay` unless set.
    pub state: Option<PathBuf>,
    /// A file for each secret that services may be granted; `STATE/secrets` unless set.
    pub secrets: Option<PathBuf>,
    /// For whoever writes the services.
    pub dev: DevConfig,
    /// With `dev`, a trap leaves a core dump in the state folder.
    pub coredump: bool,
    /// How long running requests may take to finish at a swap or at the end.
    pub drain: Span,
    /// How often the bay is read again although nothing was reported.
    #[serde(deserialize_with = "not_zero")]
    pub rescan: Span,
    /// The public listener.
    pub http: HttpConfig,
    /// The compiling child process.
    pub compile: CompileConfig,
    /// The pool that instances are taken from.
    pub pool: PoolConfig,
    /// What all services together may have.
    pub budgets: BudgetConfig,
    /// What is kept of revisions that were good once.
    pub history: HistoryConfig,
    /// What guests ask of other hosts.
    pub outbound: OutboundConfig,
    /// What services keep.
    pub keyvalue: KeyValueConfig,
    /// What guests ask of other services.
    pub calls: CallsConfig,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            bay: PathBuf::from("bay"),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 9191)),
            admin_hosts: Vec::new(),
            state: None,
            secrets: None,
            dev: DevConfig::default(),
            coredump: false,
            drain: Span(Duration::from_secs(30)),
            rescan: Span(Duration::from_secs(2)),
            http: HttpConfig::default(),
            compile: CompileConfig::default(),
            pool: PoolConfig::default(),
            budgets: BudgetConfig::default(),
            history: HistoryConfig::default(),
            outbound: OutboundConfig::default(),
            keyvalue: KeyValueConfig::default(),
            calls: CallsConfig::default(),
        }
    }
}

impl HostConfig {
    /// Reads the text of `hotbay.toml`.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        document::parse(text)
    }

    /// The state folder of a bay whose host is given none.
    pub fn state_of(bay: &Path) -> PathBuf {
        bay.join(".hotbay")
    }

    /// The folder of what services keep, in a state folder.
    pub fn keyvalue_of(state: &Path) -> PathBuf {
        state.join("keyvalue")
    }

    /// The folder of secrets in a state folder.
    pub fn secrets_of(state: &Path) -> PathBuf {
        state.join("secrets")
    }

    /// The folder of secrets in use.
    pub fn secrets_dir(&self) -> PathBuf {
        self.secrets.clone().unwrap_or_else(|| Self::secrets_of(&self.state_dir()))
    }

    /// The state folder in use.
    pub fn state_dir(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| Self::state_of(&self.bay))
    }
}

/// The name of a host, in small letters: `ops.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

impl HostName {
    /// Whether an authority, such as the value of a Host header, names this host on whatever port.
    pub fn is_of(&self, authority: &str) -> bool {
        without_port(authority).eq_ignore_ascii_case(&self.0)
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let parsed = name.parse::<http::uri::Authority>();
        if parsed.is_ok_and(|authority| authority.host() == name && !name.contains('*')) {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err(format!("`{name}` is no host name; write \"ops.example.com\", without scheme, port and path"))
        }
    }
}

/// `[http]`: the public listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Every response says which revision made it, in `x-hotbay-revision`.
    pub revision_header: bool,
    /// Longest time a client may take for a request head, longest rest of a connection between two requests, and longest time
    /// in which it takes nothing of a response that is there. Below the
    /// rest that a load balancer in front allows itself, a request can meet the connection as it closes.
    #[serde(deserialize_with = "not_zero")]
    pub header_timeout: Span,
    /// Bytes of a request head; 431 above it.
    #[serde(deserialize_with = "not_zero")]
    pub header_size: ByteSize,
    /// Connections at once; more wait to be accepted. 10,000 unless set, or three quarters of the files that may be open where that
    /// is less.
    pub connections: Count,
    /// Requests at once on one connection of HTTP/2.
    pub streams: Count,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            revision_header: true,
            header_timeout: Span(Duration::from_secs(75)),
            header_size: ByteSize(64 << 10),
            connections: Count((machine::descriptors() / 4 * 3).clamp(1, 10_000)),
            streams: Count(256),
        }
    }
}

/// `[compile]`: bounds of the child process that compiles a build.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompileConfig {
    /// Wall clock; the child is killed after it.
    #[serde(deserialize_with = "not_zero")]
    pub timeout: Span,
    /// Address space of the child (`RLIMIT_AS`).
    #[serde(deserialize_with = "not_zero")]
    pub memory: ByteSize,
    /// Bytes of machine code that the cache keeps; above it what was used least recently goes.
    pub cache_size: ByteSize,
}

impl Default for CompileConfig {
    fn default() -> Self {
        Self { timeout: Span(Duration::from_secs(60)), memory: ByteSize(4 << 30), cache_size: ByteSize(1 << 30) }
    }
}

/// `[pool]`: the slots that instances live in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Instances at once of all services of WASI 0.2 together, and as many of WASI 0.3: each of the two engines has its pool.
    pub instances: Count,
    /// Memory that a slot keeps after its instance ends; resetting up to this much costs no system call. Unless set, 8 MiB, or
    /// less where the slots of both pools together would keep more than an eighth of the machine's or the container's memory.
    pub keep_resident: Option<ByteSize>,
}

/// The most that a slot keeps unless `pool.keep_resident` is set.
const KEEP_RESIDENT_MAX: u64 = 8 << 20;

impl PoolConfig {
    /// [`Self::keep_resident`] in force, whole pages.
    pub fn keep_resident(&self) -> ByteSize {
        self.keep_resident.unwrap_or_else(|| self.kept_of(machine::memory()))
    }

    fn kept_of(&self, memory: u64) -> ByteSize {
        const PAGE: u64 = 4 << 10;
        let each = memory / 8 / 2 / u64::from(self.instances.0.max(1));
        ByteSize(each.min(KEEP_RESIDENT_MAX) / PAGE * PAGE)
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { instances: Count(1000), keep_resident: None }
    }
}

/// `[budgets]`: what all services together may have. Half of it is split evenly between them, the rest is for whoever comes first.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// Linear memory and tables of all instances, as guests asked for it. Five eighths of the machine's or the container's
    /// memory unless set: an eighth is for what the slots of the pools keep, a quarter for the host and the system.
    #[serde(deserialize_with = "not_zero")]
    pub memory: ByteSize,
    /// Requests that run or wait for a permit.
    pub requests: Count,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { memory: ByteSize(machine::memory() / 8 * 5), requests: Count(4096) }
    }
}

/// `[history]`: the revisions that can be gone back to, in the state folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// Revisions of a service that are kept beside the serving one.
    pub keep: Count,
    /// Bytes of builds that are kept of all services; above it the oldest go, but never one that serves.
    pub size: ByteSize,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { keep: Count(10), size: ByteSize(1 << 30) }
    }
}

/// `[calls]`: from service to service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallsConfig {
    /// Calls one behind the other that one request may lead to; 508 above it.
    pub depth: Count,
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self { depth: Count(8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults_and_flags_find_their_keys() {
        let config = HostConfig::parse("listen = \"127.0.0.1:0\"\n[http]\nrevision_header = false\n").unwrap();
        assert_eq!(config.listen.port(), 0);
        assert!(!config.http.revision_header);
        assert_eq!(config.state_dir(), PathBuf::from("bay/.hotbay"));
        for bad in ["http://a", "a:80", "*.a", "a/b", ""] {
            assert!(HostConfig::parse(&format!("admin_hosts = [{bad:?}]")).is_err(), "{bad}");
        }
        let config = HostConfig::parse("admin_hosts = [\"Ops.example.com\"]").unwrap();
        let pool = |instances| PoolConfig { instances: Count(instances), keep_resident: None };
        assert_eq!(pool(1).kept_of(64 << 30), ByteSize::mib(8));
        for instances in [16, 1000, 100_000] {
            let kept = pool(instances).kept_of(16 << 30).0 * u64::from(instances) * 2;
            assert!(kept <= 2 << 30, "{kept} bytes of {instances} slots");
        }
        assert!(config.admin_hosts[0].is_of("ops.EXAMPLE.com:443") && !config.admin_hosts[0].is_of("example.com"));
        assert!(HostConfig::parse("listn = 1").unwrap_err().remedy.contains("`listen`"));
    }
}
