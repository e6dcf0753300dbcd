//! The commands that ask a running host: what they print, what they say when they cannot, and their exit codes.

use hotbay_tests::{
    Host, How, PATIENCE, Signal, guests,
    host::{ask, assert_fails, finish, hotbay},
};
use serde_json::Value;
use std::{fs, io, net::TcpListener, process::Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};

async fn host() -> Host {
    let builder = Host::builder().own_state().service("probe", &guests::fixture("probe"));
    builder.service("broken", b"no wasm").start().await
}

#[tokio::test]
async fn ps_shows_how_services_stand() {
    let host = host().await;
    let ended = ask(&host, ["ps"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let mut lines = ended.stdout.lines();
    let words = |line: Option<&str>| line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines.next()), ["SERVICE", "STATE", "REVISION", "SINCE", "ROUTES"]);
    assert_eq!(words(lines.next())[..3], ["broken", "rejected", "-"], "{}", ended.stdout);
    for label in ["rejected", "remedy"] {
        assert_eq!(words(lines.next())[0], label, "{}", ended.stdout);
    }
    let revision = guests::digest(&guests::fixture("probe"));
    assert_eq!(words(lines.next())[..3], ["probe", "serving", revision.as_str()], "{}", ended.stdout);

    let ended = ask(&host, ["ps", "probe"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for named in ["digest", &revision, "http02", "/probe/{*rest}", "by bay"] {
        assert!(ended.stdout.contains(named), "{named}: {}", ended.stdout);
    }
    let json: Value = serde_json::from_str(&ask(&host, ["ps", "--json"]).await.stdout).expect("JSON");
    assert_eq!(
        json["services"][1],
        serde_json::from_str::<Value>(&ask(&host, ["ps", "probe", "--json"]).await.stdout).expect("JSON")
    );
    assert_fails(&ask(&host, ["ps", "prob"]).await, &["`prob`", "did you mean probe?"]);
    assert_fails(&ask(&host, ["ps", "../healthz"]).await, &["../healthz"]);
}

#[tokio::test]
async fn events_prints_what_has_happened_and_ends() {
    let host = host().await;
    let ended = ask(&host, ["events", "probe"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let states: Vec<_> = ended.stdout.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert_eq!(states, ["detected", "reading", "compiling", "linking", "warming", "published"], "{}", ended.stdout);
    let lines = |text: &str| text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>();
    let all = lines(&ask(&host, ["events", "--json"]).await.stdout);
    assert!(all.iter().any(|event| event["service"] == "broken" && event["reason"].is_string()), "{all:?}");
    assert_eq!(lines(&ask(&host, ["events", "--json", "--since", "3"]).await.stdout), all[3..]);
}

/// Follows over a swap and over a restart of the host, whose events begin anew.
#[tokio::test]
async fn events_goes_on_with_follow() {
    let host = host().await;
    let mut command = host.command(["events", "--json", "--follow"]);
    let mut following = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(following.stdout.take().expect("piped")).lines();
    let mut until = async |state: &str, revision: &str| {
        let found = async {
            loop {
                let line = lines.next_line().await.expect("output").expect("it goes on");
                let event: Value = serde_json::from_str(&line).expect("JSON");
                if event["state"] == state && event["revision"] == revision {
                    return event["sequence"].as_u64().expect("a number");
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {state} {revision}"))
    };
    until("published", &guests::digest(&guests::fixture("probe"))).await;
    let next = host.swap("probe", &guests::revision("probe", 2), How::Rename).await;
    let before = until("published", &next).await;
    let host = host.stop().await.start().await;
    let after = until("published", &next).await;
    assert!(after < before, "another host counts anew: {after}");
    let next = host.swap("probe", &guests::revision("probe", 3), How::Rename).await;
    until("published", &next).await;
    following.kill().await.expect("it runs");
}

#[tokio::test]
async fn a_host_that_is_not_there_is_told_with_what_was_looked_for() {
    let empty = tempfile::tempdir().expect("a folder");
    let bay = empty.path().to_str().expect("text");
    assert_fails(&finish(hotbay(["ps", "--bay", bay])).await, &[bay, "admin.address", "hotbay serve", "--state"]);
    let mut command = hotbay(["ps"]);
    command.current_dir(empty.path());
    let looked_in = ["bay/.hotbay/admin.address is missing", "no `hotbay dev` answers in .hotbay/dev"];
    assert_fails(&finish(command).await, &[looked_in[0], looked_in[1], bay, "`hotbay serve` or `hotbay dev`", "--bay"]);
    let mut host = host().await;
    let address = host.admin().address().to_string();
    host.signal(Signal::KILL);
    host.exit_status().await;
    let ended = ask(&host, ["ps"]).await;
    assert_fails(&ended, &[&address, &host.pid().to_string(), "has ended", "hotbay serve"]);
    assert_fails(&ask(&host, ["events"]).await, &["has ended"]);
    // Who listens there now is not sent the token.
    let somebody = TcpListener::bind(&address).expect("the address is free");
    somebody.set_nonblocking(true).expect("a listener");
    for args in [["ps"], ["events"], ["dashboard"]] {
        assert_fails(&ask(&host, args).await, &["has ended"]);
    }
    let came = somebody.accept().map_err(|error| error.kind());
    assert!(matches!(came, Err(io::ErrorKind::WouldBlock)), "{came:?}");
    drop(somebody);
    // The next host of the bay takes its place.
    let host = host.again().start().await;
    assert_eq!(ask(&host, ["ps"]).await.code, Some(0));
    let state = host.state();
    host.stop().await;
    assert!(!state.join("admin.address").exists());
}

#[tokio::test]
async fn a_token_that_is_wrong_or_not_there_is_told() {
    let host = host().await;
    let mut command = host.command(["ps"]);
    command.env("HOTBAY_ADMIN_TOKEN", "0");
    assert_fails(&finish(command).await, &["$HOTBAY_ADMIN_TOKEN", "refuses the token"]);
    // An address and a token from elsewhere need no state folder; no proxy of the environment comes between.
    let (address, token) = (host.admin().address().to_string(), host.admin().token());
    let mut command = hotbay(["ps", "--bay", "/nowhere", "--admin", &address]);
    command.env("HOTBAY_ADMIN_TOKEN", &token).env("http_proxy", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9");
    let ended = finish(command).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    fs::remove_file(host.state().join("admin.token")).expect("a token");
    assert_fails(&ask(&host, ["ps"]).await, &["admin.token", "HOTBAY_ADMIN_TOKEN"]);
    fs::write(host.state().join("admin.token"), "0").expect("a token");
    assert_fails(&ask(&host, ["ps"]).await, &["admin.token", "refuses the token"]);
    // Not every listener is an admin listener.
    let public = host.address().to_string();
    let ended = finish(hotbay(["ps", "--admin", &public, "--state", host.state().to_str().expect("text")])).await;
    assert_fails(&ended, &["No service answers this host and path"]);
}

#[tokio::test]
async fn the_bay_tells_hosts_with_one_state_folder_apart() {
    let shared = tempfile::tempdir().expect("a state folder");
    let state = shared.path().join("state");
    let one = Host::builder().state(&state).service("one", &guests::fixture("probe")).start().await;
    let two = Host::builder().state(&state).service("two", &guests::fixture("probe")).start().await;
    for (host, mine, theirs) in [(&one, "one", "two"), (&two, "two", "one")] {
        let ended = ask(host, ["ps"]).await;
        assert!(ended.stdout.contains(mine) && !ended.stdout.contains(theirs), "{}{}", ended.stdout, ended.stderr);
    }
    let state_text = state.to_str().expect("text").to_owned();
    let (of_one, of_two) = (one.bay().display().to_string(), two.bay().display().to_string());
    assert_fails(&finish(hotbay(["ps", "--state", &state_text])).await, &["--bay", &of_one, &of_two]);
    let ended = finish(hotbay(["ps", "--state", &state_text, "--bay", "/nowhere"])).await;
    assert_fails(&ended, &["/nowhere", &of_one, &of_two]);
    // By the settings of the host, too.
    let settings = shared.path().join("hotbay.toml");
    fs::write(&settings, format!("bay = {of_two:?}\nstate = {state_text:?}\n")).expect("settings");
    let ended = finish(hotbay(["ps", "--config", settings.to_str().expect("text")])).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("two"), "{}{}", ended.stdout, ended.stderr);
    one.stop().await;
    let ended = finish(hotbay(["ps", "--state", &state_text])).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("two"), "the one that is left: {}", ended.stderr);
}

#[tokio::test]
async fn wrong_usage_of_a_command_is_exit_code_2() {
    for args in
        [&["ps", "a", "b"][..], &["ps", "--jsn"], &["events", "--since", "x"], &["completions", "tcsh9"], &["completions"]]
    {
        assert_eq!(finish(hotbay(args)).await.code, Some(2), "{args:?}");
    }
}

#[tokio::test]
async fn shells_and_man_get_their_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = finish(hotbay(["completions", shell])).await;
        assert!(ended.code == Some(0) && ended.stdout.contains("events"), "{shell}: {}", ended.stderr);
    }
    let page = finish(hotbay(["man"])).await;
    assert!(page.code == Some(0) && page.stdout.contains(".TH hotbay"), "{}", page.stderr);
    let folder = tempfile::tempdir().expect("a folder");
    let ended = finish(hotbay(["man", folder.path().to_str().expect("text")])).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for page in ["hotbay.1", "hotbay-serve.1", "hotbay-ps.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
}

/// As in `hotbay events | head -1`.
#[tokio::test]
async fn a_reader_that_has_gone_is_no_failure() {
    let host = host().await;
    let commands = [
        host.command(["ps"]),
        host.command(["events", "--json"]),
        host.command(["events", "--follow"]),
        hotbay(["completions", "bash"]),
        hotbay(["man"]),
        hotbay(["check", host.build_path("probe").to_str().expect("text")]),
    ];
    for mut command in commands {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        command.stdout(writer).stderr(Stdio::piped());
        let child = command.spawn().expect("it starts");
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("a child");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{command:?}");
    }
    // A host goes on.
    let mut command = hotbay(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "json"]);
    let bay = tempfile::tempdir().expect("a bay");
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let mut child = command.arg(bay.path()).stdout(writer).stderr(Stdio::null()).spawn().expect("it starts");
    let address = bay.path().join(".hotbay/admin.address");
    let begun = std::time::Instant::now();
    while !address.exists() && begun.elapsed() < PATIENCE {
        tokio::task::yield_now().await;
    }
    let ended = finish(hotbay(["ps", "--bay", bay.path().to_str().expect("text")])).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("no service yet"), "{}{}", ended.stdout, ended.stderr);
    child.kill().await.expect("it runs");
}
