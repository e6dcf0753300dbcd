//! The keys and the colours, on a terminal that `script` of util-linux makes.

use super::build;
use hotbay_tests::{Dev, Sources, guests, host::binary};
use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};
use tokio::process::Command;

/// `hotbay dev` at a terminal, which says in what state it was left.
async fn at_a_terminal(sources: &Sources) -> Option<Dev> {
    if !Command::new("script").arg("--version").output().await.is_ok_and(|ended| ended.status.success()) {
        println!("skipped: there is no `script` (util-linux) to make a terminal with");
        return None;
    }
    // What would open a browser says where instead.
    let browser = sources.folder().join("xdg-open");
    fs::write(&browser, format!("#!/bin/sh\necho \"$1\" > {}/opened\n", sources.folder().display())).expect("a file");
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).expect("a mode");
    let (binary, services) = (binary(), sources.services());
    let line = format!(
        "{} dev {} --listen 127.0.0.1:0 --admin 127.0.0.1:0 --log json 2>{}/log; echo ended with $?; stty -a",
        binary.display(),
        services.display(),
        sources.folder().display()
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm-256color");
    let path = format!("{}:{}", sources.folder().display(), std::env::var("PATH").unwrap_or_default());
    command.env("PATH", path).env_remove("NO_COLOR").env_remove("HOTBAY_LOG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Some(Dev::launch(command, sources.clone()).await)
}

#[tokio::test]
async fn keys_rebuild_open_and_quit_and_the_terminal_is_as_it_was() {
    let sources = Sources::new().service("one", &build(0));
    let Some(mut dev) = at_a_terminal(&sources).await else { return };
    dev.wait_line(0, &["rebuild all", "open in the browser", "quit"]).await;
    let line = dev.wait_line(0, &["one", "first build", "check"]).await;
    assert!(line.contains("\x1b[36mone"), "{line:?}");
    let mark = dev.mark();
    // What nobody saved: the build is another all the same.
    let build_file = sources.folder().join("builds").join(guests::digest(&build(0)));
    fs::write(build_file, build(1)).expect("a build");
    dev.type_keys("r").await;
    dev.wait_line(mark, &["rebuild", "build", &guests::digest(&build(1))]).await;
    // It says of one that cannot be built why it is so, each time.
    let recipe = sources.dir("one").join("hotbay-build.toml");
    let text = fs::read_to_string(&recipe).expect("it is there");
    fs::write(&recipe, "comand = 'true'\n").expect("it can be written");
    dev.wait_line(mark, &["one", "no service that can be built"]).await;
    for _ in 0..2 {
        let mark = dev.mark();
        dev.type_keys("r").await;
        dev.wait_line(mark, &["one", "no service that can be built"]).await;
        dev.wait_line(mark, &["│", "comand"]).await;
    }
    fs::write(&recipe, &text).expect("it can be written");
    dev.wait_line(mark, &["one", "nothing is other than before"]).await;
    dev.type_keys("o").await;
    let opened = super::appears(&sources.folder().join("opened")).await;
    assert_eq!(opened, format!("http://{}/one", dev.address()));
    dev.type_keys("xq").await;
    dev.wait_line(mark, &["ended with 0"]).await;
    let state = dev.wait_line(mark, &["icanon"]).await;
    let echo = dev.wait_line(mark, &["echoe"]).await;
    assert!(!state.contains("-icanon") && !format!(" {echo}").contains(" -echo "), "{state}\n{echo}");
}

#[tokio::test]
async fn ctrl_c_ends_it_in_good_order() {
    let sources = Sources::new().service("one", &build(0));
    let Some(mut dev) = at_a_terminal(&sources).await else { return };
    dev.wait_line(0, &["one", "first build", "check"]).await;
    dev.type_keys("\x03").await;
    dev.wait_line(0, &["ended with 0"]).await;
    let state = dev.wait_line(0, &["icanon"]).await;
    assert!(!state.contains("-icanon"), "{state}");
}
