//! What guests see of time: right, and no finer than a tenth of a millisecond.

use hotbay_tests::{Host, guests};

/// Guards host/src/runtime/clock.rs: a step of 100 µs in resolution and readings, and a sleep that is not shorter for it.
#[tokio::test]
async fn clocks_are_coarse_and_sleeps_are_whole() {
    let host = Host::builder().service("glutton", &guests::fixture("glutton")).start().await;
    for _ in 0..5 {
        let text = host.get("/glutton/clocks").await.text();
        let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
        let [monotonic, wall, step, wall_step, slept] = numbers[..] else { panic!("{text}") };
        assert_eq!((monotonic, wall), (100_000, 100_000));
        assert_eq!((step % 100_000, wall_step % 100_000), (0, 0), "{text}");
        assert!(slept >= 5_000_000, "{text}");
    }
    let slept = Host::builder().service("probe3", &guests::fixture("probe3")).start().await;
    assert!(slept.get("/probe3/sleep?ms=5").await.text().contains("slept"));
}
