//! What people order by the admin API, and the way of an order to the task of its service.

use super::event::State;
use crate::{
    config::{BuildName, Label},
    runtime::{Build, Digest, Reject},
};
use bytes::Bytes;
use std::{io, time::Duration};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

/// Orders of one service that wait for those before them.
const WAITING_MAX: usize = 16;
/// Orders of all services on their way to the tasks.
const UNDER_WAY_MAX: usize = 64;

/// A change of one service's files in the bay.
#[derive(Debug)]
pub enum Change {
    /// Another build, with the settings that are there.
    Build(Build),
    /// Another build with settings of its own.
    Both(Build, Bytes),
    /// Other settings, or none, with the build that is there.
    Settings {
        /// The text of `NAME.toml`.
        text: Option<Bytes>,
        /// SHA-256 of the text that it was made from. Nothing is written where another is there.
        made_from: Option<Digest>,
    },
    /// Other shares, in percent, in the settings that are there. The rest of them stays as it is written.
    Shares(Vec<(Label, u32)>),
    /// Build and settings as they were: of the revision before the one that serves, or of the one that is named.
    Rollback {
        /// The first hex digits of a digest, or `v` and the number of a publication.
        to: Option<String>,
    },
    /// The labelled revision becomes the main one, and its share ends.
    Promote {
        /// Its label.
        label: Label,
    },
    /// Build and settings are taken out.
    Remove,
}

/// How an order ended that was carried out.
#[derive(Debug, Clone)]
pub enum Done {
    /// The revision serves and its files are in the bay.
    Published(Published),
    /// It served already; its files are in the bay.
    Unchanged {
        /// The build's digest.
        digest: Digest,
    },
    /// The service is gone.
    Removed,
}

/// A publication by an order.
#[derive(Debug, Clone)]
pub struct Published {
    /// The build's digest.
    pub digest: Digest,
    /// From the beginning of the order to the publication.
    pub took: Duration,
    /// How long each step took.
    pub steps: Vec<(State, Duration)>,
}

/// Why an order was not carried out. The bay is as it was, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The build or its settings will not serve.
    #[error("{0}")]
    Rejected(Reject),
    /// No such service.
    #[error("there is no service `{0}`")]
    UnknownService(BuildName),
    /// No such revision.
    #[error("{reason}")]
    UnknownRevision {
        /// What was looked for.
        reason: String,
        /// 12 hex digits of each that there is, the newest first.
        known: Vec<String>,
    },
    /// The files cannot be read or written. Of a change of both files the first may have been written.
    #[error("{0}")]
    Files(#[from] io::Error),
    /// Somebody else changed the files while the order was carried out. Nothing was written.
    #[error("{0} while the order was carried out; nothing was written")]
    Changed(String),
    /// The settings in the bay are not those that the order's were made from. Nothing was written.
    #[error("the settings in the bay are others by now; nothing was written")]
    OtherSettings,
    /// Too many orders wait.
    #[error("{WAITING_MAX} orders of this service wait already")]
    Busy,
    /// The host ends; the order may have been carried out in part and is finished at the next start.
    #[error("the host is ending")]
    Ending,
}

/// An order and whoever waits for its end.
pub(super) struct Order {
    pub(super) change: Change,
    pub(super) reply: oneshot::Sender<Result<Done, OrderError>>,
}

/// Gives orders. Cheap to clone.
#[derive(Clone)]
pub struct Orders(mpsc::Sender<(BuildName, Order)>);

impl Orders {
    /// A way for orders, and its end.
    pub(super) fn new() -> (Self, mpsc::Receiver<(BuildName, Order)>) {
        let (sender, receiver) = mpsc::channel(UNDER_WAY_MAX);
        (Self(sender), receiver)
    }

    /// Carries `change` out after the orders of the same build before it, and waits for its end. Whoever stops waiting does not
    /// stop the order.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn give(&self, name: BuildName, change: Change) -> Result<Done, OrderError> {
        let (reply, outcome) = oneshot::channel();
        self.0.send((name, Order { change, reply })).await.map_err(|_| OrderError::Ending)?;
        outcome.await.unwrap_or(Err(OrderError::Ending))
    }

    /// Sends an order once more whose task has ended. Where there is no way for it any more the host ends, and whoever waits for the
    /// order is told so.
    pub(super) fn give_again(&self, name: BuildName, order: Order) {
        if let Err(TrySendError::Full((_, order))) = self.0.try_send((name, order)) {
            drop(order.reply.send(Err(OrderError::Busy)));
        }
    }
}

/// The orders of one service.
pub(super) fn queue() -> (mpsc::Sender<Order>, mpsc::Receiver<Order>) {
    mpsc::channel(WAITING_MAX)
}
