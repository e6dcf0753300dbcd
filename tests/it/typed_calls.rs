//! Functions of one service that another one calls by WIT: values, types, grants, limits, and both sides swapped meanwhile.

use anyhow::{bail, ensure};
use bytes::Bytes;
use hotbay_tests::{
    Event, Host, How, PATIENCE, Response, guests,
    load::{self, Answer, Connections, Load, Until},
};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

mod agreement;
mod asynchronous;
mod circles;
mod endings;
mod lacking;
mod limits;
mod values;

/// The grant of the fixture `counting`, and of the relays that the tests make.
const CALLS_COUNTER: &str = "[grants]\ncalls = [\"counter\"]\n";
const CALLS_KINDS: &str = "[grants]\ncalls = [\"kinds\"]\n";
const REUSE: &str = "[instances]\npolicy = \"reuse\"\n";

/// A service in WebAssembly text: it exports `next: func(by: u32) -> u32` and may call that of another one as `$call`.
struct Text {
    exports: Vec<(String, &'static str)>,
    calls: Option<String>,
    body: String,
}

/// The whole name of the interface of a service.
fn interface(name: &str) -> String {
    format!("shop:{name}/{name}@0.1.0")
}

impl Text {
    /// Gives `by` plus `more`.
    fn adds(name: &str, more: u32) -> Self {
        Self::does(name, &format!("(i32.add (local.get 0) (i32.const {more}))"))
    }

    /// Does what `body` says with its parameter.
    fn does(name: &str, body: &str) -> Self {
        Self { exports: vec![(interface(name), "u32")], calls: None, body: body.to_owned() }
    }

    /// Calls `other` and adds one.
    fn relays(name: &str, other: &str) -> Self {
        let body = "(i32.add (call $call (local.get 0)) (i32.const 1))";
        Self { calls: Some(interface(other)), ..Self::does(name, body) }
    }

    /// Exports one more interface, with another type.
    fn and(mut self, interface: &str, ty: &'static str) -> Self {
        self.exports.push((interface.to_owned(), ty));
        self
    }

    /// The type of the parameter of the first interface.
    fn taking(mut self, ty: &'static str) -> Self {
        self.exports[0].1 = ty;
        self
    }

    fn wasm(&self) -> Bytes {
        let (imports, with, inner) = match &self.calls {
            None => (String::new(), String::new(), ""),
            Some(other) => (
                format!(
                    "(import \"{other}\" (instance $other (export \"next\" (func (param \"by\" u32) (result u32)))))
                    (core func $lowered (canon lower (func $other \"next\")))"
                ),
                "(with \"other\" (instance (export \"next\" (func $lowered))))".to_owned(),
                "(import \"other\" \"next\" (func $call (param i32) (result i32)))",
            ),
        };
        let exports: String = (0..)
            .zip(&self.exports)
            .map(|(n, (interface, ty))| {
                let core = if *ty == "u64" { "wide" } else { "next" };
                // `async` is a parameter of u32 to a function that may wait.
                let (keyword, ty) = if *ty == "async" { ("async", "u32") } else { ("", *ty) };
                format!(
                    "(func $next{n} {keyword} (param \"by\" {ty}) (result u32) (canon lift (core func $guest \"{core}\")))
                    (instance $exported{n} (export \"next\" (func $next{n})))
                    (export \"{interface}\" (instance $exported{n}))"
                )
            })
            .collect();
        let text = format!(
            "(component
                {imports}
                (core module $module
                    {inner}
                    (memory 1)
                    (global $calls (mut i32) (i32.const 0))
                    (func $next (export \"next\") (param i32) (result i32) (local $n i64)
                        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                        {body})
                    (func (export \"wide\") (param i64) (result i32) (call $next (i32.wrap_i64 (local.get 0)))))
                (core instance $guest (instantiate $module {with}))
                {exports})",
            body = self.body,
        );
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).into()
    }
}

/// The fixture `counting`, which calls the service `counter`.
async fn counting(counter: &Text, settings: &str) -> Host {
    Host::builder()
        .service("counting", &guests::fixture("counting"))
        .settings("counting", &format!("{CALLS_COUNTER}[limits]\ndeadline = \"60s\"\n"))
        .service("counter", &counter.wasm())
        .settings("counter", settings)
        .dev()
        .start()
        .await
}

/// What the fixture `counting` gives for one call with 1.
async fn counted(host: &Host) -> String {
    let answer = host.get("/counting/1").await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), host.told());
    answer.text()
}

/// Waits for what only counters tell.
async fn eventually(host: &Host, is: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is().await {
        assert!(begun.elapsed() < PATIENCE, "what is waited for does not come\n{}", host.told());
    }
}

fn reason(answer: &Response) -> String {
    answer.json()["dev"]["reason"].as_str().unwrap_or_default().to_owned()
}

fn published(host: &Host, service: &str) -> usize {
    host.events().iter().filter(|event| event.is(service, "published")).count()
}

/// Guards `add_calls` in host/src/runtime/typed_call.rs.
#[tokio::test]
async fn every_kind_of_value_crosses_unchanged() {
    for settings in ["", REUSE] {
        let host = Host::builder()
            .service("kinds", &guests::fixture("provider"))
            .settings("kinds", settings)
            .service("dependent", &guests::fixture("dependent"))
            .settings("dependent", &format!("{CALLS_KINDS}{settings}"))
            .dev()
            .start()
            .await;
        for _ in 0..2 {
            let answer = host.get("/dependent/values").await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{}", host.told());
        }
        let counts = [host.get("/dependent/count").await.text(), host.get("/dependent/count").await.text()];
        assert_eq!(counts, if settings.is_empty() { ["1", "1"] } else { ["1", "2"] }, "instances are the provider's to keep");
    }
}

/// Guards `Swaps::wait_or` in host/src/deploy/awaited.rs: at the start nobody is told off for what is on its way.
#[tokio::test]
async fn in_whatever_order_the_files_come_the_end_is_the_same() {
    let together = counting(&Text::adds("counter", 1), "").await;
    assert_eq!(counted(&together).await, "2");
    assert!(!together.events().iter().any(|event| event.state == "rejected"), "{}", together.told());
    assert!(together.table().await.contains("/counting"), "{}", together.table().await);

    let first = Host::builder().service("counter", &Text::adds("counter", 1).wasm()).start().await;
    first.place_settings("counting", CALLS_COUNTER);
    first.swap("counting", &guests::fixture("counting"), How::Rename).await;
    assert_eq!(counted(&first).await, "2");

    let last =
        Host::builder().service("counting", &guests::fixture("counting")).settings("counting", CALLS_COUNTER).start().await;
    let rejected = last.wait_rejected("counting").await;
    assert!(rejected.reason.contains("waits for a good revision of `counter`"), "{}", rejected.reason);
    assert!(rejected.reason.contains("shop:counter/counter@0.1.0"), "{}", rejected.reason);
    assert_eq!(last.get("/counting/1").await.status, 503, "it waits, and its route with it");
    last.swap("counter", &Text::adds("counter", 1).wasm(), How::Rename).await;
    last.wait_for("counting", "published").await;
    assert_eq!(counted(&last).await, "2");
}

/// A chain that comes in the worst order, and two that wait for each other.
#[tokio::test]
async fn at_the_start_those_who_wait_for_each_other_do_not_wait_for_ever() {
    let host = Host::builder()
        .service("counting", &guests::fixture("counting"))
        .settings("counting", CALLS_COUNTER)
        .service("counter", &Text::relays("counter", "last").wasm())
        .settings("counter", "[grants]\ncalls = [\"last\"]\n")
        .service("last", &Text::adds("last", 1).wasm())
        .service("one", &Text::relays("one", "other").wasm())
        .settings("one", "[grants]\ncalls = [\"other\"]\n")
        .service("other", &Text::relays("other", "one").wasm())
        .settings("other", "[grants]\ncalls = [\"one\"]\n")
        .start()
        .await;
    assert_eq!(counted(&host).await, "3");
    let rejected: Vec<_> = host.events().into_iter().filter(|event| event.state == "rejected").collect();
    let chains: Vec<_> = rejected.iter().map(|one| (one.service.as_str(), one.reason.contains("close a circle"))).collect();
    assert!(chains.len() == 2 && [("one", true), ("other", true)].iter().all(|one| chains.contains(one)), "{rejected:?}");
}

/// Guards the look into the table at each call: a dependent that was linked is not linked again.
#[tokio::test]
async fn the_next_call_goes_to_the_new_revision_and_the_dependent_stays() {
    let host = counting(&Text::adds("counter", 1), "").await;
    assert_eq!(counted(&host).await, "2");
    let old = guests::digest(&Text::adds("counter", 1).wasm());
    host.swap("counter", &Text::adds("counter", 10).wasm(), How::Rename).await;
    assert_eq!(counted(&host).await, "11");
    host.wait_retired("counter", &old).await;

    host.remove("counter");
    host.wait_retired("counter", &guests::digest(&Text::adds("counter", 10).wasm())).await;
    let answer = host.get("/counting/1").await;
    assert_eq!((answer.status, answer.json()["provider"].as_str()), (503, Some("counter")), "{}", answer.text());
    assert!(reason(&answer).contains("no good revision"), "{}", answer.text());
    host.swap("counter", &Text::adds("counter", 20).wasm(), How::Rename).await;
    assert_eq!(counted(&host).await, "21");
    assert_eq!(published(&host, "counting"), 1, "{}", host.told());
}

/// Swaps of a provider that compiles in a moment, and of one that tells at both ends of a call which revision it is.
const SWAPS: u32 = 200;
const MARKED_SWAPS: u32 = 20;

/// Promise 1 for calls: none fails because of a swap, whichever way the provider keeps its instances.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_the_provider_is_swapped() {
    for settings in ["", REUSE] {
        let host = counting(&Text::adds("counter", 0), settings).await;
        let until = Until::stopped();
        let load = Load { address: host.address(), path: "/counting/1".to_owned(), clients: 8, connections: Connections::Kept };
        let asking = tokio::spawn({
            let until = Arc::clone(&until);
            async move { load::run(&load, &until, of_some_revision).await }
        });
        for n in 1..=SWAPS {
            host.swap("counter", &Text::adds("counter", n).wasm(), How::Rename).await;
            assert_eq!(counted(&host).await, (n + 1).to_string(), "the next call is on the new one");
        }
        until.stop();
        let tally = asking.await.expect("the load");
        println!("{SWAPS} swaps of the provider, {} requests, {} failed", tally.requests, tally.failed);
        assert_eq!(tally.failed, 0, "{:#?}", tally.failures);
        assert!(tally.requests > u64::from(SWAPS), "{}", tally.requests);
        host.wait_retired("counter", &guests::digest(&Text::adds("counter", SWAPS - 1).wasm())).await;
        assert_eq!(published(&host, "counting"), 1);
    }
}

fn of_some_revision(answer: &Answer<'_>) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(answer.body);
    ensure!(answer.status == 200, "{}: {text}", answer.status);
    ensure!((1..=SWAPS + 1).contains(&text.parse()?), "{text}");
    Ok(())
}

/// Promises 1 and 2 for the side that calls: a request is answered by one revision of the dependent, which goes on with its call while
/// it is replaced, and the provider stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_dependent_is_swapped() {
    for settings in ["", REUSE] {
        let provider = guests::revision("provider", 0);
        let host = Host::builder()
            .service("kinds", &provider)
            .settings("kinds", settings)
            .service("dependent", &guests::revision("dependent", 0))
            .settings("dependent", &format!("{CALLS_KINDS}{settings}"))
            .log("warn,hotbay::swap=info")
            .start()
            .await;
        let until = Until::stopped();
        let load =
            Load { address: host.address(), path: "/dependent/both".to_owned(), clients: 8, connections: Connections::Kept };
        let asking = tokio::spawn({
            let until = Arc::clone(&until);
            let digests =
                (0..=MARKED_SWAPS).map(|n| (guests::digest(&guests::revision("dependent", n)), guests::marker(n))).collect();
            let digests: Arc<BTreeMap<String, String>> = Arc::new(digests);
            async move { load::run(&load, &until, move |answer| of_one_revision(answer, &digests)).await }
        });
        for n in 1..=MARKED_SWAPS {
            host.swap("dependent", &guests::revision("dependent", n), How::Rename).await;
            let newest = host.get("/dependent/both").await.text();
            assert_eq!(
                newest,
                format!("{0} {0} {1} {1}", guests::marker(n), guests::marker(0)),
                "the next one is on the new one"
            );
        }
        until.stop();
        let tally = asking.await.expect("the load");
        println!("{MARKED_SWAPS} swaps of the dependent, {} requests, {} failed", tally.requests, tally.failed);
        assert_eq!(tally.failed, 0, "{:#?}", tally.failures);
        assert!(tally.requests > u64::from(MARKED_SWAPS), "{}", tally.requests);
        assert_eq!(published(&host, "kinds"), 1);
        host.wait_retired("dependent", &guests::digest(&guests::revision("dependent", MARKED_SWAPS - 1))).await;
        // No call is left behind.
        eventually(&host, async || endings::in_flight(&host, "kinds").await == 0).await;
    }
}

/// The guest said before and after its call which revision it is, and the host says the same; so did the provider.
fn of_one_revision(answer: &Answer<'_>, markers: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(answer.body);
    ensure!(answer.status == 200, "{}: {text}", answer.status);
    let [before, after, begin, end] = text.split(' ').collect::<Vec<_>>()[..] else { bail!("{text}") };
    ensure!(before == after && begin == end && begin == guests::marker(0), "{text}");
    ensure!(markers.get(answer.revision).is_some_and(|marker| marker == before), "{}: {text}", answer.revision);
    Ok(())
}

/// A service between the fixture `counting` and `counter`, which adds `more`.
fn between(more: u32) -> Text {
    let body = format!("(i32.add (call $call (local.get 0)) (i32.const {more}))");
    Text { body, exports: vec![(interface("counter"), "u32")], ..Text::relays("", "last") }
}

/// A service that calls and is called is swapped, and at the same time the one that it calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_both_sides_are_swapped_at_once() {
    let host = Host::builder()
        .service("counting", &guests::fixture("counting"))
        .settings("counting", CALLS_COUNTER)
        .service("counter", &between(0).wasm())
        .settings("counter", &format!("{REUSE}[grants]\ncalls = [\"last\"]\n"))
        .service("last", &Text::adds("last", 0).wasm())
        .start()
        .await;
    let until = Until::stopped();
    let load = Load { address: host.address(), path: "/counting/1".to_owned(), clients: 8, connections: Connections::Kept };
    let asking = tokio::spawn({
        let until = Arc::clone(&until);
        async move { load::run(&load, &until, of_some_revision).await }
    });
    for n in 1..=SWAPS / 4 {
        let (both, last) = (between(n).wasm(), Text::adds("last", n).wasm());
        tokio::join!(host.swap("counter", &both, How::Rename), host.swap("last", &last, How::Rename));
        assert_eq!(counted(&host).await, (2 * n + 1).to_string(), "the next call is on the new ones");
    }
    until.stop();
    let tally = asking.await.expect("the load");
    assert_eq!(tally.failed, 0, "{:#?}", tally.failures);
    assert!(tally.requests > u64::from(SWAPS / 4), "{}", tally.requests);
    assert_eq!(published(&host, "counting"), 1);
}

/// Guards the pinning of the revision in `Caller::call`: promise 2 for calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_runs_wholly_on_one_revision() {
    for settings in ["", REUSE] {
        let host = Host::builder()
            .service("kinds", &guests::revision("provider", 0))
            .settings("kinds", settings)
            .service("dependent", &guests::fixture("dependent"))
            .settings("dependent", CALLS_KINDS)
            .log("warn,hotbay::swap=info")
            .start()
            .await;
        let until = Until::stopped();
        let load =
            Load { address: host.address(), path: "/dependent/marker".to_owned(), clients: 8, connections: Connections::Kept };
        let asking = tokio::spawn({
            let until = Arc::clone(&until);
            async move { load::run(&load, &until, whole).await }
        });
        for n in 1..=MARKED_SWAPS {
            host.swap("kinds", &guests::revision("provider", n), How::Rename).await;
            // No instance of the one before is among those that are kept for this one.
            let newest = host.get("/dependent/marker").await.text();
            assert_eq!(newest, format!("{0} {0}", guests::marker(n)));
        }
        until.stop();
        let tally = asking.await.expect("the load");
        assert_eq!(tally.failed, 0, "{:#?}", tally.failures);
        assert!(tally.requests > u64::from(MARKED_SWAPS), "{}", tally.requests);
        host.wait_retired("kinds", &guests::digest(&guests::revision("provider", MARKED_SWAPS - 1))).await;
    }
}

/// A call began and ended on one revision.
fn whole(answer: &Answer<'_>) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(answer.body);
    ensure!(answer.status == 200, "{}: {text}", answer.status);
    let (begin, end) = text.split_once(' ').unwrap_or_default();
    ensure!(begin == end && begin.starts_with("hotbay-marker:"), "{text}");
    Ok(())
}

/// The reason and the remedy of a reject, in one text.
fn told(rejected: &Event) -> String {
    format!("{}; {}", rejected.reason, rejected.remedy)
}

/// Figures for people: `cargo test --release -p hotbay-tests --test it -- --ignored --nocapture what_a_call_costs`.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_call_costs() {
    const CALLS: u32 = 20_000;
    const REQUESTS: u32 = 20;
    for (settings, what) in [(REUSE, "reused"), ("", "fresh")] {
        let host = counting(&Text::adds("counter", 1), settings).await;
        host.get(&format!("/counting/{CALLS}")).await;
        let before = host.resources().cpu_ticks;
        for _ in 0..REQUESTS {
            assert_eq!(host.get(&format!("/counting/{CALLS}")).await.status, 200);
        }
        let ticks = f64::from(u32::try_from(host.resources().cpu_ticks - before).expect("not that long"));
        println!("{what}: {:.2} µs of CPU a call", ticks * 10_000.0 / f64::from(CALLS * REQUESTS));
    }
}
