//! Torture line 10: endless loops, sleepers, and clients that leave, at every stage of a request. Each gives its permit back.

use bytes::Bytes;
use hotbay_tests::{Host, PATIENCE, guests};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One permit, and no limit that would end a guest by itself.
const PATIENT: &str = "[limits]\nconcurrency = 1\nqueue_wait = \"1min\"\ndeadline = \"1h\"\ncpu = \"1h\"\nstream_idle = \"1h\"\n";

async fn patient(wasm: &Bytes) -> Host {
    Host::builder().service("guest", wasm).settings("guest", PATIENT).start().await
}

/// Waits until so many requests of the service run (`concurrency`) or wait for a permit (`queue`).
async fn until(host: &Host, limit: &str, count: u64) {
    let begun = Instant::now();
    loop {
        let limits = host.admin().get("/v1/services/guest").await.json()["serving"]["limits"].clone();
        let one = limits.as_array().and_then(|all| all.iter().find(|one| one["limit"] == limit)).cloned();
        if one.and_then(|one| one["now"].as_u64()) == Some(count) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{limit} is not {count}: {limits}\n{}", host.told());
    }
}

/// Guards that dropping a request ends its guest (`Running`, and `Drop for Following` in host/src/runtime/body.rs), also where it
/// is on the lane.
#[tokio::test]
async fn a_client_that_leaves_frees_its_permit_at_every_stage() {
    for fixture in ["probe", "probe3"] {
        let host = patient(&guests::fixture(fixture)).await;
        let sent = "Host: x\r\nX-Request-Id";
        for (n, (stage, bytes, reads)) in [
            ("waiting for the head", format!("GET /guest/sleep?ms=3600000 HTTP/1.1\r\n{sent}: 0\r\n\r\n"), false),
            ("computing", format!("GET /guest/spin HTTP/1.1\r\n{sent}: 1\r\n\r\n"), false),
            ("uploading", format!("POST /guest/echo HTTP/1.1\r\n{sent}: 2\r\nContent-Length: 1000000\r\n\r\nsome"), true),
            ("streaming", format!("GET /guest/drip?count=1000000&ms=50 HTTP/1.1\r\n{sent}: 3\r\n\r\n"), true),
        ]
        .into_iter()
        .enumerate()
        {
            let mut socket = host.socket().await;
            socket.write_all(bytes.as_bytes()).await.expect("a request");
            if reads {
                socket.read_u8().await.expect("the response has begun");
            } else {
                until(&host, "concurrency", 1).await;
                // Another one that waits for the same permit shows that the first has it.
                let mut queued = host.socket().await;
                queued.write_all(b"GET /guest/marker HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("a request");
                until(&host, "queue", 1).await;
                // It leaves too: its place in the queue is free again.
                drop(queued);
                until(&host, "queue", 0).await;
            }
            drop(socket);
            let answer = host.get("/guest/marker").await;
            assert_eq!(answer.status, 200, "{fixture}, {stage}: {}", answer.text());
            let line = host.log().wait_request(&n.to_string()).await;
            // A guest that reads may see its body break off and end by itself.
            assert!(line.message.contains("client gone") || stage == "uploading", "{fixture}, {stage}: {line:?}");
        }
    }
}

/// A stream of HTTP/2 that is reset ends like a connection that is closed, and the connection goes on.
#[tokio::test]
async fn a_stream_that_is_reset_frees_its_permit() {
    let host = patient(&guests::fixture("probe")).await;
    let mut connection = host.connect_h2().await;
    for target in ["/guest/drip?count=1000000&ms=50"] {
        let request = connection.request("GET", target);
        let reply = connection.open(request).await;
        assert_eq!(reply.status, 200);
        drop(reply);
        assert_eq!(connection.get("/guest/marker").await.status, 200, "{target}");
    }
}

/// Guards the count of computing time in `Work::poll_once` in host/src/runtime/running.rs: it is that of the request, whichever
/// kind of guest it is and however often it gives way.
#[tokio::test]
async fn loops_of_every_kind_end_at_their_computing_time() {
    let settings = "[limits]\ndeadline = \"1h\"\ncpu = \"150ms\"\n";
    let mut builder = Host::builder().dev();
    for (name, wasm) in [
        ("p2", guests::fixture("probe")),
        ("p3", guests::fixture("probe3")),
        ("program", guests::fixture("run")),
        ("bare", guests::text("spin")),
    ] {
        builder = builder.service(name, &wasm).settings(name, settings);
    }
    let host = builder.start().await;
    for target in ["/p2/spin", "/p3/spin", "/program/spin", "/bare"] {
        let answer = host.get(target).await;
        assert_eq!((answer.status, answer.header("content-type")), (504, "application/problem+json"), "{target}");
        assert!(answer.text().contains("150ms (limits.cpu)"), "{target}: {}", answer.text());
    }
}

/// Guards the timeout around `head` in host/src/runtime/invoke.rs: a guest that computes is on the lane and not on the thread
/// whose clock ends it.
#[tokio::test]
async fn loops_of_every_kind_end_at_their_deadline() {
    let settings = "[limits]\ndeadline = \"150ms\"\ncpu = \"1h\"\nconcurrency = 1\nqueue_wait = \"1min\"\n";
    let mut builder = Host::builder().dev();
    for (name, wasm) in [("p2", guests::fixture("probe")), ("p3", guests::fixture("probe3")), ("bare", guests::text("spin"))] {
        builder = builder.service(name, &wasm).settings(name, settings);
    }
    let host = builder.start().await;
    for target in ["/p2/spin", "/p2/sleep?ms=3600000", "/p3/spin", "/p3/sleep?ms=3600000", "/bare"] {
        let answer = host.get(target).await;
        assert_eq!(answer.status, 504, "{target}");
        assert!(answer.text().contains("150ms (limits.deadline)"), "{target}: {}", answer.text());
    }
}
