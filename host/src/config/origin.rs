//! Scheme, host and port of an HTTP URL in normal form, so that two spellings of one are one.

use http::{Uri, uri::Scheme};
use std::{fmt, net::IpAddr};
pub use url::Host;

/// Where an HTTP request goes: `https://api.example.com:443`.
///
/// The host is in the normal form of the URL standard: small letters, punycode, no percent-encoding, no dot at the end, and
/// every spelling of an IPv4 address (`127.1`, `0x7f000001`, `2130706433`, `0177.0.0.1`) as the address that it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// The name or the address.
    pub host: Host<String>,
    /// The port, the scheme's own where none was written.
    pub port: u16,
}

/// What is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Another scheme than http and https.
    #[error("its scheme is neither http nor https")]
    Scheme,
    /// No host at all.
    #[error("it names no host")]
    Missing,
    /// `user@host`: what stands before the `@` passes for the host with whoever reads carelessly.
    #[error("it has a user before the host (`@`)")]
    Userinfo,
    /// A host that is neither a name nor an address.
    #[error("its host is neither a name nor an address")]
    Host,
    /// A port that is none.
    #[error("its port is no number from 1 to 65535")]
    Port,
}

impl Origin {
    /// The origin of an absolute URL.
    ///
    /// # Errors
    /// What of it makes it none.
    pub fn of(uri: &Uri) -> Result<Self, OriginError> {
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(OriginError::Scheme),
        };
        Self::new(tls, uri.authority().map_or("", |authority| authority.as_str()))
    }

    /// The origin of `host` or `host:port`.
    ///
    /// # Errors
    /// What of it makes it none.
    pub fn new(tls: bool, authority: &str) -> Result<Self, OriginError> {
        let (host, port) = host_and_port(authority)?;
        Ok(Self { tls, host, port: port.unwrap_or(Self::usual_port(tls)) })
    }

    /// The port of a scheme.
    pub fn usual_port(tls: bool) -> u16 {
        if tls { 443 } else { 80 }
    }

    /// The address, where the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Ipv4(address) => Some((*address).into()),
            Host::Ipv6(address) => Some((*address).into()),
            Host::Domain(_) => None,
        }
    }

    /// Whether the host is the name `name`, or lies below it.
    pub fn is_within(&self, name: &str) -> bool {
        is_within(&self.host, name)
    }

    /// The value of `Host`: without the scheme's own port.
    pub fn authority(&self) -> String {
        match self.port {
            port if port == Self::usual_port(self.tls) => self.host.to_string(),
            port => format!("{}:{port}", self.host),
        }
    }
}

/// The host and the port of `host` or `host:port`.
pub(super) fn host_and_port(authority: &str) -> Result<(Host<String>, Option<u16>), OriginError> {
    if authority.contains('@') {
        return Err(OriginError::Userinfo);
    }
    let (host, port) = match authority.rfind([':', ']']).and_then(|last| authority.split_at_checked(last)) {
        Some((host, port)) if port.starts_with(':') => (host, port.trim_start_matches(':')),
        _ => (authority, ""),
    };
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0).ok_or(OriginError::Port)?)
        }
        _ => return Err(OriginError::Port),
    };
    Ok((normal(host)?, port))
}

/// The normal form of a host that somebody looks up: an IPv6 address has no brackets there.
///
/// # Errors
/// What is neither a name nor an address.
pub fn looked_up(host: &str) -> Result<Host<String>, OriginError> {
    match host.parse() {
        Ok(address) => Ok(Host::Ipv6(address)),
        Err(_) => normal(host),
    }
}

/// Whether the host is the name `name`, or lies below it.
pub(super) fn is_within(host: &Host<String>, name: &str) -> bool {
    let Host::Domain(host) = host else { return false };
    host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The normal form of a host.
fn normal(host: &str) -> Result<Host<String>, OriginError> {
    if host.is_empty() {
        return Err(OriginError::Missing);
    }
    match Host::parse(host).map_err(|_| OriginError::Host)? {
        Host::Domain(name) => {
            // `example.com.` is the same name, written in full.
            let name = name.strip_suffix('.').unwrap_or(&name);
            let label = |label: &str| !label.is_empty() && label.len() <= 63;
            // What looks like an address and is none must not be left to a resolver's own reading.
            let fits = name.len() <= 253 && name.split('.').all(label);
            if fits { Ok(Host::Domain(name.to_owned())) } else { Err(OriginError::Host) }
        }
        address => Ok(address),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(authority: &str) -> Result<String, OriginError> {
        Origin::new(false, authority).map(|origin| origin.to_string())
    }

    #[test]
    fn spellings_of_one_host_are_one() {
        for (written, normal) in [
            ("Example.COM", "http://example.com"),
            ("example.com.", "http://example.com"),
            ("example.com:80", "http://example.com"),
            ("example.com:", "http://example.com"),
            ("example.com:0080", "http://example.com"),
            ("example.com:8080", "http://example.com:8080"),
            ("%65xample.com", "http://example.com"),
            ("bücher.example", "http://xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "http://xn--bcher-kva.example"),
            ("%EF%BC%91%EF%BC%92%EF%BC%97.1", "http://127.0.0.1"),
            ("127.1", "http://127.0.0.1"),
            ("127.0.0.1.", "http://127.0.0.1"),
            ("2130706433", "http://127.0.0.1"),
            ("0x7f000001", "http://127.0.0.1"),
            ("0X7F.1", "http://127.0.0.1"),
            ("0177.0.0.01", "http://127.0.0.1"),
            ("017700000001", "http://127.0.0.1"),
            ("[::1]", "http://[::1]"),
            ("[0:0:0:0:0:0:0:1]:9000", "http://[::1]:9000"),
            ("[::ffff:127.0.0.1]", "http://[::ffff:7f00:1]"),
            ("0", "http://0.0.0.0"),
        ] {
            assert_eq!(shown(written).as_deref(), Ok(normal), "{written}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for (written, error) in [
            ("", OriginError::Missing),
            (":80", OriginError::Missing),
            ("user@example.com", OriginError::Userinfo),
            ("example.com:80@127.0.0.1", OriginError::Userinfo),
            ("@127.0.0.1", OriginError::Userinfo),
            ("example.com:0", OriginError::Port),
            ("example.com:65536", OriginError::Port),
            ("example.com:+80", OriginError::Port),
            ("example.com:80:80", OriginError::Host),
            ("example..com", OriginError::Host),
            ("example.com..", OriginError::Host),
            (".example.com", OriginError::Host),
            ("256.0.0.1", OriginError::Host),
            ("1.2.3.4.5", OriginError::Host),
            ("0x1ffffffff", OriginError::Host),
            ("::1", OriginError::Host),
            ("[::1", OriginError::Host),
            ("[::1]x", OriginError::Host),
            ("[::1%25eth0]", OriginError::Host),
            ("a b", OriginError::Host),
            ("a%00b", OriginError::Host),
            ("a/b", OriginError::Host),
            ("a#b", OriginError::Host),
        ] {
            assert_eq!(shown(written), Err(error), "{written}");
        }
    }

    #[test]
    fn what_is_looked_up_has_no_brackets() {
        let shown = |host: &str| looked_up(host).map(|host| host.to_string());
        for (written, normal) in [
            ("DB.Example.com.", "db.example.com"),
            ("::1", "[::1]"),
            ("[::1]", "[::1]"),
            ("0177.1", "127.0.0.1"),
            ("::ffff:127.0.0.1", "[::ffff:7f00:1]"),
        ] {
            assert_eq!(shown(written).as_deref(), Ok(normal), "{written}");
        }
        for bad in ["", "db.example.com:5432", "user@db.example.com", "a b", "fe80::1%eth0"] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_within_names_by_whole_labels() {
        let within = |host: &str, name| Origin::new(true, host).unwrap().is_within(name);
        assert!(within("stock.internal", "internal") && within("internal", "internal") && within("A.B.Internal.", "internal"));
        assert!(!within("notinternal", "internal") && !within("internal.example.com", "internal") && !within("127.0.0.1", "1"));
    }
}
