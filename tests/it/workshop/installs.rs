//! What `hotbay build` installs for services in Python and JavaScript, with tools that only write down how they were called.

use super::{Bench, finish};
use hotbay_tests::{Finished, guests::fixture, host::assert_fails};
use std::{env, fs, os::unix::fs::PermissionsExt};

/// Makes a virtual environment with the tools in it; what is asked for fails where it is `bad`.
const PYTHON: &str = r#"#!/bin/sh
case "$*" in
  --version) echo Python 3.12.0; exit;;
  -c*) echo with pip; exit;;
esac
echo "$*" >>"$CALLS"
for last; do :; done
case "$*" in
  *venv*--clear*) rm -rf "$last";;
esac
case "$*" in
  *"-m venv"*)
    mkdir -p "$last/bin"; [ -e "$last/pyvenv.cfg" ] || echo "prompt = '$4'" >"$last/pyvenv.cfg"
    cp "$0" "$last/bin/python"; cp "$TOOLS/componentize-py" "$last/bin";;
  *"pip install"*) ! grep -q bad "$last";;
esac
"#;
const COMPONENTIZE_PY: &str = "#!/bin/sh\nwhile [ \"$1\" != --output ]; do shift; done; cp \"$TOOLS/hello\" \"$2\"\n";

const NODE: &str = "#!/bin/sh\nif [ $# = 1 ]; then echo v22.0.0; else cp \"$TOOLS/hello\" \"$7\"; fi\n";
const NPM: &str = "#!/bin/sh\n[ $# = 1 ] && echo 10.0.0 && exit\necho \"$*\" >>\"$CALLS\"\n! grep -q bad package.json\n";

/// Where those tools come before the real ones.
fn bench() -> Bench {
    let bench = Bench::new();
    for (name, script) in [("python3", PYTHON), ("componentize-py", COMPONENTIZE_PY), ("node", NODE), ("npm", NPM)] {
        put_tool(&bench, name, script);
    }
    fs::write(bench.path("tools/hello"), fixture("probe")).expect("a file");
    bench
}

fn put_tool(bench: &Bench, name: &str, script: &str) {
    let tool = bench.put(&format!("tools/{name}"), script);
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("a script");
}

/// Builds, and returns how the tools that install were called for it.
async fn build(bench: &Bench) -> (Finished, Vec<String>) {
    let calls = bench.put("calls", "");
    let mut command = bench.hotbay(["build", "greet", "--bay", "bay"]);
    let path = env::var("PATH").expect("a PATH");
    command.env("PATH", format!("{}:{path}", bench.path("tools").display()));
    command.env("TOOLS", bench.path("tools")).env("CALLS", &calls);
    let ended = finish(command).await;
    (ended, fs::read_to_string(&calls).expect("calls").lines().map(str::to_owned).collect())
}

const PACKAGE: &str = r#"{"dependencies":{"@bytecodealliance/componentize-js":"*"}}"#;

/// One that fails on its way and one that is ended leave the same.
#[tokio::test]
async fn an_npm_install_that_did_not_finish_is_not_taken_for_the_one_before() {
    let bench = bench();
    for (package, called, code) in [(PACKAGE, 1, 0), (PACKAGE, 0, 0), ("bad", 1, 1), (PACKAGE, 1, 0)] {
        let package = if package == "bad" { PACKAGE.replace('*', "bad") } else { package.to_owned() };
        bench.put("greet/package.json", &package);
        let (ended, calls) = build(&bench).await;
        assert_eq!((calls.len(), ended.code), (called, Some(code)), "{package}: {ended:?} {calls:?}");
    }
}

/// Once everything is installed nobody has looked at node before it fails.
#[tokio::test]
async fn a_tool_that_has_become_too_old_is_told_as_such() {
    let bench = bench();
    bench.put("greet/package.json", PACKAGE);
    assert_eq!(build(&bench).await.0.code, Some(0));
    put_tool(&bench, "node", "#!/bin/sh\n[ $# = 1 ] && echo v12.22.9 && exit\necho no such option >&2; exit 9\n");
    let (ended, _) = build(&bench).await;
    assert_fails(&ended, &["no such option", "cannot build JavaScript", "v12.22.9 is older than 20.6"]);
}

#[tokio::test]
async fn what_clang_does_not_find_is_told_with_the_package_of_that_clang() {
    let bench = Bench::new();
    bench.put("greet/main.c", "");
    bench.put("greet/greet.toml", "");
    let clang =
        "#!/bin/sh\n[ \"$1\" = --version ] && echo clang version 16.0.6 && exit\necho unable to execute wasm-ld >&2; exit 1\n";
    put_tool(&bench, "clang", clang);
    let mut command = bench.hotbay(["build", "greet"]);
    command.env("PATH", bench.path("tools")).env_remove("WASI_SDK_PATH");
    assert_fails(&finish(command).await, &["cannot build C", "apt-get install lld", "libclang-rt-16-dev-wasm32"]);
}

#[tokio::test]
async fn a_virtual_environment_holds_what_is_asked_for_and_nothing_from_before() {
    let bench = bench();
    bench.put("greet/app.py", "import wit_world\n");
    for (requirements, called, code) in [("one\n", 2, 0), ("one\n", 0, 0), ("bad\n", 2, 1), ("one\n", 2, 0)] {
        bench.put("greet/requirements.txt", requirements);
        let (ended, calls) = build(&bench).await;
        assert_eq!((calls.len(), ended.code), (called, Some(code)), "{requirements}: {ended:?} {calls:?}");
        assert!(calls.iter().all(|call| call.contains("--clear") || call.contains("pip install")), "{calls:?}");
        bench.put("greet/.venv/of-before", "");
    }
    bench.put("greet/requirements.txt", "two\n");
    assert_eq!(build(&bench).await.0.code, Some(0));
    assert!(!bench.path("greet/.venv/of-before").exists());
}

#[tokio::test]
async fn a_virtual_environment_that_a_developer_has_made_is_not_emptied() {
    let bench = bench();
    bench.put("greet/app.py", "import wit_world\n");
    bench.put("greet/requirements.txt", "one\n");
    bench.put("greet/.venv/pyvenv.cfg", "home = /usr/bin\ncommand = /usr/bin/python3 -m venv /home/hotbay/greet/.venv\n");
    bench.put("greet/.venv/mine", "");
    let (ended, calls) = build(&bench).await;
    assert_eq!((calls.len(), ended.code), (2, Some(0)), "{ended:?} {calls:?}");
    assert!(bench.path("greet/.venv/mine").exists());
}
