//! What the host asks of services by the clock: at its time, once, under all limits, and told.

use crate::outbound::{asking, counted, said};
use hotbay_tests::{
    Event, Host, How, PATIENCE, Signal, Tail, guests,
    host::{ask, tool},
};
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// An entry that comes each second.
fn each_second(path: &str) -> String {
    format!("[[cron]]\nschedule = \"* * * * * *\"\npath = \"{path}\"\n")
}

async fn probe(settings: &str) -> Host {
    Host::builder().service("probe", &guests::revision("probe", 1)).settings("probe", settings).start().await
}

/// Whether it is the completion line of a run.
fn is_run(event: &Event, path: &str) -> bool {
    event.target == "hotbay::request" && event.fields["schedule"].is_string() && event.path == path
}

async fn run(log: Tail<'_>, path: &str) -> Event {
    log.wait(format!("a run of {path}"), |event| is_run(event, path)).await
}

/// How entry `n` of `probe` stands, once it is like this.
async fn stands(host: &Host, n: usize, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let entry = host.admin().get("/v1/services/probe").await.json()["cron"][n].clone();
        if is(&entry) {
            return entry;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {entry}\n{}", host.told());
    }
}

async fn runs(host: &Host, result: &str) -> f64 {
    counted(host, "hotbay_cron_runs_total", &["service=\"probe\"", &format!("result=\"{result}\"")]).await
}

/// Guards host/src/dispatch/scheduled.rs: what a guest can know of it, and that it is a request like any other.
#[tokio::test]
async fn an_entry_is_a_request_that_the_guest_can_tell() {
    let settings = each_second("/tick?deep=1") + "timezone = \"europe/berlin\"\n";
    let builder = Host::builder().service("probe", &guests::text("environment")).settings("probe", &settings);
    let host = builder.start().await;
    let line = run(host.log(), "/tick").await;
    assert_eq!((line.status, line.level.as_str(), line.message.as_str()), (Some(200), "INFO", "request"), "{line:?}");
    assert_eq!(line.fields["schedule"], "* * * * * *");
    assert_eq!((line.fields["method"].as_str(), line.service.as_str()), (Some("POST"), "probe"));
    assert_eq!(line.revision, guests::digest(&guests::text("environment")));
    for variable in [
        "REQUEST_METHOD=POST",
        "PATH_INFO=/tick",
        "QUERY_STRING=deep=1",
        "HTTP_X_HOTBAY_CRON=* * * * * *",
        "HTTP_USER_AGENT=hotbay-cron/",
        "HTTP_HOST=probe.localhost",
        &format!("HTTP_X_REQUEST_ID={}", line.request_id),
    ] {
        let is_it = |event: &Event| event.request_id == line.request_id && event.message.starts_with(variable);
        host.log().wait(variable, is_it).await;
    }
    let entry = stands(&host, 0, "a run", |entry| entry["runs"].as_u64() > Some(0)).await;
    assert_eq!((&entry["timezone"], &entry["last"]["result"]), (&"Europe/Berlin".into(), &"succeeded".into()), "{entry}");
    assert!(runs(&host, "succeeded").await >= 1.0);
    assert!(counted(&host, "hotbay_requests_total", &["service=\"probe\"", "code_class=\"2xx\""]).await >= 1.0);
}

/// Guards `forward::set_forwarded`, and `addressed` of calls between services.
#[tokio::test]
async fn nobody_else_can_say_that_it_is_time() {
    let builder = Host::builder().service("stock", &guests::fixture("probe")).service("fetcher", &guests::fixture("fetcher"));
    let host = builder.settings("fetcher", "[grants]\ncalls = [\"stock\"]\n").start().await;
    for request in [host.request("GET", "/stock/headers"), host.request("GET", "/stock/headers").h2()] {
        let answer = request.header("x-hotbay-cron", "@daily").header("X-Hotbay-Cron", "@hourly").send().await;
        assert!(answer.status == 200 && !answer.text().contains("x-hotbay-cron"), "{}", answer.text());
    }
    let call = asking(&host, "fetcher", "stock.internal").header("x-path", "/headers");
    let told = said(call.header("x-pass-x-hotbay-cron", "@daily").header("x-pass-x-other", "seen")).await;
    let body = told["body"].as_str().unwrap_or_default();
    assert!(body.contains("x-other") && !body.contains("x-hotbay-cron"), "{told}");
}

/// Guards `Job::start`: a second run would find no permit and be refused.
#[tokio::test]
async fn an_entry_never_runs_beside_itself_and_what_it_misses_is_counted() {
    let host = probe(&(each_second("/sleep?ms=2300") + "[limits]\nconcurrency = 1\nqueue = 0\n")).await;
    let line = host.log().wait("a time that was missed", |event| event.target == "hotbay::cron").await;
    assert!(line.reason.contains("has not ended") && line.fields["path"] == "/sleep?ms=2300", "{line:?}");
    let entry = stands(&host, 0, "two runs", |entry| entry["runs"].as_u64() > Some(1)).await;
    assert_eq!(entry["last"]["result"], "succeeded", "{entry}");
    assert!(entry["missed"].as_u64() >= Some(2), "{entry}");
    assert_eq!(runs(&host, "refused").await, 0.0, "{}", host.told());
    assert!(runs(&host, "missed").await >= 2.0 && runs(&host, "succeeded").await >= 2.0);
}

#[tokio::test]
async fn limits_and_traps_hold_as_for_anybody_and_are_told() {
    let entries = ["/trap", "/sleep?ms=600000", "/status?code=404", "/trap-late"].map(each_second).concat();
    let host = probe(&(entries + "[limits]\ndeadline = \"300ms\"\n[rollback]\nwindow = \"0s\"\n")).await;
    for (n, result, status, reason) in [
        (0, "fault", 500, "asked to trap"),
        (1, "fault", 504, "300ms (limits.deadline)"),
        (2, "failed", 404, ""),
        (3, "fault", 200, "asked to trap in its body"),
    ] {
        let entry = stands(&host, n, result, |entry| entry["runs"].as_u64() > Some(0)).await;
        let last = &entry["last"];
        assert_eq!((last["result"].as_str(), last["status"].as_u64()), (Some(result), Some(status)), "{entry}");
        assert!(last["reason"].as_str().unwrap_or_default().contains(reason), "{entry}");
        let line = host.log().wait_request(last["request_id"].as_str().expect("an id")).await;
        assert!(line.fields["schedule"].is_string() && line.reason.contains(reason), "{line:?}");
    }
    assert!(runs(&host, "fault").await >= 3.0 && runs(&host, "failed").await >= 1.0);
    let faults = |fault: &str| ["service=\"probe\"".to_owned(), format!("fault=\"{fault}\"")];
    for fault in ["trap", "deadline"] {
        assert!(counted(&host, "hotbay_faults_total", &faults(fault).each_ref().map(String::as_str)).await >= 1.0, "{fault}");
    }
    let text = ask(&host, ["ps", "probe"]).await.stdout;
    for named in ["POST /trap", "fault 500", "asked to trap", "failed 404"] {
        assert!(text.contains(named), "{named}: {text}");
    }
}

#[tokio::test]
async fn an_entry_waits_in_the_queue_of_its_service() {
    let settings = each_second("/marker") + "[limits]\nconcurrency = 1\nqueue = 0\n";
    let host = probe(&settings).await;
    run(host.log(), "/marker").await;
    let open = host.get_open("/probe/drip?count=1000&ms=100").await;
    let entry = stands(&host, 0, "a refusal", |entry| entry["last"]["result"] == "refused").await;
    assert_eq!(entry["last"]["status"], 503, "{entry}");
    assert!(entry["last"]["reason"].as_str().is_some_and(|reason| reason.contains("limits.queue")), "{entry}");
    drop(open);
    stands(&host, 0, "a run", |entry| entry["last"]["result"] == "succeeded").await;
}

#[tokio::test]
async fn what_is_no_entry_is_rejected_with_key_line_and_remedy() {
    let host = probe("").await;
    let entry = |more: &str| format!("[[cron]]\npath = \"/tick\"\n{more}\n");
    for (toml, named) in [
        (entry("schedule = \"61 * * * *\""), vec!["line 3", "schedule = \\\"61 * * * *\\\"", "`61 * * * *`", "\"*/5 * * * *\""]),
        (entry("schedule = \"* * * *\""), vec!["line 3", "it has 4 fields", "@hourly"]),
        (entry("schedule = \"0 0 31 2 *\""), vec!["line 3", "no date is one of its times"]),
        (
            entry("schedule = \"@daily\"\ntimezone = \"Europe/Berln\""),
            vec!["line 4", "timezone = ", "`Europe/Berln` is no time zone", "did you mean `Europe/Berlin`?"],
        ),
        (entry("schedule = \"@daily\"\nmethod = \"LOOK\""), vec!["line 4", "none of POST"]),
        (entry("schedule = \"@daily\"\ntimezoen = \"UTC\""), vec!["line 4", "unknown key `timezoen`"]),
        (entry(""), vec!["line", "schedule"]),
        ("[[cron]]\nschedule = \"@daily\"\npath = \"tick\"\n".to_owned(), vec!["line 3", "must begin with `/`"]),
        (each_second("/a") + &each_second("/a"), vec!["line", "there twice"]),
    ] {
        let mark = host.mark();
        host.place_settings("probe", &toml);
        let rejected = host.since(mark).wait_rejected("probe").await;
        for name in named {
            let name = name.replace("\\\"", "\"");
            assert!(rejected.reason.contains(&name), "{toml:?}: {name:?} in {:?}", rejected.reason);
        }
        assert!(rejected.reason.contains("probe.toml") && !rejected.remedy.is_empty(), "{rejected:?}");
        assert_eq!(host.get("/probe/marker").await.status, 200, "the last good revision serves\n{}", host.told());
    }
    let builder = Host::builder().service("stock", &guests::fixture("library")).settings("stock", &each_second("/"));
    let rejected = builder.start().await.wait_rejected("stock").await;
    assert!(rejected.reason.contains("[[cron]]") && rejected.reason.contains("library"), "{}", rejected.reason);
    assert!(rejected.remedy.contains("take [[cron]] out"), "{}", rejected.remedy);
}

#[tokio::test]
async fn a_swap_leaves_what_runs_on_the_old_revision_and_the_next_is_the_new_ones() {
    let host = probe(&each_second("/sleep?ms=1500")).await;
    let (old, next) = (guests::digest(&guests::revision("probe", 1)), guests::revision("probe", 2));
    stands(&host, 0, "a run", |entry| entry["running"].is_string() && entry["runs"].as_u64() > Some(0)).await;
    let mark = host.mark();
    let next = host.swap("probe", &next, How::Rename).await;
    let line = run(host.since(mark), "/sleep").await;
    assert_eq!((line.status, line.revision.as_str()), (Some(200), old.as_str()), "{}", host.told());
    let is_next = |event: &Event| is_run(event, "/sleep") && event.revision == next;
    assert_eq!(host.log().wait("a run of the new revision", is_next).await.status, Some(200));
    let after = host.since(mark).events();
    let first = after.iter().position(is_next).unwrap_or_default();
    assert!(!after[first..].iter().any(|event| is_run(event, "/sleep") && event.revision == old), "{}", host.told());
}

/// Its next time, and how many times it has been asked for or missed; once it rests.
async fn told(host: &Host) -> (SystemTime, u64) {
    let mut last = Value::Null;
    loop {
        let entry = stands(host, 0, "a rest", |entry| entry["running"].is_null()).await;
        if entry == last {
            let next = humantime::parse_rfc3339(entry["next"].as_str().expect("a time")).expect("a time");
            return (next, entry["runs"].as_u64().unwrap_or_default() + entry["missed"].as_u64().unwrap_or_default());
        }
        last = entry;
    }
}

/// Guards `Cron::plan`: an entry that stays goes on as the one it was.
#[tokio::test]
async fn swaps_neither_lose_nor_double_a_time() {
    let settings = |n: u32| format!("{}[limits]\nqueue = {n}\n", each_second("/marker"));
    let host = probe(&settings(1)).await;
    run(host.log(), "/marker").await;
    let (first, before) = told(&host).await;
    for n in 2..8 {
        // Builds and settings in turn.
        let mark = host.mark();
        match n % 2 {
            0 => host.place("probe", &guests::revision("probe", n), How::Rename),
            _ => host.place_settings("probe", &settings(n)),
        }
        host.since(mark).wait_for("probe", "published").await;
        run(host.since(mark), "/marker").await;
    }
    let (last, after) = told(&host).await;
    let seconds = last.duration_since(first).expect("time goes on").as_secs();
    assert!(seconds >= 3, "{seconds}");
    assert_eq!(after - before, seconds, "each second was one time\n{}", host.told());
    // One that is taken out comes no more.
    host.place_settings("probe", "");
    let begun = Instant::now();
    while !host.admin().get("/v1/services/probe").await.json()["cron"].as_array().is_some_and(Vec::is_empty) {
        assert!(begun.elapsed() < PATIENCE, "{}", host.told());
    }
}

#[tokio::test]
async fn ps_shows_the_next_and_the_last() {
    let host = probe(&(each_second("/marker") + "[[cron]]\nschedule = \"@yearly\"\npath = \"/never\"\nmethod = \"GET\"\n")).await;
    stands(&host, 0, "a run", |entry| entry["runs"].as_u64() > Some(0)).await;
    let text = ask(&host, ["ps", "probe"]).await.stdout;
    for named in [
        "* * * * * * (UTC), POST /marker, ",
        "  next      20",
        "succeeded 200 after",
        "@yearly (UTC), GET /never, 0 runs, 0 missed",
    ] {
        assert!(text.contains(named), "{named}: {text}");
    }
    let json: Value = serde_json::from_str(&ask(&host, ["ps", "probe", "--json"]).await.stdout).expect("JSON");
    let entries = json["cron"].as_array().expect("entries");
    assert_eq!((entries.len(), &entries[0]["schedule"]), (2, &"* * * * * *".into()), "{json}");
    assert!(entries[1]["last"].is_null() && entries[1]["next"].as_str().is_some_and(|next| next.contains("-01-01T00:00:00")));
    let (at, next) = (entries[0]["last"]["at"].as_str(), entries[0]["next"].as_str());
    assert!(at < next && next.is_some_and(|next| next.ends_with(".000Z")), "{json}");
}

/// Guards `Registry::main` in `Cron::start`: it is the main revision that is asked, whoever gets the requests of clients.
#[tokio::test]
async fn a_labelled_revision_is_not_asked() {
    let settings = each_second("/marker") + "[[route]]\npath = \"/elsewhere\"\n[traffic]\nbeta = 100\n";
    let builder =
        Host::builder().service("probe", &guests::revision("probe", 1)).service("probe@beta", &guests::revision("probe", 2));
    let host = builder.settings("probe", &settings).start().await;
    let (main, beta) = ([1, 2].map(|n| guests::digest(&guests::revision("probe", n)))).into();
    host.wait_published("probe@beta", &beta).await;
    assert_eq!(host.get("/elsewhere").await.revision(), beta);
    assert_eq!(run(host.since(host.mark()), "/marker").await.revision, main, "{}", host.told());
}

#[tokio::test]
async fn the_end_of_the_host_waits_for_what_runs() {
    let mut host = probe(&each_second("/sleep?ms=1500")).await;
    stands(&host, 0, "a run", |entry| entry["running"].is_string()).await;
    let mark = host.mark();
    host.signal(Signal::TERM);
    assert_eq!(host.exit_status().await.code(), Some(0));
    assert_eq!(run(host.since(mark), "/sleep").await.status, Some(200));
    assert_eq!(host.since(mark).events().iter().filter(|event| is_run(event, "/sleep")).count(), 1, "{}", host.told());
}

/// It has ended, and all that it said is here.
async fn ended(host: &mut Host) {
    assert_eq!(host.exit_status().await.code(), Some(0), "{}", host.told());
    host.log().wait("its last line", |event| event.message.contains("everything has finished")).await;
}

/// When the request of a completion line began and ended, by the clock of the log.
fn times(line: &Event) -> (SystemTime, SystemTime) {
    let written = humantime::parse_rfc3339(line.fields["timestamp"].as_str().expect("a time")).expect("a time");
    (written - line.took, written)
}

/// Guards `Lease` in host/src/cron/lease.rs.
#[tokio::test]
async fn no_entry_runs_in_two_hosts_at_once() {
    let mut host = probe(&each_second("/sleep?ms=2000")).await;
    run(host.log(), "/sleep").await;
    stands(&host, 0, "a run", |entry| entry["running"].is_string()).await;
    let next = host.successor();
    next.table().await;
    let first = run(next.log(), "/sleep").await;
    ended(&mut host).await;
    let last = host.events().into_iter().rfind(|event| is_run(event, "/sleep")).expect("a run of the old host");
    assert!(times(&last).1 <= times(&first).0, "{last:?} and {first:?}\n{}", next.told());
    next.stop().await;
}

/// Guards `Lease::until`: a run that goes on keeps the new host from running anything, and it goes on where the old one ended.
#[tokio::test]
async fn a_hand_over_neither_loses_nor_doubles_a_time() {
    let mut host = probe(&(each_second("/marker") + &each_second("/sleep?ms=2500"))).await;
    run(host.log(), "/marker").await;
    let (first, before) = told(&host).await;
    let ran = |host: &Host| host.events().iter().filter(|event| is_run(event, "/marker")).count();
    let missed = |host: &Host| {
        let all = host.events();
        let of_it = all.iter().filter(|event| event.target == "hotbay::cron" && event.path == "/marker");
        of_it.filter_map(|event| event.fields["times"].as_u64()).sum::<u64>()
    };
    run(host.log(), "/sleep").await;
    stands(&host, 1, "a run", |entry| entry["running"].is_string()).await;
    let next = host.successor();
    next.table().await;
    run(next.log(), "/marker").await;
    ended(&mut host).await;
    let (last, after) = told(&next).await;
    let seconds = last.duration_since(first).expect("time goes on").as_secs();
    let old = u64::try_from(ran(&host)).expect("few") + missed(&host) - before;
    assert_eq!(old + after, seconds, "{}\n{}", host.told(), next.told());
    next.stop().await;
}

/// A second of a day, tomorrow.
fn tomorrow(second: u64) -> SystemTime {
    let today = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() / 86_400;
    UNIX_EPOCH + Duration::from_secs((today + 1) * 86_400 + second)
}

/// Guards `LOOK` and `Lived` in host/src/cron: a time that has come does not come again.
#[tokio::test]
async fn a_clock_that_is_set_brings_each_time_once() {
    let Some(library) = tool("lib/libfaketime.so.1") else {
        return println!(
            "skipped a_clock_that_is_set_brings_each_time_once: there is no libfaketime (.ci/setup test fetches it)"
        );
    };
    let daily = "[[cron]]\nschedule = \"0 3 * * *\"\npath = \"/marker\"\n";
    let builder = Host::builder().service("probe", &guests::fixture("probe"));
    let builder = builder.settings("probe", daily);
    let clock = builder.folder().join("clock");
    let set = |to: SystemTime| {
        let by = to.duration_since(SystemTime::now()).expect("it is tomorrow").as_secs_f64();
        fs::write(&clock, format!("+{by:.3}")).expect("the clock is set");
    };
    fs::write(&clock, "+0").expect("a clock");
    let host = builder
        .env("LD_PRELOAD", &library.to_string_lossy())
        .env("FAKETIME_TIMESTAMP_FILE", &clock.to_string_lossy())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .start()
        .await;
    let three = 3 * 3600;
    set(tomorrow(three - 2));
    let line = run(host.log(), "/marker").await;
    assert_eq!(line.status, Some(200), "{}", host.told());
    let came = stands(&host, 0, "the run", |entry| entry["runs"] == 1).await;
    let at = humantime::parse_rfc3339(came["last"]["at"].as_str().expect("a time")).expect("a time");
    assert!(at >= tomorrow(three), "before its time: {came}");
    assert_eq!(came["next"].as_str().map(|next| &next[10..]), Some("T03:00:00.000Z"), "{came}");
    // Back to before it. Another entry, which comes each second, tells when three is past for the second time.
    host.place_settings("probe", &(daily.to_owned() + &each_second("/count")));
    run(host.log(), "/count").await;
    let mark = host.mark();
    set(tomorrow(three - 2));
    let was_set = |event: &Event| event.target == "hotbay::cron" && event.fields["off"].is_string();
    host.since(mark).wait("that the clock was set", was_set).await;
    let past = |entry: &Value| {
        let at = entry["last"]["at"].as_str().and_then(|at| humantime::parse_rfc3339(at).ok());
        at.is_some_and(|at| at > tomorrow(three + 1))
    };
    let begun = stands(&host, 1, "three is past", past).await["runs"].as_u64();
    stands(&host, 1, "one more", |entry| entry["runs"].as_u64() > begun && past(entry)).await;
    let entry = stands(&host, 0, "a rest", |entry| entry["running"].is_null()).await;
    assert_eq!((&entry["runs"], &entry["next"]), (&1.into(), &came["next"]), "{entry}\n{}", host.told());
}
