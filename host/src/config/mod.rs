//! Host settings and a service's settings: raw TOML in, validated types out. Every default stands here.

mod cron;
mod dev;
mod document;
mod granted_name;
mod grants;
mod host;
mod http_grant;
mod keyvalue;
mod machine;
mod name;
mod origin;
mod outbound;
mod probe;
mod route;
mod settings;
#[cfg(test)]
mod settings_page;
mod tcp_grant;
mod traffic;
mod units;

pub use cron::{CRON, CronEntry};
pub use dev::DevConfig;
pub use document::SettingsError;
pub use granted_name::{BucketName, ConfigKey, EnvName, SecretName};
pub use grants::{Grants, line_with_tcp};
pub use host::{BudgetConfig, CallsConfig, CompileConfig, HistoryConfig, HostConfig, HostName, HttpConfig, PoolConfig};
pub use http_grant::{HttpGrant, INTERNAL, LOCALHOST};
pub use keyvalue::{KeyValueConfig, RedisAddress};
pub use name::{BayFile, BuildName, Label, NameError, ServiceName};
pub use origin::{Host, Origin, OriginError, looked_up};
pub use outbound::OutboundConfig;
pub use probe::Probe;
pub use route::{HostPattern, Methods, PathPattern, RouteSpec, without_port};
pub use settings::{InstancePolicy, Limits, Reuse, RollbackPolicy, Settings};
pub use tcp_grant::TcpGrant;
pub use traffic::{Sticky, Traffic, with_shares, without_share};
pub use units::{ByteSize, Count, Share, Span};
