//! A hundred saves in a row under load, a tenth of them broken: no request fails, and the right code answers after each.

use super::{assert_serves, build, one};
use anyhow::ensure;
use hotbay_tests::{
    Steps, guests,
    load::{Connections, Load, Until, run},
};
use std::time::{Duration, Instant};

const SAVES: u32 = 100;
/// Every so many is broken.
const BROKEN: u32 = 10;

/// From a save to the first answer of the new code, and what its line says of it.
struct Save {
    answered: Duration,
    steps: Steps,
}

#[tokio::test]
async fn a_hundred_saves_under_load_fail_no_request() {
    let dev = one().await;
    let until = Until::stopped();
    let load = Load { address: dev.address(), path: "/one".to_owned(), clients: 2, connections: Connections::Kept };
    let clients = tokio::spawn({
        let until = until.clone();
        async move {
            run(&load, &until, |answer| {
                let halves = answer.body.split(|byte| *byte == b' ').collect::<Vec<_>>();
                ensure!(answer.status == 200, "status {}: {}", answer.status, String::from_utf8_lossy(answer.body));
                ensure!(
                    matches!(halves[..], [first, second] if first == second && !first.is_empty()),
                    "two revisions in one answer"
                );
                Ok(())
            })
            .await
        }
    });
    let (mut good, mut saves) = (0, Vec::new());
    let mut connection = dev.connect().await;
    for n in 1..=SAVES {
        let mark = dev.mark();
        if n % BROKEN == 0 {
            dev.sources().write("one", &format!("expected one of {n} things"));
            dev.wait_line(mark, &["✗ src/main: build failed"]).await;
            dev.wait_line(mark, &[&format!("│ error: expected one of {n} things")]).await;
            assert_serves(&dev, "one", good).await;
            continue;
        }
        let wasm = build(n);
        let (revision, saved) = (guests::digest(&wasm), Instant::now());
        dev.sources().save("one", &wasm);
        while connection.get("/one").await.revision() != revision {
            assert!(saved.elapsed() < hotbay_tests::PATIENCE, "it never serves: {}", dev.told());
        }
        let answered = saved.elapsed();
        let line = dev.wait_line(mark, &["✓ src/main", &revision]).await;
        saves.push(Save { answered, steps: Steps::parse(&line) });
        good = n;
        assert_serves(&dev, "one", good).await;
    }
    until.stop();
    let tally = clients.await.expect("the clients end");
    assert_eq!(tally.failed, 0, "{:?}\n{}", tally.failures, dev.told());
    assert!(tally.requests > u64::from(SAVES));
    println!("{} requests, 0 failed; {} saves served, {} broken", tally.requests, saves.len(), SAVES / BROKEN);
    for (what, of) in [
        ("save → new answer", (|save: &Save| save.answered) as fn(&Save) -> Duration),
        ("build", |save| save.steps.build),
        ("check", |save| save.steps.check),
        ("compile", |save| save.steps.compile),
        ("swap", |save| save.steps.swap),
        ("save → published", |save| save.steps.whole),
    ] {
        let mut times: Vec<_> = saves.iter().map(of).collect();
        times.sort();
        println!("  {what:18} median {:?}, worst {:?}", times[times.len() / 2], times[times.len() - 1]);
    }
    dev.interrupt().await;
}
