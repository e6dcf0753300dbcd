//! `hotbay dev`: a save is built, placed and served, and of what fails nothing is lost but the words.

mod first_build;
mod loop_under_load;
mod template;
mod terminal;

use hotbay_tests::{
    Dev, Signal, Sources, guests,
    host::{assert_fails, binary, finish, hotbay},
};
use std::{fs, process::Stdio};
use tokio::process::Command;

/// Revision `n` of a service that answers with its marker.
fn build(n: u32) -> bytes::Bytes {
    guests::revision("marker", n)
}

/// Requires an answer of revision `n`, whole.
async fn assert_serves(dev: &Dev, name: &str, n: u32) {
    let answer = dev.get(&format!("/{name}")).await;
    let marker = guests::marker(n);
    assert_eq!((answer.status, answer.text()), (200, format!("{marker} {marker}")), "{}", dev.told());
}

/// A loop with one service of which revision 0 serves.
async fn one() -> Dev {
    let dev = Sources::new().service("one", &build(0)).start().await;
    dev.wait_line(0, &["one", "first build", &guests::digest(&build(0))]).await;
    dev
}

#[tokio::test]
async fn a_save_swaps_that_service_alone() {
    let dev = Sources::new().service("one", &build(0)).service("two", &build(1)).start().await;
    dev.wait_line(0, &["one", "first build"]).await;
    dev.wait_line(0, &["two", "first build"]).await;
    for (name, folder) in [("one", "services/one"), ("two", "services/two")] {
        let row = dev.wait_line(0, &[name, "command", folder]).await;
        assert!(row.contains(&format!("http://{}/{name}", dev.address())), "{row}");
    }
    // The log comes by another way than what is printed, and later.
    dev.log().wait_for("two", "published").await;
    let (mark, log) = (dev.mark(), dev.log_mark());
    let revision = dev.sources().save("one", &build(2));
    let line = dev.wait_line(mark, &["one", "✓ src/main: build ", " · check ", " · compile ", " · swap "]).await;
    assert!(line.contains(&format!("→ {revision} in ")), "{line}");
    assert_serves(&dev, "one", 2).await;
    assert_serves(&dev, "two", 1).await;
    assert_eq!(dev.log_since(log).states("two"), Vec::<String>::new());
    dev.interrupt().await;
}

#[tokio::test]
async fn a_broken_build_shows_the_compilers_words_and_the_last_good_revision_serves() {
    let dev = one().await;
    let mark = dev.mark();
    dev.sources().write("one", "cannot find value `x`");
    let good = guests::digest(&build(0));
    dev.wait_line(mark, &["✗ src/main: build failed", &format!("{good} serves on")]).await;
    dev.wait_line(mark, &["│ error: cannot find value `x`"]).await;
    assert_serves(&dev, "one", 0).await;

    // What was made is looked at before it is placed.
    let mark = dev.mark();
    dev.sources().save("one", b"half a thought");
    dev.wait_line(mark, &["│", "out.wasm", "text"]).await;
    assert_serves(&dev, "one", 0).await;

    // What only the host can find is a reject, with its remedy.
    let mark = dev.mark();
    dev.sources().save("one", &guests::text("unknown-import"));
    dev.wait_line(mark, &["✗ rejected", &format!("{good} serves on")]).await;
    dev.wait_line(mark, &["│", "acme:billing/invoices"]).await;
    dev.wait_line(mark, &["│ → "]).await;
    assert_serves(&dev, "one", 0).await;

    // A save that makes the same again is answered as well: the host says nothing of it.
    let mark = dev.mark();
    dev.sources().add_with("one", "cp $(cat src/main) out.wasm # otherwise");
    dev.wait_line(mark, &["✗ hotbay-build.toml", "nothing is other than before", "rejected", &format!("{good} serves on")]).await;
    dev.wait_line(mark, &["│", "acme:billing/invoices"]).await;

    let mark = dev.mark();
    dev.sources().save("one", &build(1));
    dev.wait_line(mark, &["✓ src/main"]).await;
    assert_serves(&dev, "one", 1).await;
}

#[tokio::test]
async fn what_is_left_out_is_named_with_the_remedy() {
    let sources = Sources::new().service("one", &build(0));
    let tool = sources.services().join("tool");
    fs::create_dir(&tool).expect("a folder");
    fs::write(tool.join("main.c"), "int main(void) { return 0; }\n").expect("a file");
    let dev = sources.start().await;
    dev.wait_line(0, &["tool holds a main.c and is left out", "tool.toml"]).await;
    dev.wait_line(0, &["one", "✓ first build"]).await;
    let mark = dev.mark();
    fs::write(dev.sources().dir("one").join("won.toml"), "[limits]\nmemory = \"8MiB\"\n").expect("a file");
    dev.wait_line(mark, &["won.toml is not read", "rename won.toml to one.toml"]).await;
}

/// Guards `Builds::want` in host/src/develop/builds.rs: the first build would never end.
#[tokio::test]
async fn a_save_during_a_build_ends_it_and_the_newest_is_built() {
    let dev = one().await;
    let pid = dev.sources().folder().join("pid");
    let hang = format!("sh -c 'echo $$ > {0}.new; mv {0}.new {0}; sleep 1000' & wait", pid.display());
    dev.sources().add_with("one", &hang);
    let process = appears(&pid).await;
    let mark = dev.mark();
    dev.sources().add_with("one", "cp $(cat src/main) out.wasm");
    dev.sources().save("one", &build(1));
    dev.wait_line(mark, &["✓", &guests::digest(&build(1))]).await;
    assert_serves(&dev, "one", 1).await;
    gone(&process).await;
}

/// Ctrl-C in the middle of a build: no process of it is left, and nothing half-written.
#[tokio::test]
async fn an_end_in_the_middle_of_a_build_leaves_nothing() {
    let sources = Sources::new().service("one", &build(0));
    let pid = sources.folder().join("pid");
    let hang = format!("echo half > out.wasm; sh -c 'echo $$ > {0}.new; mv {0}.new {0}; sleep 1000' & wait", pid.display());
    sources.add_with("one", &hang);
    let dev = sources.start().await;
    let process = appears(&pid).await;
    dev.interrupt().await;
    gone(&process).await;
    let left: Vec<_> = fs::read_dir(sources.bay()).expect("a bay").map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(left.iter().all(|name| [".dev.lock", ".hotbay"].iter().any(|known| name == *known)), "{left:?}");
}

/// Guards `put_off` in host/src/develop/follower.rs: it would build itself for ever.
#[tokio::test]
async fn what_a_build_writes_beside_its_sources_and_takes_away_is_no_save() {
    let sources = Sources::new().service("one", &build(0));
    sources.add_with("one", "cp $(cat src/main) out.new && mv out.new out.wasm");
    let dev = sources.start().await;
    dev.wait_line(0, &["one", "first build"]).await;
    for n in 1..=3 {
        let revision = dev.sources().save("one", &build(n));
        dev.wait_line(0, &["✓ src/main", &revision]).await;
    }
    assert!(!dev.printed(0).contains("out.new"), "{}", dev.printed(0));
    dev.interrupt().await;
}

/// Guards `of_sources` in host/src/develop/tree.rs: the system tells of a folder by one name, and of nothing once that is gone.
#[tokio::test]
async fn a_link_to_a_folder_that_is_followed_takes_nothing_away() {
    let dev = Sources::new().service("one", &build(0)).service("two", &build(1)).start().await;
    dev.wait_line(0, &["one", "first build"]).await;
    dev.wait_line(0, &["two", "first build"]).await;
    for (n, target) in [(2, "../one"), (4, ".")] {
        let link = dev.sources().dir("two").join("link");
        std::os::unix::fs::symlink(target, &link).expect("a link");
        let revision = dev.sources().save("one", &build(n));
        dev.wait_line(0, &["one", "✓ src/main", &revision]).await;
        fs::remove_file(&link).expect("it is there");
        for (name, n) in [("one", n + 1), ("two", n)] {
            let revision = dev.sources().save(name, &build(n));
            dev.wait_line(0, &[name, "✓ src/main", &revision]).await;
        }
    }
    dev.interrupt().await;
}

/// Guards `is_ignored` in host/src/cli/hangup.rs.
#[tokio::test]
async fn what_was_started_to_outlive_its_terminal_does() {
    let sources = Sources::new().service("one", &build(0));
    let mut command = Command::new("env");
    command.arg("--ignore-signal=HUP").arg(binary()).arg("dev").arg(sources.services());
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let dev = Dev::launch(command, sources).await;
    dev.wait_line(0, &["one", "first build"]).await;
    dev.signal(Signal::HUP);
    dev.sources().save("one", &build(1));
    dev.wait_line(0, &["✓", &guests::digest(&build(1))]).await;
    assert_serves(&dev, "one", 1).await;
    dev.interrupt().await;
}

#[tokio::test]
async fn services_come_and_go_while_it_runs() {
    let dev = one().await;
    let mark = dev.mark();
    dev.sources().add("late", &build(5));
    dev.wait_line(mark, &["late", "a new service", &format!("http://{}/late", dev.address())]).await;
    dev.wait_line(mark, &["late", "✓"]).await;
    assert_serves(&dev, "late", 5).await;
    dev.sources().save("late", &build(6));
    dev.wait_line(mark, &["late", "✓", &guests::digest(&build(6))]).await;
    assert_serves(&dev, "late", 6).await;

    fs::remove_dir_all(dev.sources().dir("late")).expect("it was there");
    dev.wait_line(mark, &["late", "its sources are gone"]).await;
    dev.wait_line(mark, &["late", "it serves no more"]).await;
    assert_eq!(dev.get("/late").await.status, 404);
    assert_serves(&dev, "one", 0).await;
}

/// Guards `follower::broken`: what cannot be made out for the moment has not gone.
#[tokio::test]
async fn a_typing_error_in_what_says_how_it_is_built_takes_nothing_off_the_air() {
    let dev = one().await;
    let recipe = dev.sources().dir("one").join("hotbay-build.toml");
    let text = fs::read_to_string(&recipe).expect("it is there");
    for wrong in ["comand = \"true\"\n", ""] {
        let mark = dev.mark();
        fs::write(&recipe, wrong).expect("it can be written");
        dev.wait_line(mark, &["one", "no service that can be built", &format!("{} serves on", guests::digest(&build(0)))]).await;
        assert_serves(&dev, "one", 0).await;
        // A save that mends nothing is answered too, with what is wrong.
        let mark = dev.mark();
        dev.sources().save("one", &build(if wrong.is_empty() { 3 } else { 2 }));
        dev.wait_line(mark, &["one", "no service that can be built", "serves on"]).await;
        dev.wait_line(mark, &["│", "hotbay-build.toml"]).await;
        dev.sources().save("one", &build(0));
        fs::write(&recipe, &text).expect("it can be written");
        dev.wait_line(mark, &["one", "nothing is other than before"]).await;
    }
    assert!(!dev.printed(0).contains("its sources are gone"), "{}", dev.printed(0));
    let mark = dev.mark();
    dev.sources().save("one", &build(1));
    dev.wait_line(mark, &["one", "✓", &guests::digest(&build(1))]).await;
    assert_serves(&dev, "one", 1).await;
}

#[tokio::test]
async fn settings_are_placed_without_a_build() {
    let dev = one().await;
    let mark = dev.mark();
    dev.sources().settings("one", "[[route]]\npath = \"/elsewhere\"\n");
    dev.wait_line(mark, &["one", "✓ settings → "]).await;
    assert_eq!((dev.get("/elsewhere").await.status, dev.get("/one").await.status), (200, 404));
    assert!(!dev.printed(mark).contains("build "), "{}", dev.printed(mark));
    let mark = dev.mark();
    dev.sources().settings("one", "[limits]\nmemmory = \"1MiB\"\n");
    dev.wait_line(mark, &["✗ rejected"]).await;
    dev.wait_line(mark, &["│", "memmory"]).await;
    let mark = dev.mark();
    dev.sources().settings("one", "# As it was.\n[[route]]\npath = \"/elsewhere\"\n");
    dev.wait_line(mark, &["one", "serves as before"]).await;
    let mark = dev.mark();
    fs::remove_file(dev.sources().dir("one").join("one.toml")).expect("they were there");
    dev.wait_line(mark, &["one", "✓ settings → "]).await;
    assert_eq!((dev.get("/elsewhere").await.status, dev.get("/one").await.status), (404, 200));
}

#[tokio::test]
async fn commands_find_it_in_its_folder_where_nobody_serves_the_usual_bay() {
    let dev = one().await;
    let sources = dev.sources().clone();
    let ps = || {
        let mut command = hotbay(["ps"]);
        command.current_dir(sources.services()).env_remove("HOTBAY_ADMIN_TOKEN");
        command
    };
    let ended = finish(ps()).await;
    assert!(ended.code == Some(0) && ended.stdout.contains(&guests::digest(&build(0))), "{ended:?}");
    dev.interrupt().await;
    assert_fails(&finish(ps()).await, &["bay/.hotbay/admin.address is missing", "--bay .hotbay/dev"]);
}

#[tokio::test]
async fn of_two_services_of_one_name_the_first_is_there_and_the_other_is_told_of() {
    let sources = Sources::new().service("one", &build(0)).service("two", &build(1));
    let recipe = sources.dir("two").join("hotbay-build.toml");
    let text = fs::read_to_string(&recipe).expect("it is there");
    fs::write(&recipe, format!("name = \"one\"\n{text}")).expect("it can be written");
    let dev = sources.start().await;
    dev.wait_line(0, &["two services are called one", "hotbay-build.toml"]).await;
    dev.wait_line(0, &["one", "✓ first build"]).await;
    assert_serves(&dev, "one", 0).await;
    let mark = dev.mark();
    fs::write(&recipe, text).expect("it can be written");
    dev.wait_line(mark, &["two", "✓ first build"]).await;
    assert_serves(&dev, "two", 1).await;
}

#[tokio::test]
async fn what_guests_write_and_requests_that_fail_are_shown() {
    let sources = Sources::new().service("talker", &guests::fixture("logging")).service("broken", &guests::text("trap-when-run"));
    let dev = sources.start().await;
    dev.wait_line(0, &["talker", "✓"]).await;
    dev.wait_line(0, &["broken", "✓"]).await;
    let mark = dev.mark();
    dev.get("/talker/levels").await;
    dev.wait_line(mark, &["talker", "│ ", "warn"]).await;
    assert_eq!(dev.get("/broken/x").await.status, 500);
    dev.wait_line(mark, &["broken", "✗ 500 GET /broken/x in "]).await;
}

/// The bay stays where it is, so what services keep is there the next time, and their last builds serve at once.
#[tokio::test]
async fn what_services_keep_is_there_the_next_time() {
    let sources = Sources::new().service("keeper", &guests::fixture("keeper"));
    sources.settings("keeper", "[grants]\nkeyvalue = ['default']\n");
    let dev = sources.start().await;
    dev.wait_line(0, &["keeper", "✓"]).await;
    assert_eq!(dev.get("/keeper/set?default/a/1").await.text(), "done");
    dev.interrupt().await;
    let dev = sources.start().await;
    dev.wait_line(0, &["keeper", &format!("{} serves", guests::digest(&guests::fixture("keeper")))]).await;
    assert_eq!(dev.get("/keeper/get?default/a").await.text(), "1");
}

#[tokio::test]
async fn what_cannot_be_followed_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    assert_fails(&finish(hotbay(["dev", path])).await, &["holds no service", "hotbay new"]);
    assert_fails(&finish(hotbay(["dev", &format!("{path}/nowhere")])).await, &["nowhere", "name a folder"]);
    let dev = one().await;
    let services = dev.sources().services();
    let second = finish(hotbay(["dev", services.to_str().expect("text")])).await;
    assert_fails(&second, &["another hotbay dev", "--bay"]);
    let elsewhere = dev.sources().folder().join("bay");
    let (taken, bay) = (dev.address().to_string(), elsewhere.to_str().expect("text"));
    let second = finish(hotbay(["dev", services.to_str().expect("text"), "--bay", bay, "--listen", &taken])).await;
    assert_fails(&second, &[&taken, "--listen 127.0.0.1:0"]);
}

/// What the system refuses to watch is looked at instead.
#[tokio::test]
async fn a_file_watcher_that_ran_out_is_named_and_files_are_looked_at() {
    let sources = Sources::new().service("one", &build(0));
    let services = sources.services();
    let mut command = Command::new("unshare");
    // A namespace of its own has limits of its own.
    let start = r#"echo 0 > /proc/sys/user/max_inotify_watches && exec "$@""#;
    command.args(["--user", "--map-root-user", "sh", "-c", start, "sh"]).arg(binary());
    command.arg("dev").arg(&services).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let may = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", "echo 0 > /proc/sys/user/max_inotify_watches"])
        .output()
        .await;
    if !may.is_ok_and(|ended| ended.status.success()) {
        return println!("skipped: this system lets nobody make a namespace with limits of its own");
    }
    command.kill_on_drop(true);
    let dev = Dev::launch(command, sources).await;
    dev.wait_line(0, &["the file watcher ran out"]).await;
    dev.wait_line(0, &["→ ", "fs.inotify.max_user_watches"]).await;
    let mark = dev.mark();
    dev.sources().save("one", &build(1));
    dev.wait_line(mark, &["✓", &guests::digest(&build(1))]).await;
    assert_serves(&dev, "one", 1).await;
}

/// Waits until a process has written its number there.
async fn appears(path: &std::path::Path) -> String {
    let looking = async {
        loop {
            if let Ok(text) = fs::read_to_string(path) {
                return text.trim().to_owned();
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(hotbay_tests::PATIENCE, looking).await.expect("it is written")
}

/// Waits until a process is there no more.
async fn gone(process: &str) {
    let is_there = || {
        let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        !status.is_empty() && !status.contains(") Z ")
    };
    let looking = async {
        while is_there() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(hotbay_tests::PATIENCE, looking).await.expect("the process has ended");
}
