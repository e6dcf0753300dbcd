//! One `[[route]]`: which hosts, paths and methods a service answers.

use http::Method;
use serde::Deserialize;
use std::{fmt, sync::Arc};

/// Which hosts a route is for. Compared without the port, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum HostPattern {
    /// Every host.
    Any,
    /// This host only.
    Exact(String),
    /// `*.SUFFIX`: one label in front of SUFFIX. The text kept is the suffix without the dot.
    Wildcard(String),
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let label = |label: &str| {
            !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if rest.len() > 253 || !rest.split('.').all(label) {
            return Err(format!(
                "`{text}` is not a host; write \"api.example.com\" or \"*.example.com\", without scheme and port"
            ));
        }
        let rest = rest.to_ascii_lowercase();
        Ok(if wildcard { Self::Wildcard(rest) } else { Self::Exact(rest) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// The host of an authority, the port left out; an IPv6 address keeps its brackets.
pub fn without_port(authority: &str) -> &str {
    let whole = |host: &str| host.ends_with(']') || !host.contains(':');
    match authority.rsplit_once(':') {
        Some((host, port)) if whole(host) && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// A path pattern in matchit's syntax: `/users/{id}` takes one segment, `/static/{*rest}` all that follow.
///
/// Matched against the path as the client wrote it, percent-encoding included. Parameter names mean nothing to the host,
/// so that `/users/{id}` and `/users/{name}` are the same pattern and collide.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PathPattern {
    written: String,
    normal: String,
}

impl PathPattern {
    /// The pattern as the settings wrote it.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The pattern with its parameters numbered instead of named: equal patterns are equal texts.
    pub fn normal(&self) -> &str {
        &self.normal
    }
}

impl TryFrom<String> for PathPattern {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        if !written.starts_with('/') {
            return Err(format!("the path `{written}` must begin with `/`"));
        }
        let visible = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#');
        if !written.bytes().all(visible) {
            return Err(format!(
                "the path `{}` holds a character that no request path can hold; percent-encode it",
                written.escape_debug()
            ));
        }
        // A parameter is a whole segment: with text before or after it in the same segment, whether two routes collide would depend
        // on the routes beside them.
        let mut normal = String::with_capacity(written.len());
        for (position, segment) in written.split('/').skip(1).enumerate() {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let (catch_all, name) = match name.map(|name| name.strip_prefix('*').map_or(("", name), |name| ("*", name))) {
                Some(named) => named,
                None if segment.contains(['{', '}']) => {
                    return Err(format!(
                        "the path `{written}` has `{segment}`; a parameter is a whole segment, such as `/{{id}}/`"
                    ));
                }
                None => {
                    normal.push('/');
                    normal.push_str(segment);
                    continue;
                }
            };
            if name.is_empty() || name.contains(['{', '}', '*']) {
                return Err(format!(
                    "the path `{written}` has `{segment}`; a parameter has a name, such as `{{id}}` or `{{*rest}}`"
                ));
            }
            normal.push_str(&format!("/{{{catch_all}p{position}}}"));
        }
        matchit::Router::new().insert(normal.as_str(), ()).map_err(|error| {
            format!("the path `{written}` is no pattern ({error}); write `/users/{{id}}` or `/static/{{*rest}}`")
        })?;
        Ok(Self { written, normal })
    }
}

/// The methods of a route; `None` stands for all. GET brings HEAD with it (RFC 9110 §9.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods(Option<Vec<Method>>);

impl Methods {
    /// Every method.
    pub const ALL: Self = Self(None);

    /// Whether a request with `method` is taken.
    pub fn contains(&self, method: &Method) -> bool {
        match &self.0 {
            None => true,
            Some(listed) => listed.contains(method) || (method == Method::HEAD && listed.contains(&Method::GET)),
        }
    }

    /// Whether any request could be taken by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, _) | (_, None) => true,
            // Both ways: GET on one side takes the HEAD of the other.
            (Some(mine), Some(theirs)) => {
                mine.iter().any(|method| other.contains(method)) || theirs.iter().any(|method| self.contains(method))
            }
        }
    }

    /// The methods by name, HEAD added after GET; empty for all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let listed = self.0.as_deref().unwrap_or_default();
        let head = listed.contains(&Method::GET) && !listed.contains(&Method::HEAD);
        listed.iter().map(Method::as_str).chain(head.then_some("HEAD"))
    }
}

/// One route of a service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawRoute")]
pub struct RouteSpec {
    /// Which hosts.
    pub host: HostPattern,
    /// Which paths.
    pub path: PathPattern,
    /// Which methods.
    pub methods: Methods,
    /// Taken off the path before the guest sees it; without a slash at its end.
    pub strip: Option<Arc<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    host: Option<HostPattern>,
    path: PathPattern,
    methods: Option<Vec<String>>,
    strip: Option<String>,
}

impl TryFrom<RawRoute> for RouteSpec {
    type Error = String;

    fn try_from(raw: RawRoute) -> Result<Self, String> {
        let methods = match raw.methods {
            None => Methods::ALL,
            Some(names) if names.is_empty() => return Err("`methods` is empty; leave it out to take every method".to_owned()),
            Some(names) => Methods(Some(names.iter().map(|name| method(name)).collect::<Result<_, _>>()?)),
        };
        let strip = match raw.strip {
            None => None,
            Some(strip) => {
                let prefix = strip.strip_suffix('/').unwrap_or(&strip);
                let inside = raw.path.written().strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                if !strip.starts_with('/') || prefix.contains('{') || !inside {
                    return Err(format!(
                        "`strip = \"{strip}\"` must be whole leading segments of the path `{}`",
                        raw.path.written()
                    ));
                }
                (!prefix.is_empty()).then(|| prefix.into())
            }
        };
        Ok(Self { host: raw.host.unwrap_or(HostPattern::Any), path: raw.path, methods, strip })
    }
}

fn method(name: &str) -> Result<Method, String> {
    let known = Method::from_bytes(name.as_bytes()).ok().filter(|_| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'-'));
    known.ok_or_else(|| format!("`{name}` is not a method; methods are written in capitals, such as \"GET\""))
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.methods.names().collect();
        if !names.is_empty() {
            write!(f, "{} ", names.join(","))?;
        }
        if self.host != HostPattern::Any {
            write!(f, "{}", self.host)?;
        }
        f.write_str(self.path.written())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Result<RouteSpec, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn parameter_names_do_not_tell_patterns_apart() {
        let path = |text: &str| PathPattern::try_from(text.to_owned()).map(|p| p.normal().to_owned());
        assert_eq!(path("/users/{id}"), path("/users/{name}"));
        assert_ne!(path("/users/{id}"), path("/users/{*rest}"));
        for bad in
            ["users", "/a b", "/{", "/{a}{b}", "/a{b}", "/{a}b", "/{a/b}", "/{}", "/{*}", "/{{a}}", "/{*rest}/more", "/a?b"]
        {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn strip_takes_whole_leading_segments() {
        assert!(route("path = '/orders/{*rest}'\nstrip = '/orders'").is_ok());
        assert_eq!(route("path = '/orders/{*rest}'\nstrip = '/'").unwrap().strip, None);
        for bad in ["/ord", "orders", "/orders/{x}", "/other"] {
            assert!(route(&format!("path = '/orders/{{*rest}}'\nstrip = '{bad}'")).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_without_port_or_scheme() {
        let host = |text: &str| HostPattern::try_from(text.to_owned());
        assert_eq!(host("API.example.com"), Ok(HostPattern::Exact("api.example.com".to_owned())));
        assert_eq!(host("*.example.com"), Ok(HostPattern::Wildcard("example.com".to_owned())));
        for bad in ["", "http://x", "x:80", "*.*.x", "a..b", "*"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn get_brings_head() {
        let get = route("path = '/'\nmethods = ['GET']").unwrap().methods;
        let head = route("path = '/'\nmethods = ['HEAD']").unwrap().methods;
        assert!(get.contains(&Method::HEAD) && !get.contains(&Method::POST));
        assert!(get.overlaps(&Methods::ALL) && get.overlaps(&head));
        assert!(route("path = '/'\nmethods = ['get']").is_err());
        assert!(route("path = '/'\nmethods = []").is_err());
    }
}
