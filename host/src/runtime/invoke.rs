//! One request through one instance: the guest is polled where the request is, and moves to a task of its own only when its
//! response streams.
//!
//! Most guests answer and end within the poll that starts them. Their whole answer is then in the host's memory before the
//! first byte goes out: no task, no wake-up across threads, a known length, and the instance is free again at once.

use super::{
    body::{GuestBody, Progress, Stream},
    call::Call,
    cgi,
    fault::Fault,
    instance::Instance,
    linker::Linked,
    revision::Revision,
};
use crate::config::Span;
use bytes::BytesMut;
use futures::FutureExt;
use http::{Request, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use wasmtime_wasi_http::{WasiBody, WasiHttpView, handler::Proxy, p2::bindings::http::types::Scheme, p3};

/// Largest response that is gathered before it is sent.
const WHOLE_MAX: usize = 64 << 10;

/// What a guest hands over first.
pub(super) type Head = Result<Response<WasiBody>, Fault>;
/// Where it hands it over.
pub(super) type HeadSender = oneshot::Sender<Head>;

type Driving = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// Calls the guest of `revision` and returns its response; `lease` is dropped when the guest has ended.
///
/// # Errors
/// Every way in which a guest can fail to answer before its response head is out.
pub(crate) async fn invoke<L: Send + 'static>(
    revision: Arc<Revision>,
    request: Request<WasiBody>,
    call: Call,
    lease: L,
) -> Result<Response<GuestBody>, Fault> {
    let limits = revision.settings().limits;
    let expired = revision.expired().clone();
    let (sender, receiver) = oneshot::channel();
    let guest: Driving = match &revision.code.linked {
        Linked::Http(..) => Box::pin(drive(revision.clone(), request, call, sender)),
        Linked::Command2(_) | Linked::Command3(_) => Box::pin(cgi::drive(revision.clone(), request, call, sender)),
        Linked::Library(_) => return Err(Fault::Library),
    };
    let mut running = Running { guest: Some(guest), outcome: None, computed: Duration::ZERO, cpu: limits.cpu };
    let head = tokio::select! {
        biased;
        head = tokio::time::timeout(limits.deadline.0, head(&mut running, receiver)) => {
            head.unwrap_or(Err(Fault::Deadline(limits.deadline)))?
        }
        () = expired.cancelled() => return Err(Fault::Retired),
    };
    let (parts, mut body) = check(head)?.into_parts();
    let gathered = poll_fn(|cx| Poll::Ready(gather(&mut running, &mut body, cx))).await;
    match (running.outcome.take(), gathered) {
        // Nothing has been sent yet, so a guest that fails after its head still gets an honest status.
        (Some(Err(fault)), _) => Err(fault),
        (Some(Ok(())), Gathered { frames, end: Some(end) }) => {
            end?;
            whole(parts, frames, limits.response_body.0)
        }
        (outcome, Gathered { frames, end }) => {
            running.outcome = outcome;
            let stream = Stream {
                first: frames.into(),
                end,
                rest: body,
                progress: Arc::new(Progress::new()),
                sent: 0,
                limit: limits.response_body,
            };
            Ok(Response::from_parts(parts, stream.follow(running, expired, limits.stream_idle, lease)))
        }
    }
}

/// A guest at work, its computing time and how it ended.
pub(super) struct Running {
    guest: Option<Driving>,
    outcome: Option<Result<(), Fault>>,
    computed: Duration,
    cpu: Span,
}

impl Running {
    /// Polls the guest once. A poll lasts a tick at most where the guest computes, so that the time can be counted between.
    fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(guest) = &mut self.guest else {
            return false;
        };
        let begun = Instant::now();
        let polled = guest.as_mut().poll(cx);
        self.computed += begun.elapsed();
        self.outcome = match polled {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending if self.computed > self.cpu.0 => Some(Err(Fault::Cpu(self.cpu))),
            Poll::Pending => return false,
        };
        self.guest = None;
        true
    }
}

impl Future for Running {
    type Output = Result<(), Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.advance(cx);
        match self.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            // Ended and told before: only a second look after the end comes here.
            None if self.guest.is_none() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }
}

/// Runs the guest until its response head is there.
async fn head(running: &mut Running, mut receiver: oneshot::Receiver<Head>) -> Head {
    poll_fn(|cx| {
        running.advance(cx);
        match receiver.poll_unpin(cx) {
            Poll::Ready(Ok(head)) => Poll::Ready(head),
            Poll::Ready(Err(_)) => match running.outcome.take() {
                Some(Err(fault)) => Poll::Ready(Err(fault)),
                Some(Ok(())) => Poll::Ready(Err(Fault::NoResponse)),
                // The guest gave the sender up and runs on; its end decides.
                None if running.guest.is_some() => Poll::Pending,
                None => Poll::Ready(Err(Fault::NoResponse)),
            },
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn check(head: Response<WasiBody>) -> Result<Response<WasiBody>, Fault> {
    match head.status() {
        status if status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS => {
            Err(Fault::Protocol(format!("{status} is not a final status")))
        }
        _ => Ok(head),
    }
}

/// What of a response body was there without waiting.
struct Gathered {
    frames: Vec<Frame<bytes::Bytes>>,
    /// How the body ended, if it did.
    end: Option<Result<(), Fault>>,
}

/// Lets the guest and its body take turns for as long as both move and little has come of it.
fn gather(running: &mut Running, body: &mut WasiBody, cx: &mut Context<'_>) -> Gathered {
    let (mut frames, mut size, mut end) = (Vec::new(), 0, None);
    loop {
        let mut moved = running.advance(cx);
        while end.is_none() && size < WHOLE_MAX {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    size += frame.data_ref().map_or(0, bytes::Bytes::len);
                    frames.push(frame);
                }
                Poll::Ready(Some(Err(error))) => end = Some(Err(Fault::Protocol(error.to_string()))),
                Poll::Ready(None) => end = Some(Ok(())),
                Poll::Pending => break,
            }
            moved = true;
        }
        let settled = running.outcome.is_some() && end.is_some();
        if settled || !moved || size >= WHOLE_MAX {
            return Gathered { frames, end };
        }
    }
}

/// A response that is all there: one buffer and its length, or its few frames where it has trailers.
fn whole(mut parts: http::response::Parts, frames: Vec<Frame<bytes::Bytes>>, limit: u64) -> Result<Response<GuestBody>, Fault> {
    let size: usize = frames.iter().filter_map(Frame::data_ref).map(bytes::Bytes::len).sum();
    if u64::try_from(size).unwrap_or(u64::MAX) > limit {
        return Err(Fault::ResponseTooLarge(crate::config::ByteSize(limit)));
    }
    if let Some(promised) = parts.headers.get(header::CONTENT_LENGTH)
        && promised.as_bytes() != size.to_string().as_bytes()
    {
        let promised = String::from_utf8_lossy(promised.as_bytes());
        return Err(Fault::Protocol(format!("content-length says {promised}, the body has {size} bytes")));
    }
    if frames.iter().any(Frame::is_trailers) {
        return Ok(Response::from_parts(parts, GuestBody::frames(frames)));
    }
    let mut data = frames.into_iter().filter_map(|frame| frame.into_data().ok());
    let first = data.next().unwrap_or_default();
    let bytes = match data.next() {
        None => first,
        Some(second) => {
            let mut joined = BytesMut::with_capacity(size);
            [first, second].into_iter().chain(data).for_each(|chunk| joined.extend_from_slice(&chunk));
            joined.freeze()
        }
    };
    // The body says its own length; a header would only be compared with it.
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, GuestBody::whole(bytes)))
}

/// A WASI HTTP guest: an instance, the call, and the instance back to the idle ones.
async fn drive(revision: Arc<Revision>, request: Request<WasiBody>, call: Call, sender: HeadSender) -> Result<(), Fault> {
    let mut instance = revision.instance().await?;
    instance.store.data().log.begin(&call.request_id);
    // An idle instance's tick is long over; without this it would give way once before it began.
    instance.store.set_epoch_deadline(1);
    let outcome = match &instance.proxy {
        Proxy::P2(_) => drive_p2(&mut instance, request, sender).await,
        Proxy::P3(_) => drive_p3(&mut instance, request, sender).await,
    };
    if let Err(error) = outcome {
        return Err(revision.fault(&error, &instance.store));
    }
    instance.store.data().log.flush();
    if let Some(idle) = &revision.code.idle
        && let Some(ended) = idle.give_back(instance)
    {
        ended.end().await;
    }
    Ok(())
}

async fn drive_p2(instance: &mut Instance, request: Request<WasiBody>, sender: HeadSender) -> wasmtime::Result<()> {
    let Instance { store, proxy: Proxy::P2(proxy), .. } = instance else {
        return Ok(());
    };
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let outparam = http.new_response_outparam_from_callback(move |head| {
        // Nobody waits for the head any more where the deadline was faster.
        let _ = sender.send(head.map_err(|code| Fault::Refused(format!("{code:?}"))));
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, outparam).await
}

async fn drive_p3(instance: &mut Instance, request: Request<WasiBody>, sender: HeadSender) -> wasmtime::Result<()> {
    let Instance { store, proxy: Proxy::P3(service), .. } = instance else {
        return Ok(());
    };
    let (request, sent) = p3::Request::from_http(store.data_mut().http().hooks, request);
    let service = &*service;
    store
        .run_concurrent(async |accessor| {
            let head = match service.handle(accessor, request).await? {
                Ok(response) => Ok(accessor.with(|access| response.into_http(access, sent))?),
                Err(code) => Err(Fault::Refused(format!("{code:?}"))),
            };
            // Nobody waits for the head any more where the deadline was faster.
            let _ = sender.send(head);
            // The guest may go on after its response head: the body streams, and it may have work of its own.
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            wasmtime::Result::<()>::Ok(())
        })
        .await?
}
