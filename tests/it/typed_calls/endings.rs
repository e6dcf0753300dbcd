//! How a call ends: where its guest goes on after it has returned, where it hangs, and where its caller leaves before.

use super::{CALLS_COUNTER, REUSE, Text, asynchronous::both, counting, eventually, interface};
use hotbay_tests::{Gate, Host, How, guests};
use tokio::io::AsyncWriteExt;

const LATER: &str = "shop:both/later@0.1.0";
/// Nobody goes back from what fails here.
pub(super) const STAYS: &str = "[rollback]\nwindow = \"0s\"\n";
const ENDLESS: &str = "(loop (br 0)) (unreachable)";

/// An async function that returns at once, 1000 more where its instance is at work already, and then goes on for 100 turns, of which
/// `after` is the last.
fn lingering(after: &str) -> Vec<u8> {
    let text = format!(
        "(component
            (core module $module
                (import \"\" \"return\" (func $return (param i32)))
                (global $at_work (mut i32) (i32.const 0))
                (global $turns (mut i32) (i32.const 0))
                (func (export \"next\") (param i32) (result i32)
                    (call $return (i32.add
                        (i32.add (local.get 0) (i32.const 1)) (i32.mul (global.get $at_work) (i32.const 1000))))
                    (global.set $at_work (i32.const 1))
                    (i32.const 1))
                (func (export \"on\") (param i32 i32 i32) (result i32)
                    (global.set $turns (i32.add (global.get $turns) (i32.const 1)))
                    (if (i32.lt_u (global.get $turns) (i32.const 100)) (then (return (i32.const 1))))
                    {after}
                    (global.set $turns (i32.const 0))
                    (global.set $at_work (i32.const 0))
                    (i32.const 0)))
            (core func $return (canon task.return (result u32)))
            (core instance $guest (instantiate $module (with \"\" (instance (export \"return\" (func $return))))))
            (alias core export $guest \"on\" (core func $on))
            (func $next async (param \"by\" u32) (result u32) (canon lift (core func $guest \"next\") async (callback $on)))
            (instance $exported (export \"next\" (func $next)))
            (export \"{LATER}\" (instance $exported)))"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

pub(super) async fn metric(host: &Host, name: &str, labels: &[&str]) -> u64 {
    let text = host.admin().get("/metrics").await.text();
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && labels.iter().all(|one| line.contains(one)));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

pub(super) async fn faults(host: &Host, service: &str, fault: &str) -> u64 {
    let (service, fault) = (format!("service=\"{service}\""), format!("fault=\"{fault}\""));
    metric(host, "hotbay_faults_total", &[&service, &fault]).await
}

pub(super) async fn in_flight(host: &Host, service: &str) -> u64 {
    metric(host, "hotbay_requests_in_flight", &[&format!("service=\"{service}\"")]).await
}

async fn ended(host: &Host, callee: &str, result: &str) -> u64 {
    let labels = [format!("callee=\"{callee}\""), format!("result=\"{result}\"")];
    metric(host, "hotbay_typed_calls_total", &[&labels[0], &labels[1]]).await
}

/// Guards `call_concurrent` in host/src/runtime/callee.rs: the instance is given back when its task has ended, and not at its return.
#[tokio::test]
async fn what_a_guest_does_after_it_has_returned_is_done_to_its_end_and_beside_no_other_call() {
    let host = both(&lingering(""), REUSE).await;
    for _ in 0..20 {
        let answer = host.get("/counting3/5").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "18 15"), "{}", host.told());
    }
    for (after, fault) in [("(unreachable)", "trap"), ("(loop (br 0))", "cpu")] {
        for policy in ["", REUSE] {
            let host = both(&lingering(after), &format!("{policy}{STAYS}[limits]\ncpu = \"100ms\"\n")).await;
            let answer = host.get("/counting3/5").await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "18 15"), "it had returned: {}", host.told());
            eventually(&host, async || faults(&host, "later", fault).await >= 3).await;
            let line = host.log().wait("a line on what failed later", |event| event.target == "hotbay::calls").await;
            assert_eq!((line.service.as_str(), line.request_id.as_str()), ("later", answer.request_id()));
            eventually(&host, async || in_flight(&host, "later").await == 0).await;
        }
    }
}

/// Each flavour of a caller and a callee, with a callee that never returns.
async fn hanging(caller: &str, callee: &str) -> [(Host, &'static str, &'static str); 3] {
    let callee = format!("{STAYS}[limits]\ncpu = \"60s\"\nconcurrency = 1\nqueue = 0\n{callee}");
    let caller = format!("{STAYS}[limits]\n{caller}");
    let counting = async |counter: Text| {
        let host = Host::builder().service("counting", &guests::fixture("counting"));
        let host = host.settings("counting", &format!("{CALLS_COUNTER}{caller}")).service("counter", &counter.wasm());
        host.settings("counter", &callee).dev().start().await
    };
    let later = Text { exports: vec![(LATER.to_owned(), "async")], ..Text::does("", ENDLESS) };
    let host = Host::builder().service("counting3", &guests::fixture("counting3"));
    let host = host.settings("counting3", &format!("[grants]\ncalls = [\"later\", \"plain\"]\n{caller}"));
    let host = host.service("later", &later.wasm()).settings("later", &callee.replace("concurrency = 1", "concurrency = 3"));
    let plain = Text { exports: vec![("shop:both/counter@0.1.0".to_owned(), "u32")], ..Text::adds("", 10) };
    [
        (counting(Text::does("counter", ENDLESS)).await, "counting", "counter"),
        (counting(Text::does("counter", ENDLESS).and(LATER, "async")).await, "counting", "counter"),
        (host.service("plain", &plain.wasm()).dev().start().await, "counting3", "later"),
    ]
}

/// Guards `Fault::overdue` and `Stay` in host/src/runtime: whoever never returns is at fault, although its caller's time, which began
/// earlier, is over first.
#[tokio::test]
async fn a_provider_that_hangs_is_at_fault_and_its_caller_is_not() {
    for (host, caller, callee) in hanging("deadline = \"1s\"\n", "deadline = \"1s\"\n").await {
        let answer = host.get(&format!("/{caller}/1")).await;
        // Whichever of the two deadlines was faster, by a hair.
        assert!([500, 504].contains(&answer.status), "{}", answer.text());
        assert_eq!(answer.json()["provider"], callee, "{}", answer.text());
        assert!(answer.json()["dev"]["reason"].as_str().is_some_and(|reason| reason.contains("limits.deadline")));
        host.log().wait_request(answer.request_id()).await;
        assert_eq!((faults(&host, caller, "callee").await, faults(&host, caller, "deadline").await), (1, 0), "{caller}");
        eventually(&host, async || faults(&host, callee, "deadline").await > 0).await;
        // The room of the call is free again.
        eventually(&host, async || in_flight(&host, callee).await == 0).await;
    }
}

/// A callee that may take longer than its caller is not at fault for it, and is ended all the same.
#[tokio::test]
async fn a_callers_deadline_ends_its_call() {
    for (host, caller, callee) in hanging("deadline = \"200ms\"\n", "deadline = \"60s\"\n").await {
        let answer = host.get(&format!("/{caller}/1")).await;
        assert_eq!((answer.status, answer.json()["provider"].as_str()), (504, Some(callee)), "{}", answer.text());
        eventually(&host, async || in_flight(&host, callee).await == 0).await;
        assert!(ended(&host, callee, "abandoned").await > 0, "{caller}");
        assert_eq!((faults(&host, caller, "callee").await, faults(&host, callee, "deadline").await), (1, 0), "{caller}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_calls_made_for_it() {
    for (host, caller, callee) in hanging("deadline = \"60s\"\n", "deadline = \"60s\"\n").await {
        let mut client = host.socket().await;
        client.write_all(format!("GET /{caller}/1 HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.expect("a request");
        eventually(&host, async || in_flight(&host, callee).await > 0).await;
        drop(client);
        eventually(&host, async || in_flight(&host, callee).await == 0).await;
        assert!(ended(&host, callee, "abandoned").await > 0, "{caller}");
        assert_eq!((faults(&host, caller, "callee").await, faults(&host, callee, "deadline").await), (0, 0), "{caller}");
    }
}

/// Guards `Leaving` in host/src/registry/links.rs: requests of a revision that was replaced may still call.
#[tokio::test]
async fn a_provider_is_not_narrowed_under_requests_of_a_replaced_dependent() {
    let gate = Gate::shut().await;
    let settings = format!("[grants]\ncalls = [\"counter\"]\n{}[limits]\ndeadline = \"120s\"\n", gate.grants());
    let host = Host::builder()
        .config("drain = \"120s\"\n")
        .service("gated", &guests::fixture("gated"))
        .settings("gated", &settings)
        .service("counter", &Text::adds("counter", 10).wasm())
        .dev()
        .start()
        .await;
    let narrowing = async {
        gate.asked().await;
        // One that calls nobody.
        host.swap("gated", &guests::fixture("probe"), How::Rename).await;
        let mark = host.mark();
        let narrow = Text { exports: vec![("shop:counter/counter@0.2.0".to_owned(), "u32")], ..Text::adds("counter", 20) }.wasm();
        host.place("counter", &narrow, How::Rename);
        let rejected = host.since(mark).wait_rejected("counter").await;
        let told = "a revision of `gated` that still drains calls `shop:counter/counter@0.1.0`";
        assert!(rejected.reason.contains(told), "{}", rejected.reason);
        gate.open();
        host.since(mark).wait_published("counter", &guests::digest(&narrow)).await;
    };
    let (answer, ()) = tokio::join!(host.get("/gated"), narrowing);
    assert_eq!((answer.status, answer.text().as_str()), (200, "11"), "{}", host.told());
}

/// Guards the errand that an instance has before it starts, in `Revision::instance`.
#[tokio::test]
async fn what_an_instance_does_at_its_start_is_part_of_the_chain() {
    let text = format!(
        "(component
            (import \"{last}\" (instance $last (export \"next\" (func (param \"by\" u32) (result u32)))))
            (core func $lowered (canon lower (func $last \"next\")))
            (core module $module
                (import \"last\" \"next\" (func $call (param i32) (result i32)))
                (memory (export \"memory\") 1)
                (func (export \"next\") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
                (func (export \"start\") (result i32) (drop (call $call (i32.const 1))) (i32.const 64))
                (func (export \"stop\")))
            (core instance $guest (instantiate $module (with \"last\" (instance (export \"next\" (func $lowered))))))
            (alias core export $guest \"memory\" (core memory $memory))
            (func $start (result (result (error string))) (canon lift (core func $guest \"start\") (memory $memory)))
            (func $stop (canon lift (core func $guest \"stop\")))
            (instance $lifecycle (export \"start\" (func $start)) (export \"stop\" (func $stop)))
            (export \"hotbay:service/lifecycle@0.1.0\" (instance $lifecycle))
            (func $next (param \"by\" u32) (result u32) (canon lift (core func $guest \"next\")))
            (instance $counter (export \"next\" (func $next)))
            (export \"{counter}\" (instance $counter)))",
        last = interface("last"),
        counter = interface("counter")
    );
    let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let host = Host::builder()
        .config("[calls]\ndepth = 1\n")
        .service("counting", &guests::fixture("counting"))
        .settings("counting", &format!("{CALLS_COUNTER}{STAYS}"))
        .service("counter", &wasm)
        .settings("counter", &format!("[grants]\ncalls = [\"last\"]\n{REUSE}max_requests = 1\n{STAYS}"))
        .service("last", &Text::adds("last", 1).wasm())
        .dev()
        .start()
        .await;
    // The first call is on the instance that was started before there was any.
    assert_eq!(host.get("/counting/1").await.text(), "2", "{}", host.told());
    let answer = host.get("/counting/1").await;
    assert_eq!((answer.status, answer.json()["chain"].as_str()), (508, Some("counting → counter → last")), "{}", answer.text());
}

/// Guards `Room` in host/src/runtime/wit_text.rs.
#[tokio::test]
async fn a_build_of_very_many_functions_is_rejected() {
    let host = counting(&Text::adds("counter", 1), "").await;
    let functions: String = (0..20_000).map(|n| format!("(export \"f{n}\" (func))")).collect();
    let text = format!(
        "(component (import \"shop:many/many@0.1.0\" (instance {functions}))
            (instance $top) (export \"shop:top/top@0.1.0\" (instance $top)))"
    );
    let mark = host.mark();
    host.place("many", &wat::parse_str(&text).expect("many functions"), How::Rename);
    let rejected = host.since(mark).wait_rejected("many").await;
    assert!(rejected.reason.contains("more than 1 MiB of text"), "{}", rejected.reason);
}
