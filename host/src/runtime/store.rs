//! What the host keeps for one instance while it lives.

use super::{
    budget::Account,
    call::Call,
    clock::Coarse,
    fault::Fault,
    granted::Granted,
    limiter::MemoryBudget,
    stdio::{GuestLog, GuestSink},
    ticks,
    typed_call::{Peers, TypedCalls},
};
use crate::{
    capabilities::{Due, Errand, KeyValueAccess, KeyValueView, OutboundHttp, Sockets, SocketsView},
    config::{Limits, ServiceName},
};
use std::sync::Arc;
use wasmtime::{Engine, Store, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, sockets::WasiSocketsCtxView};
use wasmtime_wasi_config::WasiConfig;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Handles (streams, bodies, pollables…) that one instance may hold at once.
const RESOURCES_MAX: usize = 512;
/// Handles from which on an instance that is kept counts as one that leaks them, and is renewed instead.
const RESOURCES_LEAKED: usize = RESOURCES_MAX / 2;
/// Handles of the component model itself, those of a guest's own resources and of its tasks and streams included.
const HANDLES_MAX: usize = 16 << 10;
const HANDLES_LEAKED: usize = HANDLES_MAX / 2;
/// Bytes of values that one host call may take from the guest. A host call cannot be interrupted, so this bounds its time too: a
/// write of 64 KiB and a whole head are less, a million handles in a list to be polled are more.
const HOSTCALL_FUEL: usize = 2 << 20;
/// The same for whom the settings grant calls that carry more: batches of `wasi:keyvalue`, functions of other services.
const HOSTCALL_FUEL_GRANTED: usize = 16 << 20;
/// Bytes of one header section that a guest may build. It may build one for each of its handles.
const FIELDS_MAX: usize = 32 << 10;
/// Random bytes that one call may ask for.
const RANDOM_MAX: u64 = 64 << 10;

/// The host's side of one instance: no files, and of the rest what `[grants]` says.
pub(crate) struct HostState {
    pub(super) service: ServiceName,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(super) outbound: OutboundHttp,
    /// Absent where no TCP is granted.
    sockets: Option<Box<Sockets>>,
    keyvalue: KeyValueAccess,
    granted: Arc<Granted>,
    pub(super) memory: MemoryBudget,
    pub(super) log: GuestLog,
    pub(super) calls: TypedCalls,
    /// The tick at which it gave way last, where there are steps between ticks.
    pub(super) tick: u32,
}

impl HostState {
    /// From here on the instance works for this request.
    pub(super) fn begin(&mut self, call: &Call) {
        self.log.begin(&call.errand.request_id);
        call.output.is_of(&self.log);
        self.outbound.begin(&call.errand);
        if let Some(sockets) = &mut self.sockets {
            sockets.begin(&call.errand.request_id, &call.errand.denials);
        }
        self.keyvalue.begin();
        self.memory.begin();
        self.calls.begin();
    }

    /// From here on the instance works for a call of another service, which is due then.
    pub(super) fn begin_call(&mut self, errand: &Errand, due: Option<Arc<Due>>) {
        self.log.begin(&errand.request_id);
        self.outbound.begin(errand);
        self.outbound.is_due(due);
        if let Some(sockets) = &mut self.sockets {
            sockets.begin(&errand.request_id, &errand.denials);
        }
        self.keyvalue.begin();
        self.memory.begin();
        self.calls.begin();
    }

    /// Whether the guest gathers handles that it never drops, those of the component model's tasks and streams included, or left a
    /// call to another host or service under way: no request may go on with what one before it began.
    pub(super) fn leaks(store: &mut Store<Self>) -> bool {
        let state = store.data_mut();
        state.outbound.is_busy()
            || state.calls.is_busy()
            || state.table.iter_mut().nth(RESOURCES_LEAKED).is_some()
            || store.concurrent_resource_table().is_some_and(|table| table.iter_mut().nth(HANDLES_LEAKED).is_some())
    }
}

impl HostState {
    /// Whether it is an instance of the revision that was granted this.
    pub(super) fn is_of(&self, granted: &Arc<Granted>) -> bool {
        Arc::ptr_eq(&self.granted, granted)
    }

    /// The request that it works for.
    pub(super) fn request_id(&self) -> &str {
        self.outbound.request_id()
    }

    /// What `wasi:config` tells the guest.
    pub(super) fn config(&mut self) -> WasiConfig<'_> {
        WasiConfig::from(&self.granted.config)
    }

    /// One setting or secret. What is not there may have been meant to be.
    pub(super) fn setting(&self, key: String) -> Option<String> {
        let value = self.granted.values.get(&key).cloned();
        if value.is_none() {
            self.outbound.denials().add(|| self.granted.unset(&self.service, key));
        }
        value
    }

    /// What `wasi:keyvalue` keeps for it.
    pub(super) fn keyvalue(&mut self) -> KeyValueView<'_> {
        let Self { keyvalue: access, table, memory, outbound, .. } = self;
        KeyValueView { access, table, memory, request_id: outbound.request_id(), denials: outbound.denials() }
    }

    /// What `wasi:sockets` has for the guest.
    pub(super) fn sockets(&mut self) -> SocketsView<'_> {
        let wasi = WasiSocketsCtxView { ctx: self.wasi.sockets(), table: &mut self.table };
        SocketsView { sockets: self.sockets.as_deref_mut(), outbound: &mut self.outbound, wasi }
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: &mut self.table, ctx: &mut self.http }
    }
}

/// What all instances of a revision have in common.
#[derive(Clone, Copy)]
pub(crate) struct Common<'a> {
    pub(super) engine: &'a Engine,
    pub(super) limits: &'a Limits,
    pub(super) sink: &'a Arc<GuestSink>,
    pub(super) account: &'a Arc<Account>,
    pub(super) granted: &'a Arc<Granted>,
    pub(super) peers: &'a Arc<Peers>,
    /// Places of the pool that each takes.
    pub(super) slots: u64,
    /// Whether its calls carry more than those of `wasi:http`.
    pub(super) carries_more: bool,
}

/// A store with its limits in force. `arrange` sets what differs from the bare context: stdin and stdout of a command.
///
/// # Errors
/// Where the host has no room for one more instance of this service.
pub(crate) fn new_store(
    Common { engine, limits, sink, account, granted, peers, slots, carries_more }: Common<'_>,
    arrange: impl FnOnce(&mut WasiCtxBuilder),
) -> Result<Store<HostState>, Fault> {
    let claim = account.instance(slots).map_err(Fault::Full)?;
    let log = GuestLog::new(sink.clone());
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(log.stdout())
        .stderr(log.stderr())
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(RANDOM_MAX)
        .wall_clock(Coarse)
        .monotonic_clock(Coarse)
        .envs(&granted.environment);
    let sockets = Sockets::granted(&granted.outbound);
    if let Some(sockets) = &sockets {
        sockets.open(&mut wasi);
    }
    arrange(&mut wasi);
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES_MAX);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(FIELDS_MAX);
    let state = HostState {
        service: peers.service.clone(),
        table,
        wasi: wasi.build(),
        http,
        outbound: OutboundHttp::new(granted.outbound.clone()),
        sockets,
        keyvalue: KeyValueAccess::new(granted.keyvalue.clone()),
        granted: granted.clone(),
        memory: MemoryBudget::new(limits.memory.as_usize(), claim, sink.metrics.instance()),
        log,
        calls: TypedCalls::new(peers.clone()),
        tick: 0,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(if carries_more { HOSTCALL_FUEL_GRANTED } else { HOSTCALL_FUEL });
    store.set_max_component_handles(HANDLES_MAX);
    match store.concurrent_resource_table() {
        Some(table) => {
            table.set_max_capacity(HANDLES_MAX);
        }
        // An engine without concurrency has WASI 0.2 only.
        None => store.data_mut().outbound.is_apart(),
    }
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(ticks::interrupted);
    Ok(store)
}
