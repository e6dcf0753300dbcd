//! Calls of a function of another service, on the side of the caller: which revision gets one, and what comes of it.
//!
//! Caller and callee keep stores of their own; values are copied between them.

use super::{
    budget::{Account, MemoryClaim},
    callee::{Visit, admitted},
    fault::Fault,
    links::Links,
    loader::Reject,
    revision::Revision,
    store::HostState,
    value_size::held,
};
use crate::{
    capabilities::{Due, Errand, Tangle},
    config::{Grants, ServiceName},
    telemetry::{CallMetrics, CallResult, Limit, ServiceMetrics},
};
use futures::future::BoxFuture;
use std::{
    pin::pin,
    sync::{Arc, OnceLock, Weak},
    time::Instant,
};
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;
use wasmtime::component::{Linker, Val};

/// Calls of functions that one instance may have under way.
const CALLS_MAX: usize = 32;
/// Bytes of values up to which a call is not worth being counted.
const LITTLE: u64 = 4 << 10;
/// How often the parameters of a call are held at once: by the caller's store alone, or with a task of its own and the callee's store.
const COPIES: u64 = 3;

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
    /// `interface#function`.
    whole: Arc<str>,
    is_async: bool,
    /// Which of the services that are granted had it at the first call: whose call it is where none has it any more.
    had: OnceLock<usize>,
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
    /// The callee had not returned when its caller's time was over.
    Late,
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
    account: Arc<Account>,
    under_way: Arc<()>,
}

impl HostState {
    fn caller(&mut self) -> Caller {
        let Self { calls: TypedCalls { peers, errand, under_way }, outbound, memory, .. } = self;
        let errand = errand.get_or_insert_with(|| Arc::new(outbound.errand().onward(&peers.service)));
        let account = memory.account().clone();
        Caller { peers: peers.clone(), errand: errand.clone(), account, under_way: under_way.clone() }
    }
}

/// Puts a call of another service behind every function that `links` imports.
pub(super) fn add_calls(linker: &mut Linker<HostState>, links: &Links) -> wasmtime::Result<()> {
    for (interface, functions) in &links.imports {
        let mut instance = linker.instance(interface)?;
        for (function, signature) in functions {
            let is_async = signature.is_async;
            let whole = format!("{interface}#{function}").into();
            let import = Arc::new(Import {
                interface: interface.clone(),
                function: function.clone(),
                whole,
                is_async,
                had: OnceLock::new(),
            });
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

/// A call on the side of its provider, where its caller may leave before it has ended: then it is counted when this is dropped.
struct Stay<'a> {
    caller: &'a Caller,
    import: &'a Import,
    revision: &'a Revision,
    /// Whom the callee itself waits for.
    due: Option<Arc<Due>>,
    begun: Instant,
    has_ended: bool,
}

impl Stay<'_> {
    /// Counts and tells how it ended.
    fn ended(mut self, fault: Option<&Fault>) {
        self.has_ended = true;
        self.revision.metrics().called(fault.and_then(Fault::kind));
        if let Some(fault) = fault {
            self.tell(fault, "a call of another service failed");
        }
    }

    fn tell(&self, fault: &Fault, message: &str) {
        warn!(
            target: "hotbay::calls",
            service = %self.revision.service(),
            revision = self.revision.metrics().revision(),
            caller = %self.caller.peers.service,
            request_id = self.caller.errand.request_id,
            function = %self.import.whole,
            reason = %fault,
            "{message}"
        );
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // Its caller's deadline began earlier and may be no longer than its own; a client that leaves says nothing of the callee.
        let deadline = self.revision.settings().limits.deadline;
        let is_late = self.caller.errand.due.as_ref().is_some_and(|due| due.is_over()) && self.begun.elapsed() >= deadline.0 / 2;
        let fault = is_late.then(|| Fault::overdue(deadline, self.due.as_deref()));
        self.revision.metrics().called(fault.as_ref().and_then(Fault::kind));
        if let Some(fault) = fault {
            self.tell(&fault, "a call of another service had not ended when its caller's time was over");
        }
    }
}

impl Caller {
    /// Nobody has a good revision that exports the interface.
    fn without_provider(&self, import: &Import) -> CallError {
        let granted = &self.peers.granted;
        let known = match granted.as_slice() {
            [only] => Some(only),
            several => import.had.get().and_then(|place| several.get(*place)),
        };
        let provider = match known {
            Some(peer) => {
                peer.metrics.ended(CallResult::Refused);
                peer.service.to_string()
            }
            // Before the first call nobody knows whose it would have been.
            None => granted.iter().map(|peer| peer.service.as_str()).collect::<Vec<_>>().join(", "),
        };
        let Unanswered { reason, failure } = Unanswered::now("it has no good revision that exports the interface");
        warn!(
            target: "hotbay::calls",
            service = provider,
            caller = %self.peers.service,
            request_id = self.errand.request_id,
            function = %import.whole,
            reason,
            "a call of another service was refused"
        );
        CallError { provider, function: import.whole.to_string(), reason, failure }
    }

    async fn call(&self, import: &Import, params: &[Val], results: &mut [Val]) -> Result<(), CallError> {
        let Self { peers, errand, .. } = self;
        let providers = peers.providers.upgrade();
        let error = |provider: &str, Unanswered { reason, failure }| CallError {
            provider: provider.to_owned(),
            function: import.whole.to_string(),
            reason,
            failure,
        };
        // The first that is listed: whoever comes later changes nothing by the order in which the files are placed.
        let found = peers.granted.iter().enumerate().find_map(|(place, peer)| {
            let revision = providers.as_ref()?.provider(&peer.service)?;
            revision.exports(&import.interface).then_some((place, peer, revision))
        });
        let Some((place, peer, revision)) = found else {
            return Err(self.without_provider(import));
        };
        import.had.get_or_init(|| place);
        let mut tally = Tally { metrics: &peer.metrics, result: CallResult::Abandoned };
        let due = self.errand.due.as_ref();
        let _awaited = due.map(|due| due.awaits(peer.service.clone(), import.whole.clone()));
        let Some(callable) = revision.callable(&import.interface, &import.function) else {
            // Its types were compared when it was published.
            tally.result = CallResult::Failed;
            let fault = Fault::Host(format!("it exports no `{}`", import.whole));
            return Err(error(peer.service.as_str(), fault.into()));
        };
        let copies = if import.is_async || callable.is_async { COPIES } else { 1 };
        let admitted = async {
            // Before it waits: what waits holds its parameters.
            let held = self.hold(params, copies)?;
            Ok::<_, Unanswered>((held, admitted(&revision, errand, providers).await?))
        };
        let (_held, lease) = match admitted.await {
            Ok(admitted) => admitted,
            Err(refused) => {
                tally.result = CallResult::Refused;
                return Err(error(peer.service.as_str(), refused));
            }
        };
        let visit = Visit::new(revision.clone(), callable, errand.clone(), lease);
        let due = visit.due.clone();
        let visit = pin!(visit.pay(import.is_async, params, results));
        // Dropped before the visit, whose own calls tell who is at fault.
        let stay = Stay { caller: self, import, revision: &revision, due, begun: Instant::now(), has_ended: false };
        let outcome = visit.await;
        stay.ended(outcome.as_ref().err());
        tally.result = if outcome.is_ok() { CallResult::Answered } else { CallResult::Failed };
        // What holds the results is given back once they are with the caller.
        outcome.map(drop).map_err(|fault| error(peer.service.as_str(), fault.into()))
    }

    /// Room for one more call with these parameters, on the caller's side.
    fn hold(&self, params: &[Val], copies: u64) -> Result<Option<MemoryClaim>, Unanswered> {
        // The instance's own and this one's are among them.
        if Arc::strong_count(&self.under_way) > CALLS_MAX + 1 {
            return Err(Unanswered::now(format!(
                "the instance of `{}` that calls has {CALLS_MAX} calls of functions under way, which is the most",
                self.peers.service
            )));
        }
        claim(&self.account, held(params).saturating_mul(copies)).map_err(|limit| {
            let (caller, limit) = (&self.peers.service, limit.setting());
            Unanswered::now(format!("the host is at its limit, and `{caller}`, which calls, has its part of it ({limit})"))
        })
    }
}

/// Counts what a call holds of the host's memory for a service, where it is worth it.
pub(super) fn claim(account: &Arc<Account>, bytes: u64) -> Result<Option<MemoryClaim>, Limit> {
    (bytes > LITTLE).then(|| account.memory(bytes)).transpose()
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
            // Whoever is late here is so because of its own callee.
            Fault::Callee(CallError { failure: CallFailure::Late, .. }) => CallFailure::Failed,
            Fault::Callee(error) => error.failure,
            _ => CallFailure::Failed,
        };
        Self { reason, failure }
    }
}

#[cfg(test)]
mod tests;
