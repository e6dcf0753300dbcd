//! When something came from a Redis last, whatever it answered: one that is slow is told from one that is silent.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The last time at which a connection brought something.
#[derive(Clone)]
pub(super) struct Heard {
    since: Instant,
    /// Microseconds after that.
    last: Arc<AtomicU64>,
}

impl Heard {
    /// Nothing so far.
    pub(super) fn nothing() -> Self {
        Self { since: Instant::now(), last: Arc::default() }
    }

    /// How long nothing has come.
    pub(super) fn quiet(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_micros(self.last.load(Relaxed)))
    }

    fn now(&self) {
        self.last.store(u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// A connection that is listened to.
pub(super) struct Listened<S> {
    pub(super) stream: S,
    pub(super) heard: Heard,
    /// Whether it also counts that what is sent gets on: where that is much, it takes long until there can be an answer.
    pub(super) sends_much: bool,
}

impl<S> Listened<S> {
    fn sent(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if self.sends_much && matches!(sent, Poll::Ready(Ok(1..))) {
            self.heard.now();
        }
        sent
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.now();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent(sent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.sent(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
