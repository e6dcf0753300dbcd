//! A long run with neighbours that do harm: services that behave under open-loop load, services that spin, grow, trap, flood, leak and
//! hang beside them, and swaps of both all the while.
//!
//! Exits with 1 where a request to a service that behaves fails, or where the host holds more at the end than at the start. The tail
//! latency beside the quiet one is printed and not judged: the machine may have others to serve.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use hotbay_tests::{
    Host, How, Resources, guests,
    load::{self, Connection, Connections, Load, Until},
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Good and hostile services together for minutes, with swaps all the while.
#[derive(Debug, Parser)]
struct Args {
    /// How long, with the hostile services at work
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Services that behave
    #[arg(long, default_value_t = 40)]
    good: u32,
    /// Requests a second to them together
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Pause between two swaps, in milliseconds
    #[arg(long, default_value_t = 250)]
    pause: u64,
}

/// What each hostile service is asked again and again, and the settings under which it must harm nobody.
const HOSTILE: [(&str, &str, &str); 10] = [
    ("spins", "/spin", "[limits]\ncpu = \"500ms\"\ndeadline = \"2s\"\n"),
    ("grows", "/grow?mib=1024", "[limits]\nmemory = \"32MiB\"\n"),
    ("traps", "/trap", ""),
    ("overflows", "/overflow", ""),
    ("floods", "/flood?lines=20000", ""),
    ("sleeps", "/sleep?ms=60000", "[limits]\ndeadline = \"1s\"\n"),
    ("drips", "/drip?count=5&ms=1000", "[limits]\nstream_idle = \"500ms\"\n"),
    ("leaks", "/leak?count=100000", "[instances]\npolicy = \"reuse\"\n"),
    ("silent", "/no-response", ""),
    ("cuts", "/trap-late", ""),
];
/// Requests to a hostile service at once.
const PUSHING: usize = 2;
/// Every so many swaps a hostile service is swapped instead of a good one.
const HOSTILE_EVERY: u32 = 5;
/// Resident memory may differ so much between the start and the end: buffers that are kept, pages that are not given back at once.
const RESIDENT_GRAIN: u64 = 64 << 20;
/// Descriptors may differ so much: idle threads, connections of the last request.
const DESCRIPTOR_GRAIN: usize = 32;
/// Mappings may: slots of the pool that were used for the first time. One that each swap left behind would be several hundred.
const MAPPING_GRAIN: usize = 128;
/// How long the quiet figures are taken.
const QUIET: Duration = Duration::from_secs(10);

#[tokio::main(worker_threads = 1)]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    ensure!(args.good > 0 && args.rate > 0, "--good and --rate are at least 1");
    let mut builder = Host::builder().own_state().log("error,hotbay::swap=info").config("drain = \"10s\"\n");
    for n in 0..args.good {
        builder = builder.service(&good(n), &guests::revision("marker", n));
    }
    for (name, _, settings) in HOSTILE {
        builder = builder.service(name, &guests::fixture("probe")).settings(name, settings);
    }
    let host = Arc::new(builder.start().await);
    println!(
        "soak: {} services that behave, {} that do not, {} requests/s, {} s",
        args.good,
        HOSTILE.len(),
        args.rate,
        args.seconds
    );

    let quiet = open_loop(host.address(), &args, QUIET).await;
    // The pool keeps what its busiest moment took; that is no leak, and must not look like one.
    let warm = Until::stopped();
    let warming = push(&host, &warm);
    tokio::time::sleep(QUIET).await;
    warm.stop();
    warming.join_all().await;
    settle(&host).await?;
    let before = host.resources();

    let over = Arc::new(AtomicBool::new(false));
    let until = Until::stopped();
    let pushing = push(&host, &until);
    let swapping = tokio::spawn(swap_all(host.clone(), args.good, Duration::from_millis(args.pause), over.clone()));
    let loaded = open_loop(host.address(), &args, Duration::from_secs(args.seconds)).await;
    over.store(true, Ordering::Relaxed);
    until.stop();
    let swaps = swapping.await.context("the swaps")?;
    let pushed = pushing.join_all().await.into_iter().map(|tally| tally.requests).sum::<u64>();
    settle(&host).await?;
    let after = come_back(&host, &before).await;

    println!("soak: {swaps} swaps, {pushed} requests to the hostile services");
    println!("soak: quiet  {quiet}");
    println!("soak: loaded {loaded}");
    print_resources(&before, &after);
    let failures = loaded.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for failure in &failures {
        println!("soak: failed: {failure}");
    }
    let is_flat = is_as_before(&before, &after);
    let is_well = loaded.failed.load(Ordering::Relaxed) == 0 && quiet.failed.load(Ordering::Relaxed) == 0;
    println!("soak: {}", if is_flat && is_well { "passed" } else { "FAILED" });
    Ok(if is_flat && is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn good(n: u32) -> String {
    format!("good-{n}")
}

/// What came of requests that were begun on time, whether or not those before had ended.
#[derive(Debug, Default)]
struct Outcome {
    asked: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
    times: Mutex<Vec<Duration>>,
}

impl Outcome {
    fn note(&self, took: Duration, outcome: Result<()>) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(()) => self.times.lock().unwrap_or_else(PoisonError::into_inner).push(took),
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                if failures.len() < 10 {
                    failures.push(format!("{error:#}"));
                }
            }
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_unstable();
        let quantile = |percent: usize| {
            let position = (times.len().saturating_sub(1)) * percent / 100;
            times.get(position).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        let (asked, failed) = (self.asked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        write!(
            f,
            "{asked:6} requests, {failed} failed, p50 {:.1} ms, p99 {:.1} ms, slowest {:.1} ms",
            quantile(50),
            quantile(99),
            quantile(100)
        )
    }
}

/// Asks the services that behave in turn, each request on a connection of its own, at the fixed rate for `time`.
async fn open_loop(address: SocketAddr, args: &Args, time: Duration) -> Arc<Outcome> {
    let outcome = Arc::new(Outcome::default());
    let mut pace = tokio::time::interval(Duration::from_secs(1) / args.rate);
    let (begun, mut asked, mut tasks) = (Instant::now(), 0_u32, JoinSet::new());
    while begun.elapsed() < time {
        let due = pace.tick().await;
        let request = load::get(address, &format!("/{}", good(asked % args.good)), Connections::New);
        asked = asked.wrapping_add(1);
        let outcome = outcome.clone();
        tasks.spawn(async move {
            let asked = async {
                let head = Connection::open(address).await?.ask(&request, |_| {}).await?;
                ensure!(head.status == 200, "status {}", head.status);
                Ok(())
            };
            let answered = tokio::time::timeout(Duration::from_secs(30), asked).await.context("no answer in time").flatten();
            // From the moment when it was due: a client that waits for its turn waits for the host.
            outcome.note(due.elapsed(), answered);
        });
        while tasks.try_join_next().is_some() {}
    }
    tasks.join_all().await;
    outcome
}

/// Asks each hostile service for what it does, again and again.
fn push(host: &Host, until: &Arc<Until>) -> JoinSet<load::Tally> {
    let mut pushing = JoinSet::new();
    for (name, path, _) in HOSTILE {
        let load =
            Load { address: host.address(), path: format!("/{name}{path}"), clients: PUSHING, connections: Connections::New };
        let until = until.clone();
        // Whatever is answered, or not answered, is right.
        pushing.spawn(async move { load::run(&load, &until, |_| Ok(())).await });
    }
    pushing
}

/// Swaps one service after another until it is over; returns how many swaps there were.
async fn swap_all(host: Arc<Host>, services: u32, pause: Duration, over: Arc<AtomicBool>) -> u32 {
    let (mut swaps, mut hostile) = (0_u32, HOSTILE.iter().cycle());
    while !over.load(Ordering::Relaxed) {
        swaps += 1;
        let (name, build) = match swaps % HOSTILE_EVERY {
            0 => {
                let name = hostile.next().map_or("spins", |(name, ..)| name);
                (name.to_owned(), guests::revision("probe", 1000 + swaps))
            }
            _ => (good(swaps % services), guests::revision("marker", 1000 + swaps)),
        };
        host.place(&name, &build, How::Rename);
        tokio::time::sleep(pause).await;
    }
    swaps
}

/// Waits until nothing drains any more and nothing runs.
async fn settle(host: &Host) -> Result<()> {
    let begun = Instant::now();
    loop {
        let services = host.admin().get("/v1/services").await.json();
        let services = services.pointer("/services").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_quiet = |service: &Value| {
            let drains = service.pointer("/draining").and_then(Value::as_array).is_some_and(|draining| !draining.is_empty());
            !drains && service.pointer("/serving/in_flight").and_then(Value::as_u64).unwrap_or(0) == 0
        };
        if services.iter().all(is_quiet) {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(60), "the host does not come to rest: {services:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn is_as_before(before: &Resources, after: &Resources) -> bool {
    after.resident <= before.resident + RESIDENT_GRAIN
        && after.descriptors <= before.descriptors + DESCRIPTOR_GRAIN
        && after.mappings <= before.mappings + MAPPING_GRAIN
}

/// What the host holds once its connections at rest have ended and its retired revisions are gone, or after a minute.
async fn come_back(host: &Host, before: &Resources) -> Resources {
    let begun = Instant::now();
    loop {
        let now = host.resources();
        if is_as_before(before, &now) || begun.elapsed() > Duration::from_secs(60) {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn print_resources(before: &Resources, after: &Resources) {
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "soak: at the start {} MiB resident, {} descriptors, {} mappings, {} threads; at the end {} MiB, {}, {}, {}",
        mib(before.resident),
        before.descriptors,
        before.mappings,
        before.threads,
        mib(after.resident),
        after.descriptors,
        after.mappings,
        after.threads
    );
}
