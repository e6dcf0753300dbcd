//! Torture line 16, and the budgets of the host: a service that takes all it can get is refused, its neighbours never are, and all
//! is well again when it lets go. That of instances is in `limits.rs` too.

use hotbay_tests::{Host, PATIENCE, Response, client::Reply, guests};
use http_body_util::channel::Sender;
use std::time::Instant;

type Held = (Reply, Sender<bytes::Bytes>);

/// A request whose guest stays.
async fn hold(host: &Host, target: &str) -> Result<Held, Response> {
    let (request, body) = host.request("POST", target).writing();
    let reply = request.open().await;
    if reply.status == 200 { Ok((reply, body)) } else { Err(reply.whole().await.expect("a whole problem")) }
}

/// As many of them as the host gives, at most 40.
async fn hold_all(host: &Host, target: &str) -> (Vec<Held>, Response) {
    let mut held = Vec::new();
    loop {
        match hold(host, target).await {
            Ok(one) => held.push(one),
            Err(refused) => return (held, refused),
        }
        assert!(held.len() < 40, "it is never refused\n{}", host.told());
    }
}

async fn let_go(held: Vec<Held>) {
    for (reply, body) in held {
        drop(body);
        reply.whole().await.expect("a whole answer");
    }
}

async fn assert_refused(host: &Host, answer: &Response, setting: &str) {
    assert_eq!((answer.status, answer.header("content-type")), (503, "application/problem+json"), "{}", answer.text());
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{:?}", answer.headers);
    assert!(answer.text().contains(setting), "{}", answer.text());
    let told = |line: &hotbay_tests::Event| line.target == "hotbay::budget" && line.fields["limit"] == setting;
    assert_eq!(host.log().wait("a line on the budget", told).await.service, "greedy");
}

async fn counted(host: &Host, limit: &str, service: &str) -> f64 {
    let text = host.admin().get("/metrics").await.text();
    let series = format!("hotbay_requests_refused_total{{limit=\"{limit}\",service=\"{service}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or_else(|| panic!("{series} in\n{text}"))
}

async fn used(host: &Host, budget: &str) -> f64 {
    let text = host.admin().get("/metrics").await.text();
    let series = format!("hotbay_budget_used{{budget=\"{budget}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or_else(|| panic!("{series} in\n{text}"))
}

/// Both in a host with these settings. A quarter of each budget is the part of each, three quarters are the most for one.
async fn two(config: &str) -> Host {
    two_of(config, "hold").await
}

/// The same, where `greedy` is this fixture.
async fn two_of(config: &str, greedy: &str) -> Host {
    let wasm = guests::text("hold");
    let settings = "[limits]\ndeadline = \"1h\"\nstream_idle = \"1h\"\nqueue_wait = \"1min\"\n";
    let builder = Host::builder().dev().config(config).service("greedy", &guests::text(greedy)).service("modest", &wasm);
    builder.settings("greedy", settings).settings("modest", settings).start().await
}

/// Takes all that `greedy` gets, then the part of `modest`, and lets go. `limit` is the label of the metrics.
async fn greed_harms_nobody(host: &Host, setting: &str, limit: &str, (most, part): (usize, usize)) {
    for _ in 0..2 {
        let (held, refused) = hold_all(host, "/greedy").await;
        assert_refused(host, &refused, setting).await;
        assert_eq!(held.len(), most, "{}", refused.text());
        let mut modest = Vec::new();
        for n in 0..part {
            modest.push(hold(host, "/modest").await.unwrap_or_else(|refused| panic!("{n}: {}", refused.text())));
        }
        assert!(counted(host, limit, "greedy").await >= 1.0);
        assert!(counted(host, limit, "modest").await.abs() < f64::EPSILON, "it was within its part");
        let_go(held).await;
        let_go(modest).await;
        // A guest ends a moment after its last byte.
        let begun = Instant::now();
        while used(host, limit).await > 0.0 {
            assert!(begun.elapsed() < PATIENCE, "it is not given back\n{}", host.told());
        }
    }
}

/// Guards `Budget::take` in host/src/runtime/budget.rs, and that `InstanceClaim` gives back what it took.
#[tokio::test]
async fn the_memory_of_all_guests_is_bounded() {
    // A held guest has 8 MiB and a little: 64 MiB has room for seven, 48 for five, 16 for one.
    let host = two("[budgets]\nmemory = \"64MiB\"\n").await;
    greed_harms_nobody(&host, "budgets.memory", "budget_memory", (5, 1)).await;
}

/// Guards `RequestClaim`.
#[tokio::test]
async fn the_requests_of_all_services_are_bounded() {
    let host = two("[budgets]\nrequests = 16\n").await;
    greed_harms_nobody(&host, "budgets.requests", "budget_requests", (12, 4)).await;
}

/// Guards the claim in `new_store` in host/src/runtime/store.rs.
#[tokio::test]
async fn the_instances_of_all_services_are_bounded() {
    let host = two("[pool]\ninstances = 16\n").await;
    greed_harms_nobody(&host, "pool.instances", "pool_instances", (12, 4)).await;
}

/// Guards `slots` in host/src/runtime/engine.rs: memories run out before instances do where each instance has four of them.
#[tokio::test]
async fn an_instance_with_many_memories_takes_as_many_places() {
    let host = two_of("[pool]\ninstances = 16\n", "hold-four-memories").await;
    greed_harms_nobody(&host, "pool.instances", "pool_instances", (3, 4)).await;
}

/// Requests that wait for a permit are counted as well: a queue takes room too.
#[tokio::test]
async fn what_waits_counts_as_well() {
    let host = Host::builder()
        .config("[budgets]\nrequests = 16\n")
        .service("greedy", &guests::text("hold"))
        .settings(
            "greedy",
            "[limits]\nconcurrency = 1\nqueue = 1000\nqueue_wait = \"1min\"\ndeadline = \"1h\"\nstream_idle = \"1h\"\n",
        )
        .service("modest", &guests::fixture("probe"))
        .start()
        .await;
    let (first, body) = hold(&host, "/greedy").await.expect("the first");
    let address = host.address();
    let waiting: Vec<_> =
        (0..40).map(|_| tokio::spawn(async move { hotbay_tests::client::get(address, "/greedy").await.status })).collect();
    let begun = Instant::now();
    while counted(&host, "budget_requests", "greedy").await < 29.0 {
        assert!(begun.elapsed() < PATIENCE, "{}", host.told());
    }
    assert_eq!(host.get("/modest/marker").await.status, 200);
    drop(body);
    first.whole().await.expect("a whole answer");
    let mut statuses =
        futures::future::join_all(waiting).await.into_iter().map(|status| status.expect("no panic")).collect::<Vec<_>>();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200; 11], vec![503; 29]].concat());
}

/// A flood of refusals is a line a second in the log, beside the line of each request.
#[tokio::test]
async fn refusals_do_not_fill_the_log() {
    let host = two("[budgets]\nrequests = 16\n").await;
    let (held, _) = hold_all(&host, "/greedy").await;
    for _ in 0..200 {
        assert_eq!(host.get("/greedy").await.status, 503);
    }
    let lines = host.events().into_iter().filter(|event| event.target == "hotbay::budget").count();
    assert!(lines < 100, "{lines} lines");
    let_go(held).await;
}
