//! What a new revision is asked before it is published, and that one which does not get ready replaces nothing.

use hotbay_tests::{Event, Host, How, guests};
use std::time::{Duration, SystemTime};

const READY: &str = "[probe]\npath = \"/ready\"\n";

/// A host whose service `probe` serves its first revision.
async fn serving() -> Host {
    Host::builder().service("probe", &guests::fixture("probe")).start().await
}

/// Places settings that the revision in the bay does not satisfy, and requires a reject that says what it says.
async fn assert_unready(host: &Host, settings: &str, named: &[&str], remedy: &str) -> Event {
    let mark = host.mark();
    host.place_settings("probe", settings);
    let rejected = host.since(mark).wait_rejected("probe").await;
    for name in named {
        assert!(rejected.reason.contains(name), "{settings:?}: {name:?} in {:?}", rejected.reason);
    }
    assert!(rejected.remedy.contains(remedy), "{settings:?}: {remedy:?} in {:?}", rejected.remedy);
    assert_eq!(host.get("/probe/marker").await.status, 200, "the last good revision serves\n{}", host.told());
    rejected
}

/// Guards `probe::ready` in host/src/runtime/probe.rs.
#[tokio::test]
async fn a_revision_that_gets_ready_is_published_then() {
    let host = Host::builder().settings("slow", "[probe]\npath = \"/\"\ntimeout = \"60s\"\n").start().await;
    let (wasm, at) = guests::ready_in(Duration::from_secs(2));
    host.swap("slow", &wasm, How::Rename).await;
    assert!(SystemTime::now() >= at, "published before it was ready\n{}", host.told());
    assert_eq!(host.get("/slow").await.status, 200);
}

#[tokio::test]
async fn a_command_that_never_gets_ready_is_rejected_with_its_words() {
    let (wasm, _) = guests::ready_in(Duration::from_secs(3600));
    let settings = "[probe]\npath = \"/health?deep=1\"\ntimeout = \"1s\"\n";
    let host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    host.place_settings("slow", settings);
    let mark = host.mark();
    host.place("slow", &wasm, How::Rename);
    let is_it = |event: &Event| event.is("slow", "rejected") && event.revision == guests::digest(&wasm);
    let rejected = host.since(mark).wait("a reject of the build", is_it).await;
    for named in ["`GET /health?deep=1`", "with 200 within 1s", "attempts was answered with 503", "prices is still being read"] {
        assert!(rejected.reason.contains(named), "{named:?} in {:?}", rejected.reason);
    }
    assert_eq!(host.get("/slow").await.status, 503, "it never was good");
}

#[tokio::test]
async fn a_revision_that_answers_otherwise_is_rejected_and_the_old_one_serves() {
    let host = serving().await;
    let wrong = "[probe]\npath = \"/print\"\nexpect = 204\ntimeout = \"500ms\"\n";
    let named =
        ["`GET /print`", "with 204 within 500ms (probe.timeout)", "was answered with 200", "words on stdout | words on stderr"];
    let rejected = assert_unready(&host, wrong, &named, "probe.expect").await;
    assert_eq!(rejected.revision, guests::digest(&guests::fixture("probe")));
    let trap = "[probe]\npath = \"/trap\"\ntimeout = \"500ms\"\n";
    assert_unready(&host, trap, &["the guest trapped", "the probe was asked to trap"], "probe.path").await;
    let silent = "[probe]\npath = \"/no-response\"\ntimeout = \"500ms\"\n";
    assert_unready(&host, silent, &["without setting a response"], "probe.path").await;
    let hang = "[probe]\npath = \"/sleep?ms=600000\"\ntimeout = \"500ms\"\n";
    assert_unready(&host, hang, &["the only attempt had not ended"], "probe.timeout").await;
    let stream = "[probe]\npath = \"/drip?count=1000&ms=1000\"\ntimeout = \"500ms\"\n";
    assert_unready(&host, stream, &["had not ended"], "probe.timeout").await;
    let late = "[probe]\npath = \"/trap-late\"\ntimeout = \"500ms\"\n";
    assert_unready(&host, late, &["asked to trap in its body"], "probe.path").await;
    let mark = host.mark();
    host.place_settings("probe", "[probe]\npath = \"/status?code=404\"\nexpect = 404\n");
    host.since(mark).wait_for("probe", "published").await;
}

/// Guards `Output::tail`: the line has no end, and the guest is still at work.
#[tokio::test]
async fn a_revision_that_hangs_is_rejected_with_what_it_wrote_last() {
    let wasm = guests::text("hang-with-words");
    let host = Host::builder()
        .service("hang", &wasm)
        .settings("hang", "[probe]\npath = \"/\"\ntimeout = \"500ms\"\n")
        .service("spin", &wasm)
        .settings("spin", "[limits]\ncpu = \"200ms\"\n[probe]\npath = \"/\"\ntimeout = \"1s\"\n")
        .start()
        .await;
    let rejected = host.wait_rejected("hang").await;
    for named in ["the only attempt had not ended", "waiting for a table that never comes"] {
        assert!(rejected.reason.contains(named), "{named:?} in {:?}", rejected.reason);
    }
    let rejected = host.wait_rejected("spin").await;
    assert!(rejected.reason.contains("waiting for a table that never comes"), "{}", rejected.reason);
}

/// Guards `Cold` in host/src/runtime/revision.rs.
#[tokio::test]
async fn a_start_without_an_end_is_rejected_with_its_words() {
    let wasm = guests::text("start-with-words");
    let host = Host::builder()
        .service("hang", &wasm)
        .settings("hang", "[limits]\ndeadline = \"300ms\"\n")
        .service("spin", &wasm)
        .settings("spin", "[limits]\ncpu = \"300ms\"\n")
        .start()
        .await;
    for (name, limit) in [("hang", "300ms (limits.deadline)"), ("spin", "300ms (limits.cpu)")] {
        let rejected = host.wait_rejected(name).await;
        for named in ["does not start", limit, "reading a table without an end"] {
            assert!(rejected.reason.contains(named), "{name}: {named:?} in {:?}", rejected.reason);
        }
    }
}

#[tokio::test]
async fn the_instance_that_was_probed_is_kept_where_instances_are() {
    let settings = "[instances]\npolicy = \"reuse\"\n[probe]\npath = \"/count\"\n";
    let host = Host::builder().service("probe", &guests::fixture("probe")).settings("probe", settings).start().await;
    assert_eq!(host.get("/probe/count").await.text(), "2", "the probe was the first request of this instance");
}

#[tokio::test]
async fn a_library_cannot_be_probed() {
    let host = Host::builder().service("stock", &guests::fixture("library")).settings("stock", READY).start().await;
    let rejected = host.wait_rejected("stock").await;
    assert!(rejected.reason.contains("[probe]") && rejected.reason.contains("library"), "{}", rejected.reason);
    assert!(rejected.remedy.contains("take [probe] out"), "{}", rejected.remedy);
}

#[tokio::test]
async fn wrong_probes_name_key_and_line() {
    let host = serving().await;
    for (toml, named) in [
        ("[probe]\npath = \"ready\"\n", "must begin with `/`"),
        ("[probe]\npath = \"/a b\"\n", "percent-encode"),
        ("[probe]\npath = \"/\"\nexpect = 100\n", "200 to 599"),
        ("[probe]\npath = \"/\"\ntimeout = \"0s\"\n", "zero"),
        ("[probe]\npath = \"/\"\ntimeuot = \"1s\"\n", "unknown key `timeuot`"),
        ("[probe]\nexpect = 200\n", "path"),
    ] {
        assert_unready(&host, toml, &["probe.toml", "line", named], "").await;
    }
}
