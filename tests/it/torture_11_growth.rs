//! Torture line 11: a guest that takes all it can get of something gets what the host gives anybody, and only it fails.

use hotbay_tests::{Host, Response, guests};

async fn host(settings: &str) -> Host {
    let wasm = guests::fixture("glutton");
    Host::builder()
        .service("glutton", &wasm)
        .settings("glutton", settings)
        .service("neighbour", &guests::fixture("marker"))
        .dev()
        .start()
        .await
}

async fn assert_unharmed(host: &Host) {
    assert_eq!(host.get("/neighbour").await.status, 200, "{}", host.told());
}

fn reason(answer: &Response) -> String {
    answer.json()["dev"]["reason"].as_str().unwrap_or_default().to_owned()
}

/// Asks `target` several times at once and requires that the host takes no more than so many MiB for it.
async fn bounded(host: &Host, target: &str, mib: u64) -> Vec<Response> {
    host.get(target).await;
    let before = host.resources().resident;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.extend(futures::future::join_all((0..4).map(|_| host.get(target))).await);
    }
    let grown = host.resources().resident.saturating_sub(before) >> 20;
    assert!(grown <= mib, "{target}: {grown} MiB more, {mib} are allowed");
    assert_unharmed(host).await;
    answers
}

/// Guards RESOURCES_MAX in host/src/runtime/store.rs.
#[tokio::test]
async fn handles_come_to_an_end() {
    let host = host("").await;
    for target in ["/glutton/resources", "/glutton/timers"] {
        for answer in bounded(&host, target, 64).await {
            assert_eq!(answer.status, 500);
            assert!(reason(&answer).contains("resource table"), "{target}: {}", answer.text());
        }
    }
}

/// Guards FIELDS_MAX in host/src/runtime/store.rs: headers are kept by the host.
#[tokio::test]
async fn headers_come_to_an_end() {
    let host = host("").await;
    assert_eq!(host.get("/glutton/header").await.text(), "done");
    for (target, named) in
        [("/glutton/long-header", "fields"), ("/glutton/headers", "fields"), ("/glutton/all-headers", "resource table")]
    {
        for answer in bounded(&host, target, 256).await {
            assert_eq!(answer.status, 500, "{target}: {}", answer.text());
            assert!(reason(&answer).contains(named), "{target}: {}", answer.text());
        }
    }
}

/// Guards RANDOM_MAX in host/src/runtime/store.rs.
#[tokio::test]
async fn random_bytes_come_to_an_end() {
    let host = host("").await;
    assert_eq!(host.get("/glutton/random-block").await.text(), "65536");
    for target in ["/glutton/random", "/glutton/insecure-random"] {
        for answer in bounded(&host, target, 64).await {
            assert_eq!(answer.status, 500, "{target}");
        }
    }
}

/// Random bytes are of the system: no two instances, and no two hosts, have the same.
#[tokio::test]
async fn chance_is_nobodys_but_ones_own() {
    let (one, two) = (host("").await, host("").await);
    let mut seen = std::collections::BTreeSet::new();
    for host in [&one, &two] {
        for _ in 0..20 {
            assert!(seen.insert(host.get("/glutton/chance").await.text()), "the same bytes twice");
        }
    }
}

/// Guards LINES_MAX and LINE_MAX in host/src/runtime/stdio.rs: what is written is cut and never kept.
#[tokio::test]
async fn floods_of_words_are_cut() {
    let host = host("[limits]\ncpu = \"300ms\"\ndeadline = \"30s\"\n").await;
    for target in ["/glutton/stdout", "/glutton/stderr", "/glutton/one-line"] {
        let mark = host.mark();
        for answer in bounded(&host, target, 64).await {
            assert_eq!(answer.status, 504, "{target}: {}", answer.text());
        }
        let id = host.get(target).await.request_id().to_owned();
        host.since(mark).wait_request(&id).await;
        let lines =
            host.since(mark).events().into_iter().filter(|event| event.request_id == id && event.target == "hotbay::guest");
        let told = lines.inspect(|line| assert!(line.message.len() <= 4 << 10, "{} bytes", line.message.len())).count();
        assert!((1..=201).contains(&told), "{target}: {told} lines");
    }
}

/// Guards the bound of a body that nobody reads, CHUNK in host/src/capabilities/outbound.rs.
#[tokio::test]
async fn a_body_that_nobody_takes_waits_in_the_guest() {
    let host = host("[limits]\nresponse_body = \"1GiB\"\nstream_idle = \"30s\"\n").await;
    let before = host.resources().resident;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(host.get_open("/glutton/body").await);
    }
    // Each has written what its client's socket takes; what is over waits in the guest, which is no work for the host.
    for reply in &mut held {
        assert!(reply.chunk().await.is_ok());
    }
    assert_unharmed(&host).await;
    let grown = host.resources().resident.saturating_sub(before) >> 20;
    assert!(grown <= 128, "{grown} MiB more");
}

/// Guards `MemoryBudget::table_growing` in host/src/runtime/limiter.rs, and the pool's own bound of a table.
#[tokio::test]
async fn tables_come_to_an_end() {
    let parts = (0..8).map(|n| format!("(table $t{n} 1 funcref)")).collect::<String>();
    // Each grows until it may not; the answer is 200 and how often in units of 1,000 elements, all tables together.
    let grow = |n| {
        format!(
            "(loop $more{n} (if (i32.ne (table.grow $t{n} (ref.null func) (i32.const 1000)) (i32.const -1))
        (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $more{n}))))"
        )
    };
    let work = format!("(local $n i32) {} (i32.add (i32.const 200) (local.get $n))", (0..8).map(grow).collect::<String>());
    let wasm = guests::answering(&parts, &work);
    let host = Host::builder()
        .service("roomy", &wasm)
        .service("narrow", &wasm)
        .settings("narrow", "[limits]\nmemory = \"1MiB\"\n")
        .start()
        .await;
    for _ in 0..4 {
        // 65 of each fit below the 65,536 elements that a table may have: 520 thousand elements, 4 MiB.
        assert_eq!(host.get("/roomy").await.status, 200 + 8 * 65);
        // One MiB less the memory that the guest begins with.
        let narrow = host.get("/narrow").await.status;
        assert!((201..200 + 131).contains(&narrow), "{narrow}");
    }
}

/// Guards `MemoryBudget::grow` in host/src/runtime/limiter.rs: wasmtime's own limits are for each memory by itself.
#[tokio::test]
async fn all_memories_of_an_instance_count_together() {
    let wasm = guests::text("two-memories");
    let host = Host::builder()
        .service("two", &wasm)
        .settings("two", "[limits]\nmemory = \"16MiB\"\n")
        .service("roomy", &wasm)
        .settings("roomy", "[limits]\nmemory = \"32MiB\"\n")
        .start()
        .await;
    assert_eq!(host.get("/roomy").await.text(), "first: y second: y");
    assert_eq!(host.get("/two").await.text(), "first: y second: .", "10 MiB and 10 MiB are more than 16");
}
