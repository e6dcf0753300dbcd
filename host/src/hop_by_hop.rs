//! Headers of one connection and not of the message (RFC 9110 §7.6.1): taken off in each direction, between client and guest and
//! between guest and other hosts.

use http::{HeaderMap, HeaderName, header};

/// Beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes off what belongs to the connection.
pub(crate) fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // What nobody may take from the receiver by naming it (RFC 9110 §7.6.1, last paragraph).
            .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH | header::CONTENT_TYPE | header::CACHE_CONTROL))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_connection_names_goes_too() {
        let mut found = headers(&[("connection", "close, X-Private"), ("x-private", "1"), ("te", "trailers"), ("accept", "*/*")]);
        strip(&mut found);
        assert_eq!(found, headers(&[("accept", "*/*")]));
        let mut found = headers(&[("connection", "content-length"), ("content-length", "3")]);
        strip(&mut found);
        assert_eq!(found, headers(&[("content-length", "3")]));
    }
}
