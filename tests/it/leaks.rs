//! Promise 5: resident memory, descriptors and mappings are after any number of swaps what they were after the first few.
//!
//! `SWAPS` makes it as many swaps as it says, and at least 100; it is 500 without.

use anyhow::{Result, ensure};
use hotbay_tests::{
    Host, How, Resources, guests,
    load::{self, Answer, Connections, Load, Until},
};

const SWAPS: u32 = 500;
/// After so many the first reading is made.
const SETTLED: u32 = 50;
/// Requests after each swap, on new connections and a few at a time.
const REQUESTS: u64 = 20;
const CLIENTS: usize = 4;
/// Readings of which the least counts: memory of requests that have just ended is on its way back.
const READINGS: u32 = 10;
/// Swaps at the end with a reading after each. The allocator takes and returns memory in steps of some MiB whenever it likes, so
/// one reading may meet it at the top of a step; what is lost for good is in the least of them all.
const LAST: u32 = 100;
/// Swaps that are added at most until a reading meets the bottom of a step. What leaks only grows with them.
const EXTRA: u32 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_give_back_what_they_took() {
    let swaps = std::env::var("SWAPS").map_or(SWAPS, |swaps| swaps.parse().expect("SWAPS is a number")).max(2 * SETTLED);
    let host = Host::builder().service("tidy", &guests::revision("marker", 0)).log("warn,hotbay::swap=info").start().await;
    let mut revision = guests::digest(&guests::revision("marker", 0));
    let mut first = None;
    let mut last = Vec::new();
    let mut made = 0;
    for n in 1..=swaps + EXTRA {
        let since = host.mark();
        let how = [How::Rename, How::Overwrite, How::Replace][n as usize % 3];
        let next = host.swap("tidy", &guests::revision("marker", n), how).await;
        host.since(since).wait_retired("tidy", &revision).await;
        revision = next;
        ask(&host).await;
        if n == SETTLED {
            first = Some(reading(&host).await);
        }
        if n + LAST > swaps {
            last.push(host.resources());
        }
        made = n;
        if n >= swaps && first.is_some_and(|first| least(&last).is_within(first)) {
            break;
        }
    }
    let (first, last) = (first.expect("there are more swaps than that"), least(&last));
    println!("leaks: after {SETTLED} swaps {}; the least of the last readings, after {made}, {}", shown(first), shown(last));
    assert!(last.is_within(first), "after {SETTLED} swaps {}; after {made} {}", shown(first), shown(last));
}

/// Whether it is no more than 5 % above another reading.
trait Within {
    fn is_within(&self, other: Self) -> bool;
}

impl Within for Resources {
    fn is_within(&self, other: Self) -> bool {
        let within = |now: u64, before: u64| now * 100 <= before * 105;
        within(self.resident, other.resident)
            && within(self.descriptors as u64, other.descriptors as u64)
            && within(self.mappings as u64, other.mappings as u64)
    }
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
    let mut readings = vec![host.resources()];
    for _ in 1..READINGS {
        ask(host).await;
        readings.push(host.resources());
    }
    least(&readings)
}

/// The least of each.
fn least(readings: &[Resources]) -> Resources {
    let less = |one: Resources, other: Resources| Resources {
        resident: one.resident.min(other.resident),
        descriptors: one.descriptors.min(other.descriptors),
        mappings: one.mappings.min(other.mappings),
        ..one
    };
    readings.iter().copied().reduce(less).expect("there is a reading")
}

fn shown(read: Resources) -> String {
    format!("{} KiB resident, {} descriptors, {} mappings", read.resident >> 10, read.descriptors, read.mappings)
}
