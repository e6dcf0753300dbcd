//! What a swap of an idle service takes: from `hello.wasm` closed to the first answer of the new revision, step by step.
//!
//! Each build is a new one for the host, so each is compiled. Nothing else runs on the host meanwhile.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use anyhow::{Context, Result, ensure};
use hotbay_tests::{Event, Host, How, guests};
use std::time::{Duration, SystemTime};

/// Swaps, unless `SWAPS` says otherwise.
const SWAPS: u32 = 50;
/// The times of one swap in ms, in the order of their steps.
const STEPS: [&str; 8] = [
    "file closed → change seen",
    "reading",
    "compiling",
    "linking",
    "warming",
    "publishing",
    "published → first answer",
    "**file closed → first answer**",
];

#[tokio::main]
async fn main() -> Result<()> {
    let swaps = std::env::var("SWAPS").map_or(Ok(SWAPS), |swaps| swaps.parse()).context("SWAPS is a number")?;
    ensure!(swaps > 0, "SWAPS is at least 1");
    let hello = guests::service("hello");
    let host = Host::builder().service("hello", &hello).own_state().log("warn,hotbay::swap=info").start().await;
    let mut old = guests::digest(&hello);
    let mut times = Vec::new();
    for n in 0..swaps {
        let build = numbered(&hello, n);
        let since = host.mark();
        let revision = guests::digest(&build);
        host.place("hello", &build, How::Overwrite);
        let closed = SystemTime::now();
        let answered = loop {
            let response = host.get("/hello").await;
            ensure!(response.status == 200, "{} of {}", response.status, response.revision());
            if response.revision() == revision {
                break SystemTime::now();
            }
            // Asking without a pause would take a core from the compiler.
            tokio::time::sleep(PAUSE).await;
        };
        host.since(since).wait_published("hello", &revision).await;
        times.push(steps(&host.since(since).events(), &revision, closed, answered)?);
        host.since(since).wait_retired("hello", &old).await;
        old = revision;
    }
    print!("{}", table(&times, hello.len()));
    Ok(())
}

/// Between two requests while the swap is under way: the grain of the last step.
const PAUSE: Duration = Duration::from_millis(1);

/// `wasm` with a custom section that holds `n`: another digest, the same code.
fn numbered(wasm: &[u8], n: u32) -> Vec<u8> {
    // Id 0, the length of what follows, the length of the name, the name, the content.
    let section = [&[0, 9, 4][..], b"swap", &n.to_le_bytes()].concat();
    [wasm, &section].concat()
}

/// How long each of [`STEPS`] took, from what the host said of the swap to `revision`.
fn steps(events: &[Event], revision: &str, closed: SystemTime, answered: SystemTime) -> Result<[f64; 8]> {
    let said = |state: &str| {
        let is = |event: &&Event| event.revision == revision && event.state == state;
        events.iter().find(is).with_context(|| format!("{revision} was never {state}"))
    };
    let at = |event: &Event| -> Result<SystemTime> {
        let timestamp = event.fields.get("timestamp").and_then(|timestamp| timestamp.as_str());
        Ok(humantime::parse_rfc3339(timestamp.context("a line without a timestamp")?)?)
    };
    let took = |state: &str| anyhow::Ok(ms(said(state)?.took));
    let reading = said("reading")?;
    let [read, warmed, published] = [at(reading)?, at(said("warming")?)?, at(said("published")?)?];
    Ok([
        between(closed, read - reading.took),
        ms(reading.took),
        took("compiling")?,
        took("linking")?,
        took("warming")?,
        between(warmed, published),
        between(published, answered),
        between(closed, answered),
    ])
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Negative where `later` is not: the host may see a file before the one that writes it has closed it.
fn between(earlier: SystemTime, later: SystemTime) -> f64 {
    later.duration_since(earlier).map_or_else(|error| -ms(error.duration()), ms)
}

fn table(times: &[[f64; 8]], size: usize) -> String {
    let mut text =
        format!("{} swaps of an idle service, a component of {} KiB, each build compiled.\n\n", times.len(), size >> 10);
    text.push_str("| step | median ms | worst ms |\n|---|---:|---:|\n");
    for (step, name) in STEPS.iter().enumerate() {
        let mut sorted: Vec<f64> = times.iter().filter_map(|swap| swap.get(step).copied()).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        text.push_str(&format!("| {name} | {:.1} | {:.1} |\n", at(sorted.len() / 2), at(sorted.len().saturating_sub(1))));
    }
    text
}
