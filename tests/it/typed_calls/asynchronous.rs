//! Calls to and from guests that use the component model's async support: `async func`, and both flavours mixed.

use super::{CALLS_COUNTER, REUSE, Text, counted, reason};
use hotbay_tests::{Host, guests};

const LATER: &str = "shop:both/later@0.1.0";
const COUNTER: &str = "shop:both/counter@0.1.0";

fn adds(interface: &str, ty: &'static str, more: u32) -> Text {
    Text { exports: vec![(interface.to_owned(), ty)], ..Text::adds("", more) }
}

/// The fixture `counting3`, a service that exports the async function and one that exports the plain one, both with an event loop.
pub(super) async fn both(later: &[u8], settings: &str) -> Host {
    // The other function gives it an event loop, whatever is called.
    with_plain(later, settings, &adds(COUNTER, "u32", 10).and("shop:both/other@0.1.0", "async")).await
}

async fn with_plain(later: &[u8], settings: &str, plain: &Text) -> Host {
    Host::builder()
        .service("counting3", &guests::fixture("counting3"))
        .settings("counting3", "[grants]\ncalls = [\"later\", \"plain\"]\n")
        .service("later", later)
        .settings("later", settings)
        .service("plain", &plain.wasm())
        .dev()
        .start()
        .await
}

/// Each kind of call that an event loop is on either side of.
#[tokio::test]
async fn async_functions_are_called_side_by_side_and_plain_ones_from_async_guests() {
    for settings in ["", REUSE] {
        let plain = adds(COUNTER, "u32", 10);
        let later = adds(LATER, "async", 1).wasm();
        for host in [both(&later, settings).await, with_plain(&later, settings, &plain).await] {
            for _ in 0..2 {
                let answer = host.get("/counting3/5").await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "18 15"), "{}\n{}", answer.text(), host.told());
            }
        }
    }
}

/// A service that exports to both kinds of caller has an event loop, and a caller without one calls it all the same.
#[tokio::test]
async fn a_plain_guest_calls_a_service_with_async_functions() {
    let counter = Text::adds("counter", 1).and(LATER, "async");
    let host = Host::builder()
        .service("counting", &guests::fixture("counting"))
        .settings("counting", CALLS_COUNTER)
        .service("counter", &counter.wasm())
        .service("counting3", &guests::fixture("counting3"))
        .settings("counting3", "[grants]\ncalls = [\"counter\", \"plain\"]\n")
        .service("plain", &adds(COUNTER, "async", 10).wasm())
        .dev()
        .start()
        .await;
    assert_eq!(counted(&host).await, "2");
    let rejected = host.wait_rejected("counting3").await;
    assert!(rejected.reason.contains("`next: async func(by: u32) -> u32` is exported where"), "{}", rejected.reason);
}

#[tokio::test]
async fn an_async_function_that_fails_ends_the_request() {
    let trap = Text { body: "(unreachable)".to_owned(), ..adds(LATER, "async", 1) };
    let host = both(&trap.wasm(), "[rollback]\nwindow = \"0s\"\n").await;
    let answer = host.get("/counting3/5").await;
    assert_eq!((answer.status, answer.json()["provider"].as_str()), (500, Some("later")), "{}", answer.text());
    assert!(reason(&answer).contains("unreachable"), "{}", answer.text());
    let endless = Text { body: "(loop (br 0)) (unreachable)".to_owned(), ..adds(LATER, "async", 1) };
    let host = both(&endless.wasm(), "[limits]\ncpu = \"100ms\"\n").await;
    let answer = host.get("/counting3/5").await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(reason(&answer).contains("100ms (limits.cpu)"), "{}", answer.text());
}

/// Guards the bound in `Caller::hold`, host/src/runtime/typed_call.rs.
#[tokio::test]
async fn an_instance_has_32_calls_under_way_and_not_one_more() {
    let host = both(&adds(LATER, "async", 1).wasm(), "").await;
    for _ in 0..2 {
        let most = host.get("/counting3/many/32").await;
        assert_eq!((most.status, most.text()), (200, (32 * 33).to_string()), "{}", host.told());
        let more = host.get("/counting3/many/33").await;
        assert_eq!((more.status, more.json()["provider"].as_str()), (503, Some("later")), "{}", more.text());
        let told = "`counting3` that calls has 32 calls of functions under way, which is the most";
        assert!(reason(&more).contains(told), "{}", more.text());
    }
}
