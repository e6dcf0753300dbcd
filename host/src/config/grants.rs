//! `[grants]`: what a service may reach outside itself.

use super::{
    origin::{Host, Origin, OriginError},
    tcp_grant::TcpGrant,
};
use serde::Deserialize;
use std::{fmt, net::IpAddr};

/// Everything that is granted; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    http: Vec<HttpGrant>,
    tcp: Vec<TcpGrant>,
}

/// Hosts below this name are services of this host, and not of the network.
pub const INTERNAL: &str = "internal";
/// The one name that stands for addresses of this machine.
pub const LOCALHOST: &str = "localhost";

impl Grants {
    /// Whether any outbound HTTP is granted.
    pub fn any_http(&self) -> bool {
        !self.http.is_empty()
    }

    /// Whether outbound HTTP to `origin` is granted. Of a name this says nothing of the addresses behind it.
    pub fn allow_http(&self, origin: &Origin) -> bool {
        self.http.iter().any(|grant| grant.covers(origin))
    }

    /// Where TCP connections may go. Of a name this says nothing of the addresses behind it.
    pub fn tcp(&self) -> &[TcpGrant] {
        &self.tcp
    }

    /// Each one as people write it, with its kind in front.
    pub fn listed(&self) -> Vec<String> {
        let http = self.http.iter().map(|grant| format!("http {grant}"));
        http.chain(self.tcp.iter().map(|grant| format!("tcp {grant}"))).collect()
    }
}

/// One entry of `grants.http`: a scheme, a host or `*.` and a name, a port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpGrant {
    /// Any label in front of the host.
    wildcard: bool,
    origin: Origin,
}

impl HttpGrant {
    fn covers(&self, asked: &Origin) -> bool {
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
                return Err(format!("`{shown}` is reserved for calls between services, which are not granted here; take it out"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::Uri;

    fn grants(list: &str) -> Result<Grants, String> {
        toml::from_str(&format!("http = [{list}]")).map_err(|error| error.message().to_owned())
    }

    fn covers(list: &str, asked: &str) -> bool {
        let asked = Origin::of(&asked.parse::<Uri>().unwrap()).unwrap();
        grants(list).unwrap().allow_http(&asked)
    }

    #[test]
    fn scheme_host_and_port_must_all_be_the_granted_ones() {
        let list = "'https://api.example.com', 'http://127.0.0.1:9000', 'https://*.Example.org:8443'";
        for asked in [
            "https://api.example.com/x",
            "https://API.example.com.:443",
            "http://127.0.0.1:9000",
            "http://127.1:9000",
            "https://a.example.org:8443",
        ] {
            assert!(covers(list, asked), "{asked}");
        }
        for asked in [
            "http://api.example.com",
            "http://api.example.com:443",
            "https://api.example.com:8443",
            "https://example.com",
            "https://x.api.example.com",
            "https://api.example.com.evil.org",
            "http://127.0.0.1",
            "http://localhost:9000",
            "http://[::ffff:127.0.0.1]:9000",
            "https://example.org:8443",
            "https://a.b.example.org:8443",
            "https://a.example.org",
            "https://aexample.org:8443",
        ] {
            assert!(!covers(list, asked), "{asked}");
        }
        assert!(!covers("", "https://api.example.com") && !Grants::default().any_http());
    }

    #[test]
    fn what_is_no_grant_is_told() {
        for (bad, reason) in [
            ("'api.example.com'", "neither http nor https"),
            ("'ftp://example.com'", "neither http nor https"),
            ("'https://'", "names no host"),
            ("'https://example.com/'", "whole origin"),
            ("'https://example.com?x'", "whole origin"),
            ("'https://u@example.com'", "user before the host"),
            ("'https://example.com:0'", "port"),
            ("'https://*'", "`*`"),
            ("'https://*.com'", "top-level"),
            ("'https://a.*.com'", "`*`"),
            ("'https://*.127.0.0.1'", "`*` before an address"),
            ("'http://0.0.0.0:9000'", "0.0.0.0"),
            ("'http://[::]:9000'", "::"),
            ("'http://224.0.0.1'", "224.0.0.1"),
            ("'http://stock.internal'", "calls between services"),
            ("'https://*.internal'", "calls between services"),
            ("5", "string"),
        ] {
            let error = grants(bad).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
        assert!(toml::from_str::<Grants>("udp = []").is_err());
    }

    #[test]
    fn grants_are_shown_in_normal_form() {
        let listed =
            grants("'HTTPS://API.example.com:443', 'http://*.bücher.example:80', 'http://0x7f.1:9000'").unwrap().listed();
        assert_eq!(listed, ["http https://api.example.com", "http http://*.xn--bcher-kva.example", "http http://127.0.0.1:9000"]);
    }
}
