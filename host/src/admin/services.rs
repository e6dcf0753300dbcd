//! `GET /v1/services` and `GET /v1/services/{name}`: how each service stands.

use super::{Admin, crons::CronState, problem::Problem};
use crate::{
    config::Limits,
    deploy::{self, Phase, Status},
    telemetry::{FaultKind, Limit, RevisionMetrics, micros},
};
use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};
use utoipa::ToSchema;

/// All services.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ServiceList {
    /// By name. Files of the bay that can be no service are among them, as rejected.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `loading`, `serving`, `rolled-back` (the host went back from one that failed), `last-good` (what lies in the bay was rejected
    /// at the start), `rejected` (it has no good revision) or `draining` (it was removed).
    pub state: String,
    /// Since when it has this state, RFC 3339.
    pub since: String,
    /// The percentage of its service's requests that `[traffic]` gives to it, where the service has labelled revisions.
    pub share: Option<u32>,
    /// The revision that gets new requests.
    pub serving: Option<Revision>,
    /// The last reject, where its files are not what serves.
    pub rejected: Option<Rejected>,
    /// Revisions that finish what they have.
    pub draining: Vec<Draining>,
    /// Services that it may call and that are not in the bay.
    #[serde(default)]
    pub missing: Vec<String>,
    /// What the host asks of its main revision by the clock.
    #[serde(default)]
    pub cron: Vec<CronState>,
}

/// A revision that gets new requests.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    /// The first 12 hex digits of the digest.
    pub revision: String,
    /// SHA-256 of the build, in hex.
    pub digest: String,
    /// `http02`, `http03`, `command` or `library`.
    pub kind: String,
    /// Where it answers.
    pub routes: Vec<String>,
    /// What it may reach outside itself: `http https://api.example.com`, `calls stock`.
    #[serde(default)]
    pub grants: Vec<String>,
    /// The way in which it came to serve: `bay`, or what was done instead.
    pub came: String,
    /// Why it serves, where it is not what lies in the bay.
    pub reason: Option<String>,
    /// When new requests began to run on it, RFC 3339.
    pub published_at: String,
    /// Its requests that have ended.
    pub requests: u64,
    /// How often the host saw its guest fail.
    pub faults: u64,
    /// The time that half of its requests did not exceed, in microseconds; absent before the first.
    pub p50_us: Option<u64>,
    /// The same for 99 of 100.
    pub p99_us: Option<u64>,
    /// Its requests that run now.
    pub in_flight: u64,
    /// What it may use, by the keys of `[limits]`.
    pub limits: Vec<LimitState>,
}

/// A limit of a revision, and how near it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LimitState {
    /// The key of `[limits]`.
    pub limit: String,
    /// As it stands in the settings.
    pub value: String,
    /// What there is of it now: bytes of all its instances together (`memory`), requests (`concurrency`, `queue`).
    pub now: Option<u64>,
    /// How often it was reached: requests that it ended, refused or (`concurrency`) let wait. Those of `queue`, `queue_wait` and
    /// `request_body` are of all revisions of the service.
    pub reached: u64,
}

/// A build, settings or a file that will not serve.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Rejected {
    /// The first 12 hex digits of the digest, where the build could be read.
    pub revision: Option<String>,
    /// Why.
    pub reason: String,
    /// What to do.
    pub remedy: String,
    /// When, RFC 3339.
    pub at: String,
}

/// A revision that gets no new requests.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Draining {
    /// The first 12 hex digits of the digest.
    pub revision: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// All services
#[utoipa::path(get, path = "/v1/services", tag = "services", responses((status = 200, body = ServiceList)))]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<ServiceList> {
    let all = admin.board.all();
    let seen: Vec<_> = all.iter().map(|(name, status)| Seen::of(&admin, name, Some(status), &all)).collect();
    let services = all.into_iter().zip(seen).map(|((name, status), seen)| Service::of(name, status, seen));
    Json(ServiceList { services: services.collect() })
}

/// One service
#[utoipa::path(get, path = "/v1/services/{name}", tag = "services", params(("name", description = "The service")), responses(
    (status = 200, body = Service),
    (status = 400, description = "A name that is no text", body = Problem),
    (status = 404, description = "No service of this name; `near` names those that look like it", body = Problem),
))]
pub(super) async fn one(
    State(admin): State<Arc<Admin>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Service>, Problem> {
    let Path(name) = name?;
    let mut all = admin.board.all();
    let seen = Seen::of(&admin, &name, all.get(&name), &all);
    let status = all.remove(&name).ok_or_else(|| Problem::unknown("service", &name, all.into_keys()))?;
    Ok(Json(Service::of(name, status, seen)))
}

/// What is known of a service beside its status.
struct Seen {
    share: Option<u32>,
    missing: Vec<String>,
    cron: Vec<CronState>,
}

impl Seen {
    fn of(admin: &Admin, name: &str, status: Option<&Status>, all: &BTreeMap<String, Status>) -> Self {
        Self {
            share: share(name, all),
            missing: status.map(|status| missing(status, all)).unwrap_or_default(),
            cron: admin.cron.of(name).into_iter().map(CronState::from).collect(),
        }
    }
}

/// Those of the services that it may call that are not in the bay.
fn missing(status: &Status, all: &BTreeMap<String, Status>) -> Vec<String> {
    let calls = status.serving.iter().flat_map(|serving| &serving.calls);
    calls.filter(|callee| !is_there(callee, all)).cloned().collect()
}

/// Whether there is a service of this name in the bay, however it stands.
pub(super) fn is_there(name: &str, all: &BTreeMap<String, Status>) -> bool {
    all.get(name).is_some_and(|status| status.phase() != Phase::Draining)
}

/// The share of `name`, a service or NAME@LABEL, where there is anything to share.
fn share(name: &str, all: &BTreeMap<String, Status>) -> Option<u32> {
    let (service, label) = name.split_once('@').map_or((name, None), |(service, label)| (service, Some(label)));
    let labelled = format!("{service}@");
    let shares = |main: &Status| {
        let of =
            |label: &str| main.traffic.shares.iter().find(|(named, _)| named.as_str() == label).map_or(0, |(_, share)| *share);
        let sum: u32 = main.traffic.shares.iter().map(|(_, share)| share).sum();
        label.map_or(100_u32.saturating_sub(sum), of)
    };
    let has_labels = all.range(labelled.clone()..).next().is_some_and(|(name, _)| name.starts_with(&labelled));
    // Without a main revision nobody asks for a labelled one.
    has_labels.then(|| all.get(service).map_or(0, shares))
}

impl Service {
    fn of(name: String, status: Status, seen: Seen) -> Self {
        let Seen { share, missing, cron } = seen;
        Self {
            cron,
            share,
            missing,
            name,
            state: status.phase().as_str().to_owned(),
            since: rfc3339(status.since),
            serving: status.serving.map(Revision::from),
            rejected: status.rejected.map(Rejected::from),
            draining: status.draining.into_iter().map(Draining::from).collect(),
        }
    }
}

impl From<deploy::Serving> for Revision {
    fn from(serving: deploy::Serving) -> Self {
        let metrics = &serving.metrics;
        let quantile = |q| metrics.quantile(q).map(micros);
        Self {
            requests: metrics.requests(),
            faults: metrics.faults(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            in_flight: metrics.in_flight(),
            limits: limits(&serving.limits, metrics),
            revision: serving.revision,
            digest: serving.digest,
            kind: serving.kind.as_str().to_owned(),
            routes: serving.routes,
            grants: serving.grants,
            came: serving.came.as_str().to_owned(),
            reason: serving.reason,
            published_at: rfc3339(serving.published_at),
        }
    }
}

fn limits(limits: &Limits, metrics: &RevisionMetrics) -> Vec<LimitState> {
    // Taken apart so that a new limit has to be thought of here.
    let Limits { memory, deadline, cpu, stream_idle, concurrency, queue, queue_wait, request_body, response_body } = limits;
    let state = |limit: &str, value: &dyn fmt::Display, now, reached| LimitState {
        limit: limit.to_owned(),
        value: value.to_string(),
        now,
        reached,
    };
    let (failed, refused) = (|fault| metrics.faults_by(fault), |limit| metrics.service().refusals(limit));
    vec![
        state("memory", memory, Some(metrics.memory()), failed(FaultKind::Memory)),
        state("deadline", deadline, None, failed(FaultKind::Deadline)),
        state("cpu", cpu, None, failed(FaultKind::Cpu)),
        state("stream_idle", stream_idle, None, failed(FaultKind::StreamIdle)),
        state("concurrency", &concurrency.0, Some(metrics.in_flight()), metrics.waited()),
        state("queue", queue, Some(metrics.waiting()), refused(Limit::Queue)),
        state("queue_wait", queue_wait, None, refused(Limit::QueueWait)),
        state("request_body", request_body, None, refused(Limit::RequestBody)),
        state("response_body", response_body, None, failed(FaultKind::ResponseBody)),
    ]
}

impl From<deploy::Rejected> for Rejected {
    fn from(rejected: deploy::Rejected) -> Self {
        Self { revision: rejected.revision, reason: rejected.reason, remedy: rejected.remedy, at: rfc3339(rejected.at) }
    }
}

impl From<deploy::Draining> for Draining {
    fn from(draining: deploy::Draining) -> Self {
        Self { revision: draining.revision, since: rfc3339(draining.since) }
    }
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
