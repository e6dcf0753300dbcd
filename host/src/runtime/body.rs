//! A response body on its way out: whole, or streamed while the guest still writes it.

use super::{fault::Fault, progress::Progress, running::Running};
use crate::{
    config::{ByteSize, Limits, Span},
    telemetry::RevisionMetrics,
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use std::{
    collections::VecDeque,
    fmt::Display,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::warn;
use wasmtime_wasi_http::WasiBody;

/// The body of a guest's response. Dropping it ends the guest, unless the client has all of it.
pub struct GuestBody(Kind);

enum Kind {
    Whole(Full<Bytes>),
    Frames(VecDeque<Frame<Bytes>>),
    Stream(Box<Following>),
}

impl GuestBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Full::new(bytes)))
    }

    pub(super) fn frames(frames: Vec<Frame<Bytes>>) -> Self {
        Self(Kind::Frames(frames.into()))
    }

    /// Whether all of it was taken: to its end, or to the length that its head promised.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.0 {
            Kind::Stream(stream) => stream.over || stream.is_complete(),
            Kind::Whole(_) | Kind::Frames(_) => self.is_end_stream(),
        }
    }
}

/// A body whose guest has not ended.
pub(super) struct Stream {
    pub(super) first: VecDeque<Frame<Bytes>>,
    pub(super) end: Option<Result<(), Fault>>,
    pub(super) rest: WasiBody,
    pub(super) progress: Arc<Progress>,
    pub(super) sent: u64,
    /// What `content-length` says of the body that is sent.
    pub(super) promised: Option<u64>,
    /// Whether no body is sent, whatever the guest makes of one: to HEAD, with 204 and 304.
    pub(super) bodiless: bool,
    pub(super) metrics: Arc<RevisionMetrics>,
    pub(super) limit: ByteSize,
}

/// A stream and the task that its guest runs in.
struct Following {
    stream: Stream,
    guest: Guest,
    idle: Span,
    /// How long the guest may go on after its response is whole.
    after: Duration,
    /// What a body gets whose guest has ended: the last of it may be on its way, or be forgotten in an instance that is kept.
    last: Option<Pin<Box<Sleep>>>,
    over: bool,
}

enum Guest {
    AtWork(AbortOnDropHandle<Result<(), Fault>>),
    /// Ended; the fault is told once.
    Ended(Option<Fault>),
}

impl Stream {
    /// Gives the guest a task of its own, which holds `lease` until the guest has ended.
    pub(super) fn follow<L: Send + 'static>(
        self,
        running: Running,
        expired: CancellationToken,
        limits: &Limits,
        lease: L,
    ) -> GuestBody {
        let (progress, idle) = (self.progress.clone(), limits.stream_idle);
        let after = idle.0.min(limits.deadline.0);
        // The response begins now, however long ago the request moved last.
        progress.note();
        let guest = tokio::spawn(async move {
            let _lease = lease;
            tokio::select! {
                biased;
                outcome = running => outcome,
                // Watched here and not in the body: a client that does not read polls no body.
                () = progress.stalled(idle.0) => Err(Fault::StreamIdle(idle)),
                () = expired.cancelled() => Err(Fault::Retired),
            }
        });
        let guest = Guest::AtWork(AbortOnDropHandle::new(guest));
        GuestBody(Kind::Stream(Box::new(Following { stream: self, guest, idle, after, last: None, over: false })))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(frame) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(end) = self.end.take() {
            self.end = Some(Ok(()));
            return Poll::Ready(end.err().map(Err));
        }
        match Pin::new(&mut self.rest).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Fault::Protocol(error.to_string())))),
            Poll::Ready(None) => {
                self.end = Some(Ok(()));
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Following {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.over {
            return Poll::Ready(None);
        }
        match self.stream.poll(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.last = None;
                let len = frame.data_ref().map_or(0, Bytes::len);
                // Pieces without a byte are no progress: a guest could write them for ever.
                if len > 0 || frame.is_trailers() {
                    self.stream.progress.note();
                }
                self.stream.sent = self.stream.sent.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
                if self.stream.sent > self.stream.limit.0 {
                    // This frame does not go out, so the response is not whole, whatever its length.
                    (self.over, self.stream.promised) = (true, None);
                    return Poll::Ready(Some(Err(Fault::ResponseTooLarge(self.stream.limit))));
                }
                if let Some(promised) = self.stream.promised.filter(|promised| *promised < self.stream.sent) {
                    self.over = true;
                    return Poll::Ready(Some(Err(wrong_length(promised, self.stream.sent))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // A body without an end looks the same as one whose guest trapped: only the guest's own end tells them apart.
            Poll::Ready(None) => self.poll_guest(cx).map(|()| {
                self.over = true;
                let wrong = self.stream.promised.filter(|promised| *promised != self.stream.sent && !self.stream.bodiless);
                let fault = self.take_fault().or_else(|| Some(wrong_length(wrong?, self.stream.sent)));
                fault.map(Err)
            }),
            Poll::Ready(Some(Err(error))) => {
                self.over = true;
                // The guest's own end tells more than the broken stream, where it is known.
                let _ = self.poll_guest(cx);
                Poll::Ready(Some(Err(self.take_fault().unwrap_or(error))))
            }
            // While it runs the guest is watched; after its end the body is.
            Poll::Pending => {
                ready!(self.poll_guest(cx));
                let fault = match self.take_fault() {
                    Some(fault) => fault,
                    None => {
                        let idle = self.idle;
                        let last = self.last.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle.0)));
                        ready!(last.as_mut().poll(cx));
                        Fault::Protocol("it ended without ending its response body".to_owned())
                    }
                };
                self.over = true;
                Poll::Ready(Some(Err(fault)))
            }
        }
    }

    /// Waits for the guest's end.
    fn poll_guest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Guest::AtWork(task) = &mut self.guest {
            let fault = match ready!(Pin::new(task).poll(cx)) {
                Ok(outcome) => outcome.err(),
                Err(error) => Some(Fault::Host(error.to_string())),
            };
            self.guest = Guest::Ended(fault);
        }
        Poll::Ready(())
    }

    fn take_fault(&mut self) -> Option<Fault> {
        match &mut self.guest {
            Guest::Ended(fault) => fault.take(),
            Guest::AtWork(_) => None,
        }
    }

    /// Whether the client has all that the head promised. Over HTTP/1.1 nobody asks for more than that.
    fn is_complete(&self) -> bool {
        self.stream.bodiless || self.stream.promised == Some(self.stream.sent)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // The response is whole; what the guest still does after it, it may end. Not for ever: its permit is with it.
        if self.is_complete()
            && let Guest::AtWork(task) = std::mem::replace(&mut self.guest, Guest::Ended(None))
        {
            let (metrics, after, most) = (self.stream.metrics.clone(), self.after, self.stream.limit);
            let rest = std::mem::take(&mut self.stream.rest);
            tokio::spawn(async move {
                let ended = tokio::select! {
                    ended = task => ended,
                    () = discard(rest, most) => return,
                    // Nothing that the guest writes puts this off.
                    () = tokio::time::sleep(after) => Ok(Err(Fault::StreamIdle(Span(after)))),
                };
                if let Ok(Err(fault)) = ended {
                    if let Some(kind) = fault.kind() {
                        metrics.failed(kind);
                    }
                    let service = metrics.service().name();
                    warn!(target: "hotbay::request", service, reason = %fault, "a guest failed after the last byte of its response");
                }
            });
        }
    }
}

/// Takes what nobody is sent: a guest that writes a body for HEAD must not fail over it. Returns once that is too much, as from a
/// client that has left, and never where the body ends before.
async fn discard(mut rest: WasiBody, most: ByteSize) {
    let mut left = most.as_usize();
    while let Some(Ok(frame)) = rest.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
    std::future::pending().await
}

/// A body that is longer or shorter than its head says.
pub(super) fn wrong_length(promised: impl Display, sent: u64) -> Fault {
    Fault::Protocol(format!("content-length says {promised}, the body has {sent} bytes"))
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Pin::new(bytes).poll_frame(cx).map_err(|never| match never {}),
            Kind::Frames(frames) => Poll::Ready(frames.pop_front().map(Ok)),
            Kind::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_end_stream(),
            Kind::Frames(frames) => frames.is_empty(),
            Kind::Stream(stream) => stream.over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => bytes.size_hint(),
            Kind::Frames(_) | Kind::Stream(_) => SizeHint::default(),
        }
    }
}
