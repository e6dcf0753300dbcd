//! Services that would call each other in a circle: the build that closes it is rejected, in whatever order they come.

use super::{CALLS_COUNTER, Text, counted, counting, published, reason, told};
use hotbay_tests::{Event, Host, How, guests};

const CALLS_OTHER: &str = "[grants]\ncalls = [\"other\"]\n";
const CALLS_ONE: &str = "[grants]\ncalls = [\"one\"]\n";

fn rejected(host: &Host) -> Vec<Event> {
    host.events().into_iter().filter(|event| event.state == "rejected").collect()
}

/// Guards `agree` in host/src/registry/links.rs and, after the restart, `Lacking::yields` in host/src/deploy/awaited.rs: those that
/// were there before do not pay for it.
#[tokio::test]
async fn the_build_that_closes_a_circle_is_rejected_and_all_go_on_after_a_restart_too() {
    let host = counting(&Text::adds("counter", 1), CALLS_OTHER).await;
    host.place_settings("other", CALLS_COUNTER);
    host.swap("other", &Text::relays("other", "counter").wasm(), How::Rename).await;
    let closing = Text::relays("counter", "other").wasm();
    let answer = host.admin().put("/v1/services/counter", closing.clone()).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("counter → other → counter"), "{}", answer.text());
    assert_eq!(std::fs::read(host.build_path("counter")).expect("the build"), Text::adds("counter", 1).wasm());

    let mark = host.mark();
    host.place("counter", &closing, How::Rename);
    let reject = host.since(mark).wait_rejected("counter").await;
    for named in [
        "would close a circle of calls: counter → other → counter",
        "`counter` calls `shop:other/other@0.1.0` of `other`",
        "`other` calls `shop:counter/counter@0.1.0` of `counter`",
        "let one of them do without",
        "docs/calling-services.md",
    ] {
        assert!(told(&reject).contains(named), "{named}: {}", told(&reject));
    }
    assert_eq!(counted(&host).await, "2", "the last good one serves");

    let host = host.stop().await.start().await;
    assert_eq!(counted(&host).await, "2", "{}", host.told());
    let rejects = rejected(&host);
    assert!(rejects.iter().all(|reject| reject.service == "counter"), "{}", host.told());
    assert!(rejects[0].reason.contains("counter → other → counter"), "{}", rejects[0].reason);
    assert_eq!(published(&host, "other"), 1, "{}", host.told());

    // One of them does without: the one that waited comes by itself.
    host.swap("other", &Text::adds("other", 5).wasm(), How::Rename).await;
    host.wait_published("counter", &guests::digest(&closing)).await;
    assert_eq!(counted(&host).await, "7");
}

/// Guards `Registry::check_circle` in host/src/registry/circle.rs: each would wait for the other for ever, and be told no more than
/// that.
#[tokio::test]
async fn services_that_only_wait_for_each_other_are_told_of_the_circle() {
    let host = Host::builder().start().await;
    host.place_settings("one", CALLS_OTHER);
    host.place("one", &Text::relays("one", "other").wasm(), How::Rename);
    let first = host.wait_rejected("one").await;
    assert!(first.reason.contains("waits for a good revision of `other`"), "{}", first.reason);
    host.place_settings("other", CALLS_ONE);
    host.place("other", &Text::relays("other", "one").wasm(), How::Rename);
    let told = async |host: &Host| {
        for (service, chain) in [("other", "other → one → other"), ("one", "one → other → one")] {
            let is_it = |event: &Event| event.is(service, "rejected") && event.reason.contains(chain);
            host.log().wait(format!("the circle of {service}"), is_it).await;
        }
    };
    told(&host).await;

    let host = host.stop().await.start().await;
    told(&host).await;
    assert_eq!(rejected(&host).len(), 2, "nobody is told twice: {}", host.told());

    host.swap("one", &Text::adds("one", 1).wasm(), How::Rename).await;
    host.wait_for("other", "published").await;
}

/// Two new services lead from a service that is good to one that is: of the four only what closes the circle stays out.
#[tokio::test]
async fn of_a_long_circle_at_the_start_only_what_is_new_is_rejected() {
    let host = Host::builder()
        .service("counting", &guests::fixture("counting"))
        .settings("counting", CALLS_COUNTER)
        .service("counter", &Text::relays("counter", "one").wasm())
        .settings("counter", CALLS_ONE)
        .service("one", &Text::adds("one", 1).wasm())
        .settings("one", CALLS_OTHER)
        .start()
        .await;
    assert_eq!(counted(&host).await, "3");
    let builder = host.stop().await;
    let builder = builder.service("one", &Text::relays("one", "other").wasm());
    let builder = builder.service("other", &Text::relays("other", "counter").wasm()).settings("other", CALLS_COUNTER);
    let host = builder.start().await;
    assert_eq!(counted(&host).await, "3", "{}", host.told());
    host.wait_for("other", "published").await;
    let of_one = host.log().wait_rejected("one").await;
    assert!(of_one.reason.contains("one → other → counter → one"), "{}", of_one.reason);
    for service in ["counting", "counter"] {
        assert!(!host.events().iter().any(|event| event.is(service, "rejected")), "{service}: {}", host.told());
    }
}

/// Guards `Link::may_call` in host/src/capabilities/calls/errand.rs, for calls of functions: a circle of which the imports tell
/// nothing, since one of its calls is by HTTP.
#[tokio::test]
async fn a_circle_that_a_call_by_http_closes_is_refused_and_named() {
    let host = Host::builder()
        .service("counting", &guests::fixture("counting"))
        .settings("counting", CALLS_COUNTER)
        .service("counter", &guests::fixture("circling"))
        .settings("counter", "[grants]\ncalls = [\"counting\"]\n")
        .dev()
        .start()
        .await;
    assert_eq!(counted(&host).await, "2");
    let answer = host.get("/counter").await;
    assert_eq!(
        (answer.status, answer.json()["chain"].as_str()),
        (508, Some("counter → counting → counter")),
        "{}",
        answer.text()
    );
    assert!(reason(&answer).contains("would close a circle: counter → counting → counter"), "{}", answer.text());
}
