//! What services keep by `wasi:keyvalue` on the database of the host: kept through swaps, restarts, take-overs and kills, bounded, and each service's own.

mod redis;

use hotbay_tests::{Builder, Event, Host, How, PATIENCE, Signal, client, guests, host::ask as command};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Instant,
};
use tokio::task::JoinSet;

const GRANTED: &str = "[grants]\nkeyvalue = ['default', 'other']\n";
/// Kills of the test that kills, half a second each; others by `KILLS=`.
const KILLS: u32 = 100;

/// A host with a keeper that may keep, in a state folder of its own.
fn keeper() -> Builder {
    Host::builder().own_state().service("keeper", &guests::fixture("keeper")).settings("keeper", GRANTED)
}

async fn ask(host: &Host, target: &str) -> String {
    ask_at(host.address(), target).await
}

async fn ask_at(address: SocketAddr, target: &str) -> String {
    let answer = client::get(address, target).await;
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    answer.text()
}

fn database(host: &Host) -> PathBuf {
    host.state().join("keyvalue").join("keyvalue.redb")
}

#[tokio::test]
async fn keys_are_kept_listed_batched_and_compared() {
    let host = keeper().start().await;
    keeps(&host).await;
    let mode = |path: PathBuf| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(database(&host)), mode(host.state().join("keyvalue"))), (0o600, 0o700));
}

/// Every function of the interface, whatever keeps.
async fn keeps(host: &Host) {
    for (asked, answer) in [
        ("get?default/a", "none"),
        ("set?default/a/1", "done"),
        ("get?default/a", "1"),
        ("get?other/a", "none"),
        ("exists?default/a", "true"),
        ("set?default/b/2", "done"),
        ("keys?default", "a,b"),
        ("delete?default/a", "done"),
        ("delete?default/a", "done"),
        ("exists?default/a", "false"),
        ("add?default/n/5", "5"),
        ("add?default/n/-7", "-2"),
        ("get?default/n", "-2"),
        ("add-by-cas?default/n", "-1"),
        ("set?default/n/7", "done"),
        ("add?default/n/-8", "-1"),
        ("conflict?default/c", "none,of another"),
        ("get?default/c", "mine"),
        ("batch?other/k/1000", "done"),
        ("batch?other/l/1000", "done"),
        ("batch?other/m/3", "done"),
        ("count?other", "2003"),
        ("batch-get?other/m/4", "3,3,3,none"),
        ("batch-delete?other/l/1000", "done"),
        ("count?other", "1003"),
    ] {
        assert_eq!(ask(host, &format!("/keeper/{asked}")).await, answer, "{asked}");
    }
    let refused = ask(host, "/keeper/add?default/c").await;
    assert!(refused.contains("`c` is no whole number"), "{refused}");
    for text in ["+5", "007", "-0", "5.0", "9223372036854775808"] {
        assert_eq!(ask(host, &format!("/keeper/set?default/odd/{text}")).await, "done");
        let refused = ask(host, "/keeper/add?default/odd").await;
        assert!(refused.contains("`odd` is no whole number"), "{text}: {refused}");
        assert_eq!(ask(host, "/keeper/get?default/odd").await, text);
    }
    let refused = ask(host, &format!("/keeper/add?default/n/{}", i64::MIN)).await;
    assert!(refused.contains("64 bits") && refused.contains("-1 and"), "{refused}");
    assert_eq!(ask(host, &format!("/keeper/add?default/large/{}", i64::MAX)).await, i64::MAX.to_string(), "every digit");
}

#[tokio::test]
async fn limits_are_told_by_the_interfaces_own_error() {
    limits_hold("[keyvalue]\n").await;
}

/// Each limit, whatever keeps: `config` says it.
async fn limits_hold(config: &str) {
    let host = keeper().config(&format!("{config}size = '2MiB'\n")).start().await;
    for (asked, words) in [
        ("long-key?default/-/1025", "the key has 1025 bytes, and 1024 are the most"),
        ("fill?default/a/1048577", "the value of `a` has 1048577 bytes, and 1048576 are the most"),
        ("batch?default/a/1001", "the batch has 1001 keys, and 1000 are the most"),
        ("batch-get?default/a/1001", "the batch has 1001 keys, and 1000 are the most"),
        ("batch-bad?default/half", "1048577 bytes"),
    ] {
        let answer = ask(&host, &format!("/keeper/{asked}")).await;
        assert!(answer.starts_with("error Other") && answer.contains(words), "{asked}: {answer}");
    }
    assert_eq!(ask(&host, "/keeper/keys?default").await, "", "what is refused leaves nothing");
    assert_eq!(ask(&host, "/keeper/long-key?default/-/1024").await, "done");
    assert_eq!(ask(&host, "/keeper/fill?default/a/1048576").await, "done");
    // The quota is the service's, whatever the bucket, and holds for each way to write.
    for asked in ["fill?other/b/1048576", "batch?other/x/1000"] {
        let answer = ask(&host, &format!("/keeper/{asked}")).await;
        let words = if asked.starts_with("fill") { "(keyvalue.size)" } else { "done" };
        assert!(answer.contains(words), "{asked}: {answer}");
    }
    assert_eq!(ask(&host, "/keeper/delete?default/a").await, "done");
    assert_eq!(ask(&host, "/keeper/fill?other/b/1048576").await, "done");
    assert_eq!(ask(&host, "/keeper/size?other/b").await, "1048576");
    // What is replaced frees its room.
    for _ in 0..5 {
        assert_eq!(ask(&host, "/keeper/fill?other/b/1048576").await, "done");
    }
    // A lower quota lets nothing in that takes more room, and everything go.
    let builder = host.stop().await;
    fs::write(builder.folder().join("hotbay.toml"), format!("{config}size = '1KiB'\n")).expect("the settings of the host");
    let host = builder.start().await;
    assert!(ask(&host, "/keeper/set?default/new/x").await.contains("(keyvalue.size)"));
    assert_eq!(ask(&host, "/keeper/fill?other/b/10").await, "done");
}

#[tokio::test]
async fn what_handles_of_compare_and_swap_keep_counts_in_the_memory_of_the_instance() {
    let settings = format!("[limits]\nmemory = '16MiB'\ndeadline = '60s'\n[instances]\npolicy = 'reuse'\n{GRANTED}");
    let host = keeper().settings("keeper", &settings).start().await;
    assert_eq!(ask(&host, "/keeper/fill?default/a/1048576").await, "done");
    // One after another they take no more than two.
    for _ in 0..10 {
        assert_eq!(ask(&host, "/keeper/hold?default/a/2").await, "done");
    }
    let refused = ask(&host, "/keeper/hold?default/a/40").await;
    assert!(refused.starts_with("error Other") && refused.contains("(limits.memory)"), "{refused}");
    assert_eq!(ask(&host, "/keeper/hold?default/a/2").await, "done", "they were given back");
}

#[tokio::test]
async fn a_bucket_that_is_not_granted_is_denied_and_counted() {
    let build = guests::fixture("keeper");
    let host = keeper().service("stranger", &build).start().await;
    assert_eq!(ask(&host, "/keeper/get?secret-bucket/a").await, "error NoSuchStore");
    assert_eq!(ask(&host, "/stranger/get?default/a").await, "error AccessDenied");
    let line = host.log().wait("a line on the bucket", |event| event.target == "hotbay::denied").await;
    assert_eq!((line.service.as_str(), &line.fields["bucket"]), ("keeper", &"secret-bucket".into()), "{line:?}");
    assert!(
        line.fields["remedy"].as_str().is_some_and(|remedy| remedy.contains("\"secret-bucket\"] below [grants] in keeper.toml"))
    );
    let metrics = host.admin().get("/metrics").await.text();
    let denied = r#"hotbay_denied_total{capability="keyvalue",service="stranger"} 1"#;
    assert!(metrics.lines().any(|line| line == denied), "{metrics}");
    let told = command(&host, ["ps", "keeper"]).await;
    assert!(told.stdout.contains("keyvalue default"), "{}", told.stdout);
}

#[tokio::test]
async fn services_do_not_see_each_others_keys_and_a_restart_loses_none() {
    let build = guests::fixture("keeper");
    let host = keeper().service("keep", &build).settings("keep", GRANTED).start().await;
    assert_eq!(ask(&host, "/keeper/set?default/a/mine").await, "done");
    assert_eq!(ask(&host, "/keep/get?default/a").await, "none");
    assert_eq!(ask(&host, "/keep/set?default/b/theirs").await, "done");
    let host = host.stop().await.start().await;
    assert_eq!(ask(&host, "/keeper/keys?default").await, "a");
    assert_eq!(ask(&host, "/keep/keys?default").await, "b");
    assert_eq!(ask(&host, "/keeper/get?default/a").await, "mine");
}

/// Adds 1 to a number again and again, by eight clients, until it is stopped. What was acknowledged is counted.
struct Adding {
    stopped: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    clients: JoinSet<Vec<String>>,
}

impl Adding {
    fn start(address: SocketAddr) -> Self {
        let (stopped, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let mut clients = JoinSet::new();
        for number in 0..8 {
            let (stopped, acknowledged) = (stopped.clone(), acknowledged.clone());
            clients.spawn(async move {
                let mut failures = Vec::new();
                // Both ways must not lose each other's.
                let target = if number % 2 == 0 { "/keeper/add?default/sum" } else { "/keeper/add-by-cas?default/sum" };
                while !stopped.load(Ordering::Relaxed) {
                    match client::get(address, target).await {
                        answer if answer.status == 200 && answer.text().parse::<i64>().is_ok() => {
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        answer => failures.push(format!("{}: {}", answer.status, answer.text())),
                    }
                }
                failures
            });
        }
        Self { stopped, acknowledged, clients }
    }

    /// Waits until so many more were acknowledged.
    async fn more(&self, more: i64) {
        let (begun, until) = (Instant::now(), self.acknowledged.load(Ordering::Relaxed) + more);
        while self.acknowledged.load(Ordering::Relaxed) < until {
            assert!(begun.elapsed() < PATIENCE, "nothing is acknowledged any more");
            tokio::task::yield_now().await;
        }
    }

    /// How many were acknowledged, where none failed.
    async fn stop(self) -> i64 {
        self.stopped.store(true, Ordering::Relaxed);
        let failures = self.clients.join_all().await.concat();
        assert_eq!(failures, [""; 0]);
        self.acknowledged.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_clients_add_up_while_the_service_is_swapped() {
    let host = keeper().start().await;
    let (adding, begun) = (Adding::start(host.address()), Instant::now());
    for n in 1..=20 {
        adding.more(10).await;
        host.swap("keeper", &guests::revision("keeper", n), How::Rename).await;
    }
    let (sum, took) = (adding.stop().await, begun.elapsed());
    println!("{sum} increments by 8 clients over 20 swaps in {took:.1?}, each on the disk before its answer; none lost");
    assert_eq!(ask(&host, "/keeper/get?default/sum").await, sum.to_string());
    assert_eq!(ask(&host, "/keeper/marker").await, guests::marker(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_loses_no_write_and_no_request() {
    let mut host = keeper().start().await;
    let adding = Adding::start(host.address());
    for _ in 0..4 {
        adding.more(50).await;
        let next = host.successor();
        next.table().await;
        adding.more(50).await;
        let status = host.exit_status().await;
        assert_eq!(status.code(), Some(0), "{}", host.told());
        host = next;
    }
    adding.more(50).await;
    let sum = adding.stop().await;
    assert_eq!(ask(&host, "/keeper/get?default/sum").await, sum.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills() {
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let mut host = keeper().start().await;
    let (mut written, mut before, mut maybe) = (0, 0, 0);
    for kill in 0..kills {
        let address = host.address();
        let acknowledged = Arc::new(AtomicI64::new(0));
        let mut clients = JoinSet::new();
        for client in 0..4 {
            let acknowledged = acknowledged.clone();
            clients.spawn(async move {
                let mut whole = 0;
                // Ten keys at once, by names of this round, and one more on the sum.
                loop {
                    let batch = format!("/keeper/batch?default/{kill}-{client}-{whole}-/10");
                    if !is_done(address, &batch, "done").await {
                        return whole;
                    }
                    whole += 1;
                    if !is_done(address, "/keeper/add?other/sum", "").await {
                        return whole;
                    }
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begun = Instant::now();
        let least = i64::from(5 + kill % 40);
        while acknowledged.load(Ordering::Relaxed) < least {
            assert!(begun.elapsed() < PATIENCE, "nothing is written\n{}", host.told());
            tokio::task::yield_now().await;
        }
        host.signal(Signal::KILL);
        host.exit_status().await;
        let batches: usize = clients.join_all().await.into_iter().sum();
        host = host.again().start().await;
        let keys: i64 = ask(&host, "/keeper/count?default").await.parse().expect("a number");
        let batches = i64::try_from(batches).expect("a small number");
        written += batches * 10;
        // Those that nobody was told of may be there, four a kill, but whole.
        maybe += 40;
        assert!(
            (written..=written + maybe).contains(&keys) && keys % 10 == 0,
            "kill {kill}: {keys} keys, {written} acknowledged"
        );
        let sum: i64 = ask(&host, "/keeper/get?other/sum").await.parse().expect("a number");
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        assert!((before + acknowledged..=before + acknowledged + 4).contains(&sum), "kill {kill}: {sum}");
        before = sum;
    }
    println!("{kills} kills: {written} keys acknowledged, none lost, no batch half written");
}

/// Whether the host has acknowledged it. One that is killed breaks the connection, or refuses the next.
async fn is_done(address: SocketAddr, target: &str, answer: &str) -> bool {
    let Ok(mut connection) = client::Connection::http1(address).await else { return false };
    let request = connection.request("GET", target);
    connection.try_send(request).await.is_ok_and(|found| found.status == 200 && found.text().contains(answer))
}

#[tokio::test]
async fn a_broken_database_harms_nobody_else_and_can_be_mended() {
    let builder = keeper().service("marker", &guests::fixture("marker"));
    let folder = builder.bay_path().join(".hotbay").join("keyvalue");
    fs::create_dir_all(&folder).expect("a folder");
    fs::set_permissions(folder.parent().expect("a parent"), fs::Permissions::from_mode(0o700)).expect("a mode");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("a mode");
    fs::write(folder.join("keyvalue.redb"), b"no database at all".repeat(1000)).expect("a file");
    let host = builder.start().await;
    for _ in 0..3 {
        for asked in ["get?default/a", "set?default/a/1"] {
            let answer = ask(&host, &format!("/keeper/{asked}")).await;
            assert!(answer.starts_with("error Other") && answer.contains("cannot be used now"), "{answer}");
        }
    }
    let line = host.log().wait("a line on the database", |event| event.target == "hotbay::keyvalue").await;
    assert!(line.remedy.contains("backup") && line.message.contains("cannot be used"), "{line:?}");
    assert_eq!(host.get("/marker").await.status, 200);
    fs::remove_file(database(&host)).expect("the broken file");
    assert_eq!(ask(&host, "/keeper/set?default/a/1").await, "done");
    host.log().wait("a line that it is mended", |event| event.target == "hotbay::keyvalue" && event.level == "INFO").await;
    let told = host.events().into_iter().filter(|event| event.target == "hotbay::keyvalue").map(|event| event.level);
    assert_eq!(told.collect::<Vec<_>>(), ["ERROR", "INFO"], "{}", host.told());
}

#[tokio::test]
async fn a_file_that_is_replaced_or_removed_takes_no_more_writes() {
    let host = keeper().start().await;
    assert_eq!(ask(&host, "/keeper/set?default/a/of-the-copy").await, "done");
    let copy = host.folder().join("copy.redb");
    let ended = command(&host, ["backup", copy.to_str().expect("a path in UTF-8")]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ask(&host, "/keeper/set?default/a/since").await, "done");
    for (what, then) in [("replaced", "of-the-copy"), ("removed", "none")] {
        match what {
            "replaced" => fs::rename(&copy, database(&host)).expect("the copy in its place"),
            _ => fs::remove_file(database(&host)).expect("it is removed"),
        }
        let answer = ask(&host, "/keeper/set?default/b/lost").await;
        assert!(answer.starts_with("error Other") && answer.contains("cannot be used now"), "{what}: {answer}");
        // What is acknowledged from then on is in the file that is there.
        assert_eq!(ask(&host, "/keeper/set?default/c/kept").await, "done");
        assert_eq!(ask(&host, "/keeper/get?default/a").await, then, "{what}");
        assert_eq!(ask(&host, "/keeper/get?default/b").await, "none", "{what}");
    }
    let of_it = |event: &Event| event.target == "hotbay::keyvalue" && event.level == "ERROR";
    let line = host.log().wait("a line on the file", of_it).await;
    assert!(line.message.contains("removed or replaced") && line.remedy.contains("backup"), "{line:?}");
    let host = host.stop().await.start().await;
    assert_eq!(ask(&host, "/keeper/get?default/c").await, "kept");
}

/// What was acknowledged is lost with any name above it that a loss of power takes away.
#[tokio::test]
async fn the_folders_of_the_first_write_are_on_the_disk_too() {
    if !Command::new("strace").args(["-D", "true"]).output().is_ok_and(|ended| ended.status.success()) {
        println!("skipped: there is no strace, or this machine lets nobody trace");
        return;
    }
    let builder = keeper();
    let trace = builder.folder().join("trace");
    let file = trace.to_str().expect("a path in UTF-8");
    let host = builder.wrapped(["strace", "-D", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", file]).start().await;
    assert_eq!(ask(&host, "/keeper/set?default/a/1").await, "done");
    let synced = fs::read_to_string(&trace).expect("the trace");
    let folder = database(&host).parent().expect("its folder").canonicalize().expect("it is there");
    let before: String = synced.lines().take_while(|line| !line.contains("keyvalue.redb>")).collect();
    for folder in folder.ancestors().take(3) {
        assert!(before.contains(&format!("<{}>", folder.display())), "{}: {synced}", folder.display());
    }
}

/// Bytes that a process has read, from wherever.
fn bytes_read(pid: u32) -> u64 {
    let counts = fs::read_to_string(format!("/proc/{pid}/io")).expect("the counts of a process of this user");
    let read = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.and_then(|read| read.parse().ok()).expect("a number")
}

#[tokio::test]
async fn who_asks_for_keys_alone_has_no_values_read() {
    let settings = format!("[limits]\ndeadline = '60s'\n{GRANTED}");
    let host = keeper().settings("keeper", &settings).start().await;
    for twenty in 0..5 {
        assert_eq!(ask(&host, &format!("/keeper/fill-batch?default/{twenty}-/20")).await, "done");
    }
    assert_eq!(ask(&host, "/keeper/fill?default/large/1048576").await, "done");
    // Nothing of it is in the memory of the next one.
    let host = host.stop().await.start().await;
    assert_eq!(ask(&host, "/keeper/get?default/none").await, "none");
    let before = bytes_read(host.pid());
    assert_eq!(ask(&host, "/keeper/count?default").await, "101");
    assert_eq!(ask(&host, "/keeper/exists?default/large").await, "true");
    let read = bytes_read(host.pid()) - before;
    assert!(read < 1 << 20, "{read} bytes were read of 7 MiB");
}

#[tokio::test]
async fn a_backup_is_made_while_the_service_writes_and_serves_elsewhere() {
    let host = keeper().start().await;
    assert_eq!(ask(&host, "/keeper/batch?other/k/1000").await, "done");
    assert_eq!(ask(&host, "/keeper/fill?default/large/1048576").await, "done");
    let adding = Adding::start(host.address());
    adding.more(20).await;
    let file = host.folder().join("copy.redb");
    let ended = command(&host, ["backup", file.to_str().expect("a path in UTF-8")]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    adding.more(20).await;
    let sum = adding.stop().await;
    assert_eq!(fs::metadata(&file).expect("the copy").permissions().mode() & 0o777, 0o600);
    assert_eq!(host.admin().stranger("GET", "/v1/keyvalue/backup").send().await.status, 401);

    let elsewhere = keeper();
    let folder = elsewhere.bay_path().join(".hotbay");
    fs::create_dir_all(folder.join("keyvalue")).expect("a folder");
    for folder in [&folder, &folder.join("keyvalue")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("a mode");
    }
    fs::copy(&file, folder.join("keyvalue").join("keyvalue.redb")).expect("the copy in its place");
    let other = elsewhere.start().await;
    assert_eq!(ask(&other, "/keeper/count?other").await, "1000");
    assert_eq!(ask(&other, "/keeper/size?default/large").await, "1048576");
    let then: i64 = ask(&other, "/keeper/get?default/sum").await.parse().expect("a number");
    assert!((20..sum).contains(&then), "{then} of {sum}");
    // It goes on from there.
    assert_eq!(ask(&other, "/keeper/add?default/sum").await, (then + 1).to_string());
}
