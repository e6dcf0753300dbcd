//! What the swaps of all services share, and what is put right before the first of them.

use super::{
    awaited::Waiting,
    bay::{Bay, Stamps, Written},
    board::Board,
    event::Events,
    history::{History, Intended},
    orders::Orders,
};
use crate::{
    config::BuildName,
    registry::Registry,
    runtime::{Build, Loader, SecretFolder, SecretsSeen},
    shutdown::Shutdown,
};
use bytes::Bytes;
use std::{io, sync::Arc, time::Duration};
use tokio::sync::{Mutex, Notify, watch};
use tracing::{error, info, warn};

/// What the swaps of all services share.
pub(super) struct SwapContext {
    pub(super) bay: Bay,
    /// Makes the bay be read again.
    pub(super) hint: Arc<Notify>,
    pub(super) registry: Arc<Registry>,
    pub(super) loader: Arc<Loader>,
    pub(super) history: Arc<History>,
    pub(super) events: Arc<Events>,
    pub(super) board: Arc<Board>,
    pub(super) shutdown: Shutdown,
    pub(super) drain: Duration,
    /// Counts the changes of who owns which routes: whoever lost a route to another service tries again.
    pub(super) routes_changed: watch::Sender<u64>,
    pub(super) secrets: SecretFolder,
    /// How the files of the secrets were seen last: whoever is granted one looks again.
    pub(super) secrets_seen: watch::Sender<SecretsSeen>,
    /// Who waits at the start for what it calls.
    pub(super) waiting: Waiting,
    /// Held from the check of the routes until the publication, so that no file is placed whose routes another has taken meanwhile.
    pub(super) publishing: Mutex<()>,
    /// Where an order goes whose task has ended.
    pub(super) orders: Orders,
    /// Whether this host is the one that serves the bay: not before a predecessor has been relieved.
    pub(super) in_charge: watch::Sender<bool>,
}

impl SwapContext {
    /// Whether what serves here is what the bay's history speaks of.
    pub(super) fn is_in_charge(&self) -> bool {
        *self.in_charge.borrow()
    }

    /// From now on this host is the one that serves the bay: finishes what a crash left half done in it, and notes what was taken
    /// out while no host ran. Waits for the disk.
    pub(super) fn take_charge(&self) -> io::Result<()> {
        const REMEDY: &str = "see what lies in the bay, and deploy or roll back again";
        self.in_charge.send_replace(true);
        if let Err(error) = self.bay.sweep() {
            warn!(bay = %self.bay.folder.display(), %error, "what a crash may have left in the bay could not be removed");
        }
        for (name, intended) in self.history.unfinished() {
            let revision = intended.files.digest.short();
            match self.finish(&name, intended) {
                Ok(true) => info!(service = name, revision, "a change of the bay that a crash had cut was finished"),
                Ok(false) => warn!(
                    service = name,
                    revision,
                    remedy = REMEDY,
                    "a change of the bay that a crash had cut is given up: other files were placed since, which stay; {REMEDY}"
                ),
                // It is tried again at the next start.
                Err(error) => {
                    error!(service = name, %error, remedy = REMEDY, "a change of the bay that a crash had cut could not be finished: {error}; {REMEDY}");
                    continue;
                }
            }
            self.history.settled(&name);
        }
        let builds = self.bay.scan()?.builds.into_iter().filter(|(_, sighting)| sighting.build.is_some());
        self.history.missing(&builds.map(|(name, _)| name.to_string()).collect());
        Ok(())
    }

    /// Writes what is missing of a change that was begun. False: somebody has placed something else.
    fn finish(&self, name: &str, intended: Intended) -> io::Result<bool> {
        let name = BuildName::parse(name).map_err(io::Error::other)?;
        let Intended { files, before } = intended;
        let build = self.history.build(&files.digest)?;
        let settings = files.settings.map(Bytes::from);
        let now = self.bay.stamps(&name)?;
        let (has_build, has_settings) = (self.holds_build(&name, &now, &build)?, self.holds_settings(&name, settings.as_ref())?);
        let (was, is) = (before.on_any_device(), now.on_any_device());
        let is_ours = (has_build || is.build == was.build) && (has_settings || is.settings == was.settings);
        if is_ours {
            let written = Written {
                build: (!has_build).then_some(build),
                settings: (!has_settings).then_some(settings).filter(|_| name.label.is_none()),
            };
            self.bay.stage(&name, &written)?.place(&self.bay, &name)?;
        }
        Ok(is_ours)
    }

    fn holds_build(&self, name: &BuildName, now: &Stamps, build: &Build) -> io::Result<bool> {
        if now.build.is_none() {
            return Ok(false);
        }
        Ok(self.bay.read(name)?.build.digest() == build.digest())
    }

    fn holds_settings(&self, name: &BuildName, settings: Option<&Bytes>) -> io::Result<bool> {
        Ok(self.bay.read_settings(&name.service)?.map(|(text, _)| text).as_ref() == settings)
    }
}
