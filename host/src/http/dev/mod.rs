//! What the edge does for whoever writes the services, with `--dev` only: errors as pages, and pages that load themselves again.

mod accept;
mod frame;
mod html;
mod in_lines;
mod page;
mod reload;
mod routes;
mod script;
mod unbuilt;

pub use in_lines::in_lines;
pub(super) use reload::Told;
pub use unbuilt::Unbuilt;

use super::watch::Active;
use crate::{
    config::ServiceName,
    dispatch::{Asked, Building, FirstBuild, Problem, Rejected},
    registry::Registry,
    runtime::{Denial, Denials, Output},
    shutdown::Shutdown,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use page::Page;
use reload::{Awaited, Signs};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// `x-hotbay-dev`: what was denied to a guest that answered with an error of its own.
const DEV: HeaderName = HeaderName::from_static("x-hotbay-dev");
/// What a browser will do with the answer.
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// What is told of settings that are not set.
const UNSET: &str = "config";

/// Denials that a header tells.
const TOLD_MAX: usize = 4;

/// Why the last build of a service does not serve, if it does not.
type Rejects = Box<dyn Fn(&str) -> Option<Rejected> + Send + Sync>;

/// What is known of services that do not serve.
struct Unserved {
    rejects: Rejects,
    unbuilt: Arc<Unbuilt>,
}

impl Unserved {
    /// A number that is another one once there is another reason.
    fn sign(&self, service: &ServiceName) -> Option<u64> {
        let known = (self.unbuilt.of(service), (self.rejects)(service.as_str()));
        if matches!(known, (None, None)) {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        known.hash(&mut hasher);
        Some(hasher.finish())
    }
}

/// What the edge of a host with `--dev` has besides.
pub struct Dev {
    reload: bool,
    unserved: Arc<Unserved>,
    shutdown: Shutdown,
    signs: Arc<Signs>,
}

/// What is kept of one request until it is clear whether it is needed.
pub(super) struct Onlooker {
    asked: Asked,
    path: String,
    is_get: bool,
    /// Whether an error is a page to this client.
    prefers_page: bool,
    /// Whether it will show the answer, and not work on it.
    shows_page: bool,
    denials: Denials,
    output: Output,
}

impl Onlooker {
    pub(super) fn new<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let is_get = *request.method() == Method::GET;
        Self {
            asked: Asked::of(request),
            path: request.uri().path().to_owned(),
            is_get,
            prefers_page: accept::prefers_page(headers),
            shows_page: is_get && accept::names_page(headers) && is_shown(headers),
            denials: Denials::remembered(),
            output: Output::wanted(),
        }
    }

    pub(super) fn denials(&self) -> Denials {
        self.denials.clone()
    }

    pub(super) fn output(&self) -> Output {
        self.output.clone()
    }
}

/// Whether the browser shows what comes, as far as it says so: a script that fetches a piece of a page says something else.
fn is_shown(headers: &HeaderMap) -> bool {
    headers.get(FETCH_DEST).is_none_or(|to| matches!(to.as_bytes(), b"document" | b"iframe" | b"frame" | b"embed" | b"object"))
}

/// Whom an answer is from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) request_id: &'a str,
    /// The host that was asked for; none where it is not clear.
    pub(super) host: Option<&'a str>,
    pub(super) service: Option<&'a ServiceName>,
    /// The revision's header and number.
    pub(super) revision: Option<(&'a HeaderValue, u64)>,
}

impl Dev {
    /// `reload`: pages load themselves again. `rejects` knows why the last build of a service does not serve, `unbuilt` how the first
    /// one stands; `shutdown` ends what pages are told.
    pub(crate) fn new(
        reload: bool,
        rejects: impl Fn(&str) -> Option<Rejected> + Send + Sync + 'static,
        unbuilt: Arc<Unbuilt>,
        shutdown: Shutdown,
    ) -> Self {
        let unserved = Arc::new(Unserved { rejects: Box::new(rejects), unbuilt });
        Self { reload, signs: Arc::new(Signs::new(unserved.clone())), unserved, shutdown }
    }

    /// Whether the request is for the host itself.
    pub(super) fn owns<B>(&self, request: &Request<B>) -> bool {
        self.reload && *request.method() == Method::GET && matches!(request.uri().path(), reload::EVENTS | reload::SCRIPT)
    }

    /// The answer to a request that is.
    pub(super) fn answer<B>(&self, registry: &Arc<Registry>, request: &Request<B>, host: &str, active: Active) -> Response<Told> {
        if request.uri().path() == reload::SCRIPT {
            return reload::script(active);
        }
        reload::events(request, host.to_owned(), self.signs.clone(), registry, self.shutdown.clone(), active)
    }

    /// An error with all that is known of it, as the client likes it best.
    pub(super) fn problem(
        &self,
        registry: &Registry,
        problem: &Problem<'_>,
        onlooker: Onlooker,
        origin: Origin<'_>,
    ) -> Response<Bytes> {
        let Onlooker { asked, path, is_get, prefers_page, denials, output, .. } = onlooker;
        // Before it is asked what there is to tell: what changes between is news to the page.
        let without_revision = origin.service.filter(|_| origin.revision.is_none());
        let unserved = without_revision.and_then(|service| self.signs.unserved(service));
        let mut details = problem.details(output.of_request(origin.request_id));
        details.denied = denials.all();
        details.rejected = origin.service.and_then(|service| (self.unserved.rejects)(service.as_str()));
        details.build = without_revision.and_then(|service| self.unserved.unbuilt.of(service));
        if let Some(FirstBuild { state, .. }) = &details.build {
            let (reason, remedy) = match state {
                Building::UnderWay => {
                    ("its first build is under way", "wait for it; the terminal of hotbay dev tells how it goes")
                }
                Building::Failed => ("its first build failed, and nothing of it serves yet", "mend what its tools say, and save"),
            };
            reason.clone_into(&mut details.reason);
            remedy.clone_into(&mut details.remedy);
            details.rejected = None;
        }
        if let (Some(service), None, Some(rejected)) = (origin.service, origin.revision, &details.rejected) {
            details.reason = format!("no build of {service} has served yet");
            details.remedy.clone_from(&rejected.remedy);
        }
        if matches!(problem.status(), StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY)
            && let Some(remedy) = details.denied.iter().find_map(remedy)
        {
            // What a guest makes of being denied is seldom what is wrong.
            details.remedy = remedy;
        }
        if problem.status() == StatusCode::NOT_FOUND {
            "take a route that there is, or put NAME.wasm into the bay: it answers /NAME".clone_into(&mut details.remedy);
            details.routes = routes::nearest(&registry.routes(), origin.host.unwrap_or_default(), &path);
        }
        details.request = Some(asked);
        let service = origin.service.map(ServiceName::as_str);
        let mut response = if prefers_page {
            let reload = if self.reload && is_get { self.awaited(registry, &path, origin, unserved) } else { None };
            let revision = origin.revision.and_then(|(header, _)| header.to_str().ok());
            let page = Page { problem, details: &details, service, revision, request_id: origin.request_id, reload };
            let mut response = problem.answer(page.written().into(), HeaderValue::from_static("text/html; charset=utf-8"));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, page::policy());
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            response
        } else {
            problem.response(service, origin.request_id, Some(&details))
        };
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
        response
    }

    /// What an error's page waits for, and the sign of what made it.
    fn awaited(&self, registry: &Registry, path: &str, origin: Origin<'_>, unserved: Option<String>) -> Option<(String, String)> {
        let host = origin.host?;
        let (awaited, seen) = match origin.service {
            Some(service) => {
                let seen = origin.revision.map(|(_, serial)| self.signs.of(serial)).or(unserved).unwrap_or_default();
                (Awaited::Service(service.clone()), seen)
            }
            None => {
                let awaited = Awaited::Path(path.to_owned());
                let now = self.signs.now(registry, &awaited, host);
                let seen = now.into_iter().next().unwrap_or_default();
                (awaited, seen)
            }
        };
        Some((awaited.written(), seen))
    }

    /// Takes out of a guest's response what is for the host, tells what was denied to it, and returns what is sent behind its body.
    pub(super) fn amend<B>(
        &self,
        onlooker: &Onlooker,
        service: &ServiceName,
        serial: u64,
        response: &mut Response<B>,
    ) -> Option<Bytes> {
        let (status, headers) = (response.status(), response.headers_mut());
        let asked = headers.remove(script::RELOAD);
        let is_off = asked.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"off"));
        let denied = if status.is_server_error() { told(&onlooker.denials.all()) } else { String::new() };
        if let Ok(value) = HeaderValue::from_str(&denied)
            && !denied.is_empty()
        {
            headers.insert(DEV, value);
        }
        if !self.reload || is_off || !onlooker.shows_page || !script::is_page(status, headers) {
            return None;
        }
        let tag = script::tag(&Awaited::Service(service.clone()).written(), &self.signs.of(serial), &denied);
        script::lengthen(headers, tag.len());
        Some(tag.into())
    }
}

/// What allows it; a setting that is not set may well be one that need not be.
fn remedy(denial: &Denial) -> Option<String> {
    if denial.capability == UNSET { None } else { denial.remedy() }
}

/// Denials as one header value.
fn told(denied: &[Denial]) -> String {
    let denied = denied.iter().filter(|denial| denial.capability != UNSET).take(TOLD_MAX);
    let one = |denial: &Denial| {
        let Denial { capability, destination, reason, .. } = denial;
        format!("denied {capability} {destination}: {}", remedy(denial).unwrap_or_else(|| reason.clone()))
    };
    let all = denied.map(one).collect::<Vec<_>>().join(" | ");
    all.chars().map(|character| if matches!(character, ' '..='~') { character } else { '?' }).collect()
}
