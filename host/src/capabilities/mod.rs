//! What a guest may reach outside itself, one file a family of imports. Outbound HTTP, keys and secrets are there where the settings
//! grant them, and the service's own log always; each other family answers with its own error.

mod keyvalue;
mod logging;
mod outbound;
mod secrets;

pub use keyvalue::{KeyValue, KeyValueFailure};
pub(crate) use keyvalue::{KeyValueAccess, KeyValueView, Space, VERSION as KEYVALUE_VERSION, add_keyvalue};
pub(crate) use logging::{add_logging, knows_logging};
pub use outbound::{Network, NetworkError};
pub(crate) use outbound::{OutboundClient, OutboundHttp};
pub use secrets::{SecretError, SecretFolder, Secrets, SecretsSeen};
