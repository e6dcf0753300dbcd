//! Torture line 7: a state folder that is full, read-only, somebody else's, or removed while the host runs. Slower is fine, wrong is not.

use crate::torture_08_cache::{find, identity};
use hotbay_tests::{Host, How, guests};
use std::{fs, os::unix::fs::PermissionsExt};

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

/// Runs the host with what `mount` makes of its state folder, in a namespace of its own. Absent where this machine lets nobody do that.
async fn mounted(mount: &str) -> Option<Host> {
    let builder = Host::builder().own_state().service("probe", &guests::fixture("probe"));
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

#[tokio::test]
async fn a_state_folder_that_goes_while_the_host_runs_is_done_without() {
    let host = Host::builder().own_state().service("probe", &guests::fixture("lifecycle")).start().await;
    fs::remove_dir_all(host.state()).expect("the state folder goes");
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
