//! The commands that change services and show what guests say: what they print, and their exit codes.

use hotbay_tests::{
    Finished, Host, PATIENCE, guests,
    host::{ask, assert_fails},
};
use serde_json::Value;
use std::{fs, process::Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};

/// What the n-th build is called.
fn revision(n: u32) -> String {
    guests::digest(&guests::revision("probe", n))
}

async fn host() -> Host {
    Host::builder().own_state().service("probe", &guests::revision("probe", 1)).start().await
}

#[track_caller]
fn assert_prints(ended: &Finished, named: &[&str]) {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    for named in named {
        assert!(ended.stdout.contains(named), "{named}: {}", ended.stdout);
    }
}

/// Writes a build beside the bay, and returns its path.
fn file(host: &Host, name: &str, content: &[u8]) -> String {
    let path = host.folder().join(name);
    fs::write(&path, content).expect("a file");
    path.to_string_lossy().into_owned()
}

#[tokio::test]
async fn deploy_waits_and_tells_the_steps() {
    let host = host().await;
    let two = guests::revision("probe", 2);
    let (path, revision) = (file(&host, "probe.wasm", &two), guests::digest(&two));
    let ended = ask(&host, ["deploy", &path]).await;
    let address = host.address().to_string();
    assert_prints(
        &ended,
        &["compiling", "linking", "warming", &format!("published   probe {revision} in "), "try: curl ", &address],
    );
    assert_eq!(fs::read(host.build_path("probe")).expect("a build"), two);
    assert_prints(&ask(&host, ["deploy", &path]).await, &["unchanged", &revision]);
    // With settings, under another name, as JSON.
    let settings = file(&host, "other.toml", b"[[route]]\npath = \"/elsewhere\"\n");
    let ended = ask(&host, ["deploy", &path, "--name", "other", "--settings", &settings, "--json"]).await;
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((ended.code, &json["outcome"], &json["service"]), (Some(0), &"published".into(), &"other".into()), "{json}");
    assert_eq!(host.get("/elsewhere").await.revision(), revision);
    let three = guests::revision("probe", 3);
    let path = file(&host, "three.wasm", &three);
    assert_prints(&ask(&host, ["deploy", &path, "--name", "probe", "--no-wait"]).await, &["accepted", "hotbay events probe"]);
    host.wait_published("probe", &guests::digest(&three)).await;
}

#[tokio::test]
async fn deploy_says_why_it_failed() {
    let host = host().await;
    let rejected = file(&host, "probe.wasm", &guests::text("trap-in-start"));
    assert_fails(&ask(&host, ["deploy", &rejected]).await, &["; "]);
    let ended = ask(&host, ["deploy", &rejected, "--json"]).await;
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((ended.code, &json["status"], ended.stderr.as_str()), (Some(1), &422.into(), ""), "{json}");
    assert_fails(&ask(&host, ["deploy", &file(&host, "text.wasm", b"hello")]).await, &["text"]);
    assert_fails(&ask(&host, ["deploy", &file(&host, "Wrong.wasm", b"hello")]).await, &["--name"]);
    assert_fails(&ask(&host, ["deploy", "/nowhere.wasm"]).await, &["/nowhere.wasm"]);
    assert_eq!(ask(&host, ["deploy"]).await.code, Some(2));
    assert_eq!(ask(&host, ["rollback"]).await.code, Some(2));
    assert_eq!(host.get("/probe/marker").await.revision(), revision(1));
}

#[tokio::test]
async fn rollback_promote_history_and_remove() {
    let host = host().await;
    let (one, two, three) = (guests::revision("probe", 1), guests::revision("probe", 2), guests::revision("probe", 3));
    for (name, build) in [("probe", &two), ("probe@beta", &three)] {
        let path = file(&host, "build.wasm", build);
        assert_prints(&ask(&host, ["deploy", &path, "--name", name]).await, &[name]);
    }
    assert_prints(&ask(&host, ["rollback", "probe"]).await, &["published   probe", &guests::digest(&one)]);
    assert_prints(&ask(&host, ["rollback", "probe", "--to", &guests::digest(&two)[..6]]).await, &[&guests::digest(&two)]);
    assert_fails(&ask(&host, ["rollback", "probe", "--to", "ffff"]).await, &["ffff", &guests::digest(&two)]);
    assert_fails(&ask(&host, ["rollback", "prob"]).await, &["did you mean probe"]);
    // Side by side.
    assert_eq!(host.get("/probe/marker").await.status, 200);
    let ended = ask(&host, ["ps", "probe"]).await;
    assert_prints(&ended, &["REQUESTS", "FAULTS", "P50", "P99", "probe@beta"]);
    assert_fails(&ask(&host, ["promote", "probe"]).await, &["NAME@LABEL"]);
    assert_fails(&ask(&host, ["promote", "probe@betta"]).await, &["probe@beta"]);
    assert_prints(&ask(&host, ["promote", "probe@beta"]).await, &[&guests::digest(&three)]);
    assert_eq!(host.get("/probe/marker").await.revision(), revision(3));
    let ended = ask(&host, ["history", "probe"]).await;
    let came: Vec<_> = ended.stdout.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert_eq!(came, ["CAME", "promote", "rollback", "rollback", "deploy", "bay"], "{}", ended.stdout);
    let json: Value = serde_json::from_str(&ask(&host, ["history", "probe", "--json"]).await.stdout).expect("JSON");
    assert_eq!(json["revisions"].as_array().map(Vec::len), Some(5), "{json}");
    assert_prints(&ask(&host, ["remove", "probe"]).await, &["removed     probe"]);
    assert_fails(&ask(&host, ["remove", "nobody"]).await, &["`nobody`"]);
    assert!(!host.build_path("probe").exists());
}

/// A guest's lines, by the API and by the command, with the request that they belong to.
#[tokio::test]
async fn logs_shows_what_guests_write() {
    let host = Host::builder()
        .own_state()
        .service("talks", &guests::fixture("logging"))
        .service("probe", &guests::fixture("probe"))
        .start()
        .await;
    let mut lines = host.admin().follow("/v1/logs?service=talks", None).await;
    assert_eq!(host.get("/probe/print").await.status, 200);
    assert_eq!(host.request("GET", "/talks/levels").header("x-request-id", "seven").send().await.status, 200);
    let line = lines.expect().await;
    assert_eq!(
        (line.event.as_str(), &line.data["service"], &line.data["request_id"]),
        ("line", &"talks".into(), &"seven".into())
    );
    assert_eq!((&line.data["stream"], &line.data["context"]), (&"logging".into(), &"prices".into()), "{}", line.data);
    assert_eq!(line.data["revision"], guests::digest(&guests::fixture("logging")));

    for json in [false, true] {
        let mut command = host.command(["logs", "talks"]);
        if json {
            command.arg("--json");
        }
        let mut following = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut shown = BufReader::new(following.stdout.take().expect("piped")).lines();
        // Asked until the command listens.
        let asking = async {
            loop {
                host.request("GET", "/talks/levels").header("x-request-id", "eight").send().await;
            }
        };
        let line = tokio::select! {
            line = tokio::time::timeout(PATIENCE, shown.next_line()) => line.expect("a line in time").expect("output").expect("a line"),
            () = asking => String::new(),
        };
        assert!(line.contains("eight") && line.contains("words of") && line.starts_with('{') == json, "{line}");
        following.kill().await.expect("it ends");
    }
    assert_fails(&ask(&host, ["logs", "talk"]).await, &["did you mean talks"]);
}
