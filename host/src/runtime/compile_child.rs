//! The compiling child, from inside: it needs no path and no network, and shuts itself off from them before it reads what may be
//! hostile.

use super::{
    artifact, confine,
    engine::{self, Backtraces, Flavour},
    functions::Functions,
    kept::BUILDS,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    sync::Arc,
};

/// The hidden subcommand that makes this binary the compiling child.
pub const SUBCOMMAND: &str = "compile-child";

/// Characters of a reason.
const REASON_MAX: usize = 4 << 10;

/// What the child answers.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// What this system does not do to shut the child off.
    pub(super) lacking: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    Compiled(Flavour),
    Invalid(String),
    /// The artifact could not be written.
    Output(String),
}

/// The child's whole life: limits itself to `memory` bytes and `seconds` of computing a core, shuts itself off, reads stdin, writes
/// stdout, answers on stderr.
pub fn child(memory: u64, seconds: u64, backtraces: Backtraces) -> io::Result<()> {
    confine::bound(memory, seconds)?;
    confine::give_way();
    #[allow(clippy::let_unit_value, reason = "only tests count")]
    let inherited = inherited();
    // Unbuffered: the artifact is one piece, and whatever the disk says is to be heard here. Before no descriptor can be made.
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let lacking = confine::shut_off();
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm)?;
    let outcome = match attempts(&wasm, inherited).map_or_else(|| compile(wasm, backtraces, None), Err) {
        Ok((flavour, artifact)) => match stdout.write_all(&artifact) {
            Ok(()) => Outcome::Compiled(flavour),
            Err(error) => Outcome::Output(error.to_string()),
        },
        Err(reason) => invalid(&reason),
    };
    let answer = serde_json::to_string(&Answer { outcome, lacking }).map_err(io::Error::other)?;
    writeln!(io::stderr(), "{answer}")
}

/// The life of a child that stays: the same for one build after another, each with its length (64 bits, little endian) before it. It
/// answers on stdout, with the length of the answer (32 bits) and that of the artifact (64 bits) before them, and ends with its stdin.
/// What it compiled of the functions of earlier builds it need not compile again.
pub fn staying_child(memory: u64, seconds: u64, backtraces: Backtraces) -> io::Result<()> {
    // It gives way to nobody: somebody waits for it.
    confine::bound(memory, seconds.saturating_mul(u64::from(BUILDS)))?;
    #[allow(clippy::let_unit_value, reason = "only tests count")]
    let inherited = inherited();
    let (mut stdin, mut stdout) = (io::stdin().lock(), File::from(io::stdout().as_fd().try_clone_to_owned()?));
    let lacking = confine::shut_off();
    let functions = Arc::new(Functions::within(memory));
    let mut length = [0; 8];
    while stdin.read_exact(&mut length).is_ok() {
        let mut wasm = Vec::new();
        (&mut stdin).take(u64::from_le_bytes(length)).read_to_end(&mut wasm)?;
        let compiled = attempts(&wasm, inherited).map_or_else(|| compile(wasm, backtraces, Some(&functions)), Err);
        let (outcome, artifact) = match compiled {
            Ok((flavour, artifact)) => (Outcome::Compiled(flavour), artifact),
            Err(reason) => (invalid(&reason), Vec::new()),
        };
        let answer = serde_json::to_vec(&Answer { outcome, lacking: lacking.clone() }).map_err(io::Error::other)?;
        stdout.write_all(&u32::try_from(answer.len()).map_err(io::Error::other)?.to_le_bytes())?;
        stdout.write_all(&answer)?;
        stdout.write_all(&u64::try_from(artifact.len()).map_err(io::Error::other)?.to_le_bytes())?;
        stdout.write_all(&artifact)?;
        functions.end_of_build();
    }
    Ok(())
}

fn invalid(reason: &str) -> Outcome {
    Outcome::Invalid(reason.chars().take(REASON_MAX).collect())
}

/// What came of what the child must not be able to do, where a build of a test asks for it.
#[cfg(feature = "fault-points")]
fn attempts(wasm: &[u8], inherited: usize) -> Option<String> {
    let asks = |mark: &[u8]| wasm.windows(mark.len()).any(|window| window == mark);
    asks(b"hotbay:attempts").then(|| {
        let tried = confine::attempts::all().into_iter().map(|(what, error)| format!("{what}={error}"));
        format!("attempts: inherited={inherited} {}", tried.collect::<Vec<_>>().join(" "))
    })
}

#[cfg(feature = "fault-points")]
fn inherited() -> usize {
    confine::attempts::open_files()
}

#[cfg(not(feature = "fault-points"))]
fn inherited() {}

#[cfg(not(feature = "fault-points"))]
fn attempts(_wasm: &[u8], _inherited: ()) -> Option<String> {
    None
}

fn compile(wasm: Vec<u8>, backtraces: Backtraces, functions: Option<&Arc<Functions>>) -> Result<(Flavour, Vec<u8>), String> {
    let binary = artifact::identify(&wasm).map_err(|unfit| unfit.to_string())?;
    let component = artifact::componentize(binary, wasm)?;
    let compile = |flavour| -> wasmtime::Result<Vec<u8>> {
        let mut config = engine::config(flavour, backtraces);
        if let Some(functions) = functions {
            config.enable_incremental_compilation(functions.clone())?;
        }
        wasmtime::Engine::new(&config)?.precompile_component(&component)
    };
    let fits = |flavour, artifact: Vec<u8>| match u64::try_from(artifact.len()) {
        Ok(len) if len <= confine::ARTIFACT_MAX => Ok((flavour, artifact)),
        _ => Err(format!("its machine code has {} bytes, more than the {} that it may", artifact.len(), confine::ARTIFACT_MAX)),
    };
    // Validation comes first and is quick, so a component with async features falls through to the engine that has them
    // long before anything is compiled for the one that has not.
    let first = match compile(Flavour::Sync) {
        Ok(artifact) => return fits(Flavour::Sync, artifact),
        Err(error) => error,
    };
    match compile(Flavour::Async) {
        Ok(artifact) => fits(Flavour::Async, artifact),
        Err(second) if format!("{first:#}").contains("async") => Err(format!("{second:#}")),
        Err(_) => Err(format!("{first:#}")),
    }
}
