//! Torture line 6: kill -9 at each step of a swap and of an order: after the next start the right revision serves, and nothing is left over.

use crate::swap::assert_serves;
use hotbay_tests::{Host, How, Signal, guests};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
};

/// Steps of a swap by a file.
const OF_A_SWAP: [&str; 9] =
    ["reading", "compiling", "linking", "warming", "published", "build-kept", "file-written", "file-renamed", "remembered"];
/// Steps of an order that changes build and settings.
const OF_AN_ORDER: [&str; 8] =
    ["file-written", "file-renamed", "intended", "settings-placed", "placed", "published", "build-kept", "remembered"];

fn build(n: u32) -> bytes::Bytes {
    guests::revision("marker", n)
}

fn settings(n: u32) -> String {
    format!("[limits]\nqueue = {n}\n")
}

/// Everything below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Waits until the last swap is in the history: an order is carried out after that.
async fn has_remembered(host: &Host) {
    let unknown = host.admin().post("/v1/services/shop/rollback", r#"{"to":"ffffffff"}"#).await;
    assert_eq!(unknown.status, 404, "{}", unknown.text());
}

/// That the history holds the builds it names and no others, and that nothing half written is left.
async fn is_whole(host: &Host, point: &str) {
    has_remembered(host).await;
    let left: Vec<_> = files(host.bay()).into_iter().filter(|path| path.to_string_lossy().contains("unfinished")).collect();
    assert!(left.is_empty(), "{point}: {left:?}");
    let history = host.admin().get("/v1/services/shop/history").await;
    assert_eq!(history.status, 200, "{point}: {}", history.text());
    let history = history.json();
    let revisions = history["revisions"].as_array().cloned().unwrap_or_default();
    let named: BTreeSet<_> = revisions.iter().filter_map(|entry| entry["digest"].as_str().map(str::to_owned)).collect();
    let kept: BTreeSet<_> = files(&host.state().join("history"))
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    assert!(named.is_subset(&kept), "{point}: {named:?} are named and {kept:?} kept");
    let serving = revisions.iter().filter(|entry| entry["ended"].is_null()).count();
    assert_eq!(serving, 1, "{point}: {history}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_of_a_swap_leaves_what_lies_in_the_bay() {
    for point in OF_A_SWAP {
        let builder = Host::builder().own_state().service("shop", &build(1));
        let armed = builder.folder().join("armed");
        let mut host = builder.faulty(point, &armed).start().await;
        fs::write(&armed, "").expect("a file");
        host.place("shop", &build(2), How::Rename);
        let status = host.exit_status().await;
        assert_eq!(status.signal(), Some(9), "{point}: {status}\n{}", host.told());
        let host = host.again().sound().start().await;
        let answer = host.get("/shop").await;
        assert_eq!((answer.status, answer.revision()), (200, guests::digest(&build(2)).as_str()), "{point}\n{}", host.told());
        is_whole(&host, point).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_of_an_order_leaves_both_files_or_neither() {
    for point in OF_AN_ORDER {
        let builder = Host::builder().own_state().service("shop", &build(1)).settings("shop", &settings(1));
        let armed = builder.folder().join("armed");
        let mut host = builder.faulty(point, &armed).start().await;
        host.swap("shop", &build(2), How::Rename).await;
        let mark = host.mark();
        host.place_settings("shop", &settings(2));
        host.since(mark).wait_for("shop", "published").await;
        has_remembered(&host).await;
        let admin = host.admin();
        fs::write(&armed, "").expect("a file");
        let to = format!(r#"{{"to":"{}"}}"#, guests::digest(&build(1)));
        tokio::spawn(async move { admin.request("POST", "/v1/services/shop/rollback").body(to).try_open().await });
        let status = host.exit_status().await;
        assert_eq!(status.signal(), Some(9), "{point}: {status}\n{}", host.told());
        let host = host.again().sound().start().await;
        let (wasm, toml) = (fs::read(host.build_path("shop")).expect("a build"), host.bay().join("shop.toml"));
        let toml = fs::read_to_string(toml).expect("settings");
        let n = [1, 2].into_iter().find(|n| wasm == build(*n)).expect("a build of ours");
        assert_eq!(toml, settings(n), "{point}: build {n}");
        assert!(n == 1 || ["file-written", "file-renamed"].contains(&point), "{point}: the intention was on the disk");
        assert_eq!(host.get("/shop").await.revision(), guests::digest(&build(n)), "{point}");
        is_whole(&host, point).await;
    }
}

#[tokio::test]
async fn a_killed_host_serves_what_is_in_its_bay_again() {
    for state in ["detected", "compiling", "published"] {
        let mut host = Host::builder().own_state().service("probe", &guests::revision("probe", 1)).start().await;
        let mark = host.mark();
        host.place("probe", &guests::revision("probe", 2), How::Rename);
        host.since(mark).wait_for("probe", state).await;
        host.signal(Signal::KILL);
        host.exit_status().await;
        let host = host.again().start().await;
        assert_serves(&host, 2).await;
    }
}
