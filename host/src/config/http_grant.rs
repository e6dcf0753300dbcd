//! `[grants] http`: one host that a service may ask.

use super::origin::{Host, Origin, OriginError};
use serde::Deserialize;
use std::{fmt, net::IpAddr};

/// Hosts below this name are services of this host, and not of the network.
pub const INTERNAL: &str = "internal";
/// The one name that stands for addresses of this machine.
pub const LOCALHOST: &str = "localhost";

/// One entry of `grants.http`: a scheme, a host or `*.` and a name, a port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpGrant {
    /// Any label in front of the host.
    wildcard: bool,
    origin: Origin,
}

impl HttpGrant {
    /// Whether it is a grant for `asked`. Of a name this says nothing of the addresses behind it.
    pub(super) fn covers(&self, asked: &Origin) -> bool {
        if (asked.tls, asked.port) != (self.origin.tls, self.origin.port) {
            return false;
        }
        match (&self.origin.host, &asked.host) {
            (Host::Domain(granted), Host::Domain(asked)) if self.wildcard => {
                asked.split_once('.').is_some_and(|(_, rest)| rest == granted)
            }
            (granted, asked) => !self.wildcard && granted == asked,
        }
    }
}

impl TryFrom<String> for HttpGrant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let shown = text.escape_debug();
        let (tls, authority) = match text.split_once("://") {
            Some((scheme, authority)) if scheme.eq_ignore_ascii_case("https") => (true, authority),
            Some((scheme, authority)) if scheme.eq_ignore_ascii_case("http") => (false, authority),
            _ => return Err(format!("`{shown}` is no grant: {}; {WRITE}", OriginError::Scheme)),
        };
        if authority.contains(['/', '?', '#']) {
            return Err(format!("`{shown}` goes on after the port, and a grant is for a whole origin; {WRITE}"));
        }
        let (wildcard, host) = match authority.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, authority),
        };
        if host.contains('*') {
            return Err(format!("`{shown}` has a `*` where none can be; {WRITE}"));
        }
        let origin = Origin::new(tls, host).map_err(|error| format!("`{shown}` is no grant: {error}; {WRITE}"))?;
        match &origin.host {
            Host::Domain(_) if origin.is_within(INTERNAL) => {
                return Err(format!(
                    "`{shown}` is a service of this host; grant calls between services by name, as calls = [\"stock\"]"
                ));
            }
            Host::Domain(name) if wildcard && !name.contains('.') => {
                return Err(format!(
                    "`{shown}` would take a whole top-level domain; name the domain, such as \"https://*.example.com\""
                ));
            }
            Host::Domain(_) => {}
            _ if wildcard => return Err(format!("`{shown}` has a `*` before an address; {WRITE}")),
            _ => {}
        }
        if let Some(nowhere) = origin.address().filter(|address| is_no_destination(*address)) {
            return Err(format!(
                "`{shown}` is granted in vain: {nowhere} is no address of one host; name the host's own address"
            ));
        }
        Ok(Self { wildcard, origin })
    }
}

const WRITE: &str = "write \"https://api.example.com\", \"https://*.example.com\" or \"http://127.0.0.1:9000\"";

/// Addresses that stand for none, or for many.
pub(super) fn is_no_destination(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_unspecified() || address.is_multicast() || matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.origin.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", if self.wildcard { "*." } else { "" }, self.origin.authority())
    }
}
