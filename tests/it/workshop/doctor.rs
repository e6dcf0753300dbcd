//! `hotbay doctor`: its exit codes, for scripts, and its words, for people.

use super::{Bench, finish};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt};
use tokio::process::Command;

/// `hotbay doctor` where no tool is installed.
fn on_a_bare_machine<const N: usize>(bench: &Bench, args: [&str; N]) -> Command {
    let mut command = bench.hotbay(args);
    command.env("PATH", bench.path("empty")).env_remove("WASI_SDK_PATH");
    command
}

#[tokio::test]
async fn what_nobody_asked_for_may_be_missing() {
    let bench = Bench::new();
    let ended = finish(on_a_bare_machine(&bench, ["doctor"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for named in
        ["rust\n", "python\n", "javascript\n", "c\n", "host\n", "missing", "https://rustup.rs", "127.0.0.1:8080", "memory"]
    {
        assert!(ended.stdout.contains(named), "{named}: {}", ended.stdout);
    }
}

#[tokio::test]
async fn what_was_asked_for_must_be_there() {
    let bench = Bench::new();
    for language in ["rust", "python", "javascript", "c"] {
        let ended = finish(on_a_bare_machine(&bench, ["doctor", "--lang", language, "--json"])).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert_eq!(report["ok"], false);
        let section = &report["sections"][0];
        assert_eq!((section["name"].as_str(), section["needed"].as_bool()), (Some(language), Some(true)), "{report}");
        let findings = section["findings"].as_array().expect("findings");
        let missing: Vec<_> = findings.iter().filter(|finding| finding["standing"] == "missing").collect();
        assert!(!missing.is_empty() && missing.iter().all(|finding| finding["remedy"].is_string()), "{report}");
    }
}

#[tokio::test]
async fn several_languages_are_named_by_commas() {
    let bench = Bench::new();
    let ended = finish(on_a_bare_machine(&bench, ["doctor", "--lang", "python,c"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("python\n") && ended.stdout.contains("c\n") && !ended.stdout.contains("rust\n"), "{ended:?}");
}

#[tokio::test]
async fn a_tool_that_is_too_old_counts_as_missing() {
    let bench = Bench::new();
    let node = bench.put("empty/node", "#!/bin/sh\necho v12.22.9\n");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o755)).expect("a script");
    let ended = finish(on_a_bare_machine(&bench, ["doctor", "--lang", "javascript"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("v12.22.9 is older than 20.6"), "{}", ended.stdout);
}

#[tokio::test]
async fn what_a_folder_needs_is_read_from_its_services() {
    let bench = Bench::new();
    bench.put("shop/stock/main.c", "");
    bench.put("shop/stock/stock.toml", "");
    let ended = finish(on_a_bare_machine(&bench, ["doctor", "shop"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.starts_with("c\n") && ended.stdout.contains("apt-get install clang"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("rustup"), "{}", ended.stdout);
}

#[tokio::test]
async fn a_bay_is_looked_at_where_it_is_named() {
    let bench = Bench::new();
    let ended = bench.run(["doctor", "--bay", "bay"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("mkdir -p bay"), "{}", ended.stdout);
    fs::create_dir(bench.path("bay")).expect("a bay");
    bench.put("bay/Wrong.wasm", "");
    bench.put("bay/right.wasm", "");
    let ended = bench.run(["doctor", "--bay", "bay"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for named in ["1 builds", "Wrong.wasm", "hotbay serve bay"] {
        assert!(ended.stdout.contains(named), "{named}: {}", ended.stdout);
    }
}
