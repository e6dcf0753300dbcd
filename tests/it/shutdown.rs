//! The end of the process: what runs finishes, nothing new begins, and the exit code says how it went.

use bytes::Bytes;
use hotbay_tests::{Host, How, PATIENCE, Reply, Signal, guests};
use http_body_util::channel::Sender;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

async fn probe() -> Host {
    Host::builder().service("probe", &guests::fixture("probe")).start().await
}

/// A response that goes on for as long as we write, so that it surely runs when the signal comes.
async fn running(host: &Host, h2: bool) -> (Reply, Sender<Bytes>) {
    let (request, mut body) = host.request("POST", "/probe/echo").writing();
    let mut reply = if h2 { request.h2() } else { request }.open().await;
    body.send_data(Bytes::from_static(b"before")).await.expect("it is read");
    assert_eq!(reply.chunk().await.expect("an open body"), Some(Bytes::from_static(b"before")));
    (reply, body)
}

async fn signalled(host: &Host, signal: Signal) {
    host.signal(signal);
    host.log().wait("the line on the signal", |event| event.fields.get("signal").is_some()).await;
}

/// Guards the order in `lib.rs::run`: accept no more, then wait for what is tracked.
#[tokio::test]
async fn what_runs_finishes_and_nothing_new_begins() {
    for (signal, h2) in [(Signal::TERM, false), (Signal::INT, false), (Signal::TERM, true)] {
        let mut host = probe().await;
        let (mut reply, mut body) = running(&host, h2).await;
        signalled(&host, signal).await;

        let begun = Instant::now();
        while TcpStream::connect(host.address()).await.is_ok() {
            assert!(begun.elapsed() < PATIENCE, "{signal:?}: the host still takes connections\n{}", host.told());
        }
        // The stream goes on, long after.
        for piece in ["after", "and more"] {
            body.send_data(Bytes::from(piece)).await.expect("it is still read");
            assert_eq!(reply.chunk().await.expect("an open body"), Some(Bytes::from(piece)), "{signal:?}, h2: {h2}");
        }
        assert!(host.is_alive());
        drop(body);
        assert_eq!(reply.chunk().await.expect("a whole body"), None);
        drop(reply);
        let status = host.exit_status().await;
        assert_eq!(status.code(), Some(0), "{signal:?}, h2: {h2}: {status}\n{}", host.told());
    }
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_gets_it() {
    let mut host = probe().await;
    let (reply, body) = running(&host, false).await;
    let request = host.request("GET", "/probe/sleep?ms=700").header("x-request-id", "sleeper");
    let sleeper = tokio::spawn(request.send());
    // The stream is asked after the sleeper, and the host reads what has come before it sees the signal.
    assert_eq!(host.get("/probe/sleep?ms=100").await.status, 200);
    host.signal(Signal::TERM);
    let answer = sleeper.await.expect("it is answered");
    assert!(answer.status == 200 && answer.text().contains("slept"), "{}", answer.text());
    drop(body);
    reply.whole().await.expect("a whole body");
    assert_eq!(host.exit_status().await.code(), Some(0));
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let mut host = probe().await;
    let (mut one, mut two) = (host.connect().await, host.connect_h2().await);
    for connection in [&mut one, &mut two] {
        assert_eq!(connection.get("/probe/marker").await.status, 200);
    }
    // One that has never said anything, too.
    let silent = host.socket().await;
    let begun = Instant::now();
    host.signal(Signal::TERM);
    one.closed().await;
    two.closed().await;
    let status = host.exit_status().await;
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(9), "it waited {:?} for connections that nothing runs on", begun.elapsed());
    drop(silent);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let mut host = probe().await;
        let (reply, body) = running(&host, false).await;
        signalled(&host, first).await;
        host.signal(second);
        let status = host.exit_status().await;
        assert_eq!(status.code(), Some(1), "{status}");
        drop(body);
        assert!(reply.whole().await.is_err(), "what was cut must not look whole");
    }
}

/// Guards the deadline in `Shutdown::finished`.
#[tokio::test]
async fn the_drain_deadline_bounds_the_end() {
    let mut host = Host::builder().service("probe", &guests::fixture("probe")).config("drain = \"300ms\"\n").start().await;
    let (reply, _body) = running(&host, false).await;
    let begun = Instant::now();
    host.signal(Signal::TERM);
    let status = host.exit_status().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(reply.whole().await.is_err(), "what was cut must not look whole");
}

/// Guards `Followers::retire`: kept instances are told that they end, with the host as with their revision.
#[tokio::test]
async fn kept_instances_are_stopped_at_the_end() {
    let builder = Host::builder().service("managed", &guests::fixture("lifecycle"));
    let mut host = builder.settings("managed", "[instances]\npolicy = \"reuse\"\n").start().await;
    assert_eq!(host.get("/managed").await.status, 200);
    let stopped = host.events().iter().filter(|event| event.message.contains("was stopped")).count();
    host.signal(Signal::TERM);
    assert_eq!(host.exit_status().await.code(), Some(0));
    host.log().wait("the guest's last words", |event| event.message.contains("was stopped")).await;
    assert_eq!(stopped, 0);
}

#[tokio::test]
async fn a_swap_that_runs_holds_up_no_end() {
    let mut host = Host::builder().own_state().service("probe", &guests::fixture("probe")).start().await;
    let mark = host.mark();
    host.place("probe", &guests::revision("probe", 2), How::Rename);
    host.since(mark).wait_for("probe", "detected").await;
    host.signal(Signal::TERM);
    assert_eq!(host.exit_status().await.code(), Some(0));
}

#[tokio::test]
async fn a_signal_before_everything_is_loaded_ends_too() {
    let mut host = Host::builder().own_state().service("probe", &guests::revision("probe", 3)).start_listening().await;
    host.signal(Signal::TERM);
    assert_eq!(host.exit_status().await.code(), Some(0), "{}", host.told());
}
