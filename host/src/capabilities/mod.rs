//! What a guest may reach outside itself, one file a family of imports. Outbound HTTP and TCP go where the settings grant it, HTTP to
//! other services of this host too; keys and secrets are there where they grant them, and the service's own log always; each other
//! family answers with its own error.

mod calls;
mod denials;
mod keyvalue;
mod logging;
mod outbound;
mod secrets;
mod settings;

pub use calls::{Called, Due, Errand, Link, NoService, ServiceCall, ServiceCaller, Tangle, Trace};
pub use denials::{Denial, Denials};
pub(crate) use keyvalue::{HandleMemory, KeyValueAccess, KeyValueView, Space, VERSION as KEYVALUE_VERSION, add_keyvalue};
pub use keyvalue::{KeyValue, KeyValueFailure};
pub(crate) use logging::{add_logging, knows_logging};
pub use outbound::{Network, NetworkError, Reach};
pub(crate) use outbound::{OutboundClient, OutboundHttp, Sockets, SocketsView, add_sockets, add_sockets_of_async};
pub use secrets::{SecretError, SecretFolder, Secrets, SecretsSeen};
pub(crate) use settings::add_setting;
