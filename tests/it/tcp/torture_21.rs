//! Line 21: peers over TCP without measure, without end, or without an answer.

use super::{DIALERS, asked, asking, configured, grant, silent};
use hotbay_tests::{Peer, Upstream};
use std::net::SocketAddr;
use tokio::net::{TcpSocket, TcpStream};

/// Writes for as long as somebody reads.
async fn endless(mut peer: Peer) {
    let piece = ".".repeat(0x8000);
    while peer.write(&piece).await {}
}

/// Writes a byte at a time, for as long as somebody reads.
async fn drip(mut peer: Peer) {
    while peer.write(".").await {
        tokio::task::yield_now().await;
    }
}

/// Guards that a store which is dropped takes its sockets along.
#[tokio::test]
async fn a_peer_that_takes_its_time_ends_at_the_deadline() {
    let peers = [silent().await, Upstream::serving(drip).await, Upstream::serving(endless).await];
    for (n, peer) in peers.iter().enumerate() {
        let address = peer.address().to_string();
        // Memory is enough for what a second brings, so that time alone decides. The guest of 0.3 gathers, and has less of it.
        let host = configured(&format!("{}[limits]\ndeadline = \"400ms\"\n", grant(&[&address])), "").await;
        for service in DIALERS {
            if n == 2 && service == "dialer3" {
                continue;
            }
            let answer = asking(&host, service, "drain", &[("x-to", &address), ("x-address", &address)]).send().await;
            assert_eq!(answer.status, 504, "{service} {n}: {}", answer.text());
        }
        peer.wait_closed(peer.connections()).await;
        assert_eq!(asked(&host, "dialer", "count", &[]).await["count"], 1, "{}", host.told());
    }
}

/// A guest that gathers what never ends comes to the end of its memory, or of its time.
#[tokio::test]
async fn an_endless_peer_fills_no_more_than_the_guests_memory() {
    let peer = Upstream::serving(endless).await;
    let address = peer.address().to_string();
    let settings = format!("{}[limits]\nmemory = \"8MiB\"\ndeadline = \"20s\"\n", grant(&[&address]));
    let host = configured(&settings, "").await;
    let answer = asking(&host, "dialer3", "drain", &[("x-address", &address)]).send().await;
    assert!([500, 502, 503, 504].contains(&answer.status), "{}: {}", answer.status, answer.text());
    peer.wait_closed(1).await;
    assert_eq!(asked(&host, "dialer", "count", &[]).await["count"], 1, "{}", host.told());
}

/// What comes from a peer and goes to the client is bounded as any response is.
#[tokio::test]
async fn an_endless_peer_is_bounded_as_a_response() {
    let peer = Upstream::serving(endless).await;
    let address = peer.address().to_string();
    let settings = format!("{}[limits]\nresponse_body = \"1MiB\"\n", grant(&[&address]));
    let host = configured(&settings, "").await;
    let cut = asking(&host, "dialer", "stream", &[("x-to", &address)]).try_send().await;
    assert!(cut.is_err(), "the response is cut at its limit");
    peer.wait_closed(1).await;
    // A peer that begins and falls silent: `stream_idle`.
    let peer = Upstream::serving(|mut peer: Peer| async move {
        peer.write("begun").await;
        peer.wait_closed().await;
    })
    .await;
    let address = peer.address().to_string();
    let host = configured(&format!("{}[limits]\nstream_idle = \"300ms\"\n", grant(&[&address])), "").await;
    let cut = asking(&host, "dialer", "stream", &[("x-to", &address)]).try_send().await;
    assert!(cut.is_err(), "the response is cut in its silence");
    peer.wait_closed(1).await;
}

/// A port whose queue is full: what connects waits until it is tired of it.
async fn hanging() -> (tokio::net::TcpListener, SocketAddr, TcpStream) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let listener = socket.listen(0).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let fills = TcpStream::connect(address).await.expect("the first is taken");
    (listener, address, fills)
}

#[tokio::test]
async fn a_connect_that_hangs_ends_at_the_deadline() {
    let (_listener, address, _fills) = hanging().await;
    let to = address.to_string();
    let settings = format!("{}[limits]\ndeadline = \"400ms\"\n", grant(&[&to]));
    let host = configured(&settings, "tcp_connections = 1\n").await;
    for service in DIALERS {
        // Twice: the place of the first is free again.
        for _ in 0..2 {
            let answer = asking(&host, service, "connect", &[("x-address", &to)]).send().await;
            assert_eq!(answer.status, 504, "{service}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_connection() {
    let peer = silent().await;
    let address = peer.address().to_string();
    let host = configured(&format!("{}[limits]\ndeadline = \"10min\"\n", grant(&[&address])), "").await;
    for (count, service) in DIALERS.into_iter().enumerate() {
        let client = tokio::spawn(asking(&host, service, "drain", &[("x-to", &address), ("x-address", &address)]).try_send());
        peer.wait_connections(count + 1).await;
        client.abort();
        peer.wait_closed(count + 1).await;
    }
}

/// A name server that never answers: the look-up ends by `outbound.connect_timeout`.
#[tokio::test]
async fn a_look_up_that_hangs_ends_in_time() {
    let mute = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let outbound = format!("connect_timeout = \"300ms\"\nnameserver = \"{}\"\n", mute.local_addr().expect("an address"));
    let host = configured(&grant(&["db.example:1"]), &outbound).await;
    for service in DIALERS {
        let said = asked(&host, service, "look-up", &[("x-name", "db.example")]).await;
        super::assert_error(&said, "TemporaryResolverFailure");
    }
    let line = host.log().wait("a line on the look-up", |event| event.target == "hotbay::outbound").await;
    assert!(line.reason.contains("not found within"), "{}", line.fields);
}
