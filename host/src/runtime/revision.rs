//! One immutable loaded build of a service, from its linking to its end.

use super::{
    budget::Account,
    callee::Callable,
    coredump::CoreDumps,
    digest::Digest,
    engine::{Flavour, slots},
    fault::{Fault, quoted, shown},
    granted::{Granted, Sources},
    instance::{IdleInstances, Instance},
    lifecycle::LifecycleIndex,
    linker::{Assembly, Kind, Linked},
    links::{Interface, Links},
    running::Running,
    stdio::GuestSink,
    store::{Common, HostState, new_store},
    typed_call::{Peers, Providers},
};
use crate::{
    capabilities::Secrets,
    config::{InstancePolicy, ServiceName, Settings},
    telemetry::{GuestLines, Metrics, RevisionMetrics, Vitals},
};
use futures::future::join_all;
use http::HeaderValue;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime::{
    Engine, Store,
    component::{Component, ComponentExportIndex, InstancePre},
};

static SERIALS: AtomicU64 = AtomicU64::new(1);

/// One immutable loaded build: digest, code ready to be instantiated, settings.
///
/// Requests hold it by `Arc`. When the last of them lets go, [`Drain`] is told.
pub struct Revision {
    service: ServiceName,
    digest: Digest,
    serial: u64,
    kind: Kind,
    settings: Settings,
    header: HeaderValue,
    pub(super) code: Arc<Code>,
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicU32>,
    sink: Arc<GuestSink>,
    granted: Arc<Granted>,
    account: Arc<Account>,
    links: Arc<Links>,
    peers: Arc<Peers>,
    /// Where traps are written down.
    coredumps: Option<Arc<CoreDumps>>,
    expired: CancellationToken,
    /// Cancels [`Drain::idle`] when the revision is dropped.
    _gone: DropGuard,
}

/// Who is told what revisions and their guests do.
#[derive(Clone)]
pub struct Observers {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the lines of guests go.
    pub lines: GuestLines,
}

/// What the host has for all revisions.
pub(crate) struct Surroundings {
    pub(super) observers: Observers,
    pub(super) sources: Sources,
    pub(super) providers: Weak<dyn Providers>,
    pub(super) coredumps: Option<Arc<CoreDumps>>,
}

/// The part of a revision whose end costs time: machine code and idle instances.
pub(super) struct Code {
    pub(super) engine: Engine,
    /// Held so that the next revision of the same build finds it, too.
    pub(super) component: Arc<Component>,
    pub(super) linked: Linked,
    pub(super) lifecycle: Option<LifecycleIndex>,
    /// Whether its guests have an event loop of their own.
    is_async: bool,
    /// Places of the pool that each instance takes.
    slots: u64,
    /// Whether its calls carry more than those of `wasi:http`.
    carries_more: bool,
    /// Functions that other services may call, by interface and name.
    exports: HashMap<String, HashMap<String, ComponentExportIndex>>,
    pub(super) idle: Option<IdleInstances>,
}

/// What is left to do for a revision that gets no new requests.
pub struct Drain {
    idle: CancellationToken,
    expired: CancellationToken,
    code: Arc<Code>,
}

impl Revision {
    pub(crate) fn new(
        service: ServiceName,
        digest: Digest,
        (settings, secrets): (Settings, Secrets),
        component: &Arc<Component>,
        Assembly { kind, linked, links, flavour }: Assembly,
        surroundings: &Surroundings,
        account: Arc<Account>,
    ) -> (Arc<Self>, Drain) {
        let Surroundings { observers, sources, providers, coredumps } = surroundings;
        let kept = Arc::new(AtomicUsize::new(0));
        let idle = match settings.instances {
            InstancePolicy::Reuse(bounds) => Some(IdleInstances::new(bounds, kept.clone())),
            InstancePolicy::Fresh => None,
        };
        let code = Arc::new(Code {
            engine: component.engine().clone(),
            component: component.clone(),
            linked,
            lifecycle: LifecycleIndex::of(component),
            is_async: flavour == Flavour::Async,
            slots: slots(component),
            carries_more: !(settings.grants.keyvalue().is_empty() && links.imports.is_empty() && links.exports.is_empty()),
            exports: exports(component, &links),
            idle,
        });
        let (gone, expired) = (CancellationToken::new(), CancellationToken::new());
        if code.idle.is_some() {
            tokio::spawn(shrink(Arc::downgrade(&code), gone.clone()));
        }
        let drained = Drain { idle: gone.clone(), expired: expired.clone(), code: code.clone() };
        let short = digest.short();
        let concurrency = settings.limits.concurrency.as_usize();
        let (permits, waiting) = (Arc::new(Semaphore::new(concurrency)), Arc::new(AtomicU32::new(0)));
        let vitals = Vitals { permits: permits.clone(), concurrency, waiting: waiting.clone(), idle: kept, gone: gone.clone() };
        let metrics = observers.metrics.revision(service.as_str(), &short, vitals);
        let counted = metrics.service();
        let granted = Granted::new(&service, &settings.grants, secrets, counted, sources);
        let peers = Arc::new(Peers::new(service.clone(), &settings.grants, counted, providers.clone()));
        let revision = Self {
            permits,
            granted,
            links,
            peers,
            coredumps: coredumps.clone(),
            sink: Arc::new(GuestSink { metrics, lines: observers.lines.clone(), share: account.log().clone() }),
            // Hex digits are always a header value.
            header: HeaderValue::from_str(&short).unwrap_or(HeaderValue::from_static("")),
            service,
            digest,
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            kind,
            settings,
            code,
            waiting,
            account,
            expired,
            _gone: gone.drop_guard(),
        };
        (Arc::new(revision), drained)
    }

    /// The service it belongs to.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The digest of its build.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its number among all that this process has loaded: the same build with other settings has another one.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// How it is served.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What its instances have in common, and those of no other revision.
    pub(super) fn granted(&self) -> &Arc<Granted> {
        &self.granted
    }

    /// The secrets that it was granted, as they were then.
    pub(crate) fn secrets(&self) -> &Secrets {
        self.granted.secrets()
    }

    /// `x-hotbay-revision`.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// One permit a request that runs.
    pub(crate) fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    /// How many requests wait for a permit.
    pub(crate) fn waiting(&self) -> &AtomicU32 {
        &self.waiting
    }

    /// What is counted of it.
    pub(crate) fn metrics(&self) -> &Arc<RevisionMetrics> {
        &self.sink.metrics
    }

    /// What its service has of what all share.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Which interfaces of services it imports and exports.
    pub(crate) fn links(&self) -> &Arc<Links> {
        &self.links
    }

    /// Whether it is granted calls of other services.
    pub(super) fn calls_others(&self) -> bool {
        !self.settings.grants.calls().is_empty()
    }

    /// Whether other services may call functions of this interface.
    pub(super) fn exports(&self, interface: &str) -> bool {
        self.code.exports.contains_key(interface)
    }

    /// A function that other services may call.
    pub(super) fn callable(&self, interface: &str, function: &str) -> Option<Callable> {
        let index = *self.code.exports.get(interface)?.get(function)?;
        Some(Callable { index, is_async: self.code.is_async })
    }

    /// Ends everything that still runs on this revision.
    pub(crate) fn expired(&self) -> &CancellationToken {
        &self.expired
    }

    /// A store with this revision's limits.
    pub(super) fn store(&self) -> Result<Store<HostState>, Fault> {
        new_store(self.common(), |_| {})
    }

    /// What its instances have in common.
    pub(super) fn common(&self) -> Common<'_> {
        let Self { code, settings, sink, account, granted, peers, .. } = self;
        let Code { engine, slots, carries_more, .. } = &**code;
        Common { engine, limits: &settings.limits, sink, account, granted, peers, slots: *slots, carries_more: *carries_more }
    }

    /// A fresh instance, in a store of its own.
    async fn instantiate(&self, mut store: Store<HostState>) -> Result<Instance, Fault> {
        let instantiate = async |store: &mut Store<HostState>| {
            let instance = self.code.linked.pre().instantiate_async(&mut *store).await?;
            let proxy = match &self.code.linked {
                Linked::Http(_, export) => Some(export.bind(store, &instance)?),
                _ => None,
            };
            let lifecycle = self.code.lifecycle.map(|index| index.bind(store, &instance)).transpose()?;
            wasmtime::Result::<_>::Ok((instance, proxy, lifecycle))
        };
        match instantiate(&mut store).await {
            Ok((guest, proxy, lifecycle)) => Ok(Instance::new(store, guest, proxy, lifecycle)),
            Err(error) => Err(self.failed(error, store)),
        }
    }

    /// An instance for one request, which `begin` hands to it: an idle one, or a new one that was started if it will be kept. What
    /// it does at its start is on behalf of the request already.
    pub(super) async fn instance(&self, begin: impl FnOnce(&mut HostState)) -> Result<Instance, Fault> {
        if let Some(mut idle) = self.code.idle.as_ref().and_then(IdleInstances::take) {
            begin(idle.store.data_mut());
            return Ok(idle);
        }
        let mut store = self.store()?;
        begin(store.data_mut());
        let instance = self.instantiate(store).await?;
        if self.code.idle.is_some() { self.start(instance).await } else { Ok(instance) }
    }

    /// Keeps an instance that served well, where the settings say so; else it ends here.
    pub(super) fn give_back(self: &Arc<Self>, instance: Instance) {
        if let Some(idle) = &self.code.idle
            && let Some(ended) = idle.give_back(instance)
        {
            // Nobody has a reason to wait for that. The permit goes with it: who stops slowly is not given more to stop.
            let (lease, revision) = (self.permits.clone().acquire_owned(), self.clone());
            tokio::spawn(async move {
                let _lease = lease.await;
                ended.end().await;
                drop(revision);
            });
        }
    }

    async fn start(&self, mut instance: Instance) -> Result<Instance, Fault> {
        let Some(lifecycle) = &instance.lifecycle else {
            return Ok(instance);
        };
        match lifecycle.start(&mut instance.store).await {
            Ok(Ok(())) => Ok(instance),
            Ok(Err(words)) => Err(Fault::Refused(format!("from lifecycle.start: {words}"))),
            Err(error) => Err(self.failed(error, instance.store)),
        }
    }

    /// How a guest's call ended that failed. Its instance is not used again; it is written down, where that is asked for.
    pub(super) fn failed(&self, error: wasmtime::Error, store: Store<HostState>) -> Fault {
        let fault = Fault::of(&error, &store, &self.settings.limits);
        if let (Some(dumps), Fault::Trap(_) | Fault::Memory { .. }) = (&self.coredumps, &fault) {
            dumps.write(error, store, self.digest.short(), self.settings.limits.memory.as_usize());
        }
        fault
    }

    /// Instantiates once, as a request would, and starts what has a lifecycle: what fails here is never published.
    ///
    /// Time and computing time are bounded as a request's are, since an instance that is kept starts within one.
    pub(crate) async fn warm(self: &Arc<Self>) -> Result<(), Cold> {
        let limits = &self.settings.limits;
        let store = self.store().map_err(|fault| Cold { fault, output: Vec::new() })?;
        let log = store.data().log.clone();
        let revision = self.clone();
        let (place, started) = oneshot::channel();
        let warming = Box::pin(async move {
            match &revision.code.linked {
                Linked::Http(..) | Linked::Library(_) => revision.warm_kept(store, place).await,
                Linked::Command2(pre) => revision.warm_bare(store, pre.instance_pre()).await,
                Linked::Command3(pre) => revision.warm_bare(store, pre.instance_pre()).await,
            }
        });
        let outcome = match tokio::time::timeout(limits.deadline.0, Running::new(warming, limits.cpu, self.account.line())).await
        {
            Ok(outcome) => outcome,
            Err(_) => Err(Fault::Deadline(limits.deadline)),
        };
        outcome.map_err(|fault| Cold { fault, output: log.tail() })?;
        // How it stops is no part of how it starts. A command leaves nothing here.
        if let Ok(instance) = started.await {
            let ended = match &self.code.idle {
                Some(idle) => idle.keep(instance),
                None => Some(instance),
            };
            if let Some(instance) = ended {
                instance.end().await;
            }
        }
        Ok(())
    }

    async fn warm_kept(&self, store: Store<HostState>, place: oneshot::Sender<Instance>) -> Result<(), Fault> {
        let instance = self.instantiate(store).await?;
        let instance = self.start(instance).await?;
        // Nobody waits for it any more where the deadline was faster.
        let _ = place.send(instance);
        Ok(())
    }

    async fn warm_bare(&self, mut store: Store<HostState>, pre: &InstancePre<HostState>) -> Result<(), Fault> {
        match pre.instantiate_async(&mut store).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(error, store)),
        }
    }
}

/// Why a revision did not warm up, and the last lines that its guest wrote.
pub(crate) struct Cold {
    pub(super) fault: Fault,
    output: Vec<String>,
}

impl fmt::Display for Cold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its instance does not start: ")?;
        match &self.fault {
            // These quote the output themselves, behind the function names.
            fault @ (Fault::Trap(_) | Fault::Memory { .. }) => return fault.fmt(f),
            Fault::Deadline(limit) => write!(f, "it had not started within {limit} (limits.deadline)"),
            Fault::Refused(words) => write!(f, "the guest gave the error {}", shown(words, 1 << 10)),
            fault => fault.fmt(f),
        }?;
        f.write_str(&quoted(&self.output))
    }
}

impl Drain {
    /// Ends the idle instances, in the background, and keeps no more of them.
    pub(crate) fn end_idle(&self) {
        for instance in self.code.idle.iter().flat_map(IdleInstances::close) {
            tokio::spawn(instance.end());
        }
    }

    /// Waits until no request holds the revision, at most for `deadline`, then ends what still runs. Returns whether everything
    /// had finished by itself.
    pub(crate) async fn wait(&self, deadline: Duration) -> bool {
        if tokio::time::timeout(deadline, self.idle.cancelled()).await.is_ok() {
            return true;
        }
        self.expired.cancel();
        // What was ended lets go at its next turn.
        self.idle.cancelled().await;
        false
    }

    /// Ends the idle instances, side by side, and gives the code back, off the async threads.
    pub(crate) async fn retire(self) {
        join_all(self.code.idle.iter().flat_map(IdleInstances::close).map(Instance::end)).await;
        let dropped = tokio::task::spawn_blocking(move || drop(self.code));
        // Dropping cannot panic; if it did, the code is gone all the same.
        let _ = dropped.await;
    }
}

/// The functions of `component` that other services may call.
fn exports(component: &Component, links: &Links) -> HashMap<String, HashMap<String, ComponentExportIndex>> {
    let functions = |(interface, functions): (&String, &Interface)| {
        let index = component.get_export_index(None, interface.as_str())?;
        let of = |name: &String| Some((name.clone(), component.get_export_index(Some(&index), name.as_str())?));
        Some((interface.clone(), functions.keys().filter_map(of).collect()))
    };
    links.exports.iter().filter_map(functions).collect()
}

/// Ends idle instances whose time is over, for as long as the revision lives.
async fn shrink(code: Weak<Code>, gone: CancellationToken) {
    loop {
        let Some(period) = code.upgrade().and_then(|code| Some(code.idle.as_ref()?.period())) else { return };
        tokio::select! {
            () = gone.cancelled() => return,
            () = tokio::time::sleep(period.max(Duration::from_millis(10))) => {}
        }
        let Some(code) = code.upgrade() else { return };
        let expired: Vec<_> = code.idle.iter().flat_map(IdleInstances::expired).collect();
        // Not held while guests stop: whoever retires the code must be the last to let go of it.
        drop(code);
        join_all(expired.into_iter().map(Instance::end)).await;
    }
}

#[cfg(test)]
use {
    super::budget::Budgets,
    crate::config::{BudgetConfig, PoolConfig},
};

#[cfg(test)]
impl Revision {
    /// One that can be published and not be called: number `n` of a service under these settings.
    pub(crate) fn sample(service: &ServiceName, n: u8, settings: &str) -> Arc<Self> {
        let engine = Engine::default();
        let component = Arc::new(Component::new(&engine, b"\0asm\x0d\0\x01\0").unwrap());
        let linked = Linked::Library(wasmtime::component::Linker::new(&engine).instantiate_pre(&component).unwrap());
        let settings = Settings::parse(service, settings).unwrap();
        let assembly = Assembly { kind: Kind::Http02, linked, links: Arc::default(), flavour: Flavour::Sync };
        let network = crate::capabilities::Network::new(crate::config::OutboundConfig::default()).unwrap();
        let reach = crate::capabilities::Reach { network, services: None };
        let surroundings = Surroundings {
            observers: Observers { metrics: Arc::new(Metrics::new().unwrap()), lines: GuestLines::new() },
            sources: Sources { reach, keyvalue: crate::capabilities::KeyValue::in_memory() },
            providers: super::loader::nobody(),
            coredumps: None,
        };
        let pools = (BudgetConfig::default(), PoolConfig::default());
        let account = Budgets::without_threads(&pools.0, &pools.1, &surroundings.observers.metrics).account(service.as_str());
        let made = (settings, Secrets::default());
        Self::new(service.clone(), Digest::of(&[n]), made, &component, assembly, &surroundings, account).0
    }
}
