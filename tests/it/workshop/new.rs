//! `hotbay new`: what it makes and what it refuses.

use super::Bench;
use hotbay_tests::host::assert_fails;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

#[tokio::test]
async fn a_name_that_no_service_can_have_is_refused() {
    let bench = Bench::new();
    for name in ["Greet", "a_b", "-a", "über", "a.b"] {
        let ended = bench.run(["new", "--lang", "rust", "--", name]).await;
        assert_fails(&ended, &["1 to 63 of a-z, 0-9 and -"]);
    }
    assert!(bench.listed(".").is_empty());
}

#[tokio::test]
async fn a_folder_that_is_there_by_itself_is_no_name() {
    let bench = Bench::new();
    for dir in [".", "..", "/", "services/.."] {
        assert_fails(&bench.run(["new", dir, "--lang", "c"]).await, &[&format!("`{dir}`"), "hotbay new NAME"]);
    }
    assert!(bench.listed(".").is_empty());
}

/// `hotbay build` in the folder above would never find it.
#[tokio::test]
async fn a_name_of_folders_of_tools_is_refused() {
    let bench = Bench::new();
    bench.put("mine/main.c", "");
    for name in ["target", "vendor", "dist", "venv"] {
        for more in [["--lang", "c"], ["--template", "mine"]] {
            let ended = bench.run(["new", name, more[0], more[1]]).await;
            assert_fails(&ended, &["never look into", name, &format!("service-{name}")]);
        }
    }
    assert_eq!(bench.listed("."), ["mine"]);
}

#[tokio::test]
async fn what_is_to_be_typed_next_is_quoted_where_a_shell_needs_it() {
    let bench = Bench::new();
    for (dir, next) in [("a b/greet", "cd 'a b/greet'\n"), ("services/greet", "cd services/greet\n")] {
        let ended = bench.run(["new", dir, "--lang", "c"]).await;
        assert!(ended.code == Some(0) && ended.stdout.contains(next), "{ended:?}");
    }
}

#[tokio::test]
async fn a_name_that_no_crate_can_have_is_refused_for_rust() {
    let bench = Bench::new();
    for name in ["1abc", "fn", "test", "hotbay-sdk"] {
        assert_fails(&bench.run(["new", name, "--lang", "rust"]).await, &[name, "no crate", &format!("service-{name}")]);
    }
    assert!(bench.listed(".").is_empty());
    assert_eq!(bench.run(["new", "1abc", "--lang", "c"]).await.code, Some(0));
}

#[tokio::test]
async fn a_folder_with_something_in_it_is_left_alone() {
    let bench = Bench::new();
    bench.put("file", "");
    assert_fails(&bench.run(["new", "file", "--lang", "c"]).await, &["file is there and is no folder", "another name"]);
    bench.put("greet/mine.txt", "mine");
    assert_fails(&bench.run(["new", "greet", "--lang", "c"]).await, &["greet exists and is not empty", "another name"]);
    assert_eq!(bench.listed("greet"), ["mine.txt"]);
    fs::create_dir(bench.path("empty")).expect("a folder");
    assert_eq!(bench.run(["new", "empty", "--lang", "c"]).await.code, Some(0));
    assert!(bench.path("empty/main.c").is_file());
}

#[tokio::test]
async fn without_a_terminal_nothing_is_asked() {
    let bench = Bench::new();
    for args in [vec!["new"], vec!["new", "greet"]] {
        let mut command = bench.hotbay([]);
        let ended = super::finish({
            command.args(args);
            command
        });
        let ended = ended.await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.contains("hotbay new NAME --lang") && ended.stderr.contains("Usage:"), "{}", ended.stderr);
    }
    assert!(bench.listed(".").is_empty());
}

#[tokio::test]
async fn a_template_of_ones_own_gets_the_name_in_texts_and_names_of_files() {
    let bench = Bench::new();
    bench.put("mine/{{name}}.toml", "# {{name}}\n");
    bench.put("mine/src/{{name}}_main.c", "/* {{name}}, {{name}} */\n");
    bench.put("mine/.git/config", "not part of it\n");
    let script = bench.put("mine/build.sh", "#!/bin/sh\n");
    fs::set_permissions(script, Permissions::from_mode(0o755)).expect("a script");
    fs::write(bench.path("mine/picture"), b"\xff\xfe{{name}}").expect("a file");
    let ended = bench.run(["new", "services/orders", "--template", "mine"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let read = |file: &str| fs::read(bench.path(file)).expect("a file");
    assert_eq!(bench.listed("services"), ["orders"]);
    assert_eq!(bench.listed("services/orders"), ["build.sh", "orders.toml", "picture", "src"]);
    assert_eq!(read("services/orders/orders.toml"), b"# orders\n");
    assert_eq!(read("services/orders/src/orders_main.c"), b"/* orders, orders */\n");
    let script = fs::metadata(bench.path("services/orders/build.sh")).expect("a file");
    assert_eq!(script.permissions().mode() & 0o777, 0o755);
    // Not text, so as it is.
    assert_eq!(read("services/orders/picture"), b"\xff\xfe{{name}}");
}

#[tokio::test]
async fn a_template_that_is_none_leaves_nothing() {
    let bench = Bench::new();
    assert_fails(&bench.run(["new", "greet", "--template", "nowhere"]).await, &["nowhere", "name a folder"]);
    fs::create_dir(bench.path("empty")).expect("a folder");
    assert_fails(&bench.run(["new", "greet", "--template", "empty"]).await, &["holds no files"]);
    assert_eq!(bench.listed("."), ["empty"]);
}

#[tokio::test]
async fn the_sdk_is_written_anew_where_it_is_asked_for() {
    let bench = Bench::new();
    assert_fails(&bench.run(["new", "--update-sdk"]).await, &["no Cargo.toml"]);
    assert_eq!(bench.run(["new", "greet", "--lang", "rust"]).await.code, Some(0));
    bench.put("greet/vendor/hotbay-sdk/src/gone.rs", "");
    let mut update = bench.hotbay(["new", "--update-sdk"]);
    update.current_dir(bench.path("greet"));
    assert_eq!(super::finish(update).await.code, Some(0));
    assert!(!bench.path("greet/vendor/hotbay-sdk/src/gone.rs").exists());
    assert!(bench.path("greet/vendor/hotbay-sdk/src/lib.rs").is_file());
}
