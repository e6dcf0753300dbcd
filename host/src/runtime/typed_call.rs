//! Calls of a function of another service, on the side of the caller: which revision gets one, and what comes of it.
//!
//! Caller and callee keep stores of their own; values are copied between them.

use super::{
    callee::{Visit, admitted},
    fault::Fault,
    links::Links,
    loader::Reject,
    revision::Revision,
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
    sync::{Arc, Weak},
};
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;
use wasmtime::component::{Linker, Val};

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

/// The function that an import stands for.
struct Import {
    interface: String,
    function: String,
    is_async: bool,
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
    /// One more holds it for each call that is under way.
    under_way: Arc<()>,
}

impl TypedCalls {
    pub(super) fn new(peers: Arc<Peers>) -> Self {
        Self { peers, errand: None, under_way: Arc::default() }
    }

    /// A new request, or a new call, begins.
    pub(super) fn begin(&mut self) {
        self.errand = None;
    }

    /// Whether a call has not ended yet.
    pub(super) fn is_busy(&self) -> bool {
        Arc::strong_count(&self.under_way) > 1
    }
}

/// Who calls, and on whose behalf.
struct Caller {
    peers: Arc<Peers>,
    errand: Arc<Errand>,
    _under_way: Arc<()>,
}

impl HostState {
    fn caller(&mut self) -> Caller {
        let Self { calls: TypedCalls { peers, errand, under_way }, outbound, .. } = self;
        let errand = errand.get_or_insert_with(|| Arc::new(outbound.errand().onward(&peers.service)));
        Caller { peers: peers.clone(), errand: errand.clone(), _under_way: under_way.clone() }
    }
}

/// Puts a call of another service behind every function that `links` imports.
pub(super) fn add_calls(linker: &mut Linker<HostState>, links: &Links) -> wasmtime::Result<()> {
    for (interface, functions) in &links.imports {
        let mut instance = linker.instance(interface)?;
        for (function, signature) in functions {
            let is_async = signature.is_async;
            let import = Arc::new(Import { interface: interface.clone(), function: function.clone(), is_async });
            if is_async {
                instance.func_new_concurrent(function, move |accessor, _, params, results| {
                    let import = import.clone();
                    Box::pin(async move {
                        let caller = accessor.with(|mut access| access.data_mut().caller());
                        Ok(caller.call(&import, params, results).await?)
                    })
                })?;
            } else {
                instance.func_new_async(function, move |mut store, _, params, results| {
                    let import = import.clone();
                    Box::new(async move {
                        let caller = store.data_mut().caller();
                        Ok(caller.call(&import, params, results).await?)
                    })
                })?;
            }
        }
    }
    Ok(())
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

impl Caller {
    async fn call(&self, import: &Import, params: &[Val], results: &mut [Val]) -> Result<(), CallError> {
        let Self { peers, errand, .. } = self;
        let providers = peers.providers.upgrade();
        let error = |provider: &str, Unanswered { reason, failure }| CallError {
            provider: provider.to_owned(),
            function: import.to_string(),
            reason,
            failure,
        };
        // The first that is listed: whoever comes later changes nothing by the order in which the files are placed.
        let found = peers.granted.iter().find_map(|peer| {
            let revision = providers.as_ref()?.provider(&peer.service)?;
            revision.exports(&import.interface).then_some((peer, revision))
        });
        let Some((peer, revision)) = found else {
            // Whose call it would have been is known only where there is one.
            if let [only] = peers.granted.as_slice() {
                only.metrics.ended(CallResult::Refused);
            }
            let names = peers.granted.iter().map(|peer| peer.service.as_str()).collect::<Vec<_>>().join(", ");
            return Err(error(&names, Unanswered::now("it has no good revision that exports the interface")));
        };
        let mut tally = Tally { metrics: &peer.metrics, result: CallResult::Abandoned };
        let outcome = match admitted(&revision, errand, providers).await {
            Ok(lease) => match revision.callable(&import.interface, &import.function) {
                Some(callable) => {
                    let visit = Visit { revision: revision.clone(), callable, errand: errand.clone(), lease };
                    visit.pay(import.is_async, params, results).await
                }
                // Its types were compared when it was published.
                None => Err(Fault::Host(format!("it exports no `{import}`"))),
            },
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
            caller = %peers.service,
            request_id = errand.request_id,
            function = %import,
            reason = %fault,
            "a call of another service failed"
        );
        Err(error(peer.service.as_str(), fault.into()))
    }
}

/// Why there is no answer, whoever was asked for what.
pub(super) struct Unanswered {
    reason: String,
    failure: CallFailure,
}

impl Unanswered {
    /// In a moment it may be different.
    pub(super) fn now(reason: impl Into<String>) -> Self {
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
