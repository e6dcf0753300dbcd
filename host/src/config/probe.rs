//! `[probe]`: what a new revision is asked before it is published.

use super::{Span, units::not_zero};
use http::{StatusCode, uri::PathAndQuery};
use serde::Deserialize;
use std::time::Duration;

/// A request whose answer says that a revision is ready.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Asked by GET.
    #[serde(rename = "path")]
    target: Target,
    #[serde(default)]
    expect: Expected,
    #[serde(default = "timeout", deserialize_with = "not_zero")]
    timeout: Span,
}

impl Probe {
    /// Path and query, as the guest sees them.
    pub fn target(&self) -> &PathAndQuery {
        &self.target.0
    }

    /// The status that says ready.
    pub fn expect(&self) -> StatusCode {
        self.expect.0
    }

    /// How long it is asked again and again.
    pub fn timeout(&self) -> Span {
        self.timeout
    }
}

fn timeout() -> Span {
    Span(Duration::from_secs(2))
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Target(PathAndQuery);

impl Target {
    /// Path and query.
    pub(super) fn as_path(&self) -> &PathAndQuery {
        &self.0
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("the path `{}` must begin with `/`", text.escape_debug()));
        }
        let fits = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        let target = PathAndQuery::try_from(text.as_str()).ok().filter(|_| fits).map(Self);
        target.ok_or_else(|| {
            format!("the path `{}` holds a character that no request can hold; percent-encode it", text.escape_debug())
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
struct Expected(StatusCode);

impl Default for Expected {
    fn default() -> Self {
        Self(StatusCode::OK)
    }
}

impl TryFrom<i64> for Expected {
    type Error = String;

    fn try_from(code: i64) -> Result<Self, String> {
        let status = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
        let status = status.and_then(|code| StatusCode::from_u16(code).ok());
        status.map(Self).ok_or_else(|| format!("{code} is not the status of an answer, 200 to 599 are"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_path_has_a_default() {
        let probe: Probe = toml::from_str("path = '/ready?deep=1'").unwrap();
        assert_eq!((probe.target().as_str(), probe.expect().as_u16(), probe.timeout()), ("/ready?deep=1", 200, timeout()));
        assert!(toml::from_str::<Probe>("expect = 200").is_err());
        for bad in ["path = 'ready'", "path = '/a b'", "path = '/a#b'", "path = ''"] {
            assert!(toml::from_str::<Probe>(bad).is_err(), "{bad}");
        }
        for bad in ["expect = 99", "expect = 100", "expect = 600", "expect = -1", "timeout = '0s'", "retries = 3"] {
            assert!(toml::from_str::<Probe>(&format!("path = '/'\n{bad}")).is_err(), "{bad}");
        }
    }
}
