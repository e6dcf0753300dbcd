//! `[keyvalue]`: where what services keep is kept, and how much of it.

use super::{ByteSize, SecretName, Span, units::not_zero};
use serde::Deserialize;
use std::{fmt, time::Duration};
use url::Url;

/// Where a Redis listens unless its address says it.
const REDIS_PORT: u16 = 6379;

/// Bounds of `wasi:keyvalue`, and where it is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyValueConfig {
    /// Bytes that one service may keep, in all of its buckets together. Each key counts with its value and 64 bytes.
    #[serde(deserialize_with = "not_zero")]
    pub size: ByteSize,
    /// The Redis that keeps it; none: a database in the state folder.
    pub redis: Option<RedisAddress>,
    /// The secret that holds the password of that Redis.
    pub password: Option<SecretName>,
    /// How long that Redis is waited for: for a connection, and for each answer.
    #[serde(deserialize_with = "not_zero")]
    pub timeout: Span,
}

impl Default for KeyValueConfig {
    fn default() -> Self {
        Self { size: ByteSize::mib(64), redis: None, password: None, timeout: Span(Duration::from_secs(1)) }
    }
}

/// The address of a Redis without its password: `redis://USER@HOST:PORT/DATABASE`, or `rediss://` for TLS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RedisAddress {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Who logs in; none: the default user.
    pub user: Option<String>,
    /// The number of the database.
    pub database: u32,
}

impl TryFrom<String> for RedisAddress {
    type Error = String;

    /// No error repeats the text: it may hold a password.
    fn try_from(text: String) -> Result<Self, String> {
        let unusable = |what: &str| format!("{what}; an address is `redis://HOST:PORT/DATABASE`, or `rediss://…` for TLS");
        let url = Url::parse(&text).map_err(|error| unusable(&format!("it is no address ({error})")))?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(unusable("it begins with neither `redis://` nor `rediss://`")),
        };
        if url.password().is_some() {
            return Err("an address holds no password; put it into a secret, and name that by keyvalue.password".to_owned());
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(url::Host::Ipv4(address)) => address.to_string(),
            Some(url::Host::Ipv6(address)) => address.to_string(),
            _ => return Err(unusable("it names no host")),
        };
        let user =
            percent_encoding::percent_decode_str(url.username()).decode_utf8().map_err(|_| unusable("its user is no UTF-8"))?;
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            database => database.parse().map_err(|_| unusable("the number of its database is none"))?,
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(unusable("nothing comes after the number of the database"));
        }
        let user = (!user.is_empty()).then(|| user.into_owned());
        Ok(Self { host, port: url.port().unwrap_or(REDIS_PORT), tls, user, database })
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, .. } = self;
        let scheme = if self.tls { "rediss" } else { "redis" };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}/{database}"),
            false => write!(f, "{scheme}://{host}:{port}/{database}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostConfig;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown, user) in [
            ("redis://db", "redis://db:6379/0", None),
            ("redis://127.0.0.1:7000/3", "redis://127.0.0.1:7000/3", None),
            ("rediss://orders%40shop@[::1]", "rediss://[::1]:6379/0", Some("orders@shop")),
        ] {
            let address = RedisAddress::try_from(text.to_owned()).unwrap();
            assert_eq!((address.to_string().as_str(), address.user.as_deref()), (shown, user));
        }
        for text in ["db:6379", "http://db", "redis://", "redis://db/x", "redis://db/1/2", "redis://db/0?a=b", "redis://db:x"] {
            assert!(RedisAddress::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_shown() {
        for address in ["redis://user:hush@db", "redis://:hush@db/x", "redis://user:hush@db:port", "http://user:hush@db"] {
            let error = HostConfig::parse(&format!("[keyvalue]\nredis = \"{address}\"\n")).unwrap_err();
            assert!(!format!("{error}{error:?}").contains("hush"), "{error:?}");
            assert_eq!(error.line, Some(2));
        }
        let error = HostConfig::parse("[keyvalue]\nredis = 'redis://user:hush@db'\n").unwrap_err();
        assert!(error.reason.contains("keyvalue.password"), "{error}");
    }
}
