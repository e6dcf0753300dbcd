//! What a guest was when it trapped, and where it computes: core dumps and profiles.

use crate::admin::assert_problem;
use hotbay_tests::{Builder, Event, Host, How, Response, guests, host};
use serde_json::Value;
use std::{collections::BTreeSet, fs, future::Future, os::unix::fs::PermissionsExt, path::Path};
use tokio::task::JoinHandle;
use wasmparser::{CoreDumpStackFrame, KnownCustom, Parser, Payload};

// --- core dumps ---

fn dumping() -> Builder {
    let builder = Host::builder().own_state().dev().args(["--coredump"]);
    builder.service("probe", &guests::fixture("probe"))
}

/// The line that tells of the dump of this request.
async fn dumped(host: &Host, answer: &Response) -> Event {
    assert_eq!(answer.status, 500, "{}", answer.text());
    let is = |event: &Event| event.target == "hotbay::coredump" && event.request_id == answer.request_id();
    host.log().wait(format!("the core dump of request {}", answer.request_id()), is).await
}

fn file_of(line: &Event) -> &Path {
    Path::new(line.fields["file"].as_str().unwrap_or_else(|| panic!("{}", line.message)))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

/// What debuggers read of a dump.
struct Dump {
    of: String,
    modules: usize,
    instances: usize,
    stack: Vec<CoreDumpStackFrame>,
    memory: Vec<u8>,
}

impl Dump {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("a core dump");
        let mut dump = Self { of: String::new(), modules: 0, instances: 0, stack: Vec::new(), memory: Vec::new() };
        for payload in Parser::new(0).parse_all(&bytes) {
            match payload.expect("WebAssembly") {
                Payload::CustomSection(section) => match section.as_known() {
                    KnownCustom::CoreDump(of) => dump.of = of.name.to_owned(),
                    KnownCustom::CoreDumpModules(found) => dump.modules = found.modules.len(),
                    KnownCustom::CoreDumpInstances(found) => dump.instances = found.instances.len(),
                    KnownCustom::CoreDumpStack(found) => dump.stack = found.frames,
                    _ => {}
                },
                Payload::DataSection(data) => {
                    data.into_iter().for_each(|piece| dump.memory.extend_from_slice(piece.expect("memory").data));
                }
                _ => {}
            }
        }
        dump
    }

    fn holds(&self, text: &str) -> bool {
        self.memory.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

#[tokio::test]
async fn a_trap_leaves_a_core_dump_that_only_the_hosts_user_reads() {
    let host = dumping().start().await;
    let line = dumped(&host, &host.get("/probe/trap?word=of-the-request").await).await;
    let file = file_of(&line);
    assert_eq!((line.service.as_str(), line.revision.as_str()), ("probe", guests::digest(&guests::fixture("probe")).as_str()));
    assert!(line.message.contains(&file.display().to_string()) && line.message.contains("docs/debugging.md"), "{}", line.message);
    assert_eq!(file.parent(), Some(host.state().join("coredumps").as_path()));
    assert_eq!((mode(file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
    let dump = Dump::read(file);
    assert_eq!(dump.of, "probe.wasm");
    assert!(dump.modules > 0 && dump.instances >= dump.modules && !dump.stack.is_empty(), "{} frames", dump.stack.len());
    assert!(dump.holds(&guests::marker(0)) && dump.holds("word=of-the-request"), "{} bytes of memory", dump.memory.len());
    assert!(!dump.holds("another-word"), "the search finds what is there");

    // More than a backtrace shows.
    let deep = Dump::read(file_of(&dumped(&host, &host.get("/probe/overflow").await).await));
    assert!(deep.stack.len() > 100, "{} frames", deep.stack.len());
}

#[tokio::test]
async fn every_kind_of_guest_leaves_one() {
    let kinds = [("command", "run"), ("old", "run-wasip1"), ("third", "probe3"), ("kept", "probe")];
    let builder = kinds.into_iter().fold(dumping(), |builder, (name, fixture)| builder.service(name, &guests::fixture(fixture)));
    let host = builder.settings("kept", "[instances]\npolicy = \"reuse\"\n").start().await;
    for (name, _) in kinds {
        let line = dumped(&host, &host.get(&format!("/{name}/trap")).await).await;
        let dump = Dump::read(file_of(&line));
        assert!(line.service == name && !dump.stack.is_empty() && dump.holds("asked to trap"), "{name}: {}", line.message);
    }
    let grown = dumped(&host, &host.get("/probe/grow?mib=80").await).await;
    assert!(!Dump::read(file_of(&grown)).stack.is_empty(), "out of memory is a trap too");
}

/// Guards `keep_newest` in host/src/runtime/coredump.rs.
#[tokio::test]
async fn the_newest_ten_are_kept() {
    let host = dumping().start().await;
    let mut files = Vec::new();
    for _ in 0..12 {
        let line = dumped(&host, &host.get("/probe/trap").await).await;
        files.push(file_of(&line).to_owned());
    }
    let there: Vec<_> = files.iter().map(|file| file.exists()).collect();
    assert_eq!(there, [[false; 2].as_slice(), &[true; 10]].concat());
    assert_eq!(fs::read_dir(host.state().join("coredumps")).expect("a folder").count(), 10);
}

#[tokio::test]
async fn a_storm_of_traps_leaves_whole_dumps_and_harms_nobody() {
    let host = dumping().service("neighbour", &guests::fixture("probe")).start().await;
    let traps = futures::future::join_all((0..20).map(|_| host.get("/probe/trap"))).await;
    for answer in &traps {
        let line = dumped(&host, answer).await;
        let is_there = line.fields["file"].as_str().is_some_and(|file| Path::new(file).exists());
        assert!(!is_there || !Dump::read(file_of(&line)).stack.is_empty(), "{}", line.message);
    }
    assert_eq!(host.get("/neighbour/marker").await.status, 200);
}

/// A guest of two components, of which one calls the other, which traps.
fn composed() -> bytes::Bytes {
    let text = fs::read_to_string(guests::text_path("answer")).expect("a fixture");
    let inner = r#"
  (component $inner
    (core module $traps (func (export "trap") unreachable))
    (core instance $traps (instantiate $traps))
    (func (export "trap") (canon lift (core func $traps "trap"))))
  (instance $inner (instantiate $inner))
  (core func $trap (canon lower (func $inner "trap")))
  (core module $guest"#;
    let text = text.replace("\n  (core module $guest", inner);
    let text = text
        .replace("(export \"fields\" (func $fields))\n", "(export \"fields\" (func $fields)) (export \"trap\" (func $trap))\n");
    let text = text.replace("\n    PARTS\n", "\n    (import \"host\" \"trap\" (func $trap))\n");
    let text = text.replace("\n      WORK\n", "\n      (call $trap) (i32.const 200)\n");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}")).into()
}

/// wasmtime 48 panics as it writes that down. Guards that it is made on a thread of its own, and that the log tells of its end.
#[tokio::test]
async fn where_the_engine_cannot_make_one_the_log_says_so_and_the_host_goes_on() {
    let host = dumping().service("composed", &composed()).start().await;
    let line = dumped(&host, &host.get("/composed").await).await;
    assert!(line.level == "WARN" && line.reason.contains("the engine could not make one"), "{}", line.message);
    let line = dumped(&host, &host.get("/probe/trap").await).await;
    assert!(file_of(&line).exists(), "the place is free again");
}

#[tokio::test]
async fn without_being_asked_for_there_is_none_and_production_cannot_ask() {
    let host = Host::builder().own_state().dev().service("probe", &guests::fixture("probe")).start().await;
    assert_eq!(host.get("/probe/trap").await.status, 500);
    let stopped = host.stop().await;
    assert!(!stopped.bay_path().join(".hotbay/coredumps").exists());
    for builder in [Host::builder().args(["--coredump"]), Host::builder().config("[dev]\ncoredump = true\n")] {
        let ended = builder.run().await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("--coredump") && ended.stderr.contains("add --dev"), "{}", ended.stderr);
    }
    let host =
        Host::builder().own_state().config("[dev]\non = true\ncoredump = true\n").service("probe", &guests::fixture("probe"));
    let host = host.start().await;
    dumped(&host, &host.get("/probe/trap").await).await;
}

// --- profiles ---

/// A guest that computes for some milliseconds in a function of this name.
fn grinding(function: &str) -> bytes::Bytes {
    let parts = format!(
        "(func ${function} (param $turns i32)
           (loop $again
             (local.set $turns (i32.sub (local.get $turns) (i32.const 1)))
             (br_if $again (local.get $turns))))"
    );
    guests::answering(&parts, &format!("(call ${function} (i32.const 10000000)) (i32.const 200)"))
}

fn target(service: &str, seconds: u32) -> String {
    format!("/v1/services/{service}/profile?seconds={seconds}")
}

async fn profile(host: &Host, service: &str) -> Response {
    host.admin().post(&target(service, 1), "").await
}

/// What comes of `profile`, while `path` is asked again and again.
async fn meanwhile<T>(host: &Host, path: &str, profile: impl Future<Output = T>) -> T {
    let asking = async {
        loop {
            host.get(path).await;
        }
    };
    tokio::select! {
        taken = profile => taken,
        () = asking => unreachable!("it is asked for ever"),
    }
}

/// The functions in which a profile's guests were seen, by the tables that the Firefox profiler reads.
fn seen(profile: &Value) -> BTreeSet<String> {
    let thread = &profile["threads"][0];
    let at = |table: &str, column: &str, index: &Value| {
        let index = usize::try_from(index.as_u64().expect("an index")).expect("a small one");
        thread[table][column][index].clone()
    };
    let function = |stack: &Value| {
        let name = at("funcTable", "name", &at("frameTable", "func", &at("stackTable", "frame", stack)));
        thread["stringArray"][usize::try_from(name.as_u64().expect("an index")).expect("a small one")].clone()
    };
    let stacks = thread["samples"]["stack"].as_array().expect("samples").iter().filter(|stack| !stack.is_null());
    stacks.map(|stack| function(stack).as_str().expect("a name").to_owned()).collect()
}

fn samples(answer: &Response) -> u64 {
    answer.header("x-hotbay-samples").parse().expect("a number")
}

#[tokio::test]
async fn a_profile_names_the_functions_that_compute_of_each_kind_of_guest() {
    let kinds = [
        ("fresh", grinding("grind_fresh"), "/fresh", "grind_fresh"),
        ("kept", grinding("grind_kept"), "/kept", "grind_kept"),
        ("command", guests::fixture("run"), "/command/spin", "run::"),
        ("third", guests::fixture("probe3"), "/third/spin", "handle"),
    ];
    let builder = kinds.iter().fold(Host::builder(), |builder, (name, wasm, ..)| builder.service(name, wasm));
    let host = builder.settings("kept", "[instances]\npolicy = \"reuse\"\n").start().await;
    for (name, wasm, path, function) in kinds {
        let answer = meanwhile(&host, path, profile(&host, name)).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{name}: {}", answer.text());
        assert_eq!(answer.revision(), guests::digest(&wasm));
        let profile = answer.json();
        let (seen, found) = (seen(&profile), profile["threads"][0]["samples"]["length"].as_u64());
        assert!(seen.iter().any(|name| name.contains(function)), "{name}: {seen:?}");
        // A step of the clock is a millisecond, a tick ten: of a second, a machine that is busy loses some.
        assert!(found == Some(samples(&answer)) && samples(&answer) > 1, "{name}: {found:?}");
        assert_eq!(profile["meta"]["product"], name, "{}", profile["meta"]);
    }
}

#[tokio::test]
async fn two_services_are_profiled_at_once_and_one_is_not_twice() {
    let host = Host::builder().service("one", &grinding("grind_one")).service("two", &grinding("grind_two")).start().await;
    let both = async { tokio::join!(profile(&host, "one"), profile(&host, "two"), profile(&host, "one")) };
    let (one, two, again) = meanwhile(&host, "/two", meanwhile(&host, "/one", both)).await;
    let (taken, refused) = if one.status == 200 { (one, again) } else { (again, one) };
    assert_problem(&refused, 409);
    assert!(seen(&taken.json()).contains("grind_one"), "{:?}", seen(&taken.json()));
    assert!(seen(&two.json()).contains("grind_two") && !seen(&two.json()).contains("grind_one"), "{:?}", seen(&two.json()));
    assert_eq!(meanwhile(&host, "/one", profile(&host, "one")).await.status, 200, "its place is free again");
}

/// A profile of `one` that has begun: another is refused for it. Where that one is not, it came first.
async fn under_way(host: &Host, seconds: u32) -> JoinHandle<Response> {
    loop {
        let begun = tokio::spawn(host.admin().request("POST", &target("one", seconds)).send());
        if profile(host, "one").await.status == 409 {
            return begun;
        }
    }
}

#[tokio::test]
async fn who_leaves_gives_a_profile_up_and_a_swap_does_not_end_it() {
    let host = Host::builder().service("one", &grinding("grind_one")).start().await;
    under_way(&host, 300).await.abort();
    let free = async {
        loop {
            let answer = profile(&host, "one").await;
            if answer.status != 409 {
                return answer;
            }
        }
    };
    assert_eq!(meanwhile(&host, "/one", free).await.status, 200);

    // The profile is of the revision that served when it began.
    let next = grinding("grind_two");
    let before = host.get("/one").await.revision().to_owned();
    let swapped = async {
        let profile = under_way(&host, 3).await;
        assert_eq!(host.get("/one").await.status, 200);
        host.swap("one", &next, How::Rename).await;
        profile.await.expect("an answer")
    };
    let answer = meanwhile(&host, "/one", swapped).await;
    assert_eq!((answer.status, answer.revision()), (200, before.as_str()), "{}", answer.text());
    let functions = seen(&answer.json());
    assert!(functions.contains("grind_one") && !functions.contains("grind_two"), "{functions:?}");
}

#[tokio::test]
async fn what_cannot_be_profiled_is_said() {
    let host = Host::builder().service("idle", &grinding("grind")).service("broken", b"no wasm").start().await;
    let admin = host.admin();
    for bad in ["seconds=0", "seconds=301", "seconds=long", "second=1"] {
        let problem = assert_problem(&admin.post(&format!("/v1/services/idle/profile?{bad}"), "").await, 400);
        assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("between 1 and 300")), "{problem}");
    }
    let unknown = assert_problem(&admin.post(&target("idl", 1), "").await, 404);
    assert_eq!(unknown["near"][0], "idle", "{unknown}");
    let rejected = assert_problem(&admin.post(&target("broken", 1), "").await, 409);
    assert!(rejected["detail"].as_str().is_some_and(|detail| detail.contains("no revision of `broken` serves")), "{rejected}");
    let unseen = assert_problem(&profile(&host, "idle").await, 422);
    assert!(unseen["detail"].as_str().is_some_and(|detail| detail.contains("ended no request in 1 s")), "{unseen}");
    let described = admin.get("/v1/openapi.json").await.json();
    let call = &described["paths"]["/v1/services/{name}/profile"]["post"];
    assert!(call["responses"]["409"].is_object() && call["parameters"][1]["name"] == "seconds", "{call}");
}

#[tokio::test]
async fn the_command_writes_the_profile_and_says_what_was_hottest() {
    let wasm = grinding("grind_one");
    let host = Host::builder().service("one", &wasm).service("idle", &wasm).start().await;
    let named = host.folder().join("named.json");
    for (more, file) in [(vec![], host.folder().join("one.profile.json")), (vec!["--output", "named.json"], named)] {
        let mut command = host.command(["profile", "one", "--seconds", "1"].into_iter().chain(more));
        command.current_dir(host.folder());
        let ended = meanwhile(&host, "/one", host::finish(command)).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let told = file.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        assert!(ended.stdout.contains("  grind_one\n") && ended.stdout.contains(told), "{}", ended.stdout);
        let written: Value = serde_json::from_slice(&fs::read(&file).expect("a profile")).expect("JSON");
        assert!(seen(&written).contains("grind_one"));
    }
    let ended = meanwhile(&host, "/one", host::ask(&host, ["profile", "one", "--seconds", "1", "--json"])).await;
    let printed: Value = serde_json::from_str(&ended.stdout).expect("JSON and nothing else");
    assert!(ended.code == Some(0) && seen(&printed).contains("grind_one"), "{}", ended.stderr);

    host::assert_fails(
        &host::ask(&host, ["profile", "idle", "--seconds", "1"]).await,
        &["ended no request in 1 s", "send it requests"],
    );
    host::assert_fails(&host::ask(&host, ["profile", "on"]).await, &["there is no service `on`", "did you mean one?"]);
    // Before the 300 seconds, and not after them.
    for output in ["nowhere/p.json", "."] {
        let ended = host::ask(&host, ["profile", "one", "--seconds", "300", "--output", output]).await;
        host::assert_fails(&ended, &["the profile cannot be written", output, "--output"]);
        assert!(!ended.stderr.contains("looking at"), "{}", ended.stderr);
    }
    for seconds in ["0", "301", "long"] {
        assert_eq!(host::ask(&host, ["profile", "one", "--seconds", seconds]).await.code, Some(2));
    }
}
