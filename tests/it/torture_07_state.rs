//! Torture line 7: a state folder that is full, read-only, somebody else's, or removed while the host runs. Slower is fine, wrong is not.

use crate::torture_08_cache::{find, identity};
use hotbay_tests::{Builder, Event, Host, How, PATIENCE, guests};
use std::{fs, os::unix::fs::PermissionsExt, time::Instant};

#[tokio::test]
async fn a_state_folder_that_cannot_be_used_makes_it_slower_and_not_wrong() {
    for what in ["a file in its place", "others may write it"] {
        let builder = Host::builder();
        let state = builder.folder().join("state");
        if what.starts_with("a file") {
            fs::write(&state, "").expect("a file");
        } else {
            fs::create_dir(&state).expect("a folder");
            fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).expect("a mode");
        }
        let host = builder.state(&state).service("probe", &guests::fixture("lifecycle")).start().await;
        let told = host.log().wait(what, |event| event.level == "WARN" && event.message.contains("state folder")).await;
        assert!(told.message.contains("--state"), "{}", told.message);
        assert_eq!(host.get("/probe").await.status, 200, "{what}");
        let next = guests::patched(&guests::fixture("lifecycle"), "stop:fine", "stop:good");
        host.swap("probe", &next, How::Rename).await;
        assert_eq!(host.get("/probe").await.revision(), guests::digest(&next), "{what}");
    }
}

/// Runs a host with what `mount` makes of its state folder, in a namespace of its own. Absent where this machine lets nobody do that.
async fn mounted(mount: &str) -> Option<Host> {
    mounted_for(Host::builder().service("probe", &guests::fixture("probe")), mount).await
}

async fn mounted_for(builder: Builder, mount: &str) -> Option<Host> {
    let builder = builder.own_state();
    let state = builder.bay_path().join(".hotbay");
    fs::create_dir(&state).expect("a folder");
    let script = format!("{} && exec \"$0\" \"$@\"", mount.replace("STATE", &format!("'{}'", state.display())));
    let probe = std::process::Command::new("unshare").args(["-Urm", "sh", "-c", &script, "true"]).output();
    if !probe.is_ok_and(|ended| ended.status.success()) {
        println!("skipped: this machine lets nobody mount in a namespace of its own");
        return None;
    }
    Some(builder.wrapped(["unshare", "-Urm", "sh", "-c", &script]).start().await)
}

/// It serves, and swaps.
async fn assert_swaps(host: &Host) {
    assert_eq!(host.get("/probe/marker").await.status, 200, "{}", host.told());
    let next = guests::revision("probe", 1);
    host.swap("probe", &next, How::Rename).await;
    assert_eq!(host.get("/probe/marker").await.revision(), guests::digest(&next));
}

#[tokio::test]
async fn a_read_only_state_folder_makes_it_slower_and_not_wrong() {
    let Some(host) = mounted("mount -t tmpfs -o ro,mode=0700 tmpfs STATE").await else { return };
    let told = host.log().wait("that nothing can be kept", |event| event.message.contains("state folder")).await;
    assert!(told.fields["error"].to_string().contains("Read-only file system"), "{}", told.fields);
    assert_swaps(&host).await;
}

/// A state folder of 64 KiB: room for the key and for nothing else.
#[tokio::test]
async fn a_full_disk_makes_it_slower_and_not_wrong() {
    let Some(host) = mounted("mount -t tmpfs -o size=64k,mode=0700 tmpfs STATE").await else { return };
    let told = host.log().wait("that the disk takes nothing", |event| event.message.contains("disk is full")).await;
    assert!(told.fields["error"].to_string().contains("No space left"), "{}", told.fields);
    assert_swaps(&host).await;
}

fn keeper() -> Builder {
    Host::builder()
        .own_state()
        .service("keeper", &guests::fixture("keeper"))
        .settings("keeper", "[grants]\nkeyvalue = ['default']\n")
}

async fn keep(host: &Host, target: &str) -> String {
    host.get(&format!("/keeper/{target}")).await.text()
}

fn lines_on_keys(host: &Host) -> Vec<(String, String)> {
    let lines = host.events().into_iter().filter(|event| event.target == "hotbay::keyvalue");
    lines.map(|event| (event.level, event.message)).collect()
}

/// Keys are read on a full disk, and the log says once that it takes no more.
#[tokio::test]
async fn a_full_disk_takes_no_keys_and_gives_those_that_it_has() {
    let Some(host) = mounted_for(keeper(), "mount -t tmpfs -o size=32m,mode=0700 tmpfs STATE").await else { return };
    assert_eq!(keep(&host, "set?default/small/1").await, "done");
    let mut full = 0;
    while keep(&host, &format!("fill?default/{full}/1048576")).await == "done" {
        full += 1;
    }
    for _ in 0..20 {
        let refused = keep(&host, &format!("fill?default/{full}/1048576")).await;
        assert!(refused.contains("cannot be used now"), "{refused}\n{}", host.told());
        assert_eq!(keep(&host, "get?default/small").await, "1", "{}", host.told());
        assert_eq!(keep(&host, "size?default/0").await, "1048576", "{}", host.told());
    }
    for number in 0..full {
        assert_eq!(keep(&host, &format!("delete?default/{number}")).await, "done", "{}", host.told());
    }
    assert_eq!(keep(&host, "fill?default/again/1048576").await, "done");
    let again = |event: &Event| event.target == "hotbay::keyvalue" && event.level == "INFO";
    host.log().wait("that it takes changes again", again).await;
    let lines = lines_on_keys(&host);
    let [(error, full), (info, again)] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((error.as_str(), info.as_str()), ("ERROR", "INFO"));
    assert!(full.contains("takes no changes") && full.contains("free space on its disk"), "{full}");
    assert!(again.contains("takes changes again"), "{again}");
}

/// No key is acknowledged that is in a file which nobody finds again.
#[tokio::test]
async fn keys_go_into_the_state_folder_that_is_there_and_not_into_one_that_has_gone() {
    let host = keeper().start().await;
    assert_eq!(keep(&host, "set?default/a/1").await, "done");
    let begun = Instant::now();
    while let Err(error) = fs::remove_dir_all(host.state()) {
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
    let refused = keep(&host, "set?default/b/2").await;
    assert!(refused.contains("cannot be used now"), "{refused}");
    assert_eq!(keep(&host, "set?default/c/3").await, "done");
    let told = host.log().wait("that it has gone", |event| event.target == "hotbay::keyvalue" && event.level == "ERROR").await;
    assert!(told.message.contains("removed or replaced"), "{}", told.message);
    let host = host.stop().await.start().await;
    assert_eq!(keep(&host, "keys?default").await, "c");
    assert_eq!(keep(&host, "get?default/c").await, "3");
}

#[tokio::test]
async fn a_state_folder_that_goes_while_the_host_runs_is_done_without() {
    let host = Host::builder().own_state().service("probe", &guests::fixture("lifecycle")).start().await;
    // What is kept beside the swap may come into it at the same time.
    let begun = Instant::now();
    while let Err(error) = fs::remove_dir_all(host.state()) {
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
    let next = guests::patched(&guests::fixture("lifecycle"), "stop:fine", "stop:good");
    host.swap("probe", &next, How::Rename).await;
    assert_eq!(host.get("/probe").await.revision(), guests::digest(&next));
    // It is made anew, its key included: what was kept since is found after a restart.
    let cache = host.state().join("cache");
    let again = host.stop().await;
    let kept = identity(&find(&cache, &next, "cwasm"));
    let host = again.start().await;
    assert_eq!(host.get("/probe").await.status, 200);
    assert_eq!(identity(&find(&cache, &next, "cwasm")), kept, "it was not compiled again");
}
