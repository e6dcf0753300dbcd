//! The body of an upstream's response on its way to the guest: bounded in size and in silence.

use super::{
    asker::Asker,
    failure::{Failure, FailureKind},
    pool::{Connection, Pool},
    tally::Tally,
};
use crate::config::{ByteSize, Origin};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};
use wasmtime_wasi_http::Error;

/// A response body. Dropping it before its end closes its connection.
pub(super) struct ResponseBody {
    /// Let go of at the end, so that a guest which keeps the body keeps nothing with it.
    held: Option<Held>,
    left: u64,
    limit: ByteSize,
    silence: Duration,
    /// Runs while nothing comes.
    silent: Option<Pin<Box<Sleep>>>,
    moved: bool,
}

/// What is in use until the body has ended.
pub(super) struct Held {
    pub(super) incoming: Incoming,
    pub(super) connection: Connection,
    pub(super) pool: Arc<Pool>,
    pub(super) origin: Origin,
    pub(super) tally: Tally,
    pub(super) asker: Arc<Asker>,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl ResponseBody {
    pub(super) fn new(held: Held, limit: ByteSize, silence: Duration) -> Self {
        let mut body = Self { held: Some(held), left: limit.0, limit, silence, silent: None, moved: true };
        // Guests do not read what is known to be empty.
        body.end_if_over();
        body
    }

    fn end_if_over(&mut self) {
        if self.held.as_ref().is_some_and(|held| held.incoming.is_end_stream()) {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(Held { connection, pool, origin, .. }) = self.held.take() {
            pool.keep(origin, connection);
        }
    }

    fn fail(&mut self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(Held { asker, origin, mut tally, .. }) = self.held.take() {
            if let FailureKind::Ended(result) = failure.kind {
                tally.is(result);
            }
            asker.tell(&origin, &failure);
        }
        Poll::Ready(Some(Err(failure.error)))
    }

    /// Whether nothing came for too long, while the guest waited.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let silence = self.silence;
        let silent = self.silent.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        if std::mem::take(&mut self.moved) {
            silent.as_mut().reset(Instant::now() + silence);
        }
        silent.as_mut().poll(cx)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(held) = &mut self.held else {
            return Poll::Ready(None);
        };
        match Pin::new(&mut held.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.moved = true;
                let len = frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
                match self.left.checked_sub(len) {
                    Some(left) => self.left = left,
                    None => {
                        let limit = self.limit;
                        return self.fail(Failure::too_large(None, limit));
                    }
                }
                self.end_if_over();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(Failure::http(&error, true)),
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.poll_silence(cx));
                let reason = format!("nothing came of its body for {:?}", self.silence);
                self.fail(Failure::timeout(Error::ConnectionReadTimeout, reason))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.held.as_ref().map_or_else(|| SizeHint::with_exact(0), |held| held.incoming.size_hint())
    }
}
