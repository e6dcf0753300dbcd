//! Builds that lack what they call. At the start the services load side by side, so it may only be on its way: who waits for whom.
//! And it may never come, where services wait for each other in a circle.

use super::{context::SwapContext, swap::Swaps};
use crate::{
    config::BuildName,
    runtime::{Links, Reject},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Builds of the bay that other services keep from being published.
#[derive(Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Default)]
struct State {
    lacking: BTreeMap<BuildName, Lacking>,
    /// Services of the start whose last good revision is about to be looked for.
    going_back: BTreeSet<BuildName>,
}

#[derive(Clone)]
struct Lacking {
    links: Arc<Links>,
    /// At the start: it has not been rejected yet.
    waits: bool,
    /// It has been good before, and no other since.
    is_last_good: bool,
}

impl Lacking {
    /// Whether it is for this one to do without in a circle, and not for those that were there before.
    fn yields(&self, name: &BuildName, context: &SwapContext) -> bool {
        self.waits && !self.is_last_good && context.check_circle(name, &self.links).is_err()
    }
}

impl Waiting {
    /// Nothing that can panic runs under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Swaps {
    /// Waits with a build that was not loaded for `reject`, if what it lacks may still come: not all that was in the bay at the start
    /// has been decided. Of several in a circle, those that have been good before (`is_last_good`) wait for the others to be rejected.
    ///
    /// # Errors
    /// Why it is rejected.
    pub(super) fn wait_or(&self, reject: Reject, is_last_good: bool) -> Result<(), Reject> {
        let Some(links) = reject.links.as_ref().filter(|_| self.report.is_some()) else {
            return Err(reject);
        };
        let lacking = Lacking { links: links.clone(), waits: true, is_last_good };
        self.context.waiting.state().lacking.insert(self.name.clone(), lacking.clone());
        self.context.board.waits(&self.name.to_string(), Some(links));
        let reject = self.context.or_circle(&self.name, reject);
        if lacking.yields(&self.name, &self.context) || !self.context.someone_moves() {
            return Err(reject);
        }
        // Who was there before this one may only now be in a circle.
        self.routes_changed(self.context.check_circle(&self.name, &lacking.links).is_err());
        Ok(())
    }

    /// Whether what it waits for has neither come nor is out of reach.
    pub(super) fn awaits_still(&self) -> bool {
        let lacking = self.context.waiting.state().lacking.get(&self.name).cloned();
        lacking.is_some_and(|lacking| {
            self.context.registry.check_imports(&lacking.links).is_err()
                && !lacking.yields(&self.name, &self.context)
                && self.context.someone_moves()
        })
    }

    /// It waits no longer, and is about to be rejected: at the start a revision of the history may serve in a moment.
    pub(super) fn goes_back(&self) {
        if self.report.is_some() {
            self.context.waiting.state().going_back.insert(self.name.clone());
        }
    }

    /// How the first attempt ended is known.
    pub(super) fn is_decided(&self) {
        self.context.waiting.state().going_back.remove(&self.name);
    }

    /// What lies in the bay was rejected, and lacks these, if other services are the reason.
    pub(super) fn lacks(&self, links: Option<&Arc<Links>>) {
        let Some(links) = links else {
            return self.lacks_nothing();
        };
        let lacking = Lacking { links: links.clone(), waits: false, is_last_good: false };
        let before = self.context.waiting.state().lacking.insert(self.name.clone(), lacking);
        self.context.board.waits(&self.name.to_string(), Some(links));
        let is_news = before.is_none_or(|before| before.links != *links);
        // Those that wait for it in turn were told that it is missing, and are now told of the circle.
        self.routes_changed(is_news && self.context.check_circle(&self.name, links).is_err());
    }

    /// What lies in the bay serves, or nothing lies there.
    pub(super) fn lacks_nothing(&self) {
        let before = self.context.waiting.state().lacking.remove(&self.name);
        self.context.board.waits(&self.name.to_string(), None);
        // What waited in a circle with it may do so no longer.
        self.routes_changed(before.is_some());
    }
}

impl SwapContext {
    /// `reject`, or the circle that is the reason for it.
    pub(super) fn or_circle(&self, name: &BuildName, reject: Reject) -> Reject {
        let circle = reject.links.as_ref().and_then(|links| self.check_circle(name, links).err());
        circle.unwrap_or(reject)
    }

    fn check_circle(&self, name: &BuildName, links: &Arc<Links>) -> Result<(), Reject> {
        let lacking = self.waiting.state().lacking.iter().map(|(name, lacking)| (name.clone(), lacking.links.clone())).collect();
        self.registry.check_circle(name, links, lacking)
    }

    /// Whether any service of the start is still to be decided without waiting for another, or could go on at this moment.
    ///
    /// Those that wait are among those that load, until they are told how it ends.
    fn someone_moves(&self) -> bool {
        let state = self.waiting.state();
        let waiting: BTreeMap<_, _> = state.lacking.iter().filter(|(_, lacking)| lacking.waits).collect();
        if !state.going_back.is_empty() || self.board.loading_now() > waiting.len() {
            return true;
        }
        let waiting: Vec<_> = waiting.into_iter().map(|(name, lacking)| (name.clone(), lacking.clone())).collect();
        drop(state);
        let moves = |(name, lacking): &(BuildName, Lacking)| {
            self.registry.check_imports(&lacking.links).is_ok() || lacking.yields(name, self)
        };
        waiting.iter().any(moves)
    }
}
