//! Torture line 15: one service computes on every core, another is flooded, and a neighbour is answered as before. How fast, is
//! printed and not asserted: `make fairness` measures it.

use hotbay_tests::{
    Host, PATIENCE, guests,
    load::{self, Answer, Connections, Load, Until},
};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// Requests of the neighbour in each phase, and the time between two.
const REQUESTS: u32 = 200;
const EVERY: Duration = Duration::from_millis(10);

fn any(_: &Answer<'_>) -> anyhow::Result<()> {
    Ok(())
}

/// Asks 100 times a second and returns the 99th of 100 latencies. Every answer must be a good one.
async fn neighbour(host: &Host) -> Duration {
    let mut turns = tokio::time::interval(EVERY);
    let mut asked = tokio::task::JoinSet::new();
    let address = host.address();
    for _ in 0..REQUESTS {
        turns.tick().await;
        asked.spawn(async move {
            let begun = Instant::now();
            let answer = hotbay_tests::client::get(address, "/neighbour/marker").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            begun.elapsed()
        });
    }
    let mut latencies = asked.join_all().await;
    latencies.sort();
    latencies[latencies.len() * 99 / 100 - 1]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_of_a_spinner_and_of_a_flood_is_answered() {
    let wasm = guests::fixture("probe");
    let host = Host::builder()
        .service("spin", &guests::text("spin"))
        .settings("spin", "[limits]\ncpu = \"200ms\"\nqueue = 0\nconcurrency = 8\n")
        .service("flooded", &guests::fixture("marker"))
        .service("neighbour", &wasm)
        .log("warn,hotbay::swap=info,hotbay::request=off")
        .start()
        .await;
    let quiet = neighbour(&host).await;
    let until = Until::stopped();
    let load =
        |path: &str, clients| Load { address: host.address(), path: path.to_owned(), clients, connections: Connections::New };
    let spinners = tokio::spawn({
        let (load, until) = (load("/spin", 16), until.clone());
        async move { load::run(&load, &until, any).await }
    });
    let flood = tokio::spawn({
        let (load, until) = (load("/flooded", 32), until.clone());
        async move { load::run(&load, &until, any).await }
    });
    let loaded = neighbour(&host).await;
    // Whoever looks after the host is answered as well, on a thread of its own.
    let asked = Instant::now();
    loop {
        let seen = host.admin().get("/v1/services/spin").await.json();
        let limits = seen["serving"]["limits"].as_array().cloned().unwrap_or_default();
        let reached = |name: &str| limits.iter().any(|one| one["limit"] == name && one["reached"].as_u64() > Some(0));
        if reached("cpu") && reached("queue") {
            break;
        }
        assert!(asked.elapsed() < PATIENCE, "the spinner is neither ended nor refused: {limits:?}");
    }
    until.stop();
    let (spun, flooded) = (spinners.await.expect("no panic").requests, flood.await.expect("no panic").requests);
    println!("fairness: p99 {quiet:?} quiet, {loaded:?} loaded; {spun} requests of the spinner, {flooded} of the flood");
}

/// A service with one guest that computes gets on among many of a greedy one. That the turns go by service and not by guest is held
/// by the unit tests of host/src/runtime/lane.rs, without a clock.
#[tokio::test]
async fn a_service_with_one_guest_on_the_lane_has_its_turn() {
    let endless = "[limits]\ncpu = \"1h\"\ndeadline = \"1h\"\n";
    let host = Host::builder()
        .service("greedy", &guests::text("spin"))
        .settings("greedy", endless)
        .service("modest", &guests::text("spin"))
        .settings("modest", "[limits]\ncpu = \"300ms\"\ndeadline = \"1h\"\n")
        .start()
        .await;
    let mut spinners = Vec::new();
    for _ in 0..32 {
        let mut socket = host.socket().await;
        socket.write_all(b"GET /greedy HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("a request");
        spinners.push(socket);
    }
    let begun = Instant::now();
    assert_eq!(host.get("/modest").await.status, 504, "it had its computing time");
    println!("fairness: 300 ms of computing beside 32 spinners took {:?}", begun.elapsed());
    assert_eq!(spinners.len(), 32, "all the while");
}
