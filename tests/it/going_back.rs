//! Back to what was good: after a restart with a bad file, and by itself from a revision that fails.

use hotbay_tests::{Host, How, client, guests};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// A build that starts and traps at every request.
fn failing() -> bytes::Bytes {
    guests::text("trap-when-run")
}

#[tokio::test]
async fn the_last_good_revision_serves_after_a_restart_with_a_bad_file() {
    let good = guests::revision("marker", 1);
    let host = Host::builder().own_state().service("shop", &good).settings("shop", "[limits]\nqueue = 7\n").start().await;
    let again = host.stop().await;
    let host = again.service("shop", b"no wasm at all").settings("shop", "[limits]\nqueue = oops\n").start().await;
    let answer = host.get("/shop").await;
    assert_eq!((answer.status, answer.revision()), (200, guests::digest(&good).as_str()), "{}", host.told());
    let published = host.wait_for("shop", "published").await;
    assert_eq!(published.level, "ERROR");
    assert_eq!(published.fields["came"], "last-good");
    assert!(published.reason.contains("shop.wasm in the bay was rejected"), "{}", published.reason);
    let table = host.table().await;
    assert!(table.contains("last good") && table.contains(&guests::digest(&good)), "{table}");
    let ready = host.admin().stranger("GET", "/readyz").send().await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["not_as_in_the_bay"][0]["name"], "shop", "{}", ready.text());
    assert_eq!(host.admin().get("/v1/services/shop").await.json()["state"], "last-good");

    let mended = guests::revision("marker", 2);
    fs::remove_file(host.bay().join("shop.toml")).unwrap();
    host.swap("shop", &mended, How::Rename).await;
    assert_eq!(host.get("/shop").await.revision(), guests::digest(&mended));
}

#[tokio::test]
async fn a_service_that_was_taken_out_does_not_come_back_as_the_last_good_one() {
    let host = Host::builder().own_state().service("shop", &guests::revision("marker", 1)).start().await;
    let path = host.build_path("shop");
    let again = host.stop().await;
    fs::remove_file(&path).unwrap();
    let again = again.start().await.stop().await;
    let host = again.service("shop", b"no wasm at all").start().await;
    assert_eq!(host.get("/shop").await.status, 503, "{}", host.told());
}

#[tokio::test]
async fn a_broken_history_is_told_and_serves_nothing_wrong() {
    let good = guests::revision("marker", 1);
    let host = Host::builder().own_state().service("shop", &good).start().await;
    let builds = find_folder(&host.state().join("history"), "builds");
    let again = host.stop().await;
    for build in fs::read_dir(builds).unwrap() {
        let path = build.unwrap().path();
        let mut wasm = fs::read(&path).unwrap();
        wasm[100] ^= 1;
        fs::write(&path, wasm).unwrap();
    }
    let host = again.service("shop", b"no wasm at all").start().await;
    assert_eq!(host.get("/shop").await.status, 503, "{}", host.told());
    host.log()
        .wait("what is wrong with it", |event| event.level == "ERROR" && event.message.contains("is not what it was"))
        .await;
}

fn find_folder(root: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut inside = fs::read_dir(root).expect("a folder").flatten().map(|entry| entry.path().join(name));
    inside.find(|path| path.is_dir()).unwrap_or_else(|| panic!("no {name} in {}", root.display()))
}

/// Asks `path` 200 times a second until told to stop; counts what was answered with a 5xx.
fn steady(host: &Host, path: &'static str) -> (Arc<AtomicBool>, tokio::task::JoinHandle<(u64, u64)>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (address, stopped) = (host.address(), stop.clone());
    let task = tokio::spawn(async move {
        let failed = Arc::new(AtomicU64::new(0));
        let (mut asked, mut tasks) = (0, tokio::task::JoinSet::new());
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        while !stopped.load(Ordering::Relaxed) {
            pace.tick().await;
            asked += 1;
            let failed = failed.clone();
            tasks.spawn(async move {
                if client::get(address, path).await.status >= 500 {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tasks.join_all().await;
        (asked, failed.load(Ordering::Relaxed))
    });
    (stop, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_fails_under_load_is_gone_back_from_without_a_person() {
    let good = guests::revision("marker", 1);
    let host = Host::builder().own_state().service("shop", &good).start().await;
    let (stop, load) = steady(&host, "/shop");
    let mark = host.mark();
    host.place("shop", &failing(), How::Rename);
    let bad = guests::digest(&failing());
    let back = host.since(mark).wait_for("shop", "rolled-back").await;
    assert_eq!((back.revision.as_str(), back.level.as_str()), (bad.as_str(), "ERROR"));
    assert!(back.reason.contains("ended in a fault"), "{}", back.reason);
    let published = host.since(mark).wait_published("shop", &guests::digest(&good)).await;
    assert_eq!(published.fields["came"], "automatic-rollback");
    host.since(mark).wait_retired("shop", &bad).await;
    stop.store(true, Ordering::Relaxed);
    let (asked, failed) = load.await.unwrap();
    println!("automatic rollback at 200 requests/s: {failed} of {asked} requests saw the bad build");
    assert!(failed < asked);
    assert_eq!(host.get("/shop").await.revision(), guests::digest(&good), "{}", host.told());
    assert_eq!(host.admin().get("/v1/services/shop").await.json()["state"], "rolled-back");
    assert_eq!(fs::read(host.build_path("shop")).unwrap(), failing(), "the bay is a person's");

    // Nor is it tried again after a restart, until somebody places it again.
    let host = host.stop().await.start().await;
    assert_eq!(host.get("/shop").await.revision(), guests::digest(&good), "{}", host.told());
    assert!(host.wait_rejected("shop").await.reason.contains("went back from it"), "{}", host.told());
    host.swap("shop", &failing(), How::Rename).await;
    assert_eq!(host.get("/shop").await.status, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_as_much_before_is_no_reason_to_go_back() {
    let builder = Host::builder().own_state().service("shop", &guests::fixture("probe"));
    let host = builder.settings("shop", "[rollback]\nmin_requests = 10\n").start().await;
    for _ in 0..30 {
        assert_eq!(host.get("/shop/trap").await.status, 500);
    }
    host.place_settings("shop", "[rollback]\nmin_requests = 10\n[limits]\nqueue = 9\n");
    let mark = host.mark();
    host.since(mark).wait_for("shop", "published").await;
    for _ in 0..30 {
        assert_eq!(host.get("/shop/trap").await.status, 500);
    }
    assert!(!host.since(mark).states("shop").contains(&"rolled-back".to_owned()), "{}", host.told());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_the_guest_gives_itself_are_no_reason_to_go_back() {
    let host = Host::builder().own_state().service("shop", &guests::revision("marker", 1)).start().await;
    host.swap("shop", &guests::fixture("probe"), How::Rename).await;
    let mark = host.mark();
    for _ in 0..30 {
        assert_eq!(host.get("/shop/status?code=500").await.status, 500);
    }
    assert!(!host.since(mark).states("shop").contains(&"rolled-back".to_owned()), "{}", host.told());
    // With real faults it would be one.
    for _ in 0..60 {
        host.get("/shop/trap").await;
    }
    host.since(mark).wait_for("shop", "rolled-back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_window_nothing_is_watched() {
    let settings = "[rollback]\nwindow = \"0s\"\n";
    let builder = Host::builder().own_state().service("shop", &guests::revision("marker", 1));
    let host = builder.settings("shop", settings).start().await;
    host.swap("shop", &failing(), How::Rename).await;
    let mark = host.mark();
    for _ in 0..40 {
        assert_eq!(host.get("/shop").await.status, 500);
    }
    assert!(!host.since(mark).states("shop").contains(&"rolled-back".to_owned()), "{}", host.told());
}
