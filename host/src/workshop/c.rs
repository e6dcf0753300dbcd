//! Services in C: a command of WASI preview 1 that is run for each request (CGI/1.1), compiled by clang.

use super::{
    BuildFailure, Language, Mode, Project, Workshop,
    build::{self, Sink, lacking},
    child::Stdout,
    need::{Need, number, version},
    recipe::Recipe,
};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's wasi-libc: headers, and the file that a program cannot be linked without.
const LIBC: [&str; 2] = ["/usr/include/wasm32-wasi/stdio.h", "/usr/lib/wasm32-wasi/libc.a"];

/// `main.c` with settings for the host beside it, so that no other program in C is taken for a service.
pub(super) fn recognises(dir: &Path, recipe: &Recipe) -> bool {
    let folder = dir.file_name().unwrap_or_default().to_string_lossy();
    let name = recipe.name.as_deref().unwrap_or(&folder);
    dir.join("main.c").is_file() && dir.join(format!("{name}.toml")).is_file()
}

pub(super) fn needs() -> Vec<Need> {
    if let Some(sdk) = sdk() {
        let clang = sdk.join("bin/clang");
        return vec![Need::new("WASI_SDK_PATH", version(&clang.to_string_lossy(), &["--version"]), "unpack a wasi-sdk there")];
    }
    let clang = version("clang", &["--version"]);
    // Each clang has its own.
    let rt = clang
        .as_deref()
        .and_then(number)
        .map_or("libclang-rt-dev-wasm32".to_owned(), |(major, _)| format!("libclang-rt-{major}-dev-wasm32"));
    let libc = LIBC.iter().all(|file| Path::new(file).is_file()).then(|| "in /usr/lib/wasm32-wasi".to_owned());
    vec![
        Need::new("clang", clang, "apt-get install clang"),
        Need::new("wasm-ld", version("wasm-ld", &["--version"]), "apt-get install lld"),
        Need::new("wasi-libc", libc, "apt-get install wasi-libc    (or unpack a wasi-sdk and set WASI_SDK_PATH to its folder)"),
        Need::new("compiler-rt for wasm32", compiler_rt(), format!("apt-get install {rt}")),
    ]
}

/// Compiles all `.c` files of the folder into one program.
pub(super) async fn build(workshop: &Workshop, project: &Project, sink: Sink<'_>) -> Result<PathBuf, BuildFailure> {
    let sdk = sdk();
    if sdk.is_none() && !LIBC.iter().all(|file| Path::new(file).is_file()) {
        return Err(lacking(Language::C).await);
    }
    let sources = sources(project.dir()).map_err(BuildFailure::io(project.dir().display()))?;
    let output = build::output(project)?;
    let scratch = build::scratch(&output)?;
    let made = scratch.path().join("made.wasm");
    let mut command = Command::new(sdk.map_or_else(|| "clang".into(), |sdk| sdk.join("bin/clang")));
    command.current_dir(project.dir()).env("TMPDIR", scratch.path()).args([
        "--target=wasm32-wasi",
        "-std=c17",
        "-Wall",
        "-Wextra",
    ]);
    command.args(match workshop.mode {
        Mode::Quick => ["-O1", "-g"],
        Mode::Release => ["-O2", "-DNDEBUG"],
    });
    command.arg(if workshop.colour { "-fcolor-diagnostics" } else { "-fno-color-diagnostics" });
    command.args(sources).arg("-o").arg(&made);
    workshop.run(("clang", command), Stdout::Told, sink, Some(Language::C)).await?;
    fs::rename(&made, &output).map_err(BuildFailure::io(output.display()))?;
    Ok(output)
}

/// The wasi-sdk that the user has set.
fn sdk() -> Option<PathBuf> {
    env::var_os("WASI_SDK_PATH").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What clang links every program with, if it is where clang looks for it.
fn compiler_rt() -> Option<String> {
    let file = version("clang", &["--target=wasm32-wasi", "--print-libgcc-file-name"])?;
    Path::new(&file).is_file().then_some(file)
}

/// Names of the folder's own C files; sorted, so that the same sources make the same program.
fn sources(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sources: Vec<_> = fs::read_dir(dir)?.flatten().map(|entry| PathBuf::from(entry.file_name())).collect();
    sources.retain(|name| name.extension().is_some_and(|ending| ending == "c"));
    sources.sort();
    Ok(sources)
}
