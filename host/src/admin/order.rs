//! Orders that callers give: what they are about, how they end, and what is told of it.

use super::{
    Admin,
    gate::Peer,
    problem::{NEAR_MAX, Problem, alike},
    upload::unwritten,
};
use crate::{
    config::{BuildName, Label},
    deploy::{Change, Done, OrderError, Published},
    telemetry::micros,
};
use axum::{
    Json,
    extract::{Extension, FromRequestParts, Path, Query},
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{info, warn};
use utoipa::ToSchema;

/// How an order ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// The service, or its labelled revision: `NAME@LABEL`.
    pub service: String,
    /// `published`, `unchanged` (it served already), `removed`, or `accepted` (nobody waited: it goes on).
    pub outcome: String,
    /// The revision that serves now: the first 12 hex digits of its digest.
    pub revision: Option<String>,
    /// SHA-256 of its build, in hex.
    pub digest: Option<String>,
    /// From the beginning of the order to the publication, in microseconds.
    pub took_us: Option<u64>,
    /// The steps between, in their order.
    pub steps: Vec<Step>,
    /// Where it can be asked, if it has a route that says so by itself.
    pub url: Option<String>,
}

/// A step of a swap.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// `compiling`, `linking` or `warming`.
    pub step: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    wait: Option<bool>,
}

/// A call that changes a build: who calls, what it is about, and whether the end is waited for.
pub(super) struct Call {
    pub(super) admin: Arc<Admin>,
    pub(super) name: BuildName,
    peer: SocketAddr,
    wait: bool,
}

impl FromRequestParts<Arc<Admin>> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let unknown_peer = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the caller's address is not known");
        let Extension(Peer(peer)) = Extension::from_request_parts(parts, admin).await.map_err(unknown_peer)?;
        let Path(name) = Path::<String>::from_request_parts(parts, admin).await?;
        let Query(waiting) = Query::<Waiting>::from_request_parts(parts, admin)
            .await
            .map_err(|error| bad(error.body_text()).remedy("the only parameter is wait=true or wait=false"))?;
        let name = BuildName::parse(&name).map_err(|error| {
            bad(error.to_string()).remedy(
                "name a service, or a labelled revision by NAME@LABEL: each is 1 to 63 of a-z, 0-9 and -, without - at either end",
            )
        })?;
        Ok(Self { admin: admin.clone(), name, peer, wait: waiting.wait.unwrap_or(true) })
    }
}

/// How it is answered.
pub(super) type Answer = Result<(StatusCode, Json<Outcome>), Problem>;

impl Call {
    /// Refuses what is not there. An order for it would begin a service.
    pub(super) fn must_be_there(&self) -> Result<(), Problem> {
        let name = self.name.to_string();
        match self.admin.board.one(&name) {
            Some(_) => Ok(()),
            None => Err(Problem::unknown("service", &name, self.admin.board.names())),
        }
    }

    /// Settings are a service's, and its labelled revisions have the same.
    pub(super) fn must_be_service(&self, remedy: &str) -> Result<(), Problem> {
        match self.name.label {
            None => Ok(()),
            Some(_) => {
                let detail = format!("`{}` is a labelled revision and no service", self.name);
                Err(Problem::new(StatusCode::BAD_REQUEST, detail).remedy(remedy))
            }
        }
    }

    /// Gives the order, which goes on even if the caller leaves. `held` is let go at its end.
    pub(super) async fn order(self, change: Change, held: Option<OwnedSemaphorePermit>) -> Answer {
        let Self { admin, name, peer, wait } = self;
        let (kind, asked) = (kind(&change), asked(&name, &change));
        info!(target: "hotbay::admin", service = %name.service, label = name.label(), order = kind, %peer, wait, "{peer} orders {kind} of {name}");
        let (orders, ordered) = (admin.orders.clone(), name.clone());
        let task = tokio::spawn(async move {
            let done = orders.give(ordered.clone(), change).await;
            drop(held);
            if let Err(error) = &done {
                warn!(target: "hotbay::admin", service = %ordered.service, label = ordered.label(), order = kind, %peer, reason = %error, "the {kind} of {ordered} was not carried out: {error}");
            }
            done
        });
        if !wait {
            return Ok((StatusCode::ACCEPTED, Json(Outcome::new(&name, "accepted"))));
        }
        match task.await.unwrap_or(Err(OrderError::Ending)) {
            Ok(done) => Ok((StatusCode::OK, Json(admin.outcome(&name, done)))),
            Err(error) => Err(admin.problem(&asked, error)),
        }
    }
}

/// The word for it in the log.
fn kind(change: &Change) -> &'static str {
    match change {
        Change::Build(_) | Change::Both(..) => "deploy",
        Change::Settings { text: Some(_), .. } => "settings",
        Change::Settings { text: None, .. } => "removal of settings",
        Change::Shares(_) => "shares",
        Change::Rollback { .. } => "rollback",
        Change::Promote { .. } => "promotion",
        Change::Remove => "removal",
    }
}

/// What was asked for by name, where it may not be there.
fn asked(name: &BuildName, change: &Change) -> String {
    let labelled = |label: &Label| format!("{name}@{label}");
    match change {
        Change::Rollback { to } => to.clone().unwrap_or_default(),
        Change::Promote { label } => labelled(label),
        _ => name.to_string(),
    }
}

impl Outcome {
    fn new(name: &BuildName, outcome: &str) -> Self {
        Self {
            service: name.to_string(),
            outcome: outcome.to_owned(),
            revision: None,
            digest: None,
            took_us: None,
            steps: Vec::new(),
            url: None,
        }
    }
}

impl Admin {
    fn outcome(&self, name: &BuildName, done: Done) -> Outcome {
        match done {
            Done::Removed => Outcome::new(name, "removed"),
            Done::Unchanged { digest } => Outcome {
                revision: Some(digest.short()),
                digest: Some(digest.to_string()),
                url: self.url(name),
                ..Outcome::new(name, "unchanged")
            },
            Done::Published(Published { digest, took, steps }) => Outcome {
                revision: Some(digest.short()),
                digest: Some(digest.to_string()),
                took_us: Some(micros(took)),
                steps: steps
                    .into_iter()
                    .map(|(state, took)| Step { step: state.as_str().to_owned(), took_us: micros(took) })
                    .collect(),
                url: self.url(name),
                ..Outcome::new(name, "published")
            },
        }
    }

    /// The first route of a main revision that needs no host and no parameter.
    fn url(&self, name: &BuildName) -> Option<String> {
        if name.label.is_some() {
            return None;
        }
        let routes = self.board.one(name.service.as_str())?.serving?.routes;
        let path = routes.iter().find(|route| route.starts_with('/') && !route.contains(['{', ' ']))?;
        Some(format!("http://{}{path}", self.public?))
    }

    fn problem(&self, asked: &str, error: OrderError) -> Problem {
        match error {
            OrderError::Rejected(reject) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reject.reason).remedy(reject.remedy),
            OrderError::UnknownService(name) => Problem::unknown("service", &name.to_string(), self.board.names()),
            OrderError::UnknownRevision { reason, known } => unknown_revision(asked, &reason, known),
            OrderError::Files(error) => unwritten(&error),
            OrderError::Changed(_) => Problem::new(StatusCode::CONFLICT, error.to_string())
                .remedy("look at what serves now (`hotbay ps`), and send it again if it is still wanted"),
            OrderError::OtherSettings => Problem::new(StatusCode::PRECONDITION_FAILED, error.to_string())
                .remedy("look at them as they are now, and make the change in those"),
            OrderError::Busy => Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
                .remedy("send it again in a moment")
                .retry_after(1),
            OrderError::Ending => Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
                .remedy("send it again once the host has started anew")
                .retry_after(5),
        }
    }
}

fn unknown_revision(asked: &str, reason: &str, known: Vec<String>) -> Problem {
    let alike = alike(asked, known.iter().cloned());
    // Where none is like it, the newest are named.
    let near = if alike.is_empty() { known.into_iter().take(NEAR_MAX).collect() } else { alike };
    let problem = Problem::new(StatusCode::NOT_FOUND, reason);
    match near.join(", ") {
        none if none.is_empty() => problem.remedy("deploy one first"),
        names => Problem { near, ..problem.remedy(format!("there is {names}; see `hotbay history` and `hotbay ps`")) },
    }
}
