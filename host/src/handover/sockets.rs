//! Listening sockets that somebody else opened: the host before this one, or the service manager (sd_listen_fds(3)).

use super::{message::FromOld, wire::SOCKETS_MAX};
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use std::{env, io, net::TcpListener, os::fd::OwnedFd};

/// Where requests are answered.
pub const PUBLIC: &str = "public";
/// The socket of the admin listener.
pub const ADMIN: &str = "admin";

/// The sockets that a host may be given, in the order that counts where they come without names.
const KNOWN: [&str; 2] = [PUBLIC, ADMIN];

/// Sockets by name.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(String, TcpListener)>);

/// Sockets that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// Not one that can be accepted from.
    #[error(
        "the socket {position} of the service manager is no TCP socket that listens: {error}; give the socket unit \
         ListenStream=ADDRESS:PORT and Accept=no"
    )]
    NotListening {
        /// Counted from 1.
        position: usize,
        /// The reason.
        error: io::Error,
    },
    /// More than there are uses.
    #[error(
        "the service manager passes sockets named {}; one named public, and at most one named admin, are taken \
         (FileDescriptorName= of the socket unit), or without such names the first as public and the second as admin",
        .0.join(", ")
    )]
    Names(Vec<String>),
}

impl Sockets {
    /// Those of the service manager; none where this process was started without any. What it finds is no longer there for
    /// the next call.
    ///
    /// # Errors
    /// Where there are some that cannot be used.
    pub fn activated() -> Result<Self, SocketsError> {
        // The variables of a parent that was activated itself are not ours.
        let ours = env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok()) == Some(std::process::id());
        if !ours {
            return Ok(Self::default());
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut found = ListenFd::from_env();
        let names = named(names.split(':').map(str::to_owned).collect(), found.len())?;
        let listener = |(at, name): (usize, String)| {
            let listening = found.take_tcp_listener(at).and_then(|listener| {
                let listener = listener.ok_or_else(|| io::Error::other("it is not there"))?;
                if socket_acceptconn(&listener)? { Ok(listener) } else { Err(io::Error::other("it does not listen")) }
            });
            let listener = listening.map_err(|error| SocketsError::NotListening { position: at + 1, error })?;
            Ok((name, listener))
        };
        names.into_iter().enumerate().map(listener).collect::<Result<_, _>>().map(Self)
    }

    /// Those of the host before, as it named them.
    pub(super) fn received(names: Vec<String>, sockets: Vec<OwnedFd>) -> Self {
        Self(names.into_iter().zip(sockets.into_iter().map(TcpListener::from)).collect())
    }

    /// Takes the socket `name` out, ready for the runtime.
    pub fn take(&mut self, name: &str) -> Option<io::Result<tokio::net::TcpListener>> {
        let at = self.0.iter().position(|(of, _)| of == name)?;
        let (_, listener) = self.0.swap_remove(at);
        Some(listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener)))
    }
}

/// What `count` sockets are, of which the service manager has said `names`.
fn named(names: Vec<String>, count: usize) -> Result<Vec<String>, SocketsError> {
    let known = |name: &String| KNOWN.contains(&name.as_str());
    if !names.iter().any(known) && count <= KNOWN.len() {
        return Ok(KNOWN.iter().take(count).map(|name| (*name).to_owned()).collect());
    }
    let once = KNOWN.iter().all(|known| names.iter().filter(|name| name == known).count() <= 1);
    if names.len() == count && names.iter().all(known) && once && count <= SOCKETS_MAX {
        return Ok(names);
    }
    Err(SocketsError::Names(names))
}

impl FromOld {
    /// What goes with the sockets `names`.
    pub(super) fn offer(names: impl IntoIterator<Item = &'static str>) -> Self {
        let sockets = names.into_iter().map(str::to_owned).collect();
        Self::Offer { version: env!("CARGO_PKG_VERSION").to_owned(), sockets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_by_their_names_or_by_their_order() {
        let named = |names: &str, count| named(names.split(':').map(str::to_owned).collect(), count).ok();
        let these = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(named("", 1), these(&["public"]));
        assert_eq!(named("hotbay.socket:hotbay.socket", 2), these(&["public", "admin"]));
        assert_eq!(named("admin:public", 2), these(&["admin", "public"]));
        assert_eq!(named("admin", 1), these(&["admin"]));
        for (names, count) in [("public:public", 2), ("public:other", 2), ("a:b:c", 3), ("public", 2)] {
            assert_eq!(named(names, count), None, "{names}");
        }
    }
}
