//! What the host keeps for one instance while it lives.

use super::{
    call::Call,
    limiter::MemoryBudget,
    stdio::{GuestLog, GuestSink},
    typed_call::{Calls, Chain, Peers},
};
use crate::{
    capabilities::{OutboundClient, OutboundHttp},
    config::{Limits, ServiceName},
};
use std::sync::Arc;
use wasmtime::{Engine, Store, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Handles (streams, bodies, pollables…) that one instance may hold at once.
const RESOURCES_MAX: usize = 512;
/// Handles from which on an instance that is kept counts as one that leaks them, and is renewed instead.
const RESOURCES_LEAKED: usize = RESOURCES_MAX / 2;
/// Handles of the component model itself, those of a guest's own resources and of its tasks and streams included.
const HANDLES_MAX: usize = 16 << 10;
/// Bytes of values that one host call may take from the guest.
const HOSTCALL_FUEL: usize = 16 << 20;
/// Bytes of one header section that a guest may build.
const FIELDS_MAX: usize = 64 << 10;
/// Random bytes that one call may ask for.
const RANDOM_MAX: u64 = 64 << 10;

/// The host's side of one instance: no files, no sockets, no environment, and of HTTP what `[grants]` says.
pub(crate) struct HostState {
    pub(super) service: ServiceName,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: OutboundHttp,
    pub(super) config: WasiConfigVariables,
    pub(super) memory: MemoryBudget,
    pub(super) log: GuestLog,
    pub(super) calls: Calls,
}

impl HostState {
    /// From here on the instance works for this request.
    pub(super) fn begin(&mut self, call: &Call) {
        self.log.begin(&call.request_id);
        call.output.is_of(&self.log);
        self.outbound.begin(&call.request_id);
        self.memory.begin();
        self.calls.begin(None);
    }

    /// From here on the instance works for a call of another service.
    pub(super) fn begin_call(&mut self, chain: &Arc<Chain>) {
        self.log.begin(chain.request_id());
        self.outbound.begin(chain.request_id());
        self.memory.begin();
        self.calls.begin(Some(chain.clone()));
    }

    /// Whether the guest gathers handles that it never drops, or left a call to another host under way: no request may go on
    /// with what one before it began.
    pub(super) fn leaks(&mut self) -> bool {
        self.outbound.is_busy() || self.table.iter_mut().nth(RESOURCES_LEAKED).is_some()
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

/// A store with its limits in force. `arrange` sets what differs from the bare context: stdin and stdout of a command.
pub(crate) fn new_store(
    engine: &Engine,
    limits: &Limits,
    sink: &Arc<GuestSink>,
    outbound: &Arc<OutboundClient>,
    peers: &Arc<Peers>,
    arrange: impl FnOnce(&mut WasiCtxBuilder),
) -> Store<HostState> {
    let log = GuestLog::new(sink.clone());
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(log.stdout())
        .stderr(log.stderr())
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(RANDOM_MAX);
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
        outbound: OutboundHttp::new(outbound.clone()),
        config: WasiConfigVariables::new(),
        memory: MemoryBudget::new(limits.memory.as_usize(), sink.metrics.instance()),
        log,
        calls: Calls::new(peers.clone()),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(HOSTCALL_FUEL);
    store.set_max_component_handles(HANDLES_MAX);
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(HANDLES_MAX);
    }
    // A guest that computes gives way at every tick; whoever polls it counts its time and enforces the deadline.
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
    store
}
