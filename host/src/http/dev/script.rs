//! The script at the end of a guest's page: which responses get it, and the body that ends with it.

use super::html::Text;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// `x-hotbay-reload: off` of a response: its page stays as it is.
pub(super) const RELOAD: HeaderName = HeaderName::from_static("x-hotbay-reload");

/// What names the content that was sent, and is not true of the content with a script at its end. A browser that asked again by
/// one of these would be told to keep the page that it has, with the script that knows the revision before.
const VALIDATORS: [HeaderName; 2] = [header::ETAG, header::LAST_MODIFIED];

/// The line that loads the script. `awaited` is its query, `seen` the sign of the revision that made the page.
pub(super) fn tag(awaited: &str, seen: &str, denied: &str) -> String {
    let mut told = String::new();
    if !denied.is_empty() {
        told = format!(" data-denied=\"{}\"", Text(denied));
    }
    format!(
        "\n<script src=\"{}\" async data-watch=\"{}\" data-seen=\"{}\"{told}></script>\n",
        super::reload::SCRIPT,
        Text(awaited),
        Text(seen)
    )
}

/// Whether this response is a whole page, as it stands, of text that ASCII can be added to.
pub(super) fn is_page(status: StatusCode, headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase());
    let plain = text(header::CONTENT_ENCODING).is_none_or(|encoding| encoding.trim() == "identity");
    let is_html = text(header::CONTENT_TYPE).is_some_and(|value| {
        value.split(';').next().is_some_and(|essence| essence.trim() == "text/html")
            && !["utf-16", "utf-32", "ucs-2"].iter().any(|wide| value.contains(wide))
    });
    // A redirection is not shown; of a part nobody knows where it stands.
    let is_whole = !status.is_redirection()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT)
        && !headers.contains_key(header::CONTENT_RANGE);
    plain && is_html && is_whole
}

/// Makes a head that of a body which is `more` bytes longer.
pub(super) fn lengthen(headers: &mut HeaderMap, more: usize) {
    for validator in VALIDATORS {
        headers.remove(validator);
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length.and_then(|length| length.checked_add(u64::try_from(more).ok()?)) {
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Response, response::Parts};

    fn head(status: u16, headers: &[(HeaderName, &str)]) -> Parts {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    fn page(status: u16, headers: &[(HeaderName, &str)]) -> bool {
        let parts = head(status, headers);
        is_page(parts.status, &parts.headers)
    }

    #[test]
    fn only_whole_plain_pages_are_added_to() {
        let html = (header::CONTENT_TYPE, "text/html");
        for status in [200, 404, 500] {
            assert!(page(status, std::slice::from_ref(&html)), "{status}");
        }
        assert!(page(200, &[(header::CONTENT_TYPE, "Text/HTML; charset=iso-8859-1")]));
        assert!(page(200, &[html.clone(), (header::CONTENT_ENCODING, "identity")]));
        for status in [204, 205, 206, 304, 302] {
            assert!(!page(status, std::slice::from_ref(&html)), "{status}");
        }
        assert!(!page(200, &[]));
        for other in ["text/plain", "text/htmlx", "application/xhtml+xml", "text/html; charset=UTF-16LE", "x; text/html"] {
            assert!(!page(200, &[(header::CONTENT_TYPE, other)]), "{other}");
        }
        for coding in ["gzip", "identity, br", "\u{e9}"] {
            assert!(!page(200, &[html.clone(), (header::CONTENT_ENCODING, coding)]), "{coding}");
        }
        assert!(!page(200, &[html, (header::CONTENT_RANGE, "bytes 0-1/2")]));
    }

    #[test]
    fn a_longer_body_has_a_longer_length_and_is_another_one() {
        let mut parts = head(
            200,
            &[(header::CONTENT_LENGTH, "5"), (header::ETAG, "\"a\""), (header::LAST_MODIFIED, "x"), (header::AGE, "1")],
        );
        lengthen(&mut parts.headers, 7);
        assert_eq!(parts.headers[header::CONTENT_LENGTH], "12");
        assert_eq!(parts.headers.len(), 2, "{:?}", parts.headers);
    }

    #[test]
    fn what_the_tag_says_stays_in_its_quotes() {
        let tag = tag("service=a", "1-2", "\"></script><script>alert(1)</script>");
        assert_eq!((tag.matches("<script").count(), tag.matches('"').count()), (1, 8), "{tag}");
    }
}
