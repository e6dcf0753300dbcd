//! One request through one instance: the guest is polled where the request is, and moves to a task of its own only when its
//! response streams.
//!
//! Most guests answer and end within the poll that starts them. Their whole answer is then in the host's memory before the
//! first byte goes out: no task, no wake-up across threads, a known length, and the instance is free again at once.

use super::{
    body::{GuestBody, Stream, wrong_length},
    call::Call,
    cgi,
    fault::Fault,
    linker::Linked,
    proxy,
    request::Inbound,
    revision::Revision,
    running::{GuestCall, Head, Running},
    ticks::TICK,
};
use crate::{capabilities::Due, config::ByteSize};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

/// Largest response that is gathered before it is sent.
const WHOLE_MAX: usize = 64 << 10;

/// Longest wait for the rest of a short response whose guest is on the lane.
const LINGER: Duration = Duration::from_millis(10);

/// Calls the guest of `revision` and returns its response; `lease` is dropped when the guest has ended.
///
/// # Errors
/// Every way in which a guest can fail to answer before its response head is out.
pub(crate) async fn invoke<L: Send + 'static>(
    revision: Arc<Revision>,
    request: Request<WasiBody>,
    inbound: &Inbound,
    mut call: Call,
    lease: L,
) -> Result<Response<GuestBody>, Fault> {
    let limits = revision.settings().limits;
    let bodiless = request.method() == Method::HEAD;
    let expired = revision.expired().clone();
    // From here on it is this request that its calls are for.
    let before = call.errand.due.take();
    call.errand.due = revision.calls_others().then(|| Due::within(limits.deadline.0, before));
    let due = call.errand.due.clone();
    let (sender, receiver) = oneshot::channel();
    let guest: GuestCall = match &revision.code.linked {
        Linked::Http(..) => Box::pin(proxy::drive(revision.clone(), request, call, sender)),
        Linked::Command2(_) | Linked::Command3(_) => Box::pin(cgi::drive(revision.clone(), request, call, sender)),
        Linked::Library(_) => return Err(Fault::Library),
    };
    let mut running = Running::new(guest, limits.cpu, revision.account().line());
    let head = tokio::select! {
        biased;
        head = tokio::time::timeout(limits.deadline.0, head(&mut running, receiver)) => {
            head.unwrap_or_else(|_| Err(Fault::overdue(limits.deadline, due.as_deref())))?
        }
        () = expired.cancelled() => return Err(Fault::Retired),
    };
    if let Some(due) = due {
        due.meet();
    }
    let (parts, mut body) = final_response(head)?.into_parts();
    let promised = content_length(&parts)?;
    let gathered = gather(&mut running, &mut body).await;
    match (running.take_outcome(), gathered) {
        // Nothing has been sent yet, so a guest that fails after its head still gets an honest status.
        (Some(Err(fault)), _) => Err(fault),
        (Some(Ok(())), Gathered { frames, end: Some(end), .. }) => {
            // The length that an answer to HEAD or a 304 speaks of is that of a body which is not sent (RFC 9110 §8.6).
            if (bodiless || parts.status == StatusCode::NOT_MODIFIED) && frames.is_empty() {
                return Ok(Response::from_parts(parts, GuestBody::whole(Bytes::new())));
            }
            end?;
            whole(parts, frames, limits.response_body.0)
        }
        (_, Gathered { frames, end, .. }) => {
            let stream = Stream {
                first: frames.into(),
                end,
                rest: body,
                progress: inbound.progress(),
                sent: 0,
                promised: promised.filter(|_| !bodiless),
                bodiless: bodiless || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED),
                metrics: revision.metrics().clone(),
                limit: limits.response_body,
            };
            Ok(Response::from_parts(parts, stream.follow(running, expired, &limits, lease)))
        }
    }
}

/// What the head says of the body's length: one number or nothing. Anything else would end the connection of a client that is
/// sent it, without a response.
fn content_length(parts: &http::response::Parts) -> Result<Option<u64>, Fault> {
    let mut values = parts.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    // `parse` alone takes a sign.
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.and_then(|text| text.parse().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(Fault::Protocol(format!("content-length is {value:?}, which is not the length of one body"))),
    }
}

/// Runs the guest until its response head is there.
async fn head(running: &mut Running, receiver: oneshot::Receiver<Head>) -> Head {
    let mut receiver = Some(receiver);
    poll_fn(|cx| {
        running.advance(cx);
        if let Some(waiting) = &mut receiver {
            match waiting.poll_unpin(cx) {
                Poll::Ready(Ok(head)) => return Poll::Ready(head),
                // The guest gave the sender up. It may run on; then its end decides, and the receiver must not be asked again.
                Poll::Ready(Err(_)) => receiver = None,
                Poll::Pending if running.is_at_work() => return Poll::Pending,
                // Ended, and the sender lies forgotten in an instance that was kept.
                Poll::Pending => receiver = None,
            }
        }
        match running.take_outcome() {
            Some(Err(fault)) => Poll::Ready(Err(fault)),
            None if running.is_at_work() => Poll::Pending,
            Some(Ok(())) | None => Poll::Ready(Err(Fault::NoResponse)),
        }
    })
    .await
}

fn final_response(head: Response<WasiBody>) -> Result<Response<WasiBody>, Fault> {
    match head.status() {
        status if status.is_informational() => Err(Fault::Protocol(format!("{status} is not a final status"))),
        _ => Ok(head),
    }
}

/// What of a response body was there without waiting.
#[derive(Default)]
struct Gathered {
    frames: Vec<Frame<Bytes>>,
    size: usize,
    /// How the body ended, if it did.
    end: Option<Result<(), Fault>>,
}

/// Lets the guest and its body take turns for as long as both move and little has come of it.
async fn gather(running: &mut Running, body: &mut WasiBody) -> Gathered {
    let mut gathered = Gathered::default();
    // A guest on the lane moves by itself. Most have ended a moment after their head.
    let mut patience = running.is_on_lane().then(|| Box::pin(tokio::time::sleep(LINGER)));
    poll_fn(|cx| match (gathered.advance(running, body, cx), &mut patience) {
        (Poll::Pending, Some(patience)) => patience.as_mut().poll(cx),
        _ => Poll::Ready(()),
    })
    .await;
    gathered
}

impl Gathered {
    /// Pending where nothing more comes without waiting.
    fn advance(&mut self, running: &mut Running, body: &mut WasiBody, cx: &mut Context<'_>) -> Poll<()> {
        let begun = Instant::now();
        loop {
            let mut moved = running.advance(cx);
            while self.end.is_none() && self.size < WHOLE_MAX {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        self.size += frame.data_ref().map_or(0, Bytes::len);
                        self.frames.push(frame);
                    }
                    Poll::Ready(Some(Err(error))) => self.end = Some(Err(Fault::Protocol(error.to_string()))),
                    Poll::Ready(None) => self.end = Some(Ok(())),
                    Poll::Pending => break,
                }
                moved = true;
            }
            let settled = running.has_ended() && self.end.is_some();
            // A guest that computes between its bytes must not keep this thread from the others.
            if settled || self.size >= WHOLE_MAX || begun.elapsed() >= TICK {
                return Poll::Ready(());
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }
}

/// A response that is all there: one buffer and its length, or its few frames where it has trailers.
fn whole(mut parts: http::response::Parts, frames: Vec<Frame<Bytes>>, limit: u64) -> Result<Response<GuestBody>, Fault> {
    let trailers = frames.iter().any(Frame::is_trailers);
    let len: usize = frames.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
    let size = u64::try_from(len).unwrap_or(u64::MAX);
    if size > limit {
        return Err(Fault::ResponseTooLarge(ByteSize(limit)));
    }
    if let Some(promised) = parts.headers.get(header::CONTENT_LENGTH)
        && promised.as_bytes() != size.to_string().as_bytes()
    {
        let promised = String::from_utf8_lossy(promised.as_bytes());
        return Err(wrong_length(promised, size));
    }
    // The body says its own length; a header would only be compared with it, and over HTTP/1.1 it would keep the trailers back.
    parts.headers.remove(header::CONTENT_LENGTH);
    if trailers {
        return Ok(Response::from_parts(parts, GuestBody::frames(frames)));
    }
    let mut data = frames.into_iter().filter_map(|frame| frame.into_data().ok());
    let first = data.next().unwrap_or_default();
    let bytes = match data.next() {
        None => first,
        Some(second) => {
            let mut joined = BytesMut::with_capacity(len);
            [first, second].into_iter().chain(data).for_each(|chunk| joined.extend_from_slice(&chunk));
            joined.freeze()
        }
    };
    Ok(Response::from_parts(parts, GuestBody::whole(bytes)))
}
