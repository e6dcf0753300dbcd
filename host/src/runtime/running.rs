//! A guest at work: polled where its request is, or on the lane once it computes for long. Its computing time is counted.

use super::{fault::Fault, lane::Line};
use crate::config::Span;
use async_task::FallibleTask;
use http::Response;
use rustix::time::{ClockId, clock_gettime};
use std::{
    cell::Cell,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

/// Computing time from which on a guest goes on on the lane: it has just given way for the first time, or is about to.
const LONG: Duration = Duration::from_millis(2);

/// What a guest hands over first.
pub(super) type Head = Result<Response<WasiBody>, Fault>;
/// Where it hands it over.
pub(super) type HeadSender = oneshot::Sender<Head>;

/// One call of a guest, from its instance to its end.
pub(super) type GuestCall = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

thread_local! {
    /// Computing time of guests that were polled within the poll of another one: theirs, and not the other one's.
    static WITHIN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The computing time of one guest, counted poll by poll, and its limit.
pub(super) struct Meter {
    computed: Duration,
    cpu: Span,
}

impl Meter {
    pub(super) fn new(cpu: Span) -> Self {
        Self { computed: Duration::ZERO, cpu }
    }

    /// Polls the guest once, and tells how long that took. A poll lasts a tick at most where the guest computes, so that the time
    /// can be counted between.
    pub(super) fn timed<T>(&mut self, poll: impl FnOnce() -> Poll<Result<T, Fault>>) -> (Poll<Result<T, Fault>>, Took) {
        let beside = WITHIN.replace(Duration::ZERO);
        let clock = Clock::start();
        let polled = poll();
        let elapsed = clock.elapsed();
        let within = WITHIN.replace(beside + elapsed);
        let own = elapsed.saturating_sub(within);
        self.computed += own;
        match polled {
            Poll::Pending if self.computed > self.cpu.0 => (Poll::Ready(Err(Fault::Cpu(self.cpu))), Took { elapsed, own }),
            polled => (polled, Took { elapsed, own }),
        }
    }
}

/// How long one poll of a guest took.
pub(super) struct Took {
    /// How long the thread was at it: for this guest and for those that it called within.
    elapsed: Duration,
    /// For this guest alone.
    pub(super) own: Duration,
}

/// A guest at work, its computing time and how it ended.
pub(super) struct Running {
    place: Place,
    outcome: Option<Result<(), Fault>>,
    line: Arc<Line>,
}

/// Where a guest is polled.
enum Place {
    Here(Work),
    Lane(FallibleTask<Result<(), Fault>>),
    /// It has ended.
    Nowhere,
}

/// A guest's call with its limit.
struct Work {
    guest: GuestCall,
    meter: Meter,
    /// Time that threads were at it, with the guests that it called within: whoever computes, it is here that the thread is kept.
    taken: Duration,
    line: Arc<Line>,
}

impl Running {
    pub(super) fn new(guest: GuestCall, cpu: Span, line: &Arc<Line>) -> Self {
        let work = Work { guest, meter: Meter::new(cpu), taken: Duration::ZERO, line: line.clone() };
        let place = if line.is_busy() { Place::Lane(line.run(work)) } else { Place::Here(work) };
        Self { place, outcome: None, line: line.clone() }
    }

    /// Whether it would do anything if it were polled.
    pub(super) fn is_at_work(&self) -> bool {
        !matches!(self.place, Place::Nowhere)
    }

    /// Whether it goes on by itself.
    pub(super) fn is_on_lane(&self) -> bool {
        matches!(self.place, Place::Lane(_))
    }

    /// Whether its end is known and not yet told.
    pub(super) fn has_ended(&self) -> bool {
        self.outcome.is_some()
    }

    /// How it ended; told once.
    pub(super) fn take_outcome(&mut self) -> Option<Result<(), Fault>> {
        self.outcome.take()
    }

    /// Polls the guest once, or its task. A poll lasts a tick at most where the guest computes, so that the time can be counted
    /// between. Returns whether it has ended by this.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        if let Place::Here(work) = &mut self.place {
            match work.poll_once(cx) {
                Poll::Ready(outcome) => return self.end(outcome),
                Poll::Pending if work.taken < LONG => return false,
                Poll::Pending => {}
            }
            if let Place::Here(work) = std::mem::replace(&mut self.place, Place::Nowhere) {
                self.place = Place::Lane(self.line.run(work));
            }
        }
        let Place::Lane(task) = &mut self.place else {
            return false;
        };
        match Pin::new(task).poll(cx) {
            Poll::Ready(outcome) => self.end(outcome.unwrap_or_else(|| Err(Fault::Host("it panicked".to_owned())))),
            Poll::Pending => false,
        }
    }

    fn end(&mut self, outcome: Result<(), Fault>) -> bool {
        (self.place, self.outcome) = (Place::Nowhere, Some(outcome));
        true
    }
}

impl Work {
    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Self { guest, meter, .. } = self;
        let (polled, Took { elapsed, own }) = meter.timed(|| guest.as_mut().poll(cx));
        self.taken += elapsed;
        self.line.computed(own);
        polled
    }
}

impl Future for Work {
    type Output = Result<(), Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_once(cx)
    }
}

/// What a poll is timed by. The wall clock counts the time in which the thread did not run too, so that on a busy machine a short
/// guest would pass for one that computes; the thread's own clock is a system call and counts only work. It is asked once where
/// the wall clock shows that little can have been computed.
struct Clock {
    wall: Instant,
    thread: Duration,
}

/// Up to this the wall clock will do.
const LITTLE: Duration = Duration::from_micros(300);

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), thread: thread_time() }
    }

    fn elapsed(&self) -> Duration {
        let wall = self.wall.elapsed();
        if wall < LITTLE { wall } else { thread_time().saturating_sub(self.thread) }
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Future for Running {
    type Output = Result<(), Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.advance(cx);
        match self.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            // Ended and told before: only a second look after the end comes here.
            None if !self.is_at_work() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::lane::Lane, *};
    use futures::task::noop_waker;
    use std::future::poll_fn;

    fn compute(time: Duration) {
        let begun = thread_time();
        while thread_time().saturating_sub(begun) < time {}
    }

    #[test]
    fn who_calls_one_that_computes_goes_to_the_lane_and_does_not_pay_for_it() {
        let mut callee = Meter::new(Span(Duration::from_mins(1)));
        let guest = poll_fn(move |_| {
            let (polled, _) = callee.timed(|| {
                compute(2 * LONG);
                Poll::Pending
            });
            polled
        });
        let lane = Lane::without_threads(1);
        let mut caller = Running::new(Box::pin(guest), Span(LONG), &lane.line());
        assert!(!caller.advance(&mut Context::from_waker(&noop_waker())), "what its callee computes is the callee's");
        assert!(caller.is_on_lane(), "the thread was kept all the same");
    }
}
