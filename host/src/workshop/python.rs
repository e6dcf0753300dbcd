//! Services in Python: `app.py`, of which componentize-py makes a component.

use super::{
    BuildFailure, Effort, Language, Line, Project, Workshop,
    build::{self, Made, Sink, lacking},
    child::Stdout,
    home,
    need::{Need, version},
    seal::Inputs,
    wit,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The version that templates ask for, and that is taken where a service asks for none.
const TOOL: &str = "componentize-py==0.25.1";
/// What a service asks for: its packages from PyPI, componentize-py among them.
const REQUIREMENTS: &str = "requirements.txt";

/// `app.py` that serves WIT, so that no web application in Python is taken for a service.
pub(super) fn recognises(dir: &Path) -> bool {
    fs::read_to_string(dir.join("app.py")).is_ok_and(|text| text.contains("wit_world"))
}

pub(super) fn needs() -> Vec<Need> {
    let python = version("python3", &["--version"]);
    let venv = version("python3", &["-c", "import venv, ensurepip; print('with pip')"]);
    vec![
        Need::new("python3", python, "install Python 3.10 or later (apt-get install python3)").from((3, 10)),
        Need::new("python3 -m venv", venv, "apt-get install python3-venv"),
    ]
}

/// Runs componentize-py, which is fetched first where it is missing.
pub(super) async fn build(workshop: &Workshop, project: &Project, effort: Effort, sink: Sink<'_>) -> Result<Made, BuildFailure> {
    let venv = environment(workshop, project, sink).await?;
    let wit = wit::of(project, None).map_err(BuildFailure::io("the WIT of services"))?;
    let output = build::output(project)?;
    let installed = packages(&venv);
    let inputs = Inputs {
        project: project.clone(),
        outputs: vec![workshop.bay.clone()],
        read: vec![wit.clone()],
        installed: installed.iter().cloned().collect(),
        words: vec![env!("CARGO_PKG_VERSION").to_owned(), venv.display().to_string()],
    };
    let seal = inputs.seal().await?;
    if effort == Effort::Needed && seal.holds(&output) {
        return Ok(Made::Before(output));
    }
    let scratch = build::scratch(&output)?;
    let made = scratch.path().join("made.wasm");
    let mut command = Command::new(venv.join("bin/componentize-py"));
    command
        .current_dir(project.dir())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TMPDIR", scratch.path())
        .arg("--quiet")
        .arg("--wit-path")
        .arg(wit);
    command.args(["--world", "service", "componentize", "app", "--output"]).arg(&made).args(["--python-path", "."]);
    if let Some(packages) = installed {
        command.arg("--python-path").arg(packages);
    }
    workshop.run(("componentize-py", command), Stdout::Told, sink, Some(Language::Python)).await?;
    fs::rename(&made, &output).map_err(BuildFailure::io(output.display()))?;
    inputs.keep(&seal, &output).await?;
    Ok(Made::Now(output))
}

/// The virtual environment with componentize-py: `.venv` in the service's folder where it has a requirements.txt, else one that
/// all services share. Made once, and anew when what is asked for has changed.
async fn environment(workshop: &Workshop, project: &Project, sink: Sink<'_>) -> Result<PathBuf, BuildFailure> {
    let requirements = project.dir().join(REQUIREMENTS);
    let (venv, asked, from) = match fs::read_to_string(&requirements) {
        Ok(asked) => (project.dir().join(".venv"), asked, vec!["-r".into(), requirements.into_os_string()]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let shared = home::cache().map_err(BuildFailure::io("a folder for tools"))?.join("python").join(TOOL);
            (shared, TOOL.to_owned(), vec![TOOL.into()])
        }
        Err(error) => return Err(BuildFailure::io(requirements.display())(error)),
    };
    // Holds what was asked for once all of it is there.
    let done = venv.join(".hotbay-installed");
    let is_done = || fs::read_to_string(&done).is_ok_and(|installed| installed == asked);
    if is_done() {
        return Ok(venv);
    }
    let _lock = home::lock(&venv).await.map_err(BuildFailure::io(venv.display()))?;
    if is_done() {
        return Ok(venv);
    }
    if needs().iter().any(|need| need.found.is_none()) {
        return Err(lacking(Language::Python).await);
    }
    sink(Line::Note(&format!("Python's packages are fetched first, once, into {}", venv.display())));
    let mut create = Command::new("python3");
    create.args(["-m", "venv"]).arg(&venv);
    workshop.run(("python3 -m venv", create), Stdout::Told, sink, Some(Language::Python)).await?;
    let mut install = Command::new(venv.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(from);
    workshop.run(("pip install", install), Stdout::Told, sink, Some(Language::Python)).await?;
    fs::write(&done, asked).map_err(BuildFailure::io(done.display()))?;
    Ok(venv)
}

/// Where the packages of a virtual environment are.
fn packages(venv: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(venv.join("lib")).ok()?;
    versions.flatten().map(|version| version.path().join("site-packages")).find(|packages| packages.is_dir())
}
