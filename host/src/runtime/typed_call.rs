//! Calls of a function of another service: which revision gets one, who pays for it, and how it ends.
//!
//! Caller and callee keep stores of their own; values are copied between them. A guest without the component model's async support
//! is polled where its caller is. One with it gets a task of its own: wasmtime panics where one event loop polls another.

use super::{fault::Fault, links::Links, loader::Reject, revision::Revision, running::Meter, store::HostState};
use crate::{config::ServiceName, telemetry::CallResult};
use futures::future::BoxFuture;
use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Weak},
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use wasmtime::component::{ComponentExportIndex, Linker, Val};

/// Services that one request may go through, the first one included. Each one that waits for another holds an instance.
const DEPTH_MAX: usize = 8;

/// Who knows the services at this moment.
pub trait Providers: Send + Sync {
    /// The revision of `service` that gets new calls.
    fn provider(&self, service: &ServiceName) -> Option<Arc<Revision>>;

    /// A permit of a revision that has none free: after a wait in its queue.
    ///
    /// The error says which limit refused it.
    fn queue(&self, revision: Arc<Revision>) -> BoxFuture<'static, Result<OwnedSemaphorePermit, &'static str>>;

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
    /// Whether the same call may well succeed in a moment.
    pub is_unavailable: bool,
}

/// Who called whom until now, the newest first.
pub(crate) struct Chain {
    service: ServiceName,
    request_id: Arc<str>,
    depth: usize,
    before: Option<Arc<Self>>,
}

impl Chain {
    fn holds(&self, service: &ServiceName) -> bool {
        self.service == *service || self.before.as_ref().is_some_and(|before| before.holds(service))
    }

    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = &self.before {
            write!(f, "{before} → ")?;
        }
        write!(f, "{}", self.service)
    }
}

/// What a revision's guests may call.
pub(crate) struct Peers {
    pub(super) service: ServiceName,
    pub(super) granted: Vec<ServiceName>,
    pub(super) providers: Weak<dyn Providers>,
}

/// The calling side of one instance.
pub(crate) struct Calls {
    peers: Arc<Peers>,
    /// By whom this instance itself was called.
    before: Option<Arc<Chain>>,
    /// Made at the first call of a request: most requests make none.
    chain: Option<Arc<Chain>>,
}

impl Calls {
    pub(super) fn new(peers: Arc<Peers>) -> Self {
        Self { peers, before: None, chain: None }
    }

    /// A new request, or a new call, begins.
    pub(super) fn begin(&mut self, before: Option<Arc<Chain>>) {
        (self.before, self.chain) = (before, None);
    }
}

impl HostState {
    /// Who calls, and on whose behalf.
    fn caller(&mut self) -> (Arc<Peers>, Arc<Chain>) {
        let Self { calls: Calls { peers, before, chain }, log, .. } = self;
        let chain = chain.get_or_insert_with(|| {
            let request_id = before.as_ref().map_or_else(|| log.request().into(), |before| before.request_id.clone());
            let depth = before.as_ref().map_or(1, |before| before.depth + 1);
            Arc::new(Chain { service: peers.service.clone(), request_id, depth, before: before.clone() })
        });
        (peers.clone(), chain.clone())
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
                        let (peers, chain) = accessor.with(|mut access| access.data_mut().caller());
                        // The caller's event loop polls this, and the callee may have one too.
                        let (params, mut returned) = (params.to_vec(), results.to_vec());
                        let call = async move {
                            peers.call(&import, &chain, &params, &mut returned).await?;
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
                        let (peers, chain) = store.data_mut().caller();
                        Ok(peers.call(&import, &chain, params, results).await?)
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

impl Peers {
    async fn call(&self, import: &Import, chain: &Arc<Chain>, params: &[Val], results: &mut [Val]) -> Result<(), CallError> {
        let providers = self.providers.upgrade();
        let find = |name| {
            let revision = providers.as_ref()?.provider(name)?;
            revision.exports(&import.interface).then_some(revision)
        };
        let error = |provider: &str, reason: String, is_unavailable| CallError {
            provider: provider.to_owned(),
            function: import.to_string(),
            reason,
            is_unavailable,
        };
        // The first that is listed: whoever comes later changes nothing by the order in which the files are placed.
        let Some(revision) = self.granted.iter().find_map(find) else {
            let names = self.granted.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ");
            return Err(error(&names, "it has no good revision that exports the interface".to_owned(), true));
        };
        let callee = revision.service().clone();
        let refused = match revision.admissible(chain) {
            Ok(()) => match (revision.permits().clone().try_acquire_owned(), &providers) {
                (Ok(permit), _) => Ok(permit),
                (Err(_), Some(providers)) => providers.queue(revision.clone()).await.map_err(str::to_owned),
                (Err(_), None) => Err("the host ends".to_owned()),
            },
            Err(reason) => {
                revision.metrics().called(CallResult::Refused, None);
                return Err(error(callee.as_str(), reason, false));
            }
        };
        drop(providers);
        let _permit = refused.map_err(|reason| {
            revision.metrics().called(CallResult::Refused, None);
            error(callee.as_str(), reason, true)
        })?;
        let metrics = revision.metrics().clone();
        let outcome = run(revision, import, chain, params, results).await;
        let Err(fault) = outcome else {
            metrics.called(CallResult::Answered, None);
            return Ok(());
        };
        metrics.called(CallResult::Failed, fault.kind());
        warn!(
            target: "hotbay::call",
            service = %callee,
            revision = metrics.revision(),
            caller = %self.service,
            request_id = chain.request_id(),
            function = %import,
            reason = %fault,
            "a call of another service failed"
        );
        Err(error(callee.as_str(), told(&fault), is_unavailable(&fault)))
    }
}

/// The fault in the words of a call, which has no response.
fn told(fault: &Fault) -> String {
    match fault {
        Fault::Deadline(limit) => format!("it did not return within {limit} (limits.deadline)"),
        fault => fault.brief(),
    }
}

fn is_unavailable(fault: &Fault) -> bool {
    match fault {
        Fault::PoolExhausted | Fault::Retired => true,
        Fault::Callee(error) => error.is_unavailable,
        _ => false,
    }
}

/// One call on `revision`, which it holds until it has ended: by itself or at a limit.
async fn run(
    revision: Arc<Revision>,
    import: &Import,
    chain: &Arc<Chain>,
    params: &[Val],
    results: &mut [Val],
) -> Result<(), Fault> {
    let Some(callable) = revision.callable(&import.interface, &import.function) else {
        // Its types were compared when it was published.
        return Err(Fault::Host(format!("it exports no `{import}`")));
    };
    if !callable.is_async {
        return bounded(&revision, &callable, chain, params, results).await;
    }
    let (chain, params, mut returned) = (chain.clone(), params.to_vec(), results.to_vec());
    let call = async move {
        bounded(&revision, &callable, &chain, &params, &mut returned).await?;
        Ok::<_, Fault>(returned)
    };
    assign(results, apart(call).await?);
    Ok(())
}

async fn bounded(
    revision: &Arc<Revision>,
    callable: &Callable,
    chain: &Arc<Chain>,
    params: &[Val],
    results: &mut [Val],
) -> Result<(), Fault> {
    let limits = &revision.settings().limits;
    let mut meter = Meter::new(limits.cpu);
    let mut call = pin!(on_instance(revision, callable, chain, params, results));
    let metered = poll_fn(|cx| meter.poll(|| call.as_mut().poll(cx)));
    tokio::select! {
        biased;
        outcome = tokio::time::timeout(limits.deadline.0, metered) => outcome.unwrap_or(Err(Fault::Deadline(limits.deadline))),
        () = revision.expired().cancelled() => Err(Fault::Retired),
    }
}

async fn on_instance(
    revision: &Arc<Revision>,
    callable: &Callable,
    chain: &Arc<Chain>,
    params: &[Val],
    results: &mut [Val],
) -> Result<(), Fault> {
    let mut instance = revision.instance().await?;
    instance.store.data_mut().begin_call(chain);
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

impl Revision {
    /// Whether `chain` may go on with a call of it.
    fn admissible(&self, chain: &Chain) -> Result<(), String> {
        if chain.holds(self.service()) {
            return Err(format!("it would close a circle: {chain} → {}", self.service()));
        }
        if chain.depth >= DEPTH_MAX {
            return Err(format!("a request may go through {DEPTH_MAX} services: {chain} → {}", self.service()));
        }
        Ok(())
    }
}
