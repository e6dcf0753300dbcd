//! `hotbay build`: what it says of folders and sources that will not do, and what an interrupt leaves.

use super::Bench;
use hotbay_tests::{PATIENCE, Signal, host::assert_fails};
use rustix::process::{Pid, kill_process};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt};
use tokio::{io::AsyncReadExt, net::unix::pipe, time::timeout};

/// A service whose build is `command`, which makes `made.wasm`.
fn by_command(bench: &Bench, dir: &str, command: &str) {
    bench.put(&format!("{dir}/hotbay-build.toml"), &format!("command = '''{command}'''\noutput = \"made.wasm\"\n"));
}

/// A component that a host could serve.
const HELLO: &str = "hello.wasm";

fn put_hello(bench: &Bench) {
    fs::write(bench.path(HELLO), hotbay_tests::guests::fixture("probe")).expect("a file");
}

#[tokio::test]
async fn a_folder_that_holds_no_service_is_told_with_the_remedy() {
    let bench = Bench::new();
    bench.put("docs/page.md", "words");
    assert_fails(&bench.run(["build", "docs"]).await, &["docs holds no service", "hotbay new"]);
    let ended = bench.run(["build", "docs", "--json"]).await;
    assert!(
        (ended.code, ended.stdout.as_str()) == (Some(1), "[]\n") && ended.stderr.contains("docs holds no service"),
        "{ended:?}"
    );
    assert_fails(&bench.run(["build", "nowhere"]).await, &["nowhere", "name a folder"]);
    // A web application in Python and a crate for something else are none.
    bench.put("other/web/app.py", "print('hello')\n");
    bench.put("other/tool/Cargo.toml", "[package]\nname = \"tool\"\n");
    assert_fails(&bench.run(["build", "other"]).await, &["other holds no service"]);
    // Nor is a program in C one, which is said, and not that there is none.
    bench.put("other/prices/main.c", "");
    let told = ["prices holds a main.c and is left out", "other holds no service", "nor a main.c with a NAME.toml"];
    assert_fails(&bench.run(["build", "other"]).await, &told);
}

/// What lies there as if it were meant for a service is named, whatever becomes of the others.
#[tokio::test]
async fn what_is_left_out_is_named_with_the_remedy() {
    let bench = Bench::new();
    put_hello(&bench);
    by_command(&bench, "shop/greet", &format!("cp ../../{HELLO} made.wasm"));
    bench.put("shop/prices/main.c", "int main(void) { return 0; }\n");
    let ended = bench.run(["build", "shop"]).await;
    assert_eq!((ended.code, bench.listed("bay")), (Some(0), vec!["greet.wasm".to_owned()]), "{ended:?}");
    assert!(ended.stderr.contains("shop/prices holds a main.c and is left out"), "{ended:?}");
    assert!(ended.stderr.contains("put a prices.toml beside it"), "{ended:?}");

    bench.put("shop/prices/price.toml", "[limits]\nmemory = \"8MiB\"\n");
    bench.put("shop/greet/great.toml", "[limits]\nmemory = \"8MiB\"\n");
    bench.put("shop/greet/pyproject.toml", "[project]\n");
    bench.put("shop/unsaid/hotbay-build.toml", "name = \"said\"\n");
    let ended = bench.run(["build", "shop"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for words in ["rename its price.toml to prices.toml", "great.toml is not read", "rename great.toml to greet.toml"] {
        assert!(ended.stderr.contains(words), "{words}: {ended:?}");
    }
    assert!(ended.stderr.contains("unsaid holds a hotbay-build.toml and is left out"), "{ended:?}");
    assert!(!ended.stderr.contains("pyproject"), "{ended:?}");
    // Where it has its settings, no other file is taken for them.
    bench.put("shop/greet/greet.toml", "");
    let ended = bench.run(["build", "shop"]).await;
    assert!(ended.code == Some(0) && !ended.stderr.contains("great.toml"), "{ended:?}");
}

/// Whoever names a folder with a program in C means a service; the defaults hold for it.
#[tokio::test]
async fn a_program_in_c_that_is_named_is_a_service_without_settings() {
    let bench = Bench::new();
    bench.put("prices/main.c", "#include <stdio.h>\nint main(void) { puts(\"Content-Type: text/plain\\n\\nhello\"); }\n");
    let report = bench.build("prices").await;
    match report["reason"].as_str() {
        None => assert_eq!((&report["placed"], bench.listed("bay")), (&json!("changed"), vec!["prices.wasm".to_owned()])),
        Some(reason) => assert!(reason.contains("cannot build C"), "{report}"),
    }
    assert_eq!((&report["service"], &report["language"]), (&json!("prices"), &json!("c")));
}

#[tokio::test]
async fn two_services_of_one_name_are_told_with_both_folders_and_the_first_is_built() {
    let bench = Bench::new();
    put_hello(&bench);
    by_command(&bench, "a/greet", &format!("cp ../../{HELLO} made.wasm"));
    by_command(&bench, "b/greet", "touch it-ran");
    by_command(&bench, "prices", &format!("cp ../{HELLO} made.wasm"));
    let ended = bench.run(["build"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for named in ["two services are called greet", "a/greet", "b/greet", "hotbay-build.toml"] {
        assert!(ended.stderr.contains(named), "{named}: {ended:?}");
    }
    assert_eq!(bench.listed("bay"), ["greet.wasm", "prices.wasm"]);
    assert_eq!(bench.listed("b/greet"), ["hotbay-build.toml"]);
    fs::remove_dir_all(bench.path("bay")).expect("the bay");
    fs::remove_dir_all(bench.path("prices")).expect("the service");
    for (dir, name) in [("a/greet", "first"), ("b/greet", "second")] {
        by_command(&bench, dir, &format!("cp ../../{HELLO} made.wasm"));
        let path = bench.path(&format!("{dir}/hotbay-build.toml"));
        let text = fs::read_to_string(&path).expect("the recipe");
        fs::write(path, format!("name = \"{name}\"\n{text}")).expect("the recipe");
    }
    let ended = bench.run(["build"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(bench.listed("bay"), ["first.wasm", "second.wasm"]);
}

#[tokio::test]
async fn a_recipe_that_cannot_be_used_is_told_with_its_place() {
    let bench = Bench::new();
    for (text, named) in [
        ("comand = \"make\"\n", "comand"),
        ("command = \"make\"\n", "without `output`"),
        ("output = \"x.wasm\"\n", "without `command`"),
        ("language = \"cobol\"\n", "cobol"),
    ] {
        bench.put("greet/hotbay-build.toml", text);
        assert_fails(&bench.run(["build", "greet"]).await, &["greet/hotbay-build.toml", named]);
    }
    by_command(&bench, "Greet", "true");
    assert_fails(&bench.run(["build", "Greet"]).await, &["`Greet`", "name = \"…\"", "rename the folder"]);
}

#[tokio::test]
async fn a_build_that_fails_leaves_what_is_in_the_bay() {
    let bench = Bench::new();
    put_hello(&bench);
    by_command(&bench, "greet", &format!("cp ../{HELLO} made.wasm"));
    assert_eq!(bench.build("greet").await["placed"], "changed");
    let before = fs::read(bench.path("bay/greet.wasm")).expect("the build");

    by_command(&bench, "greet", "echo the compiler speaks >&2; exit 3");
    let ended = bench.run(["build", "greet", "--bay", "bay"]).await;
    assert_fails(&ended, &["the compiler speaks", "greet", "exit status: 3"]);
    assert_eq!(bench.build("greet").await["output"], json!(["the compiler speaks"]));
    by_command(&bench, "greet", "rm made.wasm");
    assert_fails(&bench.run(["build", "greet", "--bay", "bay"]).await, &["made no", "made.wasm", "`output`"]);
    by_command(&bench, "greet", "echo text > made.wasm");
    assert_fails(&bench.run(["build", "greet", "--bay", "bay"]).await, &["made.wasm", "is text"]);
    // A module that says nothing of what it serves is found by the look at what it is.
    bench.put("greet/greet.toml", "[limts]\nmemory = \"1MiB\"\n");
    by_command(&bench, "greet", &format!("cp ../{HELLO} made.wasm"));
    assert_fails(&bench.run(["build", "greet", "--bay", "bay"]).await, &["greet.toml", "limts"]);

    assert_eq!(fs::read(bench.path("bay/greet.wasm")).expect("the build"), before);
    assert_eq!(bench.listed("bay"), ["greet.wasm"]);
}

/// What is in the bay already is not compiled to say what it is.
#[tokio::test]
async fn the_kind_is_told_whether_or_not_the_bay_has_the_build_already() {
    let bench = Bench::new();
    by_command(&bench, "greet", "true");
    for (fixture, kind) in [
        ("probe", "http02"),
        ("probe3", "http03"),
        ("module", "http02"),
        ("run-wasip1", "command"),
        ("run", "command"),
        ("library", "library"),
    ] {
        fs::write(bench.path("greet/made.wasm"), hotbay_tests::guests::fixture(fixture)).expect("a file");
        for placed in ["changed", "unchanged"] {
            let report = bench.build("greet").await;
            assert_eq!((&report["placed"], &report["kind"]), (&json!(placed), &json!(kind)), "{fixture}: {report}");
        }
    }
}

#[tokio::test]
async fn one_service_that_fails_does_not_keep_the_others_from_the_bay() {
    let bench = Bench::new();
    put_hello(&bench);
    by_command(&bench, "shop/a-broken", "false");
    by_command(&bench, "shop/b-sound", &format!("cp ../../{HELLO} made.wasm"));
    let ended = bench.run(["build", "shop"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("a-broken") && ended.stdout.contains("b-sound"), "{ended:?}");
    assert_eq!(bench.listed("bay"), ["b-sound.wasm"]);
    assert!(ended.stderr.ends_with("hotbay: not all is built: 1 of 2 services failed: a-broken\n"), "{ended:?}");

    by_command(&bench, "shop/z/b-sound", "true");
    let ended = bench.run(["build", "shop"]).await;
    assert!(ended.stderr.ends_with("failed: a-broken; 1 more could not be begun, as the first lines say\n"), "{ended:?}");
    // Of a single one the reason is the last line.
    let ended = bench.run(["build", "shop/a-broken"]).await;
    assert!(ended.stderr.ends_with("exit status: 1\n"), "{ended:?}");
}

#[tokio::test]
async fn without_a_toolchain_the_words_are_the_doctors() {
    let bench = Bench::new();
    bench.put("greet/Cargo.toml", "[package]\nname = \"greet\"\n[package.metadata.hotbay]\n");
    fs::create_dir(bench.path("empty")).expect("a folder");
    let mut command = bench.hotbay(["build", "greet"]);
    command.env("PATH", bench.path("empty"));
    assert_fails(&super::finish(command).await, &["cannot build Rust", "rustc is missing", "https://rustup.rs", "hotbay doctor"]);
}

/// The tests have one target folder, as all services have whose std is built from its sources.
#[tokio::test]
async fn crates_of_one_name_do_not_get_each_others_code() {
    let bench = Bench::new();
    let doctor = bench.run(["doctor", "--lang", "rust"]).await;
    if doctor.code != Some(0) {
        println!("skipped: this machine lacks Rust's tools\n{}", doctor.stdout);
        return;
    }
    // A name of this test's own: others build in that folder too.
    let greet = |dir: &str, kind: &str, text: &str| {
        let lib = if kind == "lib" { "[lib]\ncrate-type = [\"cdylib\"]\n" } else { "" };
        let manifest = format!(
            "[package]\nname = \"of-one-name\"\nedition = \"2024\"\n[package.metadata.hotbay]\ntarget = \"wasm32-wasip1\"\n{lib}[workspace]\n"
        );
        bench.put(&format!("{dir}/Cargo.toml"), &manifest);
        let source = match kind {
            "lib" => format!("#[unsafe(no_mangle)]\npub extern \"C\" fn _start() {{ print!(\"{text}\") }}\n"),
            _ => format!("fn main() {{ print!(\"{text}\") }}\n"),
        };
        bench.put(&format!("{dir}/src/{}.rs", if kind == "lib" { "lib" } else { "main" }), &source);
    };
    let has = |service: &str, text: &str| {
        let build = fs::read(bench.path(&format!("bay/{service}.wasm"))).expect("a build");
        build.windows(text.len()).any(|part| part == text.as_bytes())
    };
    for kind in ["bin", "lib"] {
        let (one, other) = (format!("{kind}-one"), format!("{kind}-other"));
        greet(&one, kind, "words-of-the-one");
        greet(&other, kind, "words-of-the-other");
        for (dir, own) in [(&one, "words-of-the-one"), (&other, "words-of-the-other"), (&one, "words-of-the-one")] {
            let built = bench.build(dir).await;
            assert!(built["reason"].is_null() && has(dir, own), "{own}: {built}");
        }
        // A change from before the other was built is not taken for old.
        greet(&one, kind, "words-that-are-new");
        for dir in [&other, &one] {
            assert!(bench.build(dir).await["reason"].is_null());
        }
        assert!(has(&one, "words-that-are-new"), "{kind}");
        assert_eq!(bench.build(&one).await["placed"], "unchanged");
    }
}

/// A host that was killed leaves its address.
#[tokio::test]
async fn a_bay_whose_host_has_ended_is_not_told_as_served() {
    let bench = Bench::new();
    put_hello(&bench);
    by_command(&bench, "greet", &format!("cp ../{HELLO} made.wasm"));
    fs::create_dir(bench.path("bay")).expect("a bay");
    let bay = bench.path("bay").canonicalize().expect("a bay");
    // Of the test's own process, then of one that cannot be.
    for (pid, told) in [(std::process::id(), "a host serves bay"), (i32::MAX.unsigned_abs(), "serve it: hotbay serve bay")] {
        let host = json!({ "address": "127.0.0.1:9191", "pid": pid, "bay": bay });
        bench.put("bay/.hotbay/admin.address", &format!("{host}\n"));
        let ended = bench.run(["build", "greet", "--bay", "bay"]).await;
        assert!(ended.code == Some(0) && ended.stdout.contains(told), "{ended:?}");
    }
    let ended = bench.run(["doctor", "--bay", "bay"]).await;
    assert!(ended.stdout.contains("none runs; start one"), "{ended:?}");
}

/// A signal in the middle: the tool, and what the tool has started, are gone, and so are drafts.
#[tokio::test]
async fn an_interrupted_build_leaves_no_process_and_no_half_file() {
    let bench = Bench::new();
    // Every process of the build holds the pipe open; its end is the end of the last of them.
    let script = bench.put("tool", "#!/bin/sh\nexec 3>pipe\nsleep 1000 &\n(sleep 1000; true) &\necho begun >&3\nsleep 1000\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a script");
    by_command(&bench, "greet", "cd .. && exec ./tool");
    let fifo = tokio::process::Command::new("mkfifo").arg(bench.path("pipe")).status().await.expect("mkfifo");
    assert!(fifo.success());

    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut alive = pipe::OpenOptions::new().open_receiver(bench.path("pipe")).expect("the pipe");
        // Until the tool has opened it, so that it does not end before it has begun.
        let ours = pipe::OpenOptions::new().open_sender(bench.path("pipe")).expect("the pipe");
        let child = bench.hotbay(["build", "greet", "--bay", "bay"]).spawn().expect("hotbay");
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("a process");
        let mut begun = [0; 6];
        timeout(PATIENCE, alive.read_exact(&mut begun)).await.expect("the tool begins").expect("the pipe");
        drop(ours);
        kill_process(pid, signal).expect("a process");
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("hotbay ends").expect("hotbay ends");
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        let mut rest = Vec::new();
        timeout(PATIENCE, alive.read_to_end(&mut rest)).await.expect("all processes of the build end").expect("the pipe");
        assert!(rest.is_empty() && !bench.path("bay").exists(), "{:?}", bench.listed("bay"));
        assert_eq!(bench.listed("greet"), ["hotbay-build.toml"]);
    }
}
