//! `POST /v1/services/{name}/profile`: where the guests of a service compute, seen for a while.

#![allow(unused_qualifications, reason = "utoipa writes them where it names the parameters")]

use super::{Admin, problem::Problem};
use crate::{
    config::BuildName,
    runtime::{ProfileError, Taken},
    telemetry::micros,
};
use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tracing::info;
use utoipa::IntoParams;

/// How many samples there are in an answer.
const SAMPLES: &str = "x-hotbay-samples";
/// Of which revision.
const REVISION: &str = "x-hotbay-revision";

const SECONDS: std::ops::RangeInclusive<u64> = 1..=300;
const SECONDS_USUALLY: u64 = 10;

/// For how long.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HowLong {
    /// Seconds, 1 to 300; 10 unless said.
    #[param(minimum = 1, maximum = 300, default = 10)]
    seconds: Option<u64>,
}

/// A profile of the guests of a service
///
/// Looks once a millisecond where each guest of the revision that serves is while it computes, and answers when the time is over, in the
/// processed format of the Firefox profiler. `x-hotbay-samples` says how often it saw one. One profile of a service is taken at once, and
/// four of all.
#[utoipa::path(post, path = "/v1/services/{name}/profile", tag = "services",
    params(("name", description = "The service, or NAME@LABEL"), HowLong),
    responses(
        (status = 200, content_type = "application/json", body = Object),
        (status = 400, description = "A parameter that is not understood", body = Problem),
        (status = 404, description = "No service of this name; `near` names those that look like it", body = Problem),
        (status = 409, description = "Another profile of it is being taken, or none of its revisions serves", body = Problem),
        (status = 422, description = "No guest of it was seen at work", body = Problem),
        (status = 503, description = "Too many profiles or streams at once", body = Problem),
    ))]
pub(super) async fn profile(
    State(admin): State<Arc<Admin>>,
    name: Result<Path<String>, PathRejection>,
    how_long: Result<Query<HowLong>, QueryRejection>,
) -> Result<Response, Problem> {
    let Path(name) = name?;
    let seconds = seconds(how_long)?;
    if admin.board.one(&name).is_none() {
        return Err(Problem::unknown("service", &name, admin.board.names()));
    }
    let place = admin.stream_place()?;
    let revision = BuildName::parse(&name).ok().and_then(|name| admin.registry.named(&name)).ok_or_else(|| {
        let detail = format!("no revision of `{name}` serves");
        Problem::new(StatusCode::CONFLICT, detail).remedy(format!("`hotbay ps {name}` says why"))
    })?;
    let lasts = Duration::from_secs(seconds);
    let profile = revision.profile(lasts).await.map_err(problem)?;
    tokio::select! {
        () = tokio::time::sleep(lasts) => {}
        // What was seen until then is worth as much.
        () = admin.shutdown.begun() => {}
    }
    let Taken { json, samples, looked, requests, digest } = profile.finish().await.map_err(problem)?;
    drop(place);
    let revision = digest.short();
    info!(target: "hotbay::profile", service = name, revision, seconds, samples, looked_us = micros(looked), "a profile was taken");
    if samples == 0 {
        return Err(unseen(&name, &revision, seconds, requests));
    }
    let headers =
        [(header::CONTENT_TYPE.as_str(), "application/json".to_owned()), (SAMPLES, samples.to_string()), (REVISION, revision)];
    Ok((headers, json).into_response())
}

fn seconds(how_long: Result<Query<HowLong>, QueryRejection>) -> Result<u64, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail).remedy("say seconds=10, between 1 and 300");
    let Query(HowLong { seconds }) = how_long.map_err(|error| bad(error.body_text()))?;
    let seconds = seconds.unwrap_or(SECONDS_USUALLY);
    if SECONDS.contains(&seconds) { Ok(seconds) } else { Err(bad(format!("a profile cannot take {seconds} s"))) }
}

fn problem(error: ProfileError) -> Problem {
    let (status, remedy) = match &error {
        ProfileError::UnderWay => (StatusCode::CONFLICT, "wait for its end"),
        ProfileError::Many => (StatusCode::SERVICE_UNAVAILABLE, "wait for the end of one of them"),
        ProfileError::Large => (StatusCode::UNPROCESSABLE_ENTITY, "take a shorter one"),
        ProfileError::Engine(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the log says more"),
    };
    Problem::new(status, error.to_string()).remedy(remedy)
}

/// Nothing was seen: nobody asked, or what was asked took no time.
fn unseen(name: &str, revision: &str, seconds: u64, requests: u64) -> Problem {
    let (detail, remedy) = match requests {
        0 => (
            format!("`{name}` ({revision}) ended no request in {seconds} s, and computed in none"),
            "send it requests while the profile is taken; a revision that was replaced meanwhile gets none",
        ),
        _ => (
            format!("the {requests} requests of `{name}` ({revision}) in {seconds} s computed too little to be seen"),
            "send it more requests while the profile is taken, or take a longer one",
        ),
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).remedy(remedy)
}
