//! Which times of the wall clock have come already: none comes twice, however the clock is set.

use super::LATE;
use std::{collections::VecDeque, time::SystemTime};

/// Stretches that are remembered. Only a clock that is set back makes more than one.
const STRETCHES: usize = 16;

/// Stretches of time that were lived through, each from just after its first moment up to its last. The newest is the last one.
pub(super) struct Lived(VecDeque<(SystemTime, SystemTime)>);

impl Lived {
    /// From `moment` on.
    pub(super) fn since(moment: SystemTime) -> Self {
        Self(VecDeque::from([(moment, moment)]))
    }

    /// The moment up to which all times are decided.
    pub(super) fn end(&self) -> SystemTime {
        self.0.back().map_or(SystemTime::UNIX_EPOCH, |(_, end)| *end)
    }

    /// The clock shows `now`, and was set where it `jumped`. What it jumped over ahead has not been lived through, but for the
    /// last minute, of which times may still run.
    pub(super) fn go_on(&mut self, now: SystemTime, jumped: bool) {
        let end = self.end();
        if jumped {
            let back = now.checked_sub(LATE).unwrap_or(now);
            let start = if now > end { end.max(back) } else { now };
            self.0.push_back((start, now));
        } else if let Some((_, end)) = self.0.back_mut() {
            *end = now.max(*end);
        }
        while self.0.len() > STRETCHES {
            self.0.pop_front();
        }
    }

    /// The first of `times` after `moment` that has not come yet; `times` says which is the next after a moment.
    pub(super) fn next(&self, moment: SystemTime, times: impl Fn(SystemTime) -> Option<SystemTime>) -> Option<SystemTime> {
        let mut after = moment;
        // Each turn passes the end of a stretch.
        for _ in 0..=STRETCHES {
            let next = times(after)?;
            let earlier = self.0.iter().rev().skip(1);
            match earlier.filter(|(start, end)| *start < next && next <= *end).map(|(_, end)| *end).max() {
                Some(end) => after = end,
                None => return Some(next),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Each whole minute.
    fn minutes(after: SystemTime) -> Option<SystemTime> {
        let seconds = after.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        Some(at((seconds / 60 + 1) * 60))
    }

    #[test]
    fn time_that_goes_on_has_one_stretch() {
        let mut lived = Lived::since(at(1000));
        for now in [1010, 1030, 1029, 1100] {
            lived.go_on(at(now), false);
        }
        assert_eq!((lived.0.len(), lived.end()), (1, at(1100)));
        assert_eq!(lived.next(lived.end(), minutes), Some(at(1140)));
    }

    #[test]
    fn a_clock_set_back_brings_no_time_again_and_new_ones_at_once() {
        let mut lived = Lived::since(at(6000));
        lived.go_on(at(6250), false);
        lived.go_on(at(6030), true);
        assert_eq!(lived.next(lived.end(), minutes), Some(at(6300)), "those up to 6250 have come");
        lived.go_on(at(3000), true);
        assert_eq!(lived.next(lived.end(), minutes), Some(at(3060)), "those before 6000 have not");
        lived.go_on(at(6010), true);
        assert_eq!(lived.next(lived.end(), minutes), Some(at(6300)));
    }

    #[test]
    fn what_a_clock_jumped_over_may_still_come() {
        let mut lived = Lived::since(at(6000));
        lived.go_on(at(100_000), true);
        lived.go_on(at(100_100), false);
        lived.go_on(at(6100), true);
        assert_eq!(lived.next(lived.end(), minutes), Some(at(6120)));
        lived.go_on(at(99_930), true);
        // The last minute before the moment to which the clock jumped was looked at then.
        assert_eq!(lived.next(lived.end(), minutes), Some(at(100_140)));
    }

    #[test]
    fn no_number_of_jumps_grows_it() {
        let mut lived = Lived::since(at(0));
        for n in 0..1000 {
            lived.go_on(at(1_000_000 - n * 100), true);
        }
        assert_eq!(lived.0.len(), STRETCHES);
    }
}
