//! A request body on its way to the guest, with its limit.

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

/// Tells after the fact whether a request body was longer than it may be.
pub struct TooLarge(Option<Arc<AtomicBool>>);

impl TooLarge {
    /// Whether the body was cut.
    pub fn was_cut(&self) -> bool {
        self.0.as_ref().is_some_and(|cut| cut.load(Ordering::Relaxed))
    }
}

/// Bounds `body` to `limit` bytes: what is longer ends with an error for the guest.
pub(crate) fn bounded<B>(body: B, limit: u64) -> (RequestBody, TooLarge)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    if body.is_end_stream() {
        return (Empty::new().map_err(|never| match never {}).boxed_unsync(), TooLarge(None));
    }
    let cut = Arc::new(AtomicBool::new(false));
    (Bounded { body, left: limit, cut: cut.clone() }.boxed_unsync(), TooLarge(Some(cut)))
}

struct Bounded<B> {
    body: B,
    left: u64,
    cut: Arc<AtomicBool>,
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.cut.load(Ordering::Relaxed) {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx).map(|frame| {
            let frame = frame?.map_err(Into::into);
            let len = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
            match self.left.checked_sub(u64::try_from(len).unwrap_or(u64::MAX)) {
                Some(left) => {
                    self.left = left;
                    Some(frame)
                }
                None => {
                    self.cut.store(true, Ordering::Relaxed);
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
