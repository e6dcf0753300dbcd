//! The metrics as the admin listener gives them: right after known requests, and nothing for Prometheus' tool to complain about.

use hotbay_tests::{Host, guests, host::tool};
use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Guards `Longest` in host/src/telemetry/durations.rs: by its place in a bucket, the slowest would be told far above the deadline.
#[tokio::test]
async fn no_latency_is_told_that_no_request_had() {
    let (wasm, settings) = (guests::revision("probe", 1), "[limits]\ndeadline = \"260ms\"\n");
    let host = Host::builder().own_state().service("probe", &wasm).settings("probe", settings).start().await;
    let mut longest = Duration::ZERO;
    for _ in 0..4 {
        let answer = host.get("/probe/sleep?ms=600000").await;
        assert_eq!(answer.status, 504);
        longest = longest.max(host.log().wait_request(answer.request_id()).await.took);
    }
    let serving = host.admin().get("/v1/services/probe").await.json()["serving"].clone();
    for told in ["p50_us", "p99_us"] {
        let told = Duration::from_micros(serving[told].as_u64().expect("it is told"));
        // The log leaves out what is less than a microsecond.
        assert!(told <= longest + Duration::from_micros(1) && !told.is_zero(), "{told:?} of {longest:?} at most: {serving}");
    }
}

#[tokio::test]
async fn what_happened_is_counted() {
    let host = Host::builder().service("probe", &guests::revision("probe", 1)).start().await;
    let admin = host.admin();
    let mut last = String::new();
    for (target, count) in [("/probe/marker", 3), ("/probe/status?code=404", 2), ("/probe/trap", 1)] {
        for _ in 0..count {
            last = host.get(target).await.request_id().to_owned();
            host.log().wait_request(&last).await;
        }
    }
    assert!(!last.is_empty());
    assert_eq!(host.get("/nowhere").await.status, 404);
    let (old, next) = (guests::digest(&guests::revision("probe", 1)), guests::revision("probe", 2));
    let serving = admin.get("/v1/services/probe").await.json()["serving"].clone();
    assert_eq!((&serving["requests"], &serving["faults"], &serving["in_flight"]), (&6.into(), &1.into(), &0.into()), "{serving}");
    assert!(serving["p50_us"].as_u64() <= serving["p99_us"].as_u64() && serving["p50_us"].is_u64(), "{serving}");

    let text = admin.get("/metrics").await.text();
    let requests = |class: &str| format!("hotbay_requests_total{{code_class=\"{class}\",revision=\"{old}\",service=\"probe\"}}");
    for (series, wanted) in [
        (requests("2xx"), 3.0),
        (requests("4xx"), 2.0),
        (requests("5xx"), 1.0),
        (format!("hotbay_faults_total{{fault=\"trap\",revision=\"{old}\",service=\"probe\"}}"), 1.0),
        ("hotbay_unrouted_requests_total{reason=\"no_route\"}".to_owned(), 1.0),
        ("hotbay_swaps_total{outcome=\"published\",service=\"probe\"}".to_owned(), 1.0),
    ] {
        assert_eq!(value(&text, &series), Some(wanted), "{series} in\n{text}");
    }
    assert_eq!(admin.put("/v1/services/probe", guests::text("trap-in-start")).await.status, 422);
    assert_eq!(admin.put("/v1/services/probe", next.clone()).await.status, 200);
    let answer = host.get("/probe/marker").await;
    host.log().wait_request(answer.request_id()).await;
    let text = admin.get("/metrics").await.text();
    let next = guests::digest(&next);
    for (series, wanted) in [
        (format!("hotbay_requests_total{{code_class=\"2xx\",revision=\"{next}\",service=\"probe\"}}"), 1.0),
        ("hotbay_swaps_total{outcome=\"published\",service=\"probe\"}".to_owned(), 2.0),
        ("hotbay_swaps_total{outcome=\"rejected\",service=\"probe\"}".to_owned(), 1.0),
    ] {
        assert_eq!(value(&text, &series), Some(wanted), "{series} in\n{text}");
    }
    assert_eq!(admin.stranger("GET", "/metrics").send().await.status, 401);
    promtool(&text);
}

/// What Prometheus' own tool says: `.ci/setup test` brings it.
fn promtool(text: &str) {
    let mut child = ["promtool".into()].into_iter().chain(tool("bin/promtool")).find_map(|tool: PathBuf| {
        let mut command = Command::new(tool);
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()
    });
    let Some(mut child) = child.take() else {
        println!("skipped: promtool is not here; `.ci/setup test` brings it, or install Debian's `prometheus`");
        return;
    };
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
}
