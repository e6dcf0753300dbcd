//! Builds that wait for whom they call: what shows it, and who could provide it.

use super::{CALLS_COUNTER, Text};
use hotbay_tests::{
    Finished, Host, How, PATIENCE, guests,
    host::{ask, finish, hotbay},
};
use serde_json::Value;
use std::{fs, path::Path, time::Instant};

const INTERFACE: &str = "shop:counter/counter@0.1.0";

/// Guards `lacked` in host/src/admin/graph.rs.
#[tokio::test]
async fn the_graph_shows_who_waits_for_whom() {
    let relay = Text::relays("relay", "counter").wasm();
    let host = Host::builder().own_state().service("relay", &relay).settings("relay", CALLS_COUNTER).start().await;
    host.wait_rejected("relay").await;
    let row = async || {
        let told = ask(&host, ["ps", "--graph"]).await.stdout;
        let rows = told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.into_iter().find(|row| row.starts_with(&["relay", "->", "counter"]));
        row.unwrap_or_else(|| panic!("{told}")).join(" ")
    };
    let waits = format!("waits for {INTERFACE}");
    let line = row().await;
    assert!(line.contains(&waits) && line.ends_with("missing"), "{line}");

    // It is there, and its types are others: it is waited for still.
    host.place("counter", &Text::adds("counter", 1).taking("u64").wasm(), How::Rename);
    host.wait_for("counter", "published").await;
    let line = row().await;
    assert!(line.ends_with(&waits), "{line}");

    host.place("counter", &Text::adds("counter", 1).wasm(), How::Rename);
    host.wait_for("relay", "published").await;
    let line = row().await;
    assert!(line.ends_with(INTERFACE) && !line.contains("waits"), "{line}");

    // A newer build that calls something else beside what serves: both are shown.
    let mark = host.mark();
    host.place("relay", &Text::relays("relay", "other").wasm(), How::Rename);
    host.since(mark).wait_rejected("relay").await;
    let line = row().await;
    assert!(line.contains(&format!("{INTERFACE}, waits for shop:other/other@0.1.0")), "{line}");
    host.place("relay", &relay, How::Rename);
    // The host says nothing of files that serve already.
    let begun = Instant::now();
    let graph = loop {
        let json: Value = serde_json::from_str(&ask(&host, ["ps", "--graph", "--json"]).await.stdout).expect("JSON");
        if json["calls"][0]["waits"] == Value::Array(Vec::new()) {
            break json;
        }
        assert!(begun.elapsed() < PATIENCE, "{json}");
    };
    assert_eq!(graph["calls"][0]["interfaces"], serde_json::json!([INTERFACE]));
}

async fn check(folder: &Path, file: &str) -> Finished {
    let mut command = hotbay(["check", file]);
    command.current_dir(folder);
    finish(command).await
}

#[tokio::test]
async fn a_check_names_the_interface_that_nobody_beside_it_exports_and_who_could() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).expect("a file");
    put("relay.wasm", &Text::relays("relay", "counter").wasm());
    let lacking = async |code: i32, wanted: &[&str]| {
        let ended = check(folder.path(), "relay.wasm").await;
        assert_eq!(ended.code, Some(code), "{ended:?}");
        match wanted {
            [] => assert!(!ended.stdout.contains("lacking"), "{}", ended.stdout),
            wanted => wanted.iter().for_each(|words| assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout)),
        }
    };
    lacking(1, &[&format!("lacking  {INTERFACE}: no build beside it exports it"), "put a service that exports it into the bay"])
        .await;
    put("relay.toml", CALLS_COUNTER.as_bytes());
    put("probe.wasm", &guests::fixture("probe"));
    // From here on it would wait, which is no fault of the file.
    lacking(0, &["it may call counter.wasm", "or name the one that does"]).await;
    let old = Text::adds("counter", 1).and("shop:counter/counter@0.2.0", "u32").wasm();
    put("other.wasm", &old);
    lacking(0, &["other.wasm exports it, and is not granted", "add `calls = [\"counter\", \"other\"]` to [grants]"]).await;
    fs::remove_file(folder.path().join("other.wasm")).expect("it was there");
    put("counter.wasm", &Text::adds("elsewhere", 1).and("shop:counter/counter@0.2.0", "u32").wasm());
    lacking(0, &["counter.wasm exports shop:counter/counter@0.2.0 and not this version", "beside its own"]).await;
    put("counter.wasm", &old);
    lacking(0, &[]).await;
}
