//! Torture line 23: the end of the process, with streams open and without patience; no descriptor left; a clock that jumps.

use bytes::Bytes;
use hotbay_tests::{Host, How, PATIENCE, Reply, Signal, guests, host::tool};
use http_body_util::channel::Sender;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::{
    fs,
    time::{Duration, Instant},
};
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

/// Guards `Engines::start_clock`: the clock and the lane are there for as long as a guest is, also where nothing else holds an engine
/// of the other flavour, as in a host that took over.
#[tokio::test]
async fn guests_that_compute_at_the_end_go_on_and_within_their_limits() {
    let settings = "[limits]\ncpu = \"1500ms\"\n";
    let mut first = Host::builder().service("probe", &guests::fixture("probe")).settings("probe", settings).start().await;
    let mut host = first.successor();
    host.table().await;
    assert_eq!(first.exit_status().await.code(), Some(0), "{}", first.told());
    let computing: Vec<_> = ["/probe/compute?ms=700", "/probe/compute?ms=700", "/probe/spin"]
        .map(|path| tokio::spawn(host.request("GET", path).send()))
        .into();
    assert_eq!(host.get("/probe/sleep?ms=100").await.status, 200);
    signalled(&host, Signal::TERM).await;
    let mut answers = Vec::new();
    for answer in computing {
        let answer = answer.await.expect("it is answered");
        answers.push((answer.status, answer.text()));
    }
    assert!(
        matches!(&*answers, [(200, _), (200, _), (504, why)] if why.contains("computed for too long")),
        "{answers:?}\n{}",
        host.told()
    );
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

/// Guards that the places for connections leave descriptors for all else (`http.connections` by default).
#[tokio::test]
async fn a_crowd_leaves_descriptors_for_a_swap() {
    let builder = Host::builder().own_state().service("probe", &guests::revision("probe", 1));
    let host = builder.wrapped(["sh", "-c", "ulimit -n 160 && exec \"$0\" \"$@\""]).start().await;
    let mut there = host.connect().await;
    assert_eq!(there.get("/probe/marker").await.status, 200);
    let mut crowd = Vec::new();
    for _ in 0..320 {
        crowd.push(host.socket().await);
    }
    host.log().wait("that all places are taken", |event| event.fields["limit"] == "http.connections").await;
    // What is new to the cache has to be compiled by another process.
    host.swap("probe", &guests::revision("probe", 2), How::Rename).await;
    assert_eq!(host.admin().get("/v1/services").await.status, 200);
    assert!(!host.events().iter().any(|event| event.message.contains("could not be accepted")), "{}", host.told());
}

/// Guards the pause after a failed accept in host/src/http/mod.rs, and that what needs a descriptor can do without for a time.
#[tokio::test]
async fn without_a_descriptor_left_it_serves_who_is_there_and_recovers() {
    let builder = Host::builder().own_state().service("probe", &guests::revision("probe", 1));
    let mut host = builder.config("rescan = \"200ms\"\n").start().await;
    let mut there = host.connect().await;
    assert_eq!(there.get("/probe/marker").await.status, 200);
    let limited = |to: Option<u64>| {
        let pid = Pid::from_raw(i32::try_from(host.pid()).expect("a process")).expect("a process");
        let of = prlimit(Some(pid), Resource::Nofile, Rlimit { current: to, maximum: getrlimit(Resource::Nofile).maximum });
        of.expect("our own process is limited").current
    };
    let begun = Instant::now();
    let usual = limited(Some(host.resources().descriptors as u64));
    // Some that were counted may have been on their way out: connections take what they leave.
    let mut crowd = Vec::new();
    for _ in 0..32 {
        crowd.push(host.socket().await);
    }
    let waiting = tokio::spawn(host.request("GET", "/probe/marker").send());
    host.log().wait("that nobody more can be accepted", |event| event.message.contains("could not be accepted")).await;
    host.place("probe", &guests::revision("probe", 2), How::Rename);
    for _ in 0..200 {
        assert_eq!(there.get("/probe/marker").await.status, 200, "{}", host.told());
    }
    let told = host.events().into_iter().filter(|event| event.message.contains("could not be accepted")).count() as u64;
    assert!(told <= 2 + begun.elapsed().as_secs(), "{told} lines in {:?}, and one a second is enough", begun.elapsed());
    limited(usual);
    assert_eq!(waiting.await.expect("an answer").status, 200);
    let next = guests::digest(&guests::revision("probe", 2));
    host.wait_published("probe", &next).await;
    assert_eq!(host.get("/probe/marker").await.revision(), next);
    assert!(host.is_alive());
}

/// A day ahead, a week back: deadlines, queues, swaps and what is kept go by a clock that cannot be set.
#[tokio::test]
async fn a_clock_that_jumps_moves_no_deadline() {
    let Some(library) = tool("lib/libfaketime.so.1") else {
        return println!("skipped a_clock_that_jumps_moves_no_deadline: there is no libfaketime (.ci/setup test fetches it)");
    };
    let reuse = "[limits]\ndeadline = \"1h\"\nqueue_wait = \"1h\"\nconcurrency = 2\n[instances]\npolicy = \"reuse\"\n";
    let builder = Host::builder().own_state().service("probe", &guests::revision("probe", 1)).settings("probe", reuse);
    let clock = builder.folder().join("clock");
    fs::write(&clock, "+0").expect("a clock");
    let mut host = builder
        .env("LD_PRELOAD", &library.to_string_lossy())
        .env("FAKETIME_TIMESTAMP_FILE", &clock.to_string_lossy())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .start()
        .await;
    for (n, jump) in (2..).zip(["+1d", "-7d", "+0"]) {
        let (mut reply, mut body) = running(&host, false).await;
        fs::write(&clock, jump).expect("the clock jumps");
        // What runs goes on, what comes is answered, and what is new is seen.
        body.send_data(Bytes::from_static(b"after")).await.expect("it is still read");
        assert_eq!(reply.chunk().await.expect("an open body"), Some(Bytes::from_static(b"after")), "{jump}: {}", host.told());
        assert_eq!(host.get("/probe/sleep?ms=20").await.status, 200, "{jump}: {}", host.told());
        let next = host.swap("probe", &guests::revision("probe", n), How::Rename).await;
        assert_eq!(host.get("/probe/marker").await.revision(), next, "{jump}");
        drop(body);
        assert_eq!(reply.chunk().await.expect("a whole body"), None, "{jump}");
    }
    let history = host.admin().get("/v1/services/probe/history").await;
    assert_eq!(history.json()["revisions"].as_array().map(Vec::len), Some(4), "{}", history.text());
    let again = host.stop().await;
    host = again.start().await;
    assert_eq!(host.get("/probe/marker").await.status, 200, "{}", host.told());
}
