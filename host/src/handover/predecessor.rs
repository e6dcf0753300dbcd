//! The new host's side: it meets the one that serves, and relieves it once it can do what that one does.

use super::{
    PROTOCOL, STEP,
    message::{FromNew, FromOld, Hello},
    place::{Place, bay_id, is_nobody},
    sockets::Sockets,
    wire::{Wire, WireError},
};
use std::{io, path::Path};
use tokio::net::UnixStream;
use tracing::{info, warn};

/// The host that serves, and goes on until it is relieved.
pub struct Predecessor {
    wire: Wire,
    place: Place,
}

/// The host that served; it ends, and waits for this to be dropped: then this host can be reached by the next.
pub struct Relieved {
    _wire: Wire,
}

/// Why this host does not take over. The other one, where there is one, serves on.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// Nobody answers.
    #[error(
        "there is nothing to take over: no host serves the bay {bay} with the state folder {state}; start without --take-over"
    )]
    Nobody {
        /// The bay.
        bay: String,
        /// The state folder.
        state: String,
    },
    /// The state folder or its socket.
    #[error("the host in the state folder {state} cannot be reached: {error}")]
    Unreachable {
        /// The state folder.
        state: String,
        /// The reason.
        error: io::Error,
    },
    /// The running host says no.
    #[error("no take-over: {0}")]
    Refused(String),
    /// Services would be lost.
    #[error(
        "no take-over: the running host serves {} and this one would not; the lines above say why, mend it in the bay and \
         try again", .0.join(", ")
    )]
    Missing(Vec<String>),
    /// The conversation broke off.
    #[error("no take-over: {reason}; the running host serves on, its log says more")]
    Broken {
        /// What came instead of an answer.
        reason: String,
    },
}

impl From<WireError> for TakeOverError {
    fn from(error: WireError) -> Self {
        Self::Broken { reason: error.to_string() }
    }
}

impl Predecessor {
    /// Meets the host that serves `bay` with the folder `state` and gets its sockets, which it goes on to accept from.
    ///
    /// # Errors
    /// Where there is none, or it will not hand over.
    pub async fn greet(state: &Path, bay: &Path) -> Result<(Self, Sockets), TakeOverError> {
        let shown = state.display().to_string();
        let failed = |error: io::Error| match is_nobody(&error) {
            true => TakeOverError::Nobody { bay: bay.display().to_string(), state: shown.clone() },
            false => TakeOverError::Unreachable { state: shown.clone(), error },
        };
        let id = bay_id(bay);
        let place = Place::open(state, &id).map_err(failed)?;
        let stream = UnixStream::connect(place.socket()).await.map_err(failed)?;
        let mut wire = Wire::new(stream)?;
        let hello = Hello { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned(), bay: id };
        wire.send(&hello, &[]).await?;
        match wire.receive(STEP).await? {
            FromOld::Offer { version, sockets } => {
                let received = wire.take_sockets();
                if received.len() != sockets.len() {
                    let reason = format!("{} sockets came where {} were named", received.len(), sockets.len());
                    return Err(TakeOverError::Broken { reason });
                }
                info!(process = wire.peer(), version, "loading the bay to take over from the host that serves it");
                Ok((Self { wire, place }, Sockets::received(sockets, received)))
            }
            FromOld::Refused { reason } => Err(TakeOverError::Refused(reason)),
            other => Err(TakeOverError::Broken { reason: format!("the running host answers {other:?} to a greeting") }),
        }
    }

    /// Takes over, given that all that the other host serves is in `serving`: from the return on, this host must accept.
    ///
    /// A host that died in the meantime is relieved as well; its sockets are here, and clients wait at them.
    ///
    /// # Errors
    /// Where the other host serves on.
    pub async fn relieve(mut self, serving: Vec<String>) -> Result<Relieved, TakeOverError> {
        match self.agree(serving).await {
            Ok(()) => {}
            Err(TakeOverError::Broken { reason }) if self.place.is_answered().is_ok_and(|answered| !answered) => {
                warn!(reason, "the host before this one ended before it could hand over; taking its place");
            }
            Err(error) => return Err(error),
        }
        info!(process = self.wire.peer(), "taken over");
        Ok(Relieved { _wire: self.wire })
    }

    async fn agree(&mut self, serving: Vec<String>) -> Result<(), TakeOverError> {
        self.wire.send(&FromNew::Ready { serving }, &[]).await?;
        match self.wire.receive(STEP).await? {
            FromOld::Go => Ok(self.wire.send(&FromNew::Accepting, &[]).await?),
            FromOld::Missing { services } => Err(TakeOverError::Missing(services)),
            FromOld::Refused { reason } => Err(TakeOverError::Refused(reason)),
            other => Err(TakeOverError::Broken { reason: format!("the running host answers {other:?} to one that is ready") }),
        }
    }
}
