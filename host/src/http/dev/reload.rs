//! Pages that load themselves again: the paths of the host's own that their script asks, and what it is told there.

use super::{super::watch::Active, Unserved};
use crate::{
    config::ServiceName,
    dispatch::Watch as _,
    registry::{Found, Registry, Serving},
    runtime::Fault,
    shutdown::Shutdown,
};
use bytes::Bytes;
use futures::{Stream, stream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};
use url::form_urlencoded;

/// What the host answers itself, of whatever host and whoever else has the path.
pub(super) const EVENTS: &str = "/.hotbay/reload";
pub(super) const SCRIPT: &str = "/.hotbay/reload.js";
/// The script that asks [`EVENTS`].
pub(super) const SCRIPT_TEXT: &str = include_str!("reload.js");

/// Silence after which a comment is sent, so that whatever stands between knows that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The first words of each stream: how many milliseconds a browser waits before it comes back.
const RETRY: &str = "retry: 500\n\n";

/// What a page waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Awaited {
    /// Another revision of this service.
    Service(ServiceName),
    /// Somebody who answers this path.
    Path(String),
}

impl Awaited {
    /// As a query.
    pub(super) fn written(&self) -> String {
        let (key, value) = match self {
            Self::Service(name) => ("service", name.as_str()),
            Self::Path(path) => ("path", path.as_str()),
        };
        form_urlencoded::Serializer::new(String::new()).append_pair(key, value).finish()
    }

    fn read(query: &str) -> Option<Self> {
        let (key, value) = form_urlencoded::parse(query.as_bytes()).next()?;
        match &*key {
            "service" => ServiceName::parse(&value).ok().map(Self::Service),
            "path" => Some(Self::Path(value.into_owned())),
            _ => None,
        }
    }
}

/// Which revisions serve now, or why none does, as the script compares them.
pub(super) struct Signs {
    /// Told apart from those of the process before this one, which counted from 1 as well.
    process: u32,
    unserved: Arc<Unserved>,
}

impl Signs {
    pub(super) fn new(unserved: Arc<Unserved>) -> Self {
        Self { process: fastrand::u32(..), unserved }
    }

    /// The sign of a service without a revision, where it is known why.
    pub(super) fn unserved(&self, service: &ServiceName) -> Option<String> {
        self.unserved.sign(service).map(|why| format!("{:x}-down-{why:x}", self.process))
    }

    /// The sign of the revision with this number.
    pub(super) fn of(&self, serial: u64) -> String {
        format!("{:x}-{serial}", self.process)
    }

    /// The signs of all that a request of the page's could get; none where nothing serves and nothing is known of it.
    pub(super) fn now(&self, registry: &Registry, awaited: &Awaited, host: &str) -> Vec<String> {
        let table = registry.table();
        let serving = match awaited {
            Awaited::Service(name) => table.service(name),
            Awaited::Path(path) => match table.find(host, path, &Method::GET) {
                Found::Hit(target) => Some(&target.serving),
                Found::WrongMethod(_) | Found::Nothing | Found::StillLoading => None,
            },
        };
        if let Some(Serving::Down(name)) = serving {
            return self.unserved(name).into_iter().collect();
        }
        let revisions = serving.map(Serving::revisions).unwrap_or_default();
        revisions.into_iter().map(|revision| self.of(revision.serial())).collect()
    }
}

/// The body of what the host answers here.
pub(in super::super) struct Told {
    text: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    active: Active,
}

impl Body for Told {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let polled = self.text.as_mut().poll_next(cx);
        self.active.polled(polled.is_pending());
        polled.map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}

/// The script, to whoever asks for it.
pub(super) fn script(active: Active) -> Response<Told> {
    answer("text/javascript; charset=utf-8", stream::iter([Bytes::from_static(SCRIPT_TEXT.as_bytes())]), active)
}

/// What serves now, and each time that this changes, until the host ends.
pub(super) fn events<B>(
    request: &Request<B>,
    host: String,
    signs: Arc<Signs>,
    registry: &Arc<Registry>,
    shutdown: Shutdown,
    active: Active,
) -> Response<Told> {
    let awaited = request.uri().query().and_then(Awaited::read);
    let Some(awaited) = awaited else {
        let words = "ask GET /.hotbay/reload?service=NAME or ?path=/PATH; pages of a host with --dev do\n";
        let mut response = answer("text/plain; charset=utf-8", stream::iter([Bytes::from_static(words.as_bytes())]), active);
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    // Before the first look, so that nothing is missed between.
    let published = registry.published();
    let following = Following { awaited, host, signs, registry: registry.clone(), published, shutdown, told: None };
    let events = stream::unfold(following, async |mut following| Some((following.next().await?, following)));
    answer("text/event-stream", events, active)
}

fn answer(content_type: &'static str, text: impl Stream<Item = Bytes> + Send + 'static, active: Active) -> Response<Told> {
    let mut response = Response::new(Told { text: Box::pin(text), active });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// One page's script on its way through the swaps.
struct Following {
    awaited: Awaited,
    host: String,
    signs: Arc<Signs>,
    registry: Arc<Registry>,
    published: watch::Receiver<()>,
    shutdown: Shutdown,
    /// What was said last.
    told: Option<Vec<String>>,
}

impl Following {
    /// None at the end: nobody waits for a page when the host ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.shutdown.has_begun() {
                return None;
            }
            self.published.mark_unchanged();
            let now = self.signs.now(&self.registry, &self.awaited, &self.host);
            if self.told.as_ref() != Some(&now) {
                let first = if self.told.is_none() { RETRY } else { "" };
                // Text always becomes JSON.
                let event = format!("{first}data: {}\n\n", serde_json::to_string(&now).unwrap_or_default());
                self.told = Some(now);
                return Some(event.into());
            }
            tokio::select! {
                changed = self.published.changed() => changed.ok()?,
                () = self.shutdown.begun() => return None,
                () = sleep(KEEP_ALIVE) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Unbuilt, *};
    use crate::{config::Settings, runtime::Revision};

    #[test]
    fn what_a_page_waits_for_survives_its_way() {
        let name = ServiceName::parse("orders").unwrap();
        for awaited in [Awaited::Service(name), Awaited::Path("/a b/%2f?&=\"<ü".to_owned())] {
            let written = awaited.written();
            assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=%+.-_*".contains(&byte)), "{written}");
            assert_eq!(Awaited::read(&written), Some(awaited));
        }
        for odd in ["", "service=../x", "servce=orders", "service="] {
            assert_eq!(Awaited::read(odd), None, "{odd}");
        }
    }

    fn signs() -> (Arc<Registry>, Arc<Unbuilt>, Signs) {
        let registry = Arc::new(Registry::new());
        let unbuilt = Arc::new(Unbuilt::new(registry.clone()));
        let signs = Signs::new(Arc::new(Unserved { rejects: Box::new(|_| None), unbuilt: unbuilt.clone() }));
        (registry, unbuilt, signs)
    }

    #[test]
    fn signs_tell_revisions_apart_by_more_than_their_build() {
        let name = ServiceName::parse("orders").unwrap();
        let (registry, unbuilt, signs) = signs();
        let by = |awaited: &Awaited| signs.now(&registry, awaited, "localhost:80");
        let (service, path) = (Awaited::Service(name.clone()), Awaited::Path("/orders/7".to_owned()));
        assert!(by(&service).is_empty() && by(&path).is_empty());
        let first = Revision::sample(&name, 1, "");
        registry.publish(first.clone()).unwrap();
        assert_eq!(by(&service), [signs.of(first.serial())]);
        let seen = by(&path);
        registry.publish(Revision::sample(&name, 1, "[limits]\ncpu = \"1s\"")).unwrap();
        assert!(by(&service) != seen && by(&path) != seen);
        unbuilt.begins(&name, Vec::new());
        assert!(by(&service).iter().all(|sign| !sign.contains("down")), "what serves has the say");
    }

    #[test]
    fn a_first_build_has_a_sign_that_changes_with_what_is_known_of_it() {
        let name = ServiceName::parse("orders").unwrap();
        let (registry, unbuilt, signs) = signs();
        let routes = || Settings::defaults(&name).routes;
        let now = || signs.now(&registry, &Awaited::Path("/orders/7".to_owned()), "localhost:80");
        let mut published = registry.published();
        let mut seen = vec![now()];
        unbuilt.begins(&name, routes());
        seen.push(now());
        for words in ["no `x`", "no `y`"] {
            published.mark_unchanged();
            unbuilt.failed(&name, routes(), words);
            assert!(published.has_changed().unwrap(), "pages are told");
            seen.push(now());
        }
        assert!(seen[0].is_empty() && seen[1..].iter().all(|signs| signs.len() == 1), "{seen:?}");
        assert!(seen.windows(2).all(|two| two[0] != two[1]), "{seen:?}");
        unbuilt.failed(&name, routes(), "no `y`");
        assert_eq!(Some(&now()), seen.last());
        unbuilt.is_gone(&name);
        assert!(now().is_empty() && !registry.knows(&name));
    }
}
