//! Torture line 14: nothing of one request is there for the next with fresh instances; with kept ones, a guest that leaks is
//! renewed before anybody notices, and a request's trap is its own.

use bytes::Bytes;
use hotbay_tests::{Host, guests};
use std::collections::BTreeSet;

/// A guest that looks for what the last request left in every kind of state there is, and leaves it: 200 where it finds nothing, and
/// a bit more for each kind where it does.
fn residue() -> Bytes {
    let parts = r#"
        (memory $own 1 64)
        (global $left (mut i32) (i32.const 0))
        (global $found (mut i32) (i32.const 0))
        (table $table 4 64 funcref)
        (elem declare func $work)
        (func $saw (param $there i32) (param $bit i32)
          (if (local.get $there) (then (global.set $found (i32.or (global.get $found) (local.get $bit))))))
    "#;
    let work = r#"
        (global.set $found (i32.const 0))
        ;; what a request wrote into memory, far up too, and that it grew
        (call $saw (i32.load $own (i32.const 1024)) (i32.const 1))
        (call $saw (i32.ne (memory.size $own) (i32.const 1)) (i32.const 2))
        (call $saw (i32.load8_u $own (i32.const 65535)) (i32.const 1))
        (call $saw (i32.load8_u $lists (i32.const 262143)) (i32.const 1))
        (call $saw (global.get $left) (i32.const 4))
        (call $saw (i32.eqz (ref.is_null (table.get $table (i32.const 3)))) (i32.const 8))
        (call $saw (i32.ne (table.size $table) (i32.const 4)) (i32.const 16))
        (i32.store $own (i32.const 1024) (i32.const 7))
        (i32.store8 $own (i32.const 65535) (i32.const 7))
        (i32.store8 $lists (i32.const 262143) (i32.const 7))
        (drop (memory.grow $own (i32.const 1)))
        (global.set $left (i32.const 1))
        (table.set $table (i32.const 3) (ref.func $work))
        (drop (table.grow $table (ref.null func) (i32.const 1)))
        ;; and what the host might show: variables, arguments, folders
        (call $environment (i32.const 64))
        (call $saw (i32.load $lists (i32.const 68)) (i32.const 32))
        (call $arguments (i32.const 64))
        (call $saw (i32.load $lists (i32.const 68)) (i32.const 32))
        (call $preopens (i32.const 64))
        (call $saw (i32.load $lists (i32.const 68)) (i32.const 64))
        (i32.add (i32.const 200) (global.get $found))
    "#;
    guests::answering(parts, work)
}

/// Guards the default policy: a slot of the pool that is used again shows nothing of who had it.
#[tokio::test]
async fn nothing_of_one_request_is_there_for_the_next() {
    // One slot: whoever comes next gets what the last one had.
    let host =
        Host::builder().service("fresh", &residue()).env("SECRET", "of the host").config("[pool]\ninstances = 2\n").start().await;
    for _ in 0..20 {
        assert_eq!(host.get("/fresh").await.status, 200);
    }
}

/// The guest above does look: kept on purpose, it finds memory, growth, global, table and its growth, and nothing of the host.
#[tokio::test]
async fn what_a_kept_instance_keeps_is_seen() {
    let host = Host::builder().service("kept", &residue()).settings("kept", "[instances]\npolicy = \"reuse\"\n").start().await;
    assert_eq!(host.get("/kept").await.status, 200);
    assert_eq!(host.get("/kept").await.status, 200 + 1 + 2 + 4 + 8 + 16);
}

/// Two services take turns in the slots of the pool, and never see each other.
#[tokio::test]
async fn services_that_share_slots_see_nothing_of_each_other() {
    let other = guests::answering(
        "(memory $own 1 64) (global $left (mut i32) (i32.const 9))",
        "
        (memory.fill $own (i32.const 0) (i32.const 255) (i32.const 65536))
        (memory.fill $lists (i32.const 131072) (i32.const 255) (i32.const 131072))
        (i32.const 200)",
    );
    let host =
        Host::builder().service("one", &residue()).service("other", &other).config("[pool]\ninstances = 2\n").start().await;
    for _ in 0..20 {
        assert_eq!(host.get("/other").await.status, 200);
        assert_eq!(host.get("/one").await.status, 200);
    }
}

/// Takes `pages` of memory at each request and keeps them.
fn leaking(pages: u32) -> Bytes {
    guests::answering(
        "(memory $own 1) (global $served (mut i32) (i32.const 0))",
        &format!(
            "(if (i32.eq (memory.grow $own (i32.const {pages})) (i32.const -1)) (then (unreachable)))
             (global.set $served (i32.add (global.get $served) (i32.const 1)))
             (i32.add (i32.const 200) (global.get $served))"
        ),
    )
}

async fn renewed(host: &Host, service: &str, reason: &str) -> u32 {
    let series = format!("hotbay_instances_renewed_total{{reason=\"{reason}\",service=\"{service}\"}} ");
    let text = host.admin().get("/metrics").await.text();
    let found = text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok());
    found.unwrap_or_else(|| panic!("{series} in\n{text}"))
}

/// Guards `MemoryBudget::outgrew` in host/src/runtime/limiter.rs: without it, every so many requests one fails at the limit.
#[tokio::test]
async fn a_guest_that_leaks_memory_is_renewed_before_a_request_fails() {
    let settings = "[instances]\npolicy = \"reuse\"\n[limits]\nmemory = \"8MiB\"\n";
    let host = Host::builder().service("leaky", &leaking(8)).settings("leaky", settings).start().await;
    for _ in 0..100 {
        let answer = host.get("/leaky").await;
        assert!(answer.status > 200 && answer.status < 300, "{} {}", answer.status, answer.text());
    }
    let count = renewed(&host, "leaky", "memory").await;
    assert!((5..50).contains(&count), "renewed {count} times in 100 requests");
}

/// What needs much from its first request on is no leak.
#[tokio::test]
async fn a_guest_that_needs_much_is_kept() {
    let once = guests::answering(
        "(memory $own 1) (global $served (mut i32) (i32.const 0))",
        "(if (i32.eqz (global.get $served)) (then (drop (memory.grow $own (i32.const 100)))))
         (global.set $served (i32.add (global.get $served) (i32.const 1)))
         (i32.add (i32.const 200) (global.get $served))",
    );
    let settings = "[instances]\npolicy = \"reuse\"\n[limits]\nmemory = \"8MiB\"\n";
    let host = Host::builder().service("large", &once).settings("large", settings).start().await;
    for n in 1..20 {
        assert_eq!(host.get("/large").await.status, 200 + n);
    }
    assert_eq!(renewed(&host, "large", "memory").await, 0);
}

/// Guards `instances.max_age`, of one that serves and of one that rests.
#[tokio::test]
async fn an_instance_ends_at_its_age() {
    let wasm = guests::fixture("lifecycle");
    let host = Host::builder()
        .service("busy", &leaking(0))
        .settings("busy", "[instances]\npolicy = \"reuse\"\nmax_age = \"200ms\"\n")
        .service("resting", &wasm)
        .settings("resting", "[instances]\npolicy = \"reuse\"\nmax_age = \"200ms\"\nidle = \"1h\"\n")
        .start()
        .await;
    let begun = std::time::Instant::now();
    while renewed(&host, "busy", "max_age").await == 0 {
        assert!(host.get("/busy").await.status >= 200);
        assert!(begun.elapsed() < hotbay_tests::PATIENCE, "an instance serves on at any age");
    }
    assert_eq!(host.get("/resting").await.text(), "started 1");
    let stopped = |event: &hotbay_tests::Event| event.service == "resting" && event.message == "the fixture was stopped";
    host.log().wait("the stop of an instance that is old", stopped).await;
}

/// One request's trap takes no other's answer, in either kind of instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_takes_nobody_elses_answer() {
    let settings = "[instances]\npolicy = \"reuse\"\n[rollback]\nwindow = \"0s\"\n";
    let host = Host::builder()
        .service("two", &guests::fixture("probe"))
        .settings("two", settings)
        .service("three", &guests::fixture("probe3"))
        .settings("three", settings)
        .start()
        .await;
    for name in ["two", "three"] {
        let (trap, good) = (format!("/{name}/trap"), format!("/{name}/sleep?ms=2"));
        let traps = futures::future::join_all((0..3).map(|_| async {
            let mut connection = host.connect().await;
            for _ in 0..60 {
                assert_eq!(connection.get(&trap).await.status, 500);
            }
        }));
        let answers = futures::future::join_all((0..3).map(|_| async {
            let mut connection = host.connect().await;
            for _ in 0..60 {
                let answer = connection.get(&good).await;
                assert_eq!(answer.status, 200, "{name}: {}\n{}", answer.text(), host.told());
                assert!(answer.text().contains("slept"), "{name}: {}", answer.text());
            }
        }));
        tokio::join!(traps, answers);
    }
}

/// Guards `shrink` in host/src/runtime/revision.rs: after a crowd, each of its instances ends.
#[tokio::test]
async fn after_a_crowd_its_instances_go() {
    let host = Host::builder()
        .service("probe", &guests::fixture("probe"))
        .settings("probe", "[instances]\npolicy = \"reuse\"\nidle = \"300ms\"\n")
        .start()
        .await;
    let crowd = futures::future::join_all((0..12).map(|_| host.get("/probe/sleep?ms=100"))).await;
    let ids: BTreeSet<_> = crowd.iter().map(|answer| answer.request_id().to_owned()).collect();
    assert!(crowd.iter().all(|answer| answer.status == 200) && ids.len() == 12);
    let series = format!("hotbay_instances{{revision=\"{}\",service=\"probe\"}} 0", guests::digest(&guests::fixture("probe")));
    let begun = std::time::Instant::now();
    while !host.admin().get("/metrics").await.text().lines().any(|line| line == series) {
        assert!(begun.elapsed() < hotbay_tests::PATIENCE, "the instances stay\n{}", host.told());
    }
}
