//! Calls from service to service: who may, what goes along, and that either side's end, limits and swaps are what they are for a
//! client.

mod swaps;
mod torture_13;

use crate::outbound::{FETCHERS, asked, asking, assert_error, counted, said};
use bytes::Bytes;
use hotbay_tests::{
    Builder, Event, Host, How, PATIENCE, Upstream, guests,
    host::{ask, finish, hotbay},
};
use serde_json::Value;
use std::time::Instant;
use tokio::sync::mpsc;

/// May call the services of these tests.
const GRANTS: &str = "[grants]\ncalls = [\"stock\", \"other\"]\n";

/// Both guests that ask what they are told to ask, WASI 0.2 and 0.3, under these settings.
fn callers(settings: &str) -> Builder {
    let builder = Host::builder();
    FETCHERS.into_iter().fold(builder, |builder, name| builder.service(name, &guests::fixture(name)).settings(name, settings))
}

/// The callers, and `stock`, which is the probe.
async fn shop(stock: &str) -> Host {
    callers(GRANTS).service("stock", &guests::fixture("probe")).settings("stock", stock).start().await
}

/// The line of the request that `caller` made of `service`.
async fn called(host: &Host, service: &str, caller: &str) -> Event {
    let is = |event: &Event| event.target == "hotbay::request" && event.service == service && event.fields["caller"] == caller;
    host.log().wait(format!("the line of a call from {caller} to {service}"), is).await
}

fn header<'a>(described: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = described["headers"].as_array().expect("headers");
    headers.iter().filter(|pair| pair[0] == name).filter_map(|pair| pair[1].as_str()).collect()
}

#[tokio::test]
async fn a_granted_call_is_one_more_request_of_its_callee() {
    // Found by its name, whatever its routes are.
    let host = shop("[[route]]\nhost = \"shop.example\"\npath = \"/levels/{*rest}\"\nstrip = \"/levels\"\n").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for service in FETCHERS {
        let request =
            asking(&host, service, "Stock.Internal.:80").header("x-path", "/headers?of=7").header("connection", "x-own");
        let request = request.header("traceparent", trace).header("tracestate", "a=1").header("x-request-id", "the-one");
        let answer = request.send().await;
        let said = answer.json();
        assert_eq!(said["status"], 200, "{said}");
        let seen: Value = serde_json::from_str(said["body"].as_str().expect("a body")).expect("JSON");
        assert_eq!(
            (&seen["target"], &seen["authority"], &seen["scheme"]),
            (&"/headers?of=7".into(), &"stock.internal".into(), &"http".into()),
            "{service}: {seen}"
        );
        assert_eq!(header(&seen, "x-request-id"), ["the-one"], "{seen}");
        assert_eq!((header(&seen, "traceparent"), header(&seen, "tracestate")), (vec![trace], vec!["a=1"]), "{seen}");
        let line = called(&host, "stock", service).await;
        assert_eq!((line.request_id.as_str(), line.path.as_str(), line.status), ("the-one", "/headers", Some(200)));
        assert_eq!(line.message, "request");
        let labels = [format!("caller=\"{service}\""), "callee=\"stock\"".to_owned(), "code_class=\"2xx\"".to_owned()];
        assert_eq!(counted(&host, "hotbay_calls_total", &labels.each_ref().map(String::as_str)).await, 1.0);
    }
    assert_eq!(counted(&host, "hotbay_requests_total", &["service=\"stock\"", "code_class=\"2xx\""]).await, 2.0);
    assert_eq!(counted(&host, "hotbay_outbound_requests_total", &[]).await, 0.0);
    // The caller is told which revision answered, and how long its answer is; a trace of its own is left to it.
    let own = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    let request = asking(&host, "fetcher", "stock.internal").header("x-path", "/headers").header("traceparent", trace);
    let said = said(request.header("x-pass-traceparent", own).header("x-pass-x-request-id", "spoofed")).await;
    let revision = guests::digest(&guests::fixture("probe"));
    assert_eq!(header(&said, "x-hotbay-revision"), [revision.as_str()], "{said}");
    assert_eq!(header(&said, "content-length"), [said["bytes"].to_string().as_str()], "{said}");
    let seen: Value = serde_json::from_str(said["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(header(&seen, "traceparent"), [own], "{seen}");
    assert!(header(&seen, "x-request-id") != ["spoofed"], "{seen}");
    let head = asking(&host, "fetcher", "stock.internal").header("x-path", "/headers").header("x-method", "HEAD");
    let head = crate::outbound::said(head).await;
    assert_eq!((&head["status"], &head["bytes"]), (&200.into(), &0.into()), "{head}");
}

/// Through two guests, the caller of WASI 0.2 and the callee of each: every piece arrives before the next is sent.
#[tokio::test]
async fn a_call_streams_both_ways() {
    for callee in FETCHERS {
        let (seen, mut arrived) = mpsc::unbounded_channel();
        let (go, gone) = mpsc::unbounded_channel::<()>();
        let gone = std::sync::Arc::new(tokio::sync::Mutex::new(gone));
        let upstream = Upstream::serving(move |mut peer| {
            let (seen, gone) = (seen.clone(), gone.clone());
            async move {
                peer.head().await;
                while let Some(chunk) = peer.chunk().await {
                    let _ = seen.send(chunk);
                }
                let _ = seen.send("the end".to_owned());
                peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nfee\r\n").await;
                gone.lock().await.recv().await;
                peer.write("2\r\nfi\r\n0\r\n\r\n").await;
                peer.head().await;
            }
        })
        .await;
        let host = callers("[grants]\ncalls = [\"stock\"]\n")
            .service("stock", &guests::fixture(callee))
            .settings("stock", &upstream.grant())
            .start()
            .await;
        let (request, mut body) = host
            .request("POST", "/fetcher/pass")
            .header("x-authority", "stock.internal")
            .header("x-path", "/pass")
            .header("x-method", "POST")
            .header("x-pass-x-method", "POST")
            .header("x-pass-x-authority", &upstream.address().to_string())
            .writing();
        let reply = tokio::spawn(request.open());
        for piece in ["one", "two"] {
            body.send_data(Bytes::from(piece)).await.expect("a guest that reads");
            assert_eq!(arrived.recv().await.as_deref(), Some(piece), "{callee}");
        }
        drop(body);
        assert_eq!(arrived.recv().await.as_deref(), Some("the end"), "{callee}");
        let mut reply = reply.await.expect("an answer");
        assert_eq!(reply.chunk().await.expect("a piece").as_deref(), Some(&b"fee"[..]), "{callee}");
        go.send(()).expect("an upstream that waits");
        assert_eq!(reply.chunk().await.expect("a piece").as_deref(), Some(&b"fi"[..]), "{callee}");
        assert_eq!(reply.chunk().await.expect("an end"), None, "{callee}");
    }
}

/// The caller of WASI 0.3 reads and writes at once: each piece comes back before the next is sent.
#[tokio::test]
async fn a_call_of_wasi_0_3_streams_both_ways_at_once() {
    let host = shop("").await;
    let request = host.request("POST", "/fetcher3/pass").header("x-authority", "stock.internal").header("x-path", "/echo");
    let (request, mut body) = request.header("x-method", "POST").writing();
    let reply = tokio::spawn(request.open());
    body.send_data(Bytes::from("one")).await.expect("a guest that reads");
    let mut reply = reply.await.expect("an answer");
    assert_eq!(reply.chunk().await.expect("a piece").as_deref(), Some(&b"one"[..]));
    body.send_data(Bytes::from("two")).await.expect("a guest that reads");
    assert_eq!(reply.chunk().await.expect("a piece").as_deref(), Some(&b"two"[..]));
    drop(body);
    assert_eq!(reply.chunk().await.expect("an end"), None);
}

/// Guards `Callees::find` in host/src/capabilities/calls/callees.rs. Whoever is not granted a service cannot tell whether it is there.
#[tokio::test]
async fn what_is_not_granted_is_not_there() {
    let host = shop("").await;
    host.swap("hidden", &guests::fixture("probe"), How::Rename).await;
    for service in FETCHERS {
        let mut told = Vec::new();
        for authority in
            ["hidden.internal", "nobody.internal", "internal", "a.stock.internal", "stock.internal:81", "xstock.internal"]
        {
            let said = asked(&host, service, authority).await;
            assert_error(&said, "DestinationNotFound");
            told.push(said);
            let denied = |event: &Event| {
                event.target == "hotbay::denied" && event.service == service && event.fields["authority"] == authority
            };
            let line = host.log().wait(format!("a line on the denied call to {authority}"), denied).await;
            assert_eq!(line.fields["capability"], "calls");
        }
        assert_error(&said(asking(&host, service, "stock.internal").header("x-scheme", "https")).await, "DestinationNotFound");
        // One that is granted and not there is told in the same words.
        told.push(asked(&host, service, "other.internal").await);
        assert!(told.iter().all(|said| *said == told[0]), "{told:?}");
    }
    let said = said(asking(&host, "fetcher", "stock.internal").header("x-method", "CONNECT")).await;
    assert_error(&said, "HttpRequestMethodInvalid");
    assert_eq!(counted(&host, "hotbay_denied_total", &["service=\"fetcher3\"", "capability=\"calls\""]).await, 7.0);
    assert_eq!(counted(&host, "hotbay_requests_total", &["service=\"hidden\"", "code_class=\"2xx\""]).await, 0.0);
    assert_eq!(counted(&host, "hotbay_requests_total", &["service=\"stock\"", "code_class=\"2xx\""]).await, 0.0);
}

/// Files may come in any order.
#[tokio::test]
async fn a_callee_may_come_later() {
    let host = callers(GRANTS).own_state().start().await;
    let mark = host.mark();
    assert_error(&asked(&host, "fetcher", "stock.internal").await, "DestinationNotFound");
    let line = host.since(mark).wait("a line on the missing callee", |event| event.target == "hotbay::calls").await;
    assert_eq!((line.service.as_str(), &line.fields["authority"]), ("fetcher", &"stock.internal".into()));
    assert_eq!(counted(&host, "hotbay_calls_total", &["caller=\"fetcher\"", "code_class=\"none\""]).await, 1.0);
    assert_eq!(counted(&host, "hotbay_denied_total", &["capability=\"calls\""]).await, 0.0);
    let ended = ask(&host, ["ps"]).await;
    assert!(ended.stdout.contains("missing   stock, other: it may be called"), "{}", ended.stdout);
    let ended = ask(&host, ["ps", "fetcher"]).await;
    assert!(ended.stdout.contains("calls stock") && ended.stdout.contains("missing     other: "), "{}", ended.stdout);
    let beside = host.build_path("fetcher").to_string_lossy().into_owned();
    let ended = finish(hotbay(["check", &beside])).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(ended.stdout.contains("stock.wasm: it may be called, and is not beside it"), "{}", ended.stdout);

    host.swap("stock", &guests::fixture("probe"), How::Rename).await;
    assert_eq!(asked(&host, "fetcher", "stock.internal").await["status"], 200);
    let ended = ask(&host, ["ps", "fetcher"]).await;
    assert!(!ended.stdout.contains("missing     stock"), "{}", ended.stdout);
    let mark = host.mark();
    host.remove("stock");
    host.since(mark).wait_for("stock", "retired").await;
    assert_error(&asked(&host, "fetcher", "stock.internal").await, "DestinationNotFound");
}

#[tokio::test]
async fn a_callee_without_a_good_revision_is_503_with_its_name() {
    let host = callers(GRANTS).service("stock", b"no wasm").start().await;
    for service in FETCHERS {
        let said = asked(&host, service, "stock.internal").await;
        assert_eq!(said["status"], 503, "{said}");
        let problem: Value = serde_json::from_str(said["body"].as_str().expect("a body")).expect("JSON");
        assert_eq!((&problem["service"], &problem["status"]), (&"stock".into(), &503.into()), "{problem}");
        let line = called(&host, "stock", service).await;
        assert!(line.status == Some(503) && line.reason.contains("no good revision"), "{}", line.fields);
    }
    // What the callee does wrong is told as a client is told.
    host.swap("stock", &guests::fixture("probe"), How::Rename).await;
    let said = said(asking(&host, "fetcher", "stock.internal").header("x-path", "/trap")).await;
    assert_eq!(said["status"], 500, "{said}");
    assert_eq!(header(&said, "content-type"), ["application/problem+json"]);
    assert!(!said["body"].as_str().expect("a body").contains("asked to trap"), "{said}");
    assert_eq!(counted(&host, "hotbay_faults_total", &["service=\"stock\"", "fault=\"trap\""]).await, 1.0);
    assert_eq!(counted(&host, "hotbay_calls_total", &["caller=\"fetcher\"", "code_class=\"5xx\""]).await, 2.0);
}

/// Every kind of service can be called.
#[tokio::test]
async fn a_command_and_a_revision_with_a_label_are_called() {
    let settings = "[traffic]\nbeta = 0\nheader_override = true\n";
    let host = callers(GRANTS)
        .service("other", &guests::fixture("run"))
        .service("stock", &guests::revision("probe", 1))
        .service("stock@beta", &guests::revision("probe", 2))
        .settings("stock", settings)
        .start()
        .await;
    let said = said(asking(&host, "fetcher", "other.internal").header("x-path", "/env")).await;
    for variable in ["SERVER_NAME=other.internal", "HTTP_HOST=other.internal", "PATH_INFO=/env", "REMOTE_ADDR=127.0.0.1"] {
        assert!(said["body"].as_str().is_some_and(|body| body.contains(variable)), "{variable}: {said}");
    }
    let picked = async |label: &str| {
        let request = asking(&host, "fetcher", "stock.internal").header("x-path", "/marker");
        crate::outbound::said(request.header("x-pass-x-hotbay-revision", label)).await["body"].clone()
    };
    assert!(picked("main").await.as_str().is_some_and(|body| body.starts_with(&guests::marker(1))));
    assert!(picked("beta").await.as_str().is_some_and(|body| body.starts_with(&guests::marker(2))));
}

/// Guards that the limits of the callee hold for calls as for clients.
#[tokio::test]
async fn the_limits_of_the_callee_hold() {
    let host = shop("[limits]\nrequest_body = \"1KiB\"\nresponse_body = \"100KiB\"\ndeadline = \"300ms\"\n").await;
    for service in FETCHERS {
        let request = host.request("POST", &format!("/{service}/pass")).header("x-authority", "stock.internal");
        let answer = request.header("x-method", "POST").header("x-path", "/body").body(vec![b'.'; 2048]).send().await;
        // The guest of 0.3 does not pass the status on.
        let problem = answer.json();
        assert_eq!((&problem["status"], &problem["service"]), (&413.into(), &"stock".into()), "{service}: {problem}");
        let said = said(asking(&host, service, "stock.internal").header("x-path", "/stream?bytes=500000")).await;
        assert!(said["status"] == 500 || !said["broke"].is_null(), "{said}");
        assert!(said["bytes"].as_u64().is_some_and(|bytes| bytes <= 100 << 10), "{said}");
        let said = crate::outbound::said(asking(&host, service, "stock.internal").header("x-path", "/sleep?ms=600000")).await;
        assert_eq!(said["status"], 504, "{said}");
    }
    assert_eq!(counted(&host, "hotbay_requests_refused_total", &["service=\"stock\"", "limit=\"request_body\""]).await, 2.0);
    assert_eq!(counted(&host, "hotbay_faults_total", &["service=\"stock\"", "fault=\"deadline\""]).await, 2.0);
}

/// Guards that a store which is dropped takes its calls along.
#[tokio::test]
async fn the_time_of_the_caller_is_the_callees_too() {
    let settings = format!("{GRANTS}[limits]\ndeadline = \"400ms\"\n");
    let stock = "[limits]\ndeadline = \"10min\"\n";
    let host = callers(&settings).service("stock", &guests::fixture("probe")).settings("stock", stock).start().await;
    for service in FETCHERS {
        let answer = asking(&host, service, "stock.internal").header("x-path", "/sleep?ms=600000").send().await;
        assert_eq!(answer.status, 504, "{}", answer.text());
        let line = called(&host, "stock", service).await;
        assert_eq!(line.request_id, answer.request_id());
        assert!(line.status.is_none_or(|status| status == 504), "{}", line.fields);
    }
    assert_eq!(counted(&host, "hotbay_requests_in_flight", &["service=\"stock\""]).await, 0.0);
    // It is not the callee that was slow.
    assert_eq!(counted(&host, "hotbay_faults_total", &["service=\"stock\""]).await, 0.0);
}

/// Client, caller, callee, upstream: whoever leaves at one end is missed at the other, before the response head and after it.
#[tokio::test]
async fn a_client_that_leaves_ends_what_the_callee_does() {
    for begin in ["", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nfee\r\n"] {
        let upstream = Upstream::serving(move |mut peer| async move {
            peer.head().await;
            if !begin.is_empty() {
                peer.write(begin).await;
            }
            peer.wait_closed().await;
        })
        .await;
        let patient = "[limits]\ndeadline = \"10min\"\n";
        let builder = callers(&format!("[grants]\ncalls = [\"stock\"]\n{patient}"));
        let builder = builder.service("stock", &guests::fixture("fetcher"));
        let host = builder.settings("stock", &format!("{}{patient}", upstream.grant())).start().await;
        let request = || {
            let request = host.request("GET", "/fetcher/pass").header("x-authority", "stock.internal").header("x-path", "/pass");
            request.header("x-pass-x-authority", &upstream.address().to_string())
        };
        if begin.is_empty() {
            let client = tokio::spawn(request().try_send());
            upstream.wait_connections(1).await;
            client.abort();
        } else {
            let mut reply = request().open().await;
            assert_eq!(reply.chunk().await.expect("a piece").as_deref(), Some(&b"fee"[..]));
            drop(reply);
        }
        upstream.wait_closed(1).await;
        let line = called(&host, "stock", "fetcher").await;
        assert_eq!(line.message, "request: caller gone", "{}", line.fields);
        assert_eq!(asked(&host, "fetcher", "stock.internal").await["status"], 200, "it goes on");
    }
}

/// Guards `Task` in host/src/capabilities/calls/callees.rs: whatever carries a call out ends with who made it.
#[tokio::test]
async fn a_client_that_leaves_ends_a_call_of_each_kind() {
    let patient = "[limits]\ndeadline = \"10min\"\n";
    let builder = callers(&format!("{GRANTS}{patient}")).service("stock", &guests::fixture("probe"));
    let host = builder.settings("stock", patient).start().await;
    for service in FETCHERS {
        let request = asking(&host, service, "stock.internal").header("x-path", "/sleep?ms=600000");
        let client = tokio::spawn(request.try_send());
        while counted(&host, "hotbay_requests_in_flight", &["service=\"stock\""]).await == 0.0 {
            tokio::task::yield_now().await;
        }
        client.abort();
        let line = called(&host, "stock", service).await;
        assert_eq!((line.message.as_str(), line.status), ("request: caller gone", None), "{}", line.fields);
    }
    assert_eq!(counted(&host, "hotbay_calls_total", &["callee=\"stock\"", "code_class=\"none\""]).await, 2.0);
}

/// Guards `Task::spawn` in host/src/capabilities/calls/callees.rs: wasmtime 48 panics where one store of WASI 0.3 runs within another.
#[tokio::test]
async fn guests_of_wasi_0_3_call_each_other() {
    let settings = "[grants]\ncalls = [\"stock\", \"fetcher3\"]\n";
    let builder = callers(settings).service("stock", &guests::fixture("probe3"));
    let host = builder.service("other", &guests::fixture("fetcher3")).settings("other", settings).start().await;
    for service in [FETCHERS[0], FETCHERS[1], "other"] {
        assert_eq!(asked(&host, service, "stock.internal").await["status"], 200, "{service}");
    }
    // The callee is told no host that it could ask, and says so.
    let said = said(asking(&host, "other", "fetcher3.internal").header("x-path", "/get")).await;
    assert_eq!(said["status"], 200, "{said}");
}

/// Guards `OutboundHttp::is_busy` for calls: what one request of a kept instance began ends with it.
#[tokio::test]
async fn a_kept_instance_has_no_call_under_way() {
    let settings = format!("{GRANTS}[instances]\npolicy = \"reuse\"\n[limits]\ndeadline = \"10min\"\n");
    let stock = "[limits]\ndeadline = \"10min\"\n";
    let host = callers(&settings).service("stock", &guests::fixture("probe")).settings("stock", stock).start().await;
    let count = async || said(host.request("GET", "/fetcher/count")).await["count"].clone();
    // A call that is ended before it came to run has no line.
    let (begun, of_call) = (Instant::now(), |event: &Event| event.target == "hotbay::request" && event.service == "stock");
    while !host.events().iter().any(of_call) {
        let request = host.request("GET", "/fetcher/forget").header("x-authority", "stock.internal");
        said(request.header("x-path", "/sleep?ms=600000")).await;
        assert_eq!(count().await, 1, "a new instance");
        assert!(begun.elapsed() < PATIENCE, "{}", host.told());
    }
    let line = called(&host, "stock", "fetcher").await;
    assert_eq!((line.message.as_str(), line.status), ("request: caller gone", None));
    assert_eq!(asked(&host, "fetcher", "stock.internal").await["status"], 200);
    assert_eq!(count().await, 2, "one whose calls have ended is kept");
}

#[tokio::test]
async fn the_graph_shows_who_may_and_who_did() {
    let host = callers(GRANTS).own_state().service("stock", &guests::fixture("probe")).start().await;
    for _ in 0..3 {
        assert_eq!(asked(&host, "fetcher", "stock.internal").await["status"], 200);
    }
    assert_eq!(said(asking(&host, "fetcher", "stock.internal").header("x-path", "/trap")).await["status"], 500);
    let ended = ask(&host, ["ps", "--graph"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let rows: Vec<Vec<_>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let wanted = [
        &["CALLER", "->", "CALLEE", "HTTP", "FAILED", "WIT", "FAILED"][..],
        &["fetcher", "->", "other", "0", "0", "0", "0", "missing"],
        &["fetcher", "->", "stock", "4", "1", "0", "0"],
        &["fetcher3", "->", "other", "0", "0", "0", "0", "missing"],
        &["fetcher3", "->", "stock", "0", "0", "0", "0"],
    ];
    assert_eq!(rows, wanted, "{}", ended.stdout);
    let graph: Value = serde_json::from_str(&ask(&host, ["ps", "--graph", "--json"]).await.stdout).expect("JSON");
    let edge = &graph["calls"][1];
    assert_eq!((&edge["caller"], &edge["callee"], &edge["calls"]), (&"fetcher".into(), &"stock".into(), &4.into()), "{edge}");
    assert_eq!((&edge["granted"], &edge["callee_state"]), (&true.into(), &"serving".into()), "{edge}");
    let nobody = Host::builder().own_state().service("probe", &guests::fixture("probe")).start().await;
    let ended = ask(&nobody, ["ps", "--graph"]).await;
    assert!(ended.stdout.starts_with("no service that serves may call another"), "{}", ended.stdout);
}
