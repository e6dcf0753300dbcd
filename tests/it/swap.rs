//! What happens to a service when its files change, one swap at a time. Swaps under load are in `swap_under_load`.

use bytes::Bytes;
use hotbay_tests::{Host, How, PATIENCE, guests};
use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

pub(crate) async fn probe(n: u32) -> Host {
    Host::builder().service("probe", &guests::revision("probe", n)).start().await
}

/// Asks once and requires an answer of revision `n`, whole.
pub(crate) async fn assert_serves(host: &Host, n: u32) {
    let answer = host.get("/probe/marker").await;
    let marker = guests::marker(n);
    assert_eq!((answer.status, answer.text()), (200, format!("{marker} /marker {marker}")), "{}", host.told());
    assert_eq!(answer.revision(), guests::digest(&guests::revision("probe", n)));
}

/// Asks on and on while `during` runs; every answer must be a 200. Returns how many there were.
pub(crate) async fn without_a_failure<T>(host: &Host, during: impl Future<Output = T>) -> usize {
    let mut connection = host.connect().await;
    let mut during = std::pin::pin!(during);
    let mut answers = 0;
    loop {
        tokio::select! {
            biased;
            _ = &mut during => return answers,
            answer = connection.get("/probe/marker") => assert_eq!(answer.status, 200, "{}\n{}", answer.text(), host.told()),
        }
        answers += 1;
    }
}

/// Lets a number of requests pass: a stretch of time in which the host does something, without sleeping.
pub(crate) async fn some_requests(host: &Host, count: usize) {
    let mut connection = host.connect().await;
    for _ in 0..count {
        assert_eq!(connection.get("/probe/marker").await.status, 200, "{}", host.told());
    }
}

#[tokio::test]
async fn every_way_of_placing_a_file_is_a_swap_in_all_its_states() {
    let host = probe(0).await;
    let mut before = guests::digest(&guests::revision("probe", 0));
    for (n, how) in (1..).zip(How::ALL.into_iter().cycle().take(6)) {
        let mark = host.mark();
        let revision = host.swap("probe", &guests::revision("probe", n), how).await;
        assert_serves(&host, n).await;
        host.since(mark).wait_retired("probe", &before).await;
        let told = host.since(mark);
        let states = |of: &str| -> Vec<String> {
            told.events()
                .into_iter()
                .filter(|event| event.service == "probe" && event.revision == of && !event.state.is_empty())
                .map(|event| event.state)
                .collect()
        };
        assert_eq!(states(&revision), ["detected", "reading", "compiling", "linking", "warming", "published"], "{how:?}");
        assert_eq!(states(&before), ["draining", "retired"], "{how:?}");
        before = revision;
    }
}

#[tokio::test]
async fn a_new_service_is_there_once_it_is_published() {
    let host = Host::builder().start().await;
    assert!(host.table().await.contains("no service yet"));
    assert_eq!(host.get("/probe").await.status, 404);
    host.swap("probe", &guests::revision("probe", 1), How::Rename).await;
    assert_serves(&host, 1).await;
}

/// Guards the order in `Swaps::publish`: the new revision serves before the old one drains.
#[tokio::test]
async fn a_request_ends_on_the_revision_that_it_began_on() {
    let host = probe(1).await;
    let (request, mut body) = host.request("POST", "/probe/echo").writing();
    // The guest gives its head at once and then back what it is sent, until we end it.
    let mut running = request.open().await;
    assert_eq!(running.headers["x-hotbay-revision"], guests::digest(&guests::revision("probe", 1)).as_str());
    let old = guests::digest(&guests::revision("probe", 1));
    host.swap("probe", &guests::revision("probe", 2), How::Rename).await;
    assert_serves(&host, 2).await;
    host.log().wait("the old one drains", |event| event.is("probe", "draining") && event.revision == old).await;
    body.send_data(Bytes::from_static(b"still here")).await.expect("the old revision reads");
    assert_eq!(running.chunk().await.expect("an open body"), Some(Bytes::from_static(b"still here")));
    assert!(!host.events().iter().any(|event| event.is("probe", "retired")), "it is in use: {}", host.told());
    drop(body);
    assert_eq!(running.chunk().await.expect("a whole body"), None);
    host.wait_retired("probe", &old).await;
}

/// Guards the deadline in `Drained::wait` in host/src/runtime/revision.rs.
#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let host = Host::builder().service("probe", &guests::revision("probe", 1)).config("drain = \"300ms\"\n").start().await;
    let mut stuck = host.get_open("/probe/drip?count=1000&ms=100").await;
    let old = guests::digest(&guests::revision("probe", 1));
    host.swap("probe", &guests::revision("probe", 2), How::Rename).await;
    let retired = host.wait_retired("probe", &old).await;
    assert!(retired.reason.contains("drain deadline"), "{retired:?}");
    assert!(retired.took >= Duration::from_millis(300), "{:?}", retired.took);
    let broken = async {
        while stuck.chunk().await?.is_some() {}
        anyhow::Ok(())
    };
    assert!(broken.await.is_err(), "a body that is cut must not look whole");
    assert_serves(&host, 2).await;
}

/// Guards `REMOVAL_GRACE` in host/src/deploy/swap.rs.
#[tokio::test]
async fn a_removed_service_serves_for_a_second_and_then_is_gone() {
    let host = probe(1).await;
    let old = guests::digest(&guests::revision("probe", 1));
    let removed = Instant::now();
    host.remove("probe");
    let mut connection = host.connect().await;
    let mut answers = 0;
    while connection.get("/probe/marker").await.status == 200 {
        answers += 1;
        assert!(removed.elapsed() < PATIENCE, "it is never gone: {}", host.told());
    }
    assert!(answers > 0);
    // The grace begins at the removal or after it, so it cannot be over earlier.
    assert!(removed.elapsed() >= Duration::from_millis(950), "gone after {:?}", removed.elapsed());
    host.wait_retired("probe", &old).await;
    assert_eq!(host.get("/probe/marker").await.status, 404);
    host.swap("probe", &guests::revision("probe", 2), How::Rename).await;
    assert_serves(&host, 2).await;
}

/// Waits until the host has read the bay once more: it tells of a name that is not allowed in the same turn.
pub(crate) async fn a_look(host: &Host) {
    static LOOKS: AtomicU32 = AtomicU32::new(0);
    let file = format!("Look-{}.wasm", LOOKS.fetch_add(1, Ordering::Relaxed));
    fs::write(host.bay().join(&file), "").expect("a file");
    host.wait_rejected(&file).await;
}

/// Waits until the host has surely done everything that the bay asked for before: another service has come since.
pub(crate) async fn a_full_look(host: &Host) {
    static FENCES: AtomicU32 = AtomicU32::new(0);
    a_look(host).await;
    let fence = format!("fence-{}", FENCES.fetch_add(1, Ordering::Relaxed));
    host.swap(&fence, &guests::fixture("library"), How::Rename).await;
}

#[tokio::test]
async fn the_same_bytes_again_are_no_swap() {
    let host = probe(1).await;
    let mark = host.mark();
    for how in [How::Overwrite, How::Rename, How::Symlink] {
        host.place("probe", &guests::revision("probe", 1), how);
    }
    a_full_look(&host).await;
    assert_eq!(host.since(mark).states("probe"), Vec::<String>::new());
    assert_serves(&host, 1).await;
}

#[tokio::test]
async fn changed_settings_are_a_new_revision() {
    let host = probe(1).await;
    let mark = host.mark();
    host.place_settings("probe", "[[route]]\npath = \"/elsewhere\"\n");
    let published = host.since(mark).wait_for("probe", "published").await;
    assert_eq!(published.revision, guests::digest(&guests::revision("probe", 1)), "the build is the same");
    assert_eq!((host.get("/elsewhere").await.status, host.get("/probe").await.status), (200, 404));
    host.since(mark).wait_for("probe", "retired").await;

    // Other words with the same meaning change nothing.
    let mark = host.mark();
    host.place_settings("probe", "# a comment\n[[route]]\npath = '/elsewhere'\n");
    a_full_look(&host).await;
    assert_eq!(host.since(mark).states("probe"), Vec::<String>::new());

    let mark = host.mark();
    fs::remove_file(host.bay().join("probe.toml")).expect("the settings were there");
    host.since(mark).wait_for("probe", "published").await;
    assert_eq!((host.get("/elsewhere").await.status, host.get("/probe").await.status), (404, 200));
}

#[tokio::test]
async fn a_bad_build_is_followed_by_a_good_one() {
    let host = probe(1).await;
    let mark = host.mark();
    host.place("probe", b"half a thought", How::Rename);
    let told = host.since(mark);
    let rejected = told.wait_rejected("probe");
    assert!(without_a_failure(&host, rejected).await > 0);
    assert_serves(&host, 1).await;
    host.swap("probe", &guests::revision("probe", 2), How::Rename).await;
    assert_serves(&host, 2).await;

    // The bad one again, and then back to what serves: nothing to do.
    let mark = host.mark();
    host.place("probe", b"half a thought", How::Rename);
    host.since(mark).wait_rejected("probe").await;
    host.place("probe", &guests::revision("probe", 2), How::Rename);
    a_full_look(&host).await;
    assert_serves(&host, 2).await;
}

#[tokio::test]
async fn two_services_are_swapped_at_once() {
    let host = Host::builder()
        .service("probe", &guests::revision("probe", 1))
        .service("other", &guests::revision("probe", 1))
        .start()
        .await;
    for n in 2..5 {
        let wasm = guests::revision("probe", n);
        host.place("probe", &wasm, How::Rename);
        host.place("other", &wasm, How::Rename);
        host.wait_published("probe", &guests::digest(&wasm)).await;
        host.wait_published("other", &guests::digest(&wasm)).await;
        assert_serves(&host, n).await;
        assert_eq!(host.get("/other/marker").await.revision(), guests::digest(&wasm), "neither loses the other's publish");
    }
}

#[tokio::test]
async fn the_newest_of_many_builds_wins() {
    let host = probe(1).await;
    for n in 2..20 {
        host.place("probe", &guests::revision("probe", n), How::Rename);
    }
    let revision = guests::digest(&guests::revision("probe", 19));
    let last = host.wait_published("probe", &revision);
    assert!(without_a_failure(&host, last).await > 0);
    assert_serves(&host, 19).await;
    let published = host.log().states("probe").into_iter().filter(|state| state == "published").count();
    assert!(published < 19, "those between are skipped: {published} publications");
}

/// Guards the rescan in host/src/deploy/watcher.rs: the watch is on a folder that is gone.
#[tokio::test]
async fn the_bay_itself_may_be_replaced() {
    let host = Host::builder().service("probe", &guests::revision("probe", 1)).config("rescan = \"200ms\"\n").start().await;
    let away = host.folder().join("away");
    fs::rename(host.bay(), &away).expect("the bay goes");
    let log = host.log();
    let unreadable = log.wait("a line on the bay", |event| event.level == "ERROR" && event.message.contains("bay"));
    without_a_failure(&host, unreadable).await;
    // An unreadable bay is not an empty one.
    some_requests(&host, 100).await;
    let fresh = host.folder().join("fresh");
    fs::create_dir(&fresh).expect("a new bay");
    fs::write(fresh.join("probe.wasm"), guests::revision("probe", 2)).expect("a build");
    fs::rename(&fresh, host.bay()).expect("the new bay comes");
    host.wait_published("probe", &guests::digest(&guests::revision("probe", 2))).await;
    assert_serves(&host, 2).await;
    // And it is watched again.
    host.swap("probe", &guests::revision("probe", 3), How::Rename).await;
    assert_serves(&host, 3).await;
}
