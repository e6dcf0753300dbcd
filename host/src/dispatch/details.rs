//! What a host with `--dev` tells of an error beside what it tells in production: `dev` of the problem.

use super::last_words::LastWords;
use crate::runtime::Denial;
use http::{HeaderMap, Request};
use serde::Serialize;

/// Headers of the request that are shown, and bytes of each value.
const HEADERS_MAX: usize = 50;
const VALUE_MAX: usize = 512;
/// Words in the name of a header whose value nobody should look at over a shoulder.
const CREDENTIALS: [&str; 9] = ["auth", "cookie", "token", "secret", "password", "api-key", "apikey", "session", "credential"];
/// What stands in place of it.
pub(crate) const HIDDEN: &str = "(hidden)";

/// All of it. What there is nothing of is left out.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Details {
    /// What the log says.
    pub(crate) reason: String,
    /// What to do.
    pub(crate) remedy: String,
    /// The message of the panic or the exception that the guest failed by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<LastWords>,
    /// What was asked for and is not granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) denied: Vec<Denial>,
    /// How its first build stands, where nothing of the service is there yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) build: Option<FirstBuild>,
    /// Why the last build of the service does not serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rejected: Option<Rejected>,
    /// Functions of the guest, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) backtrace: Vec<String>,
    /// The last lines that the guest wrote for the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) output: Vec<String>,
    /// Routes that there are, the nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Asked>,
}

/// A build of a service of which there is none yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct FirstBuild {
    pub(crate) state: Building,
    /// What its tools say, as far as it is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) output: Vec<String>,
}

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Building {
    UnderWay,
    Failed,
}

/// A build that will not serve.
#[derive(Debug, Clone, Hash, Serialize)]
pub(crate) struct Rejected {
    /// Why.
    pub(crate) reason: String,
    /// What to do.
    pub(crate) remedy: String,
}

/// The request as the client made it, without its credentials.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// The path with the query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().to_string(),
            target: request.uri().path_and_query().map_or_else(|| request.uri().to_string(), ToString::to_string),
            headers: shown(request.headers()),
        }
    }
}

fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let show = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let name = name.as_str();
        let hidden = value.is_sensitive() || CREDENTIALS.iter().any(|word| name.contains(word));
        let value = if hidden { HIDDEN.to_owned() } else { String::from_utf8_lossy(value.as_bytes()).into_owned() };
        let kept = value.floor_char_boundary(VALUE_MAX);
        let cut = if kept < value.len() { "…" } else { "" };
        (name.to_owned(), format!("{}{cut}", value.get(..kept).unwrap_or_default()))
    };
    headers.iter().take(HEADERS_MAX).map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        let long = "\u{e9}".repeat(VALUE_MAX);
        let request = Request::builder()
            .method("POST")
            .uri("http://a/b?c=d")
            .header("Authorization", "Bearer t0p")
            .header("Proxy-Authorization", "t0p")
            .header("cookie", "id=t0p")
            .header("x-api-key", "t0p")
            .header("X-CSRF-Token", "t0p")
            .header("accept", "*/*")
            .header("x-long", long.as_bytes());
        let asked = Asked::of(&request.body(()).unwrap());
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/b?c=d"));
        assert!(!format!("{asked:?}").contains("t0p"), "{asked:?}");
        assert_eq!(asked.headers[0], ("authorization".to_owned(), HIDDEN.to_owned()));
        assert_eq!(asked.headers[5].1, "*/*");
        assert!(asked.headers[6].1.len() < VALUE_MAX + 5 && asked.headers[6].1.ends_with('…'));
    }
}
