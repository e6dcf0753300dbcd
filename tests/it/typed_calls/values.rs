//! Values on their way: how many there may be, and whose memory they are while a call goes on or waits for its turn.

use super::{
    CALLS_COUNTER,
    endings::{STAYS, faults, metric},
    eventually, interface, reason,
};
use hotbay_tests::{Gate, Host, guests};

/// A service that is called with bytes, by one that the fixture `counting` calls.
#[derive(Clone, Copy)]
struct Scale<'a> {
    /// Pages of 64 KiB that are handed over for each that is asked for.
    pages: u32,
    /// How often what it gets it gives back.
    times: u32,
    /// Another build, which gives back what it gets.
    build: Option<&'a [u8]>,
    settings: &'a str,
}

const SCALE: Scale<'static> = Scale { pages: 1, times: 1, build: None, settings: STAYS };

/// Whoever calls waits for as long as it takes.
const PATIENT: &str = "[limits]\ndeadline = \"120s\"\n";

async fn weighing(scale: Scale<'_>, config: &str) -> Host {
    let Scale { pages, times, build, settings } = scale;
    let grow = "(memory (export \"memory\") 64)
        (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 65536))";
    let ty = "(func (param \"bytes\" (list u8)) (result (list u8)))";
    let scale = format!(
        "(component
            (core module $module {grow}
                (func (export \"weigh\") (param i32 i32) (result i32)
                    (i32.store (i32.const 0) (local.get 0))
                    (i32.store (i32.const 4) (i32.mul (local.get 1) (i32.const {times})))
                    (i32.const 0)))
            (core instance $guest (instantiate $module))
            (alias core export $guest \"memory\" (core memory $memory))
            (alias core export $guest \"realloc\" (core func $realloc))
            (func $weigh (param \"bytes\" (list u8)) (result (list u8))
                (canon lift (core func $guest \"weigh\") (memory $memory) (realloc $realloc)))
            (instance $scale (export \"weigh\" (func $weigh)))
            (export \"shop:scale/scale@0.1.0\" (instance $scale)))"
    );
    let counter = format!(
        "(component
            (import \"shop:scale/scale@0.1.0\" (instance $scale (export \"weigh\" {ty})))
            (core module $holding {grow})
            (core instance $held (instantiate $holding))
            (alias core export $held \"memory\" (core memory $memory))
            (alias core export $held \"realloc\" (core func $realloc))
            (core func $weigh (canon lower (func $scale \"weigh\") (memory $memory) (realloc $realloc)))
            (core module $module
                (import \"\" \"memory\" (memory 64))
                (import \"\" \"weigh\" (func $weigh (param i32 i32 i32)))
                (func (export \"next\") (param i32) (result i32)
                    (call $weigh (i32.const 65536) (i32.mul (local.get 0) (i32.const {unit})) (i32.const 0))
                    (i32.div_u (i32.load (i32.const 4)) (i32.const 65536))))
            (core instance $guest (instantiate $module
                (with \"\" (instance (export \"memory\" (memory $memory)) (export \"weigh\" (func $weigh))))))
            (func $next (param \"by\" u32) (result u32) (canon lift (core func $guest \"next\")))
            (instance $counter (export \"next\" (func $next)))
            (export \"{}\" (instance $counter)))",
        interface("counter"),
        unit = pages << 16
    );
    let parsed = |text: &str| wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Host::builder()
        .config(config)
        .service("counting", &guests::fixture("counting"))
        .settings("counting", &format!("{CALLS_COUNTER}{STAYS}{PATIENT}"))
        .service("counter", &parsed(&counter))
        .settings("counter", &format!("[grants]\ncalls = [\"scale\"]\n{STAYS}{PATIENT}"))
        .service("scale", &build.map_or_else(|| parsed(&scale), <[u8]>::to_vec))
        .settings("scale", settings)
        .dev()
        .start()
        .await
}

/// The sum of 1, 2, … `n` pages, each of which is one call.
const fn pages(n: u32) -> u32 {
    n * (n + 1) / 2
}

/// The bound that docs/calling-services.md names, in both directions.
#[tokio::test]
async fn values_of_one_direction_have_a_limit() {
    let host = weighing(SCALE, "").await;
    assert_eq!(host.get("/counting/5").await.text(), pages(5).to_string(), "{}", host.told());
    let answer = host.get("/counting/9").await;
    assert_eq!((answer.status, answer.json()["provider"].as_str()), (500, Some("counter")), "{}", answer.text());
    assert_eq!(
        (faults(&host, "counter", "trap").await, faults(&host, "scale", "trap").await),
        (1, 0),
        "the caller hands over too much"
    );
    let host = weighing(Scale { times: 2, ..SCALE }, "").await;
    assert_eq!(host.get("/counting/2").await.text(), (2 * pages(2)).to_string(), "{}", host.told());
    assert_eq!(host.get("/counting/5").await.status, 500);
    assert_eq!(
        (faults(&host, "counter", "trap").await, faults(&host, "scale", "trap").await),
        (0, 1),
        "the callee gives too much"
    );
}

/// Guards `Caller::hold` in host/src/runtime/typed_call.rs: values on their way are memory of the service that hands them over.
#[tokio::test]
async fn values_on_their_way_are_counted() {
    let host = weighing(Scale { times: 0, ..SCALE }, "[budgets]\nmemory = \"24MiB\"\n").await;
    let before = used(&host).await;
    assert_eq!(host.get("/counting/1").await.text(), "0", "{}", host.told());
    let answer = host.get("/counting/6").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let reason = answer.json()["dev"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("`counter`, which calls, has its part of it (budgets.memory)"), "{reason}");
    assert_eq!(host.get("/counting/1").await.text(), "0", "{}", host.told());
    // It is given back.
    eventually(&host, async || used(&host).await <= before).await;
}

/// Memory of all services.
async fn used(host: &Host) -> u64 {
    metric(host, "hotbay_budget_used", &["budget=\"budget_memory\""]).await
}

/// Calls that wait for their turn.
async fn waiting(host: &Host, service: &str) -> u64 {
    let told = host.admin().get(&format!("/v1/services/{service}")).await.json();
    let limits = told["serving"]["limits"].as_array().expect("limits").clone();
    limits.iter().find(|limit| limit["limit"] == "queue").and_then(|limit| limit["now"].as_u64()).expect("a queue")
}

/// Guards the order in `Caller::call`, and the queue in `admitted`: what waits for its turn holds its parameters meanwhile, at its
/// caller's cost, and is answered; what finds the queue full is refused as docs/calling-services.md says.
#[tokio::test]
async fn a_call_waits_for_its_turn_with_its_parameters_and_is_answered() {
    let gate = Gate::shut().await;
    let limits = "concurrency = 1\nqueue = 1\nqueue_wait = \"120s\"\ndeadline = \"120s\"\n";
    let settings = format!("[grants]\n{}[limits]\n{limits}", gate.grants());
    let build = guests::fixture("circling");
    let host = weighing(Scale { pages: 5, build: Some(&build), settings: &settings, ..SCALE }, "").await;
    let others = async {
        gate.asked().await;
        let before = used(&host).await;
        let third = async {
            eventually(&host, async || waiting(&host, "scale").await > 0).await;
            let held = used(&host).await - before;
            let third = host.get("/counting/1").await;
            gate.open();
            (held, third)
        };
        tokio::join!(host.get("/counting/1"), third)
    };
    let (first, (second, (held, third))) = tokio::join!(host.get("/counting/1"), others);
    for answer in [&first, &second] {
        assert_eq!((answer.status, answer.text().as_str()), (200, "5"), "{}\n{}", answer.text(), host.told());
    }
    // Five pages, at 32 bytes and more for each of their bytes, beside the memories of its callers.
    assert!(held > 10 << 20, "{held}");
    assert_eq!((third.status, third.json()["provider"].as_str()), (503, Some("counter")), "{}", third.text());
    assert!(reason(&third).contains("limits.queue"), "{}", third.text());
    assert_eq!((faults(&host, "counter", "callee").await, faults(&host, "scale", "callee").await), (1, 0));
}
