//! Torture line 12: bodies without an end, without a byte, and of another length than was said. What is set never or ended with
//! an error is in `errors.rs`; that a response is set twice, the types of WASI rule out.

use hotbay_tests::{Host, guests};

/// A guest that writes pieces without a byte for ever says nothing: the silence of its stream ends it.
#[tokio::test]
async fn pieces_without_a_byte_are_no_progress() {
    let host = Host::builder()
        .service("probe", &guests::fixture("probe"))
        .settings("probe", "[limits]\nstream_idle = \"300ms\"\ncpu = \"1h\"\nconcurrency = 1\nqueue_wait = \"1min\"\n")
        .start()
        .await;
    for h2 in [false, true] {
        let id = format!("empty-{h2}");
        let request = host.request("GET", "/probe/empty").header("x-request-id", &id);
        let broken = if h2 { request.h2() } else { request }.try_send().await;
        assert!(broken.is_err(), "a body that was ended must not look whole");
        assert!(host.log().wait_request(&id).await.reason.contains("limits.stream_idle"));
        assert_eq!(host.get("/probe/marker").await.status, 200, "its permit came back");
    }
}

/// Guards `Following::drop` in host/src/runtime/body.rs: a response to HEAD is whole at once, and its guest may go on for as long as a
/// silent stream may and no longer, whatever it writes; nor when it has written more than is taken for nobody.
#[tokio::test]
async fn an_endless_body_for_head_gives_its_permit_back() {
    for (limits, pause) in
        [("stream_idle = \"300ms\"", 20), ("stream_idle = \"1h\"\ndeadline = \"300ms\"", 20), ("stream_idle = \"1h\"", 0)]
    {
        let host = Host::builder()
            .service("probe", &guests::fixture("probe"))
            .settings("probe", &format!("[limits]\ncpu = \"1h\"\nconcurrency = 1\nqueue_wait = \"20s\"\n{limits}\n"))
            .start()
            .await;
        for h2 in [false, true] {
            let request = host.request("HEAD", &format!("/probe/drip?count=1000000000&ms={pause}"));
            let answer = if h2 { request.h2() } else { request }.send().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(host.get("/probe/marker").await.status, 200, "{limits}, h2: {h2}: its permit came back");
        }
    }
}

/// Guards `content_length` in host/src/runtime/invoke.rs: what hyper cannot send ends the connection without a word.
#[tokio::test]
async fn a_length_that_is_no_number_is_a_fault_of_the_guest() {
    let host = Host::builder().service("odd", &guests::text("odd-length")).start().await;
    for h2 in [false, true] {
        let request = host.request("GET", "/odd");
        let answer = if h2 { request.h2() } else { request }.send().await;
        assert_eq!(answer.status, 500, "h2: {h2}: {}", answer.text());
        let reason = host.log().wait_request(answer.request_id()).await.reason;
        assert!(reason.contains("content-length"), "{reason}");
    }
}

/// An endless request body: the guest that reads it is ended by its limit, and one that does not read it by the deadline.
#[tokio::test]
async fn an_endless_request_body_ends_at_its_limit() {
    let host = Host::builder()
        .service("probe", &guests::fixture("probe"))
        .settings("probe", "[limits]\nrequest_body = \"1MiB\"\nconcurrency = 1\nqueue_wait = \"1min\"\n")
        .start()
        .await;
    for h2 in [false, true] {
        let (request, mut body) = host.request("POST", "/probe/body").writing();
        let answer = tokio::spawn(if h2 { request.h2() } else { request }.try_send());
        // The host hangs up once it has refused.
        while body.send_data(bytes::Bytes::from_static(&[b'x'; 16 << 10])).await.is_ok() {}
        let answer = answer.await.expect("no panic");
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 413), "h2: {h2}");
        assert_eq!(host.get("/probe/marker").await.status, 200, "h2: {h2}: its permit came back");
    }
}

#[tokio::test]
async fn a_wrong_length_is_told_before_the_head_is_out_and_breaks_off_after() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    for (promised, bytes) in [(5, 6), (6, 5), (0, 1)] {
        let answer = host.get(&format!("/probe/length?promised={promised}&bytes={bytes}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (500, "application/problem+json"), "{promised}, {bytes}");
    }
    // Too large to be gathered first.
    for (promised, bytes) in [(500_000, 600_000), (600_000, 500_000)] {
        for h2 in [false, true] {
            let request = host.request("GET", &format!("/probe/length?promised={promised}&bytes={bytes}"));
            let answer = if h2 { request.h2() } else { request }.try_send().await;
            let looks_whole = answer.is_ok_and(|answer| answer.status == 200 && answer.body.len() == bytes);
            assert!(!looks_whole, "{promised} were promised, {bytes} written, h2: {h2}");
        }
    }
    assert_eq!(host.get("/probe/marker").await.status, 200);
}
