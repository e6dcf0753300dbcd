//! Torture line 11: guests that take all they can get, of memory, tables, handles, headers, random bytes and lines.

use hotbay_tests::{Host, guests};

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

#[tokio::test]
async fn tables_do_not_grow_for_ever() {
    let host =
        Host::builder().service("bomb", &guests::text("table-bomb")).service("probe", &guests::fixture("probe")).start().await;
    for _ in 0..3 {
        let answer = host.get("/bomb").await;
        assert_eq!((answer.status, answer.header("content-type")), (500, "application/problem+json"), "{}", answer.text());
    }
    assert_eq!(host.get("/probe/marker").await.status, 200);
}

/// Guards `RESOURCES_MAX`, `FIELDS_MAX` and `RANDOM_MAX` in host/src/runtime/store.rs.
#[tokio::test]
async fn handles_headers_and_random_bytes_are_bounded() {
    let host = Host::builder().service("probe", &guests::fixture("probe")).start().await;
    assert_eq!(host.get("/probe/leak?count=100").await.status, 200);
    assert_eq!(host.get("/probe/leak?count=100000").await.status, 500, "so many handles at once");
    let answer = host.get("/probe/fields").await;
    assert!(answer.status == 500 || answer.text().parse::<u32>().is_ok_and(|count| count < 100), "{}", answer.text());
    assert_eq!(host.get("/probe/random?bytes=65536").await.text(), "65536");
    assert_eq!(host.get("/probe/random?bytes=50000000").await.status, 500);
    assert_eq!(host.get("/probe/marker").await.status, 200);
}

/// Guards the limits of host/src/runtime/stdio.rs: a flood costs its own guest its computing time, and nobody memory.
#[tokio::test]
async fn a_flood_of_lines_ends_with_its_guest() {
    let host = Host::builder()
        .service("probe", &guests::fixture("probe"))
        .settings("probe", "[limits]\ncpu = \"300ms\"\n")
        .start()
        .await;
    let before = host.resources().resident;
    let answer = host.get("/probe/flood?lines=1000000000").await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    let lines = host.events().into_iter().filter(|event| event.message.contains("of a flood")).count();
    assert_eq!(lines, 200);
    let grown = host.resources().resident.saturating_sub(before) >> 20;
    assert!(grown < 64, "{grown} MiB more");
}
