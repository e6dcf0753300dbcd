//! What a client reads when something fails, what only the log says, and that nothing is granted.

use hotbay_tests::{Host, Response, guests};
use tokio::net::TcpListener;

async fn probe() -> Host {
    Host::builder().service("probe", &guests::fixture("probe")).start().await
}

/// An answer as every error of the host is: a problem, with all its members and an id that the log knows.
fn assert_problem(answer: &Response, status: u16, service: Option<&str>) {
    assert_eq!((answer.status, answer.header("content-type")), (status, "application/problem+json"), "{}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"], answer.request_id());
    assert_eq!(problem["service"].as_str(), service);
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
}

/// Guards `dev.then` in host/src/http/problem.rs: what production must not tell.
#[tokio::test]
async fn a_trap_is_a_problem_that_tells_nothing() {
    let host = probe().await;
    for target in ["/probe/trap", "/probe/overflow"] {
        let answer = host.get(target).await;
        assert_problem(&answer, 500, Some("probe"));
        let text = answer.text();
        for secret in
            ["src/", "lib.rs", "panic", "asked to trap", "unreachable", "wasm", "backtrace", "hotbay-marker", "overflow"]
        {
            assert!(!text.contains(secret), "{secret:?} in {text}");
        }
        let line = host.log().wait_request(answer.request_id()).await;
        assert_eq!((line.status, line.level.as_str(), line.service.as_str()), (Some(500), "WARN", "probe"));
        assert!(line.reason.contains("trap"), "the log says why: {}", line.reason);
    }
    assert_eq!(host.get("/probe/marker").await.status, 200, "the next request has an instance of its own");
}

#[tokio::test]
async fn with_dev_a_trap_is_told_with_function_names() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).dev().start().await;
    let answer = host.get("/probe/trap").await;
    assert_problem(&answer, 500, Some("probe"));
    let dev = answer.json()["dev"].clone();
    assert!(dev["reason"].as_str().is_some_and(|reason| reason.contains("unreachable")), "{dev}");
    assert!(dev["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{dev}");
    assert!(dev["backtrace"].to_string().contains("probe::Probe"), "{dev}");
    assert!(dev["output"].to_string().contains("the probe was asked to trap"), "the panic's message: {dev}");
    let answer = host.get("/probe/overflow").await;
    assert!(answer.json()["dev"]["backtrace"].to_string().contains("probe::overflow"), "{}", answer.text());
    let answer = host.get("/nowhere").await;
    assert_problem(&answer, 404, None);
    assert!(answer.json()["dev"]["remedy"].is_string());
}

#[tokio::test]
async fn what_a_guest_does_not_answer_is_502() {
    let host = probe().await;
    assert_problem(&host.get("/probe/no-response").await, 502, Some("probe"));
    // Guards `head` in invoke.rs: the guest gives its response up and runs on.
    assert_problem(&host.get("/probe/give-up?ms=50").await, 502, Some("probe"));
    let answer = host.get("/probe/error").await;
    assert_problem(&answer, 502, Some("probe"));
    assert!(!answer.text().contains("the probe gives an error"), "{}", answer.text());
    let line = host.log().wait_request(answer.request_id()).await;
    assert!(line.reason.contains("the probe gives an error"), "{}", line.reason);
}

#[tokio::test]
async fn a_length_that_is_not_kept_is_a_fault_of_the_guest() {
    let host = probe().await;
    for (promised, bytes) in [(5, 6), (6, 5), (5, 0), (0, 5)] {
        let answer = host.get(&format!("/probe/length?promised={promised}&bytes={bytes}")).await;
        assert_problem(&answer, 500, Some("probe"));
    }
    let answer = host.get("/probe/length?promised=5&bytes=5").await;
    assert_eq!((answer.status, answer.body.len(), answer.header("content-length")), (200, 5, "5"));
}

/// Guards that a body whose guest trapped is not ended as if it were whole (`Following::poll` in host/src/runtime/body.rs).
#[tokio::test]
async fn a_trap_in_the_body_breaks_it_off() {
    let host =
        Host::builder().service("probe", &guests::fixture("probe")).service("probe3", &guests::fixture("probe3")).start().await;
    for target in ["/probe/trap-late", "/probe3/trap-late"] {
        for h2 in [false, true] {
            let request = host.request("GET", target).header("x-request-id", &format!("late{}{h2}", target.replace('/', ".")));
            let reply = if h2 { request.h2() } else { request }.open().await;
            assert_eq!(reply.status, 200, "the head was out: {target}");
            let id = reply.headers["x-request-id"].to_str().expect("text").to_owned();
            let whole = reply.whole().await;
            assert!(
                whole.is_err(),
                "{target}, h2 {h2}: a client must see that {} bytes are not all",
                whole.map_or(0, |whole| whole.body.len())
            );
            assert!(host.log().wait_request(&id).await.reason.contains("trap"));
        }
    }
}

#[tokio::test]
async fn wasi_03_faults_are_told_the_same() {
    let host = Host::builder().service("probe3", &guests::fixture("probe3")).start().await;
    let answer = host.get("/probe3/trap").await;
    assert_problem(&answer, 500, Some("probe3"));
    assert!(!answer.text().contains("asked to trap"));
    assert_problem(&host.get("/probe3/error").await, 502, Some("probe3"));
    assert_eq!(host.get("/probe3/marker").await.status, 200);
}

#[tokio::test]
async fn a_service_that_never_was_good_is_503() {
    let host = Host::builder().service("broken", b"no wasm at all").service("probe", &guests::fixture("probe")).start().await;
    for answer in [host.get("/broken").await, host.request("GET", "/x").host("broken.localhost").send().await] {
        assert_eq!((answer.status, answer.header("content-type")), (503, "application/problem+json"));
        assert!(
            answer.headers.contains_key("retry-after") && answer.headers.contains_key("x-request-id"),
            "{:?}",
            answer.headers
        );
    }
    assert_eq!(host.get("/probe/marker").await.status, 200);
    assert_eq!(host.get("/neither").await.status, 404);
}

#[tokio::test]
async fn nothing_is_granted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let host = Host::builder()
        .service("probe", &guests::fixture("probe"))
        .service("probe3", &guests::fixture("probe3"))
        .env("SECRET_OF_THE_HOST", "do not tell")
        .start()
        .await;
    let answer = host.get(&format!("/probe/fetch?authority={address}")).await.text();
    assert!(answer.contains("HttpRequestDenied"), "{answer}");
    let line = host.log().wait("a line on the denied request", |event| event.target == "hotbay::denied").await;
    assert_eq!((line.service.as_str(), line.level.as_str()), ("probe", "WARN"));
    assert!(line.fields.to_string().contains(&address.to_string()), "{}", line.fields);
    let answer = host.get("/probe3/fetch").await.text();
    assert!(answer.contains("HttpRequestDenied"), "{answer}");
    let answer = host.get(&format!("/probe/socket?port={}", address.port())).await.text();
    assert!(answer.contains("access-denied") && answer.contains("look-up: Err"), "{answer}");
    assert_eq!(host.get("/probe/env").await.text(), "[] []");
    assert_eq!(host.get("/probe/files").await.json(), serde_json::json!({ "preopened": [], "read": false, "listed": false }));
    // Whatever the guest was told, nobody came.
    let nobody = futures::future::FutureExt::now_or_never(listener.accept());
    assert!(nobody.is_none(), "somebody connected: {nobody:?}");
}

#[tokio::test]
async fn what_a_guest_prints_is_a_line_of_its_service() {
    let host = probe().await;
    let answer = host.get("/probe/print").await;
    for (stream, words) in [("stdout", "words on stdout"), ("stderr", "words on stderr")] {
        let line = host.log().wait(words, |event| event.message == words).await;
        assert_eq!((line.service.as_str(), line.request_id.as_str()), ("probe", answer.request_id()));
        assert_eq!(line.fields["stream"], stream);
    }
}

/// Guards `LINES_MAX` in host/src/runtime/stdio.rs.
#[tokio::test]
async fn a_flood_of_output_is_cut() {
    let host = probe().await;
    let answer = host.get("/probe/flood?lines=5000").await;
    let cut = host.log().wait("a line on what was cut", |event| event.fields.get("cut").is_some()).await;
    assert_eq!((cut.request_id.as_str(), &cut.fields["cut"]), (answer.request_id(), &serde_json::json!(4800)));
    let lines = host.events().into_iter().filter(|event| event.message.contains("of a flood")).count();
    assert_eq!(lines, 200);
}

#[tokio::test]
async fn each_request_has_one_completion_line() {
    let host = probe().await;
    for (target, status) in [("/probe/marker", 200), ("/probe/trap", 500), ("/nowhere", 404)] {
        let answer = host.get(target).await;
        let line = host.log().wait_request(answer.request_id()).await;
        assert_eq!((line.status, line.path.as_str()), (Some(status), target));
        assert_eq!(line.revision, answer.revision());
        assert_eq!(line.fields["sent"], answer.body.len());
    }
    let ids: Vec<_> =
        host.events().into_iter().filter(|event| event.target == "hotbay::request").map(|event| event.request_id).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
}
