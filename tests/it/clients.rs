//! Clients that stand still, leave early or send what is no HTTP.

use hotbay_tests::{Host, PATIENCE, Signal, guests};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A host that waits for nobody longer than half a second, and for no guest of these tests.
async fn impatient() -> Host {
    Host::builder()
        .service("probe", &guests::fixture("probe"))
        .config("[http]\nheader_timeout = \"500ms\"\nconnections = 2\n")
        .start()
        .await
}

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame; HEADERS of stream 1 without END_HEADERS (RFC 9113 §6.2), three bytes of a block.
const SETTINGS: &str = "\0\0\0\x04\0\0\0\0\0";
const HEADERS: &str = "\0\0\x03\x01\0\0\0\0\x01abc";

/// Guards `Watched::of` and `Activity::silent` in host/src/http/watch.rs. With two places for connections, each of them held for
/// good would soon leave none.
#[tokio::test]
async fn a_connection_that_says_nothing_whole_is_closed() {
    let host = impatient().await;
    for said in [
        "",
        "P",
        "PRI * HT",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        PREFACE,
        &format!("{PREFACE}{SETTINGS}{HEADERS}"),
        "GET / HTTP/1.1\r\nHost: ",
    ] {
        for _ in 0..3 {
            host.raw(said).await;
        }
    }
    for h2 in [false, true] {
        let mut connection = if h2 { host.connect_h2().await } else { host.connect().await };
        assert_eq!(connection.get("/probe/marker").await.status, 200);
        connection.closed().await;
    }
    assert_eq!(host.get("/probe/marker").await.status, 200);
}

/// Guards `Active::polled` in host/src/http/watch.rs: a guest that takes its time is not the client's silence.
#[tokio::test]
async fn a_connection_that_waits_for_its_guest_stays() {
    let host = impatient().await;
    for h2 in [false, true] {
        let mut connection = if h2 { host.connect_h2().await } else { host.connect().await };
        assert_eq!(connection.get("/probe/sleep?ms=1500").await.status, 200, "h2: {h2}");
        assert!(connection.get("/probe/drip?count=2&ms=900").await.text().contains("line 1"), "h2: {h2}");
        assert_eq!(connection.get("/probe/marker").await.status, 200, "h2: {h2}: it was not shown out");
    }
}

/// Guards `Activity::silent`: neither the whole of a small response nor the rest of a large one is kept for a client that takes nothing.
#[tokio::test]
async fn a_client_that_takes_nothing_is_closed() {
    let host = impatient().await;
    let ask = "GET /probe/stream?bytes=60000000 HTTP/1.1\r\nHost: x\r\nX-Request-Id: deaf\r\n\r\n";
    let mut deaf = host.socket().await;
    deaf.write_all(ask.as_bytes()).await.expect("it is sent");
    host.log().wait_request("deaf").await;

    // Over HTTP/2 a window of nothing: SETTINGS_INITIAL_WINDOW_SIZE 0, then a GET of a small response, by HPACK's static table.
    let mut deaf = host.socket().await;
    let no_window = "\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
    let block = [&[0x82, 0x86, 0x04, 13][..], b"/probe/marker", &[0x41, 1], b"x"].concat();
    let head = [&[0, 0, u8::try_from(block.len()).expect("a short block"), 1, 5, 0, 0, 0, 1][..], &block].concat();
    deaf.write_all(&[PREFACE.as_bytes(), no_window.as_bytes(), &head].concat()).await.expect("it is sent");
    let mut said = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, deaf.read_to_end(&mut said)).await;
    assert!(closed.is_ok(), "the connection is kept\n{}", host.told());
}

/// Guards `Drop for Record` in host/src/http/observe.rs.
#[tokio::test]
async fn a_client_that_leaves_before_its_answer_leaves_a_line() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    let mut socket = host.socket().await;
    let ask = "GET /probe/sleep?ms=5000 HTTP/1.1\r\nHost: x\r\nX-Request-Id: leaver\r\n\r\n";
    socket.write_all(ask.as_bytes()).await.expect("it is sent");
    // Another request, so that the first is surely with its guest.
    assert_eq!(host.get("/probe/sleep?ms=100").await.status, 200);
    drop(socket);
    let line = host.log().wait_request("leaver").await;
    assert!(line.message.contains("client gone") && line.status.is_none(), "{line:?}");
}

/// Guards `Drop for Following` in host/src/runtime/body.rs: over HTTP/1.1 nobody asks a body for more than its length.
#[tokio::test]
async fn a_guest_may_work_on_after_the_last_byte() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    for h2 in [false, true] {
        let id = format!("after-{h2}");
        let request = host.request("GET", "/probe/after?bytes=300000&ms=200").header("x-request-id", &id);
        let answer = if h2 { request.h2() } else { request }.send().await;
        assert_eq!((answer.status, answer.body.len()), (200, 300_000));
        host.log()
            .wait("the guest's last words", |event| event.request_id == id && event.message.contains("done after the body"))
            .await;
        let line = host.log().wait_request(&id).await;
        assert_eq!((line.message.as_str(), line.fields["sent"].as_u64()), ("request", Some(300_000)));
    }
}

/// Guards `Followers::retire`: a guest that works on after its last byte is waited for, as a request is.
#[tokio::test]
async fn a_guest_that_works_on_is_waited_for_at_the_end() {
    let mut host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    assert_eq!(host.get("/probe/after?bytes=300000&ms=1500").await.body.len(), 300_000);
    host.signal(Signal::TERM);
    assert_eq!(host.exit_status().await.code(), Some(0));
    host.log().wait("the guest's last words", |event| event.message.contains("done after the body")).await;
}

/// A response without a body is whole with its head, however long its guest works on.
#[tokio::test]
async fn a_guest_may_work_on_after_a_head_alone() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    for (method, h2) in [("HEAD", false), ("HEAD", true)] {
        let id = format!("head-{h2}");
        let request = host.request(method, "/probe/after?bytes=300000&ms=200").header("x-request-id", &id);
        assert_eq!(if h2 { request.h2() } else { request }.send().await.status, 200);
        host.log()
            .wait("the guest's last words", |event| event.request_id == id && event.message.contains("done after the body"))
            .await;
        assert_eq!(host.log().wait_request(&id).await.message, "request");
    }
}

/// Guards the low-water mark in `Watched::of`: a client that reads slowly is not silent.
#[tokio::test]
async fn a_client_that_reads_slowly_gets_everything() {
    let host = impatient().await;
    let ask = "GET /probe/stream?bytes=6000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(32 << 10).expect("a small buffer");
    socket.connect(&host.address().into()).expect("a connection");
    socket.set_nonblocking(true).expect("a mode");
    let mut slow = tokio::net::TcpStream::from_std(socket.into()).expect("a stream");
    slow.write_all(ask.as_bytes()).await.expect("it is sent");
    let (mut read, mut block) = (0, vec![0; 64 << 10]);
    let mut turns = tokio::time::interval(std::time::Duration::from_millis(60));
    loop {
        turns.tick().await;
        match slow.read(&mut block).await.expect("it is not cut") {
            0 => break,
            len => read += len,
        }
    }
    assert!(read > 6_000_000, "{read} bytes");
}

/// A body that breaks off is the client's doing, whatever the guest makes of it.
#[tokio::test]
async fn a_broken_body_is_the_clients_fault() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    let head = "POST /probe/trailers HTTP/1.1\r\nHost: x\r\nX-Request-Id: broken\r\nTransfer-Encoding: chunked\r\n\r\n";
    host.raw(format!("{head}5\r\nhello\r\nzz\r\n")).await;
    let line = host.log().wait_request("broken").await;
    assert_eq!(line.status, Some(400), "{line:?}");
    assert_eq!(line.level, "INFO", "{line:?}");
}

#[tokio::test]
async fn a_stalling_client_holds_up_no_end() {
    let mut host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    let mut stalled = Vec::new();
    for said in ["", "P", PREFACE] {
        let mut socket = host.socket().await;
        socket.write_all(said.as_bytes()).await.expect("it is sent");
        stalled.push(socket);
    }
    assert_eq!(host.get("/probe/marker").await.status, 200);
    let begun = Instant::now();
    host.signal(Signal::TERM);
    assert_eq!(host.exit_status().await.code(), Some(0));
    assert!(begun.elapsed().as_secs() < 9, "it waited {:?}", begun.elapsed());
}
