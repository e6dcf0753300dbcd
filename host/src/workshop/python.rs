//! Services in Python: `app.py`, of which componentize-py makes a component.

use super::{
    BuildFailure, Effort, Language, Line, Project, Workshop,
    build::{self, Made, Sink, lacking_any},
    child::Stdout,
    home::{self, Installed},
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
/// What the virtual environments that are made here are called; those that somebody else has made are not emptied.
const PROMPT: &str = "hotbay";
/// What stands in the file of its lock once it was made, or begun to be.
const OURS: &str = "made by hotbay\n";
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
    // The lock lies outside, or it would go with what is emptied.
    let (venv, lock, asked, from) = match fs::read_to_string(&requirements) {
        Ok(asked) => {
            let lock = build::output(project)?.with_file_name(".venv.lock");
            (project.dir().join(".venv"), lock, asked, vec!["-r".into(), requirements.into_os_string()])
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let shared = home::cache().map_err(BuildFailure::io("a folder for tools"))?.join("python");
            (shared.join(TOOL), shared.join(format!("{TOOL}.lock")), TOOL.to_owned(), vec![TOOL.into()])
        }
        Err(error) => return Err(BuildFailure::io(requirements.display())(error)),
    };
    let installed = Installed::into(&venv);
    if installed.is(&asked) {
        return Ok(venv);
    }
    let _lock = home::lock(&lock).await.map_err(BuildFailure::io(lock.display()))?;
    if installed.is(&asked) {
        return Ok(venv);
    }
    lacking_any(Language::Python).await?;
    sink(Line::Note(&format!("Python's packages are fetched first, once, into {}", venv.display())));
    installed.begin().map_err(BuildFailure::io(venv.display()))?;
    let mut create = Command::new("python3");
    create.args(["-m", "venv", "--prompt", PROMPT]);
    if is_ours(&venv, &lock) {
        fs::write(&lock, OURS).map_err(BuildFailure::io(lock.display()))?;
        // pip takes nothing away that is asked for no more.
        create.arg("--clear");
    }
    create.arg(&venv);
    workshop.run(("python3 -m venv", create), Stdout::Told, sink, Some(Language::Python)).await?;
    let mut install = Command::new(venv.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(from);
    workshop.run(("pip install", install), Stdout::Told, sink, Some(Language::Python)).await?;
    installed.finish(&asked).map_err(BuildFailure::io(venv.display()))?;
    Ok(venv)
}

/// Whether it may be emptied: a developer may have made it, for more than builds. One without its settings is of another kind, unless the
/// note beside the lock says that it was ours and half emptied.
fn is_ours(venv: &Path, lock: &Path) -> bool {
    match fs::read_to_string(venv.join("pyvenv.cfg")) {
        Ok(settings) => settings
            .lines()
            .filter_map(|line| line.split_once('='))
            .any(|(key, value)| key.trim() == "prompt" && value.trim().trim_matches(['\'', '"']) == PROMPT),
        Err(_) => {
            let is_empty = fs::read_dir(venv).map_or(true, |mut entries| entries.next().is_none());
            is_empty || fs::read_to_string(lock).is_ok_and(|note| note == OURS)
        }
    }
}

/// Where the packages of a virtual environment are.
fn packages(venv: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(venv.join("lib")).ok()?;
    versions.flatten().map(|version| version.path().join("site-packages")).find(|packages| packages.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_ours_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let (venv, lock) = (folder.path().join(".venv"), folder.path().join(".venv.lock"));
        assert!(is_ours(&venv, &lock), "there is none");
        fs::create_dir(&venv).unwrap();
        assert!(is_ours(&venv, &lock), "it is empty");
        // As conda has it.
        fs::create_dir(venv.join("conda-meta")).unwrap();
        assert!(!is_ours(&venv, &lock));
        fs::write(&lock, OURS).unwrap();
        assert!(is_ours(&venv, &lock), "an install was ended on its way");
        for (prompt, ours) in [
            ("prompt = 'hotbay'", true),
            ("prompt = hotbay", true),
            ("prompt = 'hotbay-orders'", false),
            ("home = /usr/bin", false),
        ] {
            fs::write(venv.join("pyvenv.cfg"), format!("version = 3.11.2\n{prompt}\n")).unwrap();
            assert_eq!(is_ours(&venv, &lock), ours, "{prompt}");
        }
    }
}
