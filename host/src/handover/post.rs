//! The old host's side: it waits at its post in the state folder until a new one relieves it.

use super::{
    LOADING, PROTOCOL, STEP,
    message::{FromNew, FromOld, Hello},
    place::{Place, bay_id},
    wire::{Wire, WireError},
};
use crate::shutdown::Shutdown;
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Mutex,
};
use tracing::{error, info, warn};

/// Pause after a connection that could not be accepted, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What a host offers to the next one.
pub struct Offered {
    /// The listening sockets by name.
    pub sockets: Vec<(&'static str, OwnedFd)>,
    /// The services that have a good revision at this moment: none of them may be lost.
    pub serving: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// How long a connection without a request may be kept after the hand-over.
    pub grace: Duration,
}

/// Where a host is reached by the one that takes over.
pub struct Post {
    place: Place,
    listener: UnixListener,
    bay: String,
}

impl Post {
    /// Takes the post of `bay` in the folder `state`. One that is manned is left alone, unless it was handed over.
    ///
    /// # Errors
    /// Where the folder cannot be used or another host is there.
    pub fn claim(state: &Path, bay: &Path, handed_over: bool) -> io::Result<Self> {
        let bay = bay_id(bay);
        let mut place = Place::open(state, &bay)?;
        let listener = place.claim(handed_over)?;
        Ok(Self { place, listener, bay })
    }

    /// Waits for hosts that want to take over, until the shutdown begins, which a hand-over does too.
    pub async fn serve(self, offered: Offered, shutdown: Shutdown) {
        let Self { mut place, listener, bay } = self;
        let keeper = Arc::new(Keeper { offered, bay, shutdown: shutdown.clone(), under_way: Mutex::new(()) });
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.begun() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => shutdown.track(keeper.clone().meet(stream)),
                Err(error) => {
                    warn!(%error, "a host that wants to take over could not be heard");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // After a hand-over the new host's own socket takes the name; until then it is better answered late than not there.
        if !shutdown.is_hand_over()
            && let Err(error) = place.release()
        {
            warn!(%error, "the socket of the hand-over could not be removed from the state folder");
        }
    }
}

/// What is the same for every new host.
struct Keeper {
    offered: Offered,
    bay: String,
    shutdown: Shutdown,
    /// Held by the one take-over that is under way.
    under_way: Mutex<()>,
}

/// Why a new host did not take over.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Refused(String),
    #[error("it does not serve {}", .0.join(", "))]
    Missing(Vec<String>),
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Keeper {
    async fn meet(self: Arc<Self>, stream: UnixStream) {
        let mut wire = match Wire::new(stream) {
            Ok(wire) => wire,
            Err(error) => return warn!(%error, "somebody who may not take over was sent away"),
        };
        let process = wire.peer();
        tokio::select! {
            biased;
            () = self.shutdown.begun() => return,
            handed = self.hand_over(&mut wire) => match handed {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return error!(process, %error, "the take-over failed; this host goes on as before"),
            },
        }
        info!(process, "handed over; finishing what runs");
        self.shutdown.hand_over(self.offered.grace);
        // Not gone before the service manager knows the new main process.
        let _ = tokio::time::timeout(STEP, wire.hung_up()).await;
    }

    /// Returns whether the new host serves.
    async fn hand_over(&self, wire: &mut Wire) -> Result<bool, Failed> {
        let hello: Hello = match wire.receive(STEP).await {
            // It only looked whether somebody is here.
            Err(WireError::Closed) => return Ok(false),
            hello => hello?,
        };
        let Ok(_under_way) = self.under_way.try_lock() else {
            return self.refuse(wire, "another host is taking over at this moment; try again when it has ended".to_owned()).await;
        };
        if hello.protocol != PROTOCOL {
            let reason = format!(
                "the running host (hotbay {}) speaks hand-over protocol {PROTOCOL} and not {}; stop it and start the new one \
                 without --take-over",
                env!("CARGO_PKG_VERSION"),
                hello.protocol,
            );
            return self.refuse(wire, reason).await;
        }
        if hello.bay != self.bay {
            return self.refuse(wire, "the running host serves another bay".to_owned()).await;
        }
        info!(process = wire.peer(), version = hello.version, "another host loads the bay to take over");
        let (names, sockets): (Vec<_>, Vec<_>) =
            self.offered.sockets.iter().map(|(name, socket)| (*name, socket.as_fd())).unzip();
        wire.send(&FromOld::offer(names), &sockets).await?;
        let FromNew::Ready { serving } = wire.receive(LOADING).await? else {
            return self.refuse(wire, "it was not ready yet".to_owned()).await;
        };
        let missing: Vec<String> = (self.offered.serving)().into_iter().filter(|name| !serving.contains(name)).collect();
        if !missing.is_empty() {
            wire.send(&FromOld::Missing { services: missing.clone() }, &[]).await?;
            return Err(Failed::Missing(missing));
        }
        wire.send(&FromOld::Go, &[]).await?;
        match wire.receive(STEP).await? {
            FromNew::Accepting => Ok(true),
            FromNew::Ready { .. } => self.refuse(wire, "it was ready twice".to_owned()).await,
        }
    }

    async fn refuse(&self, wire: &Wire, reason: String) -> Result<bool, Failed> {
        wire.send(&FromOld::Refused { reason: reason.clone() }, &[]).await?;
        Err(Failed::Refused(reason))
    }
}
