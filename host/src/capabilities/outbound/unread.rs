//! What of a request's body nobody reads any more: it is taken in and forgotten. A guest that is denied, or whose upstream is not there,
//! would otherwise fail to write it, and tell of a connection that was reset instead of the reason.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::runtime::Handle;
use wasmtime_wasi_http::{Error, WasiBody};

/// For so long nobody reads it. The other end is the guest, which is gone sooner, or the client of a guest that passes a body on.
const LONGEST: Duration = Duration::from_secs(10);

/// A guest's request body that is read to its end, by whoever has it or, once that is dropped, by nobody.
pub(super) struct ReadToItsEnd(Option<WasiBody>);

impl ReadToItsEnd {
    pub(super) fn of(body: WasiBody) -> WasiBody {
        WasiBody::new(Self(Some(body)))
    }
}

impl Body for ReadToItsEnd {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ReadToItsEnd {
    fn drop(&mut self) {
        let unread = self.0.take().filter(|body| !body.is_end_stream());
        if let (Some(mut body), Ok(runtime)) = (unread, Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(LONGEST, async move {
                while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::mpsc;
    use http_body_util::StreamBody;

    #[tokio::test]
    async fn what_is_let_go_of_is_read_on_until_its_end() {
        let (pieces, body) = mpsc::unbounded();
        let mut body = ReadToItsEnd::of(WasiBody::new(StreamBody::new(body)));
        let write = || pieces.unbounded_send(Ok(Frame::data(Bytes::from_static(b"x"))));
        write().unwrap();
        assert!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_some_and(|frame| frame.is_ok()));
        drop(body);
        write().unwrap();
        while !pieces.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!pieces.is_closed(), "the guest may write on");
        pieces.close_channel();
    }
}
