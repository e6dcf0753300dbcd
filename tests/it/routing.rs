//! Which requests reach which service, and what of them and of its answers gets through.

use hotbay_tests::{Host, Response, guests};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

/// The probe's report of its request, `/headers`.
struct Seen(Value);

impl Seen {
    fn of(response: &Response) -> Self {
        assert_eq!(response.status, 200, "{}", response.text());
        Self(response.json())
    }

    fn target(&self) -> &str {
        self.0["target"].as_str().unwrap_or_default()
    }

    /// Every value of a header, in the order in which the guest sees them.
    fn header(&self, name: &str) -> Vec<String> {
        let entries = self.0["headers"].as_array().expect("a list");
        entries.iter().filter(|entry| entry[0] == name).map(|entry| entry[1].as_str().unwrap_or_default().to_owned()).collect()
    }
}

async fn probe() -> Host {
    Host::builder().service("probe", &guests::fixture("probe")).start().await
}

/// The path that the guest was asked for; any path that means nothing to the probe is told between two markers.
fn path_of(response: &Response) -> String {
    let text = response.text();
    text.split(' ').nth(1).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn a_service_answers_its_name_and_its_host() {
    let host = probe().await;
    for (asked, seen) in [("/probe", "/"), ("/probe/", "/"), ("/probe/a/b", "/a/b"), ("/probe//x", "//x"), ("/probe?q", "/")] {
        let answer = host.get(asked).await;
        assert_eq!((answer.status, path_of(&answer).as_str()), (200, seen), "{asked}");
    }
    for (asked, prefix) in [("/probe/headers", vec!["/probe"]), ("/probe/headers?x=1", vec!["/probe"])] {
        assert_eq!(Seen::of(&host.get(asked).await).header("x-forwarded-prefix"), prefix, "{asked}");
    }
    for name in ["probe.localhost", "probe.localhost:8080", "PROBE.localhost"] {
        let answer = host.request("GET", "/any/thing").host(name).send().await;
        assert_eq!((answer.status, path_of(&answer).as_str()), (200, "/any/thing"), "{name}");
        let seen = Seen::of(&host.request("GET", "/headers").host(name).header("x-forwarded-prefix", "/spoofed").send().await);
        assert_eq!(seen.header("x-forwarded-prefix"), Vec::<String>::new(), "nothing was taken off");
    }
    for other in ["/", "/prob", "/probes", "/Probe", "/%70robe"] {
        let answer = host.get(other).await;
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/problem+json"), "{other}");
        let problem = answer.json();
        assert_eq!(problem["status"], 404);
        assert_eq!(problem["request_id"], answer.request_id());
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    }
}

#[tokio::test]
async fn queries_and_encodings_arrive_as_they_were_sent() {
    let host = probe().await;
    for query in ["?", "?a=1&b=2&a=3", "?a=%20b+c&&=", "?x=/../%2e%2e", "?q=%E4%BD%A0"] {
        let seen = Seen::of(&host.get(&format!("/probe/headers{query}")).await);
        assert_eq!(seen.target(), format!("/headers{query}"));
    }
    for path in ["/a%2Fb", "/%7Euser", "/a/../b", "/a;b=c,d", "/%E4%BD%A0", "/a%00b"] {
        assert_eq!(path_of(&host.get(&format!("/probe{path}")).await), path);
    }
}

#[tokio::test]
async fn repeated_headers_arrive_as_they_were_sent() {
    let host = probe().await;
    let request =
        b"GET /probe/headers HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nX-B: b\r\nX-A: 2\r\nX-A: 1\r\nAccept: */*\r\nX-Bytes: \xe9\r\n\
        Connection: close\r\n\r\n";
    let answer = host.raw(request).await;
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let seen = Seen(serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")));
    assert_eq!(seen.header("x-a"), ["1", "2", "1"]);
    assert_eq!(seen.header("x-b"), ["b"]);
    assert_eq!(seen.header("accept"), ["*/*"]);
    assert_eq!(seen.header("x-bytes"), ["\u{fffd}"], "a byte that is no UTF-8, which the probe shows so");
}

const ROUTES: &str = r#"
    [[route]]
    host = "api.example.com"
    path = "/v1/{*rest}"
    methods = ["GET", "POST"]
    strip = "/v1"

    [[route]]
    host = "*.shop.example.com"
    path = "/items/{id}"

    [[route]]
    path = "/only-here"
    methods = ["PUT"]
"#;

#[tokio::test]
async fn settings_say_where_a_service_answers() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).settings("probe", ROUTES).start().await;
    let ask = async |method: &str, name: &str, target: &str| host.request(method, target).host(name).send().await;
    let answer = ask("GET", "api.example.com", "/v1/a/b").await;
    assert_eq!((answer.status, path_of(&answer).as_str()), (200, "/a/b"));
    let seen = Seen::of(&ask("POST", "API.example.com:80", "/v1/headers?x").await);
    assert_eq!((seen.target(), seen.header("x-forwarded-prefix")), ("/headers?x", vec!["/v1".to_owned()]));
    assert_eq!(path_of(&ask("GET", "one.shop.example.com", "/items/7").await), "/items/7");
    assert_eq!(path_of(&ask("PUT", "wherever", "/only-here").await), "/only-here");
    for (name, target) in [
        ("api.example.com", "/v2/a"),
        ("other.example.com", "/v1/a"),
        ("shop.example.com", "/items/7"),
        ("a.b.shop.example.com", "/items/7"),
        ("one.shop.example.com", "/items/7/more"),
        ("wherever", "/probe"),
        ("probe.localhost", "/"),
    ] {
        assert_eq!(ask("GET", name, target).await.status, 404, "{name}{target}: settings replace the default routes");
    }
}

#[tokio::test]
async fn a_method_that_no_route_takes_is_told_which_ones_do() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).settings("probe", ROUTES).start().await;
    let answer = host.request("DELETE", "/v1/a").host("api.example.com").send().await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD, POST"));
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(host.get("/only-here").await.header("allow"), "PUT");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).settings("probe", ROUTES).start().await;
    let mut connection = host.connect().await;
    let get = connection.request("GET", "/v1/marker").host("api.example.com");
    let get = connection.send(get).await;
    let head = connection.request("HEAD", "/v1/marker").host("api.example.com");
    let head = connection.send(head).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), get.body.len().to_string());
    assert_eq!(head.revision(), get.revision());
    // A body that went out all the same would be taken for this answer.
    let again = connection.request("GET", "/v1/marker").host("api.example.com");
    assert_eq!(connection.send(again).await.body, get.body);
    let missing = host.request("HEAD", "/nowhere").send().await;
    assert_eq!((missing.status, missing.body.len()), (404, 0));
}

/// Guards `strip` in host/src/hop_by_hop.rs.
#[tokio::test]
async fn headers_of_the_connection_end_at_the_host() {
    let host = probe().await;
    let answer = host
        .raw(
            "GET /probe/headers HTTP/1.1\r\nHost: x\r\nConnection: close, X-Private, Cookie\r\nX-Private: 1\r\nCookie: a=b\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\n\
             Upgrade: websocket\r\nX-Public: 2\r\n\r\n",
        )
        .await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let seen = Seen(serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")));
    for gone in ["connection", "x-private", "cookie", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade"] {
        assert_eq!(seen.header(gone), Vec::<String>::new(), "{gone}");
    }
    assert_eq!(seen.header("x-public"), ["2"]);
    assert!(head.to_ascii_lowercase().contains("connection: close"), "our own, since the client asked for it: {head}");
}

#[tokio::test]
async fn a_guest_cannot_speak_for_the_connection_or_for_the_host() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).service("run", &guests::fixture("run")).start().await;
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-authenticate"] {
        let answer = host.get(&format!("/probe/set?name={name}&value=x")).await;
        assert!(!answer.headers.contains_key(name), "{name}: {:?}", answer.headers);
    }
    let answer = host.get("/run/connection").await;
    assert_eq!((answer.status, answer.header("x-kept"), answer.text().as_str()), (200, "yes", "body"));
    assert!(!answer.headers.contains_key("connection"), "{:?}", answer.headers);
    // The host's own framing, once: chunks, or a length where all of it was there before the first byte went out.
    let framing = ["transfer-encoding", "content-length"].map(|name| answer.headers.get_all(name).iter().collect::<Vec<_>>());
    assert!(framing == [vec!["chunked"], vec![]] || framing == [vec![], vec!["4"]], "{framing:?}");
    let answer = host.get("/probe/set?name=x-hotbay-revision&value=mine").await;
    assert_eq!(
        answer.headers.get_all("x-hotbay-revision").iter().collect::<Vec<_>>(),
        [guests::digest(&guests::fixture("probe")).as_str()]
    );
    let answer = host.get("/probe/set?name=x-request-id&value=mine").await;
    assert_ne!(answer.request_id(), "mine");
    let answer = host.get("/probe/set?name=x-own&value=mine").await;
    assert_eq!(answer.header("x-own"), "mine", "the probe does set what it may");
}

/// Guards `set_forwarded` in host/src/http/forward.rs.
#[tokio::test]
async fn only_the_host_says_where_a_request_comes_from() {
    let host = probe().await;
    let seen = Seen::of(
        &host
            .request("GET", "/probe/headers")
            .host("shop.example.com")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-for", "7.7.7.7")
            .header("x-forwarded-host", "evil.example.com")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-prefix", "/evil")
            .header("x-forwarded-port", "1")
            .header("x-forwarded-user", "root")
            .header("forwarded", "for=6.6.6.6")
            .send()
            .await,
    );
    assert_eq!(seen.header("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.header("x-forwarded-host"), ["shop.example.com"]);
    assert_eq!(seen.header("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.header("x-forwarded-prefix"), ["/probe"]);
    assert_eq!(seen.header("forwarded"), ["for=127.0.0.1;host=\"shop.example.com\";proto=http"]);
    assert_eq!((seen.header("x-forwarded-port"), seen.header("x-forwarded-user")), (vec![], vec![]));
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    trailers.append("x-more", HeaderValue::from_static("a"));
    trailers
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let host =
        Host::builder().service("probe", &guests::fixture("probe")).service("probe3", &guests::fixture("probe3")).start().await;
    for target in ["/probe/trailers", "/probe3/echo"] {
        for h2 in [false, true] {
            let chunks = ["one ", "two ", "three"].map(bytes::Bytes::from);
            let request = host.request("POST", target).header("te", "trailers").chunks(chunks, trailers());
            let answer = if h2 { request.h2() } else { request }.send().await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "one two three"), "{target}, h2: {h2}");
            assert_eq!(answer.trailers, trailers(), "{target}, h2: {h2}");
        }
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_too() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).settings("probe", ROUTES).start().await;
    let mut connection = host.connect_h2().await;
    for _ in 0..3 {
        let request = connection.request("GET", "/v1/headers?a=1").host("api.example.com").header("x-a", "1").header("x-a", "2");
        let answer = connection.send(request).await;
        assert_eq!(answer.version, http::Version::HTTP_2);
        let seen = Seen::of(&answer);
        assert_eq!((seen.target(), seen.header("x-a")), ("/headers?a=1", vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(seen.header("x-forwarded-host"), ["api.example.com"]);
    }
    let request = connection.request("POST", "/v1/body").host("api.example.com").body(vec![7; 1 << 20]);
    assert_eq!(connection.send(request).await.json()["bytes"], 1 << 20);
    let wrong = connection.request("DELETE", "/v1/marker").host("api.example.com");
    assert_eq!(connection.send(wrong).await.status, 405);
}

#[tokio::test]
async fn head_is_get_without_the_body_over_http2_too() {
    let host = probe().await;
    let mut connection = host.connect_h2().await;
    for (target, status) in [("/probe/marker", 200), ("/probe/stream?bytes=1000000", 200), ("/nowhere", 404)] {
        let head = connection.request("HEAD", target);
        let head = connection.send(head).await;
        assert_eq!((head.status, head.body.len()), (status, 0), "{target}");
    }
    assert_eq!(connection.get("/probe/marker").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn every_response_carries_a_request_id() {
    let host = probe().await;
    for target in ["/probe/marker", "/nowhere", "/probe/trap"] {
        let answer = host.request("GET", target).header("x-request-id", "Client-1.a_b").send().await;
        assert_eq!(answer.request_id(), "Client-1.a_b", "{target}: a client's own is taken over");
    }
    host.log().wait_request("Client-1.a_b").await;
    let seen = Seen::of(&host.request("GET", "/probe/headers").header("x-request-id", "given").send().await);
    assert_eq!(seen.header("x-request-id"), ["given"], "the guest sees it too");
    let made = host.get("/probe/headers").await;
    assert_eq!(made.request_id().len(), 32);
    assert_eq!(Seen::of(&made).header("x-request-id"), [made.request_id()]);
    assert_ne!(made.request_id(), host.get("/probe/headers").await.request_id());
    for unusable in ["a b", "\"quoted\"", "{json}", &"x".repeat(65)] {
        let answer = host.request("GET", "/probe/marker").header("x-request-id", unusable).send().await;
        assert_ne!(answer.request_id(), unusable, "what could break a log line is not taken");
    }
}

#[tokio::test]
async fn the_revision_header_can_be_switched_off() {
    let wasm = guests::fixture("probe");
    let host = Host::builder().service("probe", &wasm).config("[http]\nrevision_header = false\n").start().await;
    assert!(!host.get("/probe/marker").await.headers.contains_key("x-hotbay-revision"));
    let spoofed = host.get("/probe/set?name=x-hotbay-revision&value=mine").await;
    assert!(!spoofed.headers.contains_key("x-hotbay-revision"), "nor does a guest bring it back");
    let host = Host::builder().service("probe", &wasm).start().await;
    assert_eq!(host.get("/probe/marker").await.revision(), guests::digest(&wasm));
    assert_eq!(host.get("/probe/trap").await.revision(), guests::digest(&wasm), "a fault has a revision too");
}

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let host = probe().await;
    for bad in [
        "GET /probe/marker HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /probe/marker HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        "GET /probe/marker HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
        "GET /probe/marker HTTP/1.1\r\nHost: a/../b\r\nConnection: close\r\n\r\n",
        "GET /probe/marker HTTP/1.1\r\nHost: user@a\r\nConnection: close\r\n\r\n",
    ] {
        let answer = host.raw(bad).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
        assert!(answer.contains("application/problem+json") && answer.contains("x-request-id"), "{answer}");
    }
    let old = host.raw("GET /probe/marker HTTP/1.0\r\n\r\n").await;
    assert!(old.contains(" 200 OK"), "HTTP/1.0 knows no Host: {old}");
    let absolute = host.raw("GET http://probe.localhost/abc HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n").await;
    assert!(absolute.contains(" /abc "), "the absolute form wins over Host (RFC 9112 §3.2.2): {absolute}");
}

#[tokio::test]
async fn requests_that_smuggle_or_overflow_are_refused() {
    let host = Host::builder()
        .service("probe", &guests::fixture("probe"))
        .config("[http]\nheader_size = \"8KiB\"\nheader_timeout = \"500ms\"\n")
        .start()
        .await;
    let head = "POST /probe/body HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    for (what, rest) in [
        ("two lengths", "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("a length that is none", "Content-Length: +1\r\n\r\na"),
        ("an encoding that does not end in chunked", "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ("a folded header", "X-A: 1\r\n 2\r\n\r\n"),
        ("a chunk size that is none", "Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"),
    ] {
        let answer = host.raw(format!("{head}{rest}")).await;
        assert!(!answer.contains(" 200 OK"), "{what}: {answer}");
    }
    let answer = host.raw(format!("{head}X-Large: {}\r\n\r\n", "x".repeat(9 << 10))).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // A head that never ends: the connection does, after http.header_timeout.
    let answer = host.raw("GET /probe HTTP/1.1\r\nHost: x\r\n").await;
    assert!(!answer.contains(" 200 OK"), "{answer}");
    assert_eq!(host.get("/probe/marker").await.status, 200);
}
