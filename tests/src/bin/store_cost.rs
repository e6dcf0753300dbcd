//! CPU time of one call of the key-value store: the embedded one against a Redis over loopback that syncs each change too.
//!
//! Both hosts are asked in turn, round after round, so that whatever else the machine does meets them alike. A call's cost is that of a
//! request which makes many of them, divided by their number.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use hotbay_tests::{
    Host, Redis, guests,
    load::{self, Connections, Load, Until},
    resources::{Resources, waits},
};
use std::time::Instant;

/// The words of the fixture `keeper`, and what each call of it is.
const CALLS: [(&str, &str); 3] = [("gets", "get"), ("sets", "set"), ("adds", "increment")];
/// Reads are so much quicker that more of them are needed to see what they cost.
const GETS: u32 = 10;

/// Prints one markdown table.
#[derive(Parser)]
struct Args {
    /// Rounds; each asks for every kind of call once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Changes that each service makes in a round; ten times as many reads
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    calls: u32,
    /// Guests that call at the same time, for the second half of the table
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,
}

/// One place to keep things: a host, and the Redis where it keeps them.
struct Place {
    name: &'static str,
    host: Host,
    redis: Option<Redis>,
}

/// What one call took.
struct Cost {
    /// CPU µs of the host, of which the kernel's, and CPU µs of Redis.
    host: f64,
    system: f64,
    redis: f64,
    /// How often a thread of the host waited for something.
    waits: f64,
    /// µs from one call of a guest to its next.
    wall: f64,
}

/// The same, one of each round.
#[derive(Default)]
struct Costs([Vec<f64>; 5]);

impl Costs {
    fn add(&mut self, cost: Cost) {
        let Cost { host, system, redis, waits, wall } = cost;
        for (all, one) in self.0.iter_mut().zip([host, system, redis, waits, wall]) {
            all.push(one);
        }
    }

    fn median(&self) -> Cost {
        let [host, system, redis, waits, wall] = self.0.each_ref().map(|values| median(values));
        Cost { host, system, redis, waits, wall }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let redis = Redis::start([]).await.context("there is no redis-server to compare with")?;
    let config = redis.config();
    let start = async |config: &str| {
        let settings =
            "[grants]\nkeyvalue = [\"default\"]\n[limits]\ndeadline = \"10m\"\ncpu = \"10m\"\n[instances]\npolicy = \"reuse\"\n";
        let host = Host::builder().config(config).service("keeper", &guests::fixture("keeper")).settings("keeper", settings);
        host.own_state().log("warn,hotbay::swap=info").start().await
    };
    let places = [
        Place { name: "embedded", host: start("").await, redis: None },
        Place { name: "Redis", host: start(&config).await, redis: Some(redis) },
    ];
    for place in &places {
        // What is read: as long as what is written.
        ensure!(place.host.get("/keeper/fill?default/gets/100").await.text() == "done", "{}", place.host.told());
    }
    println!(
        "| guests | call | store | CPU µs | of the host | of which kernel | of Redis | waits of threads | µs to the answer | × embedded |"
    );
    println!("|---:|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for guests in [1, args.at_once] {
        for (word, call) in CALLS {
            let mut costs = [Costs::default(), Costs::default()];
            for round in 0..=args.rounds {
                for (place, costs) in places.iter().zip(&mut costs) {
                    let cost = measure(place, word, guests, &args).await?;
                    // The first round fills caches.
                    if round > 0 {
                        costs.add(cost);
                    }
                }
            }
            let mut embedded = None;
            for (place, costs) in places.iter().zip(&costs) {
                let Cost { host, system, redis, waits, wall } = costs.median();
                let all = host + redis;
                let ratio = all / *embedded.get_or_insert(all);
                println!(
                    "| {guests} | {call} | {} | {all:.1} | {host:.1} | {system:.1} | {redis:.1} | {waits:.2} | {wall:.0} | {ratio:.2} |",
                    place.name
                );
            }
        }
    }
    Ok(())
}

async fn measure(place: &Place, word: &str, guests: u32, args: &Args) -> Result<Cost> {
    let all = if word == "gets" { args.calls * GETS } else { args.calls };
    let calls = (all / guests).max(1);
    let path = format!("/keeper/{word}?default/{word}/{calls}");
    let load = Load { address: place.host.address(), path, clients: guests as usize, connections: Connections::Kept };
    let redis = || place.redis.as_ref().map_or(0, |redis| Resources::of(redis.pid()).cpu_ticks);
    let (before, redis_before, waits_before) = (place.host.resources(), redis(), waits(place.host.pid()));
    let begun = Instant::now();
    let tally = load::run(&load, &Until::requests(guests.into()), |answer| {
        let body = String::from_utf8_lossy(answer.body);
        ensure!(answer.status == 200 && body == "done", "{}: {body}", answer.status);
        Ok(())
    })
    .await;
    let wall = begun.elapsed();
    let (after, redis_after, waits_after) = (place.host.resources(), redis(), waits(place.host.pid()));
    ensure!(tally.failed == 0, "{}, {word}: {:?}", place.name, tally.failures);
    let count = f64::from(calls * guests);
    let a_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    let micros = |ticks: u64| anyhow::Ok(f64::from(u32::try_from(ticks)?) / f64::from(a_second) * 1e6 / count);
    Ok(Cost {
        host: micros(after.cpu_ticks - before.cpu_ticks)?,
        system: micros(after.system_ticks - before.system_ticks)?,
        redis: micros(redis_after - redis_before)?,
        // Threads that ended meanwhile took what they had counted with them.
        waits: f64::from(u32::try_from(waits_after.saturating_sub(waits_before))?) / count,
        wall: wall.as_secs_f64() * 1e6 / f64::from(calls),
    })
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
