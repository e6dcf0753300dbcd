//! What a request hands on to the calls that its guest makes: its id, who waits for it and how long, its trace, who is told of
//! what is denied.

use super::Due;
use crate::{capabilities::Denials, config::ServiceName, telemetry::new_request_id};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{fmt, net::SocketAddr, sync::Arc};

/// W3C trace context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What one request hands on. Calls do not change it, but for the chain and the time.
#[derive(Debug, Clone)]
pub struct Errand {
    /// `x-request-id`.
    pub request_id: String,
    /// The client, at the beginning of all calls.
    pub peer: SocketAddr,
    /// The address that the client reached.
    pub local: SocketAddr,
    /// The services that wait for it; none where the client itself does.
    pub chain: Option<Arc<Link>>,
    /// By when it must be answered, where anybody asks: for a service that may make calls.
    pub due: Option<Arc<Due>>,
    /// Where it belongs in a trace.
    pub trace: Trace,
    /// Who is told of what is denied to the guests that work for it.
    pub denials: Denials,
}

impl Errand {
    /// A request that no service made.
    pub fn new(request_id: String, peer: SocketAddr, local: SocketAddr) -> Self {
        let (trace, denials) = (Trace::default(), Denials::default());
        Self { request_id, peer, local, chain: None, due: None, trace, denials }
    }

    /// What the calls of the guest of `service` take along, which now is one of those who wait.
    pub(crate) fn onward(mut self, service: &ServiceName) -> Self {
        self.chain = Some(Link::new(service.clone(), self.chain));
        self.identified()
    }

    /// What a guest does at its start belongs to no request; its calls have an id all the same.
    pub(super) fn identified(mut self) -> Self {
        if self.request_id.is_empty() {
            self.request_id = new_request_id();
        }
        self
    }

    /// What a guest does at its start, of which nobody knows a request.
    pub(crate) fn nobodys() -> Self {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::new(String::new(), nobody, nobody)
    }
}

/// A service that waits for a call, and those that wait for it.
#[derive(Debug)]
pub struct Link {
    service: ServiceName,
    before: Option<Arc<Link>>,
    depth: u32,
}

impl Link {
    /// `service` calls, on behalf of `before`.
    pub fn new(service: ServiceName, before: Option<Arc<Self>>) -> Arc<Self> {
        let depth = before.as_ref().map_or(0, |before| before.depth).saturating_add(1);
        Arc::new(Self { service, before, depth })
    }

    /// Whether the service at its end may call `callee`; `depth` is how many calls may be one behind the other (`calls.depth`).
    ///
    /// # Errors
    /// Where nobody would ever get an answer, or the chain grows too long.
    pub fn may_call(&self, callee: &ServiceName, depth: u32) -> Result<(), Tangle> {
        let chain = || format!("{self} → {callee}");
        if self.links().any(|link| link.service == *callee) {
            return Err(Tangle::Circle(chain()));
        }
        if self.depth > depth {
            return Err(Tangle::TooDeep { chain: chain(), depth });
        }
        Ok(())
    }

    /// The nearest first.
    fn links(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |link| link.before.as_deref())
    }
}

/// The first caller first: `a → b`.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.links().map(|link| link.service.as_str()).collect();
        for (position, name) in names.iter().rev().enumerate() {
            write!(f, "{}{name}", if position == 0 { "" } else { " → " })?;
        }
        Ok(())
    }
}

/// Why a service may not call another on behalf of those that wait for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Tangle {
    /// The callee waits for the call already.
    #[error("the call would close a circle: {0}")]
    Circle(String),
    /// More calls one behind the other than may be.
    #[error("more than {depth} calls one behind the other (calls.depth): {chain}")]
    TooDeep {
        /// The services, the first caller first.
        chain: String,
        /// How many may be.
        depth: u32,
    },
}

/// The trace context that a request came with, unread.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    parent: Option<HeaderValue>,
    state: Option<HeaderValue>,
}

impl Trace {
    /// That of a request with these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        Self { parent: headers.get(TRACEPARENT).cloned(), state: headers.get(TRACESTATE).cloned() }
    }

    /// Passes it on, unless the guest speaks of a trace by itself.
    pub(super) fn pass_on(&self, headers: &mut HeaderMap) {
        let Some(parent) = &self.parent else { return };
        if headers.contains_key(TRACEPARENT) {
            return;
        }
        headers.insert(TRACEPARENT, parent.clone());
        match &self.state {
            Some(state) => headers.insert(TRACESTATE, state.clone()),
            None => headers.remove(TRACESTATE),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ServiceName {
        ServiceName::parse(name).unwrap()
    }

    #[test]
    fn a_chain_knows_who_waits_and_how_deep_it_is() {
        let first = Link::new(name("a"), None);
        let second = Link::new(name("b"), Some(first.clone()));
        let told = |link: &Link, callee, depth| link.may_call(&name(callee), depth).map_err(|tangle| tangle.to_string());
        assert_eq!((told(&first, "b", 1), told(&second, "c", 2)), (Ok(()), Ok(())));
        let circle = |chain| Err(format!("the call would close a circle: {chain}"));
        assert_eq!(told(&first, "a", 9), circle("a → a"));
        assert_eq!((told(&second, "a", 9), told(&second, "b", 9)), (circle("a → b → a"), circle("a → b → b")));
        assert_eq!(told(&second, "c", 1), Err("more than 1 calls one behind the other (calls.depth): a → b → c".to_owned()));
    }

    #[test]
    fn a_guests_own_trace_is_left_to_it() {
        let trace = |list: &[(HeaderName, &'static str)]| {
            list.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect::<HeaderMap>()
        };
        let came = Trace::of(&trace(&[(TRACEPARENT, "00-a-b-01"), (TRACESTATE, "x=1")]));
        let mut bare = trace(&[(TRACESTATE, "y=1")]);
        came.pass_on(&mut bare);
        assert_eq!((&bare[TRACEPARENT], &bare[TRACESTATE]), (&"00-a-b-01".parse().unwrap(), &"x=1".parse().unwrap()));
        let mut own = trace(&[(TRACEPARENT, "00-a-c-01")]);
        came.pass_on(&mut own);
        assert_eq!(own, trace(&[(TRACEPARENT, "00-a-c-01")]));
        let mut nothing = HeaderMap::new();
        Trace::default().pass_on(&mut nothing);
        assert!(nothing.is_empty());
    }
}
