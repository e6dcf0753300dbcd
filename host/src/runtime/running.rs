//! A guest at work: polled where its request is, its computing time counted between polls.

use super::fault::Fault;
use crate::config::Span;
use http::Response;
use rustix::time::{ClockId, clock_gettime};
use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

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

    /// Polls the guest once. A poll lasts a tick at most where the guest computes, so that the time can be counted between.
    pub(super) fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<Result<T, Fault>>) -> Poll<Result<T, Fault>> {
        let beside = WITHIN.replace(Duration::ZERO);
        let clock = Clock::start(self.computed);
        let polled = poll();
        let elapsed = clock.elapsed();
        let within = WITHIN.replace(beside + elapsed);
        self.computed += elapsed.saturating_sub(within);
        match polled {
            Poll::Pending if self.computed > self.cpu.0 => Poll::Ready(Err(Fault::Cpu(self.cpu))),
            polled => polled,
        }
    }
}

/// A guest at work, its computing time and how it ended.
pub(super) struct Running {
    guest: Option<GuestCall>,
    outcome: Option<Result<(), Fault>>,
    meter: Meter,
}

impl Running {
    pub(super) fn new(guest: GuestCall, cpu: Span) -> Self {
        Self { guest: Some(guest), outcome: None, meter: Meter::new(cpu) }
    }

    /// Whether it would do anything if it were polled.
    pub(super) fn is_at_work(&self) -> bool {
        self.guest.is_some()
    }

    /// Whether its end is known and not yet told.
    pub(super) fn has_ended(&self) -> bool {
        self.outcome.is_some()
    }

    /// How it ended; told once.
    pub(super) fn take_outcome(&mut self) -> Option<Result<(), Fault>> {
        self.outcome.take()
    }

    /// Polls the guest once.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(guest) = &mut self.guest else {
            return false;
        };
        match self.meter.poll(|| guest.as_mut().poll(cx)) {
            Poll::Ready(outcome) => self.outcome = Some(outcome),
            Poll::Pending => return false,
        }
        self.guest = None;
        true
    }
}

/// What a poll is timed by. The wall clock costs next to nothing but counts the time in which the thread did not run; the
/// thread's own clock is a system call and counts only work. Requests that compute little never pay for the second.
enum Clock {
    Wall(Instant),
    Thread(Duration),
}

/// Computing time from which on it is counted exactly.
const EXACT_FROM: Duration = Duration::from_millis(20);

impl Clock {
    fn start(computed: Duration) -> Self {
        if computed < EXACT_FROM { Self::Wall(Instant::now()) } else { Self::Thread(thread_time()) }
    }

    fn elapsed(&self) -> Duration {
        match self {
            Self::Wall(begun) => begun.elapsed(),
            Self::Thread(begun) => thread_time().saturating_sub(*begun),
        }
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
            None if self.guest.is_none() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }
}
