//! A revision that is loaded and not yet published: compiled, linked and warm, each step told with its time.

use super::{candidate::Candidate, event::State, swap::Swaps};
use crate::{
    fault_point,
    runtime::{Drain, Reject, Revision, Stage},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A revision that is ready to be published.
pub(super) struct Prepared {
    pub(super) revision: Arc<Revision>,
    pub(super) drain: Drain,
    /// How long each step of its loading took.
    pub(super) steps: Vec<(State, Duration)>,
}

impl Prepared {
    /// Lets it go, off the async threads: nobody has seen it.
    pub(super) async fn discard(self) {
        drop(self.revision);
        self.drain.retire().await;
    }
}

impl Swaps {
    /// Everything up to the publication: nothing of it can be seen from outside. Each step is told when it has ended.
    pub(super) async fn prepare(&self, candidate: &Candidate) -> Result<Prepared, Reject> {
        let Candidate { build, settings, secrets, detected, .. } = candidate;
        let revision = build.digest().short();
        fault_point::reached("reading");
        self.context.events.state(&self.name, Some(&revision), State::Detected, Duration::ZERO);
        self.context.events.state(&self.name, Some(&revision), State::Reading, detected.elapsed());
        let (settings, secrets) = (settings.clone()?, secrets.clone()?);
        let mut steps = Steps { swaps: self, revision: &revision, now: None, ended: Vec::new() };
        let loaded = self.context.loader.load(&self.name.service, build, (settings, secrets), |stage| steps.enter(Some(stage)));
        let (revision, drain) = loaded.await.map_err(|reject| self.context.or_circle(&self.name, reject))?;
        steps.enter(None);
        Ok(Prepared { revision, drain, steps: steps.ended })
    }
}

/// Tells each step of the loading when it has ended, with its time.
struct Steps<'a> {
    swaps: &'a Swaps,
    revision: &'a str,
    now: Option<(Stage, Instant)>,
    ended: Vec<(State, Duration)>,
}

impl Steps<'_> {
    fn enter(&mut self, stage: Option<Stage>) {
        if let Some((ended, begun)) = self.now.take() {
            let state = match ended {
                Stage::Compiling => State::Compiling,
                Stage::Linking => State::Linking,
                Stage::Warming => State::Warming,
            };
            let took = begun.elapsed();
            fault_point::reached(state.as_str());
            self.swaps.context.events.state(&self.swaps.name, Some(self.revision), state, took);
            self.ended.push((state, took));
        }
        self.now = stage.map(|stage| (stage, Instant::now()));
    }
}
