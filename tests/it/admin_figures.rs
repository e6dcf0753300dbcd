//! What the dashboard is made of and asks for: its files, figures of the last minutes, the settings in the bay, shares.

use crate::admin::assert_problem;
use hotbay_tests::{Host, guests};
use serde_json::{Value, json};
use std::fs;

async fn host() -> Host {
    Host::builder().own_state().service("probe", &guests::revision("probe", 1)).start().await
}

/// Guards `is_of_page` in host/src/admin/dashboard.rs, and the headers of the page.
#[tokio::test]
async fn the_page_needs_no_token_holds_none_and_lets_nothing_strange_in() {
    let host = host().await;
    let admin = host.admin();
    let page = admin.stranger("GET", "/").send().await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for (header, wanted) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(page.header(header), wanted, "{header}");
    }
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!page.text().contains(&admin.token()));
    let again = admin.stranger("GET", "/").header("if-none-match", page.header("etag")).send().await;
    assert_eq!((again.status, again.text().as_str()), (304, ""));
    assert_eq!(admin.stranger("HEAD", "/").send().await.status, 200);

    // All that the page names is there, and is of this host.
    let text = page.text();
    let named: Vec<_> = text.split('"').filter(|part| part.starts_with("/dashboard/")).collect();
    assert!(named.len() > 4, "{text}");
    for file in named.iter().copied().chain(["/dashboard/vendor/uplot.js"]) {
        assert_eq!(admin.stranger("GET", file).send().await.status, 200, "{file}");
    }
    assert!(!text.contains("://"), "{text}");
    for (method, target, status) in [
        ("GET", "/dashboard/nothing.js", 404),
        ("GET", "/dashboard/..%2f..%2fCargo.toml", 404),
        ("POST", "/", 405),
        ("GET", "/dashboard", 401),
        ("GET", "//", 401),
    ] {
        assert_problem(&admin.stranger(method, target).send().await, status);
    }
    assert_problem(&admin.stranger("GET", "/").host("elsewhere.example.com").send().await, 403);
    assert_problem(&admin.stranger("GET", "/").header("origin", "http://elsewhere.example.com").send().await, 403);
}

#[tokio::test]
async fn figures_of_the_last_minutes_are_told() {
    let host = host().await;
    let admin = host.admin();
    let summary = admin.get("/v1/metrics/summary").await.json();
    assert_eq!((&summary["services"], &summary["host"]["requests"]), (&json!([]), &json!(0)), "{summary}");
    for target in ["/probe/marker", "/probe/marker", "/probe/trap"] {
        let answer = host.get(target).await;
        host.log().wait_request(answer.request_id()).await;
    }
    // A sample comes every five seconds.
    let began = std::time::Instant::now();
    let summary = loop {
        let summary = admin.get("/v1/metrics/summary").await.json();
        if summary["host"]["requests"] == 3 {
            break summary;
        }
        assert!(began.elapsed() < hotbay_tests::PATIENCE, "{summary}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let probe = &summary["services"][0];
    assert_eq!((&probe["name"], &probe["requests"], &probe["faults"]), (&json!("probe"), &json!(3), &json!(1)), "{summary}");
    assert!(probe["p50_us"].is_u64() && probe["p50_us"].as_u64() <= probe["p99_us"].as_u64(), "{summary}");
    let sum = |history: &Value, column: &str| {
        history[column].as_array().expect("a column").iter().filter_map(Value::as_u64).sum::<u64>()
    };
    for (target, requests) in
        [("/v1/metrics/history", 3), ("/v1/metrics/history?service=probe", 3), ("/v1/metrics/history?service=other", 0)]
    {
        let history = admin.get(target).await.json();
        assert_eq!((sum(&history, "requests"), &history["every_ms"]), (requests, &json!(5000)), "{target}: {history}");
        let length = |column: &str| history[column].as_array().map(Vec::len);
        assert!(["requests", "faults", "p50_us", "p99_us"].iter().all(|column| length(column) == length("at_ms")), "{history}");
    }
    assert_problem(&admin.get("/v1/metrics/history?of=probe").await, 400);
}

#[tokio::test]
async fn the_settings_in_the_bay_are_told_and_shares_are_written_into_them() {
    let host = host().await;
    let admin = host.admin();
    assert_eq!(admin.get("/v1/services/probe/settings").await.text(), "");
    host.place_settings("probe", "# mine\n[limits]\nqueue = 3\n");
    host.log().wait("the settings", |event| event.service == "probe" && event.state == "draining").await;
    let settings = admin.get("/v1/services/probe/settings").await;
    assert_eq!(
        (settings.header("content-type"), settings.text().as_str()),
        ("application/toml", "# mine\n[limits]\nqueue = 3\n")
    );
    assert_problem(&admin.get("/v1/services/other/settings").await, 404);
    assert_problem(&admin.get("/v1/services/probe@beta/settings").await, 400);

    assert_eq!(admin.put("/v1/services/probe@beta", guests::revision("probe", 2)).await.status, 200);
    let shared = admin.put("/v1/services/probe/traffic", r#"{"shares": {"beta": 100}}"#).await;
    assert_eq!(shared.status, 200, "{}", shared.text());
    assert_eq!(host.get("/probe/marker").await.revision(), guests::digest(&guests::revision("probe", 2)));
    let settings = fs::read_to_string(host.bay().join("probe.toml")).expect("settings");
    assert_eq!(settings, "# mine\n[limits]\nqueue = 3\n\n[traffic]\nbeta = 100\n");
    for (body, status) in [
        (r#"{"shares": {"beta": 101}}"#, 422),
        (r#"{"shares": {"main": 10}}"#, 400),
        (r#"{"shares": {"beta": -1}}"#, 400),
        ("", 400),
        ("{}", 400),
    ] {
        assert_problem(&admin.put("/v1/services/probe/traffic", body).await, status);
    }
    assert_problem(&admin.put("/v1/services/other/traffic", r#"{"shares": {"beta": 1}}"#).await, 404);
    assert_eq!(fs::read_to_string(host.bay().join("probe.toml")).expect("settings"), settings);
}
