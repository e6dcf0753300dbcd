//! What will not serve: named for what it is, with the remedy, and nobody else notices.

use bytes::Bytes;
use hotbay_tests::{
    Event, Host, How, guests,
    host::{finish, hotbay},
};
use std::fs;

/// A host with a good `probe` and a `neighbour`.
pub(crate) async fn two() -> Host {
    let wasm = guests::fixture("probe");
    Host::builder().service("probe", &wasm).service("neighbour", &wasm).start().await
}

/// Both services serve what they served before.
pub(crate) async fn assert_unharmed(host: &Host, after: &str) {
    for name in ["probe", "neighbour"] {
        let answer = host.get(&format!("/{name}/marker")).await;
        assert_eq!(
            (answer.status, answer.revision()),
            (200, guests::digest(&guests::fixture("probe")).as_str()),
            "{name} after {after}\n{}",
            host.told()
        );
    }
}

/// Places `content` over the good build, and requires a reject that names what it says.
async fn assert_rejected(host: &Host, what: &str, content: &[u8], named: &[&str]) -> Event {
    let mark = host.mark();
    host.place("probe", content, How::Rename);
    let rejected = host.since(mark).wait_rejected("probe").await;
    assert_eq!((rejected.level.as_str(), rejected.revision.as_str()), ("WARN", guests::digest(content).as_str()), "{what}");
    for name in named {
        assert!(rejected.reason.contains(name), "{what}: {name:?} in {:?}", rejected.reason);
    }
    assert!(!rejected.remedy.is_empty(), "{what}");
    assert_unharmed(host, what).await;
    rejected
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89";

#[tokio::test]
async fn what_is_no_webassembly_is_named_for_what_it_is() {
    let host = two().await;
    let elf = fs::read("/proc/self/exe").expect("this test");
    for (what, content, named) in [
        ("empty", &b""[..], "empty"),
        ("text", b"#include <stdio.h>\n", "text"),
        ("a script", b"#!/bin/sh\n", "script"),
        ("WAT", b"(component)", "WAT"),
        ("ELF", &elf[..1 << 16], "ELF"),
        ("PNG", PNG, "PNG"),
        ("zip", b"PK\x03\x04rest", "zip"),
        ("noise", &[0x93, 0x00, 0x17, 0xff, 0x01], "unknown kind"),
    ] {
        assert_rejected(&host, what, content, &[named, "expected a WebAssembly component"]).await;
    }
}

#[tokio::test]
async fn webassembly_of_another_kind_or_time_is_named() {
    let host = two().await;
    let component = guests::fixture("probe");
    let version = |bytes: [u8; 4]| [&b"\0asm"[..], &bytes, &component[8..]].concat();
    assert_rejected(&host, "a newer component", &version([0x0e, 0, 1, 0]), &["0xe", "0xd"]).await;
    assert_rejected(&host, "a newer module", &version([2, 0, 0, 0]), &["version 2"]).await;
    let bare =
        assert_rejected(&host, "a bare module", &guests::text("bare-module"), &["core module without WIT metadata", "`add`"])
            .await;
    assert!(bare.remedy.contains("wasm32-wasip2"), "{}", bare.remedy);
}

#[tokio::test]
async fn imports_and_exports_that_do_not_fit_are_named() {
    let host = two().await;
    let text = |name| guests::text(name);
    let missing = assert_rejected(&host, "a missing import", &text("unknown-import"), &["acme:billing/invoices@1.2.0"]).await;
    assert!(missing.remedy.contains("acme:billing"), "{}", missing.remedy);
    assert_rejected(&host, "an old import", &text("old-import"), &["wasi:http/types@0.1.0"]).await;
    assert_rejected(&host, "an import of another type", &text("wrong-import"), &["wasi:random/random", "get-random-u64"]).await;
    assert_rejected(&host, "no exports", &text("no-exports"), &["wasi:http/incoming-handler", "exports nothing"]).await;
    assert_rejected(&host, "a newer export", &text("future-export"), &["wasi:http/incoming-handler", "wasi:http/handler@1.0.0"])
        .await;
    assert_rejected(&host, "an export of another type", &text("wrong-export"), &["handle"]).await;
}

/// Guards `Revision::warm` in host/src/runtime/revision.rs.
#[tokio::test]
async fn a_build_that_does_not_start_is_rejected() {
    let host = Host::builder()
        .service("probe", &guests::fixture("probe"))
        .service("neighbour", &guests::fixture("probe"))
        .settings("probe", "[limits]\ndeadline = \"500ms\"\n")
        .start()
        .await;
    let trap = guests::patched(&guests::fixture("module"), "initialize:fine", "initialize:trap");
    assert_rejected(&host, "a trap in _initialize", &trap, &["does not start", "traps in _initialize"]).await;
    assert_rejected(&host, "a trap in the start function", &guests::text("trap-in-start"), &["does not start", "unreachable"])
        .await;
    assert_rejected(&host, "a start without an end", &guests::text("endless-start"), &["does not start", "500ms"]).await;
    let hungry = assert_rejected(&host, "a hungry start", &guests::text("hungry-start"), &["does not start", "64MiB"]).await;
    assert!(hungry.remedy.contains("limits.memory"), "{}", hungry.remedy);
    let lifecycle = |from, to| guests::patched(&guests::fixture("lifecycle"), from, to);
    assert_rejected(
        &host,
        "an err of lifecycle.start",
        &lifecycle("start:fine", "start:word"),
        &["the fixture has no table of prices"],
    )
    .await;
    assert_rejected(&host, "a trap in lifecycle.start", &lifecycle("start:fine", "start:trap"), &["traps in start"]).await;
    assert_rejected(&host, "a lifecycle.start without an end", &lifecycle("start:fine", "start:spin"), &["500ms"]).await;
}

/// What goes wrong when an instance stops changes nothing else: the build serves.
#[tokio::test]
async fn a_build_that_does_not_stop_serves_all_the_same() {
    let host = Host::builder().start().await;
    for stop in ["stop:trap", "stop:spin"] {
        let wasm = guests::patched(&guests::fixture("lifecycle"), "stop:fine", stop);
        host.swap("probe", &wasm, How::Rename).await;
        assert_eq!(host.get("/probe").await.text(), "started 0", "fresh instances are not started");
        host.log().wait(stop, |event| event.level == "WARN" && event.message.contains("lifecycle.stop")).await;
    }
}

/// Whether a component of this many bytes of `wasm` ends where a section does: each is a byte, its length in LEB128 and its content.
fn ends_between_sections(wasm: &[u8], len: usize) -> bool {
    let mut at = 8;
    while at < len {
        let digits = wasm[at + 1..].iter().position(|byte| byte & 0x80 == 0).expect("an end of the length") + 1;
        let size = wasm[at + 1..][..digits].iter().rev().fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
        at += 1 + digits + size;
    }
    at == len
}

/// Guards `Unfit::Truncated` in host/src/runtime/artifact.rs. All lengths at once, since each one is waited for.
#[tokio::test]
async fn a_component_cut_at_any_length_is_rejected() {
    let host = two().await;
    let whole = guests::fixture("probe");
    let mut random = fastrand::Rng::with_seed(3);
    let mut lengths =
        vec![1, 3, 4, 5, 7, 8, 9, 10, 16, 100, whole.len() / 2, whole.len() - 1000, whole.len() - 2, whole.len() - 1];
    lengths.extend((0..26).map(|_| random.usize(8..whole.len())));
    for (n, len) in lengths.iter().enumerate() {
        host.place(&format!("cut-{n}"), &whole[..*len], How::Rename);
    }
    for (n, len) in lengths.iter().enumerate() {
        let name = format!("cut-{n}");
        let rejected = host.wait_rejected(&name).await;
        // What ends between two sections is whole, and lacks what comes after.
        let is_whole = ends_between_sections(&whole, *len);
        let reason = if is_whole { "lacks the export" } else { "truncated" };
        assert!(rejected.reason.contains(reason) || is_whole && *len == 8, "{len} bytes: {}", rejected.reason);
        assert_eq!(host.get(&format!("/{name}")).await.status, 503, "it never was good");
    }
    // And over a good build.
    assert_rejected(&host, "cut in the middle", &whole[..whole.len() / 2], &["truncated"]).await;
}

/// Guards the validation in the compiling child, and that it is a child. A flip may be harmless; then the build serves.
#[tokio::test]
async fn hundreds_of_flipped_bits_harm_nobody() {
    let mut host = two().await;
    let (large, small) = (guests::fixture("probe"), guests::fixture("library"));
    let mut random = fastrand::Rng::with_seed(3);
    let mut flipped = |wasm: &Bytes| {
        let mut wasm = wasm.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..wasm.len());
            wasm[at] ^= 1 << random.u8(0..8);
        }
        wasm
    };
    // The small one compiles quickly, so there are many of it; the large one is what services look like.
    let builds: Vec<_> = (0..240).map(|n| flipped(if n % 12 == 0 { &large } else { &small })).collect();
    let (mut rejected, mut served) = (0, 0);
    // Some at a time; each place is used again, so that most come over one that was there before.
    for round in builds.chunks(24) {
        let mark = host.mark();
        for (place, wasm) in round.iter().enumerate() {
            host.place(&format!("flip-{place}"), wasm, How::Rename);
        }
        for (place, wasm) in round.iter().enumerate() {
            let (name, revision) = (format!("flip-{place}"), guests::digest(wasm));
            let ended = |event: &Event| {
                event.service == name && event.revision == revision && ["rejected", "published"].contains(&event.state.as_str())
            };
            match host.since(mark).wait(format!("the end of {name} {revision}"), ended).await.state.as_str() {
                "rejected" => rejected += 1,
                _ => served += 1,
            }
        }
        assert_unharmed(&host, "a round of flipped bits").await;
    }
    assert!(host.is_alive());
    assert!(rejected > 20, "{rejected} were rejected and {served} served: were they flipped?");
    println!("{rejected} were rejected, {served} served");
}

#[tokio::test]
async fn settings_that_are_not_understood_name_line_and_nearest_key() {
    let host = two().await;
    for (toml, named, remedy) in [
        (
            "[limits]\nmemmory = \"1MiB\"\n",
            vec!["probe.toml", "line 2", "memmory = \"1MiB\"", "unknown key `memmory`"],
            "`memory`",
        ),
        ("[limit]\n", vec!["line 1", "unknown key `limit`"], "`limits`"),
        ("\n\n[[route]]\npath = \"/a\"\nmethod = [\"GET\"]\n", vec!["line 5", "unknown key `method`"], "`methods`"),
        ("[instances]\npolicy = \"always\"\n", vec!["line 2", "always", "fresh", "reuse"], ""),
        ("[limits]\ndeadline = \"soon\"\n", vec!["line 2", "`soon` is not a duration"], ""),
        ("[limits]\nmemory = 64\n", vec!["line 2"], ""),
        ("[limits]\nmemory = \"64\"\n", vec!["line 2", "`64` is not a size"], ""),
        ("[limits]\nconcurrency = 0\n", vec!["line 2", "1 to 65536"], ""),
        ("[[route]]\npath = \"no-slash\"\n", vec!["no-slash", "must begin with `/`"], ""),
        ("[[route]]\npath = \"/a/{b\"\n", vec!["/a/{b"], ""),
        ("[[route]]\npath = \"/a\"\nhost = \"http://x\"\n", vec!["http://x"], ""),
        ("[[route]]\npath = \"/a/{*rest}\"\nstrip = \"/b\"\n", vec!["strip", "/b"], ""),
        ("[[route]]\npath = \"/a\"\n[[route]]\npath = \"/a\"\n", vec!["/a"], ""),
        ("no toml at all\n", vec!["line 1"], ""),
        ("[grants]\nhttps = []\n", vec!["line 2", "unknown key `https`"], "`http`"),
        ("[grants]\ncalls = [\"Stock\"]\n", vec!["line 2", "Stock", "service name"], ""),
        ("[grants]\ncalls = [\"stock.internal\"]\n", vec!["line 2", "stock.internal"], ""),
        (
            "[grants]\nhttp = [\"api.example.com\"]\n",
            vec!["line 2", "api.example.com", "neither http nor https"],
            "docs/settings.md",
        ),
        ("[grants]\nhttp = [\n\"https://a.example\",\n\"http://a.example/x\"]\n", vec!["http://a.example/x", "whole origin"], ""),
        ("[grants]\nhttp = [\"http://user@a.example\"]\n", vec!["line 2", "user before the host"], ""),
        ("[grants]\nhttp = [\"http://0.0.0.0:80\"]\n", vec!["line 2", "0.0.0.0"], ""),
        ("[grants]\nhttp = [\"http://stock.internal\"]\n", vec!["line 2", "calls between services"], ""),
        ("[grants]\ntcp = [\"db.example.com\"]\n", vec!["line 2", "db.example.com", "names no port"], "docs/settings.md"),
        ("[grants]\ntcp = [\"db.example.com:0\"]\n", vec!["line 2", "port is no number"], ""),
        ("[grants]\ntcp = [\n\"a.example:1\",\n\"*.a.example:1\"]\n", vec!["*.a.example:1", "`*`", "write"], ""),
        ("[grants]\ntcp = [\"redis://127.0.0.1:6379\"]\n", vec!["line 2", "URL"], ""),
        ("[grants]\ntcp = [\"user@a.example:1\"]\n", vec!["line 2", "user before the host"], ""),
        ("[grants]\ntcp = [\"[::ffff:127.0.0.1]:1\"]\n", vec!["line 2", "write \"127.0.0.1:1\""], ""),
        ("[grants]\ntcp = [\"stock.internal:80\"]\n", vec!["line 2", "calls between services"], ""),
        ("[[cron]]\npath = \"/a\"\n", vec!["line 1", "schedule"], ""),
    ] {
        let mark = host.mark();
        host.place_settings("probe", toml);
        let rejected = host.since(mark).wait_rejected("probe").await;
        for name in named {
            assert!(rejected.reason.contains(name), "{toml:?}: {name:?} in {:?}", rejected.reason);
        }
        assert!(!rejected.remedy.is_empty() && rejected.remedy.contains(remedy), "{toml:?}: {}", rejected.remedy);
        assert_unharmed(&host, toml).await;
    }
    let mark = host.mark();
    fs::write(host.bay().join("probe.toml"), b"# caf\xe9\n").expect("settings");
    assert!(host.since(mark).wait_rejected("probe").await.reason.contains("UTF-8"));
    assert_unharmed(&host, "settings that are no text").await;
}

#[tokio::test]
async fn bad_settings_at_the_start_are_told_in_the_table() {
    let host =
        Host::builder().service("probe", &guests::fixture("probe")).settings("probe", "[limits]\nmemmory = 1\n").start().await;
    let table = host.table().await;
    for named in ["rejected", "line 2", "memmory", "did you mean `memory`?"] {
        assert!(table.contains(named), "{named}: {table}");
    }
    assert_eq!(host.get("/probe").await.status, 503);
    host.place_settings("probe", "");
    host.wait_for("probe", "published").await;
    assert_eq!(host.get("/probe").await.status, 200);
}

#[tokio::test]
async fn settings_without_a_build_are_told_and_waited_with() {
    let host = Host::builder().settings("probe", "[limits]\nconcurrency = 7\n").start().await;
    let rejected = host.wait_rejected("probe").await;
    assert!(rejected.reason.contains("probe.toml is there without probe.wasm"), "{}", rejected.reason);
    assert!(rejected.remedy.contains("probe.wasm"), "{}", rejected.remedy);
    host.swap("probe", &guests::fixture("probe"), How::Rename).await;
    assert_eq!(host.get("/probe/marker").await.status, 200);
}

#[tokio::test]
async fn things_that_are_no_files_are_told() {
    let host = two().await;
    fs::create_dir(host.build_path("folder")).expect("a folder");
    assert!(host.wait_rejected("folder").await.reason.contains("folder"));
    let huge = fs::File::create(host.bay().join(".huge")).expect("a file");
    huge.set_len(300 << 20).expect("a sparse file");
    fs::rename(host.bay().join(".huge"), host.build_path("huge")).expect("a rename");
    assert!(host.wait_rejected("huge").await.reason.contains("allowed"));
    std::os::unix::fs::symlink("nowhere", host.build_path("dangling")).expect("a link");
    host.swap("fence", &guests::revision("probe", 1), How::Rename).await;
    assert!(host.wait_rejected("dangling").await.reason.contains("link to a file that is not there"));
    assert_eq!(host.get("/dangling").await.status, 503, "it may still come");
    assert_unharmed(&host, "things that are no files").await;
}

/// Reading a pipe waits for a writer, for ever: of a build, and of settings.
#[tokio::test]
async fn a_pipe_in_the_bay_holds_up_nobody() {
    let pipe = |path: &std::path::Path| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("a pipe");
    };
    let builder = Host::builder().service("probe", &guests::fixture("probe")).service("neighbour", &guests::fixture("probe"));
    pipe(&builder.bay_path().join("pipe.wasm"));
    let host = builder.start().await;
    assert!(!host.wait_rejected("pipe").await.remedy.is_empty());
    pipe(&host.bay().join("neighbour.toml"));
    host.wait_rejected("neighbour").await;
    assert_unharmed(&host, "pipes").await;
}

#[tokio::test]
async fn a_bay_that_cannot_be_used_ends_the_host_with_its_name() {
    let ended = Host::builder().bay("/nowhere/at/all").run().await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    for named in ["/nowhere/at/all", "mkdir -p /nowhere/at/all"] {
        assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
    }
    let builder = Host::builder();
    let file = builder.folder().join("a-file");
    fs::write(&file, "").expect("a file");
    let ended = builder.bay(&file).run().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("a-file"), "{}", ended.stderr);
}

/// Run as another user where the test is run by root, who may read everything.
#[tokio::test]
async fn a_bay_that_may_not_be_read_ends_the_host_with_its_name() {
    use std::os::unix::fs::PermissionsExt;
    let builder = Host::builder();
    let (bay, folder) = (builder.bay_path().to_owned(), builder.folder().to_owned());
    let binary = folder.join("hotbay");
    fs::copy(hotbay_tests::host::binary(), &binary).expect("a copy of the binary");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a mode");
    let root = rustix::process::geteuid().is_root();
    fs::set_permissions(&bay, fs::Permissions::from_mode(if root { 0o700 } else { 0o000 })).expect("a mode");
    let mut command = tokio::process::Command::new(binary);
    command.arg("serve").arg(&bay).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).current_dir("/");
    if root {
        command.uid(65534).gid(65534);
    }
    let ended = finish(command).await;
    fs::set_permissions(&bay, fs::Permissions::from_mode(0o700)).expect("a mode");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(bay.to_str().expect("text")) && ended.stderr.contains("Permission denied"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_try() {
    let host = two().await;
    let address = host.address().to_string();
    let mut command = hotbay(["serve"]);
    command.arg(host.bay()).args(["--listen", &address]);
    let ended = finish(command).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    for named in [address.as_str(), "--listen 127.0.0.1:0"] {
        assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
    }
    let address = host.admin().address().to_string();
    let mut command = hotbay(["serve"]);
    command.arg(host.bay()).args(["--listen", "127.0.0.1:0", "--admin", &address]);
    let ended = finish(command).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    for named in [address.as_str(), "--admin 127.0.0.1:0"] {
        assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
    }
    assert_unharmed(&host, "a second host").await;
}

#[tokio::test]
async fn wrong_usage_is_exit_code_2() {
    for args in [
        &["serve", "--lisen", "127.0.0.1:0"][..],
        &["serve", "--listen", "nowhere"],
        &["serve", "--log", "xml"],
        &["check"],
        &["sevre"],
        &[],
    ] {
        let ended = finish(hotbay(args)).await;
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("--help") || ended.stderr.contains("Usage"), "{args:?}: {}", ended.stderr);
    }
    assert_eq!(finish(hotbay(["--version"])).await.code, Some(0));
    assert_eq!(finish(hotbay(["--help"])).await.code, Some(0));
}

#[tokio::test]
async fn host_settings_that_are_not_understood_name_line_and_nearest_key() {
    let ended = Host::builder().config("drain = \"1s\"\nrescann = \"1s\"\n").run().await;
    assert_eq!(ended.code, Some(1));
    for named in ["hotbay.toml", "line 2", "rescann", "`rescan`"] {
        assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
    }
    let ended = Host::builder().args(["--config", "/nowhere/hotbay.toml"]).run().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("/nowhere/hotbay.toml"), "{}", ended.stderr);
}
