//! Server-sent events on their way to a reader: what all streams of the API have in common.

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt};
use std::{convert::Infallible, time::Duration};

/// Silence after which a comment is sent, so that proxies and readers know that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The response that these events make.
pub(super) fn respond(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// Tells a reader how much it lost. Without an id: who breaks off here is told again.
pub(super) fn lost(count: u64) -> Event {
    Event::default().event("lost").data(format!("{{\"lost\":{count}}}"))
}
