//! Services in Rust: a crate whose Cargo.toml says that it is one, built by cargo.

use super::{
    BuildFailure, Language, Line, Mode, Project, Workshop,
    build::{Sink, lacking},
    child::Stdout,
    claim::Claim,
    need::{Need, version},
    toolchain::{Target, Toolchain},
};
use serde::Deserialize;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Bytes of stack that a guest links with, where its Cargo.toml says nothing else; services/build.sh says why not rustc's 1 MiB.
const STACK: u64 = 256 << 10;
/// The profile of quick builds, given to cargo on its command line: nobody's Cargo.toml has to know of it. docs/building.md has
/// the figures that it was chosen by.
const QUICK_PROFILE: &str = "hotbay-quick";
const QUICK: [&str; 6] =
    ["inherits=\"dev\"", "opt-level=1", "debug=\"line-tables-only\"", "incremental=true", "codegen-units=256", "lto=false"];

/// What is read of a Cargo.toml.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Manifest {
    package: Option<Package>,
    lib: Lib,
    bin: Vec<Bin>,
    dependencies: toml::Table,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    hotbay: Option<Hotbay>,
}

/// `[package.metadata.hotbay]`.
#[derive(Debug, Default, Deserialize)]
struct Hotbay {
    target: Option<Targets>,
    /// Bytes.
    stack: Option<u64>,
}

/// Of several, the first is built.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Targets {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Lib {
    name: Option<String>,
    crate_type: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bin {
    name: Option<String>,
}

impl Manifest {
    fn read(dir: &Path) -> Result<Self, String> {
        let path = dir.join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {}", path.display(), error.to_string().trim()))
    }

    fn is_library(&self) -> bool {
        self.lib.crate_type.iter().any(|kind| kind == "cdylib")
    }

    fn target(&self) -> Result<Target, String> {
        let hotbay = self.package.as_ref().and_then(|package| package.metadata.hotbay.as_ref());
        let triple = match hotbay.and_then(|hotbay| hotbay.target.as_ref()) {
            Some(Targets::One(triple)) => triple,
            Some(Targets::Several(triples)) => triples.first().map_or("", String::as_str),
            None => return Ok(Target::Wasip2),
        };
        Target::parse(triple)
            .ok_or_else(|| format!("[package.metadata.hotbay] target is `{triple}`; it can be wasm32-wasip2 or wasm32-wasip1"))
    }
}

/// A crate that says so, or that depends on the SDK and makes a library of the kind that components are made of. A library that
/// services share is none.
pub(super) fn recognises(dir: &Path) -> bool {
    if !dir.join("Cargo.toml").is_file() {
        return false;
    }
    let Ok(manifest) = Manifest::read(dir) else {
        // cargo says what is wrong with it.
        return true;
    };
    let uses_sdk = manifest.dependencies.contains_key("hotbay-sdk") && manifest.is_library();
    manifest.package.is_some_and(|package| package.metadata.hotbay.is_some() || uses_sdk)
}

/// A Rust to begin with, and what it builds guests for; the second is asked of it, so it is missing without the first.
pub(super) fn needs() -> Vec<Need> {
    let mut needs = vec![
        Need::new("rustc", version("rustc", &["--version"]), "install Rust: https://rustup.rs (or rustup update stable)")
            .from((1, 95)),
        Need::new("cargo", version("cargo", &["--version"]), "install Rust: https://rustup.rs"),
    ];
    let found = Toolchain::choose(Target::Wasip2).map(|toolchain| match toolchain {
        Toolchain::Rustup => "with the Rust on PATH".to_owned(),
        Toolchain::Debian { .. } => "with Debian's rustc-web, which builds std from its sources, once".to_owned(),
    });
    let remedy = "rustup target add wasm32-wasip2 wasm32-wasip1    (or, where rustup cannot download, on Debian beside a Rust of \
                  rustup: apt-get install rustc-web rust-web-src cargo-web wasi-libc)";
    needs.push(Need::new(Target::Wasip2.triple(), found, remedy));
    needs
}

/// Runs cargo and returns where it put the component.
pub(super) async fn build(workshop: &Workshop, project: &Project, sink: Sink<'_>) -> Result<PathBuf, BuildFailure> {
    let manifest = Manifest::read(project.dir()).map_err(BuildFailure::Sources)?;
    let about = |reason| BuildFailure::Sources(format!("{}/Cargo.toml: {reason}", project.dir().display()));
    let target = manifest.target().map_err(about)?;
    let package = manifest.package.as_ref().ok_or_else(|| about("it has no [package]".to_owned()))?;
    let toolchain = workshop.toolchain(target).await?;

    let mut command = toolchain.cargo(target);
    command.current_dir(project.dir()).args(["rustc", "--target", target.triple()]);
    // Diagnostics as people read them go to stderr; what was made is told on stdout.
    command.args(["--message-format", "json-render-diagnostics", "--color", if workshop.colour { "always" } else { "never" }]);
    let profile = match workshop.mode {
        Mode::Release => "release",
        Mode::Quick => {
            QUICK.iter().for_each(|line| {
                command.args(["--config", &format!("profile.{QUICK_PROFILE}.{line}")]);
            });
            QUICK_PROFILE
        }
    };
    command.args(["--profile", profile]).args(toolchain.arguments());
    let target_dir = toolchain.target_dir().map_err(BuildFailure::io("a folder for what cargo makes"))?;
    if let Some(target_dir) = &target_dir {
        command.arg("--target-dir").arg(target_dir);
    }
    let stack = package.metadata.hotbay.as_ref().and_then(|hotbay| hotbay.stack).unwrap_or(STACK);
    // Two arguments: wasm-component-ld does not take it as one.
    let mut link = vec!["-Clink-arg=-z".to_owned(), format!("-Clink-arg=stack-size={stack}")];
    let name = if manifest.is_library() {
        command.arg("--lib");
        manifest.lib.name.as_ref().unwrap_or(&package.name)
    } else {
        let named = manifest.bin.first().and_then(|bin| bin.name.as_ref()).unwrap_or(&package.name);
        command.args(["--bin", named]);
        link.extend(toolchain.start_object().map(|object| format!("-Clink-arg={object}")));
        named
    };
    command.arg("--").args(link);

    let shared = target_dir.or_else(|| env::var_os("CARGO_TARGET_DIR").map(PathBuf::from));
    // As cargo takes it, which runs there.
    let shared = shared.map(|folder| project.dir().join(folder));
    if let Some(folder) = shared.as_ref().filter(|folder| toolchain.lacks_std(folder, target, profile)) {
        let folder = folder.display();
        sink(Line::Note(&format!("std for {} is built from its sources first, once, into {folder}: minutes", target.triple())));
    }
    let claim = match shared {
        Some(folder) => {
            let folder = folder.join(target.triple()).join(profile);
            Some(Claim::take(&folder, name, project).await.map_err(BuildFailure::io(folder.display()))?)
        }
        None => None,
    };
    let told = workshop.run(("cargo", command), Stdout::Kept, sink, Some(Language::Rust)).await?;
    let made = made(&told).ok_or_else(|| BuildFailure::NoOutput {
        tool: "cargo".to_owned(),
        file: format!("component of {}", package.name),
        remedy: "set crate-type = [\"cdylib\"] in [lib] of its Cargo.toml, or give it a main",
    })?;
    match claim {
        Some(claim) => claim.carry_out(&made, project),
        None => Ok(made),
    }
}

impl Workshop {
    /// Found out once a process: asking rustc takes a tenth of a second.
    async fn toolchain(&self, target: Target) -> Result<&Toolchain, BuildFailure> {
        let [wasip2, wasip1] = &self.rust;
        let cell = match target {
            Target::Wasip2 => wasip2,
            Target::Wasip1 => wasip1,
        };
        let choose = || async {
            let chosen = tokio::task::spawn_blocking(move || Toolchain::choose(target)).await;
            match chosen.ok().flatten() {
                Some(toolchain) => Ok(toolchain),
                None => Err(lacking(Language::Rust).await),
            }
        };
        cell.get_or_try_init(choose).await
    }
}

/// One line of what cargo tells in JSON.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The last .wasm that cargo says it has, made just now or before.
fn made(told: &[u8]) -> Option<PathBuf> {
    let messages = told.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    let artifacts = messages.filter(|message| message.reason == "compiler-artifact");
    let is_wasm = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "wasm");
    artifacts.flat_map(|artifact| artifact.filenames).rfind(is_wasm)
}
