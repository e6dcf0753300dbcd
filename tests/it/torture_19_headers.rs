//! Torture line 19: headers that are too many or too large, those of the connection, and floods over HTTP/2. What is stripped and
//! what `x-forwarded-*` says is in `routing.rs`; here it is over HTTP/2 and for commands.

use hotbay_tests::{Host, PATIENCE, guests};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn probe(config: &str) -> Host {
    Host::builder()
        .service("probe", &guests::fixture("probe"))
        .service("program", &guests::fixture("run"))
        .config(config)
        .start()
        .await
}

/// Guards `check` in host/src/http/exchange.rs.
#[tokio::test]
async fn too_many_or_too_large_headers_are_431() {
    let host = probe("[http]\nheader_size = \"16KiB\"\n").await;
    for h2 in [false, true] {
        let ask = |count: usize, size: usize| {
            let request = host.request("GET", "/probe/marker");
            let request = if h2 { request.h2() } else { request };
            (0..count).fold(request, |request, n| request.header(&format!("x-{n}"), &"v".repeat(size)))
        };
        assert_eq!(ask(90, 10).send().await.status, 200, "h2: {h2}");
        assert_eq!(ask(1, 12 << 10).send().await.status, 200, "h2: {h2}");
        assert_eq!(ask(150, 1).send().await.status, 431, "h2: {h2}: too many");
        let large = ask(8, 2047).send().await;
        assert_eq!(large.status, 431, "h2: {h2}: too large together");
        // Far above it the connection may end without an answer.
        let huge = ask(4, 60 << 10).try_send().await;
        assert!(huge.is_err() || huge.is_ok_and(|answer| answer.status == 431), "h2: {h2}");
    }
    let one = host.request("GET", "/probe/marker").header("x-large", &"v".repeat(17 << 10)).send().await;
    assert_eq!((one.status, one.header("content-type")), (431, "application/problem+json"));
    let h2 = host.request("GET", "/probe/marker").h2();
    let many = (0..101).fold(h2, |request, n| request.header(&format!("x-{n}"), "v")).send().await;
    assert_eq!((many.status, many.header("content-type")), (431, "application/problem+json"), "nobody counts them but the edge");
}

/// A command gets its headers as variables, among them none that speaks for the connection or for the host.
#[tokio::test]
async fn a_command_sees_no_header_of_the_connection_either() {
    let host = probe("").await;
    let request = host.request("GET", "/program/env");
    let answer = request
        .header("connection", "x-private, te")
        .header("x-private", "1")
        .header("te", "trailers")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x_forwarded_for", "7.7.7.7")
        .header("forwarded", "for=6.6.6.6")
        .send()
        .await;
    let text = answer.text();
    for absent in ["HTTP_CONNECTION", "HTTP_X_PRIVATE", "HTTP_TE=", "HTTP_UPGRADE", "6.6.6.6", "7.7.7.7"] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
    assert!(text.contains("HTTP_X_FORWARDED_FOR=127.0.0.1"), "{text}");
    // Nor does it speak for the connection itself.
    let answer = host.get("/program/connection").await;
    assert_eq!((answer.text().as_str(), answer.header("x-kept")), ("body", "yes"));
}

/// HTTP/2 knows no headers of the connection; a client that sends one has made a mistake (RFC 9113 §8.2.2).
#[tokio::test]
async fn over_http2_nobody_says_where_they_come_from_either() {
    let host = probe("").await;
    let answer = host
        .request("GET", "/probe/headers")
        .h2()
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=6.6.6.6")
        .send()
        .await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("6.6.6.6") && !answer.text().contains("https\""), "{}", answer.text());
}

/// A HEADERS frame that asks for `path`, ended, on this stream.
fn headers(stream: u32, path: &str) -> Vec<u8> {
    let len = u8::try_from(path.len()).expect("a short path");
    let block = [&[0x82, 0x86, 0x04, len][..], path.as_bytes(), &[0x41, 1], b"x"].concat();
    let len = u8::try_from(block.len()).expect("a short block");
    [&[0, 0, len, 1, 5][..], &stream.to_be_bytes(), &block].concat()
}

/// RST_STREAM with CANCEL.
fn reset(stream: u32) -> Vec<u8> {
    [&[0, 0, 4, 3, 0][..], &stream.to_be_bytes(), &[0, 0, 0, 8]].concat()
}

/// Requests that are reset as soon as they are asked: the host hangs up, or works them off, and is none the worse.
#[tokio::test]
async fn a_rapid_reset_harms_nobody() {
    let host = probe("").await;
    let before = host.resources().resident;
    let mut frames = PREFACE.to_vec();
    for n in 0..20_000_u32 {
        frames.extend(headers(2 * n + 1, "/probe/sleep?ms=60000"));
        frames.extend(reset(2 * n + 1));
    }
    let mut socket = host.socket().await;
    // The host may hang up in the middle.
    let _ = socket.write_all(&frames).await;
    let mut said = Vec::new();
    let (mut reading, neighbour) = (Box::pin(socket.read_to_end(&mut said)), host.get("/probe/marker"));
    assert_eq!(neighbour.await.status, 200);
    // GOAWAY (7) with ENHANCE_YOUR_CALM (11), or everything worked off.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(200), &mut reading).await;
    drop(reading);
    drop(socket);
    // What was asked and taken back holds no permit: 64 there are.
    for _ in 0..3 {
        let all = futures::future::join_all((0..64).map(|_| host.get("/probe/marker"))).await;
        assert!(all.iter().all(|answer| answer.status == 200));
    }
    let grown = host.resources().resident.saturating_sub(before) >> 20;
    assert!(grown < 128, "{grown} MiB more");
}

/// Guards `http.streams`: what is over it is refused and not run.
#[tokio::test]
async fn the_streams_of_a_connection_are_bounded() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).config("[http]\nstreams = 4\n").start().await;
    let mut socket = host.socket().await;
    let asked: Vec<u8> = (0..20_u32).flat_map(|n| headers(2 * n + 1, "/probe/sleep?ms=300")).collect();
    socket.write_all(&[PREFACE, &asked].concat()).await.expect("it is sent");
    let mut said = vec![0; 9];
    let mut refused = 0;
    // REFUSED_STREAM (7) in a RST_STREAM (3), for each that is over it.
    while refused < 16 {
        let read = tokio::time::timeout(PATIENCE, socket.read_exact(&mut said)).await;
        read.unwrap_or_else(|_| panic!("{refused} refused\n{}", host.told())).expect("a frame");
        let len = usize::from(said[0]) << 16 | usize::from(said[1]) << 8 | usize::from(said[2]);
        let kind = said[3];
        let mut payload = vec![0; len];
        socket.read_exact(&mut payload).await.expect("its payload");
        assert_ne!(kind, 7, "the connection goes on");
        refused += usize::from(kind == 3 && payload == [0, 0, 0, 7]);
    }
    assert_eq!(host.get("/probe/marker").await.status, 200);
}
