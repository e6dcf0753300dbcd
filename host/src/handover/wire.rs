//! One end of a hand-over's connection: JSON messages with their length in front, and sockets beside them (`SCM_RIGHTS`).

use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
        sendmsg,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};
use tokio::{io::Interest, net::UnixStream, time::timeout};

/// Longest message: the names of 60,000 services.
const MESSAGE_MAX: usize = 4 << 20;
/// Most sockets beside one message.
pub(super) const SOCKETS_MAX: usize = 16;
/// Bytes of a length.
const LENGTH: usize = size_of::<u32>();
/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

/// A connection whose other end belongs to the same user.
pub(super) struct Wire {
    stream: UnixStream,
    /// The process at the other end, as the kernel names it.
    peer: i32,
    unread: Vec<u8>,
    sockets: Vec<OwnedFd>,
}

/// Why a message did not come through.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("nothing came within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    #[error("the other host has hung up")]
    Closed,
    #[error("a message of {0} bytes, more than the {MESSAGE_MAX} that are taken")]
    TooLong(usize),
    #[error("a message that is not understood: {0}")]
    NotUnderstood(#[from] serde_json::Error),
    #[error("the other end belongs to user {0} and not to the one that runs this host")]
    Stranger(u32),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Wire {
    /// The folder keeps others out already; whoever came in all the same learns and gets nothing.
    pub(super) fn new(stream: UnixStream) -> Result<Self, WireError> {
        let peer = stream.peer_cred()?;
        if peer.uid() != rustix::process::geteuid().as_raw() {
            return Err(WireError::Stranger(peer.uid()));
        }
        Ok(Self { stream, peer: peer.pid().unwrap_or_default(), unread: Vec::new(), sockets: Vec::new() })
    }

    pub(super) fn peer(&self) -> i32 {
        self.peer
    }

    pub(super) async fn send<T: Serialize>(&self, message: &T, sockets: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        let message = serde_json::to_vec(message)?;
        let length = u32::try_from(message.len()).map_err(|_| WireError::TooLong(message.len()))?;
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().chain(message).collect();
        let sent = timeout(super::STEP, self.write(&bytes, sockets)).await;
        Ok(sent.map_err(|_| WireError::Timeout(super::STEP))??)
    }

    async fn write(&self, mut bytes: &[u8], mut sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = || {
                let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS_MAX))];
                let mut beside = SendAncillaryBuffer::new(&mut space);
                if !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
                    return Err(io::Error::other(format!("more than {SOCKETS_MAX} sockets")));
                }
                Ok(sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?)
            };
            let sent = self.stream.async_io(Interest::WRITABLE, write).await?;
            bytes = bytes.get(sent..).unwrap_or_default();
            // They went with the first byte.
            sockets = &[];
        }
        Ok(())
    }

    pub(super) async fn receive<T: DeserializeOwned>(&mut self, limit: Duration) -> Result<T, WireError> {
        timeout(limit, self.next()).await.map_err(|_| WireError::Timeout(limit))?
    }

    async fn next<T: DeserializeOwned>(&mut self) -> Result<T, WireError> {
        loop {
            if let Some((length, rest)) = self.unread.split_first_chunk::<LENGTH>() {
                let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                if length > MESSAGE_MAX {
                    return Err(WireError::TooLong(length));
                }
                if let Some(message) = rest.get(..length) {
                    let message = serde_json::from_slice(message);
                    self.unread.drain(..LENGTH + length);
                    return Ok(message?);
                }
            }
            if self.read().await? == 0 {
                return Err(WireError::Closed);
            }
        }
    }

    /// Returns when the other end has hung up.
    pub(super) async fn hung_up(&mut self) {
        while self.read().await.is_ok_and(|read| read > 0) {
            self.unread.clear();
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        let mut piece = [0; PIECE];
        let (stream, sockets) = (&self.stream, &mut self.sockets);
        let read = || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let read = recvmsg(stream, &mut [IoSliceMut::new(&mut piece)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    sockets.extend(received);
                }
            }
            sockets.truncate(SOCKETS_MAX);
            Ok(read.bytes)
        };
        let read = stream.async_io(Interest::READABLE, read).await?;
        self.unread.extend(piece.get(..read).unwrap_or_default());
        Ok(read)
    }

    /// The sockets that have come so far.
    pub(super) fn take_sockets(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use tokio::io::AsyncWriteExt;

    fn pair() -> (Wire, Wire) {
        let (one, two) = UnixStream::pair().unwrap();
        (Wire::new(one).unwrap(), Wire::new(two).unwrap())
    }

    #[tokio::test]
    async fn messages_and_sockets_arrive_in_order_however_long() {
        let (old, mut new) = pair();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let long = "x".repeat(1 << 20);
        let sending = tokio::spawn(async move {
            old.send(&"first", &[]).await.unwrap();
            old.send(&long, &[socket.as_fd()]).await.unwrap();
            (socket.local_addr().unwrap(), old)
        });
        assert_eq!(new.receive::<String>(super::super::STEP).await.unwrap(), "first");
        assert_eq!(new.receive::<String>(super::super::STEP).await.unwrap().len(), 1 << 20);
        let (address, old) = sending.await.unwrap();
        let sockets = new.take_sockets();
        let [socket] = <[OwnedFd; 1]>::try_from(sockets).unwrap();
        assert_eq!(std::net::TcpListener::from(socket).local_addr().unwrap(), address);
        drop(old);
        assert!(matches!(new.receive::<String>(super::super::STEP).await, Err(WireError::Closed)));
    }

    #[tokio::test]
    async fn what_is_too_long_or_no_message_or_late_is_an_error() {
        let (mut old, mut new) = pair();
        old.stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert!(matches!(new.receive::<String>(super::super::STEP).await, Err(WireError::TooLong(_))));
        new.send(&7, &[]).await.unwrap();
        assert!(matches!(old.receive::<String>(super::super::STEP).await, Err(WireError::NotUnderstood(_))));
        let soon = Duration::from_millis(10);
        assert!(matches!(old.receive::<String>(soon).await, Err(WireError::Timeout(_))));
    }
}
