//! At the start the services load side by side, so what one of them calls may only be on its way: who waits for whom.

use super::{context::SwapContext, swap::Swaps};
use crate::{
    config::BuildName,
    runtime::{Links, Reject},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Builds of the start that wait for services which they call.
#[derive(Default)]
pub(super) struct Waiting(Mutex<BTreeMap<BuildName, Arc<Links>>>);

impl Waiting {
    /// Nothing that can panic runs under the lock.
    fn builds(&self) -> MutexGuard<'_, BTreeMap<BuildName, Arc<Links>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Swaps {
    /// Whether what `reject` lacks may still come, since not all that was in the bay at the start has been decided. Notes that
    /// this build waits, or that it does so no longer.
    pub(super) fn may_still_come(&self, reject: &Reject) -> bool {
        let Some(links) = reject.links.as_ref().filter(|_| self.report.is_some()) else {
            return false;
        };
        let waiting = &self.context.waiting;
        waiting.builds().insert(self.name.clone(), links.clone());
        let hopes = self.context.someone_moves();
        if !hopes {
            waiting.builds().remove(&self.name);
        }
        hopes
    }

    /// Whether what it waits for has neither come nor is out of reach.
    pub(super) fn awaits_still(&self) -> bool {
        let links = self.context.waiting.builds().get(&self.name).cloned();
        links.is_some_and(|links| self.context.registry.check_imports(&links).is_err()) && self.context.someone_moves()
    }

    /// It waits no longer, whatever comes of it.
    pub(super) fn waits_no_longer(&self) {
        self.context.waiting.builds().remove(&self.name);
    }
}

impl SwapContext {
    /// Whether any service of the start is still to be decided without waiting for another, or could go on at this moment.
    ///
    /// Those that wait are among those that load, until they are told how it ends.
    fn someone_moves(&self) -> bool {
        let waiting = self.waiting.builds();
        if self.board.loading_now() > waiting.len() {
            return true;
        }
        let all: Vec<_> = waiting.values().cloned().collect();
        drop(waiting);
        all.iter().any(|links| self.registry.check_imports(links).is_ok())
    }
}
