//! CPU time of one call from service to service: by HTTP within the host, against the same call over a loopback socket, and of a
//! function by WIT.
//!
//! All kinds are loaded in turn, round after round, on one host, so that whatever else the machine does meets each of them alike.
//! What a call by HTTP costs is what a request with one costs above the same request without; a call of a function is a thousandth of
//! what a request with a thousand of them costs above one without.

use anyhow::{Result, ensure};
use clap::Parser;
use hotbay_tests::{
    Host, guests,
    load::{self, Connections, Load, Until},
};

/// The services that call, of WASI 0.2 and 0.3.
const CALLERS: [&str; 2] = ["fetcher", "fetcher3"];
/// The services that are called, by the policy of their instances.
const CALLEES: [&str; 2] = ["fresh", "reuse"];
/// Calls of a function that one request makes, and of how many requests of the other kinds there is one of these.
const TYPED_CALLS: u32 = 1_000;
const TYPED_SHARE: u32 = 50;

/// Prints two markdown tables.
#[derive(Parser)]
struct Args {
    /// Rounds; each loads every kind once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Requests a round
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Keep-alive connections
    #[arg(long, default_value_t = 32)]
    connections: usize,
}

/// One kind of request.
struct Kind {
    name: String,
    path: String,
    head: String,
    /// Requests a round.
    requests: u32,
    /// CPU µs a request, one of each round.
    cost: Vec<f64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut builder = Host::builder();
    for callee in CALLEES {
        let settings = format!("[instances]\npolicy = \"{callee}\"\n");
        builder = builder.service(callee, &guests::service("hello")).settings(callee, &settings);
        let counter = format!("counter-{callee}");
        builder = builder.service(&counter, &guests::text("counter")).settings(&counter, &settings);
        let calls = format!("[grants]\ncalls = [\"{counter}\"]\n[instances]\npolicy = \"reuse\"\nmax_requests = 65536\n");
        builder = builder.service(&typed(callee), &guests::fixture("counting")).settings(&typed(callee), &calls);
    }
    for caller in CALLERS {
        builder = builder.service(caller, &guests::fixture(caller));
    }
    let host = builder.log("warn,hotbay::swap=info").start().await;
    for caller in CALLERS {
        let mark = host.mark();
        let settings = format!(
            "[grants]\nhttp = [\"http://{}\"]\ncalls = {CALLEES:?}\n[instances]\npolicy = \"reuse\"\nmax_requests = 65536\n",
            host.address()
        );
        host.place_settings(caller, &settings);
        host.since(mark).wait_for(caller, "published").await;
    }
    let kind = |name: String, path: String, head: String| Kind { name, path, head, requests: args.requests, cost: Vec::new() };
    let mut kinds = Vec::new();
    let mut typed_kinds = Vec::new();
    for callee in CALLEES {
        let none = kind(format!("{callee}, no call"), format!("/{}/0", typed(callee)), String::new());
        let many = kind(format!("{callee}, {TYPED_CALLS} calls"), format!("/{}/{TYPED_CALLS}", typed(callee)), String::new());
        typed_kinds.push([none, Kind { requests: (args.requests / TYPED_SHARE).max(1), ..many }]);
    }
    for callee in CALLEES {
        kinds.push(kind(format!("{callee}, asked by the client"), format!("/{callee}"), String::new()));
    }
    for caller in CALLERS {
        // What is asked for is not granted: the guest does all the rest.
        let refused = "x-authority: nobody.internal\r\n".to_owned();
        kinds.push(kind(format!("{caller}, no call"), format!("/{caller}/get"), refused));
        for callee in CALLEES {
            for (how, authority, path) in [
                ("call", format!("{callee}.internal"), "/".to_owned()),
                ("socket", host.address().to_string(), format!("/{callee}")),
            ] {
                let head = format!("x-authority: {authority}\r\nx-path: {path}\r\n");
                kinds.push(kind(format!("{caller}, {how} to {callee}"), format!("/{caller}/get"), head));
            }
        }
    }
    for round in 0..=args.rounds {
        for kind in kinds.iter_mut().chain(typed_kinds.as_flattened_mut()) {
            let cost = measured(&host, kind, &args).await?;
            if round > 0 {
                kind.cost.push(cost);
            }
        }
    }
    println!("| request | CPU µs, median (min–max) |\n|---|---:|");
    for kind in &mut kinds {
        println!("| {} | {} |", kind.name, spread(&mut kind.cost, 0));
    }
    println!("\n| call of a function | CPU µs, median (min–max) |\n|---|---:|");
    for (callee, [none, many]) in CALLEES.iter().zip(&typed_kinds) {
        let calls = many.cost.iter().zip(&none.cost).map(|(many, none)| (many - none) / f64::from(TYPED_CALLS));
        println!("| {callee} | {} |", spread(&mut calls.collect::<Vec<_>>(), 2));
    }
    Ok(())
}

/// The service that calls a function of the one with instances of this policy.
fn typed(policy: &str) -> String {
    format!("typed-{policy}")
}

fn spread(costs: &mut [f64], digits: usize) -> String {
    costs.sort_by(f64::total_cmp);
    let at = |index: usize| costs.get(index).copied().unwrap_or(f64::NAN);
    format!("{:.digits$} ({:.digits$}–{:.digits$})", at(costs.len() / 2), at(0), at(costs.len() - 1))
}

/// CPU µs of the host for one request of this kind.
async fn measured(host: &Host, kind: &Kind, args: &Args) -> Result<f64> {
    let load =
        Load { address: host.address(), path: kind.path.clone(), clients: args.connections, connections: Connections::Kept };
    let answered = kind.head.contains("x-path");
    let before = host.resources().cpu_ticks;
    let tally = load::run_with(&load, &kind.head, &Until::requests(kind.requests.into()), move |answer| {
        let body = String::from_utf8_lossy(answer.body);
        ensure!(answer.status == 200 && (!answered || body.contains("Hello from Hotbay!")), "{}: {body}", answer.status);
        Ok(())
    })
    .await;
    ensure!(tally.failed == 0, "{}: {:?}", kind.name, tally.failures);
    let ticks = u32::try_from(host.resources().cpu_ticks - before)?;
    let a_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(f64::from(ticks) / f64::from(a_second) * 1e6 / f64::from(kind.requests))
}
