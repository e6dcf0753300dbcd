//! The lane for guests that compute for long: threads of low priority on which services take turns.
//!
//! A guest begins where its request is, which is the fastest for the many that answer within a millisecond. One that still
//! computes when it gives way for the first time goes on here, and so does each of a service that has computed a lot of late
//! while others were there too. The threads that read from sockets are thus never busy with a guest for longer than a tick. The
//! system prefers them to the lane's, and of the services on the lane the one has the next turn that has had the least time there,
//! however many guests it has and however long its turns are: a host call is not interrupted.

use super::ticks::{TICK, Ticks};
use async_task::{FallibleTask, Runnable};
use rustix::process::setpriority_process;
use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;
use tracing::error;

/// Niceness of the lane's threads above the process's own: a tenth of the weight of those that read from sockets.
const NICENESS: i32 = 10;
/// How long computing time is summed before it is judged.
const PAGE: Duration = Duration::from_millis(100);
/// Of the computing time that all cores have in a page, the share from which on a service has computed a lot.
const MUCH: u32 = 8;

/// How far ahead of the others a service's time on the lane may be at most: as long may it wait for its next turn.
const AHEAD_MAX: u64 = 1_000_000_000;

/// The threads, one for each core. They end with it.
pub(crate) struct Lane {
    turns: Arc<Turns>,
    lines: Mutex<Vec<Weak<Line>>>,
    /// Computing time within a page that is a lot, in nanoseconds.
    much: u64,
    /// The clock's, which is the engines' too.
    ticks: Arc<Ticks>,
}

/// Whose turn it is.
#[derive(Default)]
struct Turns {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Each service that has a guest that wants to go on, once.
    lines: VecDeque<Arc<Line>>,
    /// The time on the lane of the one that had its turn last. Whoever comes anew begins there and has not saved up.
    now: u64,
    closed: bool,
}

/// The guests of one service, and what they have computed of late.
pub(crate) struct Line {
    turns: Arc<Turns>,
    /// Locked only while `Turns::waiting` is.
    guests: Mutex<VecDeque<Runnable>>,
    /// Nanoseconds on the lane, counted from where it came.
    had: AtomicU64,
    /// Nanoseconds computed within the page.
    computed: AtomicU64,
    /// Whether it was a lot within the last page, while others computed too.
    is_busy: AtomicBool,
}

impl Lane {
    /// Starts the threads, which enter the runtime of the caller.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(crate) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let lane = Self::without_threads(cores);
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        for _ in 0..cores {
            let (turns, runtime) = (lane.turns.clone(), runtime.clone());
            thread::Builder::new().name("hotbay-lane".to_owned()).spawn(move || {
                // A system that refuses has threads of the same priority, which is less fair and not wrong.
                let _ = rustix::process::getpriority_process(None).and_then(|now| setpriority_process(None, now + NICENESS));
                let _entered = runtime.enter();
                while let Some((line, guest)) = turns.next() {
                    let begun = Instant::now();
                    // As on any thread of the runtime, a panic ends its task and not the thread.
                    if catch_unwind(AssertUnwindSafe(|| guest.run())).is_err() {
                        error!("the host panicked while a guest ran");
                    }
                    line.had_turn(begun.elapsed());
                }
            })?;
        }
        Ok(lane)
    }

    pub(super) fn without_threads(cores: usize) -> Self {
        let much = PAGE.as_nanos() * u128::try_from(cores).unwrap_or(1) / u128::from(MUCH);
        Self {
            turns: Arc::default(),
            lines: Mutex::default(),
            much: u64::try_from(much).unwrap_or(u64::MAX),
            ticks: Arc::default(),
        }
    }

    /// A line for one service.
    pub(crate) fn line(&self) -> Arc<Line> {
        let line = Arc::new(Line {
            turns: self.turns.clone(),
            guests: Mutex::default(),
            had: AtomicU64::new(0),
            computed: AtomicU64::new(0),
            is_busy: AtomicBool::new(false),
        });
        let mut lines = lock(&self.lines);
        lines.retain(|line| line.strong_count() > 0);
        lines.push(Arc::downgrade(&line));
        line
    }

    /// The clock.
    pub(super) fn ticks(&self) -> &Arc<Ticks> {
        &self.ticks
    }

    /// To be called at each tick: judges what was computed once a page is over.
    pub(crate) fn tick(&self, ticks: u32) {
        if ticks.is_multiple_of(u32::try_from(PAGE.as_millis() / TICK.as_millis()).unwrap_or(1)) {
            self.judge();
        }
    }

    fn judge(&self) {
        let lines: Vec<_> = lock(&self.lines).iter().filter_map(Weak::upgrade).collect();
        let computed: Vec<_> = lines.iter().map(|line| line.computed.swap(0, Relaxed)).collect();
        // One that has the host for itself takes nothing from anybody.
        let contended = computed.iter().filter(|computed| **computed > 0).count() > 1;
        for (line, computed) in lines.iter().zip(computed) {
            line.is_busy.store(contended && computed > self.much, Relaxed);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let lines = {
            let mut waiting = self.turns.waiting();
            waiting.closed = true;
            std::mem::take(&mut waiting.lines)
        };
        self.turns.more.notify_all();
        for line in lines {
            // What is dropped may wake another, which takes the locks.
            let guests = std::mem::take(&mut *lock(&line.guests));
            drop(guests);
        }
    }
}

impl Turns {
    /// The guest whose turn it is, once there is one; none at the end.
    fn next(&self) -> Option<(Arc<Line>, Runnable)> {
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.closed;
        let mut waiting = self.more.wait_while(self.waiting(), idle).unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return None;
        }
        waiting.next()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }
}

impl Waiting {
    fn next(&mut self) -> Option<(Arc<Line>, Runnable)> {
        // The first of those that have had the least, so that between equals one turn each is the order.
        let (place, _) = self.lines.iter().enumerate().min_by_key(|(_, line)| line.had.load(Relaxed))?;
        let line = self.lines.remove(place)?;
        self.now = self.now.max(line.had.load(Relaxed));
        let mut guests = lock(&line.guests);
        let guest = guests.pop_front();
        let more = !guests.is_empty();
        drop(guests);
        if more {
            self.lines.push_back(line.clone());
        }
        Some((line, guest?))
    }
}

impl Line {
    /// Runs `work` on the lane from now on. Dropping the task ends it at its next turn.
    pub(super) fn run<T: Send + 'static>(self: &Arc<Self>, work: impl Future<Output = T> + Send + 'static) -> FallibleTask<T> {
        let line = self.clone();
        let (guest, task) = async_task::spawn(work, move |guest| line.schedule(guest));
        guest.schedule();
        task.fallible()
    }

    fn schedule(self: &Arc<Self>, guest: Runnable) {
        let mut waiting = self.turns.waiting();
        if waiting.closed {
            // What is dropped may wake another, which takes the lock.
            drop(waiting);
            return;
        }
        let mut guests = lock(&self.guests);
        guests.push_back(guest);
        if guests.len() == 1 {
            let had = self.had.load(Relaxed);
            self.had.store(had.clamp(waiting.now, waiting.now.saturating_add(AHEAD_MAX)), Relaxed);
            waiting.lines.push_back(self.clone());
        }
        drop((guests, waiting));
        self.turns.more.notify_one();
    }

    /// Counts a turn on the lane.
    fn had_turn(&self, time: Duration) {
        self.had.fetch_add(nanos(time), Relaxed);
    }

    /// Counts computing time.
    pub(super) fn computed(&self, time: Duration) {
        self.computed.fetch_add(nanos(time), Relaxed);
    }

    /// Whether its guests begin on the lane.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Relaxed)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Nothing that is locked here can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// What was run, in its order, by a lane whose one thread is the test.
    fn order(lane: &Lane) {
        // The lock is not held while a guest runs.
        let next = || lane.turns.waiting().next();
        while let Some((_, guest)) = next() {
            guest.run();
        }
    }

    #[test]
    fn who_has_long_turns_has_fewer() {
        let (lane, ran) = (Lane::without_threads(1), Arc::new(Mutex::new(String::new())));
        let (long, short) = (lane.line(), lane.line());
        let guest = |name: char| {
            let ran = ran.clone();
            async move {
                loop {
                    ran.lock().unwrap().push(name);
                    tokio::task::yield_now().await;
                }
            }
        };
        let _guests = [long.run(guest('l')), short.run(guest('s'))];
        for _ in 0..24 {
            let (line, guest) = lane.turns.waiting().next().unwrap();
            guest.run();
            line.had_turn(if Arc::ptr_eq(&line, &long) { PAGE } else { PAGE / 10 });
        }
        let turns = ran.lock().unwrap().matches('l').count();
        assert!((2..=3).contains(&turns), "{} of 24", turns);
        let late = lane.line();
        let _guest = late.run(guest('z'));
        assert!(late.had.load(Relaxed) > 0, "it has not saved up what others had before it came");
    }

    #[test]
    fn services_take_turns_however_many_guests_they_have() {
        let (lane, ran) = (Lane::without_threads(1), Arc::new(Mutex::new(String::new())));
        let (many, few) = (lane.line(), lane.line());
        let guest = |name: char| {
            let ran = ran.clone();
            async move {
                for _ in 0..2 {
                    ran.lock().unwrap().push(name);
                    tokio::task::yield_now().await;
                }
            }
        };
        let greedy: Vec<_> = ['a', 'b', 'c', 'd'].map(|name| many.run(guest(name))).into();
        let modest = few.run(guest('z'));
        order(&lane);
        assert_eq!(*ran.lock().unwrap(), "azbzcdabcd");
        assert!(greedy.into_iter().all(|task| task.now_or_never().flatten().is_some()));
        assert!(modest.now_or_never().flatten().is_some());
    }

    #[test]
    fn what_is_let_go_of_ends_at_its_next_turn() {
        let (lane, held) = (Lane::without_threads(1), Arc::new(()));
        let holder = held.clone();
        let task = lane.line().run(async move {
            let _holder = holder;
            std::future::pending::<()>().await
        });
        order(&lane);
        drop(task);
        order(&lane);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn a_service_is_busy_that_computes_a_lot_while_others_do_too() {
        let lane = Lane::without_threads(1);
        let (busy, quiet) = (lane.line(), lane.line());
        let turn = |others: u64| {
            busy.computed(PAGE / 2);
            quiet.computed(Duration::from_nanos(others));
            lane.judge();
            (busy.is_busy(), quiet.is_busy())
        };
        assert_eq!(turn(0), (false, false), "it has the host for itself");
        assert_eq!(turn(1000), (true, false));
        lane.judge();
        assert!(!busy.is_busy(), "not any more");
    }
}
