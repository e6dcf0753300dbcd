//! `[outbound]`: the bounds of what guests ask of other hosts, and how names and certificates are looked up.

use super::{ByteSize, Count, Span, machine, units::not_zero};
use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Bounds of outbound HTTP and TCP: requests and TCP sockets of one service, the rest of one revision.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboundConfig {
    /// Requests at once; more wait for `connect_timeout`.
    pub requests: Count,
    /// Connections at once, those that rest included.
    pub connections: Count,
    /// Longest time to a connection: the wait for a place, looking the name up, TCP and TLS together.
    #[serde(deserialize_with = "not_zero")]
    pub connect_timeout: Span,
    /// Longest time from the connection to the response head.
    #[serde(deserialize_with = "not_zero")]
    pub first_byte_timeout: Span,
    /// Longest silence of a response body.
    #[serde(deserialize_with = "not_zero")]
    pub between_bytes_timeout: Span,
    /// Bytes of one response body.
    #[serde(deserialize_with = "not_zero")]
    pub response_body: ByteSize,
    /// How long a connection rests before it is closed.
    #[serde(deserialize_with = "not_zero")]
    pub idle: Span,
    /// TCP sockets at once; one more is refused.
    pub tcp_connections: Count,
    /// Certificates in PEM that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The name server that is asked instead of what the system would ask.
    pub nameserver: Option<SocketAddr>,
}

/// Connections of all services together, where the system gives files for that many.
const ALL_CONNECTIONS_MAX: u32 = 4096;

impl OutboundConfig {
    /// Connections at once of all services together: an eighth of the files that may be open, 4,096 at most, and never less than one
    /// service may have.
    pub fn all_connections(&self) -> usize {
        of_all(8, self.connections)
    }

    /// TCP sockets at once of all services together: a sixteenth of them, bounded in the same way.
    pub fn all_tcp_connections(&self) -> usize {
        of_all(16, self.tcp_connections)
    }
}

/// One part in `parts` of the files that may be open.
fn of_all(parts: u32, of_one: Count) -> usize {
    Count((machine::descriptors() / parts).min(ALL_CONNECTIONS_MAX).max(of_one.0)).as_usize()
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            requests: Count(64),
            connections: Count(64),
            connect_timeout: Span(Duration::from_secs(5)),
            first_byte_timeout: Span(Duration::from_secs(60)),
            between_bytes_timeout: Span(Duration::from_secs(30)),
            response_body: ByteSize::mib(64),
            idle: Span(Duration::from_secs(30)),
            tcp_connections: Count(64),
            ca_file: None,
            nameserver: None,
        }
    }
}
