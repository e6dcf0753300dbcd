//! Calls of a function of another service: which revision gets one, who pays for it, and how it ends.
//!
//! Caller and callee keep stores of their own; values are copied between them. A guest without the component model's async support
//! is polled where its caller is, on its caller's turns. One with it gets a task of its own: wasmtime panics where one event loop
//! polls another.

use super::{
    budget::RequestClaim,
    fault::Fault,
    links::Links,
    loader::Reject,
    revision::Revision,
    running::{Meter, Running},
    store::HostState,
};
use crate::{
    capabilities::{Errand, Tangle},
    config::{Grants, ServiceName},
    telemetry::{CallMetrics, CallResult, ServiceMetrics},
};
use futures::future::BoxFuture;
use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Weak},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use wasmtime::component::{ComponentExportIndex, Linker, Val};

/// Who knows the services at this moment.
pub trait Providers: Send + Sync {
    /// The revision of `service` that gets new calls.
    fn provider(&self, service: &ServiceName) -> Option<Arc<Revision>>;

    /// A permit of a revision that has none free: after a wait in its queue.
    ///
    /// The error says which limit refused it.
    fn queue(&self, revision: Arc<Revision>) -> BoxFuture<'static, Result<OwnedSemaphorePermit, &'static str>>;

    /// How many calls may be one behind the other.
    fn depth(&self) -> u32;

    /// Whether all that `links` imports is there, granted and of the same types.
    ///
    /// # Errors
    /// What is not, and what to do.
    fn check_imports(&self, links: &Arc<Links>) -> Result<(), Reject>;
}

/// A function of a provider; looked up once a revision.
pub(crate) struct Callable {
    pub(super) index: ComponentExportIndex,
    /// Whether its guest has an event loop, and with it a task of its own.
    pub(super) is_async: bool,
}

/// The function that an import stands for.
struct Import {
    interface: String,
    function: String,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.interface, self.function)
    }
}

/// Why a call of another service did not return. The words are the host's, with the guest's own trap among them: for the log and
/// for `--dev`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the call of `{function}` of the service `{provider}` failed: {reason}")]
pub struct CallError {
    /// The service that was called, or those that could have been.
    pub provider: String,
    /// `interface#function`.
    pub function: String,
    /// Why.
    pub reason: String,
    /// What its client is told.
    pub failure: CallFailure,
}

/// The kinds of failures of a call.
#[derive(Debug, Clone)]
pub enum CallFailure {
    /// The same call may well succeed in a moment.
    Unavailable,
    /// The services would wait for each other.
    Tangled(Tangle),
    /// The callee failed.
    Failed,
}

/// What a revision's guests may call.
pub(crate) struct Peers {
    pub(super) service: ServiceName,
    granted: Vec<Peer>,
    providers: Weak<dyn Providers>,
}

/// A service that may be called, whether it is there or not.
struct Peer {
    service: ServiceName,
    metrics: Arc<CallMetrics>,
}

impl Peers {
    pub(super) fn new(service: ServiceName, grants: &Grants, metrics: &ServiceMetrics, providers: Weak<dyn Providers>) -> Self {
        let peer = |service: &ServiceName| Peer { service: service.clone(), metrics: metrics.calls_to(service.as_str()) };
        Self { service, granted: grants.calls().iter().map(peer).collect(), providers }
    }
}

/// The calling side of one instance.
pub(crate) struct TypedCalls {
    peers: Arc<Peers>,
    /// What calls take along. Made at the first call of a request: most requests make none.
    errand: Option<Arc<Errand>>,
}

impl TypedCalls {
    pub(super) fn new(peers: Arc<Peers>) -> Self {
        Self { peers, errand: None }
    }

    /// A new request, or a new call, begins.
    pub(super) fn begin(&mut self) {
        self.errand = None;
    }
}

impl HostState {
    /// Who calls, and on whose behalf.
    fn caller(&mut self) -> (Arc<Peers>, Arc<Errand>) {
        let Self { calls: TypedCalls { peers, errand }, outbound, .. } = self;
        let errand = errand.get_or_insert_with(|| Arc::new(outbound.errand().onward(&peers.service)));
        (peers.clone(), errand.clone())
    }
}

/// Puts a call of another service behind every function that `links` imports.
pub(super) fn add_calls(linker: &mut Linker<HostState>, links: &Links) -> wasmtime::Result<()> {
    for (interface, functions) in &links.imports {
        let mut instance = linker.instance(interface)?;
        for (function, signature) in functions {
            let import = Arc::new(Import { interface: interface.clone(), function: function.clone() });
            if signature.is_async {
                instance.func_new_concurrent(function, move |accessor, _, params, results| {
                    let import = import.clone();
                    Box::pin(async move {
                        let (peers, errand) = accessor.with(|mut access| access.data_mut().caller());
                        // The caller's event loop polls this, and the callee may have one too.
                        let (params, mut returned) = (params.to_vec(), results.to_vec());
                        let call = async move {
                            peers.call(&import, &errand, &params, &mut returned).await?;
                            wasmtime::Result::<_>::Ok(returned)
                        };
                        assign(results, apart(call).await?);
                        Ok(())
                    })
                })?;
            } else {
                instance.func_new_async(function, move |mut store, _, params, results| {
                    let import = import.clone();
                    Box::new(async move {
                        let (peers, errand) = store.data_mut().caller();
                        Ok(peers.call(&import, &errand, params, results).await?)
                    })
                })?;
            }
        }
    }
    Ok(())
}

/// Both are as long as the function has results.
fn assign(results: &mut [Val], returned: Vec<Val>) {
    for (place, value) in results.iter_mut().zip(returned) {
        *place = value;
    }
}

/// Runs `call` in a task of its own, which ends with whoever waits for it.
async fn apart<T: Send + 'static, E: From<Stopped> + Send + 'static>(
    call: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
    AbortOnDropHandle::new(tokio::spawn(call)).await.unwrap_or_else(|error| Err(Stopped(error.to_string()).into()))
}

/// A task of the host that panicked.
#[derive(Debug, thiserror::Error)]
#[error("the host failed: {0}")]
struct Stopped(String);

impl From<Stopped> for Fault {
    fn from(stopped: Stopped) -> Self {
        Self::Host(stopped.0)
    }
}

/// One call; counted when it is dropped.
struct Tally<'a> {
    metrics: &'a CallMetrics,
    result: CallResult,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.metrics.ended(self.result);
    }
}

impl Peers {
    async fn call(&self, import: &Import, errand: &Arc<Errand>, params: &[Val], results: &mut [Val]) -> Result<(), CallError> {
        let providers = self.providers.upgrade();
        let error = |provider: &str, Unanswered { reason, failure }| CallError {
            provider: provider.to_owned(),
            function: import.to_string(),
            reason,
            failure,
        };
        // The first that is listed: whoever comes later changes nothing by the order in which the files are placed.
        let found = self.granted.iter().find_map(|peer| {
            let revision = providers.as_ref()?.provider(&peer.service)?;
            revision.exports(&import.interface).then_some((peer, revision))
        });
        let Some((peer, revision)) = found else {
            // Whose call it would have been is known only where there is one.
            if let [only] = self.granted.as_slice() {
                only.metrics.ended(CallResult::Refused);
            }
            let names = self.granted.iter().map(|peer| peer.service.as_str()).collect::<Vec<_>>().join(", ");
            return Err(error(&names, Unanswered::now("it has no good revision that exports the interface")));
        };
        let mut tally = Tally { metrics: &peer.metrics, result: CallResult::Abandoned };
        let outcome = match admitted(&revision, errand, providers).await {
            Ok(_lease) => run(revision.clone(), import, errand, params, results).await,
            Err(refused) => {
                tally.result = CallResult::Refused;
                return Err(error(peer.service.as_str(), refused));
            }
        };
        let metrics = revision.metrics();
        let Err(fault) = outcome else {
            tally.result = CallResult::Answered;
            metrics.called(None);
            return Ok(());
        };
        tally.result = CallResult::Failed;
        metrics.called(fault.kind());
        warn!(
            target: "hotbay::calls",
            service = %peer.service,
            revision = metrics.revision(),
            caller = %self.service,
            request_id = errand.request_id,
            function = %import,
            reason = %fault,
            "a call of another service failed"
        );
        Err(error(peer.service.as_str(), fault.into()))
    }
}

/// Why there is no answer, whoever was asked for what.
struct Unanswered {
    reason: String,
    failure: CallFailure,
}

impl Unanswered {
    /// In a moment it may be different.
    fn now(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), failure: CallFailure::Unavailable }
    }
}

impl From<Tangle> for Unanswered {
    fn from(tangle: Tangle) -> Self {
        Self { reason: tangle.to_string(), failure: CallFailure::Tangled(tangle) }
    }
}

/// A fault in the words of a call, which has no response.
impl From<Fault> for Unanswered {
    fn from(fault: Fault) -> Self {
        let reason = match &fault {
            Fault::Deadline(limit) => format!("it did not return within {limit} (limits.deadline)"),
            fault => fault.brief(),
        };
        let failure = match fault {
            Fault::Full(_) | Fault::Retired => CallFailure::Unavailable,
            Fault::Callee(error) => error.failure,
            _ => CallFailure::Failed,
        };
        Self { reason, failure }
    }
}

/// Room for one more call of `revision`, which is a request like any other: counted while it waits, and with a permit.
async fn admitted(
    revision: &Arc<Revision>,
    errand: &Errand,
    providers: Option<Arc<dyn Providers>>,
) -> Result<(RequestClaim, OwnedSemaphorePermit), Unanswered> {
    let Some(providers) = providers else { return Err(Unanswered::now("the host ends")) };
    if let Some(chain) = &errand.chain {
        chain.may_call(revision.service(), providers.depth())?;
    }
    let claim = revision.account().request().map_err(Fault::Full)?;
    let permit = match revision.permits().clone().try_acquire_owned() {
        Ok(permit) => permit,
        Err(_) => providers.queue(revision.clone()).await.map_err(Unanswered::now)?,
    };
    Ok((claim, permit))
}

/// One call on `revision`, which it holds until it has ended: by itself or at a limit.
async fn run(
    revision: Arc<Revision>,
    import: &Import,
    errand: &Arc<Errand>,
    params: &[Val],
    results: &mut [Val],
) -> Result<(), Fault> {
    let Some(callable) = revision.callable(&import.interface, &import.function) else {
        // Its types were compared when it was published.
        return Err(Fault::Host(format!("it exports no `{import}`")));
    };
    let cpu = revision.settings().limits.cpu;
    if !callable.is_async {
        let mut meter = Meter::new(cpu);
        let mut call = pin!(on_instance(&revision, &callable, errand, params, results));
        return bounded(&revision, poll_fn(|cx| meter.poll(|| call.as_mut().poll(cx)))).await;
    }
    let (errand, params, mut returned) = (errand.clone(), params.to_vec(), results.to_vec());
    let (sender, receiver) = oneshot::channel();
    let call = async move {
        let of_guest = revision.clone();
        let guest = Box::pin(async move {
            on_instance(&of_guest, &callable, &errand, &params, &mut returned).await?;
            // Whoever waits for it is gone where its deadline was faster.
            let _ = sender.send(returned);
            Ok(())
        });
        bounded(&revision, Running::new(guest, cpu, revision.account().line())).await
    };
    apart(call).await?;
    assign(results, receiver.await.map_err(|_| Fault::Host("a call ended without its results".to_owned()))?);
    Ok(())
}

/// `call`, for no longer than the deadline of `revision` and itself last.
async fn bounded(revision: &Revision, call: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    let deadline = revision.settings().limits.deadline;
    tokio::select! {
        biased;
        outcome = tokio::time::timeout(deadline.0, call) => outcome.unwrap_or(Err(Fault::Deadline(deadline))),
        () = revision.expired().cancelled() => Err(Fault::Retired),
    }
}

async fn on_instance(
    revision: &Arc<Revision>,
    callable: &Callable,
    errand: &Errand,
    params: &[Val],
    results: &mut [Val],
) -> Result<(), Fault> {
    let mut instance = revision.instance().await?;
    instance.store.data_mut().begin_call(errand, revision.settings().limits.deadline.0);
    // An idle instance's tick is long over; without this it would give way once before it began.
    instance.store.set_epoch_deadline(1);
    let Some(function) = instance.guest.get_func(&mut instance.store, callable.index) else {
        return Err(Fault::Host("an exported function is not there".to_owned()));
    };
    let outcome = function.call_async(&mut instance.store, params, results).await;
    // An instance that failed is not used again: it ends here.
    outcome.map_err(|error| revision.fault(&error, &instance.store))?;
    instance.store.data().log.flush();
    revision.give_back(instance);
    Ok(())
}
