//! What a request hands on to the calls that its guest makes: its id, who waits for it and how long, its trace.

use crate::config::ServiceName;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

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
}

impl Errand {
    /// A request that no service made.
    pub fn new(request_id: String, peer: SocketAddr, local: SocketAddr) -> Self {
        Self { request_id, peer, local, chain: None, due: None, trace: Trace::default() }
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

    /// Calls one behind the other, this one included.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether `service` waits already.
    pub fn has(&self, service: &ServiceName) -> bool {
        self.links().any(|link| link.service == *service)
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

/// By when a request must have the head of its response.
#[derive(Debug)]
pub struct Due {
    at: Instant,
    met: AtomicBool,
}

impl Due {
    /// So long from now on.
    pub fn within(time: Duration) -> Arc<Self> {
        Arc::new(Self { at: Instant::now() + time, met: AtomicBool::new(false) })
    }

    /// The head is there: from now on nothing is due.
    pub fn meet(&self) {
        self.met.store(true, Ordering::Relaxed);
    }

    /// Returns once the time is over, and never where it was met before.
    pub async fn passed(&self) {
        if !self.met.load(Ordering::Relaxed) {
            sleep_until(self.at).await;
        }
        if self.met.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }
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
    use futures::FutureExt;

    fn name(name: &str) -> ServiceName {
        ServiceName::parse(name).unwrap()
    }

    #[test]
    fn a_chain_knows_who_waits_and_how_deep_it_is() {
        let first = Link::new(name("a"), None);
        let second = Link::new(name("b"), Some(first.clone()));
        assert_eq!((first.depth(), second.depth(), second.to_string().as_str()), (1, 2, "a → b"));
        assert!(second.has(&name("a")) && second.has(&name("b")) && !first.has(&name("b")));
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

    #[tokio::test]
    async fn a_time_that_was_met_never_passes() {
        let due = Due::within(Duration::ZERO);
        due.passed().await;
        due.meet();
        assert!(due.passed().now_or_never().is_none());
        let late = Due::within(Duration::from_millis(1));
        let mut passed = std::pin::pin!(late.passed());
        assert!(passed.as_mut().now_or_never().is_none());
        late.meet();
        assert!(tokio::time::timeout(Duration::from_millis(20), passed).await.is_err(), "met while it was waited for");
    }
}
