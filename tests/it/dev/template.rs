//! The template in Rust, with cargo: a line is saved, and the next answer has it.

use hotbay_tests::{
    Dev, PATIENCE, Sources, Steps,
    host::{Finished, hotbay},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::process::Command;

/// The longest that a build may take where everything is built for the first time, Rust's std among it.
const BUILD_PATIENCE: Duration = Duration::from_secs(20 * 60);

/// A folder below `target` that the next run of the tests finds again, as those of `workshop` do.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").canonicalize().expect("a target folder").join(name)
}

fn command<const N: usize>(sources: &Sources, args: [&str; N]) -> Command {
    let mut command = hotbay(args);
    command.current_dir(sources.services());
    command.env("XDG_CACHE_HOME", kept("cache-of-templates")).env("CARGO_TARGET_DIR", kept("guests-of-templates"));
    command
}

async fn run<const N: usize>(sources: &Sources, args: [&str; N]) -> Finished {
    let output = tokio::time::timeout(BUILD_PATIENCE, command(sources, args).output()).await;
    let output = output.expect("the command ends").expect("the command starts");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[tokio::test]
async fn a_saved_line_of_rust_is_in_the_next_answer() {
    let sources = Sources::new();
    let doctor = run(&sources, ["doctor", "--lang", "rust"]).await;
    if doctor.code != Some(0) {
        return println!("skipped: this machine lacks the tools of Rust\n{}", doctor.stdout);
    }
    let made = run(&sources, ["new", "greet", "--lang", "rust"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    // What takes minutes, once.
    let built = run(&sources, ["build", "greet", "--bay", "../bay"]).await;
    assert_eq!(built.code, Some(0), "{built:?}");

    let dev = command(&sources, ["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "json"]);
    let dev = Dev::launch(dev, sources.clone()).await;
    dev.wait_line(0, &["greet", "Rust"]).await;
    dev.wait_line(0, &["greet", "✓ first build"]).await;
    let source = sources.dir("greet").join("src/lib.rs");
    let text = fs::read_to_string(&source).expect("the source");
    let mut connection = dev.connect().await;
    for greeting in ["Welcome, ", "Good morning, ", "Hi, "] {
        let (mark, saved) = (dev.mark(), Instant::now());
        fs::write(&source, text.replace("Hello, ", greeting)).expect("the source");
        while !connection.get("/greet/Ada").await.text().contains(&format!("{greeting}Ada!")) {
            assert!(saved.elapsed() < PATIENCE, "it never serves: {}", dev.told());
        }
        let answered = saved.elapsed();
        let line = dev.wait_line(mark, &["greet", "✓ src/lib.rs"]).await;
        println!("save → new answer {answered:?}: {:?}", Steps::parse(&line));
    }

    let mark = dev.mark();
    fs::write(&source, text.replace("use serde::Serialize;", "")).expect("the source");
    dev.wait_line(mark, &["greet", "✗ src/lib.rs: build failed"]).await;
    dev.wait_line(mark, &["│", "Serialize"]).await;
    assert!(connection.get("/greet/Ada").await.text().contains("Hi, Ada!"));
    dev.interrupt().await;
}
