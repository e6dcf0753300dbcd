//! A call of a function, on the side of the provider: its room, where its guest is polled, and its end.
//!
//! A guest without the component model's async support is polled where its caller is, on its caller's turns, unless the caller has
//! an event loop. One with it gets a task of its own, since wasmtime panics where one event loop polls another, and since it may go
//! on after it has returned.

use super::{
    budget::{MemoryClaim, RequestClaim},
    fault::Fault,
    instance::Instance,
    revision::Revision,
    running::{Meter, Running},
    typed_call::{Providers, Unanswered, claim},
    value_size::held,
};
use crate::capabilities::{Due, Errand};
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use wasmtime::component::{ComponentExportIndex, Func, Val};

/// A function of a provider; looked up once a revision.
pub(crate) struct Callable {
    pub(super) index: ComponentExportIndex,
    /// Whether its guest has an event loop, and with it a task of its own.
    pub(super) is_async: bool,
}

/// Room for one call of a revision: given back when its guest has ended, and not before.
pub(super) struct Lease {
    _claim: RequestClaim,
    _permit: OwnedSemaphorePermit,
}

/// Room for one more call of `revision`, which is a request like any other: counted while it waits, and with a permit.
pub(super) async fn admitted(
    revision: &Arc<Revision>,
    errand: &Errand,
    providers: Option<Arc<dyn Providers>>,
) -> Result<Lease, Unanswered> {
    let Some(providers) = providers else { return Err(Unanswered::now("the host ends")) };
    if let Some(chain) = &errand.chain {
        chain.may_call(revision.service(), providers.depth())?;
    }
    let claim = revision.account().request().map_err(Fault::Full)?;
    let permit = match revision.permits().clone().try_acquire_owned() {
        Ok(permit) => permit,
        Err(_) => providers.queue(revision.clone()).await.map_err(Unanswered::now)?,
    };
    Ok(Lease { _claim: claim, _permit: permit })
}

/// What counts the memory of values on their way; nothing for a few.
type Held = Option<MemoryClaim>;

/// One call on a revision, which it holds until its guest has ended: by itself or at a limit.
pub(super) struct Visit {
    revision: Arc<Revision>,
    callable: Callable,
    errand: Arc<Errand>,
    /// By when it must have ended, for one that may call others itself.
    pub(super) due: Option<Arc<Due>>,
    lease: Lease,
}

impl Visit {
    pub(super) fn new(revision: Arc<Revision>, callable: Callable, errand: Arc<Errand>, lease: Lease) -> Self {
        let deadline = revision.settings().limits.deadline.0;
        let due = revision.calls_others().then(|| Due::within(deadline, errand.due.clone()));
        Self { revision, callable, errand, due, lease }
    }

    /// Calls the function and gives what counts the results, for as long as they are on their way. Whoever drops this before its end
    /// ends the guest too. `from_async`: the caller has an event loop.
    pub(super) async fn pay(self, from_async: bool, params: &[Val], results: &mut [Val]) -> Result<Held, Fault> {
        if !from_async && !self.callable.is_async {
            let account = self.revision.account().clone();
            self.here(params, results).await?;
            return claim(&account, held(results)).map_err(Fault::Full);
        }
        let (returned, claimed) = self.apart(params.to_vec(), results.len()).await?;
        // Both are as long as the function has results.
        for (place, value) in results.iter_mut().zip(returned) {
            *place = value;
        }
        Ok(claimed)
    }

    async fn here(self, params: &[Val], results: &mut [Val]) -> Result<(), Fault> {
        let Self { revision, callable, errand, due, lease: _lease } = self;
        let mut meter = Meter::new(revision.settings().limits.cpu);
        let mut call = pin!(async {
            let (mut instance, function) = instance(&revision, &callable, &errand, due.clone()).await?;
            let outcome = function.call_async(&mut instance.store, params, results).await;
            ended(&revision, instance, outcome)
        });
        let line = revision.account().line();
        let polled = poll_fn(|cx| {
            let (polled, time) = meter.timed(|| call.as_mut().poll(cx));
            line.computed(time.own);
            polled
        });
        bounded(&revision, due.as_deref(), polled).await
    }

    async fn apart(self, params: Vec<Val>, results: usize) -> Result<(Vec<Val>, Held), Fault> {
        let Self { revision, callable, errand, due, lease } = self;
        let (sender, receiver) = oneshot::channel();
        let request_id = errand.request_id.clone();
        let has_returned = Arc::new(AtomicBool::new(false));
        let guest = Box::pin({
            let (revision, has_returned, due) = (revision.clone(), has_returned.clone(), due.clone());
            async move {
                // Wherever the guest is polled when it is ended, its room goes with it.
                let _lease = lease;
                let (mut instance, function) = instance(&revision, &callable, &errand, due.clone()).await?;
                let account = revision.account().clone();
                let returns = move |returned: Vec<Val>| {
                    has_returned.store(true, Ordering::Relaxed);
                    let claimed = claim(&account, held(&returned)).map_err(Fault::Full);
                    // Whoever waits for it is gone where its deadline was faster.
                    let _ = sender.send(claimed.map(|claimed| (returned, claimed)));
                };
                let outcome = if callable.is_async {
                    call_concurrent(&mut instance, function, &params, results, returns).await
                } else {
                    let mut returned = vec![Val::Bool(false); results];
                    let outcome = function.call_async(&mut instance.store, &params, &mut returned).await;
                    outcome.map(|()| returns(returned))
                };
                ended(&revision, instance, outcome)
            }
        });
        let task = tokio::spawn(async move {
            let cpu = revision.settings().limits.cpu;
            let outcome = bounded(&revision, due.as_deref(), Running::new(guest, cpu, revision.account().line())).await;
            if let Err(fault) = &outcome
                && has_returned.load(Ordering::Relaxed)
            {
                failed_later(&revision, &request_id, fault);
            }
            outcome
        });
        let task = AbortOnDropHandle::new(task);
        match receiver.await {
            Ok(returned) => {
                // What it does from here on is nobody's to wait for.
                task.detach();
                returned
            }
            Err(_) => match task.await {
                Ok(Err(fault)) => Err(fault),
                Ok(Ok(())) => Err(Fault::Host("a call ended without its results".to_owned())),
                Err(error) => Err(Fault::Host(error.to_string())),
            },
        }
    }
}

/// Counts and tells what a guest did after it had returned.
fn failed_later(revision: &Revision, request_id: &str, fault: &Fault) {
    if let Some(kind) = fault.kind() {
        revision.metrics().failed(kind);
    }
    warn!(
        target: "hotbay::calls",
        service = %revision.service(),
        revision = revision.metrics().revision(),
        request_id,
        reason = %fault,
        "a guest failed after its function had returned"
    );
}

/// `call`, for no longer than the deadline of `revision` and itself last.
async fn bounded(revision: &Revision, due: Option<&Due>, call: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    let deadline = revision.settings().limits.deadline;
    tokio::select! {
        biased;
        outcome = tokio::time::timeout(deadline.0, call) => outcome.unwrap_or_else(|_| Err(Fault::overdue(deadline, due))),
        () = revision.expired().cancelled() => Err(Fault::Retired),
    }
}

/// An instance that is ready for the call, and the function in it.
async fn instance(
    revision: &Revision,
    callable: &Callable,
    errand: &Errand,
    due: Option<Arc<Due>>,
) -> Result<(Instance, Func), Fault> {
    let mut instance = revision.instance(|state| state.begin_call(errand, due)).await?;
    // An idle instance's tick is long over; without this it would give way once before it began.
    instance.store.set_epoch_deadline(1);
    match instance.guest.get_func(&mut instance.store, callable.index) {
        Some(function) => Ok((instance, function)),
        None => Err(Fault::Host("an exported function is not there".to_owned())),
    }
}

/// Hands over what the function returns, and lets the guest finish what it does beside: an instance that is at work takes no other
/// call.
async fn call_concurrent(
    instance: &mut Instance,
    function: Func,
    params: &[Val],
    results: usize,
    returns: impl FnOnce(Vec<Val>) + Send,
) -> wasmtime::Result<()> {
    instance
        .store
        .run_concurrent(async |accessor| {
            let mut returned = vec![Val::Bool(false); results];
            function.call_concurrent(accessor, params, &mut returned).await?;
            returns(returned);
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            wasmtime::Result::<()>::Ok(())
        })
        .await?
}

/// An instance that failed is not used again: it ends here.
fn ended(revision: &Arc<Revision>, instance: Instance, outcome: wasmtime::Result<()>) -> Result<(), Fault> {
    if let Err(error) = outcome {
        return Err(revision.failed(error, instance.store));
    }
    instance.store.data().log.flush();
    revision.give_back(instance);
    Ok(())
}
