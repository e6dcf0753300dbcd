//! What services keep in a Redis: as on the database, shared by hosts, and with errors at once where Redis is gone. Debian's
//! redis-server is asked; where there is none, these tests say that they are skipped.

use super::{Adding, GRANTED, ask, keeper, keeps, limits_hold};
use hotbay_tests::{
    Authority, Builder, Event, Host, How, PATIENCE, Redis, Signal, Upstream, client, guests, host::ask as command,
};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const PASSWORD: &str = "hush-91d0";

/// A keeper whose requests end long before Redis' timeout of 1 s would let a test pass that waits for it.
fn impatient(redis: &Redis) -> Builder {
    let settings = format!("[limits]\ndeadline = '400ms'\n{GRANTED}");
    keeper().settings("keeper", &settings).config(&redis.config())
}

/// Asks until the answer is this one.
async fn until(host: &Host, target: &str, wanted: &str) {
    let begun = Instant::now();
    loop {
        let answer = client::get(host.address(), target).await;
        if answer.text() == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{target} still answers {} {}\n{}", answer.status, answer.text(), host.told());
    }
}

async fn is_unusable(host: &Host, target: &str) {
    let answer = ask(host, target).await;
    assert!(answer.starts_with("error Other") && answer.contains("cannot be used now"), "{target}: {answer}");
}

/// Waits until the log says this of the store.
async fn told(host: &Host, level: &str, words: &str) {
    let of_it = |event: &Event| event.target == "hotbay::keyvalue" && event.level == level && event.message.contains(words);
    host.log().wait(&format!("{level} … {words} …"), of_it).await;
}

#[tokio::test]
async fn keys_are_kept_listed_batched_and_compared() {
    let Some(redis) = Redis::start([]).await else { return };
    let host = keeper().config(&redis.config()).start().await;
    keeps(&host).await;
    let host = host.stop().await.start().await;
    assert_eq!(ask(&host, "/keeper/count?other").await, "1003", "another host finds it");
    assert!(!host.state().join("keyvalue").exists(), "nothing is kept in the state folder");
    let ended = command(&host, ["backup", "copy"]).await;
    assert!(ended.code == Some(1) && ended.stderr.contains("is in Redis at redis://127.0.0.1"), "{}", ended.stderr);
}

#[tokio::test]
async fn limits_are_told_by_the_interfaces_own_error() {
    let Some(redis) = Redis::start([]).await else { return };
    limits_hold(&redis.config()).await;
}

#[tokio::test]
async fn services_do_not_see_each_others_keys() {
    let Some(redis) = Redis::start([]).await else { return };
    let build = guests::fixture("keeper");
    let host = keeper().service("keep", &build).settings("keep", GRANTED).config(&redis.config()).start().await;
    assert_eq!(ask(&host, "/keeper/set?default/a/mine").await, "done");
    assert_eq!(ask(&host, "/keep/get?default/a").await, "none");
    assert_eq!(ask(&host, "/keep/set?default/b/theirs").await, "done");
    assert_eq!(ask(&host, "/keeper/keys?default").await + &ask(&host, "/keep/keys?default").await, "ab");
    assert_eq!(ask(&host, "/keeper/get?secret-bucket/a").await, "error NoSuchStore");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_add_up_while_the_service_of_one_is_swapped() {
    let Some(redis) = Redis::start([]).await else { return };
    let host = keeper().config(&redis.config()).start().await;
    let other = keeper().config(&redis.config()).start().await;
    let (adding, beside) = (Adding::start(host.address()), Adding::start(other.address()));
    for n in 1..=10 {
        adding.more(10).await;
        host.swap("keeper", &guests::revision("keeper", n), How::Rename).await;
        beside.more(10).await;
    }
    let sum = adding.stop().await + beside.stop().await;
    assert_eq!(ask(&other, "/keeper/get?default/sum").await, sum.to_string());
}

#[tokio::test]
async fn a_redis_that_is_gone_is_an_error_at_once_and_used_again_when_it_is_back() {
    let Some(mut redis) = Redis::start([]).await else { return };
    let host = impatient(&redis).service("marker", &guests::fixture("marker")).start().await;
    assert_eq!(ask(&host, "/keeper/set?default/a/1").await, "done");
    for _ in 0..2 {
        redis.kill().await;
        // None of them ends at its deadline, which `ask` would take ill.
        for _ in 0..20 {
            is_unusable(&host, "/keeper/get?default/a").await;
            is_unusable(&host, "/keeper/set?default/a/2").await;
        }
        assert_eq!(host.get("/marker").await.status, 200);
        redis.again().await;
        until(&host, "/keeper/get?default/a", "1").await;
        assert_eq!(ask(&host, "/keeper/set?default/a/1").await, "done");
    }
    // The log comes in its order, after the answers.
    let levels = || {
        let lines = host.events().into_iter().filter(|event| event.target == "hotbay::keyvalue");
        lines.map(|event| event.level).collect::<Vec<_>>()
    };
    let begun = Instant::now();
    while levels().len() < 4 && begun.elapsed() < PATIENCE {
        tokio::task::yield_now().await;
    }
    assert_eq!(levels(), ["ERROR", "INFO", "ERROR", "INFO"], "{}", host.told());
}

#[tokio::test]
async fn one_restart_between_two_calls_is_not_even_seen() {
    let Some(mut redis) = Redis::start([]).await else { return };
    let host = keeper().config(&redis.config()).start().await;
    assert_eq!(ask(&host, "/keeper/set?default/a/1").await, "done");
    for _ in 0..5 {
        redis.kill().await;
        redis.again().await;
        assert_eq!(ask(&host, "/keeper/get?default/a").await, "1");
        assert_eq!(ask(&host, "/keeper/add?default/a/0").await, "1", "its scripts are gone too");
    }
}

#[tokio::test]
async fn a_redis_that_is_silent_holds_no_request_past_its_deadline() {
    let Some(redis) = Redis::start([]).await else { return };
    let host = impatient(&redis).start().await;
    assert_eq!(ask(&host, "/keeper/set?default/a/1").await, "done");
    redis.signal(Signal::STOP);
    let begun = Instant::now();
    // The first ones end at their deadline; once the timeout has passed that Redis has, all fail at once.
    loop {
        let answer = client::get(host.address(), "/keeper/get?default/a").await;
        match answer.status {
            504 => assert!(begun.elapsed() < PATIENCE, "it is waited for again and again\n{}", host.told()),
            _ => break assert!(answer.text().contains("cannot be used now"), "{}", answer.text()),
        }
    }
    for _ in 0..20 {
        is_unusable(&host, "/keeper/set?default/a/2").await;
    }
    redis.signal(Signal::CONT);
    until(&host, "/keeper/get?default/a", "1").await;
    told(&host, "ERROR", "cannot be used").await;
    told(&host, "INFO", "can be used again").await;
}

#[tokio::test]
async fn a_password_is_a_secret_and_read_anew_when_it_was_wrong() {
    let Some(redis) = Redis::start(["--requirepass", PASSWORD]).await else { return };
    let builder = keeper().config(&format!("{}password = 'redis'\n", redis.config()));
    let folder = builder.bay_path().join(".hotbay").join("secrets");
    let host = builder.log("trace").start().await;
    is_unusable(&host, "/keeper/get?default/a").await;
    told(&host, "ERROR", "the secret `redis` is missing").await;
    told(&host, "ERROR", "or take keyvalue.password out of hotbay's settings").await;
    let put = |value: &str| {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).expect("a folder");
        let new = folder.join(".new");
        fs::write(&new, value).expect("a secret");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("a mode");
        fs::rename(new, folder.join("redis")).expect("a name");
    };
    put(&format!("not-{PASSWORD}"));
    is_unusable(&host, "/keeper/set?default/a/1").await;
    // Told although it is unusable still: what there is to do is something else now.
    told(&host, "ERROR", "WRONGPASS").await;
    told(&host, "ERROR", &format!("the secret file {} is not the password of that Redis", folder.join("redis").display())).await;
    put(PASSWORD);
    until(&host, "/keeper/set?default/a/1", "done").await;
    assert!(!host.told().contains(PASSWORD) && !host.stdout().contains(PASSWORD), "{}", host.told());

    let url = redis.config().replace("redis://", &format!("redis://:{PASSWORD}@"));
    let refused = keeper().config(&url).run().await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("keyvalue.password") && !refused.stderr.contains(PASSWORD), "{}", refused.stderr);
}

#[tokio::test]
async fn a_password_that_is_wanted_or_not_is_told_with_what_to_do() {
    let Some(redis) = Redis::start(["--requirepass", PASSWORD]).await else { return };
    let host = keeper().config(&redis.config()).start().await;
    is_unusable(&host, "/keeper/get?default/a").await;
    told(&host, "ERROR", "NOAUTH").await;
    let file = host.bay().join(".hotbay/secrets/redis");
    told(&host, "ERROR", &format!("into {}, owned by hotbay's user with mode 0600, set password = \"redis\"", file.display()))
        .await;

    let Some(open) = Redis::start([]).await else { return };
    let builder = keeper().config(&format!("{}password = 'redis'\n", open.config())).env("HOTBAY_SECRET_REDIS", PASSWORD);
    let host = builder.start().await;
    is_unusable(&host, "/keeper/get?default/a").await;
    told(&host, "ERROR", "wants no password, and HOTBAY_SECRET_REDIS in hotbay's environment is one").await;
    assert!(!host.told().contains(PASSWORD), "{}", host.told());

    // A user of its own has a name.
    open.order(&format!("ACL SETUSER shop on >{PASSWORD} ~* +@all")).await;
    let address = open.config().replace("redis://", "redis://shop@");
    let builder = keeper().config(&format!("{address}password = 'redis'\n")).env("HOTBAY_SECRET_REDIS", "another");
    let host = builder.start().await;
    is_unusable(&host, "/keeper/get?default/a").await;
    told(&host, "ERROR", "HOTBAY_SECRET_REDIS in hotbay's environment is not the password of the user shop").await;
    let host = keeper().config(&format!("{address}password = 'redis'\n")).env("HOTBAY_SECRET_REDIS", PASSWORD).start().await;
    assert_eq!(ask(&host, "/keeper/set?default/a/1").await, "done");
}

#[tokio::test]
async fn tls_is_spoken_with_those_that_are_trusted() {
    let Some(redis) = Redis::start([]).await else { return };
    let authority = Authority::of(["localhost"]);
    let relay = Upstream::relaying_tls(&authority, redis.address()).await;
    let start = async |outbound: &str| {
        let keyvalue = format!("[keyvalue]\nredis = 'rediss://localhost:{}'\n", relay.port());
        keeper().config(&format!("{keyvalue}{outbound}")).start().await
    };
    let stranger = start("").await;
    is_unusable(&stranger, "/keeper/set?default/a/1").await;
    told(&stranger, "ERROR", "certificate").await;
    let file = stranger.folder().join("ca.pem");
    fs::write(&file, &authority.pem).expect("a file");
    let host = start(&format!("[outbound]\nca_file = '{}'\n", file.display())).await;
    assert_eq!(ask(&host, "/keeper/set?default/a/1").await, "done");
    assert_eq!(ask(&host, "/keeper/get?default/a").await, "1");
}

#[tokio::test]
async fn what_redis_refuses_is_told_with_its_words() {
    let Some(redis) = Redis::start(["--maxmemory", "1", "--maxmemory-policy", "noeviction"]).await else { return };
    let host = keeper().config(&redis.config()).start().await;
    is_unusable(&host, "/keeper/set?default/a/1").await;
    told(&host, "ERROR", "maxmemory").await;
    assert_eq!(ask(&host, "/keeper/get?default/a").await, "none", "what needs no memory goes on");
}

#[tokio::test]
async fn one_that_is_full_is_told_once_though_it_is_read() {
    let Some(redis) = Redis::start(["--maxmemory-policy", "noeviction"]).await else { return };
    let host = keeper().config(&redis.config()).start().await;
    assert_eq!(ask(&host, "/keeper/set?default/a/1").await, "done");
    redis.order("CONFIG SET maxmemory 1").await;
    for _ in 0..20 {
        is_unusable(&host, "/keeper/set?default/b/2").await;
        assert_eq!(ask(&host, "/keeper/get?default/a").await, "1");
        assert_eq!(ask(&host, "/keeper/delete?default/none").await, "done", "what makes room is taken");
    }
    redis.order("CONFIG SET maxmemory 0").await;
    assert_eq!(ask(&host, "/keeper/set?default/b/2").await, "done");
    told(&host, "INFO", "takes changes again").await;
    let lines = host.events().into_iter().filter(|event| event.target == "hotbay::keyvalue");
    let lines: Vec<_> = lines.map(|event| (event.level, event.message)).collect();
    let [(error, full), (info, _)] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((error.as_str(), info.as_str()), ("ERROR", "INFO"));
    assert!(full.contains("takes no changes") && full.contains("maxmemory"), "{full}");
}

#[tokio::test]
async fn a_large_value_on_a_slow_line_is_waited_for_and_holds_nobody_up() {
    let Some(redis) = Redis::start([]).await else { return };
    // 1 MiB takes more than twice as long as an answer may be waited for, which comes all the time.
    let relay = Upstream::relaying_slowly(redis.address(), 16 << 10, Duration::from_millis(35)).await;
    let host = keeper().config(&format!("[keyvalue]\nredis = 'redis://{}'\n", relay.address())).start().await;
    assert_eq!(ask(&host, "/keeper/fill?default/large/1048576").await, "done");
    assert_eq!(ask(&host, "/keeper/set?default/small/1").await, "done");
    let address = host.address();
    let large = tokio::spawn(async move { client::get(address, "/keeper/size?default/large").await.text() });
    relay.wait_connections(2).await;
    for _ in 0..5 {
        assert_eq!(ask(&host, "/keeper/get?default/small").await, "1");
    }
    assert!(!large.is_finished(), "they came before it");
    assert_eq!(large.await.expect("it does not panic"), "1048576");
    let lines = host.events().into_iter().filter(|event| event.target == "hotbay::keyvalue").count();
    assert_eq!(lines, 0, "{}", host.told());
}

#[tokio::test]
async fn a_swap_that_finds_a_large_value_where_it_expected_a_small_one_sees_it() {
    let Some(redis) = Redis::start([]).await else { return };
    let host = keeper().config(&redis.config()).start().await;
    assert_eq!(ask(&host, "/keeper/conflict-large?default/a").await, "none,100000 bytes");
    assert_eq!(ask(&host, "/keeper/get?default/a").await, "mine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_of_redis() {
    let Some(mut redis) = Redis::start([]).await else { return };
    let host = keeper().config(&redis.config()).start().await;
    let (mut written, mut maybe) = (0, 0);
    for kill in 0..5 {
        let acknowledged = Arc::new(AtomicI64::new(0));
        let mut clients = JoinSet::new();
        for number in 0..4 {
            clients.spawn(batches(host.address(), format!("{kill}-{number}"), acknowledged.clone()));
        }
        let begun = Instant::now();
        while acknowledged.load(Ordering::Relaxed) < 20 {
            assert!(begun.elapsed() < PATIENCE, "nothing is written\n{}", host.told());
            tokio::task::yield_now().await;
        }
        redis.kill().await;
        clients.join_all().await;
        written += acknowledged.load(Ordering::Relaxed) * 10;
        maybe += 40;
        redis.again().await;
        until(&host, "/keeper/get?other/none", "none").await;
        let keys: i64 = ask(&host, "/keeper/count?default").await.parse().expect("a number");
        assert!(
            (written..=written + maybe).contains(&keys) && keys % 10 == 0,
            "kill {kill}: {keys} keys, {written} acknowledged"
        );
    }
}

/// Writes ten keys at once again and again, until that fails.
async fn batches(address: SocketAddr, name: String, acknowledged: Arc<AtomicI64>) {
    for number in 0.. {
        let answer = client::get(address, &format!("/keeper/batch?default/{name}-{number}-/10")).await;
        if answer.text() != "done" {
            return;
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}
