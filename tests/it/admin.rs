//! The admin listener: who may call, what it tells of services and of the host, and that nothing else is held up by it.

use hotbay_tests::{Admin, Builder, Gate, Host, How, PATIENCE, Response, Signal, guests};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) fn builder() -> Builder {
    Host::builder().service("probe", &guests::fixture("probe"))
}

/// Sends these bytes to the admin listener and reads until it closes the connection.
pub(crate) async fn raw(admin: &Admin, bytes: &str) -> String {
    let mut socket = TcpStream::connect(admin.address()).await.expect("a connection");
    // One that is refused early may be closed already; what was said counts.
    let _ = socket.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stayed open after {bytes:?}");
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
pub(crate) fn assert_problem(answer: &Response, status: u16) -> Value {
    assert_eq!((answer.status, answer.header("content-type")), (status, "application/problem+json"), "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["status"], status);
    assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    body
}

#[tokio::test]
async fn the_token_is_kept_and_one_that_was_deleted_is_worth_nothing() {
    let host = builder().own_state().start().await;
    let (old, path) = (host.admin().token(), host.state().join("admin.token"));
    assert!(old.len() == 64 && old.bytes().all(|byte| byte.is_ascii_hexdigit()), "{old}");
    let mode = fs::metadata(&path).expect("a token").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let host = host.stop().await.start().await;
    assert_eq!(host.admin().token(), old);
    let builder = host.stop().await;
    fs::remove_file(&path).expect("it is there");
    let host = builder.start().await;
    let admin = host.admin();
    assert_ne!(admin.token(), old);
    let answer = admin.stranger("GET", "/v1/services").header("authorization", &format!("Bearer {old}")).send().await;
    assert_problem(&answer, 401);
    assert_eq!(admin.get("/v1/services").await.status, 200);
}

#[tokio::test]
async fn services_are_told_with_what_serves_and_what_was_rejected() {
    let host = builder().service("Wrong", b"x").service("broken", b"no wasm").start().await;
    let admin = host.admin();
    let list = admin.get("/v1/services").await.json();
    let names: Vec<_> = list["services"].as_array().expect("a list").iter().map(|service| service["name"].clone()).collect();
    assert_eq!(names, ["Wrong.wasm", "broken", "probe"]);
    let probe = admin.get("/v1/services/probe").await.json();
    assert_eq!(probe, list["services"][2]);
    let wasm = guests::fixture("probe");
    let (revision, serving) = (guests::digest(&wasm), &probe["serving"]);
    assert_eq!((&probe["state"], &serving["revision"]), (&"serving".into(), &revision.as_str().into()), "{probe}");
    assert!(serving["digest"].as_str().is_some_and(|digest| digest.len() == 64 && digest.starts_with(&revision)), "{probe}");
    assert_eq!((&serving["kind"], &serving["came"]), (&"http02".into(), &"bay".into()), "{probe}");
    assert_eq!(serving["routes"][0], "/probe");
    assert!(probe["rejected"].is_null() && probe["draining"] == Value::Array(Vec::new()), "{probe}");
    let broken = admin.get("/v1/services/broken").await.json();
    assert_eq!(broken["state"], "rejected");
    assert!(broken["serving"].is_null() && broken["rejected"]["remedy"].is_string(), "{broken}");

    // A bad build beside a good revision, and the good one again.
    let mark = host.mark();
    host.place("probe", b"no wasm", How::Rename);
    host.since(mark).wait_rejected("probe").await;
    let probe = admin.get("/v1/services/probe").await.json();
    assert_eq!((&probe["state"], &probe["serving"]["revision"]), (&"serving".into(), &revision.as_str().into()), "{probe}");
    assert_eq!(probe["rejected"]["revision"], guests::digest(b"no wasm"), "{probe}");
    let next = guests::revision("probe", 2);
    host.swap("probe", &next, How::Rename).await;
    let probe = admin.get("/v1/services/probe").await.json();
    assert!(probe["serving"]["revision"] == guests::digest(&next) && probe["rejected"].is_null(), "{probe}");

    // What drains is shown until it has ended.
    let (request, body) = host.request("POST", "/probe/echo").writing();
    let mut running = request.open().await;
    let mark = host.mark();
    host.remove("probe");
    host.since(mark).wait_for("probe", "draining").await;
    let probe = admin.get("/v1/services/probe").await.json();
    assert_eq!(
        (&probe["state"], &probe["draining"][0]["revision"]),
        (&"draining".into(), &guests::digest(&next).into()),
        "{probe}"
    );
    drop(body);
    while running.chunk().await.expect("a whole body").is_some() {}
    host.since(mark).wait_for("probe", "retired").await;
    assert_problem(&admin.get("/v1/services/probe").await, 404);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_that_names_what_is_near() {
    let host = builder().start().await;
    let admin = host.admin();
    let unknown = assert_problem(&admin.get("/v1/services/prob").await, 404);
    assert_eq!(unknown["near"][0], "probe", "{unknown}");
    assert!(unknown["detail"].as_str().is_some_and(|detail| detail.contains("`prob`")), "{unknown}");
    let unknown = assert_problem(&admin.get("/v1/services/zzzzz%0a%1b").await, 404);
    assert!(unknown.get("near").is_none() && !unknown["detail"].as_str().expect("text").contains('\u{1b}'), "{unknown}");
    assert_problem(&admin.get("/v1/services/%ff").await, 400);
    assert_problem(&admin.get("/v2/services").await, 404);
    let other = admin.post("/v1/events", "").await;
    assert_problem(&other, 405);
    assert!(other.header("allow").contains("GET"), "{:?}", other.headers);
    // The page describes what there is.
    let page = admin.get("/v1/openapi.json").await;
    assert_eq!(page.header("content-type"), "application/json");
    for path in ["/healthz", "/readyz", "/metrics", "/v1/services", "/v1/services/{name}", "/v1/events", "/v1/openapi.json"] {
        assert!(page.json()["paths"][path]["get"].is_object(), "{path}: {}", page.text());
    }
    assert!(page.json()["components"]["schemas"]["Service"].is_object());
    let metrics = admin.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4") && metrics.text().contains("# TYPE hotbay_"));
}

/// Guards `readyz` in host/src/admin/health.rs, and that the listener answers until the host has drained.
#[tokio::test]
async fn the_host_is_ready_between_its_start_and_its_end() {
    // What its probe asks answers once the test has seen the host start.
    let gate = Gate::shut().await;
    let settings = format!(
        "[grants]\n{}[probe]\npath = \"/fetch?authority={}\"\ntimeout = \"60s\"\n[limits]\ndeadline = \"60s\"\n",
        gate.grants(),
        gate.address()
    );
    let builder = builder().settings("probe", &settings).service("broken", b"no wasm");
    let mut host = builder.own_state().start_listening().await;
    let ready = async |admin: &Admin| admin.stranger("GET", "/readyz").send().await;
    let admin = host.admin();
    let starting = ready(&admin).await;
    assert_eq!((starting.status, &starting.json()["status"]), (503, &"starting".into()), "{}", starting.text());
    gate.open();
    host.table().await;
    let started = ready(&admin).await;
    let body = started.json();
    assert_eq!(
        (started.status, &body["status"], &body["serving"], &body["rejected"]),
        (200, &"ready".into(), &1.into(), &1.into())
    );
    assert_eq!(body["not_as_in_the_bay"][0]["name"], "broken");
    assert!(body["not_as_in_the_bay"][0]["serving"].is_null());

    // An older revision serves.
    let mark = host.mark();
    host.place("probe", b"no wasm", How::Rename);
    host.since(mark).wait_rejected("probe").await;
    let body = ready(&admin).await.json();
    assert_eq!(body["not_as_in_the_bay"][1]["name"], "probe", "{body}");
    assert_eq!(body["not_as_in_the_bay"][1]["serving"], guests::digest(&guests::fixture("probe")), "{body}");

    let (request, body) = host.request("POST", "/probe/echo").writing();
    let mut running = request.open().await;
    let mut events = admin.follow("/v1/events", None).await;
    host.signal(Signal::TERM);
    host.log().wait("the line on the signal", |event| event.fields.get("signal").is_some()).await;
    let draining = ready(&admin).await;
    assert_eq!((draining.status, &draining.json()["status"]), (503, &"draining".into()), "{}", draining.text());
    assert_eq!(admin.stranger("GET", "/healthz").send().await.status, 200);
    // A stream of events ends by itself.
    events.rest().await;
    drop(body);
    while running.chunk().await.expect("a whole body").is_some() {}
    assert_eq!(host.exit_status().await.code(), Some(0), "{}", host.told());
    assert!(!host.state().join("admin.address").exists(), "the address is taken away at the end");
}

#[tokio::test]
async fn it_answers_while_every_public_connection_is_taken() {
    let host = builder().config("[http]\nconnections = 1\n").start().await;
    let (request, body) = host.request("POST", "/probe/echo").writing();
    let running = request.open().await;
    let admin = host.admin();
    for target in ["/readyz", "/v1/services"] {
        assert_eq!(admin.get(target).await.status, 200, "{target}");
    }
    drop(body);
    running.whole().await.expect("a whole body");
}

/// Guards the timer and the buffer of `connection` in host/src/admin/mod.rs.
#[tokio::test]
async fn a_head_that_never_ends_or_is_too_large_ends_its_connection() {
    let host = builder().start().await;
    let admin = host.admin();
    let (slow, large) =
        (raw(&admin, "GET /healthz HTTP/1.1\r\nhost: loc"), format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(40_000)));
    let (slow, large) = tokio::join!(slow, raw(&admin, &large));
    assert!(!slow.contains("200"), "{slow}");
    assert!(large.starts_with("HTTP/1.1 4"), "{large}");
}

#[tokio::test]
async fn without_a_usable_state_folder_nobody_may_call_and_the_services_run() {
    let builder = builder();
    let state = builder.folder().join("state");
    fs::write(&state, "").expect("a file in the way");
    let host = builder.state(&state).start().await;
    let told = host.log().wait("the line on the token", |event| event.level == "ERROR" && event.message.contains("token")).await;
    assert!(told.message.contains("--state"), "{}", told.message);
    let admin = host.admin();
    for authorization in ["", "Bearer", "Bearer 0"] {
        let answer = admin.stranger("GET", "/v1/services").header("authorization", authorization).send().await;
        assert_problem(&answer, 503);
    }
    assert_eq!(admin.stranger("GET", "/readyz").send().await.status, 200);
    assert_eq!(host.get("/probe/marker").await.status, 200);
}

/// A token that others may read is no secret.
#[tokio::test]
async fn a_token_that_others_may_read_is_not_used() {
    let host = builder().own_state().start().await;
    let path = host.state().join("admin.token");
    let builder = host.stop().await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    let host = builder.start().await;
    let told = host.log().wait("the line on the token", |event| event.level == "ERROR" && event.message.contains("token")).await;
    assert!(told.fields["error"].as_str().is_some_and(|error| error.contains("others may read")), "{:?}", told.fields);
    assert_problem(&host.admin().get("/v1/services").await, 503);
}

/// Guards the lock in host/src/admin/address.rs: hosts that start at once would each make a token.
#[tokio::test]
async fn hosts_that_start_at_once_on_one_state_folder_have_one_token() {
    let shared = tempfile::tempdir().expect("a state folder");
    let state = shared.path().join("state");
    let starts = (0..6).map(|_| Host::builder().state(&state).start_listening());
    let hosts = futures::future::join_all(starts).await;
    for host in &hosts {
        assert_eq!(host.admin().get("/v1/services").await.status, 200, "{}", host.told());
    }
    let addresses = fs::read_to_string(state.join("admin.address")).expect("addresses");
    assert_eq!(addresses.lines().count(), hosts.len(), "{addresses}");
}
