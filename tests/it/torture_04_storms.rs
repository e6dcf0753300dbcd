//! Torture line 4: a storm of touches, a queue of events that overflows, two files that claim one route.

use crate::swap::{assert_serves, probe, without_a_failure};
use hotbay_tests::{Host, How, Signal, guests};
use std::fs;

#[tokio::test]
async fn a_storm_of_touches_ends_in_the_last_state() {
    let host = probe(1).await;
    let noise = host.bay().join("noise.tmp");
    let storm = async {
        for turn in 0..4000 {
            fs::write(&noise, "x").expect("a file that is not ours");
            let now = fs::File::options().append(true).open(host.build_path("probe")).expect("a build");
            now.set_modified(std::time::SystemTime::now()).expect("a touch");
            if turn % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
    };
    assert!(without_a_failure(&host, storm).await > 0);
    host.swap("probe", &guests::revision("probe", 2), How::Rename).await;
    assert_serves(&host, 2).await;
}

#[tokio::test]
async fn a_contested_route_stays_with_its_earlier_owner_until_that_is_gone() {
    let route = "[[route]]\npath = \"/shared/{id}\"\n";
    let same = "[[route]]\npath = \"/shared/{name}\"\n";
    let (first, second) = (guests::revision("probe", 1), guests::revision("probe", 2));
    let host = Host::builder().service("first", &first).settings("first", route).start().await;
    host.place_settings("second", same);
    host.place("second", &second, How::Rename);
    let rejected = host.wait_rejected("second").await;
    for named in ["/shared/{id}", "/shared/{name}", "first"] {
        assert!(rejected.reason.contains(named), "{named}: {}", rejected.reason);
    }
    assert!(!rejected.remedy.is_empty());
    assert_eq!(host.get("/shared/7").await.revision(), guests::digest(&first));

    // Half of the routes would be none: a reject takes no route at all.
    host.remove("first");
    host.wait_published("second", &guests::digest(&second)).await;
    assert_eq!(host.get("/shared/7").await.revision(), guests::digest(&second));
}

#[tokio::test]
async fn at_the_start_contested_routes_go_by_name() {
    let route = "[[route]]\npath = \"/shared\"\n";
    let host = Host::builder()
        .service("a", &guests::revision("probe", 1))
        .settings("a", route)
        .service("b", &guests::revision("probe", 2))
        .settings("b", route)
        .start()
        .await;
    assert_eq!(host.get("/shared").await.revision(), guests::digest(&guests::revision("probe", 1)));
    let table = host.table().await;
    assert!(table.lines().any(|line| line.starts_with("b ") && line.contains("rejected")), "{table}");
}

/// Guards that a hint is only a hint (host/src/deploy/watcher.rs): the event of the build itself is lost.
#[tokio::test]
async fn a_queue_of_events_that_overflows_hides_no_build() {
    // The look by the clock would find it too, and must not be what finds it here.
    let host = Host::builder().config("rescan = \"1h\"\n").service("probe", &guests::revision("probe", 1)).start().await;
    let size = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("Linux says so");
    let size: usize = size.trim().parse().expect("a number");
    // The host takes no events while more come than the kernel keeps. Equal events one after another are kept as one.
    host.signal(Signal::STOP);
    let noise = ["a.tmp", "b.tmp"].map(|name| host.bay().join(name));
    for turn in 0..size / 2 + 1 {
        fs::write(&noise[turn % 2], "x").expect("a file that is not ours");
    }
    host.place("probe", &guests::revision("probe", 2), How::Rename);
    host.signal(Signal::CONT);
    host.wait_published("probe", &guests::digest(&guests::revision("probe", 2))).await;
    assert_serves(&host, 2).await;
}
