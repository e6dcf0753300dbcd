//! What a service may use, and that a guest which wants more harms only itself.

use bytes::Bytes;
use hotbay_tests::{Host, How, Response, guests};
use std::time::{Duration, Instant};

/// The probe under these settings, and an unlimited neighbour.
pub(crate) async fn limited(settings: &str) -> Host {
    let wasm = guests::fixture("probe");
    Host::builder().service("probe", &wasm).settings("probe", settings).service("neighbour", &wasm).dev().start().await
}

pub(crate) async fn assert_neighbour_answers(host: &Host) {
    assert_eq!(host.get("/neighbour/marker").await.status, 200, "{}", host.told());
}

/// The reason that `--dev` tells.
fn reason(answer: &Response) -> String {
    answer.json()["dev"]["reason"].as_str().unwrap_or_default().to_owned()
}

/// Guards `MemoryBudget::grow` in host/src/runtime/limiter.rs.
#[tokio::test]
async fn memory_is_bounded() {
    let host = limited("[limits]\nmemory = \"16MiB\"\n").await;
    assert_eq!(host.get("/probe/grow?mib=8").await.status, 200);
    let answer = host.get("/probe/grow?mib=20").await;
    assert_eq!(answer.status, 500);
    assert!(reason(&answer).contains("16MiB (limits.memory)"), "{}", answer.text());
    assert!(answer.json()["dev"]["remedy"].to_string().contains("limits.memory"));
    assert_eq!(host.get("/neighbour/grow?mib=40").await.status, 200, "the default is 64 MiB");
    assert_eq!(host.get("/neighbour/grow?mib=80").await.status, 500);
    assert_eq!(host.get("/probe/grow?mib=8").await.status, 200, "the next request has its own");
}

#[tokio::test]
async fn a_growth_bomb_ends_at_its_limit() {
    let host = limited("[limits]\nmemory = \"32MiB\"\n").await;
    let before = host.resources().resident;
    let bombs = futures::future::join_all((0..16).map(|_| host.get("/probe/grow?mib=4000"))).await;
    assert!(bombs.iter().all(|answer| answer.status == 500));
    assert_neighbour_answers(&host).await;
    let grown = host.resources().resident.saturating_sub(before) >> 20;
    assert!(grown < 16 * 32, "{grown} MiB more");
}

/// Guards the timeout around `head` in host/src/runtime/invoke.rs.
#[tokio::test]
async fn the_deadline_ends_a_sleeper() {
    let host = limited("[limits]\ndeadline = \"200ms\"\n").await;
    let begun = Instant::now();
    let answer = host.get("/probe/sleep?ms=600000").await;
    assert_eq!((answer.status, answer.header("content-type")), (504, "application/problem+json"));
    assert!(reason(&answer).contains("200ms (limits.deadline)"), "{}", answer.text());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(host.get("/probe/sleep?ms=10").await.status, 200);
    assert_neighbour_answers(&host).await;
}

/// Guards the epoch interruption (host/src/runtime/engine.rs and store.rs): without it a loop holds its thread for ever.
#[tokio::test]
async fn endless_loops_end_and_harm_no_neighbour() {
    let host = limited("[limits]\ndeadline = \"1500ms\"\ncpu = \"10min\"\n").await;
    // More of them than there are threads.
    let spinners = tokio::spawn(futures::future::join_all((0..6).map(|_| host.request("GET", "/probe/spin").send())));
    let (mut answers, mut slowest) = (0, Duration::ZERO);
    let mut connection = host.connect().await;
    while !spinners.is_finished() {
        let asked = Instant::now();
        assert_eq!(connection.get("/neighbour/marker").await.status, 200, "{}", host.told());
        slowest = slowest.max(asked.elapsed());
        answers += 1;
    }
    for answer in spinners.await.expect("no panic") {
        assert_eq!(answer.status, 504);
        assert!(reason(&answer).contains("limits.deadline"), "{}", answer.text());
    }
    // How fair it is, is another question; without interruption nobody answers until the loops end, which is never.
    println!("{answers} answers of the neighbour while six loops ran, the slowest in {slowest:?}");
    assert!(answers >= 3, "{answers} answers of the neighbour while six loops ran, the slowest in {slowest:?}");
    assert_eq!(host.get("/probe/marker").await.status, 200);
}

/// Guards the count of computing time in `Running::advance` in host/src/runtime/invoke.rs.
#[tokio::test]
async fn computing_time_is_bounded_by_itself() {
    let host = limited("[limits]\ndeadline = \"10min\"\ncpu = \"200ms\"\n").await;
    let answer = host.get("/probe/spin").await;
    assert_eq!(answer.status, 504);
    assert!(reason(&answer).contains("200ms (limits.cpu)"), "{}", answer.text());
    assert_eq!(host.get("/probe/sleep?ms=500").await.status, 200, "waiting is not computing");
    assert_neighbour_answers(&host).await;
}

#[tokio::test]
async fn wasi_03_guests_have_the_same_limits() {
    let wasm = guests::fixture("probe3");
    let host = Host::builder()
        .service("slow", &wasm)
        .settings("slow", "[limits]\ndeadline = \"200ms\"\n")
        .service("busy", &wasm)
        .settings("busy", "[limits]\ncpu = \"200ms\"\nresponse_body = \"1MiB\"\n")
        .service("neighbour", &wasm)
        .start()
        .await;
    assert_eq!(host.get("/slow/sleep?ms=600000").await.status, 504);
    assert_eq!(host.get("/slow/spin").await.status, 504);
    assert_eq!(host.get("/busy/spin").await.status, 504);
    assert!(host.request("GET", "/busy/stream?bytes=5000000").try_send().await.is_err());
    assert_neighbour_answers(&host).await;
}

/// Guards `admit` in host/src/dispatch.rs.
#[tokio::test]
async fn over_the_concurrency_a_request_waits_or_is_told_to_come_again() {
    let host = limited("[limits]\nconcurrency = 1\nqueue = 0\n").await;
    let (request, body) = host.request("POST", "/probe/echo").writing();
    let running = request.open().await;
    let answer = host.get("/probe/marker").await;
    assert_eq!((answer.status, answer.header("content-type")), (503, "application/problem+json"));
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{:?}", answer.headers);
    assert!(reason(&answer).contains("(limits.queue)"), "at once, not after limits.queue_wait: {}", answer.text());
    assert_neighbour_answers(&host).await;
    drop(body);
    assert_eq!(running.whole().await.expect("a whole body").status, 200);
    // The permit is given back when the guest has ended, which may be a moment after its last byte.
    host.get_until("/probe/marker", 200).await;
}

#[tokio::test]
async fn a_place_in_the_queue_is_kept_for_a_time() {
    let host = limited("[limits]\nconcurrency = 1\nqueue = 1\nqueue_wait = \"100ms\"\n").await;
    let (request, _body) = host.request("POST", "/probe/echo").writing();
    let _running = request.open().await;
    let begun = Instant::now();
    let answer = host.get("/probe/marker").await;
    assert_eq!(answer.status, 503);
    assert!(reason(&answer).contains("limits.queue_wait"), "{}", answer.text());
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_waits_is_served_when_a_permit_is_free() {
    let host = limited("[limits]\nconcurrency = 1\nqueue = 64\nqueue_wait = \"1min\"\n").await;
    let answers = futures::future::join_all((0..20).map(|_| host.get("/probe/sleep?ms=10"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "all of the queue was served");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_guest() {
    let host = limited("[limits]\nconcurrency = 1\nqueue_wait = \"1min\"\ndeadline = \"10min\"\nstream_idle = \"10min\"\n").await;
    // While it waits for the head, while it reads the body, and while it is in the queue.
    for target in ["/probe/sleep?ms=600000", "/probe/drip?count=1000000&ms=100"] {
        let mut socket = host.socket().await;
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut socket, request.as_bytes()).await.expect("a request");
        if target.contains("drip") {
            tokio::io::AsyncReadExt::read_u8(&mut socket).await.expect("the response has begun");
        }
        drop(socket);
        assert_eq!(host.get("/probe/marker").await.status, 200, "{target}: the permit came back");
    }
}

/// Guards the check of the length in `run` in host/src/dispatch.rs, and `Bounded` in host/src/runtime/request.rs.
#[tokio::test]
async fn a_request_body_over_the_limit_is_413() {
    let host = limited("[limits]\nrequest_body = \"64KiB\"\n").await;
    let body = |bytes: usize| Bytes::from(vec![b'x'; bytes]);
    for h2 in [false, true] {
        for bytes in [1, 64 << 10] {
            let request = host.request("POST", "/probe/body").body(body(bytes));
            let answer = if h2 { request.h2() } else { request }.send().await;
            assert_eq!((answer.status, answer.json()["bytes"].as_u64()), (200, Some(bytes as u64)), "h2: {h2}");
        }
        let request = host.request("POST", "/probe/body").body(body((64 << 10) + 1));
        let answer = if h2 { request.h2() } else { request }.send().await;
        assert_eq!((answer.status, answer.header("content-type")), (413, "application/problem+json"), "h2: {h2}");
        // Its length is told, so a guest that would not even read it is not asked.
        let request = host.request("POST", "/probe/marker").body(body((64 << 10) + 1));
        let answer = if h2 { request.h2() } else { request }.send().await;
        assert_eq!(answer.status, 413, "h2: {h2}");
        // Without a length it shows only on the way.
        let request = host.request("POST", "/probe/body").chunks(std::iter::repeat_n(body(16 << 10), 5), Default::default());
        let answer = if h2 { request.h2() } else { request }.send().await;
        assert_eq!(answer.status, 413, "h2: {h2}");
        let request = host.request("POST", "/probe/body").chunks(std::iter::repeat_n(body(16 << 10), 4), Default::default());
        assert_eq!(if h2 { request.h2() } else { request }.send().await.status, 200, "h2: {h2}");
    }
    assert_eq!(host.post("/neighbour/body", body(1 << 20)).await.status, 200);
}

#[tokio::test]
async fn a_response_body_over_the_limit_is_no_whole_answer() {
    let host = limited("[limits]\nresponse_body = \"32KiB\"\n").await;
    assert_eq!(host.get("/probe/stream?bytes=32768").await.body.len(), 32 << 10);
    let answer = host.get("/probe/stream?bytes=32769").await;
    assert_eq!(answer.status, 500, "it was not begun yet");
    assert!(reason(&answer).contains("limits.response_body"), "{}", answer.text());
    let broken = host.request("GET", "/probe/stream?bytes=10000000").header("x-request-id", "large").try_send().await;
    assert!(broken.is_err() || broken.is_ok_and(|answer| answer.status == 500), "it must not look whole");
    assert!(host.log().wait_request("large").await.reason.contains("limits.response_body"));
    assert_eq!(host.get("/neighbour/stream?bytes=10000000").await.body.len(), 10_000_000);
}

/// Guards `Progress::stalled` in host/src/runtime/body.rs.
#[tokio::test]
async fn a_body_that_stands_still_is_ended() {
    let host = limited("[limits]\nstream_idle = \"200ms\"\nconcurrency = 1\nqueue_wait = \"1min\"\n").await;
    let still = host.request("GET", "/probe/drip?count=2&ms=600000").header("x-request-id", "still").open().await;
    assert_eq!(still.status, 200);
    assert!(still.whole().await.is_err(), "a body that was ended must not look whole");
    assert!(host.log().wait_request("still").await.reason.contains("limits.stream_idle"));
    let slow = host.get("/probe/drip?count=8&ms=50").await;
    assert!(slow.text().contains("line 7"), "one that moves goes on, however long: {}", slow.text());

    // A client that takes nothing: more than the sockets hold between us, and we do not read.
    let mut deaf = host.request("GET", "/probe/stream?bytes=60000000").header("x-request-id", "deaf").open().await;
    assert!(deaf.chunk().await.is_ok());
    assert_eq!(host.get("/probe/marker").await.status, 200, "its permit came back");
    drop(deaf);
    host.log().wait_request("deaf").await;
}

#[tokio::test]
async fn a_client_that_sends_no_more_is_ended_at_the_deadline() {
    let host = limited("[limits]\ndeadline = \"300ms\"\n").await;
    let (request, mut body) = host.request("POST", "/probe/body").writing();
    let answer = tokio::spawn(request.send());
    body.send_data(Bytes::from_static(b"and then nothing")).await.expect("it is read");
    assert_eq!(answer.await.expect("no panic").status, 504);
    assert_neighbour_answers(&host).await;
}

async fn counts(host: &Host, requests: usize) -> Vec<u32> {
    let mut counts = Vec::new();
    for _ in 0..requests {
        let answer = host.get("/probe/count").await;
        counts.push(answer.text().parse().unwrap_or_else(|_| panic!("{} {}", answer.status, answer.text())));
    }
    counts
}

/// Guards the default policy: what one request leaves in memory is not there for the next.
#[tokio::test]
async fn fresh_instances_know_nothing_of_each_other() {
    let host = limited("").await;
    assert_eq!(counts(&host, 4).await, [1, 1, 1, 1]);
}

#[tokio::test]
async fn reused_instances_serve_one_after_another() {
    let host = limited("[instances]\npolicy = \"reuse\"\n").await;
    assert_eq!(counts(&host, 4).await, [1, 2, 3, 4]);
    assert_eq!(host.get("/probe/trap").await.status, 500);
    assert_eq!(counts(&host, 2).await, [1, 2], "an instance that trapped is not used again");
    // Two at once are two instances.
    let at_once = futures::future::join_all((0..8).map(|_| host.get("/probe/sleep?ms=50"))).await;
    assert!(at_once.iter().all(|answer| answer.status == 200));
}

#[tokio::test]
async fn a_reused_instance_ends_after_its_requests() {
    let host = limited("[instances]\npolicy = \"reuse\"\nmax_requests = 2\n").await;
    assert_eq!(counts(&host, 5).await, [1, 2, 1, 2, 1]);
}

/// Guards the wait for the last of a body in `Following::poll`: the instance that holds it is kept, so nobody else ends it.
#[tokio::test]
async fn a_body_that_a_kept_guest_forgot_is_ended() {
    let host = limited("[limits]\nstream_idle = \"200ms\"\n[instances]\npolicy = \"reuse\"\n").await;
    for h2 in [false, true] {
        let request = host.request("GET", "/probe/forget").header("x-request-id", "forgotten");
        let reply = if h2 { request.h2() } else { request }.open().await;
        assert!(reply.whole().await.is_err(), "a body that was not ended must not look whole");
    }
    assert!(host.log().wait_request("forgotten").await.reason.contains("without ending its response body"));
    assert_neighbour_answers(&host).await;
}

/// Guards `HostState::leaks`: a guest that never drops its handles is renewed before it has no more of them.
#[tokio::test]
async fn a_kept_guest_that_leaks_handles_is_renewed() {
    let host = limited("[instances]\npolicy = \"reuse\"\n").await;
    let (mut renewed, mut last) = (0, 0_u32);
    for _ in 0..60 {
        let answer = host.get("/probe/leak?count=20").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let served: u32 = answer.text().parse().expect("a number");
        renewed += u32::from(last > 0 && served <= last);
        last = served;
    }
    assert!(renewed >= 2, "it was renewed {renewed} times");
}

/// Guards the end of idle instances in `Drain::wait`: the next revision needs their slots while the last one still drains.
#[tokio::test]
async fn a_draining_revision_holds_no_idle_instances() {
    let settings = "[instances]\npolicy = \"reuse\"\n";
    let host = Host::builder()
        .service("probe", &guests::revision("probe", 1))
        .settings("probe", settings)
        .config("[pool]\ninstances = 4\n")
        .start()
        .await;
    // Three at once, of which one goes on and two are kept.
    let (request, body) = host.request("POST", "/probe/echo").writing();
    let running = request.open().await;
    let at_once = futures::future::join_all((0..2).map(|_| host.get("/probe/sleep?ms=200"))).await;
    assert!(at_once.iter().all(|answer| answer.status == 200));
    host.swap("probe", &guests::revision("probe", 2), How::Rename).await;
    host.wait_for("probe", "draining").await;
    // An instance that ends gives its slot back a moment later.
    futures::future::join_all((0..2).map(|_| host.get_until("/probe/sleep?ms=200", 200))).await;
    drop(body);
    running.whole().await.expect("a whole body");
}

#[tokio::test]
async fn a_reused_instance_does_not_outlive_its_revision() {
    let host = limited("[instances]\npolicy = \"reuse\"\n").await;
    assert_eq!(counts(&host, 2).await, [1, 2]);
    host.swap("probe", &guests::revision("probe", 5), How::Rename).await;
    assert_eq!(counts(&host, 2).await, [1, 2]);
}

#[tokio::test]
async fn reused_wasi_03_instances_serve_one_after_another() {
    let host = Host::builder()
        .service("probe", &guests::fixture("probe3"))
        .settings("probe", "[instances]\npolicy = \"reuse\"\nmax_requests = 3\n")
        .start()
        .await;
    assert_eq!(counts(&host, 5).await, [1, 2, 3, 1, 2]);
}

/// Guards `shrink` in host/src/runtime/revision.rs. That an instance has ended is seen by its `lifecycle.stop`.
#[tokio::test]
async fn an_idle_instance_ends() {
    let host = Host::builder()
        .service("probe", &guests::fixture("lifecycle"))
        .settings("probe", "[instances]\npolicy = \"reuse\"\nidle = \"300ms\"\n")
        .start()
        .await;
    assert_eq!(host.get("/probe").await.text(), "started 1");
    host.log().wait("the stop of an idle instance", |event| event.message == "the fixture was stopped").await;
    assert_eq!(host.get("/probe").await.text(), "started 1", "a new one, started too");
}

/// Torture line 16: exhausted, and well again without a restart.
#[tokio::test]
async fn an_exhausted_pool_is_503_and_recovers() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).config("[pool]\ninstances = 3\n").start().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let (request, body) = host.request("POST", "/probe/echo").writing();
        held.push((request.open().await, body));
    }
    let answer = host.get("/probe/marker").await;
    assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true), "{}", answer.text());
    for (running, body) in held {
        drop(body);
        running.whole().await.expect("a whole body");
    }
    host.get_until("/probe/marker", 200).await;
}
