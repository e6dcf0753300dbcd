//! A request body on its way to the guest, with its limit.

use super::progress::Progress;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
pub use wasmtime_wasi_http::{Error as BodyError, WasiBody as RequestBody};

/// What the host sees of a request body while the guest reads it.
pub struct Inbound(Option<Arc<Seen>>);

struct Seen {
    cut: AtomicBool,
    broken: AtomicBool,
    progress: Arc<Progress>,
}

impl Inbound {
    /// Whether the body was longer than it may be, and was cut.
    pub fn was_cut(&self) -> bool {
        self.0.as_ref().is_some_and(|seen| seen.cut.load(Ordering::Relaxed))
    }

    /// Whether the client broke off or sent what is no body.
    pub fn was_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|seen| seen.broken.load(Ordering::Relaxed))
    }

    /// Where its movements are noted; the response's belong there too.
    pub(super) fn progress(&self) -> Arc<Progress> {
        self.0.as_ref().map_or_else(|| Arc::new(Progress::new()), |seen| seen.progress.clone())
    }
}

/// Bounds `body` to `limit` bytes: what is longer ends with an error for the guest.
pub(crate) fn bounded<B>(body: B, limit: u64) -> (RequestBody, Inbound)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    if body.is_end_stream() {
        return (Empty::new().map_err(|never| match never {}).boxed_unsync(), Inbound(None));
    }
    let seen =
        Arc::new(Seen { cut: AtomicBool::new(false), broken: AtomicBool::new(false), progress: Arc::new(Progress::new()) });
    (Bounded { body, left: limit, seen: seen.clone() }.boxed_unsync(), Inbound(Some(seen)))
}

struct Bounded<B> {
    body: B,
    left: u64,
    seen: Arc<Seen>,
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.seen.cut.load(Ordering::Relaxed) {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx).map(|frame| {
            let frame = frame?.map_err(Into::into);
            if frame.is_err() {
                self.seen.broken.store(true, Ordering::Relaxed);
            }
            let len = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
            match self.left.checked_sub(u64::try_from(len).unwrap_or(u64::MAX)) {
                Some(left) => {
                    self.left = left;
                    // A client could send pieces without a byte for ever.
                    if len > 0 {
                        self.seen.progress.note();
                    }
                    Some(frame)
                }
                None => {
                    self.seen.cut.store(true, Ordering::Relaxed);
                    Some(Err(BodyError::HttpRequestBodySize(None)))
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
