//! Before a service has been built for the first time: what is going on, at its routes, to people and to their tools.

use super::{assert_serves, build};
use hotbay_tests::{Dev, Messages, PATIENCE, Sources, guests};
use serde_json::Value;
use std::{fs, time::Instant};

const BROWSER: &str = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";

/// A service whose build goes on with a line that is written into the gate: the path of what it makes, or words that it fails with.
fn gated() -> Sources {
    let sources = Sources::new();
    let gate = sources.folder().join("gate");
    let made = std::process::Command::new("mkfifo").arg(&gate).status().expect("coreutils");
    assert!(made.success());
    let command = format!(
        r#"read -r made < {}; if [ ! -f "$made" ]; then printf '\033[31merror\033[0m: %s\n' "$made" >&2; exit 1; fi; cp "$made" out.wasm"#,
        gate.display()
    );
    sources.add_with("one", &command);
    sources.settings("one", "[[route]]\npath = \"/shop/{*rest}\"\n");
    sources
}

/// Lets the build that waits go on with this line.
async fn pass(sources: &Sources, line: &str) {
    let (gate, line) = (sources.folder().join("gate"), format!("{line}\n"));
    // Opening waits for the build.
    tokio::task::spawn_blocking(move || fs::write(gate, line)).await.expect("a task").expect("the gate is open");
}

/// The answer to tools once it is about the first build and in this state.
async fn until(dev: &Dev, state: &str) -> Value {
    let begun = Instant::now();
    loop {
        let answer = dev.get("/shop/x").await;
        let told = if answer.status == 503 { answer.json()["dev"].clone() } else { Value::Null };
        if told["build"]["state"] == state {
            assert_eq!(answer.header("retry-after"), "1");
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "{}\n{}", answer.text(), dev.told());
        tokio::task::yield_now().await;
    }
}

/// The page that a browser gets, and what it has seen by that.
async fn page(dev: &Dev) -> (String, String) {
    let page = dev.request("GET", "/shop/x").header("accept", BROWSER).send().await;
    assert_eq!(page.status, 503);
    let page = page.text();
    let (_, rest) = page.split_once("data-watch=\"service=one\" data-seen=\"").expect("it waits for its service");
    let seen = rest.split_once('"').expect("an end").0.to_owned();
    (page, seen)
}

#[tokio::test]
async fn what_is_asked_for_before_its_first_build_tells_how_that_goes_and_loads_itself_again() {
    let sources = gated();
    let dev = sources.start().await;
    let told = until(&dev, "under-way").await;
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("first build is under way")), "{told}");
    let (under_way, seen) = page(&dev).await;
    assert!(under_way.contains("<h1>The service is being built.</h1>"), "{under_way}");
    let mut events = Messages::of(dev.request("GET", "/.hotbay/reload?service=one").open().await);
    assert_eq!(events.expect().await.data, serde_json::json!([seen]), "there is nothing newer than the page");

    pass(&sources, "no `x` & <b>").await;
    let told = until(&dev, "failed").await;
    assert_eq!(told["build"]["output"], serde_json::json!(["error: no `x` & <b>"]));
    let failed_sign = events.expect().await.data;
    let (failed, seen) = page(&dev).await;
    assert!(
        failed.contains("<h1>The build of the service failed.</h1>") && failed.contains("error: no `x` &amp; &lt;b&gt;\n"),
        "{failed}"
    );
    assert_eq!(failed_sign, serde_json::json!([seen]));

    // Settings alone are none of the bay's, and what is wrong with them is told.
    sources.settings("one", "[limits]\ncpux = \"1s\"\n");
    dev.wait_line(0, &["one", "its settings will not do"]).await;
    dev.wait_line(0, &["│", "cpux"]).await;
    assert!(!sources.bay().join("one.toml").exists());
    assert_eq!(dev.get("/one").await.json()["dev"]["build"]["state"], "failed");

    // A save builds again, on other routes by now; and then it serves.
    sources.settings("one", "");
    sources.write("one", "saved");
    let made = sources.folder().join("builds").join("made");
    fs::write(&made, build(3)).expect("a build");
    pass(&sources, &made.display().to_string()).await;
    dev.wait_published("one", &guests::digest(&build(3))).await;
    assert_serves(&dev, "one", 3).await;
    assert_eq!(dev.get("/shop/x").await.status, 404);
    let mut news = events.expect().await.data;
    while news.as_array().is_none_or(|signs| signs.iter().any(|sign| sign.as_str().is_none_or(|sign| sign.contains("down")))) {
        news = events.expect().await.data;
    }
    dev.interrupt().await;
}

#[tokio::test]
async fn a_service_that_goes_before_it_was_built_leaves_no_route() {
    let sources = gated();
    let dev = sources.start().await;
    until(&dev, "under-way").await;
    fs::rename(sources.dir("one"), sources.folder().join("gone")).expect("its folder goes");
    dev.wait_line(0, &["one", "its sources are gone"]).await;
    let answer = dev.get("/shop/x").await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    dev.interrupt().await;
}
