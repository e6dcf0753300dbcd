//! Promise 5: resident memory, descriptors and mappings are after any number of swaps what they were after the first few.
//!
//! `SWAPS` makes it as many swaps as it says, and at least 400; it is 500 without.

use anyhow::{Result, ensure};
use hotbay_tests::{
    Host, How, Resources, guests,
    load::{self, Answer, Connections, Load, Until},
};

const SWAPS: u32 = 500;
/// After so many the first reading is made: the ring of the last 1,024 events, some seven of which are of each swap, is full then.
const SETTLED: u32 = 200;
/// Requests after each swap, on new connections and a few at a time.
const REQUESTS: u64 = 20;
const CLIENTS: usize = 4;
/// Readings of which the least counts: memory of requests that have just ended is on its way back.
const READINGS: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_give_back_what_they_took() {
    let swaps = std::env::var("SWAPS").map_or(SWAPS, |swaps| swaps.parse().expect("SWAPS is a number")).max(2 * SETTLED);
    let host = Host::builder().service("tidy", &guests::revision("marker", 0)).log("warn,hotbay::swap=info").start().await;
    let mut revision = guests::digest(&guests::revision("marker", 0));
    let mut first = None;
    for n in 1..=swaps {
        let since = host.mark();
        let how = [How::Rename, How::Overwrite, How::Replace][n as usize % 3];
        let next = host.swap("tidy", &guests::revision("marker", n), how).await;
        host.since(since).wait_retired("tidy", &revision).await;
        revision = next;
        ask(&host).await;
        if n == SETTLED {
            first = Some(reading(&host).await);
        }
    }
    let (first, last) = (first.expect("there are more swaps than that"), reading(&host).await);
    println!("leaks: after {SETTLED} swaps {}; after {swaps} {}", shown(first), shown(last));
    let within = |what: &str, before: u64, after: u64| {
        assert!(after * 100 <= before * 105, "{what}: {before} after {SETTLED} swaps, {after} after {swaps}");
    };
    within("bytes of resident memory", first.resident, last.resident);
    within("descriptors", first.descriptors as u64, last.descriptors as u64);
    within("mappings", first.mappings as u64, last.mappings as u64);
}

async fn ask(host: &Host) {
    let load = Load { address: host.address(), path: "/tidy".to_owned(), clients: CLIENTS, connections: Connections::New };
    let tally = load::run(&load, &Until::requests(REQUESTS), good).await;
    assert_eq!(tally.failed, 0, "{:#?}", tally.failures);
}

fn good(answer: &Answer<'_>) -> Result<()> {
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(())
}

/// What the host holds when it has nothing to do.
async fn reading(host: &Host) -> Resources {
    let mut least = host.resources();
    for _ in 1..READINGS {
        ask(host).await;
        let now = host.resources();
        least.resident = least.resident.min(now.resident);
        least.descriptors = least.descriptors.min(now.descriptors);
        least.mappings = least.mappings.min(now.mappings);
    }
    least
}

fn shown(read: Resources) -> String {
    format!("{} KiB resident, {} descriptors, {} mappings", read.resident >> 10, read.descriptors, read.mappings)
}
