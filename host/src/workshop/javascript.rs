//! Services in JavaScript: a package that depends on componentize-js, which makes a component of its main module.

use super::{
    BuildFailure, Effort, Language, Line, Mode, Project, Workshop,
    build::{self, Made, Sink, lacking_any},
    child::Stdout,
    home::{self, Installed},
    need::{Need, version},
    seal::{self, Inputs},
    wit,
};
use serde::Deserialize;
use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

/// What a service in JavaScript is recognised by.
const TOOL: &str = "@bytecodealliance/componentize-js";
/// The version of WASI that its engine has.
const WASI: &str = "0.2.10";
/// Run by Node in the service's folder, so that it finds the service's packages.
const SCRIPT: &str = include_str!("componentize.mjs");

/// What is read of a package.json.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    main: Option<String>,
    #[serde(default)]
    dependencies: BTreeMap<String, String>,
    #[serde(default)]
    dev_dependencies: BTreeMap<String, String>,
}

impl Package {
    fn read(dir: &Path) -> Result<(Self, String), String> {
        let path = dir.join("package.json");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let package = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok((package, text))
    }
}

pub(super) fn recognises(dir: &Path) -> bool {
    Package::read(dir)
        .is_ok_and(|(package, _)| [package.dependencies, package.dev_dependencies].iter().any(|of| of.contains_key(TOOL)))
}

pub(super) fn needs() -> Vec<Need> {
    vec![
        Need::new(
            "node",
            version("node", &["--version"]),
            "install Node.js 20.6 or later: https://nodejs.org (or apt-get install nodejs, where it is as new)",
        )
        .from((20, 6)),
        Need::new("npm", version("npm", &["--version"]), "install npm, which comes with Node.js (apt-get install npm)"),
    ]
}

/// Runs componentize-js, which is fetched first where it is missing.
pub(super) async fn build(workshop: &Workshop, project: &Project, effort: Effort, sink: Sink<'_>) -> Result<Made, BuildFailure> {
    let (package, text) = Package::read(project.dir()).map_err(BuildFailure::Sources)?;
    install(workshop, project, &text, sink).await?;
    let wit = wit::of(project, Some(WASI)).map_err(BuildFailure::io("the WIT of services"))?;
    let output = build::output(project)?;
    let mode = if workshop.mode == Mode::Quick { "quick" } else { "release" };
    let node = tokio::task::spawn_blocking(|| version("node", &["--version"])).await.ok().flatten();
    let options = ["NODE_OPTIONS", "NODE_PATH"].map(|name| env::var(name).unwrap_or_default());
    let main = package.main.as_deref().unwrap_or("app.js");
    // One that is not among the sources as they are looked at is looked at for itself.
    let elsewhere = (!seal::is_among_sources(Path::new(main))).then(|| project.dir().join(main));
    let inputs = Inputs {
        project: project.clone(),
        outputs: vec![workshop.bay.clone()],
        read: std::iter::once(wit.clone()).chain(elsewhere).collect(),
        // Node looks for packages in all folders above, too.
        installed: project.dir().ancestors().map(|dir| dir.join("node_modules")).collect(),
        words: [env!("CARGO_PKG_VERSION"), SCRIPT, mode].map(str::to_owned).into_iter().chain(node).chain(options).collect(),
    };
    let seal = inputs.seal().await?;
    if effort == Effort::Needed && seal.holds(&output) {
        return Ok(Made::Before(output));
    }
    let scratch = build::scratch(&output)?;
    let made = scratch.path().join("made.wasm");
    let cache = home::cache().map_err(BuildFailure::io("a folder for what tools keep"))?.join("javascript");
    let mut command = Command::new("node");
    command.current_dir(project.dir()).env("TMPDIR", scratch.path()).args(["--input-type=module", "--eval", SCRIPT]);
    command.arg("--").arg(main).arg(wit).arg(&made).arg(cache);
    command.arg(mode);
    workshop.run(("componentize-js", command), Stdout::Told, sink, Some(Language::JavaScript)).await?;
    fs::rename(&made, &output).map_err(BuildFailure::io(output.display()))?;
    inputs.keep(&seal, &output).await?;
    Ok(Made::Now(output))
}

/// `npm install`, once, and again when package.json has changed.
async fn install(workshop: &Workshop, project: &Project, asked: &str, sink: Sink<'_>) -> Result<(), BuildFailure> {
    let folder = project.dir().join("node_modules");
    let installed = Installed::into(&folder);
    if installed.is(asked) {
        return Ok(());
    }
    let _lock = home::lock(&folder.join(".lock")).await.map_err(BuildFailure::io(folder.display()))?;
    if installed.is(asked) {
        return Ok(());
    }
    lacking_any(Language::JavaScript).await?;
    sink(Line::Note(&format!("npm's packages are fetched first, once, into {}", folder.display())));
    installed.begin().map_err(BuildFailure::io(folder.display()))?;
    let mut command = Command::new("npm");
    command.current_dir(project.dir()).args(["install", "--no-audit", "--no-fund", "--loglevel=error"]);
    workshop.run(("npm install", command), Stdout::Told, sink, Some(Language::JavaScript)).await?;
    installed.finish(asked).map_err(BuildFailure::io(folder.display()))
}
