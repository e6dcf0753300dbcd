//! `wasi:logging`: messages with a level and a context. Granted to all, since they only come into the service's own log.

use crate::telemetry::GuestLevel;
use wasmtime::component::{ComponentType, Lift, Linker};

/// The draft that is out, and the name without a version that guests had before it.
const INTERFACES: [&str; 2] = ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];

/// The level of a message, as the interface has it.
#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "guests construct them")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl From<Level> for GuestLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
            Level::Critical => Self::Critical,
        }
    }
}

/// Links the interface; `log` gets level, context and message.
pub(crate) fn add_logging<T: 'static>(linker: &mut Linker<T>, log: fn(&T, GuestLevel, &str, &str)) -> wasmtime::Result<()> {
    for interface in INTERFACES {
        linker.instance(interface)?.func_wrap(
            "log",
            move |store: wasmtime::StoreContextMut<'_, T>, (level, context, message): (Level, String, String)| {
                log(store.data(), level.into(), &context, &message);
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// Whether the host has this version of the package.
pub(crate) fn knows_logging(version: &str) -> bool {
    INTERFACES.iter().any(|interface| interface.split_once('@').map_or("", |(_, version)| version) == version)
}
