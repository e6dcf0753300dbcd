//! What a guest may ask of other hosts, and that it gets there no further than its grants go.

mod torture_20;
mod torture_21;

use bytes::Bytes;
use hotbay_tests::{Authority, Host, Request, Upstream, guests};
use serde_json::Value;
use tokio::sync::mpsc;

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Both guests that ask what they are told to ask, WASI 0.2 and 0.3, under these settings.
async fn both(settings: &str) -> Host {
    configured(settings, "").await
}

/// The same on a host with `[outbound]`.
async fn configured(settings: &str, outbound: &str) -> Host {
    let mut builder = Host::builder().config(&format!("[outbound]\n{outbound}"));
    for name in FETCHERS {
        builder = builder.service(name, &guests::fixture(name)).settings(name, settings);
    }
    builder.start().await
}

pub(crate) const FETCHERS: [&str; 2] = ["fetcher", "fetcher3"];

/// A request that makes `service` ask `authority`.
pub(crate) fn asking(host: &Host, service: &str, authority: &str) -> Request {
    host.request("GET", &format!("/{service}/get")).header("x-authority", authority)
}

/// What the guest says of the answer.
pub(crate) async fn asked(host: &Host, service: &str, authority: &str) -> Value {
    said(asking(host, service, authority)).await
}

pub(crate) async fn said(request: Request) -> Value {
    let answer = request.send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[track_caller]
pub(crate) fn assert_error(said: &Value, error: &str) {
    assert!(said["error"].as_str().is_some_and(|told| told.contains(error)), "{error}: {said}");
}

/// The value of a counter, of all its series that have these labels.
pub(crate) async fn counted(host: &Host, metric: &str, labels: &[&str]) -> f64 {
    let text = host.admin().get("/metrics").await.text();
    let lines = text.lines().filter(|line| line.starts_with(metric) && labels.iter().all(|label| line.contains(label)));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn a_granted_call_streams_both_ways() {
    for service in FETCHERS {
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
                peer.write("HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n3\r\nfee\r\n").await;
                gone.lock().await.recv().await;
                peer.write("2\r\nfi\r\n0\r\n\r\n").await;
                peer.head().await;
            }
        })
        .await;
        let host = both(&upstream.grant()).await;
        let (request, mut body) = host
            .request("POST", &format!("/{service}/pass"))
            .header("x-authority", &upstream.address().to_string())
            .header("x-method", "POST")
            .writing();
        let reply = tokio::spawn(request.open());
        // Each piece arrives before the next is sent.
        for piece in ["one", "two"] {
            body.send_data(Bytes::from(piece)).await.expect("a guest that reads");
            assert_eq!(arrived.recv().await.as_deref(), Some(piece), "{service}");
        }
        drop(body);
        assert_eq!(arrived.recv().await.as_deref(), Some("the end"), "{service}");
        let mut reply = reply.await.expect("an answer");
        assert_eq!(reply.chunk().await.expect("a piece").as_deref(), Some(&b"fee"[..]), "{service}");
        go.send(()).expect("an upstream that waits");
        assert_eq!(reply.chunk().await.expect("a piece").as_deref(), Some(&b"fi"[..]), "{service}");
        assert_eq!(reply.chunk().await.expect("an end"), None, "{service}");
    }
}

/// Guards `Pool` in host/src/capabilities/outbound/pool.rs: kept, and each revision's own.
#[tokio::test]
async fn connections_are_kept_and_are_the_services_own() {
    let upstream = Upstream::answering(HELLO).await;
    let authority = upstream.address().to_string();
    let wasm = guests::fixture("fetcher");
    let mut builder = Host::builder().service("stranger", &wasm);
    for name in ["first", "second"] {
        builder = builder.service(name, &wasm).settings(name, &upstream.grant());
    }
    let host = builder.start().await;
    for _ in 0..3 {
        let said = asked(&host, "first", &authority).await;
        assert_eq!((&said["status"], &said["body"]), (&200.into(), &"hello".into()), "{said}");
    }
    assert_eq!(upstream.connections(), 1, "one connection is used again");
    assert_eq!(asked(&host, "second", &authority).await["status"], 200);
    assert_eq!(upstream.connections(), 2, "and not by another service");
    assert_error(&asked(&host, "stranger", &authority).await, "HttpRequestDenied");
    assert_eq!(counted(&host, "hotbay_outbound_requests_total", &["service=\"first\"", "result=\"answered\""]).await, 3.0);
    assert_eq!(counted(&host, "hotbay_denied_total", &["service=\"stranger\"", "capability=\"http\""]).await, 1.0);
    assert_eq!(counted(&host, "hotbay_outbound_requests_total", &["service=\"stranger\""]).await, 0.0);
}

#[tokio::test]
async fn a_change_of_settings_changes_the_grants() {
    let (old, new) = (Upstream::answering(HELLO).await, Upstream::answering(HELLO).await);
    let host = both(&old.grant()).await;
    assert_eq!(asked(&host, "fetcher", &old.address().to_string()).await["status"], 200);
    assert_error(&asked(&host, "fetcher", &new.address().to_string()).await, "HttpRequestDenied");
    let mark = host.mark();
    host.place_settings("fetcher", &new.grant());
    host.since(mark).wait_for("fetcher", "published").await;
    assert_eq!(asked(&host, "fetcher", &new.address().to_string()).await["status"], 200);
    assert_error(&asked(&host, "fetcher", &old.address().to_string()).await, "HttpRequestDenied");
    // The connection of the revision before ends with it.
    old.wait_closed(1).await;
    let mark = host.mark();
    host.place_settings("fetcher", "[grants]\nhttp = [\"nonsense\"]\n");
    host.since(mark).wait_rejected("fetcher").await;
    assert_eq!(asked(&host, "fetcher", &new.address().to_string()).await["status"], 200, "a reject changes nothing");
}

#[tokio::test]
async fn a_certificate_must_be_one_that_is_trusted_and_of_that_host() {
    let (authority, other) = (Authority::of(["localhost", "127.0.0.1"]), Authority::of(["other.example"]));
    let (right, wrong) = (Upstream::answering_tls(&authority, HELLO).await, Upstream::answering_tls(&other, HELLO).await);
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem.clone() + &other.pem).expect("certificates");
    let settings = format!(
        "[grants]\nhttp = [\"https://localhost:{}\", \"https://127.0.0.1:{}\", \"https://localhost:{}\"]\n",
        right.port(),
        right.port(),
        wrong.port()
    );
    let get = async |host: &Host, service: &str, name: &str, port: u16| {
        said(asking(host, service, &format!("{name}:{port}")).header("x-scheme", "https")).await
    };
    let host = configured(&settings, &format!("ca_file = {ca_file:?}\n")).await;
    for service in FETCHERS {
        for name in ["localhost", "127.0.0.1"] {
            assert_eq!(get(&host, service, name, right.port()).await["body"], "hello", "{service} {name}");
        }
        assert_error(&get(&host, service, "localhost", wrong.port()).await, "TlsCertificateError");
        // Plain HTTP is another scheme, and not granted.
        assert_error(&asked(&host, service, &right.address().to_string()).await, "HttpRequestDenied");
    }
    let host = both(&settings).await;
    assert_error(&get(&host, "fetcher", "localhost", right.port()).await, "TlsCertificateError");
    let line = host.log().wait("a line on the certificate", |event| event.target == "hotbay::outbound").await;
    assert!(line.service == "fetcher" && line.reason.contains("UnknownIssuer"), "{}", line.fields);
}

#[tokio::test]
async fn certificates_that_cannot_be_read_end_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content, reason) in [
        ("missing.pem", None, "No such file"),
        ("empty.pem", Some(""), "holds no certificate"),
        ("text.pem", Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "BadEncoding"),
    ] {
        let path = folder.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).expect("a file");
        }
        let ended = Host::builder().config(&format!("[outbound]\nca_file = {path:?}\n")).run().await;
        assert_eq!(ended.code, Some(1), "{name}");
        for named in ["outbound.ca_file", name, reason, "PEM"] {
            assert!(ended.stderr.contains(named), "{name}: {named}: {}", ended.stderr);
        }
    }
}

/// Guards `hop_by_hop::strip` and `addressed` in host/src/capabilities/outbound/client.rs.
#[tokio::test]
async fn headers_of_the_connection_pass_in_neither_direction() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: x-secret\r\nx-secret: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\n\
                  upgrade: h2c\r\nx-open: 2\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n";
    let upstream = Upstream::answering(answer).await;
    let authority = upstream.address().to_string();
    let host = both(&upstream.grant()).await;
    let said = said(
        asking(&host, "fetcher", &authority)
            .header("x-path", "/a?b=c")
            .header("x-pass-te", "trailers")
            .header("x-pass-x-own", "kept"),
    )
    .await;
    let mut names: Vec<_> =
        said["headers"].as_array().expect("headers").iter().map(|pair| pair[0].as_str().unwrap_or("")).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "set-cookie", "set-cookie", "x-open"], "{said}");
    let heads = upstream.heads();
    let head = heads[0].to_ascii_lowercase();
    assert!(head.starts_with("get /a?b=c http/1.1\r\n") && head.contains("x-own: kept\r\n"), "{head}");
    assert_eq!(head.matches("host: ").count(), 1, "{head}");
    assert!(
        head.contains(&format!("host: {authority}\r\n")) && !head.contains("te: ") && !head.contains("x-request-id"),
        "{head}"
    );
    for name in ["connection", "host", "transfer-encoding", "proxy-authorization", "upgrade", "keep-alive"] {
        let said = self::said(asking(&host, "fetcher", &authority).header(&format!("x-pass-{name}"), "1")).await;
        assert_error(&said, "Forbidden");
    }
    assert_eq!(upstream.heads().len(), 1);
}

/// Guards `requests` in host/src/capabilities/outbound/client.rs.
#[tokio::test]
async fn requests_at_once_are_bounded() {
    let upstream = Upstream::serving(async |mut peer| {
        peer.head().await;
        peer.wait_closed().await;
    })
    .await;
    let host = configured(&upstream.grant(), "requests = 2\nconnect_timeout = \"300ms\"\nfirst_byte_timeout = \"3s\"\n").await;
    let answer = host
        .request("GET", "/fetcher/together")
        .header("x-authority", &upstream.address().to_string())
        .header("x-count", "5")
        .send()
        .await
        .json();
    let errors: Vec<_> = answer.as_array().expect("answers").iter().map(|said| said["error"].to_string()).collect();
    assert_eq!(errors.iter().filter(|error| error.contains("ConnectionLimitReached")).count(), 3, "{errors:?}");
    assert_eq!(errors.iter().filter(|error| error.contains("ConnectionReadTimeout")).count(), 2, "{errors:?}");
    assert_eq!(upstream.connections(), 2);
    assert_eq!(counted(&host, "hotbay_outbound_requests_total", &["result=\"limit\""]).await, 3.0);
    assert_eq!(counted(&host, "hotbay_outbound_requests_total", &["result=\"timeout\""]).await, 2.0);
}

/// Guards `Pool::place`: connections at rest hold places, and give them up.
#[tokio::test]
async fn a_connection_at_rest_makes_room_for_another() {
    let (first, second) = (Upstream::answering(HELLO).await, Upstream::answering(HELLO).await);
    let settings = format!("[grants]\nhttp = [\"http://{}\", \"http://{}\"]\n", first.address(), second.address());
    let host = configured(&settings, "connections = 1\n").await;
    for upstream in [&first, &first, &second, &first] {
        assert_eq!(asked(&host, "fetcher", &upstream.address().to_string()).await["status"], 200);
    }
    assert_eq!((first.connections(), second.connections()), (2, 1));
    first.wait_closed(1).await;
}

/// Guards `close_old` in host/src/capabilities/outbound/pool.rs, and the second try of `exchange`.
#[tokio::test]
async fn connections_at_rest_end_by_themselves() {
    let upstream = Upstream::answering(HELLO).await;
    let host = configured(&upstream.grant(), "idle = \"100ms\"\n").await;
    assert_eq!(asked(&host, "fetcher", &upstream.address().to_string()).await["status"], 200);
    upstream.wait_closed(1).await;
    // Here it is the other side that closes them, at any moment.
    let upstream = Upstream::serving(async |mut peer| {
        peer.head().await;
        peer.write(HELLO).await;
    })
    .await;
    let host = both(&upstream.grant()).await;
    for _ in 0..50 {
        assert_eq!(asked(&host, "fetcher", &upstream.address().to_string()).await["status"], 200);
    }
}

/// Guards `OutboundHttp::is_busy`: what one request began is not there in the next.
#[tokio::test]
async fn a_kept_instance_has_nothing_under_way_from_before() {
    let upstream = Upstream::serving(async |mut peer| {
        peer.head().await;
        peer.wait_closed().await;
    })
    .await;
    let host = both(&format!("{}[instances]\npolicy = \"reuse\"\n", upstream.grant())).await;
    let count = async |path: &str| {
        said(host.request("GET", path).header("x-authority", &upstream.address().to_string())).await["count"].as_u64()
    };
    assert_eq!((count("/fetcher/count").await, count("/fetcher/count").await), (Some(1), Some(2)), "it is kept");
    assert_eq!(count("/fetcher/forget").await, Some(3));
    assert_eq!(count("/fetcher/count").await, Some(1), "it was renewed");
    upstream.wait_closed(upstream.connections()).await;
}

#[tokio::test]
async fn grants_are_shown() {
    let settings = "[grants]\nhttp = [\"HTTPS://API.example.com:443\", \"http://127.1:9000\"]\n";
    let host = both(settings).await;
    let shown = hotbay_tests::host::ask(&host, ["ps", "fetcher"]).await.stdout;
    for grant in ["http https://api.example.com\n", "http http://127.0.0.1:9000\n"] {
        assert!(shown.contains(&format!("grant       {grant}")), "{shown}");
    }
    let serving = host.admin().get("/v1/services/fetcher").await.json()["serving"].clone();
    assert_eq!(serving["grants"][0], "http https://api.example.com", "{serving}");
    let build = host.build_path("fetcher");
    let checked =
        hotbay_tests::host::finish(hotbay_tests::host::hotbay(["check", build.to_str().expect("a path"), "--json"])).await.stdout;
    let checked: Value = serde_json::from_str(&checked).expect("JSON");
    assert_eq!(checked[0]["grants"][1], "http http://127.0.0.1:9000", "{checked}");
}

/// Guards `ReadToItsEnd` in host/src/capabilities/outbound/unread.rs: a guest that cannot write its body says that its connection was reset.
#[tokio::test]
async fn whoever_writes_a_body_that_nobody_takes_learns_why() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let settings = format!("[grants]\nhttp = [\"http://{nobody}\"]\n");
    let host = Host::builder().service("keeper", &guests::fixture("keeper")).settings("keeper", &settings).start().await;
    for size in [0, 1 << 20] {
        for target in ["127.0.0.1:9", "keeper.internal"] {
            let said = host.get(&format!("/keeper/post/{size}?{target}")).await.text();
            assert_eq!(said, format!("NotGranted(\"{target}\")"), "{size} bytes");
        }
        let said = host.get(&format!("/keeper/post/{size}?{nobody}")).await.text();
        assert!(said.starts_with("Failed(") && said.contains("ConnectionRefused"), "{size} bytes: {said}");
    }
}
