//! What the log has said of a store: a line when something begins to fail and one when it works again, and never many of both.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Failures that are told one after another, and how long it takes until one more may be.
const TOLD_AT_ONCE: u32 = 5;
const TOLD_AGAIN: Duration = Duration::from_mins(1);

/// What fails, each told for itself: one that takes no changes may be read all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It cannot be opened or reached.
    All,
    Reading,
    Writing,
}

/// What a store was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Reading,
    Writing,
    /// A change that only makes room: one that is full takes it, and is full none the less.
    Freeing,
}

/// What has been told of one store.
#[derive(Default)]
pub(super) struct Reports {
    all: Report,
    reading: Report,
    writing: Report,
}

#[derive(Default)]
struct Report {
    told: AtomicBool,
    pace: Mutex<Pace>,
}

struct Pace {
    left: u32,
    since: Instant,
}

impl Use {
    /// What is wrong where this fails.
    pub(super) fn trouble(self) -> Trouble {
        match self {
            Self::Reading => Trouble::Reading,
            Self::Writing | Self::Freeing => Trouble::Writing,
        }
    }
}

impl Reports {
    /// This fails. Whether the log is to say so: once until it works, since every call of every service meets the same.
    pub(super) fn fails(&self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::All => self.all.fails(),
            Trouble::Reading => self.reading.fails(),
            Trouble::Writing => self.writing.fails(),
        }
    }

    /// This was done. Of what the log is to say that it works again.
    pub(super) fn works(&self, done: Use) -> impl Iterator<Item = Trouble> {
        let all = self.all.works().then_some(Trouble::All);
        let this = match done {
            Use::Reading => self.reading.works().then_some(Trouble::Reading),
            Use::Writing => self.writing.works().then_some(Trouble::Writing),
            Use::Freeing => None,
        };
        all.into_iter().chain(this)
    }

    /// It can be reached again. Whether the log is to say so.
    pub(super) fn reached(&self) -> bool {
        self.all.works()
    }
}

impl Report {
    fn fails(&self) -> bool {
        if self.told.load(Relaxed) || !self.pace.lock().unwrap_or_else(PoisonError::into_inner).step(Instant::now()) {
            return false;
        }
        !self.told.swap(true, Relaxed)
    }

    fn works(&self) -> bool {
        // Looked at first: a store would be one for every call.
        self.told.load(Relaxed) && self.told.swap(false, Relaxed)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { left: TOLD_AT_ONCE, since: Instant::now() }
    }
}

impl Pace {
    fn step(&mut self, now: Instant) -> bool {
        while self.left < TOLD_AT_ONCE && now.duration_since(self.since) >= TOLD_AGAIN {
            self.left += 1;
            self.since += TOLD_AGAIN;
        }
        if self.left == TOLD_AT_ONCE {
            self.since = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn works(reports: &Reports, done: Use) -> Vec<Trouble> {
        reports.works(done).collect()
    }

    #[test]
    fn only_what_failed_is_told_to_work_again() {
        let reports = Reports::default();
        assert!(reports.fails(Trouble::Writing) && !reports.fails(Trouble::Writing));
        assert_eq!(works(&reports, Use::Reading), [], "reads prove nothing for changes");
        assert_eq!(works(&reports, Use::Freeing), [], "what makes room is always taken");
        assert!(reports.fails(Trouble::All));
        assert_eq!(works(&reports, Use::Reading), [Trouble::All]);
        assert_eq!(works(&reports, Use::Writing), [Trouble::Writing]);
        assert_eq!(works(&reports, Use::Writing), []);
    }

    #[test]
    fn one_that_comes_and_goes_is_told_a_few_times_and_then_each_minute() {
        let reports = Reports::default();
        let told = (0..1000).filter(|_| {
            let told = reports.fails(Trouble::Reading);
            works(&reports, Use::Reading);
            told
        });
        assert_eq!(told.count(), 5);
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let told = (0..600_u64).filter(|tenths| pace.step(begun + Duration::from_millis(tenths * 1000)));
        assert_eq!(told.count(), 5 + 9, "ten minutes");
    }
}
