//! The digest that a client says its body has: `content-digest` and `repr-digest` (RFC 9530), or `digest` (RFC 3230).

use super::problem::Problem;
use crate::runtime::Digest;
use axum::http::{HeaderMap, StatusCode, header};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Bodies come as they are, so that all three mean the same.
const HEADERS: [&str; 3] = ["content-digest", "repr-digest", "digest"];
/// The one algorithm that is checked; others are ignored, as RFC 9530 wants it.
const ALGORITHM: &str = "sha-256";

/// Every SHA-256 that the headers name.
pub(super) struct Expected(Vec<(&'static str, Digest)>);

impl Expected {
    /// Reads the headers. A body in another coding would have another digest, and is refused.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is in a content coding");
            return Err(problem.remedy("send it as it is, without content-encoding"));
        }
        let mut expected = Vec::new();
        for name in HEADERS {
            for value in headers.get_all(name) {
                for member in value.to_str().unwrap_or_default().split(',') {
                    match member.split_once('=') {
                        Some((algorithm, text)) if algorithm.trim().eq_ignore_ascii_case(ALGORITHM) => {
                            expected.push((name, read(name, text)?));
                        }
                        Some(_) => {}
                        None => drop(read(name, member)?),
                    }
                }
            }
        }
        Ok(Self(expected))
    }

    /// Whether `found` is what all of them say.
    pub(super) fn check(&self, found: &Digest) -> Result<(), Problem> {
        match self.0.iter().find(|(_, expected)| expected != found) {
            None => Ok(()),
            Some((name, expected)) => {
                let detail = format!("the body has the SHA-256 {found} and not {expected}, as {name} says");
                Err(Problem::new(StatusCode::BAD_REQUEST, detail)
                    .remedy("it changed on its way, or the header is of another file"))
            }
        }
    }
}

fn read(name: &str, text: &str) -> Result<Digest, Problem> {
    // Parameters of a structured field (RFC 9651) mean nothing here.
    let text = text.split(';').next().unwrap_or_default().trim();
    let bytes = text.strip_prefix(':').and_then(|text| text.strip_suffix(':')).unwrap_or(text);
    let digest = STANDARD.decode(bytes).ok().and_then(|bytes| Digest::from_bytes(&bytes));
    digest.ok_or_else(|| {
        let detail = format!("{name} holds no SHA-256: {}", text.escape_debug());
        Problem::new(StatusCode::BAD_REQUEST, detail).remedy("write content-digest: sha-256=:BASE64:")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(name: &'static str, value: &str) -> Result<Expected, Problem> {
        Expected::of(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]))
    }

    #[test]
    fn it_is_read_in_every_way_of_writing_it() {
        let (hello, base64) = (Digest::of(b"hello"), "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=");
        for (name, value) in [
            ("content-digest", format!("sha-256=:{base64}:")),
            ("repr-digest", format!("sha-512=:AAAA:, SHA-256=:{base64}:;q=1, md5=::")),
            ("digest", format!("SHA-256={base64}")),
        ] {
            let expected = expected(name, &value).unwrap();
            assert_eq!(expected.0.len(), 1, "{value}");
            assert!(expected.check(&hello).is_ok() && expected.check(&Digest::of(b"other")).is_err(), "{value}");
        }
        assert!(expected("content-digest", "sha-512=:AAAA:").unwrap().check(&hello).is_ok(), "unknown ones are ignored");
        for broken in ["sha-256=:AAAA:", "sha-256=", "sha-256=:*:", "garbage"] {
            assert_eq!(expected("content-digest", broken).err().map(|problem| problem.status), Some(400), "{broken}");
        }
    }
}
