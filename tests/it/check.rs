//! `hotbay check`: what a file is and whether it would serve, without a host.

use hotbay_tests::{
    Finished, guests,
    host::{finish, hotbay},
};
use serde_json::Value;
use std::{fs, path::Path};
use tempfile::TempDir;

/// A folder of files to be checked.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn put(&self, name: &str, content: &[u8]) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("a file");
        path.to_str().expect("text").to_owned()
    }
}

async fn check(args: impl IntoIterator<Item = String>) -> Finished {
    finish(hotbay(["check".to_owned()].into_iter().chain(args))).await
}

/// The one object of `--json` for `file`, after the exit code was looked at.
async fn report(file: &str) -> Value {
    let ended = check([file.to_owned(), "--json".to_owned()]).await;
    let reports: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let report = reports[0].clone();
    assert_eq!(reports.as_array().map(Vec::len), Some(1));
    assert_eq!(ended.code, Some(if report["serves"] == true { 0 } else { 1 }), "{report}");
    assert_eq!(report["file"], *file);
    report
}

fn holds(list: &Value, part: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|name| name.as_str().is_some_and(|name| name.contains(part))))
}

#[tokio::test]
async fn every_kind_that_serves_is_told() {
    let files = Files::new();
    for (fixture, file_kind, kind, import, export, wasi) in [
        ("probe", "component", "http02", "wasi:http/types@0.2", "wasi:http/incoming-handler@0.2", "0.2."),
        ("probe3", "component", "http03", "wasi:http/types@0.3", "wasi:http/handler@0.3", "0.3."),
        ("module", "module-with-wit", "http02", "wasi:http/types@0.2", "wasi:http/incoming-handler@0.2", "0.2."),
        ("run-wasip1", "command", "command", "wasi:cli/", "wasi:cli/run@0.2", "0.2."),
        ("run", "component", "command", "wasi:cli/", "wasi:cli/run@0.2", "0.2."),
        ("lifecycle", "component", "http02", "wasi:http/types@0.2", "hotbay:service/lifecycle@0.1.0", "0.2."),
        ("library", "component", "library", "", "fixture:stock/levels@1.0.0", ""),
    ] {
        let wasm = guests::fixture(fixture);
        let report = report(&files.put(&format!("{fixture}.wasm"), &wasm)).await;
        assert_eq!(
            (&report["serves"], &report["reason"], &report["remedy"]),
            (&Value::Bool(true), &Value::Null, &Value::Null),
            "{report}"
        );
        assert_eq!((report["file_kind"].as_str(), report["kind"].as_str()), (Some(file_kind), Some(kind)), "{fixture}");
        assert_eq!(report["size"], wasm.len());
        assert!(report["digest"].as_str().is_some_and(|digest| digest.len() == 64 && digest.starts_with(&guests::digest(&wasm))));
        assert!(import.is_empty() || holds(&report["imports"], import), "{fixture}: {report}");
        assert!(holds(&report["exports"], export), "{fixture}: {report}");
        assert!(wasi.is_empty() || holds(&report["wasi"], wasi), "{fixture}: {report}");
    }
}

#[tokio::test]
async fn every_kind_that_does_not_serve_is_told_with_the_remedy() {
    let files = Files::new();
    let probe = guests::fixture("probe");
    let patched = |name, from, to| guests::patched(&guests::fixture(name), from, to);
    for (name, content, named) in [
        ("empty.wasm", &b""[..], "empty"),
        ("text.wasm", b"words\n", "text"),
        ("elf.wasm", b"\x7fELF\x02\x01\x01", "ELF"),
        ("cut.wasm", &probe[..probe.len() / 2], "truncated"),
        ("bare.wasm", &guests::text("bare-module"), "core module without WIT"),
        ("missing.wasm", &guests::text("unknown-import"), "acme:billing/invoices@1.2.0"),
        ("typed.wasm", &guests::text("wrong-import"), "wasi:random/random"),
        ("nothing.wasm", &guests::text("no-exports"), "wasi:http/incoming-handler"),
        ("trap.wasm", &guests::text("trap-in-start"), "does not start"),
        ("init.wasm", &patched("module", "initialize:fine", "initialize:trap"), "does not start"),
        ("start.wasm", &patched("lifecycle", "start:fine", "start:word"), "no table of prices"),
        ("Orders.wasm", &probe, "'O'"),
        ("a@main.wasm", &probe, "reserved"),
        ("probe.toml", b"[limits]\n", "the settings of a service"),
        ("probe.bin", &probe, "probe.bin"),
    ] {
        let report = report(&files.put(name, content)).await;
        assert_eq!(report["serves"], false, "{report}");
        assert!(report["reason"].as_str().is_some_and(|reason| reason.contains(named)), "{name}: {report}");
        assert!(report["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{name}: {report}");
        assert_eq!(report["size"], content.len(), "{name}");
    }
    let settings = report(&files.put("greet.toml", b"")).await;
    assert!(settings["remedy"].as_str().is_some_and(|remedy| remedy.contains("check greet.wasm")), "{settings}");
    let report = report(&format!("{}/nowhere.wasm", files.0.path().display())).await;
    assert!(report["reason"].as_str().is_some_and(|reason| reason.contains("cannot be read")), "{report}");
}

#[tokio::test]
async fn settings_beside_the_file_are_checked_too() {
    let files = Files::new();
    let file = files.put("probe.wasm", &guests::fixture("probe"));
    files.put("probe.toml", b"[limits]\nmemmory = \"1MiB\"\n");
    let told = report(&file).await;
    for named in ["line 2", "memmory"] {
        assert!(told["reason"].as_str().is_some_and(|reason| reason.contains(named)), "{told}");
    }
    assert_eq!(told["kind"], "http02", "what is in the file can be told all the same");
    files.put("probe.toml", b"[limits]\nmemory = \"64KiB\"\n");
    let told = report(&file).await;
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("64KiB")), "it needs more than that to start: {told}");
    files.put("probe.toml", b"[limits]\nmemory = \"32MiB\"\n");
    assert_eq!(report(&file).await["serves"], true);
    files.put("probe.toml", b"[limits]\nmemory = \"64KiB\"\n");
    let labelled = files.put("probe@beta.wasm", &guests::fixture("probe"));
    assert_eq!(report(&labelled).await["serves"], false, "a labelled build has the settings of its service");
}

/// Entries that are as they should be are told with the time at which they would come.
#[tokio::test]
async fn what_would_be_asked_by_the_clock_is_told() {
    let files = Files::new();
    let file = files.put("probe.wasm", &guests::fixture("probe"));
    files.put(
        "probe.toml",
        b"[[cron]]\nschedule = \"30 4 * * *\"\npath = \"/tick?deep=1\"\ntimezone = \"Asia/Kolkata\"\n\
            [[cron]]\nschedule = \"@yearly\"\npath = \"/\"\nmethod = \"GET\"\n",
    );
    let cron = report(&file).await["cron"].clone();
    let [daily, yearly] = [0, 1].map(|n| cron[n].clone());
    assert_eq!(cron.as_array().map(Vec::len), Some(2), "{cron}");
    assert_eq!(
        [&daily["schedule"], &daily["timezone"], &daily["method"], &daily["path"]],
        ["30 4 * * *", "Asia/Kolkata", "POST", "/tick?deep=1"],
        "{cron}"
    );
    assert!(daily["next"].as_str().is_some_and(|next| next.ends_with("T23:00:00Z")), "04:30 in India, in UTC: {cron}");
    assert_eq!([&yearly["timezone"], &yearly["method"]], ["UTC", "GET"]);
    let yearly = yearly["next"].as_str().expect("a time").to_owned();
    assert!(yearly.ends_with("-01-01T00:00:00Z"), "{cron}");

    let text = check([file]).await.stdout;
    for line in ["cron     30 4 * * * (Asia/Kolkata), POST /tick?deep=1, next 2", &format!("@yearly (UTC), GET /, next {yearly}")]
    {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    let labelled = files.put("probe@beta.wasm", &guests::fixture("probe"));
    assert_eq!(report(&labelled).await["cron"], serde_json::json!([]), "the clock asks the main revision alone");
}

#[tokio::test]
async fn the_text_says_the_same() {
    let files = Files::new();
    let (good, bad) = (files.put("probe.wasm", &guests::fixture("probe")), files.put("text.wasm", b"words\n"));
    let ended = check([good.clone(), bad.clone()]).await;
    assert_eq!(ended.code, Some(1), "one of them would not serve");
    let (first, second) = ended.stdout.split_once(&format!("\n{bad}\n")).unwrap_or_else(|| panic!("{}", ended.stdout));
    let digest = guests::digest(&guests::fixture("probe"));
    for line in [good.as_str(), "component", "HTTP service (WASI 0.2)", "wasi:http/incoming-handler@0.2", "serves   yes", &digest]
    {
        assert!(first.contains(line), "{line:?} in\n{first}");
    }
    for line in ["serves   no", "reason   the file is text", "remedy   "] {
        assert!(second.contains(line), "{line:?} in\n{second}");
    }
    let ended = check([good]).await;
    assert_eq!(ended.code, Some(0));
}

#[tokio::test]
async fn a_check_leaves_nothing_behind() {
    let files = Files::new();
    check([files.put("probe.wasm", &guests::fixture("lifecycle"))]).await;
    let left: Vec<_> = fs::read_dir(files.0.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["probe.wasm"]);
    assert!(!Path::new(".hotbay").exists());
}
