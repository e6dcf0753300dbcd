//! The clock that interrupts guests: at which of its steps they give way, and at which they are only looked at.
//!
//! While somebody takes a profile it goes in finer steps. A guest gives way as often as before: at the first step of each tick.

use super::{profile, store::HostState};
use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};
use wasmtime::{StoreContextMut, UpdateDeadline};

/// How often a guest that computes gives way: the grain of `limits.cpu` and of the deadline.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// A step while a profile is taken.
pub(super) const FINE: Duration = Duration::from_millis(1);

/// Ticks so far, and whether there are steps between them.
#[derive(Default)]
pub(crate) struct Ticks {
    whole: AtomicU32,
    /// Profiles that are taken.
    profiles: AtomicU32,
}

impl Ticks {
    /// Makes the steps finer, until what is returned by [`Self::finer`] so often has been given back by [`Self::coarser`].
    pub(super) fn finer(&self) -> u32 {
        self.profiles.fetch_add(1, Relaxed).saturating_add(1)
    }

    pub(super) fn coarser(&self) {
        self.profiles.fetch_sub(1, Relaxed);
    }

    fn are_fine(&self) -> bool {
        self.profiles.load(Relaxed) > 0
    }
}

/// The hand of the clock, which one thread moves.
pub(super) struct Hand<'a> {
    ticks: &'a Ticks,
    ticked: Option<Instant>,
}

impl<'a> Hand<'a> {
    pub(super) fn new(ticks: &'a Ticks) -> Self {
        Self { ticks, ticked: None }
    }

    /// One step. Some where it is a tick: how many there have been. To be called before guests are interrupted, who look at it then.
    pub(super) fn step(&mut self) -> Option<u32> {
        // A step that comes a little early must not make a tick of eleven.
        let is_tick = self.ticked.is_none_or(|ticked| ticked.elapsed() + FINE / 2 >= TICK);
        is_tick.then(|| {
            self.ticked = Some(Instant::now());
            self.ticks.whole.fetch_add(1, Relaxed).wrapping_add(1)
        })
    }

    /// Waits for the next step.
    pub(super) fn rest(&self) {
        std::thread::sleep(if self.ticks.are_fine() { FINE } else { TICK });
    }
}

/// What a guest does that computes at a step of the clock: it gives way, and whoever polls it counts its time and enforces the deadline.
/// Between two ticks it goes on.
pub(super) fn interrupted(mut store: StoreContextMut<'_, HostState>) -> wasmtime::Result<UpdateDeadline> {
    let account = store.data().memory.account();
    if !account.ticks().are_fine() {
        return Ok(UpdateDeadline::Yield(1));
    }
    if account.sampler().is_on() {
        profile::sample(account.sampler(), &store);
    }
    let tick = account.ticks().whole.load(Relaxed);
    let before = std::mem::replace(&mut store.data_mut().tick, tick);
    Ok(if before == tick { UpdateDeadline::Continue(1) } else { UpdateDeadline::Yield(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fine_steps_are_not_ticks() {
        let ticks = Ticks::default();
        let mut hand = Hand::new(&ticks);
        assert_eq!((hand.step(), ticks.are_fine()), (Some(1), false));
        assert_eq!((ticks.finer(), ticks.finer()), (1, 2));
        hand.ticked = Some(Instant::now());
        assert_eq!(hand.step(), None);
        hand.ticked = Instant::now().checked_sub(TICK);
        assert_eq!(hand.step(), Some(2));
        ticks.coarser();
        assert!(ticks.are_fine());
        ticks.coarser();
        assert!(!ticks.are_fine());
    }
}
