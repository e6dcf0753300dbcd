//! Torture line 8: the compile cache is used again after a restart, and never trusted.

use hotbay_tests::{Builder, Host, How, guests};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// A bay with a compiled `probe` and an `other`, ended. Returns what starts it again, and its cache folder.
async fn filled() -> (Builder, PathBuf) {
    let host = Host::builder()
        .own_state()
        .service("probe", &guests::fixture("probe"))
        .service("other", &guests::fixture("lifecycle"))
        .start()
        .await;
    let cache = host.state().join("cache");
    (host.stop().await, cache)
}

pub(crate) fn find(cache: &Path, wasm: &[u8], extension: &str) -> PathBuf {
    let digest = guests::digest(wasm);
    let entries = fs::read_dir(cache).expect("a cache folder").map(|entry| entry.expect("an entry").path());
    let is = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&digest))
            && path.extension().is_some_and(|found| found == extension)
    };
    entries.into_iter().find(is).unwrap_or_else(|| panic!("no .{extension} of {digest} in {}", cache.display()))
}

fn artifact(cache: &Path) -> PathBuf {
    find(cache, &guests::fixture("probe"), "cwasm")
}

/// Which file it is: one that was compiled again is another, renamed into its place. (The time of a use is its mtime.)
pub(crate) fn identity(path: &Path) -> u64 {
    fs::metadata(path).expect("an artifact").ino()
}

async fn assert_serves(host: &Host) {
    for (target, wasm) in [("/probe/marker", "probe"), ("/other", "lifecycle")] {
        let answer = host.get(target).await;
        assert_eq!((answer.status, answer.revision()), (200, guests::digest(&guests::fixture(wasm)).as_str()), "{}", host.told());
    }
}

#[tokio::test]
async fn a_restart_compiles_nothing_again() {
    let (again, cache) = filled().await;
    let before = identity(&artifact(&cache));
    let host = again.start().await;
    assert_serves(&host).await;
    assert_eq!(identity(&artifact(&cache)), before, "the artifact is the same file, so it was not compiled again");
    assert!(!host.events().iter().any(|event| event.level == "WARN"), "{}", host.told());
}

#[tokio::test]
async fn the_state_belongs_to_the_host_alone() {
    let (again, cache) = filled().await;
    let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
    let state = cache.parent().expect("the state folder");
    assert_eq!((mode(state), mode(&cache)), (0o700, 0o700));
    assert_eq!(mode(&state.join("cache.key")), 0o600);
    assert_eq!(fs::metadata(state.join("cache.key")).expect("a key").len(), 32);
    let left: Vec<_> = fs::read_dir(&cache)
        .expect("a cache")
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "nothing half-made is left: {left:?}");
    drop(again);
}

/// Asks the host until the cache is so: an artifact is kept beside the swap, which does not wait for it.
async fn until(host: &Host, what: &str, is: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is() {
        host.get("/probe").await;
        assert!(begun.elapsed() < hotbay_tests::PATIENCE, "{what}\n{}", host.told());
    }
}

/// Starts again after `harm` was done to the artifact, and requires that it was seen, compiled again, and served.
async fn assert_compiled_again(what: &str, harm: impl FnOnce(&Path)) {
    let (again, cache) = filled().await;
    let path = artifact(&cache);
    let good = fs::read(&path).expect("an artifact");
    harm(&path);
    let host = again.start().await;
    assert_serves(&host).await;
    let told = host
        .log()
        .wait(format!("{what}: a line that it is not trusted"), |event| {
            event.level == "WARN" && event.message.contains("not trusted")
        })
        .await;
    assert!(told.fields["artifact"].to_string().contains(&guests::digest(&guests::fixture("probe"))), "{what}: {}", told.fields);
    until(&host, &format!("{what}: it was compiled again and kept"), || {
        fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == good.len() as u64)
    })
    .await;
    let again = host.stop().await;
    let before = identity(&artifact(&cache));
    let host = again.start().await;
    assert_serves(&host).await;
    assert_eq!(identity(&artifact(&cache)), before, "{what}: and then it is good");
}

/// Guards `Place::open_checked` in host/src/runtime/cache.rs: loading an artifact runs whatever it says.
#[tokio::test]
async fn a_flipped_byte_is_seen() {
    assert_compiled_again("a flipped byte", |path| {
        let mut bytes = fs::read(path).expect("an artifact");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("it is written");
    })
    .await;
}

#[tokio::test]
async fn a_truncated_artifact_is_seen() {
    assert_compiled_again("a truncated artifact", |path| {
        let file = fs::File::options().write(true).open(path).expect("an artifact");
        file.set_len(1000).expect("it is cut");
    })
    .await;
}

/// A good artifact with a good seal, of another build.
#[tokio::test]
async fn an_artifact_of_another_build_is_seen() {
    assert_compiled_again("an artifact of another build", |path| {
        let cache = path.parent().expect("a folder");
        let other = guests::fixture("lifecycle");
        fs::copy(find(cache, &other, "cwasm"), path).expect("a copy");
        fs::copy(find(cache, &other, "hmac"), find(cache, &guests::fixture("probe"), "hmac")).expect("a copy");
    })
    .await;
}

#[tokio::test]
async fn an_artifact_without_a_seal_is_seen() {
    assert_compiled_again("an artifact without a seal", |path| fs::remove_file(path.with_extension("hmac")).expect("a seal"))
        .await;
}

#[tokio::test]
async fn an_artifact_that_others_may_write_is_seen() {
    assert_compiled_again("an artifact that others may write", |path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("a mode");
    })
    .await;
}

#[tokio::test]
async fn a_seal_that_is_cut_or_a_link_is_seen() {
    assert_compiled_again("half a seal", |path| {
        let seal = path.with_extension("hmac");
        let half = fs::read(&seal).expect("a seal")[..16].to_vec();
        fs::write(seal, half).expect("it is written");
    })
    .await;
    assert_compiled_again("a link to the seal", |path| {
        let (seal, elsewhere) = (path.with_extension("hmac"), path.with_file_name("elsewhere"));
        fs::rename(&seal, &elsewhere).expect("a rename");
        symlink(elsewhere, seal).expect("a link");
    })
    .await;
}

/// Guards `refuse_unless_own` in host/src/state.rs. Only root can make what belongs to somebody else.
#[tokio::test]
async fn what_another_user_owns_is_seen() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped what_another_user_owns_is_seen: only root can give a file away");
    }
    let give = |path: &Path| std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("it is given away");
    assert_compiled_again("an artifact of another user", |path| give(path)).await;
    assert_compiled_again("a seal of another user", |path| give(&path.with_extension("hmac"))).await;
    for what in ["cache.key", "cache", "."] {
        let (again, cache) = filled().await;
        give(&cache.parent().expect("the state folder").join(what));
        let host = again.start().await;
        assert_serves(&host).await;
        host.log().wait(what, |event| event.level == "WARN" && event.message.contains("state folder")).await;
    }
}

/// A key that others know seals nothing, and neither does one that is gone.
#[tokio::test]
async fn a_key_that_others_could_read_is_not_used() {
    let (again, cache) = filled().await;
    let key = cache.with_file_name("cache.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("a mode");
    let host = again.start().await;
    assert_serves(&host).await;
    let told = host.log().wait("that the key is not used", |event| event.message.contains("state folder")).await;
    assert!(told.fields["error"].to_string().contains("cache.key"), "{}", told.fields);
    let again = host.stop().await;
    let before = identity(&artifact(&cache));
    fs::remove_file(&key).expect("the key goes");
    let host = again.start().await;
    assert_serves(&host).await;
    host.log().wait("that the artifacts are not trusted", |event| event.message.contains("not trusted")).await;
    assert_ne!(identity(&artifact(&cache)), before, "compiled again, under a key of its own");
    assert_eq!(fs::metadata(&key).expect("a key").mode() & 0o777, 0o600);
}

/// Guards `Folder::prune`: what was used least recently goes, and what serves is not harmed by that.
#[tokio::test]
async fn the_cache_is_bounded() {
    let size = |cache: &Path| -> u64 {
        let found = fs::read_dir(cache).expect("a cache").flatten().map(|entry| entry.path());
        found
            .filter(|path| path.extension().is_some_and(|ext| ext == "cwasm"))
            .map(|path| fs::metadata(path).map_or(0, |found| found.len()))
            .sum()
    };
    let host = Host::builder().own_state().service("probe", &guests::revision("marker", 0)).start().await;
    let cache = host.state().join("cache");
    let each = fs::metadata(find(&cache, &guests::revision("marker", 0), "cwasm")).expect("an artifact").len();
    // Room for two and a half of them.
    let again = host.stop().await.config(&format!("[compile]\ncache_size = \"{}B\"\n", each * 5 / 2));
    let host = again.start().await;
    for n in 1..6 {
        host.swap("probe", &guests::revision("marker", n), How::Rename).await;
        assert_eq!(host.get("/probe").await.status, 200);
    }
    let last = guests::digest(&guests::revision("marker", 5));
    let has_last = || {
        let mut names = fs::read_dir(&cache).expect("a cache").flatten().map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().starts_with(&last) && name.to_string_lossy().ends_with("cwasm"))
    };
    until(&host, "the last one is there, and no more than there may be", || has_last() && size(&cache) <= each * 5 / 2).await;
    let host = host.stop().await.start().await;
    assert_eq!(host.get("/probe").await.revision(), guests::digest(&guests::revision("marker", 5)));
}

#[tokio::test]
async fn a_link_in_place_of_an_artifact_is_seen() {
    assert_compiled_again("a link", |path| {
        let elsewhere = path.with_file_name("elsewhere");
        fs::rename(path, &elsewhere).expect("a rename");
        symlink(elsewhere, path).expect("a link");
    })
    .await;
}

#[tokio::test]
async fn another_hosts_artifact_is_seen() {
    let (_kept, foreign) = filled().await;
    assert_compiled_again("an artifact of another host", |path| {
        let mut bytes = fs::read(artifact(&foreign)).expect("an artifact");
        // The same build on the same machine gives the same code; what tells them apart is the seal.
        bytes.push(0);
        bytes.pop();
        fs::write(path, bytes).expect("a copy");
        fs::copy(find(&foreign, &guests::fixture("probe"), "hmac"), path.with_extension("hmac")).expect("a copy");
    })
    .await;
}

/// Guards the copy in `Folder::open_checked` and `Folder::keep`: a page that is cut off a mapped file kills whoever reads it.
#[tokio::test]
async fn an_artifact_that_is_cut_while_it_serves_harms_nobody() {
    let (again, cache) = filled().await;
    let mut host = again.start().await;
    let next = guests::revision("probe", 1);
    host.swap("probe", &next, How::Rename).await;
    let mut cut = 0;
    for path in fs::read_dir(&cache).expect("a cache").flatten().map(|entry| entry.path()) {
        fs::File::create(path).expect("it is cut");
        cut += 1;
    }
    assert!(cut >= 2, "{cut} files");
    for target in ["/probe/trap", "/probe/headers", "/other"] {
        assert!([200, 500].contains(&host.get(target).await.status));
    }
    assert!(host.is_alive());
}
