//! Line 21: answers without measure or without end, and upstreams that take their time.

use super::{FETCHERS, asked, asking, assert_error, both, configured, counted, said};
use hotbay_tests::{Host, Peer, Upstream};

const ENDLESS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// Begins an answer and then writes `piece` for as long as somebody reads.
async fn endless(mut peer: Peer, begin: &'static str, piece: String) {
    peer.head().await;
    let mut open = peer.write(begin).await;
    while open {
        open = peer.write(&piece).await;
    }
}

async fn silent(mut peer: Peer, begin: &'static str) {
    peer.head().await;
    peer.write(begin).await;
    peer.wait_closed().await;
}

/// That the host is there, and asks others as before.
async fn assert_unharmed(host: &Host, upstream: &Upstream) {
    upstream.wait_closed(upstream.connections()).await;
    assert_eq!(host.get("/fetcher/count").await.status, 200, "{}", host.told());
}

/// Guards `left` in host/src/capabilities/outbound/body.rs.
#[tokio::test]
async fn an_endless_body_is_cut_at_its_limit() {
    let upstream = Upstream::serving(|peer| endless(peer, ENDLESS, format!("8000\r\n{}\r\n", ".".repeat(0x8000)))).await;
    let host = configured(&upstream.grant(), "response_body = \"1MiB\"\n").await;
    for service in FETCHERS {
        let said = asked(&host, service, &upstream.address().to_string()).await;
        assert!(said["status"] == 200 && said["broke"].is_string() && said["bytes"].as_u64() <= Some(1 << 20), "{said}");
    }
    assert_unharmed(&host, &upstream).await;
    assert_eq!(counted(&host, "hotbay_outbound_requests_total", &["result=\"limit\""]).await, 2.0);
    let line = host.log().wait("a line on the limit", |event| event.target == "hotbay::outbound").await;
    assert!(line.reason.contains("1MiB (outbound.response_body)"), "{}", line.fields);
}

#[tokio::test]
async fn a_length_above_the_limit_is_refused_before_its_body() {
    let upstream = Upstream::serving(|peer| silent(peer, "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")).await;
    let host = both(&upstream.grant()).await;
    for service in FETCHERS {
        assert_error(&asked(&host, service, &upstream.address().to_string()).await, "HttpResponseBodySize");
    }
    // The answer to HEAD speaks of a body that does not come.
    let head = said(asking(&host, "fetcher", &upstream.address().to_string()).header("x-method", "HEAD")).await;
    assert_eq!((&head["status"], &head["bytes"]), (&200.into(), &0.into()), "{head}");
}

/// Guards `HEAD_MAX` and `HEADERS_MAX` in host/src/capabilities/outbound/pool.rs.
#[tokio::test]
async fn a_head_without_end_is_refused() {
    for piece in [".".repeat(8192), "a: b\r\n".repeat(64)] {
        let upstream = Upstream::serving(move |peer| endless(peer, "HTTP/1.1 200 OK\r\nlong: ", piece.clone())).await;
        let host = both(&upstream.grant()).await;
        for service in FETCHERS {
            assert_error(&asked(&host, service, &upstream.address().to_string()).await, "HttpResponseHeaderSectionSize");
        }
        assert_unharmed(&host, &upstream).await;
    }
}

#[tokio::test]
async fn what_is_no_http_is_an_error() {
    for (answer, error) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "HttpProtocolError"),
        ("", "ConnectionTerminated"),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "HttpUpgradeFailed"),
    ] {
        let upstream = Upstream::serving(move |mut peer| async move {
            peer.head().await;
            peer.write(answer).await;
        })
        .await;
        let host = both(&upstream.grant()).await;
        for service in FETCHERS {
            assert_error(&asked(&host, service, &upstream.address().to_string()).await, error);
        }
    }
    let upstream = Upstream::serving(|mut peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort").await;
    })
    .await;
    let host = both(&upstream.grant()).await;
    for service in FETCHERS {
        let said = asked(&host, service, &upstream.address().to_string()).await;
        assert!(said["bytes"] == 5 && said["broke"].is_string(), "{said}");
    }
}

/// Guards that a store which is dropped takes its calls along.
#[tokio::test]
async fn a_slow_upstream_ends_at_the_deadline() {
    // Never a head; heads that are none, without end; a body of one byte at a time.
    let drip: [(&str, &str); 3] = [("", ""), ("", "HTTP/1.1 100 Continue\r\n\r\n"), (ENDLESS, "1\r\n.\r\n")];
    for (begin, piece) in drip {
        let upstream = Upstream::serving(move |mut peer| async move {
            peer.head().await;
            let mut open = begin.is_empty() || peer.write(begin).await;
            while open && !piece.is_empty() {
                tokio::task::yield_now().await;
                open = peer.write(piece).await;
            }
            peer.wait_closed().await;
        })
        .await;
        let settings = format!("{}[limits]\ndeadline = \"400ms\"\n", upstream.grant());
        // Nothing else ends it.
        let host = configured(&settings, "first_byte_timeout = \"10min\"\nbetween_bytes_timeout = \"10min\"\n").await;
        for service in FETCHERS {
            let answer = asking(&host, service, &upstream.address().to_string()).send().await;
            assert_eq!(answer.status, 504, "{service} {begin:?} {piece:?}: {}", answer.text());
        }
        assert_eq!(upstream.connections(), 2);
        assert_unharmed(&host, &upstream).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_call() {
    for begin in ["", ENDLESS] {
        let upstream = Upstream::serving(move |peer| silent(peer, begin)).await;
        let host = both(&format!("{}[limits]\ndeadline = \"10min\"\n", upstream.grant())).await;
        for (count, service) in FETCHERS.into_iter().enumerate() {
            let client = tokio::spawn(asking(&host, service, &upstream.address().to_string()).try_send());
            upstream.wait_connections(count + 1).await;
            client.abort();
            upstream.wait_closed(count + 1).await;
        }
        assert_unharmed(&host, &upstream).await;
        if begin.is_empty() {
            assert_eq!(counted(&host, "hotbay_outbound_requests_total", &["result=\"abandoned\""]).await, 2.0);
        }
    }
}

/// Guards the times of `exchange` and `poll_silence`: what the guest asks for, and no more than the host allows.
#[tokio::test]
async fn silence_is_bounded_by_the_guest_and_by_the_host() {
    let (mute, begun) = (Upstream::serving(|peer| silent(peer, "")).await, Upstream::serving(|peer| silent(peer, ENDLESS)).await);
    let settings = format!("[grants]\nhttp = [\"http://{}\", \"http://{}\"]\n", mute.address(), begun.address());
    let hour = "3600000";
    for (outbound, times) in [
        ("", "5000,200,200".to_owned()),
        ("first_byte_timeout = \"200ms\"\nbetween_bytes_timeout = \"200ms\"\n", [hour; 3].join(",")),
    ] {
        let host = configured(&settings, outbound).await;
        let get = async |upstream: &Upstream| {
            said(asking(&host, "fetcher", &upstream.address().to_string()).header("x-times", &times)).await
        };
        assert_error(&get(&mute).await, "ConnectionReadTimeout");
        let said = get(&begun).await;
        assert!(said["status"] == 200 && said["broke"].is_string(), "{said}");
        assert_eq!(counted(&host, "hotbay_outbound_requests_total", &["result=\"timeout\""]).await, 2.0);
        mute.wait_closed(mute.connections()).await;
        begun.wait_closed(begun.connections()).await;
    }
}

/// Guards `Shares` in host/src/capabilities/outbound/share.rs: what a revision has under way counts after a swap too.
#[tokio::test]
async fn a_swap_gives_no_new_requests() {
    let upstream = Upstream::serving(|peer| silent(peer, "")).await;
    let limits = "[limits]\ndeadline = \"10min\"\n";
    let host = configured(
        &format!("{}{limits}", upstream.grant()),
        "requests = 2\nconnect_timeout = \"300ms\"\nfirst_byte_timeout = \"10min\"\n",
    )
    .await;
    let authority = upstream.address().to_string();
    let clients = [0, 1].map(|_| tokio::spawn(asking(&host, "fetcher", &authority).try_send()));
    upstream.wait_connections(2).await;
    let mark = host.mark();
    host.place_settings("fetcher", &format!("{}{limits}concurrency = 7\n", upstream.grant()));
    host.since(mark).wait_for("fetcher", "published").await;
    assert_error(&asked(&host, "fetcher", &authority).await, "ConnectionLimitReached");
    for client in clients {
        client.abort();
    }
    upstream.wait_closed(2).await;
}

/// A guest that stops reading holds nothing: the connection of a body that was let go is closed and not used again.
#[tokio::test]
async fn a_body_that_is_let_go_ends_its_connection() {
    let upstream = Upstream::serving(|peer| endless(peer, ENDLESS, format!("8000\r\n{}\r\n", ".".repeat(0x8000)))).await;
    let host = both(&format!("{}[instances]\npolicy = \"reuse\"\n", upstream.grant())).await;
    for _ in 0..3 {
        let said = said(asking(&host, "fetcher", &upstream.address().to_string()).header("x-stop-after", "1")).await;
        assert!(said["status"] == 200 && said["broke"].is_null(), "{said}");
    }
    upstream.wait_closed(3).await;
    assert_eq!(counted(&host, "hotbay_outbound_requests_total", &["result=\"answered\""]).await, 3.0);
}
