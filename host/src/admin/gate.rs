//! Who may call the API: first what the call is addressed to and where it comes from, then the token.

use super::{Admin, dashboard, problem::Problem, tickets};
use crate::config::{HostName, without_port};
use axum::{
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Pages for whoever looks after the process, and the way to a token by a ticket: they need no token.
const OPEN: [&str; 3] = ["/healthz", "/readyz", tickets::EXCHANGE];

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The address of ours that a connection came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached(pub(super) SocketAddr);

/// Who called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Lets a call through, or answers it.
pub(super) async fn gate(
    State(admin): State<Arc<Admin>>,
    Extension(Reached(reached)): Extension<Reached>,
    request: Request,
    next: Next,
) -> Response {
    let refused = admin.refuse_strange(reached, &request).or_else(|| admin.refuse_without_token(&request));
    match refused {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

/// The names that the listener goes by, beside its address and `localhost`.
pub(crate) struct Names(pub(crate) Vec<HostName>);

impl Names {
    /// Whether a call for `authority`, which came to our address `reached`, is for us.
    pub(crate) fn is_ours(&self, authority: &str, reached: SocketAddr) -> bool {
        let name = without_port(authority);
        let ip = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse::<IpAddr>();
        match ip {
            Ok(ip) => ip.is_loopback() || ip == reached.ip().to_canonical(),
            Err(_) => name.eq_ignore_ascii_case("localhost") || self.is_configured(authority),
        }
    }

    fn is_configured(&self, authority: &str) -> bool {
        self.0.iter().any(|host| host.is_of(authority))
    }

    /// A page of the very host that is called, or of one that is configured: a proxy may have changed Host.
    pub(crate) fn is_same_site(&self, origin: &str, host: &str) -> bool {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host) || self.is_configured(authority))
    }
}

impl Admin {
    /// A name that was made to point here (DNS rebinding) must not pass, nor a page of another site.
    fn refuse_strange(&self, reached: SocketAddr, request: &Request) -> Option<Problem> {
        let headers = request.headers();
        let Some(host) = only(headers, &header::HOST) else {
            return Some(forbidden("the call must name the host that it is for, once", "send one Host header"));
        };
        let written = request.uri().authority().map(Authority::as_str);
        if !self.hosts.is_ours(host, reached) || written.is_some_and(|written| !self.hosts.is_ours(written, reached)) {
            return Some(forbidden(
                "the call is for a host that the admin listener does not go by",
                "call it by its address or as localhost, or name the host in admin_hosts of hotbay.toml",
            ));
        }
        let origin = headers.contains_key(header::ORIGIN).then(|| only(headers, &header::ORIGIN).unwrap_or_default());
        let elsewhere = only(headers, &FETCH_SITE).is_some_and(|site| site == "cross-site");
        if elsewhere || origin.is_some_and(|origin| !self.hosts.is_same_site(origin, host)) {
            return Some(forbidden(
                "the call comes from a page of another site",
                "call from the host itself, or without a browser",
            ));
        }
        None
    }

    fn refuse_without_token(&self, request: &Request) -> Option<Problem> {
        let path = request.uri().path();
        if OPEN.contains(&path) || dashboard::is_of_page(path) {
            return None;
        }
        let Some(token) = &self.token else {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the admin listener has no token");
            return Some(problem.remedy("the log says why the state folder cannot be used; mend it and start again"));
        };
        let offered = only(request.headers(), &header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        match offered {
            Some((scheme, offered)) if scheme.eq_ignore_ascii_case("bearer") && token.is(offered.trim()) => None,
            // Missing, wrong and old are the same to who has none.
            _ => Some(Problem::new(StatusCode::UNAUTHORIZED, "the call needs the token")),
        }
    }
}

fn forbidden(detail: &str, remedy: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail).remedy(remedy)
}

/// The value of a header that is there once, as text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}
