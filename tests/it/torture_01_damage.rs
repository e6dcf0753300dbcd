//! Torture line 1: a real component cut at many lengths and with thousands of flipped bits, through the real binary, which says a
//! word on each and lives. That what serves is what lies in the bay, and that nobody else notices, is in `bad_input`.
//!
//! `FLIPS` makes it as many flips as it says; without, as many as fit into a quarter of a minute, and at least 100.

use bytes::Bytes;
use hotbay_tests::{
    guests,
    host::{finish, hotbay},
};
use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

const TIME: Duration = Duration::from_secs(15);
const LEAST: usize = 100;
/// Files of one run of the binary: few, since a flip can make a start that computes until its limit.
const AT_ONCE: usize = 10;

/// What `hotbay check` says of each.
async fn checked(builds: &[Bytes]) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> = (0..builds.len()).map(|n| folder.path().join(format!("damaged-{n}.wasm"))).collect();
    for (path, build) in paths.iter().zip(builds) {
        fs::write(path, build).expect("a file");
    }
    let args = ["check".to_owned(), "--json".to_owned()].into_iter();
    let ended = finish(hotbay(args.chain(paths.iter().map(|path| path.to_string_lossy().into_owned())))).await;
    assert!(matches!(ended.code, Some(0 | 1)), "exit {:?}: {}", ended.code, ended.stderr);
    let told: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout));
    assert_eq!(told.len(), builds.len());
    for (told, build) in told.iter().zip(builds) {
        let digest = told["digest"].as_str().unwrap_or_default();
        assert!(digest.starts_with(&guests::digest(build)), "{told}");
        assert!(told["serves"] == true || (told["reason"].is_string() && told["remedy"].is_string()), "{told}");
    }
    told
}

#[tokio::test]
async fn a_cut_component_is_named_at_any_length() {
    let whole = guests::fixture("marker");
    let mut random = fastrand::Rng::with_seed(1);
    let mut lengths: Vec<usize> = (1..120).collect();
    lengths.extend((0..300).map(|_| random.usize(120..whole.len())));
    lengths.extend(whole.len() - 40..whole.len());
    let builds: Vec<_> = lengths.iter().map(|len| whole.slice(..*len)).collect();
    for builds in builds.chunks(100) {
        for (told, build) in checked(builds).await.iter().zip(builds) {
            assert_eq!(told["serves"], false, "{} bytes: {told}", build.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_flipped_bits_get_a_word_each() {
    let flips: Option<usize> = std::env::var("FLIPS").ok().map(|flips| flips.parse().expect("FLIPS is a number"));
    let (begun, mut done, mut served) = (Instant::now(), 0, 0);
    let mut random = fastrand::Rng::with_seed(1);
    let bases = ["marker", "library", "run-wasip1"].map(guests::fixture);
    let enough = |done: usize| match flips {
        Some(flips) => done >= flips,
        None => done >= LEAST && begun.elapsed() > TIME,
    };
    while !enough(done) {
        let mut flipped = || {
            let mut wasm = bases[random.usize(0..bases.len())].to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..wasm.len());
                wasm[at] ^= 1 << random.u8(0..8);
            }
            Bytes::from(wasm)
        };
        let (one, two): (Vec<_>, Vec<_>) = (0..AT_ONCE).map(|_| (flipped(), flipped())).unzip();
        let (one, two) = tokio::join!(checked(&one), checked(&two));
        served += one.iter().chain(&two).filter(|told| told["serves"] == true).count();
        done += 2 * AT_ONCE;
    }
    println!("{done} builds with flipped bits, of which {served} would serve");
    assert!(served < done, "were they flipped?");
}
