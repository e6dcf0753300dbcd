//! Torture line 9: names with dots, percent signs, NUL, slashes, look-alikes, too many bytes.

use crate::bad_input::{assert_unharmed, two};
use hotbay_tests::{How, guests};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Guards `ServiceName::parse` in host/src/config/name.rs.
#[tokio::test]
async fn names_that_are_not_allowed_are_told() {
    let host = two().await;
    let wasm = guests::fixture("probe");
    let long = format!("{}.wasm", "a".repeat(64));
    let longest = format!("{}.wasm", "a".repeat(250));
    for (file, named) in [
        ("Orders.wasm", "'O'"),
        ("a_b.wasm", "'_'"),
        ("a b.wasm", "' '"),
        ("..x.toml", ""),
        ("%2e%2e.wasm", "'%'"),
        ("a.b.wasm", "'.'"),
        ("n\u{e4}me.wasm", "U+00E4"),
        // A Cyrillic `о`, which looks like a Latin one.
        ("\u{43e}rders.wasm", "U+043E"),
        ("-a.wasm", "hyphen"),
        ("a-.toml", "hyphen"),
        (&long, "64 bytes"),
        (&longest, "250 bytes"),
        ("a@b.toml", "settings of a labelled revision"),
    ] {
        fs::write(host.bay().join(file), &wasm).expect("a name that the file system takes");
        if file.starts_with('.') {
            continue; // Ignored, as every file that begins with a dot.
        }
        let rejected = host.wait_rejected(file).await;
        assert!(rejected.reason.contains(named), "{file}: {}", rejected.reason);
        assert!(!rejected.remedy.is_empty(), "{file}");
    }
    assert_unharmed(&host, "names").await;
    assert_eq!(host.get("/Orders").await.status, 404);
    // Told once, not at every look.
    host.swap("fence", &guests::revision("probe", 1), How::Rename).await;
    let told = host.events().into_iter().filter(|event| event.is("Orders.wasm", "rejected")).count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn a_name_that_is_no_text_is_told() {
    let host = two().await;
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.wasm");
    fs::write(host.bay().join(name), guests::fixture("probe")).expect("a name that the file system takes");
    host.log().wait("a reject of the file", |event| event.state == "rejected" && event.service.starts_with("caf")).await;
}

/// A name that comes by the admin API leads to no file outside the bay, however it is written.
#[tokio::test]
async fn a_name_in_an_order_leads_nowhere_else() {
    let host = two().await;
    let admin = host.admin();
    let wasm = guests::revision("probe", 1);
    let long = "a".repeat(64);
    let before = files(host.folder());
    for name in [
        "..",
        "../x",
        "%2e%2e",
        "%2e%2e%2fx",
        "..%2fx",
        "x%2f..%2fy",
        "%2fetc%2fx",
        "x%00",
        "%00",
        "x%0a",
        ".hotbay",
        "%2ehotbay",
        "X",
        "a_b",
        "%D0%BErders",
        "caf%e9",
        "-a",
        "a%40",
        "@b",
        &long,
    ] {
        for target in [format!("/v1/services/{name}"), format!("/v1/services/{name}/settings")] {
            let answer = admin.put(&target, wasm.clone()).await;
            assert!((400..500).contains(&answer.status), "{target}: {} {}", answer.status, answer.text());
            let answer = admin.delete(&target).await;
            assert!((400..500).contains(&answer.status), "{target}: {} {}", answer.status, answer.text());
        }
    }
    assert_eq!(files(host.folder()), before);
    assert_unharmed(&host, "names in orders").await;
}

/// Every file below a folder, the state folder's aside.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
            if entry.is_dir() && !entry.ends_with(".hotbay") {
                folders.push(entry.clone());
            }
            found.insert(entry);
        }
    }
    found
}
