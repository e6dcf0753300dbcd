//! The clocks that guests see: right, and too coarse to time a cache by.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// Nanoseconds of a step, of both clocks. What leaks through caches and through prediction differs by less than a thousandth of it,
/// and a guest, which has no second thread, cannot count finer itself. What services time is longer.
const STEP: u64 = 100_000;

/// Where the monotonic clock begins: a guest learns nothing of the machine's own.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Both clocks, rounded down to whole steps: so a wait for a moment, which the host reckons from here, lasts up to a step longer
/// and never shorter.
pub(super) struct Coarse;

fn nanoseconds(span: Duration) -> u64 {
    let exact = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    exact - exact % STEP
}

impl HostMonotonicClock for Coarse {
    fn resolution(&self) -> u64 {
        STEP
    }

    fn now(&self) -> u64 {
        nanoseconds(BEGINNING.elapsed())
    }
}

impl HostWallClock for Coarse {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(STEP)
    }

    fn now(&self) -> Duration {
        // Of a machine whose clock stands before 1970 there is nothing better to say.
        Duration::from_nanos(nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_sees_is_whole_steps_and_not_behind_by_more_than_one() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seen = HostWallClock::now(&Coarse);
        assert!(seen + Duration::from_nanos(STEP) > before);
        assert_eq!(seen.as_nanos() % u128::from(STEP), 0);
        assert_eq!(HostMonotonicClock::now(&Coarse) % STEP, 0);
        assert_eq!((nanoseconds(Duration::from_nanos(STEP - 1)), nanoseconds(Duration::from_nanos(STEP))), (0, STEP));
    }
}
