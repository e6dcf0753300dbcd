//! `GET /v1/events`: the states that revisions come through, as server-sent events.

#![allow(unused_qualifications, reason = "utoipa writes them where it names the parameters")]

use super::{
    Admin,
    problem::Problem,
    stream::{lost, respond},
};
use crate::{
    deploy::{Event, Reader, Told},
    shutdown::Shutdown,
};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{Response, sse},
};
use futures::{StreamExt, stream};
use serde::Deserialize;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

const LAST_EVENT_ID: &str = "last-event-id";

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this service only.
    service: Option<String>,
    /// Those after this number; `Last-Event-ID` wins. Default: everything that is kept.
    since: Option<u64>,
    /// `false`: what there is, and then the end. Default: `true`.
    follow: Option<bool>,
}

/// State changes of revisions, as server-sent events
///
/// `id` is the event's number, `event` its state, `data` a JSON object with `sequence`, `at`, `service`, `label`, `revision`,
/// `state`, `took_us`, `reason` and `remedy`. The last 1024 are kept. A reader that asks for older ones, or is too slow, gets
/// an event `lost` with `{"lost": N}`.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(Which, ("Last-Event-ID" = Option<u64>, Header, description = "Go on after the event of this number")),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 400, description = "A parameter that is not understood", body = Problem),
        (status = 503, description = "Too many streams at once", body = Problem),
    ))]
pub(super) async fn events(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(which) = which.map_err(|error| bad(error.body_text()).remedy("the parameters are service, since and follow"))?;
    let last = headers.get(LAST_EVENT_ID).map(|id| id.to_str().ok().and_then(|id| id.trim().parse().ok()).ok_or(id));
    let last = last.transpose().map_err(|id| {
        bad(format!("Last-Event-ID {id:?} is no number")).remedy("send the id of the last event that was seen, or leave it out")
    })?;
    let reader = match last.or(which.since) {
        Some(last) => admin.events.subscribe_from(last),
        None => admin.events.subscribe_kept(),
    };
    let place = admin.stream_place()?;
    let following = Following { reader, shutdown: admin.shutdown.clone(), follow: which.follow.unwrap_or(true), _place: place };
    let of_service = move |told: &Told| match (told, &which.service) {
        (Told::Event(event), Some(service)) => event.service == *service,
        _ => true,
    };
    let stream = stream::unfold(following, async |mut following| Some((following.next().await?, following)));
    let stream = stream.filter(move |told| std::future::ready(of_service(told))).map(|told| message(&told));
    Ok(respond(stream))
}

/// A reader on its way through the events, with its place among the streams.
struct Following {
    reader: Reader,
    shutdown: Shutdown,
    follow: bool,
    _place: OwnedSemaphorePermit,
}

impl Following {
    /// None at the end: nobody waits for a reader when the host ends.
    async fn next(&mut self) -> Option<Told> {
        match self.reader.ready() {
            None if self.follow => {
                tokio::select! {
                    biased;
                    told = self.reader.next() => Some(told),
                    () = self.shutdown.begun() => None,
                }
            }
            told => told,
        }
    }
}

fn message(told: &Told) -> sse::Event {
    match told {
        Told::Event(event) => of_state(event),
        Told::Lost(count) => lost(*count),
    }
}

fn of_state(event: &Event) -> sse::Event {
    // Text and numbers always become JSON.
    let json = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default().id(event.sequence.to_string()).event(event.state.as_str()).data(json)
}
