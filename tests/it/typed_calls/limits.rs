//! Who pays for a call: the limits of the provider hold for it, and what goes wrong there harms the one request.

use super::{CALLS_COUNTER, REUSE, Text, counted, counting, eventually, published, reason};
use crate::outbound::{asking, said};
use hotbay_tests::{Host, How, guests, host::ask};

/// Counts the calls of its instance; fails at 7 as `how` says.
fn failing(how: &str) -> Text {
    Text::does("counter", &format!("(if (i32.eq (local.get 0) (i32.const 7)) (then {how})) (global.get $calls)"))
}

const TRAP: &str = "(unreachable)";
const LOOP: &str = "(loop (br 0))";
/// Traps where the memory does not grow.
const GROW: &str = "(if (i32.eq (memory.grow (i32.const 900)) (i32.const -1)) (then (unreachable)))";
/// Half a second and more.
const COMPUTE: &str = "(loop (local.set $n (i64.add (local.get $n) (i64.const 1)))
    (br_if 0 (i64.lt_u (local.get $n) (i64.const 1500000000)))) (i32.add (local.get 0) (i32.const MORE))";

async fn metric(host: &Host, line: &str) -> u64 {
    let text = host.admin().get("/metrics").await.text();
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("{line}\n{text}"))
}

/// The last number of the path is how often it calls, with 1, 2, 3…: the seventh call is the one that fails.
#[tokio::test]
async fn a_provider_that_fails_fails_the_one_request_and_is_counted_on_both_sides() {
    for (how, named) in [(TRAP, "unreachable"), (LOOP, "200ms (limits.cpu)"), (GROW, "32MiB (limits.memory)")] {
        let settings = format!("{REUSE}[limits]\ncpu = \"200ms\"\nmemory = \"32MiB\"\n[rollback]\nwindow = \"0s\"\n");
        let host = counting(&failing(how), &settings).await;
        assert_eq!(host.get("/counting/6").await.text(), "21");
        let answer = host.get("/counting/7").await;
        assert_eq!((answer.status, answer.json()["provider"].as_str()), (500, Some("counter")), "{}", answer.text());
        let reason = reason(&answer);
        assert!(reason.contains("`shop:counter/counter@0.1.0#next` of the service `counter` failed"), "{reason}");
        assert!(reason.contains(named), "{named}: {reason}");
        host.log().wait_request(answer.request_id()).await;
        assert_eq!(host.get("/counting/6").await.text(), "21", "the instance that failed is gone, and what it counted");
        assert_eq!(metric(&host, "hotbay_typed_calls_total{callee=\"counter\",caller=\"counting\",result=\"failed\"}").await, 1);
        assert_eq!(
            metric(&host, "hotbay_typed_calls_total{callee=\"counter\",caller=\"counting\",result=\"answered\"}").await,
            18
        );
        let of = |service: &str, wasm: &[u8], fault: &str| {
            format!("hotbay_faults_total{{fault=\"{fault}\",revision=\"{}\",service=\"{service}\"}}", guests::digest(wasm))
        };
        assert_eq!(metric(&host, &of("counting", &guests::fixture("counting"), "callee")).await, 1);
        let kind = if how == TRAP {
            "trap"
        } else if how == LOOP {
            "cpu"
        } else {
            "memory"
        };
        assert_eq!(metric(&host, &of("counter", &failing(how).wasm(), kind)).await, 1);
    }
}

/// In production nobody reads of a client what a guest of another service did.
#[tokio::test]
async fn a_client_reads_which_service_failed_and_no_more() {
    let host = Host::builder()
        .service("counting", &guests::fixture("counting"))
        .settings("counting", CALLS_COUNTER)
        .service("counter", &failing(TRAP).wasm())
        .start()
        .await;
    let answer = host.get("/counting/7").await;
    assert_eq!(answer.json()["detail"], "A service that it calls failed.");
    assert!(!answer.text().contains("unreachable") && answer.json()["dev"].is_null(), "{}", answer.text());
}

/// Guards `Meter::poll` in host/src/runtime/running.rs: without it the caller would be ended for what the provider computes. And
/// guards the `Arc<Revision>` that a call holds: the one in flight ends on the revision that it began on.
#[tokio::test]
async fn a_call_in_flight_ends_on_its_revision_at_the_providers_cost() {
    let computes = |more: &str| Text::does("counter", &COMPUTE.replace("MORE", more)).wasm();
    let host = Host::builder()
        .service("counting", &guests::fixture("counting"))
        .settings("counting", &format!("{CALLS_COUNTER}[limits]\ncpu = \"50ms\"\ndeadline = \"60s\"\n"))
        .service("counter", &Text::adds("counter", 100).wasm())
        .settings("counter", "[limits]\ncpu = \"60s\"\ndeadline = \"60s\"\n")
        .dev()
        .start()
        .await;
    // What is swapped in below has been compiled by then.
    let old = host.swap("counter", &computes("1"), How::Rename).await;
    let asking = async { host.get("/counting/1").await };
    let swapping = async {
        let in_flight = format!("hotbay_requests_in_flight{{revision=\"{old}\",service=\"counter\"}}");
        eventually(&host, async || metric(&host, &in_flight).await > 0).await;
        host.swap("counter", &Text::adds("counter", 100).wasm(), How::Rename).await;
        let other = counted(&host).await;
        (other, host.events().iter().any(|event| event.is("counter", "retired") && event.revision == old))
    };
    let (answer, (other, retired)) = tokio::join!(asking, swapping);
    assert_eq!((answer.status, answer.text().as_str()), (200, "2"), "{}", host.told());
    assert_eq!((other.as_str(), retired), ("101", false), "the next call is on the new one while the old one finishes");
    host.wait_retired("counter", &old).await;
    assert_eq!(published(&host, "counting"), 1);
}

/// Guards the permit in `Caller::call`.
#[tokio::test]
async fn the_concurrency_of_the_provider_holds_for_calls() {
    let settings = "[limits]\nconcurrency = 1\nqueue = 0\ncpu = \"60s\"\ndeadline = \"60s\"\n";
    let host = counting(&Text::does("counter", &COMPUTE.replace("MORE", "1")), settings).await;
    let answers = futures::future::join_all((0..4).map(|_| host.get("/counting/1"))).await;
    let busy: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(answers.iter().any(|answer| answer.status == 200) && !busy.is_empty(), "{}", host.told());
    for answer in busy {
        assert_eq!(answer.json()["provider"], "counter");
        assert!(reason(answer).contains("limits.concurrency"), "{}", answer.text());
    }
    assert!(metric(&host, "hotbay_typed_calls_total{callee=\"counter\",caller=\"counting\",result=\"refused\"}").await > 0);
}

/// The deadline of the provider ends a call that waits, whatever the caller's own is.
#[tokio::test]
async fn the_deadline_of_the_provider_holds_for_calls() {
    let settings = "[limits]\ncpu = \"60s\"\ndeadline = \"100ms\"\n";
    let host = counting(&failing(LOOP), settings).await;
    let answer = host.get("/counting/7").await;
    assert_eq!(answer.status, 500);
    assert!(reason(&answer).contains("did not return within 100ms (limits.deadline)"), "{}", answer.text());
}

/// `calls.depth` calls one behind the other are served, one more is not.
#[tokio::test]
async fn a_chain_has_a_limit() {
    let host = Host::builder().service("counting", &guests::fixture("counting")).settings("counting", CALLS_COUNTER);
    let mut host = host.config("[calls]\ndepth = 4\n").dev();
    let names = ["counter", "s3", "s4", "s5", "s6"];
    for pair in names.windows(2) {
        let grant = format!("[grants]\ncalls = [\"{}\"]\n", pair[1]);
        host = host.service(pair[0], &Text::relays(pair[0], pair[1]).wasm()).settings(pair[0], &grant);
    }
    let host = host.service("s6", &Text::adds("s6", 1).wasm()).start().await;
    let answer = host.get("/counting/1").await;
    assert_eq!((answer.status, answer.json()["chain"].as_str()), (508, Some("counting → counter → s3 → s4 → s5 → s6")));
    assert!(reason(&answer).contains("more than 4 calls one behind the other (calls.depth)"), "{}", answer.text());
    host.swap("s5", &Text::adds("s5", 1).wasm(), How::Rename).await;
    assert_eq!(counted(&host).await, "5");
}

/// Guards the errand that an instance takes over from its caller, whichever way it was called.
#[tokio::test]
async fn calls_by_http_and_by_wit_are_one_chain_and_in_one_picture() {
    let callers = |config: &str| {
        let grants = "[grants]\ncalls = [\"counting\"]\n";
        let host = Host::builder().config(config).service("fetcher", &guests::fixture("fetcher")).settings("fetcher", grants);
        host.service("counting", &guests::fixture("counting")).settings("counting", CALLS_COUNTER)
    };
    let ask_both =
        async |host: &Host, n: u32| said(asking(host, "fetcher", "counting.internal").header("x-path", &format!("/{n}"))).await;
    let deep = callers("[calls]\ndepth = 1\n").service("counter", &Text::adds("counter", 1).wasm()).start().await;
    let told = ask_both(&deep, 1).await;
    assert_eq!(told["status"], 508, "{told}");
    assert!(told["body"].as_str().is_some_and(|body| body.contains("fetcher → counting → counter")), "{told}");

    let host = callers("").own_state().service("counter", &failing(TRAP).wasm()).start().await;
    assert_eq!(ask_both(&host, 2).await["status"], 200);
    let request = asking(&host, "fetcher", "counting.internal").header("x-path", "/7").header("x-request-id", "the-one");
    assert_eq!(said(request).await["status"], 500);
    let line = host.log().wait("a line on the call that failed", |event| event.target == "hotbay::calls").await;
    assert_eq!(
        (line.request_id.as_str(), line.service.as_str(), &line.fields["caller"]),
        ("the-one", "counter", &"counting".into())
    );
    let ended = ask(&host, ["ps", "--graph"]).await;
    let rows: Vec<Vec<_>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let wanted = [
        &["CALLER", "->", "CALLEE", "HTTP", "FAILED", "WIT", "FAILED"][..],
        &["counting", "->", "counter", "0", "0", "9", "1", "shop:counter/counter@0.1.0"],
        &["fetcher", "->", "counting", "2", "1", "0", "0"],
    ];
    assert_eq!(rows, wanted, "{}", ended.stdout);
}
