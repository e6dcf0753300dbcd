//! Host settings and a service's settings: raw TOML in, validated types out. Every default stands here.

mod cron;
mod document;
mod grants;
mod host;
mod machine;
mod name;
mod origin;
mod outbound;
mod probe;
mod route;
mod settings;
mod traffic;
mod units;

pub use cron::{CRON, CronEntry};
pub use document::SettingsError;
pub use grants::{Grants, HttpGrant, INTERNAL, LOCALHOST};
pub use host::{BudgetConfig, CallsConfig, CompileConfig, HistoryConfig, HostConfig, HostName, HttpConfig, PoolConfig};
pub use name::{BayFile, BuildName, Label, NameError, ServiceName};
pub use origin::{Host, Origin, OriginError};
pub use outbound::OutboundConfig;
pub use probe::Probe;
pub use route::{HostPattern, Methods, PathPattern, RouteSpec, without_port};
pub use settings::{InstancePolicy, Limits, Reuse, RollbackPolicy, Settings};
pub use traffic::{Sticky, Traffic, without_share};
pub use units::{ByteSize, Count, Share, Span};
