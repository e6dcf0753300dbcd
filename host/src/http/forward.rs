//! Which headers pass between the client and the guest, and what the edge says of the client.

use crate::config::CRON;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::net::IpAddr;

/// `x-request-id`, the field's usual name for it.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED: &str = "x-forwarded-";

/// The client as headers name it; written once a connection.
pub(super) struct Client {
    address: HeaderValue,
    /// RFC 7239 §6: an IPv6 address stands in brackets and quotes.
    node: String,
}

impl Client {
    pub(super) fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let node = match ip {
            IpAddr::V4(ip) => format!("for={ip}"),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
        };
        // An address in text is always a header value.
        let address = HeaderValue::from_str(&ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { address, node }
    }
}

/// Replaces whatever a stranger said about the way here with what is known: client, host and scheme. That a request comes by the
/// clock is nothing that a stranger can say.
pub(super) fn set_forwarded(headers: &mut HeaderMap, client: &Client, host: &str, request_id: &HeaderValue) {
    // Collecting first costs nothing where there is nothing, which is the usual case.
    let foreign: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(FORWARDED) || *name == CRON).cloned().collect();
    for name in foreign {
        headers.remove(name);
    }
    headers.insert(FORWARDED_FOR, client.address.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    // A host that is checked holds no quote and no control character.
    if let Ok(value) = HeaderValue::from_str(host) {
        headers.insert(FORWARDED_HOST, value);
    }
    match HeaderValue::from_str(&format!("{};host=\"{host}\";proto=http", client.node)) {
        Ok(value) => headers.insert(header::FORWARDED, value),
        Err(_) => headers.remove(header::FORWARDED),
    };
    headers.insert(REQUEST_ID, request_id.clone());
}

/// Whether a client's own `x-request-id` is taken over: 1 to 64 of letters, digits, `-`, `_` and `.`.
pub(super) fn usable_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!id.is_empty() && id.len() <= 64 && id.bytes().all(plain)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn strangers_do_not_say_who_they_are() {
        let mut found = headers(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=6.6.6.6"),
            ("x-hotbay-cron", "@daily"),
        ]);
        let client = Client::new("::1".parse().unwrap());
        set_forwarded(&mut found, &client, "a.example:80", &HeaderValue::from_static("id"));
        assert_eq!(found["x-forwarded-for"], "::1");
        assert_eq!(found["forwarded"], "for=\"[::1]\";host=\"a.example:80\";proto=http");
        assert!(!found.contains_key("x-forwarded-port") && !found.contains_key("x-hotbay-cron"));
    }

    #[test]
    fn an_id_that_could_break_a_log_line_is_not_taken() {
        assert_eq!(usable_id(&headers(&[("x-request-id", "a-1.B_2")])), Some("a-1.B_2"));
        assert_eq!(usable_id(&headers(&[("x-request-id", "a b")])), None);
        assert_eq!(usable_id(&headers(&[("x-request-id", "")])), None);
    }
}
