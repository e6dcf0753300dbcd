//! What keeps two services from being linked: types that differ, what cannot cross, and what is not granted.

use super::{CALLS_COUNTER, Text, counted, counting, interface, published, told};
use hotbay_tests::{Host, How, guests};

const NEXT: &str = "shop:counter/counter@0.2.0";

/// Guards `dependents` in host/src/registry/links.rs.
#[tokio::test]
async fn a_provider_that_serving_services_could_not_call_is_not_published() {
    let host = counting(&Text::adds("counter", 1), "").await;
    let mark = host.mark();
    host.place("counter", &Text::adds("counter", 5).taking("u64").wasm(), How::Rename);
    let rejected = host.since(mark).wait_rejected("counter").await;
    for named in ["`counting`", "shop:counter/counter@0.1.0", "next: func(by: u64) -> u32", "next: func(by: u32) -> u32"] {
        assert!(rejected.reason.contains(named), "{named}: {}", rejected.reason);
    }
    assert!(rejected.remedy.contains("beside the new one"), "{}", rejected.remedy);
    assert_eq!(counted(&host).await, "2", "the last good one serves");

    let mark = host.mark();
    host.place("counter", &Text::adds("other", 5).wasm(), How::Rename);
    let rejected = host.since(mark).wait_rejected("counter").await;
    assert!(rejected.reason.contains("not exported any more"), "{}", rejected.reason);

    // Both versions side by side are what dependents can move over by.
    let both = Text::adds("counter", 7).and(NEXT, "u64").wasm();
    host.swap("counter", &both, How::Rename).await;
    assert_eq!(counted(&host).await, "8");
    let mark = host.mark();
    let only_new = Text { exports: vec![(NEXT.to_owned(), "u64")], ..Text::adds("counter", 9) }.wasm();
    host.place("counter", &only_new, How::Rename);
    host.since(mark).wait_rejected("counter").await;
    host.remove("counting");
    host.since(mark).wait_published("counter", &guests::digest(&only_new)).await;
}

/// The same over the admin API: refused before anything is written.
#[tokio::test]
async fn an_order_that_serving_services_could_not_live_with_leaves_the_bay_as_it_was() {
    let host = counting(&Text::adds("counter", 1), "").await;
    let answer = host.admin().put("/v1/services/counter", Text::adds("counter", 5).taking("u64").wasm()).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("`counting` calls"), "{}", answer.text());
    assert_eq!(std::fs::read(host.build_path("counter")).expect("the build"), Text::adds("counter", 1).wasm());
    assert_eq!(counted(&host).await, "2");
}

/// Guards `imports` in host/src/registry/links.rs.
#[tokio::test]
async fn a_dependent_that_calls_by_other_types_is_rejected_until_the_provider_has_them() {
    let host = Host::builder().service("counter", &Text::adds("counter", 1).taking("u64").wasm()).start().await;
    host.place_settings("counting", CALLS_COUNTER);
    host.place("counting", &guests::fixture("counting"), How::Rename);
    let rejected = host.wait_rejected("counting").await;
    for named in
        ["`counter` exports with other types", "func(by: u64) -> u32` is exported where", "func(by: u32) -> u32` is called"]
    {
        assert!(rejected.reason.contains(named), "{named}: {}", rejected.reason);
    }
    host.swap("counter", &Text::adds("counter", 3).wasm(), How::Rename).await;
    host.wait_for("counting", "published").await;
    assert_eq!(counted(&host).await, "4");
}

/// A new build of a dependent that lacks something leaves the old one in place, and comes by itself once that is there.
#[tokio::test]
async fn a_dependent_stays_on_its_last_good_revision_while_a_provider_is_missing() {
    let host = Host::builder().service("relay", &Text::adds("relay", 1).wasm()).start().await;
    host.place_settings("counting", "[grants]\ncalls = [\"relay\", \"counter\"]\n");
    let relay = Text { exports: vec![(interface("counter"), "u32")], ..Text::adds("relay", 1) };
    host.swap("relay", &relay.wasm(), How::Rename).await;
    host.swap("counting", &guests::fixture("counting"), How::Rename).await;
    assert_eq!(counted(&host).await, "2");
    let mark = host.mark();
    let next = Text { exports: vec![(interface("counter"), "u32")], ..Text::relays("relay", "last") };
    host.place_settings("relay", "[grants]\ncalls = [\"last\"]\n");
    host.place("relay", &next.wasm(), How::Rename);
    let rejected = host.since(mark).wait_rejected("relay").await;
    assert!(rejected.reason.contains("waits for a good revision of `last`"), "{}", rejected.reason);
    assert_eq!(counted(&host).await, "2", "the one before");
    host.swap("last", &Text::adds("last", 10).wasm(), How::Rename).await;
    host.since(mark).wait_published("relay", &guests::digest(&next.wasm())).await;
    assert_eq!(counted(&host).await, "12");
    assert_eq!(published(&host, "counting"), 1, "{}", host.told());
    // Whichever comes first in the list is called, in whatever order they came.
    host.place_settings("counting", "[grants]\ncalls = [\"counter\", \"relay\"]\n");
    host.since(mark).wait_for("counting", "published").await;
    assert_eq!(counted(&host).await, "12");
    host.swap("counter", &Text::adds("counter", 100).wasm(), How::Rename).await;
    assert_eq!(counted(&host).await, "101");
}

/// Guards `missing` in host/src/registry/links.rs.
#[tokio::test]
async fn what_is_not_granted_is_not_linked_and_the_line_is_named() {
    let host = Host::builder()
        .service("counter", &Text::adds("counter", 1).wasm())
        .service("counting", &guests::fixture("counting"))
        .settings("counting", "[grants]\ncalls = [\"pricing\"]\n")
        .start()
        .await;
    let rejected = host.wait_rejected("counting").await;
    assert!(rejected.reason.contains("of the service `counter`, which is not granted"), "{}", rejected.reason);
    assert!(rejected.remedy.contains("`calls = [\"pricing\", \"counter\"]` to [grants]"), "{}", rejected.remedy);
    host.place_settings("counting", CALLS_COUNTER);
    host.wait_for("counting", "published").await;
    assert_eq!(counted(&host).await, "2");
}

/// Guards `Links::obstacle` in host/src/runtime/links.rs.
#[tokio::test]
async fn what_cannot_leave_its_store_is_rejected_naming_the_function() {
    let host = Host::builder().start().await;
    for (what, types, function, named) in [
        ("a resource", "(export \"file\" (type $file (sub resource)))", "(func (result (own $file)))", "a resource"),
        (
            "a resource inside",
            "(export \"file\" (type $file (sub resource)))",
            "(func (param \"x\" (list (borrow $file))))",
            "a resource",
        ),
        ("a stream", "", "(func (result (stream u8)))", "a stream"),
        ("a future", "", "(func (param \"x\" (option (future string))))", "a future"),
    ] {
        let text = format!(
            "(component (import \"shop:files/files@0.1.0\" (instance {types} (export \"plain\" (func)) (export \"open\" {function})))
                (instance $top) (export \"shop:top/top@0.1.0\" (instance $top)))"
        );
        let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mark = host.mark();
        host.place("files", &wasm, How::Rename);
        let rejected = host.since(mark).wait_rejected("files").await;
        let told = told(&rejected);
        assert!(told.contains("shop:files/files@0.1.0#open") && told.contains(named), "{what}: {told}");
    }
}
