//! Changes by the admin API: what becomes of the bay and of what serves, and what each caller is told.

use base64::{Engine, engine::general_purpose::STANDARD};
use hotbay_tests::{Admin, Builder, Host, PATIENCE, Response, guests};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs, path::Path};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const REUSE: &str = "[instances]\npolicy = \"reuse\"\n";
const ELSEWHERE: &str = "# kept as it is\n[[route]]\npath = \"/elsewhere\"\n";

pub(crate) fn builder() -> Builder {
    Host::builder().own_state().service("probe", &guests::revision("probe", 1))
}

/// What the n-th build is called.
fn revision(n: u32) -> String {
    guests::digest(&guests::revision("probe", n))
}

#[track_caller]
fn assert_problem(answer: &Response, status: u16, named: &[&str]) -> Value {
    assert_eq!((answer.status, answer.header("content-type")), (status, "application/problem+json"), "{}", answer.text());
    let body = answer.json();
    for named in named {
        assert!(body.to_string().contains(named), "{named}: {body}");
    }
    assert!(body["remedy"].is_string() || status == 404, "{body}");
    body
}

#[track_caller]
pub(crate) fn assert_done(answer: &Response, outcome: &str) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["outcome"], outcome, "{body}");
    body
}

/// The files of the bay, and what is in them.
pub(crate) fn files(bay: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(bay).expect("a bay").map(|entry| entry.expect("an entry"));
    let files = files.filter(|entry| entry.path().is_file());
    files.map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file"))).collect()
}

/// What is left of uploads.
pub(crate) fn uploads(host: &Host) -> usize {
    fs::read_dir(host.state().join("uploads")).map_or(0, Iterator::count)
}

fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

#[tokio::test]
async fn a_build_is_deployed_into_the_bay_and_answered_with_its_steps() {
    let host = builder().start().await;
    let admin = host.admin();
    let wasm = guests::revision("probe", 2);
    let request = admin.request("PUT", "/v1/services/probe").header("content-digest", &content_digest(&wasm));
    let done = assert_done(&request.body(wasm.clone()).send().await, "published");
    assert_eq!((&done["service"], &done["revision"]), (&"probe".into(), &guests::digest(&wasm).into()), "{done}");
    assert_eq!(done["digest"], hex::encode(Sha256::digest(&wasm)));
    let steps: Vec<_> = done["steps"].as_array().expect("steps").iter().map(|step| step["step"].clone()).collect();
    assert_eq!(steps, ["compiling", "linking", "warming"], "{done}");
    let total = done["took_us"].as_u64().expect("a time");
    assert!(done["steps"].as_array().into_iter().flatten().filter_map(|step| step["took_us"].as_u64()).sum::<u64>() <= total);
    assert_eq!(done["url"], format!("http://{}/probe", host.address()));
    assert_eq!(host.get("/probe/marker").await.revision(), guests::digest(&wasm));
    assert_eq!(fs::read(host.build_path("probe")).expect("a build"), wasm);
    assert_eq!(admin.get("/v1/services/probe").await.json()["serving"]["came"], "deploy");
    // Who gave it stands in the log.
    let line = host.log().wait("the order", |event| event.target == "hotbay::admin").await;
    assert_eq!((line.level.as_str(), &line.fields["order"]), ("INFO", &"deploy".into()));
    assert!(line.fields["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{:?}", line.fields);
    // The same again is no swap, and a service that was not there begins.
    host.wait_retired("probe", &revision(1)).await;
    let mark = host.mark();
    assert_done(&admin.put("/v1/services/probe", wasm.clone()).await, "unchanged");
    assert_eq!(host.since(mark).states("probe"), Vec::<String>::new());
    assert_done(&admin.put("/v1/services/other", wasm).await, "published");
    assert_eq!(host.get("/other/marker").await.status, 200);
}

/// Guards the settings that go with a build, `Change::Both`.
#[tokio::test]
async fn a_build_and_its_settings_are_one_change() {
    let host = builder().start().await;
    let wasm = guests::revision("probe", 2);
    let request = host.admin().request("PUT", "/v1/services/probe").header("x-hotbay-settings", &STANDARD.encode(ELSEWHERE));
    assert_done(&request.body(wasm.clone()).send().await, "published");
    assert_eq!(host.get("/elsewhere").await.revision(), guests::digest(&wasm));
    assert_eq!(fs::read_to_string(host.bay().join("probe.toml")).expect("settings"), ELSEWHERE);
    let past = host.admin().get("/v1/services/probe/history").await.json();
    assert_eq!(past["revisions"].as_array().map(Vec::len), Some(2), "{past}");
    let request = host.admin().request("PUT", "/v1/services/probe").header("x-hotbay-settings", "*");
    assert_problem(&request.body(wasm).send().await, 400, &["x-hotbay-settings", "base64"]);
}

/// Guards the checks of host/src/admin/upload.rs and host/src/admin/content_digest.rs.
#[tokio::test]
async fn a_bad_body_is_told_why_and_leaves_the_bay_untouched() {
    let host = builder().settings("probe", REUSE).start().await;
    let admin = host.admin();
    let (before, mark, good) = (files(host.bay()), host.mark(), guests::revision("probe", 2));
    for (body, named) in [(&b""[..], "empty"), (b"hello", "text"), (b"\x7fELF\x02\x01\x01", "ELF"), (&good[..good.len() / 2], "")]
    {
        let named = if named.is_empty() { "copy" } else { named };
        assert_problem(&admin.put("/v1/services/probe", body.to_vec()).await, 422, &[named]);
        assert_problem(&admin.put("/v1/services/fresh", body.to_vec()).await, 422, &[named]);
    }
    let put = || admin.request("PUT", "/v1/services/probe").body(good.clone());
    for (header, value, status) in [
        ("content-digest", content_digest(b"other"), 400),
        ("repr-digest", content_digest(b"other"), 400),
        ("digest", format!("SHA-256={}", STANDARD.encode(Sha256::digest(b"other"))), 400),
        ("content-digest", "sha-256=:AAAA:".to_owned(), 400),
        ("content-encoding", "gzip".to_owned(), 415),
    ] {
        let problem = assert_problem(&put().header(header, &value).send().await, status, &[]);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("SHA-256") || status == 415), "{problem}");
    }
    for name in ["Probe", "a.b", "..%2fprobe", "probe@", "probe@main", "-a", "a%00", "probe.wasm"] {
        assert_problem(&admin.put(&format!("/v1/services/{name}"), good.clone()).await, 400, &[]);
    }
    assert_problem(&admin.put("/v1/services/probe?wiat=false", good.clone()).await, 400, &["wait"]);
    assert_problem(&admin.put("/v1/services/probe/settings", vec![b'#'; (1 << 20) + 1]).await, 413, &["1 MiB"]);
    assert_eq!(files(host.bay()), before);
    assert_eq!((host.since(mark).states("probe"), uploads(&host)), (Vec::new(), 0), "{}", host.told());
    assert_eq!(admin.get("/v1/services").await.json()["services"].as_array().map(Vec::len), Some(1), "nothing began");
    assert_eq!(host.get("/probe/marker").await.revision(), revision(1));
}

/// A call in parts: its head with this length, and what is sent of the body.
pub(crate) async fn begun(admin: &Admin, length: u64, body: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(admin.address()).await.expect("a connection");
    let head = format!(
        "PUT /v1/services/probe HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-length: {length}\r\n\r\n",
        admin.address(),
        admin.token()
    );
    socket.write_all(head.as_bytes()).await.expect("a head");
    socket.write_all(body).await.expect("a piece of the body");
    socket
}

pub(crate) async fn answer(mut socket: TcpStream) -> String {
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(PATIENCE, socket.read(&mut answer)).await.expect("an answer in time").unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Guards that `Swaps::put_as` in host/src/deploy/carry_out.rs writes after the build has been loaded.
#[tokio::test]
async fn what_is_rejected_leaves_the_bay_as_it_was() {
    let host = builder().settings("probe", REUSE).start().await;
    let admin = host.admin();
    let before = files(host.bay());
    for fixture in ["trap-in-start", "unknown-import", "no-exports"] {
        assert_problem(&admin.put("/v1/services/probe", guests::text(fixture)).await, 422, &[]);
    }
    assert_problem(&admin.put("/v1/services/probe/settings", "[limit]\n").await, 422, &["probe.toml", "line 1", "limits"]);
    assert_problem(&admin.put("/v1/services/probe/settings", "[traffic]\nbeta = 5\n").await, 422, &["probe@beta.wasm"]);
    assert_problem(&admin.put("/v1/services/probe/settings", vec![0xff]).await, 422, &["UTF-8"]);
    assert_eq!((files(host.bay()), uploads(&host)), (before, 0));
    assert_eq!(host.get("/probe/marker").await.revision(), revision(1));
    assert_eq!(
        admin.get("/v1/services/probe").await.json()["serving"]["revision"],
        guests::digest(&guests::revision("probe", 1))
    );
}

#[tokio::test]
async fn what_is_not_there_is_404_and_names_what_is_near() {
    let host = builder().start().await;
    let admin = host.admin();
    let revision = guests::digest(&guests::revision("probe", 1));
    for (method, target, body) in [
        ("DELETE", "/v1/services/prob", ""),
        ("PUT", "/v1/services/prob/settings", REUSE),
        ("DELETE", "/v1/services/prob/settings", ""),
        ("POST", "/v1/services/prob/rollback", ""),
        ("POST", "/v1/services/prob/promote", "{\"label\": \"beta\"}"),
        ("GET", "/v1/services/prob/history", ""),
        ("GET", "/v1/logs?service=prob", ""),
    ] {
        let problem = assert_problem(&admin.request(method, target).body(body).send().await, 404, &["`prob`"]);
        assert_eq!(problem["near"], json!(["probe"]), "{method} {target}: {problem}");
    }
    let problem =
        assert_problem(&admin.post("/v1/services/probe/rollback", "{\"to\": \"ffffffffffff\"}").await, 404, &["ffffffffffff"]);
    assert_eq!(problem["near"], json!([revision]), "{problem}");
    assert_problem(&admin.post("/v1/services/probe/rollback", "").await, 404, &["no earlier"]);
    let problem = assert_problem(&admin.post("/v1/services/probe/promote", "{\"label\": \"beta\"}").await, 404, &["`beta`"]);
    assert!(problem["remedy"].is_string(), "{problem}");
    for (target, body) in [
        ("rollback", "{\"two\": 1}"),
        ("rollback", "to"),
        ("promote", ""),
        ("promote", "{\"label\": \"Beta\"}"),
        ("promote", "{\"label\": \"main\"}"),
    ] {
        assert_problem(&admin.post(&format!("/v1/services/probe/{target}"), body).await, 400, &[]);
    }
    assert_problem(&admin.put("/v1/services/probe@beta/settings", REUSE).await, 400, &["labelled"]);
    assert_problem(&admin.put("/v1/services/probe@beta/promote", "").await, 405, &[]);
    // Nothing began by being asked for.
    assert_eq!(admin.get("/v1/services").await.json()["services"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_rollback_puts_build_and_settings_back_byte_for_byte() {
    let host = builder().settings("probe", ELSEWHERE).start().await;
    let admin = host.admin();
    let first = files(host.bay());
    let (one, two) = (guests::revision("probe", 1), guests::revision("probe", 2));
    assert_done(&admin.delete("/v1/services/probe/settings").await, "published");
    assert_done(&admin.put("/v1/services/probe", two.clone()).await, "published");
    assert!(!host.bay().join("probe.toml").exists());
    let begun = std::time::Instant::now();
    let done = assert_done(
        &admin.post("/v1/services/probe/rollback", json!({"to": guests::digest(&one)}).to_string()).await,
        "published",
    );
    println!("a rollback to a cached revision: {:?} for the caller, {} µs in the host", begun.elapsed(), done["took_us"]);
    // The last of it that served, which had no settings.
    assert_eq!(files(host.bay()), BTreeMap::from([("probe.wasm".to_owned(), one.to_vec())]));
    assert_eq!(host.get("/probe/marker").await.revision(), revision(1));
    // By itself to the one before that, byte for byte, with its settings.
    assert_done(&admin.post("/v1/services/probe/rollback", "{}").await, "published");
    assert_eq!(files(host.bay()), first);

    let past = admin.get("/v1/services/probe/history").await.json();
    let came: Vec<_> = past["revisions"].as_array().expect("a list").iter().map(|past| past["came"].clone()).collect();
    assert_eq!(came, ["rollback", "rollback", "deploy", "deploy", "bay"], "{past}");
    assert!(past["revisions"][0]["ended"].is_null() && past["revisions"][1]["ended"]["how"] == "rolled-back", "{past}");
    assert_eq!(past["revisions"][4]["settings"], ELSEWHERE);

    // One that was removed can be gone back to, with what it had.
    assert_done(&admin.delete("/v1/services/probe").await, "removed");
    assert_eq!(files(host.bay()), BTreeMap::new());
    assert_eq!(host.get("/elsewhere").await.status, 404);
    assert_done(&admin.post("/v1/services/probe/rollback", "").await, "published");
    assert_eq!(files(host.bay()), first);
    assert_eq!(host.get("/elsewhere").await.revision(), revision(1));
}

#[tokio::test]
async fn a_label_is_deployed_and_promoted() {
    let host = builder().start().await;
    let admin = host.admin();
    let (one, beta) = (guests::revision("probe", 1), guests::revision("probe", 2));
    assert_done(&admin.put("/v1/services/probe@beta", beta.clone()).await, "published");
    assert_done(&admin.put("/v1/services/probe/settings", "[traffic]\nbeta = 100\n").await, "unchanged");
    assert_eq!(host.get("/probe/marker").await.revision(), revision(2));
    let labelled = admin.get("/v1/services/probe@beta").await.json();
    assert_eq!((&labelled["serving"]["requests"], &labelled["serving"]["faults"]), (&1.into(), &0.into()), "{labelled}");
    let unknown = assert_problem(&admin.post("/v1/services/probe/promote", "{\"label\": \"betta\"}").await, 404, &["betta"]);
    assert_eq!(unknown["near"], json!(["probe@beta"]), "{unknown}");
    assert_done(&admin.post("/v1/services/probe/promote", "{\"label\": \"beta\"}").await, "published");
    assert_eq!(fs::read(host.build_path("probe")).expect("a build"), beta);
    assert!(!host.build_path("probe@beta").exists());
    assert_eq!(host.get("/probe/marker").await.revision(), revision(2));
    assert_done(&admin.post("/v1/services/probe/rollback", "").await, "published");
    assert_eq!(fs::read(host.build_path("probe")).expect("a build"), one);
}

#[tokio::test]
async fn who_does_not_wait_is_answered_at_once_and_the_order_goes_on() {
    let host = builder().start().await;
    let admin = host.admin();
    let (two, three) = (guests::revision("probe", 2), guests::revision("probe", 3));
    let answer = admin.put("/v1/services/probe?wait=false", two.clone()).await;
    assert_eq!((answer.status, &answer.json()["outcome"]), (202, &"accepted".into()));
    host.wait_published("probe", &guests::digest(&two)).await;
    assert_eq!(fs::read(host.build_path("probe")).expect("a build"), two);
    // Who leaves once the order was given does not stop it.
    let socket = begun(&admin, three.len() as u64, &three).await;
    host.log().wait("the second order", |event| event.target == "hotbay::admin" && event.fields["wait"] == true).await;
    drop(socket);
    host.wait_published("probe", &guests::digest(&three)).await;
    let mark = host.mark();
    let answer = admin.put("/v1/services/probe?wait=false", guests::text("trap-in-start")).await;
    assert_eq!(answer.status, 202);
    host.since(mark).wait_rejected("probe").await;
    let line =
        host.since(mark).wait("the end of the order", |event| event.target == "hotbay::admin" && event.level == "WARN").await;
    assert!(!line.reason.is_empty());
}
