//! Torture line 17: clients that are slow, silent, many, in a hurry, or half gone. None keeps a permit or a place for longer than
//! its limit. Slow heads and readers that take nothing are in `clients.rs` too.

use bytes::Bytes;
use hotbay_tests::{Host, PATIENCE, guests};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ONE_PERMIT: &str = "[limits]\nconcurrency = 1\nqueue_wait = \"1min\"\ndeadline = \"300ms\"\nstream_idle = \"300ms\"\n";

async fn one_permit() -> Host {
    Host::builder().service("probe", &guests::fixture("probe")).settings("probe", ONE_PERMIT).start().await
}

/// A body that comes a byte at a time is over at the deadline, however often one comes.
#[tokio::test]
async fn a_slow_body_holds_its_permit_until_the_deadline() {
    let host = one_permit().await;
    for h2 in [false, true] {
        let (request, mut body) = host.request("POST", "/probe/body").writing();
        let answer = tokio::spawn(if h2 { request.h2() } else { request }.try_send());
        let drip = tokio::spawn(async move {
            let mut turns = tokio::time::interval(Duration::from_millis(20));
            while body.send_data(Bytes::from_static(b"x")).await.is_ok() {
                turns.tick().await;
            }
        });
        assert_eq!(host.get("/probe/marker").await.status, 200, "h2: {h2}: its permit came back");
        let answer = answer.await.expect("no panic");
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 504), "h2: {h2}");
        drip.await.expect("no panic");
    }
}

/// A response that nobody takes is over after `stream_idle`, over HTTP/2 too, where only the window says so.
#[tokio::test]
async fn a_reader_that_takes_nothing_holds_its_permit_for_stream_idle() {
    let host = one_permit().await;
    for h2 in [false, true] {
        let request = host.request("GET", "/probe/stream?bytes=60000000");
        let reply = if h2 { request.h2() } else { request }.open().await;
        assert_eq!(reply.status, 200);
        assert_eq!(host.get("/probe/marker").await.status, 200, "h2: {h2}: its permit came back");
        drop(reply);
    }
}

/// Thousands of connections that say nothing cost next to nothing, and a request beside them is answered.
#[tokio::test]
async fn thousands_of_idle_connections_are_in_nobodys_way() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    let before = host.resources();
    let mut idle = Vec::new();
    // As many as this process may open, at most 3000.
    while idle.len() < 3000 {
        match tokio::net::TcpStream::connect(host.address()).await {
            Ok(socket) => idle.push(socket),
            Err(error) => {
                println!("{} connections: {error}", idle.len());
                break;
            }
        }
    }
    let spared = idle.len().min(8);
    idle.truncate(idle.len() - spared);
    for _ in 0..20 {
        assert_eq!(host.get("/probe/marker").await.status, 200);
    }
    let each = host.resources().resident.saturating_sub(before.resident) / idle.len().max(1) as u64;
    println!("{} idle connections at {each} bytes each", idle.len());
    assert!(each < 64 << 10, "{each} bytes");
    drop(idle);
}

/// Guards `Place::needed` in host/src/http/places.rs: without it the next client waits for `http.header_timeout`.
#[tokio::test]
async fn connections_at_rest_make_room_when_all_places_are_taken() {
    let host = Host::builder()
        .service("probe", &guests::fixture("probe"))
        .config("[http]\nconnections = 8\nheader_timeout = \"1h\"\n")
        .start()
        .await;
    for said in ["", "PRI * HTTP/2", "GET /probe/marker HTTP/1.1\r\nHost: "] {
        let mut silent = Vec::new();
        for _ in 0..7 {
            let mut socket = host.socket().await;
            socket.write_all(said.as_bytes()).await.expect("it is sent");
            silent.push(socket);
        }
        // One that is at work stays where it is.
        let at_work = host.request("GET", "/probe/drip?count=15&ms=200").open().await;
        assert_eq!(host.get("/probe/marker").await.status, 200, "{said:?}");
        let whole = at_work.whole().await.expect("it was not cut");
        assert!(whole.text().contains("line 14"), "{said:?}");
        drop(silent);
    }
    for h2 in [false, true] {
        let mut resting = Vec::new();
        for _ in 0..8 {
            let mut connection = if h2 { host.connect_h2().await } else { host.connect().await };
            assert_eq!(connection.get("/probe/marker").await.status, 200);
            resting.push(connection);
        }
        assert_eq!(host.get("/probe/marker").await.status, 200, "h2: {h2}");
        drop(resting);
    }
    let text = host.admin().get("/metrics").await.text();
    let times = text.lines().find_map(|line| line.strip_prefix("hotbay_connections_full_total ")?.parse::<f64>().ok());
    assert!(times.is_some_and(|times| times >= 2.0), "{text}");
    assert!(host.events().iter().any(|event| event.fields["limit"] == "http.connections"), "{}", host.told());
}

/// The admin listener has places of its own.
#[tokio::test]
async fn the_admin_listener_is_open_when_all_places_are_taken() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).config("[http]\nconnections = 2\n").start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let (request, body) = host.request("POST", "/probe/echo").writing();
        held.push((request.open().await, body));
    }
    assert_eq!(host.admin().get("/v1/services/probe").await.status, 200);
    drop(held);
}

/// Requests one after another without a wait are answered in their order, each with its own answer.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    let ask = |id: u32, path: &str, last: bool| {
        let close = if last { "Connection: close\r\n" } else { "" };
        format!("GET /probe/{path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: n{id}\r\n{close}\r\n")
    };
    let all: String = (0..50).map(|n| ask(n, if n % 5 == 0 { "sleep?ms=5" } else { "marker" }, n == 49)).collect();
    let answer = host.raw(all).await;
    let ids: Vec<_> = answer.lines().filter_map(|line| line.strip_prefix("x-request-id: ")).map(str::to_owned).collect();
    assert_eq!(ids, (0..50).map(|n| format!("n{n}")).collect::<Vec<_>>());
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 50, "{answer}");
}

/// A client that goes while more of its requests wait in the pipe cannot be seen to go; its guest ends at the deadline.
#[tokio::test]
async fn a_client_that_leaves_a_full_pipe_holds_its_permit_until_the_deadline() {
    let host = one_permit().await;
    let mut socket = host.socket().await;
    let ask = "GET /probe/sleep?ms=3600000 HTTP/1.1\r\nHost: x\r\n\r\n";
    socket.write_all(ask.repeat(20).as_bytes()).await.expect("it is sent");
    drop(socket);
    assert_eq!(host.get("/probe/marker").await.status, 200);
}

/// A client that has closed its half of the connection has gone: its permit is free, and nobody waits for its socket.
#[tokio::test]
async fn a_half_closed_connection_holds_no_permit() {
    let host = Host::builder()
        .service("probe", &guests::fixture("probe"))
        .settings("probe", "[limits]\nconcurrency = 1\nqueue_wait = \"1min\"\ndeadline = \"1h\"\nstream_idle = \"1h\"\n")
        .start()
        .await;
    for target in ["/probe/sleep?ms=3600000", "/probe/drip?count=1000000&ms=50"] {
        let mut socket = host.socket().await;
        socket.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("it is sent");
        if target.contains("drip") {
            socket.read_u8().await.expect("the response has begun");
        }
        socket.shutdown().await.expect("half of it");
        assert_eq!(host.get("/probe/marker").await.status, 200, "{target}: its permit came back");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{target}: the connection is kept");
    }
}
