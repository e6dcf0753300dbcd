//! The builds that tests deploy.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What every fixture that tells its revision holds in its data, once.
const MARKER: &str = "hotbay-marker:0000000000";

/// A fixture of `tests/fixtures`, as `services/build.sh --fixtures` made it.
pub fn fixture(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fixtures").join(format!("{name}.wasm"));
    read(&path).unwrap_or_else(|error| {
        panic!("the fixture {}: {error}; run `make guests` or services/build.sh --fixtures", path.display())
    })
}

/// An example of `services`, as `services/build.sh` made it.
pub fn service(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bay").join(format!("{name}.wasm"));
    read(&path).unwrap_or_else(|error| panic!("the service {}: {error}; run `make guests` or services/build.sh", path.display()))
}

/// The settings of an example, if it has any.
pub fn settings(name: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bay").join(format!("{name}.toml"))).ok()
}

/// A fixture that is WebAssembly text, assembled.
pub fn text(name: &str) -> Bytes {
    let path = text_path(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

/// A service that answers with a status alone: `work` leaves it on the stack, `parts` are the memories, globals, tables and
/// segments that it works on. See tests/fixtures/answer.wat.
pub fn answering(parts: &str, work: &str) -> Bytes {
    let path = text_path("answer");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = text.replace("\n    PARTS\n", &format!("\n{parts}\n")).replace("\n      WORK\n", &format!("\n{work}\n"));
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

/// Where a fixture of WebAssembly text lies.
pub fn text_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(format!("{name}.wat"))
}

/// Revision `n` of a fixture that has a marker: the same code, another digest. Its answers begin and end with [`marker`]`(n)`.
pub fn revision(name: &str, n: u32) -> Bytes {
    patched(&fixture(name), MARKER, &marker(n))
}

/// The same code, another digest: with a custom section at its end.
pub fn stamped(wasm: &[u8], text: &str) -> Bytes {
    let named = [&[1, b's'], text.as_bytes()].concat();
    let len = u8::try_from(named.len()).ok().filter(|len| *len < 128).expect("a short text");
    [wasm, &[0, len], &named].concat().into()
}

/// The text by which revision `n` is told from the others; 0 is the fixture as it was built.
pub fn marker(n: u32) -> String {
    format!("hotbay-marker:{n:010}")
}

/// `wasm` with another text of the same length in its data.
///
/// # Panics
/// Where `from` is not there exactly once: what would be patched would be chance.
pub fn patched(wasm: &[u8], from: &str, to: &str) -> Bytes {
    assert_eq!(from.len(), to.len(), "a patch keeps the length");
    let found: Vec<usize> =
        wasm.windows(from.len()).enumerate().filter(|(_, window)| *window == from.as_bytes()).map(|(at, _)| at).collect();
    let [at] = found.as_slice() else {
        panic!("{from:?} is {} times in the build, once was expected", found.len());
    };
    let mut patched = wasm.to_vec();
    patched[*at..at + to.len()].copy_from_slice(to.as_bytes());
    patched.into()
}

/// The command of `ready-later.wat`, which answers 503 for `wait` and 200 from then on, and when that is.
pub fn ready_in(wait: Duration) -> (Bytes, SystemTime) {
    let at = SystemTime::now() + wait;
    let nanos = at.duration_since(UNIX_EPOCH).expect("a clock").as_nanos().to_string();
    let text = fs::read_to_string(text_path("ready-later")).expect("a fixture");
    let code = text.lines().filter(|line| !line.starts_with(";;")).collect::<Vec<_>>().join("\n");
    (wat::parse_str(code.replace("READY_AT", &nanos)).expect("WebAssembly text").into(), at)
}

/// What `x-hotbay-revision` says of this build.
pub fn digest(wasm: &[u8]) -> String {
    hex::encode(Sha256::digest(wasm))[..12].to_owned()
}

fn read(path: &Path) -> io::Result<Bytes> {
    fs::read(path).map(Bytes::from)
}
