//! What a guest may reach over TCP, and that it gets there no further than its grants go.

mod torture_20;
mod torture_21;

use hotbay_tests::{Host, PATIENCE, Redis, Request, Upstream, guests};
use serde_json::Value;
use std::time::Instant;

const DIALERS: [&str; 2] = ["dialer", "dialer3"];

/// Both guests that connect as they are told to, WASI 0.2 and 0.3, under these settings.
async fn both(settings: &str) -> Host {
    configured(settings, "").await
}

/// The same on a host with `[outbound]`.
async fn configured(settings: &str, outbound: &str) -> Host {
    let mut builder = Host::builder().config(&format!("[outbound]\n{outbound}"));
    for name in DIALERS {
        builder = builder.service(name, &guests::fixture(name)).settings(name, settings);
    }
    builder.start().await
}

fn grant(to: &[&str]) -> String {
    format!("[grants]\ntcp = {to:?}\n")
}

/// A request that makes `service` do what `path` says.
fn asking(host: &Host, service: &str, path: &str, headers: &[(&str, &str)]) -> Request {
    let request = host.request("GET", &format!("/{service}/{path}"));
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// What the guest says of it.
async fn asked(host: &Host, service: &str, path: &str, headers: &[(&str, &str)]) -> Value {
    let answer = asking(host, service, path, headers).send().await;
    assert_eq!(answer.status, 200, "{service} {path} {headers:?}: {}", answer.text());
    answer.json()
}

async fn connected(host: &Host, service: &str, address: &str) -> Value {
    asked(host, service, "connect", &[("x-address", address)]).await
}

#[track_caller]
fn assert_error(said: &Value, error: &str) {
    assert!(is_error(&said["error"], error), "{error}: {said}");
}

/// Whether it is that error, which the interfaces spell `access-denied` and `AccessDenied`.
fn is_error(told: &Value, error: &str) -> bool {
    told.as_str().is_some_and(|told| told.to_lowercase().replace('-', "").contains(&error.to_lowercase()))
}

/// The value of a counter, of all its series that have these labels.
async fn counted(host: &Host, metric: &str, labels: &[&str]) -> f64 {
    let text = host.admin().get("/metrics").await.text();
    let series = |line: &&str| line.split(['{', ' ']).next() == Some(metric);
    let lines = text.lines().filter(series).filter(|line| labels.iter().all(|label| line.contains(label)));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Accepts and says nothing.
async fn silent() -> Upstream {
    Upstream::serving(|mut peer| async move { peer.wait_closed().await }).await
}

#[tokio::test]
async fn a_guest_speaks_to_a_real_redis() {
    let Some(redis) = Redis::start([]).await else { return };
    let address = redis.address().to_string();
    let host = both(&grant(&[&address])).await;
    for (count, service) in DIALERS.into_iter().enumerate() {
        for (line, answer) in [("SET fruit pear", "+OK"), ("GETRANGE fruit 0 1", "$2"), ("DEL fruit", ":1")] {
            let said = asked(&host, service, "redis", &[("x-to", &address), ("x-address", &address), ("x-send", line)]).await;
            assert_eq!(said["said"], answer, "{service} {line}: {said}");
        }
        let all = counted(&host, "hotbay_tcp_connections_total", &[&format!("service=\"{service}\"")]).await;
        assert_eq!(all, 3.0, "{service}");
        assert_eq!(counted(&host, "hotbay_denied_total", &["capability=\"tcp\""]).await, 0.0, "{count}");
    }
    // Each instance has ended, and its sockets with it.
    let mut clients = String::new();
    for _ in 0..1000 {
        let said = asked(&host, "dialer", "redis", &[("x-to", &address), ("x-send", "INFO clients")]).await;
        clients = said.to_string();
        if counted(&host, "hotbay_tcp_sockets", &[]).await == 0.0 {
            return;
        }
    }
    panic!("sockets stay: {clients}");
}

/// A name that stands for this machine is looked up through the host, and leads there.
#[tokio::test]
async fn a_name_is_looked_up_through_the_host() {
    let upstream = silent().await;
    let port = upstream.port();
    let host = both(&grant(&[&format!("localhost:{port}")])).await;
    for service in DIALERS {
        for name in ["localhost", "LocalHost", "localhost."] {
            let said = asked(&host, service, "look-up", &[("x-name", name)]).await;
            assert_eq!(said["found"][0], "127.0.0.1", "{service} {name}: {said}");
        }
        let address = format!("127.0.0.1:{port}");
        let said = asked(&host, service, "connect", &[("x-name", "localhost"), ("x-address", &address)]).await;
        assert_eq!(said["connected"], true, "{service}: {said}");
    }
    // Rust's own library, which looks up and connects.
    let said = asked(&host, "dialer", "std", &[("x-to", &format!("localhost:{port}"))]).await;
    assert_eq!(said["connected"], true, "{said}");
}

#[tokio::test]
async fn addresses_of_ipv6_are_granted_like_others() {
    let upstream = Upstream::at("[::1]:0", |mut peer| async move { peer.wait_closed().await }).await;
    let address = upstream.address().to_string();
    let host = both(&grant(&[&address])).await;
    for service in DIALERS {
        assert_eq!(connected(&host, service, &address).await["connected"], true, "{service}");
        // The address is its own look-up.
        assert_eq!(asked(&host, service, "look-up", &[("x-name", "::1")]).await["found"][0], "::1", "{service}");
    }
}

/// An instance that is kept keeps its connection; an instance that ends closes what it had.
#[tokio::test]
async fn a_connection_lives_as_long_as_its_instance() {
    let Some(redis) = Redis::start([]).await else { return };
    let address = redis.address().to_string();
    let settings = format!("{}[instances]\npolicy = \"reuse\"\n", grant(&[&address]));
    let host = both(&settings).await;
    for n in 1..=5 {
        let said = asked(&host, "dialer", "kept", &[("x-to", &address), ("x-send", "INCR n")]).await;
        assert_eq!(said["said"], format!(":{n}"), "{said}");
    }
    assert_eq!(counted(&host, "hotbay_tcp_connections_total", &["service=\"dialer\""]).await, 1.0);
    assert_eq!(counted(&host, "hotbay_tcp_sockets", &["service=\"dialer\""]).await, 1.0);
    // A guest that never closes anything: its instance ends, and the sockets with it.
    let upstream = silent().await;
    let to = upstream.address().to_string();
    let host = both(&grant(&[&to])).await;
    for _ in 0..3 {
        assert_eq!(asked(&host, "dialer", "hold", &[("x-to", &to)]).await["held"], true);
    }
    upstream.wait_closed(3).await;
}

#[tokio::test]
async fn a_change_of_settings_changes_the_grants() {
    let (old, new) = (silent().await, silent().await);
    let (before, after) = (old.address().to_string(), new.address().to_string());
    let host = both(&grant(&[&before])).await;
    assert_eq!(connected(&host, "dialer", &before).await["connected"], true);
    assert_error(&connected(&host, "dialer", &after).await, "AccessDenied");
    let mark = host.mark();
    host.place_settings("dialer", &grant(&[&after]));
    host.since(mark).wait_for("dialer", "published").await;
    assert_eq!(connected(&host, "dialer", &after).await["connected"], true);
    assert_error(&connected(&host, "dialer", &before).await, "AccessDenied");
    let mark = host.mark();
    host.place_settings("dialer", &grant(&["db.example.com"]));
    let rejected = host.since(mark).wait_rejected("dialer").await;
    assert!(rejected.reason.contains("names no port"), "{}", rejected.fields);
    assert_eq!(connected(&host, "dialer", &after).await["connected"], true, "a reject changes nothing");
}

/// Guards the places in host/src/capabilities/outbound/tcp/client.rs, and that streams hold them beyond their socket.
#[tokio::test]
async fn so_many_connections_at_once_and_no_more() {
    let upstream = silent().await;
    let address = upstream.address().to_string();
    let host = configured(&grant(&[&address]), "tcp_connections = 3\n").await;
    for (service, error) in [("dialer", ""), ("dialer3", "outbound.tcp_connections")] {
        let said = asked(&host, service, "many", &[("x-to", &address), ("x-address", &address), ("x-count", "10")]).await;
        assert_eq!((&said["connected"], &said["again"]), (&3.into(), &true.into()), "{service}: {said}");
        assert_error(&said, error);
        let refused = counted(&host, "hotbay_tcp_connections_refused_total", &[&format!("service=\"{service}\"")]).await;
        assert!(refused >= 1.0, "{service}: {refused}");
    }
    let builder = Host::builder().config("[outbound]\ntcp_connections = 0\n");
    let ended = builder.run().await;
    assert!(ended.code == Some(1) && ended.stderr.contains("tcp_connections"), "{}", ended.stderr);
}

/// The connections of two services are counted apart, and so are those of two requests of one together.
#[tokio::test]
async fn places_are_the_services_own() {
    let upstream = silent().await;
    let address = upstream.address().to_string();
    let wasm = guests::fixture("dialer");
    let settings = format!("{}[instances]\npolicy = \"reuse\"\n", grant(&[&address]));
    let mut builder = Host::builder().config("[outbound]\ntcp_connections = 1\n");
    for name in ["first", "second"] {
        builder = builder.service(name, &wasm).settings(name, &settings);
    }
    let host = builder.start().await;
    assert_eq!(asked(&host, "first", "hold", &[("x-to", &address)]).await["held"], true);
    assert!(asked(&host, "first", "hold", &[("x-to", &address)]).await["error"].is_string());
    assert_eq!(asked(&host, "second", "hold", &[("x-to", &address)]).await["held"], true);
}

/// Guards that revisions of one service share its places (host/src/capabilities/outbound/share.rs).
#[tokio::test]
async fn a_swap_gives_no_places_again() {
    let upstream = silent().await;
    let address = upstream.address().to_string();
    let settings = format!("{}[limits]\ndeadline = \"10min\"\n", grant(&[&address]));
    let builder = Host::builder().config("[outbound]\ntcp_connections = 1\n");
    let host = builder.service("dialer", &guests::fixture("dialer")).settings("dialer", &settings).start().await;
    let holds = tokio::spawn(asking(&host, "dialer", "drain", &[("x-to", &address), ("x-address", &address)]).try_send());
    upstream.wait_connections(1).await;
    let mark = host.mark();
    host.place_settings("dialer", &format!("{settings}concurrency = 8\n"));
    host.since(mark).wait("a publication", |event| event.is("dialer", "published")).await;
    assert!(asked(&host, "dialer", "std", &[("x-to", &address)]).await["error"].is_string(), "the revision before has the place");
    holds.abort();
    upstream.wait_closed(1).await;
    // The place is given back once the socket is closed, and the upstream may be the first to hear of that.
    let begun = Instant::now();
    while counted(&host, "hotbay_tcp_sockets", &[]).await > 0.0 {
        assert!(begun.elapsed() < PATIENCE, "the place is not given back\n{}", host.told());
    }
    assert_eq!(connected(&host, "dialer", &address).await["connected"], true, "it is free again");
}

#[tokio::test]
async fn grants_are_shown() {
    let host = both("[grants]\nhttp = [\"https://api.example.com\"]\ntcp = [\"DB.example.com.:05432\", \"127.1:6379\"]\n").await;
    let wanted = ["http https://api.example.com", "tcp db.example.com:5432", "tcp 127.0.0.1:6379"];
    let shown = hotbay_tests::host::ask(&host, ["ps", "dialer"]).await;
    for grant in wanted {
        assert!(shown.stdout.contains(grant), "{grant}: {}", shown.stdout);
    }
    let told = host.admin().get("/v1/services/dialer").await.json();
    assert_eq!(told["serving"]["grants"], serde_json::json!(wanted), "{told}");
    let path = host.build_path("dialer");
    let check = hotbay_tests::host::hotbay(["check", "--json", &path.to_string_lossy()]);
    let checked = hotbay_tests::host::finish(check).await;
    let checked: Value = serde_json::from_str(&checked.stdout).expect("JSON");
    assert_eq!(checked[0]["grants"], serde_json::json!(wanted), "{checked}");
}
