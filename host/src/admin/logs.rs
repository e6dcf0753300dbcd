//! `GET /v1/logs`: what guests write, line by line as it comes, as server-sent events.

#![allow(unused_qualifications, reason = "utoipa writes them where it names the parameters")]

use super::{
    Admin,
    problem::Problem,
    services::rfc3339,
    stream::{lost, respond},
};
use crate::{shutdown::Shutdown, telemetry::GuestLine};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{Response, sse},
};
use futures::stream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::{
    OwnedSemaphorePermit,
    broadcast::{Receiver, error::RecvError},
};
use utoipa::IntoParams;

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this service only.
    service: Option<String>,
}

/// What a line says, as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    at: String,
    service: &'a str,
    revision: &'a str,
    request_id: &'a str,
    stream: &'a str,
    level: &'a str,
    context: &'a str,
    text: &'a str,
}

/// What guests write from now on, as server-sent events
///
/// Each event is a `line`: a JSON object with `at`, `service`, `revision`, `request_id`, `stream` (`stdout`, `stderr` or
/// `logging`), `level`, `context` and `text`. A reader that is more than 1024 lines behind gets an event `lost` with
/// `{"lost": N}`.
#[utoipa::path(get, path = "/v1/logs", tag = "events", params(Which), responses(
    (status = 200, content_type = "text/event-stream", body = String),
    (status = 400, description = "A parameter that is not understood", body = Problem),
    (status = 404, description = "No service of this name; `near` names those that look like it", body = Problem),
    (status = 503, description = "Too many streams at once", body = Problem),
))]
pub(super) async fn logs(
    State(admin): State<Arc<Admin>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail).remedy("the only parameter is service");
    let Query(Which { service }) = which.map_err(|error| bad(error.body_text()))?;
    if let Some(service) = service.as_ref().filter(|service| admin.board.one(service).is_none()) {
        return Err(Problem::unknown("service", service, admin.board.names()));
    }
    let place = admin.stream_place()?;
    let following = Following { lines: admin.lines.subscribe(), service, shutdown: admin.shutdown.clone(), _place: place };
    let stream = stream::unfold(following, async |mut following| Some((following.next().await?, following)));
    Ok(respond(stream))
}

/// A reader of lines, with its place among the streams.
struct Following {
    lines: Receiver<Arc<GuestLine>>,
    service: Option<String>,
    shutdown: Shutdown,
    _place: OwnedSemaphorePermit,
}

impl Following {
    /// None at the end: nobody waits for a reader when the host ends.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            let told = tokio::select! {
                biased;
                told = self.lines.recv() => told,
                () = self.shutdown.begun() => return None,
            };
            match told {
                Ok(line) if self.service.as_ref().is_none_or(|service| line.service == *service) => return Some(of_line(&line)),
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => return Some(lost(count)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn of_line(line: &GuestLine) -> sse::Event {
    let shown = Shown {
        at: rfc3339(line.at),
        service: &line.service,
        revision: &line.revision,
        request_id: &line.request_id,
        stream: line.stream.as_str(),
        level: line.level.as_str(),
        context: &line.context,
        text: &line.text,
    };
    // Text always becomes JSON.
    sse::Event::default().event("line").data(serde_json::to_string(&shown).unwrap_or_default())
}
