//! One entry of `grants.tcp`: a host and a port to which a service may open TCP connections.

use super::{
    http_grant::{INTERNAL, is_no_destination},
    origin::{Host, OriginError, host_and_port, is_within},
};
use serde::Deserialize;
use std::{fmt, net::IpAddr};

/// A name or an address, in the normal form of [`super::Origin`], and a port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TcpGrant {
    host: Host<String>,
    port: u16,
}

const WRITE: &str = "write \"db.example.com:5432\", \"127.0.0.1:6379\" or \"[::1]:6379\"";

impl TcpGrant {
    /// The name or the address.
    pub fn host(&self) -> &Host<String> {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, where it names one.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Ipv4(address) => Some((*address).into()),
            Host::Ipv6(address) => Some((*address).into()),
            Host::Domain(_) => None,
        }
    }
}

impl TryFrom<String> for TcpGrant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let shown = text.escape_debug();
        let no_grant = |reason: &str| Err(format!("`{shown}` is no grant: {reason}; {WRITE}"));
        if text.contains(['/', '?', '#']) {
            return no_grant("it is a URL or a path, and TCP knows hosts and ports");
        }
        if text.contains('*') {
            return no_grant("a `*` names no host, and connections go to hosts that are named");
        }
        let (host, port) = match host_and_port(&text) {
            Ok((host, Some(port))) => (host, port),
            Ok((_, None)) => return no_grant("it names no port"),
            // Without brackets nobody can say where an IPv6 address ends.
            Err(OriginError::Host) if text.matches(':').count() > 1 && !text.starts_with('[') => {
                return no_grant("an IPv6 address stands in [brackets], with a port after them");
            }
            Err(error) => return no_grant(&error.to_string()),
        };
        if is_within(&host, INTERNAL) {
            return Err(format!("`{shown}` is reserved for calls between services, which are not granted here; take it out"));
        }
        let grant = Self { host, port };
        if let Some(nowhere) = grant.address().filter(|address| is_no_destination(*address)) {
            return Err(format!(
                "`{shown}` is granted in vain: {nowhere} is no address of one host; name the host's own address"
            ));
        }
        if let Host::Ipv6(address) = grant.host
            && let Some(inner) = address.to_ipv4()
            && !address.is_loopback()
        {
            return Err(format!("`{shown}` is granted in vain: no connection goes to such an address; write \"{inner}:{port}\""));
        }
        Ok(grant)
    }
}

impl fmt::Display for TcpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        TcpGrant::try_from(text.to_owned()).map(|grant| grant.to_string())
    }

    #[test]
    fn grants_are_in_normal_form() {
        for (written, normal) in [
            ("db.example.com:5432", "db.example.com:5432"),
            ("DB.Example.com.:05432", "db.example.com:5432"),
            ("bücher.example:1", "xn--bcher-kva.example:1"),
            ("localhost:6379", "localhost:6379"),
            ("127.0.0.1:6379", "127.0.0.1:6379"),
            ("0177.1:6379", "127.0.0.1:6379"),
            ("2130706433:6379", "127.0.0.1:6379"),
            ("0x7f.1:65535", "127.0.0.1:65535"),
            ("169.254.169.254:80", "169.254.169.254:80"),
            ("[::1]:6379", "[::1]:6379"),
            ("[0:0::1]:6379", "[::1]:6379"),
        ] {
            assert_eq!(shown(written).as_deref(), Ok(normal), "{written}");
        }
    }

    #[test]
    fn what_is_no_grant_is_told() {
        for (bad, reason) in [
            ("", "names no host"),
            (":5432", "names no host"),
            ("db.example.com", "names no port"),
            ("db.example.com:", "names no port"),
            ("[::1]", "names no port"),
            ("::1", "[brackets]"),
            ("::1:6379", "[brackets]"),
            ("db.example.com:0", "port is no number"),
            ("db.example.com:65536", "port is no number"),
            ("db.example.com:postgres", "port is no number"),
            ("db.example.com:*", "`*`"),
            ("*.example.com:5432", "`*`"),
            ("*:5432", "`*`"),
            ("redis://127.0.0.1:6379", "URL"),
            ("127.0.0.1:6379/0", "URL"),
            ("user@db.example.com:5432", "user before the host"),
            ("user:word@db.example.com:5432", "user before the host"),
            ("256.0.0.1:80", "neither a name nor an address"),
            ("a b:80", "neither a name nor an address"),
            ("0.0.0.0:80", "0.0.0.0"),
            ("0:80", "0.0.0.0"),
            ("[::]:80", "::"),
            ("224.0.0.1:80", "224.0.0.1"),
            ("255.255.255.255:80", "255.255.255.255"),
            ("[ff02::1]:80", "ff02::1"),
            ("[::ffff:127.0.0.1]:6379", "write \"127.0.0.1:6379\""),
            ("[::127.0.0.1]:6379", "write \"127.0.0.1:6379\""),
            ("stock.internal:80", "calls between services"),
        ] {
            let error = shown(bad).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }
}
