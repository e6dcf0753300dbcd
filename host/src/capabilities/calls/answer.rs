//! The body of a callee's response on its way to the caller's guest.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

/// A body that ends where its guest has waited in vain for as long as it asked to.
pub(super) struct Answer<H> {
    body: WasiBody,
    /// Kept until the body has ended: what is under way for the caller.
    held: Option<H>,
    silence: Option<Duration>,
    /// Runs while nothing comes.
    silent: Option<Pin<Box<Sleep>>>,
    moved: bool,
}

impl<H> Answer<H> {
    pub(super) fn new(body: WasiBody, silence: Option<Duration>, held: H) -> Self {
        // Guests do not read what is known to be empty.
        let held = (!body.is_end_stream()).then_some(held);
        Self { body, held, silence, silent: None, moved: true }
    }

    fn poll_silence(&mut self, silence: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let silent = self.silent.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        if std::mem::take(&mut self.moved) {
            silent.as_mut().reset(Instant::now() + silence);
        }
        silent.as_mut().poll(cx)
    }
}

impl<H: Unpin> Body for Answer<H> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.held.is_none() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match (&polled, self.silence) {
            (Poll::Pending, Some(silence)) => {
                ready!(self.poll_silence(silence, cx));
                // Whoever made it need not go on.
                (self.held, self.body) = (None, WasiBody::default());
                return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
            }
            (Poll::Ready(Some(Ok(_))), _) => {
                self.moved = true;
                if self.body.is_end_stream() {
                    self.held = None;
                }
            }
            (Poll::Ready(_), _) => self.held = None,
            (Poll::Pending, None) => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.held.is_none() { SizeHint::with_exact(0) } else { self.body.size_hint() }
    }
}
