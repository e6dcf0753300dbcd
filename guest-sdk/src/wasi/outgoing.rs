//! A response on its way to the host.
//!
//! `wstd` has this too, but waits for the stream before it writes and flushes after it. Calls into the host are the
//! greater part of what a small request costs, and a body that fits at once takes two here: `check-write` and `write`.
//! Waiting, where it has to be, is `wstd`'s.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use axum_core::BoxError;
use axum_core::body::Body;
use axum_core::response::Response;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Body as _, Frame};
use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::OutputStream;
use wstd::runtime::AsyncPollable;

/// Sends head and body. Returns when the host has taken the last byte.
pub(super) async fn send(response: Response, is_head: bool, out: ResponseOutparam) -> Result<(), BoxError> {
    let (mut parts, body) = response.into_parts();
    declare_length(&mut parts.headers, parts.status, &body, is_head);

    let outgoing = match to_fields(&parts.headers) {
        Ok(fields) => OutgoingResponse::new(fields),
        Err(error) => {
            // Nothing has been said yet: the client may as well be told.
            let refused = OutgoingResponse::new(Fields::new());
            let _ = refused.set_status_code(StatusCode::INTERNAL_SERVER_ERROR.as_u16());
            ResponseOutparam::set(out, Ok(refused));
            return Err(error);
        }
    };
    // 200 is what a response has from the start.
    if parts.status != StatusCode::OK {
        outgoing.set_status_code(parts.status.as_u16()).map_err(|()| "the host takes no such status")?;
    }
    let sink = outgoing.body().map_err(|()| "the host gives no body")?;
    // The head goes out before the body is asked for anything: it may take long to yield its first byte.
    ResponseOutparam::set(out, Ok(outgoing));

    let trailers = write(body, &sink).await?;
    let trailers = trailers.as_ref().map(to_fields).transpose()?;
    OutgoingBody::finish(sink, trailers)?;
    Ok(())
}

/// Says the length where it is known, so that the client gets no chunks. To HEAD a router has answered with the length
/// that GET would have but without the body; the host takes a length as a promise to keep, so it goes.
fn declare_length(headers: &mut HeaderMap, status: StatusCode, body: &Body, is_head: bool) {
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if is_head || bodiless {
        headers.remove(CONTENT_LENGTH);
    } else if let Some(length) = body.size_hint().exact() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// In one call, where `append` would take one for each header.
fn to_fields(headers: &HeaderMap) -> Result<Fields, BoxError> {
    let list: Vec<_> = headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    Fields::from_list(&list).map_err(|error| format!("the host refused the headers: {error:?}").into())
}

/// Writes a body, and returns its trailers.
async fn write(body: Body, sink: &OutgoingBody) -> Result<Option<HeaderMap>, BoxError> {
    let stream = sink.write().map_err(|()| "the host gives no stream")?;
    let mut body = pin!(body);
    let mut trailers = None;
    while let Some(frame) = next(body.as_mut(), &stream).await {
        match frame?.into_data() {
            Ok(data) => write_all(&stream, &data).await?,
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(trailers)
}

/// The next frame. A body that has to wait for it lets what it has sent so far go to the client first.
async fn next(mut body: Pin<&mut Body>, stream: &OutputStream) -> Option<Result<Frame<Bytes>, axum_core::Error>> {
    let mut flushed = false;
    poll_fn(|context| {
        let frame = body.as_mut().poll_frame(context);
        if frame.is_pending() && !std::mem::replace(&mut flushed, true) {
            // A stream that has failed says so at the next write.
            let _ = stream.flush();
        }
        frame
    })
    .await
}

/// Writes as much as the host has room for, and waits for room when there is none: this is the back-pressure.
async fn write_all(stream: &OutputStream, mut data: &[u8]) -> Result<(), BoxError> {
    while !data.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if room == 0 {
            AsyncPollable::new(stream.subscribe()).wait_for().await;
            continue;
        }
        let (now, later) = data.split_at(room.min(data.len()));
        stream.write(now)?;
        data = later;
    }
    Ok(())
}
