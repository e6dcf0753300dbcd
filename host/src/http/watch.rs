//! Clients that neither ask nor take: seen from outside of the protocol, since HTTP/2 knows no timer for the rest between two
//! requests, for a head that never ends or for a window that never opens.

use crate::dispatch::Watch;
use socket2::SockRef;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What an HTTP/2 connection with prior knowledge begins with (RFC 9113 §3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longer than the answer to a ping, which is nothing that a client takes.
const CONTROL_MAX: usize = 64;
/// Bytes that wait in the kernel before more is written: half of them are taken within the shortest silence that ends a connection
/// by a client that reads 10 KB a second.
const UNSENT_MAX: u32 = 64 << 10;
/// Looks at the connection within the time that it may be silent.
const LOOKS: u32 = 4;

/// What moves on one connection, and what is waited for.
#[derive(Default)]
pub(super) struct Activity {
    /// Changes with each request that begins and each piece of a response that is taken.
    moved: AtomicU32,
    /// Requests for which it is the guest's turn.
    owed: AtomicU32,
    /// Requests whose response has not been let go.
    open: AtomicU32,
}

impl Activity {
    /// Counts a request from here on.
    pub(super) fn request(self: &Arc<Self>) -> Active {
        self.note();
        self.owed.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Active { activity: self.clone(), owed: true }
    }

    fn note(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns once the client has done nothing for `limit`, or a quarter longer, although it was its turn.
    pub(super) async fn silent(&self, limit: Duration) {
        self.quiet(limit, &self.owed).await;
    }

    /// Returns once there has been no request for `limit`, or a quarter longer.
    pub(super) async fn at_rest(&self, limit: Duration) {
        self.quiet(limit, &self.open).await;
    }

    /// Returns once nothing has moved for `limit`, or a quarter longer, in which `busy` was 0.
    async fn quiet(&self, limit: Duration, busy: &AtomicU32) {
        if limit.is_zero() {
            return;
        }
        let mut quiet = 0;
        let mut seen = self.moved.load(Ordering::Relaxed);
        while quiet < LOOKS {
            tokio::time::sleep(limit / LOOKS).await;
            let moved = self.moved.load(Ordering::Relaxed);
            let silent = moved == seen && busy.load(Ordering::Relaxed) == 0;
            quiet = if silent { quiet + 1 } else { 0 };
            seen = moved;
        }
    }
}

/// One request of a connection, until its response has been let go.
pub(super) struct Active {
    activity: Arc<Activity>,
    owed: bool,
}

impl Watch for Active {
    /// While a response is owed, it is not the client's turn.
    fn polled(&mut self, owed: bool) {
        self.activity.note();
        if owed != self.owed {
            self.owed = owed;
            match owed {
                true => self.activity.owed.fetch_add(1, Ordering::Relaxed),
                false => self.activity.owed.fetch_sub(1, Ordering::Relaxed),
            };
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.polled(false);
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection whose protocol is known, with the bytes that told it.
pub(super) struct Watched {
    stream: TcpStream,
    head: [u8; PREFACE.len()],
    /// Bytes of `head` that were read and that were passed on.
    read: usize,
    passed: usize,
    activity: Arc<Activity>,
}

impl Watched {
    /// Reads until the protocol is known: to the first byte that is not the preface's. A connection that says nothing ends here.
    pub(super) async fn of(mut stream: TcpStream, activity: Arc<Activity>) -> io::Result<(Self, Protocol)> {
        // The kernel takes more only when little of what it has is unsent, so that a client which reads slowly is seen to read.
        // A system without the option works all the same.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_MAX);
        let mut head = [0; PREFACE.len()];
        let mut read = 0;
        let protocol = loop {
            match stream.read(head.get_mut(read..).unwrap_or_default()).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => read += len,
            }
            if head.get(..read) != PREFACE.get(..read) {
                break Protocol::Http1;
            }
            if read == PREFACE.len() {
                break Protocol::Http2;
            }
        };
        Ok((Self { stream, head, read, passed: 0, activity }, protocol))
    }

    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(polled, Poll::Ready(Ok(len)) if len > CONTROL_MAX) {
            self.activity.note();
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let end = self.read.min(self.passed.saturating_add(buf.remaining()));
        match self.head.get(self.passed..end) {
            Some(head) if !head.is_empty() => {
                buf.put_slice(head);
                self.passed = end;
                Poll::Ready(Ok(()))
            }
            _ => Pin::new(&mut self.stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
