//! Torture line 2: half-written, slowly copied, renamed over, switched by a link, emptied, taken away and put back: settings too.

use crate::swap::{a_full_look, a_look, assert_serves, probe, some_requests, without_a_failure};
use hotbay_tests::{Event, Host, How, guests};
use std::{
    fs,
    io::Write,
    os::unix::{ffi::OsStrExt, fs::symlink},
    time::{Duration, Instant},
};

const ELSEWHERE: &str = "[[route]]\npath = \"/elsewhere\"\n[instances]\npolicy = \"reuse\"\n";

async fn elsewhere() -> Host {
    Host::builder().service("probe", &guests::revision("probe", 1)).settings("probe", ELSEWHERE).start().await
}

/// Asks for as long as `time`, so that something may go wrong in it.
async fn keeps_serving(host: &Host, time: Duration) {
    let mut connection = host.connect().await;
    let begun = Instant::now();
    while begun.elapsed() < time {
        let answer = connection.get("/elsewhere").await;
        assert_eq!(answer.status, 200, "{}", host.told());
    }
}

/// Guards the wait for blank settings in `Swaps::settings_unsettled`: an editor or a deploy script that empties the file first.
#[tokio::test]
async fn settings_that_are_emptied_and_written_again_are_no_defaults() {
    let host = elsewhere().await;
    let mark = host.mark();
    for blank in ["", "\n \n", "# routes\n\n# to come"] {
        fs::write(host.bay().join("probe.toml"), blank).expect("it is emptied");
        keeps_serving(&host, Duration::from_millis(700)).await;
        fs::write(host.bay().join("probe.toml"), ELSEWHERE).expect("it is written");
        keeps_serving(&host, Duration::from_millis(400)).await;
    }
    assert_eq!(host.since(mark).states("probe"), Vec::<String>::new(), "{}", host.told());
    // Settings that stay empty are the defaults in the end.
    fs::write(host.bay().join("probe.toml"), "").expect("it is emptied");
    host.since(mark).wait_for("probe", "published").await;
    assert_eq!((host.get("/probe").await.status, host.get("/elsewhere").await.status), (200, 404));
}

/// Guards the grace for missing settings in `Swaps::settings_unsettled`.
#[tokio::test]
async fn settings_that_go_and_come_back_are_no_defaults() {
    let host = elsewhere().await;
    let mark = host.mark();
    fs::remove_file(host.bay().join("probe.toml")).expect("it goes");
    keeps_serving(&host, Duration::from_millis(500)).await;
    host.place_settings("probe", ELSEWHERE);
    keeps_serving(&host, Duration::from_millis(800)).await;
    assert_eq!(host.since(mark).states("probe"), Vec::<String>::new(), "{}", host.told());
}

/// Puts a link in the place of a file in the bay, as one change, and waits until that is told.
async fn replaced_by_a_link(host: &Host, file: &str, target: &str) -> Event {
    let mark = host.mark();
    let temporary = host.bay().join(".link");
    symlink(target, &temporary).expect("a link");
    fs::rename(&temporary, host.bay().join(file)).expect("a rename");
    host.since(mark).wait_rejected("probe").await
}

/// Guards `is_absence` in host/src/deploy/bay.rs: a file that cannot be looked at is not a file that was removed.
#[tokio::test]
async fn a_file_that_cannot_be_looked_at_is_no_removal() {
    let host = elsewhere().await;
    // A link to itself: the kernel gives up (ELOOP).
    let rejected = replaced_by_a_link(&host, "probe.wasm", "probe.wasm").await;
    assert!(rejected.reason.contains("probe.wasm cannot be read"), "{rejected:?}");
    assert!(rejected.revision.is_empty(), "nothing was read: {rejected:?}");
    keeps_serving(&host, Duration::from_millis(1500)).await;
    let wasm = guests::revision("probe", 2);
    fs::remove_file(host.build_path("probe")).expect("the link goes");
    host.swap("probe", &wasm, How::Rename).await;
}

#[tokio::test]
async fn a_link_to_nothing_is_told() {
    let host = Host::builder().start().await;
    symlink("nowhere.wasm", host.bay().join("lost.wasm")).expect("a link");
    let rejected = host.wait_rejected("lost").await;
    assert!(rejected.reason.contains("link to a file that is not there") && !rejected.remedy.is_empty(), "{rejected:?}");
}

/// A link whose target is away for longer than the grace, as while a folder of settings is switched.
#[tokio::test]
async fn settings_that_link_to_nothing_are_no_defaults() {
    let host = elsewhere().await;
    let rejected = replaced_by_a_link(&host, "probe.toml", "nowhere.toml").await;
    assert!(rejected.reason.contains("probe.toml cannot be read"), "{rejected:?}");
    keeps_serving(&host, Duration::from_millis(1500)).await;
}

/// A name that would write its own lines into a log or colours onto a terminal.
#[tokio::test]
async fn a_name_with_control_characters_is_shown_escaped() {
    let builder = Host::builder();
    let name = std::ffi::OsStr::from_bytes(b"a\x1b[31m\nb.wasm");
    fs::write(builder.bay_path().join(name), "").expect("a file");
    let host = builder.start_listening().await;
    let told = host.log().wait("the reject", |event| event.state == "rejected").await;
    let table = host.table().await;
    for text in [&told.message, &told.service, &told.reason, &table] {
        assert!(!text.contains('\u{1b}') && !text.trim_end().contains("\nb.wasm"), "{text:?}");
    }
    assert!(told.message.contains("\\n"), "{}", told.message);
}

/// The same bad build again, after a good one, is news.
#[tokio::test]
async fn a_bad_build_that_comes_back_is_told_again() {
    let host = elsewhere().await;
    let wasm = guests::revision("probe", 1);
    for _ in 0..2 {
        let mark = host.mark();
        host.place("probe", b"half a thought", How::Rename);
        host.since(mark).wait_rejected("probe").await;
        host.place("probe", &wasm, How::Rename);
        keeps_serving(&host, Duration::from_millis(100)).await;
    }
    // And placed anew without a good one between, since whoever copies it again wants to know.
    for _ in 0..2 {
        let mark = host.mark();
        host.place("probe", b"half a thought", How::Rename);
        host.since(mark).wait_rejected("probe").await;
    }
}

/// Guards `Reject::transient`: a build that only lacked a slot is not remembered as a bad one.
#[tokio::test]
async fn what_the_host_lacked_is_tried_again() {
    let builder = Host::builder().config("[pool]\ninstances = 1\n").service("probe", &guests::revision("probe", 1));
    let host = builder.start().await;
    let (request, body) = host.request("POST", "/probe/echo").writing();
    let running = request.open().await;
    let wasm = guests::revision("probe", 2);
    host.place("probe", &wasm, How::Rename);
    let rejected = host.wait_rejected("probe").await;
    assert!(rejected.reason.contains("pool.instances"), "{rejected:?}");
    drop(body);
    running.whole().await.expect("a whole body");
    host.wait_published("probe", &guests::digest(&wasm)).await;
}

/// Guards the look at the routes in `Swaps::is_rejected`, and that routes which are freed wake whoever waits for them.
#[tokio::test]
async fn a_service_that_lost_its_route_waits_quietly_and_gets_it() {
    let wasm = guests::fixture("probe");
    let host = Host::builder().service("a", &wasm).settings("a", "[[route]]\npath = \"/one\"\n").start().await;
    fs::write(host.bay().join("b.toml"), "[[route]]\npath = \"/one\"\n").expect("settings");
    host.place("b", &wasm, How::Rename);
    host.wait_rejected("b").await;
    let mark = host.mark();
    for n in 0..3 {
        host.swap(&format!("other-{n}"), &guests::fixture("library"), How::Rename).await;
        host.swap("a", &guests::revision("probe", n + 1), How::Rename).await;
    }
    assert_eq!(host.since(mark).states("b"), Vec::<String>::new(), "nothing of its own has changed: {}", host.told());
    host.place_settings("a", "[[route]]\npath = \"/two\"\n");
    host.since(mark).wait_for("b", "published").await;
}

/// A service without a good revision holds its routes as well, and frees them when its settings name others.
#[tokio::test]
async fn routes_of_a_service_that_never_was_good_are_freed_too() {
    let host = Host::builder()
        .service("a", b"no wasm")
        .settings("a", "[[route]]\npath = \"/one\"\n")
        .service("b", &guests::fixture("probe"))
        .settings("b", "[[route]]\npath = \"/one\"\n")
        .start()
        .await;
    assert_eq!(host.get("/one").await.status, 503);
    host.place_settings("a", "[[route]]\npath = \"/two\"\n");
    host.wait_for("b", "published").await;
    assert_eq!((host.get("/one").await.status, host.get("/two").await.status), (200, 503));
}

#[tokio::test]
async fn a_removal_says_why_the_revision_drains() {
    let host = elsewhere().await;
    host.remove("probe");
    let draining = host.wait_for("probe", "draining").await;
    assert!(draining.reason.contains("removed") && draining.message.contains("removed"), "{draining:?}");
}

#[tokio::test]
async fn a_bay_that_comes_back_is_told() {
    let host = elsewhere().await;
    let (bay, aside) = (host.bay().to_owned(), host.folder().join("aside"));
    fs::rename(&bay, &aside).expect("it goes");
    host.log().wait("that the bay is gone", |event| event.level == "ERROR" && event.message.contains("cannot be read")).await;
    keeps_serving(&host, Duration::from_millis(1500)).await;
    fs::rename(&aside, &bay).expect("it comes back");
    host.log().wait("that the bay is back", |event| event.message.contains("can be read again")).await;
    keeps_serving(&host, Duration::from_millis(100)).await;
}

/// Guards the wait for half-written files in `Swaps::attempt` (`SETTLED_TRUNCATED`).
#[tokio::test]
async fn a_half_written_file_is_waited_for() {
    let host = probe(1).await;
    let wasm = guests::revision("probe", 2);
    let (first, second) = wasm.split_at(wasm.len() / 2);
    let mut file = fs::File::create(host.build_path("probe")).expect("a file");
    file.write_all(first).expect("half of it");
    a_look(&host).await;
    some_requests(&host, 100).await;
    let revision = guests::digest(&wasm);
    // Written once the connection that asks is open, so that the swap cannot be over before the first request.
    let published = async {
        file.write_all(second).expect("the rest");
        host.wait_published("probe", &revision).await
    };
    assert!(without_a_failure(&host, published).await > 0);
    assert_serves(&host, 2).await;
    assert!(
        !host.events().iter().any(|event| event.is("probe", "rejected")),
        "a file that is not whole yet is no error: {}",
        host.told()
    );
}

#[tokio::test]
async fn a_slow_copy_in_place_is_one_swap() {
    let host = probe(1).await;
    let wasm = guests::revision("probe", 2);
    let mut file = fs::File::create(host.build_path("probe")).expect("a file");
    for piece in wasm.chunks(wasm.len() / 24) {
        file.write_all(piece).expect("a piece");
        some_requests(&host, 10).await;
    }
    drop(file);
    host.wait_published("probe", &guests::digest(&wasm)).await;
    assert_serves(&host, 2).await;
    let states = host.log().states("probe");
    assert_eq!(states.iter().filter(|state| *state == "published").count(), 2, "at the start and now: {states:?}");
    assert!(!states.iter().any(|state| state == "rejected"), "{states:?}");
}

/// Guards `REMOVAL_GRACE` too: as compilers and `cp` replace files.
#[tokio::test]
async fn a_file_that_comes_back_within_a_second_is_a_swap_without_a_404() {
    let host = probe(1).await;
    host.remove("probe");
    some_requests(&host, 100).await;
    let wasm = guests::revision("probe", 2);
    let back = host.swap("probe", &wasm, How::Overwrite);
    assert!(without_a_failure(&host, back).await > 0);
    assert_serves(&host, 2).await;

    // The same bytes: not even a swap.
    host.wait_retired("probe", &guests::digest(&guests::revision("probe", 1))).await;
    let mark = host.mark();
    host.remove("probe");
    some_requests(&host, 100).await;
    host.place("probe", &guests::revision("probe", 2), How::Overwrite);
    a_full_look(&host).await;
    assert_eq!(host.since(mark).states("probe"), Vec::<String>::new());
    assert_serves(&host, 2).await;
}

/// As Kubernetes mounts files: the link in the bay stays, what it leads to changes. No event says so; the rescan finds it.
#[tokio::test]
async fn a_link_whose_target_is_switched_is_a_swap() {
    let host = Host::builder().config("rescan = \"200ms\"\n").start().await;
    for n in [1, 2] {
        let folder = host.folder().join(format!("release-{n}"));
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("probe.wasm"), guests::revision("probe", n)).expect("a build");
    }
    let current = host.folder().join("current");
    symlink(host.folder().join("release-1"), &current).expect("a link");
    symlink(current.join("probe.wasm"), host.build_path("probe")).expect("a link to a link");
    host.wait_published("probe", &guests::digest(&guests::revision("probe", 1))).await;
    symlink(host.folder().join("release-2"), host.folder().join("next")).expect("a link");
    fs::rename(host.folder().join("next"), &current).expect("the switch");
    let revision = guests::digest(&guests::revision("probe", 2));
    let switched = host.wait_published("probe", &revision);
    assert!(without_a_failure(&host, switched).await > 0);
    assert_serves(&host, 2).await;
}
