//! What may be dropped into the bay, and what it is served as: every row of the table in docs.

use bytes::Bytes;
use hotbay_tests::{Host, guests};

#[tokio::test]
async fn a_wasi_02_component_is_an_http_service() {
    let wasm = guests::fixture("probe");
    let host = Host::builder().service("probe", &wasm).start().await;
    let answer = host.get("/probe/marker").await;
    assert_eq!((answer.status, answer.revision()), (200, guests::digest(&wasm).as_str()));
    let marker = guests::marker(0);
    assert_eq!(answer.text(), format!("{marker} /marker {marker}"));
    let body = Bytes::from(vec![b'x'; 3 << 20]);
    assert_eq!(host.post("/probe/body", body.clone()).await.json()["bytes"], 3 << 20);
    assert_eq!(host.post("/probe/echo", body.clone()).await.body, body);
}

#[tokio::test]
async fn a_wasi_03_component_is_an_http_service() {
    let wasm = guests::revision("probe3", 3);
    let host = Host::builder().service("probe3", &wasm).start().await;
    let answer = host.get("/probe3/marker").await;
    assert_eq!((answer.status, answer.revision()), (200, guests::digest(&wasm).as_str()));
    let marker = guests::marker(3);
    assert_eq!(answer.text(), format!("{marker} /marker {marker}"));
    let body = Bytes::from(vec![b'x'; 3 << 20]);
    assert_eq!(host.post("/probe3/echo", body.clone()).await.body, body);
    let stream = host.get("/probe3/stream?bytes=2000000").await;
    assert_eq!(stream.body.len(), 2_000_000);
    assert!(stream.body.starts_with(marker.as_bytes()) && stream.body.ends_with(marker.as_bytes()));
    assert!(host.get("/probe3/sleep?ms=5").await.text().contains("slept"));
}

#[tokio::test]
async fn a_module_with_wit_metadata_becomes_a_component() {
    let wasm = guests::fixture("module");
    assert!(wasm.starts_with(b"\0asm\x01\0\0\0"), "the fixture is a core module");
    let host = Host::builder().service("module", &wasm).start().await;
    let answer = host.get("/module").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "answered by a module"));
    assert_eq!(answer.revision(), guests::digest(&wasm), "the digest is that of the file");
}

/// A program as a core module for wasip1 and as a component for wasip2.
async fn programs() -> Host {
    let (module, component) = (guests::fixture("run-wasip1"), guests::fixture("run"));
    assert!(module.starts_with(b"\0asm\x01\0\0\0") && component.starts_with(b"\0asm\x0d\0\x01\0"), "one of each kind");
    Host::builder().service("one", &module).service("two", &component).start().await
}

#[tokio::test]
async fn a_command_answers_as_a_cgi_program() {
    let host = programs().await;
    for name in ["one", "two"] {
        let answer = host.get(&format!("/{name}")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "answered by a program"), "{name}");
        assert_eq!(answer.header("content-type"), "text/plain");
        let body = Bytes::from(vec![b'x'; 1 << 20]);
        let answer = host.post(&format!("/{name}/echo"), body.clone()).await;
        assert_eq!((answer.status, answer.body.len()), (200, body.len()), "{name}");
        let answer = host.get(&format!("/{name}/status")).await;
        assert_eq!((answer.status, answer.header("x-kind"), answer.text().as_str()), (418, "cgi", "short and stout"), "{name}");
        assert!(!answer.headers.contains_key("status"), "Status is for the host");
        let answer = host.get(&format!("/{name}/location")).await;
        assert_eq!((answer.status, answer.header("location")), (302, "https://example.com/elsewhere"), "{name}");
        let answer = host.get(&format!("/{name}/exit")).await;
        assert_eq!((answer.status, answer.text().as_str()), (503, "exits"), "{name}: CGI gives an exit code no meaning");
    }
}

/// RFC 3875 §4.1, and what must not get in.
#[tokio::test]
async fn a_command_gets_the_meta_variables_of_cgi() {
    let host = programs().await;
    for name in ["one", "two"] {
        let request = host.request("POST", &format!("/{name}/env?a=1&b=%20")).host("shop.example.com:81").body("four");
        let request =
            request.header("content-type", "text/x-test").header("x-a", "1").header("x-a", "2").header("proxy", "http://evil");
        let answer = request.send().await;
        let text = answer.text();
        let (arguments, variables) = text.split_once('\n').unwrap_or_else(|| panic!("{name}: {} {text}", answer.status));
        assert_eq!(arguments, name, "the one argument is the service's name");
        let value = |variable: &str| variables.lines().find_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
        for (variable, expected) in [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "shop.example.com"),
            ("REQUEST_METHOD", "POST"),
            ("SCRIPT_NAME", &format!("/{name}")),
            ("PATH_INFO", "/env"),
            ("QUERY_STRING", "a=1&b=%20"),
            ("CONTENT_TYPE", "text/x-test"),
            ("CONTENT_LENGTH", "4"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("SERVER_PORT", &host.address().port().to_string()),
            ("HTTP_X_A", "1, 2"),
            ("HTTP_X_REQUEST_ID", answer.request_id()),
            ("HTTP_X_FORWARDED_FOR", "127.0.0.1"),
        ] {
            assert_eq!(value(variable), Some(expected), "{name}: {variable} in\n{variables}");
        }
        assert!(value("SERVER_SOFTWARE").is_some_and(|software| software.starts_with("hotbay/")));
        assert_eq!(value("HTTP_PROXY"), None, "a client could set the guest's proxy (CVE-2016-5385)");
        assert_eq!((value("PATH"), value("HOME")), (None, None), "nothing of the host's environment");
    }
}

#[tokio::test]
async fn a_command_that_answers_badly_harms_only_itself() {
    let settings = "[limits]\nresponse_body = \"1MiB\"\ncpu = \"300ms\"\n";
    let host = Host::builder()
        .service("one", &guests::fixture("run-wasip1"))
        .settings("one", settings)
        .service("two", &guests::fixture("run"))
        .settings("two", settings)
        .start()
        .await;
    for name in ["one", "two"] {
        for (path, status) in
            [("no-blank-line", 500), ("no-header", 500), ("huge-header", 500), ("trap", 500), ("silent", 502), ("spin", 504)]
        {
            let answer = host.get(&format!("/{name}/{path}")).await;
            assert_eq!((answer.status, answer.header("content-type")), (status, "application/problem+json"), "{name}/{path}");
        }
        // Its body never ends; the limit does. The client sees that it is not whole.
        let whole = host.request("GET", &format!("/{name}/endless")).header("x-request-id", name).try_send().await;
        assert!(whole.is_err(), "{name}: {:?}", whole.map(|whole| whole.body.len()));
        assert!(host.log().wait_request(name).await.reason.contains("response_body"));
        assert_eq!(host.get(&format!("/{name}")).await.status, 200);
    }
}

#[tokio::test]
async fn a_library_has_no_route() {
    let host =
        Host::builder().service("stock", &guests::fixture("library")).service("probe", &guests::fixture("probe")).start().await;
    assert_eq!(host.get("/stock").await.status, 404);
    assert_eq!(host.request("GET", "/").host("stock.localhost").send().await.status, 404);
    let table = host.table().await;
    let line = table.lines().find(|line| line.starts_with("stock ")).unwrap_or_else(|| panic!("{table}"));
    assert!(line.contains(&guests::digest(&guests::fixture("library"))) && line.contains("library"), "{line}");
    assert!(host.events().iter().any(|event| event.is("stock", "published")));
}

#[tokio::test]
async fn the_examples_serve_as_their_sources_say() {
    let mut builder = Host::builder();
    for name in ["hello", "echo", "legacy", "stock", "orders"] {
        builder = builder.service(name, &guests::service(name));
        if let Some(settings) = guests::settings(name) {
            builder = builder.settings(name, &settings);
        }
    }
    let host = builder.start().await;
    assert_eq!(host.get("/hello").await.status, 200);
    let counted = host.post("/legacy", "one two\nthree\n").await;
    assert_eq!(counted.text(), "lines 2\nwords 3\nbytes 14\n");
    let echoed = host.post("/echo", vec![b'e'; 1 << 20]).await;
    assert_eq!((echoed.status, echoed.body.len()), (200, 1 << 20));
    let orders = host.get("/orders").await;
    assert_eq!((orders.status, orders.header("content-type")), (200, "application/json"), "{}", orders.text());
    let missing = host.get("/orders/no-such-order").await;
    assert!((400..500).contains(&missing.status), "{}", missing.status);
    assert_eq!(missing.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn what_is_not_hotbays_is_ignored() {
    let wasm = guests::fixture("probe");
    let host = Host::builder()
        .service("probe", &wasm)
        .file(".hidden.wasm", &wasm)
        .file("other.wasm.tmp", &wasm)
        .file("README.md", b"# words")
        .start()
        .await;
    assert!(host.log().events().iter().all(|event| event.state != "rejected"), "{}", host.told());
    for target in ["/hidden", "/.hidden", "/other", "/README"] {
        assert_eq!(host.get(target).await.status, 404, "{target}");
    }
}
