//! A guest at work: polled where its request is, its computing time counted between polls.

use super::fault::Fault;
use crate::config::Span;
use http::Response;
use std::{
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
pub(super) type Guest = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// A guest at work, its computing time and how it ended.
pub(super) struct Running {
    guest: Option<Guest>,
    outcome: Option<Result<(), Fault>>,
    computed: Duration,
    cpu: Span,
}

impl Running {
    pub(super) fn new(guest: Guest, cpu: Span) -> Self {
        Self { guest: Some(guest), outcome: None, computed: Duration::ZERO, cpu }
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

    /// Puts back what was taken, for whoever waits for the end next.
    pub(super) fn with_outcome(mut self, outcome: Option<Result<(), Fault>>) -> Self {
        self.outcome = outcome;
        self
    }

    /// Polls the guest once. A poll lasts a tick at most where the guest computes, so that the time can be counted between.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(guest) = &mut self.guest else {
            return false;
        };
        let begun = Instant::now();
        let polled = guest.as_mut().poll(cx);
        self.computed += begun.elapsed();
        self.outcome = match polled {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending if self.computed > self.cpu.0 => Some(Err(Fault::Cpu(self.cpu))),
            Poll::Pending => return false,
        };
        self.guest = None;
        true
    }
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
