//! Host settings and a service's settings: raw TOML in, validated types out. Every default stands here.

mod document;
mod host;
mod name;
mod route;
mod settings;
mod units;

pub use document::SettingsError;
pub use host::{CompileConfig, HistoryConfig, HostConfig, HostName, HttpConfig, PoolConfig};
pub use name::{BayFile, NameError, ServiceName};
pub use route::{HostPattern, Methods, PathPattern, RouteSpec, without_port};
pub use settings::{InstancePolicy, Limits, RollbackPolicy, Settings};
pub use units::{ByteSize, Count, Share, Span};
