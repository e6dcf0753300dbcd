//! Who gets a request where a service has more than one revision, as far as one revision shows it.

use hotbay_tests::{Host, guests};

/// The value of `x-hotbay-revision` that the guest saw.
async fn seen_by_guest(host: &Host, asked: &str) -> Option<String> {
    let answer = host.request("GET", "/probe/headers").header("x-hotbay-revision", asked).send().await;
    assert_eq!(answer.revision(), guests::digest(&guests::fixture("probe")), "{}", host.told());
    let headers = answer.json()["headers"].as_array().cloned().unwrap_or_default();
    let found = headers.into_iter().find(|header| header[0] == "x-hotbay-revision")?;
    found[1].as_str().map(str::to_owned)
}

/// Guards the removal of the header in `find` in host/src/dispatch.rs.
#[tokio::test]
async fn a_revision_that_is_asked_for_is_no_matter_of_the_guest() {
    let wasm = guests::fixture("probe");
    let host = Host::builder().service("probe", &wasm).settings("probe", "[traffic]\nheader_override = true\n").start().await;
    for asked in ["main", &guests::digest(&wasm), "000000000000", "nobody"] {
        assert_eq!(seen_by_guest(&host, asked).await, None, "{asked}");
    }
    let host = Host::builder().service("probe", &wasm).start().await;
    assert_eq!(seen_by_guest(&host, "main").await.as_deref(), Some("main"), "without the setting it is a header like others");
}

#[tokio::test]
async fn a_share_without_a_good_revision_is_the_main_ones() {
    let wasm = guests::fixture("probe");
    let settings = "[traffic]\nbeta = 100\nsticky = \"header:x-user\"\n";
    let builder = Host::builder().own_state().service("probe", &wasm).settings("probe", settings);
    let host = builder.service("probe@beta", b"no wasm at all").start().await;
    let answer = host.request("GET", "/probe/marker").header("x-user", "ada").send().await;
    assert_eq!((answer.status, answer.revision()), (200, guests::digest(&wasm).as_str()));
}

#[tokio::test]
async fn traffic_that_cannot_be_shared_is_rejected() {
    let wasm = guests::fixture("probe");
    let host = Host::builder().service("probe", &wasm).start().await;
    for (toml, named) in [
        ("[traffic]\nbeta = 60\nnext = 41\n", "add up to 101 percent"),
        ("[traffic]\nbeta = 101\n", "101 is not a percentage"),
        ("[traffic]\nmain = 10\n", "the label `main` is reserved"),
        ("[traffic]\nsticky = \"x-user\"\n", "header:NAME"),
        ("[traffic]\nstickky = \"header:x-user\"\n", "a label's percentage"),
    ] {
        let mark = host.mark();
        host.place_settings("probe", toml);
        let rejected = host.since(mark).wait_rejected("probe").await;
        for named in ["probe.toml", "line", named] {
            assert!(rejected.reason.contains(named), "{toml:?}: {named:?} in {:?}", rejected.reason);
        }
        assert_eq!(host.get("/probe/marker").await.status, 200, "{}", host.told());
    }
}

#[tokio::test]
async fn names_of_labelled_files_are_checked() {
    let host = Host::builder().start().await;
    for (file, named) in [
        ("a@main.wasm", "`main` is reserved"),
        ("a@0123456789ab.wasm", "`0123456789ab` is reserved"),
        ("a@Beta.wasm", "the label `Beta` holds 'B'"),
        ("A@beta.wasm", "the service name `A` holds 'A'"),
        ("a@beta.toml", "settings of a labelled revision"),
    ] {
        std::fs::write(host.bay().join(file), guests::fixture("marker")).expect("a file");
        let rejected = host.wait_rejected(file).await;
        assert!(rejected.reason.contains(named), "{file}: {}", rejected.reason);
        assert!(!rejected.remedy.is_empty(), "{file}");
    }
}
