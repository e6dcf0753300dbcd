//! Which Rust builds guests on this machine: rustup's, where it has the target, else Debian's, which builds the standard library
//! from its sources.

use super::{home, need};
use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's `rustc-web` and `cargo-web`, beside which a toolchain of rustup has to be, for its linkers.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library/std";
const DEBIAN_LIBC: &str = "/usr/lib/wasm32-wasi";
/// What would change, or break, a build for another target than the one it was meant for.
const FOREIGN: [&str; 6] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER", "RUSTC"];

/// What a guest in Rust is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Wasip2,
    Wasip1,
}

impl Target {
    pub(super) fn parse(triple: &str) -> Option<Self> {
        [Self::Wasip2, Self::Wasip1].into_iter().find(|target| target.triple() == triple)
    }

    pub(super) fn triple(self) -> &'static str {
        match self {
            Self::Wasip2 => "wasm32-wasip2",
            Self::Wasip1 => "wasm32-wasip1",
        }
    }

    fn rustflags_variable(self) -> &'static str {
        match self {
            Self::Wasip2 => "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS",
            Self::Wasip1 => "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS",
        }
    }
}

/// A Rust that can build for one target.
#[derive(Debug, Clone)]
pub(super) enum Toolchain {
    /// The rustc on PATH has a compiled std for the target.
    Rustup,
    /// Debian's, with the linkers that lie in these folders.
    Debian { linkers: [PathBuf; 2] },
}

impl Toolchain {
    /// The one for `target`, if there is any; `HOTBAY_GUEST_TOOLCHAIN=rustup|debian` takes that one and no other. Runs rustc.
    pub(super) fn choose(target: Target) -> Option<Self> {
        let wanted = env::var("HOTBAY_GUEST_TOOLCHAIN").unwrap_or_default();
        if wanted != "debian" && has_std(target) {
            return Some(Self::Rustup);
        }
        (wanted != "rustup").then(debian).flatten()
    }

    /// cargo, set up for this toolchain and with nothing of the caller's that is meant for native builds.
    pub(super) fn cargo(&self, target: Target) -> Command {
        let mut command = Command::new(match self {
            Self::Rustup => "cargo",
            Self::Debian { .. } => DEBIAN_CARGO,
        });
        for variable in FOREIGN {
            command.env_remove(variable);
        }
        if let Self::Debian { linkers } = self {
            let path = env::var_os("PATH").unwrap_or_default();
            let path = env::join_paths(linkers.iter().cloned().chain(env::split_paths(&path))).unwrap_or(path);
            command.env("PATH", path).env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            // Rust's own copy of wasi-libc is missing with its std; Debian's takes its place.
            command.env(target.rustflags_variable(), format!("-C link-self-contained=no -L native={DEBIAN_LIBC}"));
        }
        command
    }

    /// More arguments of every `cargo rustc`.
    pub(super) fn arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Rustup => &[],
            Self::Debian { .. } => &["-Zbuild-std=std,panic_abort"],
        }
    }

    /// The start object, which rustc links by itself where it has a std of its own. An argument of the service's crate and not
    /// of all, for which std would be built anew.
    pub(super) fn start_object(&self) -> Option<String> {
        match self {
            Self::Rustup => None,
            Self::Debian { .. } => Some(format!("{DEBIAN_LIBC}/crt1-command.o")),
        }
    }

    /// Where cargo is to build, if not where it would by itself: a std that is built from its sources takes minutes, so all
    /// services of the user share one.
    pub(super) fn target_dir(&self) -> io::Result<Option<PathBuf>> {
        match self {
            Self::Debian { .. } if env::var_os("CARGO_TARGET_DIR").is_none() => Ok(Some(home::cache()?.join("guests"))),
            _ => Ok(None),
        }
    }

    /// Whether the first build for `target` with `profile` in `target_dir` has to build std.
    pub(super) fn lacks_std(&self, target_dir: &Path, target: Target, profile: &str) -> bool {
        matches!(self, Self::Debian { .. }) && !has_library(&target_dir.join(target.triple()).join(profile).join("deps"), "rlib")
    }
}

/// Whether the rustc on PATH has a compiled std for this target.
fn has_std(target: Target) -> bool {
    let folder = need::version("rustc", &["--print", "target-libdir", "--target", target.triple()]);
    folder.is_some_and(|folder| has_library(Path::new(&folder), "rlib"))
}

fn has_library(folder: &Path, ending: &str) -> bool {
    let is_std = |name: OsString| {
        let name = name.to_string_lossy().into_owned();
        name.starts_with("libstd-") && Path::new(&name).extension().is_some_and(|found| found == ending)
    };
    fs::read_dir(folder).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_std(entry.file_name()))))
}

fn debian() -> Option<Toolchain> {
    if ![DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_STD, DEBIAN_LIBC].iter().all(|path| Path::new(path).exists()) {
        return None;
    }
    let version = Command::new("rustc").arg("-vV").output().ok()?;
    let version = String::from_utf8(version.stdout).ok()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "))?;
    let sysroot = need::version("rustc", &["--print", "sysroot"])?;
    let bin = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin");
    let linkers = [bin.clone(), bin.join("gcc-ld")];
    let there = bin.join("wasm-component-ld").is_file() && bin.join("gcc-ld/wasm-ld").is_file();
    there.then_some(Toolchain::Debian { linkers })
}
