//! Torture line 22: strangers at the admin listener, uploads that are cut, orders and hands that change the bay at the same time.

use crate::{
    admin::{assert_problem, builder, raw},
    admin_changes::{self, answer, assert_done, begun, files, uploads},
};
use hotbay_tests::{Host, How, guests};
use std::{collections::BTreeMap, fs, sync::Arc};
use tokio::io::AsyncWriteExt;

const SERVICES: u32 = 20;
const CLIENTS: u32 = 5;

/// Of the others only the settings are written by hand.
fn is_built_by_hand(service: u32) -> bool {
    service.is_multiple_of(2)
}

fn name(service: u32) -> String {
    format!("probe{service}")
}

/// Guards that orders and looks at the bay go through one task a service (`Swaps` in host/src/deploy/swap.rs).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_services_are_swapped_by_five_clients_while_the_bay_is_touched_by_hand() {
    let mut builder = Host::builder();
    for service in 0..SERVICES {
        builder = builder.service(&name(service), &guests::revision("marker", 0));
    }
    let host = Arc::new(builder.start().await);
    let mark = host.mark();
    let clients = (1..=CLIENTS).map(|client| {
        let host = host.clone();
        tokio::spawn(async move {
            let (admin, mut answers) = (host.admin(), BTreeMap::<String, u32>::new());
            for service in 0..SERVICES {
                // Each begins elsewhere, so that all kinds of meetings happen.
                let service = (service + client * 4) % SERVICES;
                let build = guests::revision("marker", client);
                let answer = admin.put(&format!("/v1/services/{}", name(service)), build.clone()).await;
                let told = answer.json();
                let clear = match answer.status {
                    200 => told["revision"] == guests::digest(&build),
                    503 => !answer.header("retry-after").is_empty(),
                    // A hand was faster, which is told.
                    409 => told["detail"].as_str().is_some_and(|detail| detail.starts_with("somebody placed other files")),
                    _ => false,
                };
                assert!(clear, "{}: {told}\n{}", answer.status, host.told());
                *answers.entry(told["outcome"].as_str().unwrap_or("busy").to_owned()).or_default() += 1;
            }
            answers
        })
    });
    let by_hand = tokio::task::spawn_blocking({
        let host = host.clone();
        move || {
            for service in (0..SERVICES).rev() {
                let how = if service % 4 == 0 { How::Rename } else { How::Overwrite };
                if is_built_by_hand(service) {
                    host.place(&name(service), &guests::revision("marker", 100 + service), how);
                } else {
                    host.place_settings(&name(service), "[instances]\npolicy = \"reuse\"\n");
                }
            }
        }
    });
    let answers = futures::future::join_all(clients.collect::<Vec<_>>()).await;
    by_hand.await.expect("every file was written");
    for (client, answers) in answers.into_iter().enumerate() {
        println!("client {}: {:?}", client + 1, answers.expect("each got a clear answer"));
    }
    // The end state is what the bay says, as soon as the last of it has been seen.
    for service in 0..SERVICES {
        let (name, bay) = (name(service), fs::read(host.build_path(&name(service))).expect("a build"));
        let wanted = guests::digest(&bay);
        let revisions: Vec<_> = (1..=CLIENTS).map(|client| guests::digest(&guests::revision("marker", client))).collect();
        assert!(is_built_by_hand(service) || revisions.contains(&wanted), "{name}: the deploys of all clients are lost");
        let target = format!("/{name}");
        let begun = std::time::Instant::now();
        loop {
            let answer = host.get(&target).await;
            assert_eq!(answer.status, 200, "{}", host.told());
            if answer.revision() == wanted {
                break;
            }
            assert!(
                begun.elapsed() < hotbay_tests::PATIENCE,
                "{name} serves {} and not {wanted}\n{}",
                answer.revision(),
                host.told()
            );
        }
        let standing = host.admin().get(&format!("/v1/services/{name}")).await.json();
        assert_eq!(
            (&standing["serving"]["revision"], &standing["rejected"]),
            (&wanted.into(), &serde_json::Value::Null),
            "{standing}"
        );
    }
    let rejected = host.since(mark).events().into_iter().filter(|event| event.state == "rejected").count();
    assert_eq!(rejected, 0, "{}", host.told());
    // Nothing half written is left in the bay.
    let strange: Vec<_> = fs::read_dir(host.bay())
        .expect("a bay")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter(|file| file.contains("unfinished"))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

/// Deploys of one service are carried out one after another, and each is told of its own.
#[tokio::test]
async fn deploys_of_one_service_take_their_turns() {
    let host = Host::builder().service("marker", &guests::revision("marker", 0)).start().await;
    let mark = host.mark();
    let calls = (1..=8).map(|n| {
        let admin = host.admin();
        async move {
            let build = guests::revision("marker", n);
            (guests::digest(&build), admin.put("/v1/services/marker", build).await)
        }
    });
    let answers = futures::future::join_all(calls).await;
    for (revision, answer) in &answers {
        assert_eq!((answer.status, &answer.json()["revision"]), (200, &revision.as_str().into()), "{}", answer.text());
        host.since(mark).wait_published("marker", revision).await;
    }
    let published: Vec<_> = host
        .since(mark)
        .events()
        .into_iter()
        .filter(|event| event.is("marker", "published"))
        .map(|event| event.revision)
        .collect();
    assert_eq!(published.len(), answers.len(), "{published:?}");
    let bay = fs::read(host.build_path("marker")).expect("a build");
    assert_eq!(Some(&guests::digest(&bay)), published.last());
    assert_eq!(host.get("/marker").await.revision(), guests::digest(&bay));
}

/// Guards `Admin::refuse_without_token` in host/src/admin/gate.rs.
#[tokio::test]
async fn every_call_but_the_health_pages_needs_the_token() {
    let host = builder().start().await;
    let admin = host.admin();
    let token = admin.token();
    let (cut, longer) = (token[1..].to_owned(), format!("{token}0"));
    let mut hints = Vec::new();
    for offered in [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(token.clone()),
        Some(format!("Basic {token}")),
        Some(format!("Bearer {cut}")),
        Some(format!("Bearer {longer}")),
        Some(format!("Bearer {}", "0".repeat(64))),
    ] {
        for target in [
            "/v1/services",
            "/v1/events",
            "/v1/openapi.json",
            "/metrics",
            "/v1/metrics/summary",
            "/v1/nothing",
            "/healthz/",
            "//healthz",
        ] {
            let mut request = admin.stranger("GET", target);
            if let Some(offered) = &offered {
                request = request.header("authorization", offered);
            }
            let answer = request.send().await;
            assert_problem(&answer, 401);
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{target} with {offered:?}");
            hints.push(answer.text());
        }
    }
    hints.dedup();
    assert_eq!(hints.len(), 1, "an answer tells what was wrong: {hints:?}");
    let twice = admin.request("GET", "/v1/services").header("authorization", "Bearer other").send().await;
    assert_problem(&twice, 401);
    for target in ["/healthz", "/readyz"] {
        assert_eq!(admin.stranger("GET", target).send().await.status, 200, "{target}");
    }
    assert_eq!(
        admin.stranger("GET", "/v1/services").header("authorization", &format!("bearer {token}")).send().await.status,
        200
    );
}

/// Guards `Admin::refuse_strange` in host/src/admin/gate.rs: names that were made to point here, and pages of other sites.
#[tokio::test]
async fn a_strange_host_or_origin_is_refused_before_the_token_is_looked_at() {
    let host = builder().config("admin_hosts = [\"ops.example.com\"]\n").start().await;
    let admin = host.admin();
    let (address, port) = (admin.address().to_string(), admin.address().port());
    let own = format!("http://{address}");
    for (line, headers, allowed) in [
        ("GET / HTTP/1.1", format!("host: {address}\r\n"), true),
        ("GET / HTTP/1.1", format!("host: LocalHost:{port}\r\n"), true),
        ("GET / HTTP/1.1", "host: localhost\r\n".to_owned(), true),
        ("GET / HTTP/1.1", "host: [::1]:9191\r\n".to_owned(), true),
        ("GET / HTTP/1.1", "host: OPS.example.com:443\r\n".to_owned(), true),
        ("GET / HTTP/1.0", format!("host: {address}\r\n"), true),
        ("GET / HTTP/1.1", format!("host: {address}\r\norigin: {own}\r\n"), true),
        ("GET / HTTP/1.1", format!("host: {address}\r\norigin: https://ops.example.com\r\n"), true),
        ("GET / HTTP/1.1", format!("host: {address}\r\nsec-fetch-site: none\r\n"), true),
        ("GET / HTTP/1.1", String::new(), false),
        ("GET / HTTP/1.0", String::new(), false),
        ("GET / HTTP/1.1", "host:\r\n".to_owned(), false),
        ("GET / HTTP/1.1", "host: evil.example.com\r\n".to_owned(), false),
        ("GET / HTTP/1.0", "host: evil.example.com\r\n".to_owned(), false),
        ("GET / HTTP/1.1", "host: localhost.evil.example.com\r\n".to_owned(), false),
        ("GET / HTTP/1.1", "host: 192.0.2.7\r\n".to_owned(), false),
        ("GET / HTTP/1.1", "host: evil@localhost\r\n".to_owned(), false),
        ("GET / HTTP/1.1", format!("host: {address}\r\nhost: evil.example.com\r\n"), false),
        ("GET http://evil.example.com/ HTTP/1.1", format!("host: {address}\r\n"), false),
        ("GET / HTTP/1.1", format!("host: {address}\r\norigin: http://evil.example.com\r\n"), false),
        ("GET / HTTP/1.1", format!("host: {address}\r\norigin: http://localhost:3000\r\n"), false),
        ("GET / HTTP/1.1", format!("host: {address}\r\norigin: null\r\n"), false),
        ("GET / HTTP/1.1", format!("host: {address}\r\norigin: {own}\r\norigin: http://evil.example.com\r\n"), false),
        ("GET / HTTP/1.1", format!("host: {address}\r\nsec-fetch-site: cross-site\r\n"), false),
    ] {
        // Health pages are behind the same gate.
        for target in ["/v1/services", "/readyz"] {
            let line = line.replacen(" / ", &format!(" {target} "), 1).replacen("com/ ", &format!("com{target} "), 1);
            for token in [String::new(), format!("authorization: Bearer {}\r\n", admin.token())] {
                let expected = match (allowed, target, token.is_empty()) {
                    (false, ..) => "403",
                    (true, "/v1/services", true) => "401",
                    _ => "200",
                };
                let answer = raw(&admin, &format!("{line}\r\n{headers}{token}connection: close\r\n\r\n")).await;
                let status = answer.split(' ').nth(1).unwrap_or_default();
                assert_eq!(status, expected, "{line} {headers:?} with {token:?}: {answer}");
                assert!(expected == "200" || answer.contains("application/problem+json"), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn nothing_of_it_is_reachable_through_the_public_port_nor_the_other_way_round() {
    let host = builder().start().await;
    let admin = host.admin();
    for target in ["/v1/services", "/v1/events", "/healthz", "/readyz", "/metrics", "/v1/openapi.json"] {
        let answer = host.request("GET", target).header("authorization", &format!("Bearer {}", admin.token())).send().await;
        assert_problem(&answer, 404);
        assert!(!answer.request_id().is_empty(), "it is the public edge that answers");
    }
    assert_problem(&admin.get("/probe/marker").await, 404);
}

#[tokio::test]
async fn a_body_that_is_too_large_or_cut_in_the_middle_leaves_nothing() {
    let host = admin_changes::builder().start().await;
    let admin = host.admin();
    let (before, mark, good) = (files(host.bay()), host.mark(), guests::revision("probe", 2));
    let told = answer(begun(&admin, (256 << 20) + 1, b"").await).await;
    assert!(told.starts_with("HTTP/1.1 413") && told.contains("256 MiB"), "{told}");
    // One that does not say its length is counted on its way in.
    let (request, body) = admin.request("PUT", "/v1/services/probe").writing();
    let sending = async {
        let mut body = body;
        let piece = bytes::Bytes::from(vec![0; 1 << 20]);
        for _ in 0..300 {
            if body.send_data(piece.clone()).await.is_err() {
                break;
            }
        }
    };
    // A client that goes on sending may lose the answer with its connection.
    let (told, ()) = tokio::join!(request.try_send(), sending);
    assert!(told.is_err() || told.is_ok_and(|told| told.status == 413));
    let length = good.len() as u64;
    for cut in [0, 1, good.len() / 2, good.len() - 1] {
        drop(begun(&admin, length, &good[..cut]).await);
        let mut half = begun(&admin, length, &good[..cut]).await;
        half.shutdown().await.expect("the end of what is sent");
        let told = answer(half).await;
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 400"), "{told}");
    }
    // Whatever was cut has been seen by then: places are given back, more than there are.
    for outcome in ["published"].into_iter().chain(["unchanged"; 9]) {
        assert_done(&admin.put("/v1/services/other", good.clone()).await, outcome);
    }
    let mut after = files(host.bay());
    after.remove("other.wasm");
    assert_eq!((after, host.since(mark).states("probe"), uploads(&host)), (before, Vec::new(), 0), "{}", host.told());
}

/// Requests of odd pieces, with the token: each is answered, none changes what it does not name.
#[tokio::test]
async fn thousands_of_odd_requests_change_nothing() {
    const PIECES: [&str; 28] = [
        "/v1",
        "/services",
        "/x",
        "/..",
        "/.",
        "//",
        "/%2e%2e",
        "%00",
        "/%2f",
        "?",
        "&",
        "=",
        "wait=false",
        "wait=",
        "service=",
        "/settings",
        "/history",
        "/rollback",
        "/promote",
        "/events",
        "/logs",
        "/openapi.json",
        "/metrics",
        "%ff",
        "%",
        "@beta",
        "/{name}",
        "+",
    ];
    const METHODS: [&str; 8] = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"];
    const BODIES: [&[u8]; 7] =
        [b"", b"{", b"{\"to\":\"v1\"}", b"{\"label\":\"\\u0000\"}", b"\0asm\x0d\0\x01\0", b"[limits]\n", b"\xff\xfe"];
    const HEADERS: [(&str, &str); 7] = [
        ("content-type", "application/json"),
        ("content-type", "text/html;;;"),
        ("content-digest", "sha-256=:AAAA:"),
        ("x-hotbay-settings", "!!"),
        ("last-event-id", "-1"),
        ("if-match", "*"),
        ("transfer-encoding", "gzip"),
    ];
    let host = admin_changes::builder().start().await;
    let admin = host.admin();
    let before = files(host.bay());
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for n in 0..3000 {
        let begin = if random.u8(..) < 192 { "/v1/services" } else { "/" };
        let target: String =
            std::iter::once(begin).chain((0..random.usize(..6)).map(|_| PIECES[random.usize(..PIECES.len())])).collect();
        let method = METHODS[random.usize(..METHODS.len())];
        let mut request = admin.request(method, &target).body(BODIES[random.usize(..BODIES.len())]);
        for _ in 0..random.usize(..3) {
            let (name, value) = HEADERS[random.usize(..HEADERS.len())];
            request = request.header(name, value);
        }
        // Streams go on: the head is the answer. A client may refuse to send what is no request.
        let Ok(answer) = request.try_open().await else { continue };
        assert!(answer.status < 500, "request {n} of seed {seed}: {method} {target} is {}\n{}", answer.status, host.told());
    }
    let services = admin.get("/v1/services").await;
    assert_eq!(
        services.json()["services"].as_array().map(Vec::len),
        Some(1),
        "seed {seed}: {}\n{}",
        services.text(),
        host.told()
    );
    assert_eq!(files(host.bay()), before, "seed {seed}");
    assert_eq!(host.get("/probe/marker").await.status, 200);
}
