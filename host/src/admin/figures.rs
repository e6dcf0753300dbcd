//! `GET /v1/metrics/summary` and `GET /v1/metrics/history`: how busy services are, now and over the last 15 minutes, for who has no
//! Prometheus at hand.

#![allow(unused_qualifications, reason = "utoipa writes them where it names the parameters")]

use super::{Admin, problem::Problem};
use crate::telemetry::{Now, micros};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use utoipa::{IntoParams, ToSchema};

/// How busy the host is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// When this host was started, in milliseconds since 1970: another one counts its events anew.
    pub started_at_ms: u64,
    /// All services together.
    pub host: Figures,
    /// By name; those that were not asked in the last minute are left out.
    pub services: Vec<ServiceFigures>,
}

/// How busy one service is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ServiceFigures {
    /// Its name. Its labelled revisions are counted with it.
    pub name: String,
    /// How busy it is.
    #[serde(flatten)]
    pub figures: Figures,
}

/// How busy it is. Requests are counted when they have ended, calls of functions by other services among them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Figures {
    /// Requests a second, over the last 5 seconds.
    pub per_second: f64,
    /// Requests of the last minute.
    pub requests: u64,
    /// How often in the last minute the host saw a guest fail.
    pub faults: u64,
    /// Requests that run now.
    pub in_flight: u64,
    /// The time that half of the requests of the last minute did not exceed, in microseconds; absent where there was none.
    pub p50_us: Option<u64>,
    /// The same for 99 of 100.
    pub p99_us: Option<u64>,
}

/// What came before: a column for each figure, the oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FigureHistory {
    /// Milliseconds between two samples.
    pub every_ms: u64,
    /// When each sample was taken, in milliseconds since 1970. Each tells of the time since the one before.
    pub at_ms: Vec<u64>,
    /// Requests that ended.
    pub requests: Vec<u32>,
    /// How often the host saw a guest fail.
    pub faults: Vec<u32>,
    /// The time that half of the requests did not exceed, in microseconds; null where there was none.
    pub p50_us: Vec<Option<u32>>,
    /// The same for 99 of 100.
    pub p99_us: Vec<Option<u32>>,
}

/// Of what.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this service. Default: of all together.
    service: Option<String>,
}

/// How busy the host and its services are
///
/// Samples are taken every 5 seconds; what they cost does not grow with the requests.
#[utoipa::path(get, path = "/v1/metrics/summary", tag = "metrics", responses((status = 200, body = Summary)))]
pub(super) async fn summary(State(admin): State<Arc<Admin>>) -> Json<Summary> {
    let (host, services) = admin.recent.now();
    let services = services.into_iter().map(|(name, now)| ServiceFigures { name, figures: Figures::of(&now) });
    let started_at_ms = since_1970(admin.recent.started());
    Json(Summary { started_at_ms, host: Figures::of(&host), services: services.collect() })
}

/// How busy the host, or a service, was in the last 15 minutes
#[utoipa::path(get, path = "/v1/metrics/history", tag = "metrics", params(Which), responses(
    (status = 200, body = FigureHistory),
    (status = 400, description = "A parameter that is not understood", body = Problem),
))]
pub(super) async fn history(
    State(admin): State<Arc<Admin>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<FigureHistory>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail).remedy("the only parameter is service");
    let Query(Which { service }) = which.map_err(|error| bad(error.body_text()))?;
    let series = admin.recent.series(service.as_deref());
    let some = |us| (us > 0).then_some(us);
    Ok(Json(FigureHistory {
        every_ms: u64::try_from(admin.recent.every().as_millis()).unwrap_or(u64::MAX),
        at_ms: series.iter().map(|(at, _)| since_1970(*at)).collect(),
        requests: series.iter().map(|(_, sample)| sample.requests).collect(),
        faults: series.iter().map(|(_, sample)| sample.faults).collect(),
        p50_us: series.iter().map(|(_, sample)| some(sample.p50_us)).collect(),
        p99_us: series.iter().map(|(_, sample)| some(sample.p99_us)).collect(),
    }))
}

fn since_1970(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Figures {
    fn of(now: &Now) -> Self {
        Self {
            per_second: now.per_second,
            requests: now.requests,
            faults: now.faults,
            in_flight: now.in_flight,
            p50_us: now.p50.map(micros),
            p99_us: now.p99.map(micros),
        }
    }
}
