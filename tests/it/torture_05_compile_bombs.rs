//! Torture line 5: builds that are made to burn the compiler burn a child, hold up nobody, and the child can do nothing else.

use hotbay_tests::{Builder, Host, How, bombs, guests};
use std::fs;

/// One core, where the machine lets us choose, so that there are fewer places than bombs on every machine.
fn one_core(builder: Builder) -> Builder {
    let here = std::process::Command::new("taskset").args(["-c", "0", "true"]).output();
    if here.is_ok_and(|ended| ended.status.success()) { builder.wrapped(["taskset", "-c", "0"]) } else { builder }
}

/// Guards `Lanes` in host/src/runtime/lanes.rs: with places alone, the bombs would have them all until they are ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_hold_up_no_swap_of_another_service() {
    let places = std::thread::available_parallelism().map_or(1, usize::from);
    let builder = Host::builder().own_state().config("[compile]\ntimeout = \"10min\"\n");
    let host = one_core(builder.service("shop", &guests::revision("marker", 0))).start().await;
    // More than there are places, of any lane, on one core or on all of them.
    let bombs = places.max(3) + 1;
    for n in 0..bombs {
        host.place(&format!("bomb-{n}"), &bombs::slow(n as u64), How::Rename);
    }
    for n in 0..bombs {
        host.wait_for(&format!("bomb-{n}"), "reading").await;
    }
    for n in 1..4 {
        let revision = host.swap("shop", &guests::revision("marker", n), How::Rename).await;
        assert_eq!(host.get("/shop").await.revision(), revision);
    }
    let ended: Vec<_> = host.events().into_iter().filter(|event| event.state == "rejected").map(|event| event.reason).collect();
    assert!(ended.is_empty(), "no bomb has ended, and three swaps are made: {ended:?}\n{}", host.told());
}

/// Guards the wall-clock limit and the bound of memory: either ends it, and the build is rejected by that name.
#[tokio::test]
async fn a_bomb_is_rejected_for_what_it_takes() {
    let host = Host::builder()
        .config("[compile]\ntimeout = \"10s\"\n")
        .service("shop", &guests::fixture("marker"))
        .service("bomb", &bombs::slow(99))
        .start()
        .await;
    let rejected = host.wait_rejected("bomb").await;
    assert!(rejected.reason.contains("compile.timeout"), "{}", rejected.reason);
    assert!(rejected.remedy.contains("compile.timeout"), "{}", rejected.remedy);
    assert_eq!(host.get("/shop").await.status, 200);
    let host =
        Host::builder().own_state().config("[compile]\nmemory = \"1GiB\"\n").service("bomb", &bombs::greedy(98)).start().await;
    let rejected = host.wait_rejected("bomb").await;
    assert!(rejected.reason.contains("compile.memory"), "{}", rejected.reason);
}

/// Many of everything: each is compiled or rejected, and the host is as it was.
#[tokio::test]
async fn builds_of_absurd_shapes_end_in_a_word() {
    let mut host =
        Host::builder().config("[compile]\ntimeout = \"10s\"\n").service("shop", &guests::fixture("marker")).start().await;
    let shapes = [
        ("types", bombs::types(100_000)),
        ("functions", bombs::functions(300_000)),
        ("blocks", bombs::nested_blocks(200_000)),
        ("components", bombs::nested_components(5_000)),
    ];
    for (name, wasm) in &shapes {
        host.place(name, wasm, How::Rename);
    }
    for (name, _) in &shapes {
        let rejected = host.wait_rejected(name).await;
        println!("{name}: {}", rejected.reason);
        assert!(!rejected.remedy.is_empty(), "{name}");
    }
    assert_eq!(host.get("/shop").await.status, 200);
    assert!(host.is_alive());
}

/// A component with a mark by which the child of the host with fault points tries what it must not be able to do.
fn attempting() -> Vec<u8> {
    let mark = b"hotbay:attempts";
    let custom = [&[u8::try_from(mark.len()).expect("a short mark")][..], mark].concat();
    [&b"\0asm\x0d\0\x01\0\0"[..], &[u8::try_from(custom.len()).expect("a short section")], &custom].concat()
}

/// Guards `shut_off` in host/src/runtime/confine.rs, in the process that compiles. What each layer holds by itself is tested there.
#[tokio::test]
async fn the_compiling_process_can_do_nothing_else() {
    can_do_nothing_else(Host::builder()).await;
}

/// With `--dev` it stays from build to build.
#[tokio::test]
async fn the_compiling_process_that_stays_can_do_nothing_else() {
    can_do_nothing_else(Host::builder().dev()).await;
}

async fn can_do_nothing_else(builder: Builder) {
    let never = builder.folder().join("never");
    let host = builder.faulty("none", &never).service("bomb", &attempting()).start().await;
    let told = host.wait_rejected("bomb").await.reason;
    let (_, tried) = told.split_once("attempts: ").unwrap_or_else(|| panic!("no attempts in {told:?}"));
    let tried: Vec<_> = tried.split_whitespace().filter_map(|one| one.split_once('=')).collect();
    assert!(tried.len() > 20, "{tried:?}");
    if host.events().iter().any(|event| event.fields["lacking"].to_string().contains("seccomp")) {
        return println!("skipped: this system lets nobody use seccomp, and the host says so");
    }
    for (what, error) in tried {
        // What is left open counts what was inherited beside stdin, stdout and stderr.
        let expected = if what == "inherited" { "0" } else { "38" };
        assert_eq!(error, expected, "{what}");
    }
    assert_eq!(fs::read_dir(host.bay()).expect("a bay").count(), 1, "it left nothing");
}

/// The host says once, at its start, what the system does not do; here it does all of it or the line is there.
#[tokio::test]
async fn what_the_system_lacks_is_told_once() {
    let host = Host::builder().own_state().service("shop", &guests::revision("marker", 7)).start().await;
    for n in 8..10 {
        host.swap("shop", &guests::revision("marker", n), How::Rename).await;
    }
    let told = host.events().into_iter().filter(|event| event.message.contains("not wholly shut off")).count();
    assert!(told <= 1, "{told}");
}

/// Guards `Kept::compile` in host/src/runtime/kept.rs: what a build does to the child that stays is felt by no other build.
#[tokio::test]
async fn a_compiling_process_that_stays_is_replaced_after_a_build_that_failed() {
    let host = Host::builder()
        .own_state()
        .dev()
        .service("shop", &guests::revision("marker", 1))
        .config("[compile]\ntimeout = \"10s\"\n")
        .start()
        .await;
    for (name, wasm) in [("greedy", bombs::greedy(1)), ("slow", bombs::slow(1))] {
        let mark = host.mark();
        host.place(name, &wasm, How::Rename);
        let reason = host.since(mark).wait_rejected(name).await.reason;
        assert!(reason.contains("compile.timeout") || reason.contains("compile.memory"), "{name}: {reason}");
        for n in 2..4 {
            let wasm = guests::stamped(&guests::revision("marker", n), name);
            host.swap("shop", &wasm, How::Rename).await;
            assert_eq!(host.get("/shop").await.revision(), guests::digest(&wasm));
        }
    }
}
