//! From sources to services: what `hotbay new` makes, `hotbay build` builds and `hotbay doctor` finds.

mod build;
mod doctor;
mod installs;
mod new;
mod templates;

use hotbay_tests::{Finished, host};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::process::Command;

/// The longest that a build may take where everything is built for the first time, Rust's std among it.
const BUILD_PATIENCE: Duration = Duration::from_secs(20 * 60);

/// A folder to work in.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("hotbay-workshop-").tempdir().expect("a folder"))
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    /// A file with the folders that it lies in.
    fn put(&self, inside: &str, text: &str) -> PathBuf {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }

    /// A command of the binary in this folder. What tools fetch and build is kept for the next run of the tests.
    fn hotbay<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = host::hotbay(args);
        command.current_dir(self.0.path());
        command.env("XDG_CACHE_HOME", kept("cache-of-templates")).env("CARGO_TARGET_DIR", kept("guests-of-templates"));
        command
    }

    async fn run<const N: usize>(&self, args: [&str; N]) -> Finished {
        finish(self.hotbay(args)).await
    }

    /// Builds `dir` into `bay` and returns what is told of its only service, after the exit code was looked at.
    async fn build(&self, dir: &str) -> Value {
        let ended = self.run(["build", dir, "--bay", "bay", "--json"]).await;
        let reports: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        assert_eq!(reports.as_array().map(Vec::len), Some(1), "{reports}");
        assert_eq!(ended.code, Some(if reports[0]["reason"].is_null() { 0 } else { 1 }), "{ended:?}");
        reports[0].clone()
    }

    /// What lies in `folder`, by name.
    fn listed(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// A folder below `target`.
fn kept(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    fs::create_dir_all(&target).expect("a target folder");
    target.canonicalize().expect("a target folder").join(name)
}

/// Runs a command to its end, which may take as long as a first build does.
async fn finish(mut command: Command) -> Finished {
    let output = tokio::time::timeout(BUILD_PATIENCE, command.output()).await;
    let output = output.expect("the command ends").expect("the command starts");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
