//! The two engines of the host and the clock that interrupts guests.

use super::{lane::Lane, ticks::Hand};
use crate::config::PoolConfig;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroUsize,
    sync::Arc,
};
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, PoolingAllocationConfig, WasmBacktraceDetails, WasmFeatures, component::Component,
};

/// Native stack of one guest call. The guest itself may use half of it, host functions the rest.
const ASYNC_STACK: usize = 1 << 20;
const WASM_STACK: usize = 512 << 10;

/// Core instances, memories and tables that one component may hold. A component made from a wasip1 module has four core
/// instances (itself, the adapter, two shims), one with several languages in it a few more.
const CORE_INSTANCES: u32 = 32;
const MEMORIES: u32 = 4;
const TABLES: u32 = 8;
/// Bytes that a free table keeps: 2,048 functions, more than usual guests have. What is above is given back to the system.
const TABLE_KEEP_RESIDENT: usize = 16 << 10;
/// Tables for each place of the pool.
const TABLES_A_SLOT: u32 = 4;
const TABLE_ELEMENTS: usize = 64 << 10;

/// Free slots that keep the memory of the revision they last served. Each swap leaves some behind, so this bounds what many
/// swaps cost; a revision whose slot was taken by another maps its memory anew at its next start.
const WARM_SLOTS: u32 = 32;

/// Frames of the stack in a core dump.
const DUMPED_FRAMES: usize = 256;

/// Which engine a component needs. Code compiled for one is refused by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// WASI 0.2: without the component model's async support, which costs every request a fifth of its time.
    Sync,
    /// WASI 0.3 and anything else that uses the component model's async features.
    Async,
}

impl Flavour {
    /// Both, the cheaper one first.
    pub const ALL: [Self; 2] = [Self::Sync, Self::Async];

    /// The name in file names of the cache.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}

/// What a backtrace says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backtraces {
    /// The names of functions.
    Names,
    /// Files and lines too, which the engine looks up in the guest's own debug information at every trap, in time that nobody bounds:
    /// for `--dev` alone.
    Lines,
}

impl Backtraces {
    /// Those of a host with or without `--dev`.
    pub fn of(dev: bool) -> Self {
        if dev { Self::Lines } else { Self::Names }
    }

    /// Whether it is with lines.
    pub(super) fn has_lines(self) -> bool {
        self == Self::Lines
    }
}

/// The engines of one host process.
pub struct Engines {
    sync: Engine,
    r#async: Engine,
}

impl Engines {
    /// Reserves the pools and starts the clock, which is the lane's too. With `dumps`, a trap holds a core dump.
    ///
    /// # Errors
    /// Where the address space or a setting does not allow the pool.
    pub(crate) fn new(pool: &PoolConfig, lane: Arc<Lane>, backtraces: Backtraces, dumps: bool) -> wasmtime::Result<Self> {
        let engine = |flavour| {
            let mut config = config(flavour, backtraces);
            config.allocation_strategy(pooling(pool, flavour));
            if dumps {
                // What is compiled is the same with it.
                config.coredump_on_trap(true).wasm_backtrace_max_frames(NonZeroUsize::new(DUMPED_FRAMES));
            }
            Engine::new(&config)
        };
        let engines = Self { sync: engine(Flavour::Sync)?, r#async: engine(Flavour::Async)? };
        engines.start_clock(lane)?;
        Ok(engines)
    }

    /// The engine for `flavour`.
    pub fn get(&self, flavour: Flavour) -> &Engine {
        match flavour {
            Flavour::Sync => &self.sync,
            Flavour::Async => &self.r#async,
        }
    }

    /// One thread for both engines. It holds them weakly and ends with the last guest of either: until then there are guests to
    /// interrupt, and the lane, which it holds, has guests that wait for their turn.
    fn start_clock(&self, lane: Arc<Lane>) -> wasmtime::Result<()> {
        let engines = [self.sync.weak(), self.r#async.weak()];
        let tick = move || {
            let mut hand = Hand::new(lane.ticks());
            loop {
                let live = engines.each_ref().map(EngineWeak::upgrade);
                if live.iter().all(Option::is_none) {
                    break;
                }
                let tick = hand.step();
                live.into_iter().flatten().for_each(|engine| engine.increment_epoch());
                if let Some(ticks) = tick {
                    lane.tick(ticks);
                }
                hand.rest();
            }
        };
        std::thread::Builder::new().name("hotbay-epoch".to_owned()).spawn(tick)?;
        Ok(())
    }
}

/// What compiled code depends on: the same in the host and in the compiling child.
pub(crate) fn config(flavour: Flavour, backtraces: Backtraces) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(ASYNC_STACK)
        .native_unwind_info(false)
        .wasm_backtrace_details(match backtraces {
            Backtraces::Names => WasmBacktraceDetails::Disable,
            Backtraces::Lines => WasmBacktraceDetails::Enable,
        })
        .concurrency_support(flavour == Flavour::Async)
        // What compilers do not emit for services is only attack surface, and so is what comes with the next wasmtime. Threads,
        // GC and exceptions are not compiled in at all. docs/services.md names what is on.
        .wasm_features(!features(flavour), false);
    if flavour == Flavour::Async {
        config.wasm_component_model_async(true);
    }
    config
}

/// The proposals that a build may use: those of WebAssembly 2.0, what compilers emit beyond them, and the component model.
fn features(flavour: Flavour) -> WasmFeatures {
    // Several memories: the engine's own code between two components that were composed uses those of both.
    let beyond = WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST | WasmFeatures::MULTI_MEMORY;
    let usual = WasmFeatures::WASM2 | beyond | WasmFeatures::COMPONENT_MODEL;
    match flavour {
        Flavour::Sync => usual,
        Flavour::Async => usual | WasmFeatures::CM_ASYNC,
    }
}

/// A short hash of everything that an artifact for `flavour` must agree on with the engine that loads it.
pub(crate) fn compatibility(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// How many places of the pool an instance of `component` takes: one, unless it has more memories or tables than a place has.
pub(super) fn slots(component: &Component) -> u64 {
    // Unknown where it imports modules, which nothing here gives it.
    let Some(required) = component.resources_required() else { return u64::from(MEMORIES) };
    u64::from(required.num_memories.max(required.num_tables.div_ceil(TABLES_A_SLOT)).max(1))
}

fn pooling(pool: &PoolConfig, flavour: Flavour) -> PoolingAllocationConfig {
    let instances = pool.instances.0;
    // Most services have one memory and one table; those made from a wasip1 module one and three. What has more takes several
    // places (`slots`). Room for one component of the largest kind comes on top, so that even a pool of one instance takes it.
    let room = |each: u32, largest: u32| instances.saturating_mul(each).saturating_add(largest);
    let mut config = PoolingAllocationConfig::new();
    config
        .total_component_instances(instances)
        // Only counted: they lie on the heap.
        .total_core_instances(room(CORE_INSTANCES, CORE_INSTANCES))
        .total_memories(room(1, MEMORIES))
        .total_tables(room(TABLES_A_SLOT, TABLES))
        // With concurrency a call of one part of a component to another waits on a stack of its own.
        .total_stacks(match flavour {
            Flavour::Sync => instances,
            Flavour::Async => instances.saturating_mul(2),
        })
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_module(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(WARM_SLOTS)
        // A reset that must give pages back is the dearest thing in a fresh start (madvise, then faults), so what a
        // usual guest touches stays resident.
        .linear_memory_keep_resident(pool.keep_resident().as_usize())
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .async_stack_keep_resident(ASYNC_STACK)
        .pagemap_scan(Enabled::Auto);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So a cache serves hosts with and without.
    #[test]
    fn core_dumps_are_no_part_of_the_artifact() {
        for flavour in Flavour::ALL {
            let (without, mut with) = (config(flavour, Backtraces::Lines), config(flavour, Backtraces::Lines));
            with.coredump_on_trap(true).wasm_backtrace_max_frames(NonZeroUsize::new(DUMPED_FRAMES));
            assert_eq!(compatibility(&Engine::new(&without).unwrap()), compatibility(&Engine::new(&with).unwrap()));
        }
    }

    /// An artifact with debug information is not loaded by an engine that must not look into it.
    #[test]
    fn what_backtraces_say_is_part_of_the_artifact() {
        for flavour in Flavour::ALL {
            let engine = |backtraces| Engine::new(&config(flavour, backtraces)).unwrap();
            let (names, lines) = (engine(Backtraces::Names), engine(Backtraces::Lines));
            assert_ne!(compatibility(&names), compatibility(&lines));
            let artifact = lines.precompile_component(b"\0asm\x0d\0\x01\0").unwrap();
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("artifact");
            std::fs::write(&file, artifact).unwrap();
            #[allow(unsafe_code, reason = "compiled two lines above")]
            // SAFETY: see the reason.
            let loads = |engine: &Engine| unsafe { Component::deserialize_file(engine, &file) }.is_ok();
            assert!(loads(&lines) && !loads(&names));
        }
    }
}
