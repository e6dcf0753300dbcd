//! Every template: made, tested natively, built, served by a real host and asked.

use super::{Bench, finish, kept};
use hotbay_tests::Host;
use std::fs;
use tokio::process::Command;

/// Whether this machine has what `language` needs; `.ci/setup test` brings it.
async fn can_build(bench: &Bench, language: &str) -> bool {
    let ended = bench.run(["doctor", "--lang", language]).await;
    // It says what is missing, and nothing else keeps the test from its work.
    assert!(ended.code == Some(0) || ended.stdout.contains("missing"), "{ended:?}");
    if ended.code != Some(0) {
        println!("skipped the template for {language}: this machine lacks its tools\n{}", ended.stdout);
    }
    ended.code == Some(0)
}

/// Makes a service, runs its own tests, builds it and has it answer.
async fn goes_from_nothing_to_an_answer(language: &str, own_tests: &[&str]) -> Option<(Bench, Host)> {
    let bench = Bench::new();
    if !can_build(&bench, language).await {
        return None;
    }
    let made = bench.run(["new", "greet", "--lang", language]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let lines = fs::read_to_string(bench.path("greet/README.md")).expect("a README").lines().count();
    assert!(lines <= 15, "the README has {lines} lines");

    let [program, args @ ..] = own_tests else { panic!("its tests are a command") };
    let mut tests = Command::new(program);
    tests.args(args).current_dir(bench.path("greet")).env("CARGO_TARGET_DIR", kept("guests-of-templates"));
    let tested = finish(tests).await;
    assert_eq!(tested.code, Some(0), "{tested:?}");

    let built = bench.build("greet").await;
    assert_eq!((&built["service"], &built["placed"]), (&"greet".into(), &"changed".into()), "{built}");
    assert_eq!(bench.listed("bay"), ["greet.toml", "greet.wasm"]);
    let host = Host::builder().bay(bench.path("bay")).config("[compile]\ntimeout = \"10m\"\n").start().await;
    let answer = host.get("/greet/Ada").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("Hello, Ada!"), "{}", answer.text());
    assert_eq!(host.get("/greet").await.status, 200);
    assert_eq!(host.get(&format!("/greet/{}", "a".repeat(51))).await.status, 400);
    Some((bench, host))
}

/// Changes what the service says, builds, and sees the change in the answers of the host that runs.
async fn is_swapped_by_a_build(bench: &Bench, host: &Host, source: &str) {
    // Nothing has changed, so a host sees no change.
    assert_eq!(bench.build("greet").await["placed"], "unchanged");
    let path = bench.path(source);
    let text = fs::read_to_string(&path).expect("the source").replace("Hello, ", "Welcome, ");
    fs::write(&path, text).expect("the source");
    let built = bench.build("greet").await;
    assert_eq!(built["placed"], "changed", "{built}");
    host.wait_published("greet", built["digest"].as_str().expect("a digest")).await;
    let answer = host.get("/greet/Ada").await;
    assert!(answer.text().contains("Welcome, Ada!"), "{}", answer.text());
}

#[tokio::test]
async fn rust_goes_from_nothing_to_an_answer_and_is_swapped() {
    if let Some((bench, host)) = goes_from_nothing_to_an_answer("rust", &["cargo", "test", "--quiet"]).await {
        is_swapped_by_a_build(&bench, &host, "greet/src/lib.rs").await;
    }
}

#[tokio::test]
async fn c_goes_from_nothing_to_an_answer_and_is_swapped() {
    if let Some((bench, host)) = goes_from_nothing_to_an_answer("c", &["sh", "test.sh"]).await {
        is_swapped_by_a_build(&bench, &host, "greet/main.c").await;
    }
}

/// Guards `Seal::holds` in host/src/workshop/seal.rs: these tools make another file of the same sources each time.
#[tokio::test]
async fn python_goes_from_nothing_to_an_answer_and_is_built_again_where_a_source_is_another() {
    let Some((bench, host)) = goes_from_nothing_to_an_answer("python", &["python3", "-m", "unittest"]).await else { return };
    drop(host);
    let built = bench.build("greet").await;
    assert_eq!((&built["placed"], &built["was_there"]), (&"unchanged".into(), &true.into()), "{built}");
    let path = bench.path("greet/greeting.py");
    let text = fs::read_to_string(&path).expect("the source").replace("Hello, ", "Welcome, ");
    fs::write(&path, text).expect("the source");
    let built = bench.build("greet").await;
    assert_eq!((&built["placed"], &built["was_there"]), (&"changed".into(), &false.into()), "{built}");
}

#[tokio::test]
async fn javascript_goes_from_nothing_to_an_answer_and_is_built_anew_where_that_is_asked_for() {
    let Some((bench, host)) = goes_from_nothing_to_an_answer("javascript", &["node", "--test"]).await else { return };
    drop(host);
    assert_eq!(bench.build("greet").await["was_there"], true);
    let ended = bench.run(["build", "greet", "--bay", "bay", "--anew", "--json"]).await;
    let reports: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!((ended.code, &reports[0]["was_there"]), (Some(0), &false.into()), "{ended:?}");
}
