//! What strangers write and Hotbay reads, each behind one function that holds what must be true of any bytes at all.
//!
//! `make test` feeds them from proptest for a bounded number of cases (`PROPTEST_CASES`), `make fuzz` from libFuzzer for as long as one
//! likes. Each panics where something is not true, and for no other reason.

#![allow(clippy::panic, clippy::expect_used, reason = "a fuzzer learns by a panic that something is not true")]

use crate::{
    admin,
    config::{HostConfig, PathPattern, RouteSpec, ServiceName, Settings, SettingsError},
    registry::collide,
    runtime::{identify, split_head},
};
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header, uri::Authority};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// A target: a name and what reads the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 5] =
    [("settings", settings), ("routes", routes), ("cgi", cgi), ("artifact", artifact), ("admin", admin_request)];

/// Settings of a service and of the host: read, or refused with a place, a reason and a remedy.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let name = ServiceName::parse("orders").expect("a name");
    match Settings::parse(&name, text) {
        Ok(settings) => assert!(settings.same_revision(&Settings::parse(&name, text).expect("as before"))),
        Err(error) => is_explained(text, &error),
    }
    if let Err(error) = HostConfig::parse(text) {
        is_explained(text, &error);
    }
}

fn is_explained(text: &str, error: &SettingsError) {
    assert!(!error.reason.is_empty() && !error.remedy.is_empty(), "{error:?}");
    assert!(error.excerpt.chars().count() <= 120, "{error:?}");
    // The line after the last is where something is missing.
    assert!(error.line.is_none_or(|line| (1..=text.matches('\n').count() + 1).contains(&line)), "{error:?}");
}

/// Route patterns, one a line: those that the settings take and that do not collide stand in one router together.
pub fn routes(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut taken: Vec<RouteSpec> = Vec::new();
    for line in text.split('\n') {
        let path = match PathPattern::try_from(line.to_owned()) {
            Ok(path) => path,
            Err(reason) => {
                assert!(!reason.is_empty());
                continue;
            }
        };
        assert!(path.written() == line && path.normal().starts_with('/'), "{path:?}");
        let mut route = Settings::defaults(&ServiceName::unnamed()).routes.remove(0);
        route.path = path;
        assert!(collide(&route, &route), "{route}");
        if taken.iter().all(|other| {
            let collides = collide(&route, other);
            assert_eq!(collides, collide(other, &route), "{route} and {other}: both ways round");
            !collides
        }) {
            taken.push(route);
        }
    }
    let mut router = matchit::Router::new();
    let sorted: BTreeMap<&str, &RouteSpec> = taken.iter().map(|route| (route.path.normal(), route)).collect();
    for (normal, route) in sorted {
        let fits = router.insert(normal, ());
        assert!(fits.is_ok(), "{route}: {fits:?} among {:?}", taken.iter().map(RouteSpec::to_string).collect::<Vec<_>>());
    }
}

/// The output of a command: the head is the same however the pieces came, and holds nothing that belongs to the connection.
pub fn cgi(bytes: &[u8]) {
    let mut whole = BytesMut::from(bytes);
    let head = split_head(&mut whole);
    let mut pieces = BytesMut::new();
    let by_piece = bytes.iter().find_map(|byte| {
        pieces.extend_from_slice(&[*byte]);
        // The last byte of a blank line may be a line feed after another: what follows decides nothing more.
        split_head(&mut pieces)
    });
    assert_eq!(head.is_some(), by_piece.is_some());
    if let (Some(Ok(head)), Some(Ok(by_piece))) = (head, by_piece) {
        assert_eq!((head.status(), head.headers()), (by_piece.status(), by_piece.headers()));
        for own in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
            assert!(!head.headers().contains_key(&own), "{own}");
        }
    }
    cgi_at_length(bytes);
}

/// The same again and again with a number before it, more than a header block may be: refused or read, and never waited for.
fn cgi_at_length(bytes: &[u8]) {
    const LEN: usize = 128 << 10;
    let mut output = BytesMut::new();
    for n in 0_u32.. {
        output.extend_from_slice(format!("{n:x}").as_bytes());
        output.extend_from_slice(bytes);
        if output.len() > LEN {
            break;
        }
    }
    assert!(split_head(&mut output).is_some());
}

/// What is this file: a word for any bytes, with a remedy where they cannot serve.
pub fn artifact(bytes: &[u8]) {
    match identify(bytes) {
        Ok(_) => assert!(bytes.starts_with(b"\0asm")),
        Err(unfit) => assert!(!unfit.to_string().is_empty() && !unfit.remedy().is_empty(), "{unfit:?}"),
    }
}

/// What comes with an admin request, a header a line (`name: value`): no name that leads elsewhere is taken for ours, and a digest is
/// read or refused.
pub fn admin_request(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().and_then(|name| HeaderName::from_bytes(name).ok());
        let value = parts.next().and_then(|value| HeaderValue::from_bytes(value.trim_ascii()).ok());
        if let (Some(name), Some(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    // Read or refused: that is all.
    let _ = admin::Expected::of(&headers);
    let names = admin::Names(Vec::new());
    let reached = SocketAddr::from((Ipv4Addr::LOCALHOST, 9191));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if names.is_ours(host, reached) {
        leads_here(host);
    }
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
    if names.is_ours(host, reached) && names.is_same_site(origin, host) {
        leads_here(origin.split_once("://").expect("a scheme").1);
    }
}

/// By another's reading of it: that of the http crate.
fn leads_here(authority: &str) {
    if let Ok(parsed) = authority.parse::<Authority>() {
        let name = parsed.host().trim_start_matches('[').trim_end_matches(']');
        let is_loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        assert!(is_loopback || name.eq_ignore_ascii_case("localhost"), "{authority} leads to {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{
        collection::vec,
        prelude::*,
        sample::{Index, select},
        test_runner::{Config, TestError, TestRunner},
    };
    use std::{fs, path::Path};

    /// Cases for each target unless `PROPTEST_CASES` says otherwise.
    const CASES: u32 = 20_000;

    /// What is kept of a target: seeds, and what once was found.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut files: Vec<_> = fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
        files.sort();
        files.into_iter().map(|file| fs::read(file).expect("a file")).collect()
    }

    /// A change to bytes, at a place.
    #[derive(Debug, Clone)]
    enum Change {
        Insert(Vec<u8>),
        Remove(usize),
        Set(u8),
        /// A piece of another seed.
        Splice(Index, Index, usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        // Bytes that mean something to one of the readers come more often.
        let byte = prop_oneof![any::<u8>(), select(b"{}*/\"'[]=\n\r:;,. \0\\%@#?-_019az".to_vec())];
        prop_oneof![
            vec(byte.clone(), 1..8).prop_map(Change::Insert),
            (1_usize..16).prop_map(Change::Remove),
            byte.prop_map(Change::Set),
            (any::<Index>(), any::<Index>(), 1_usize..64).prop_map(|(of, from, len)| Change::Splice(of, from, len)),
        ]
    }

    fn changed(seeds: &[Vec<u8>], mut bytes: Vec<u8>, changes: Vec<(Index, Change)>) -> Vec<u8> {
        for (place, change) in changes {
            let at = place.index(bytes.len() + 1);
            let piece = |len: usize| at..(at + len).min(bytes.len());
            let (range, with) = match change {
                Change::Insert(with) => (at..at, with),
                Change::Remove(len) => (piece(len), Vec::new()),
                Change::Set(byte) => (piece(1), vec![byte]),
                Change::Splice(of, from, len) => {
                    let of = &seeds[of.index(seeds.len())];
                    let from = from.index(of.len() + 1);
                    (piece(len), of[from..(from + len).min(of.len())].to_vec())
                }
            };
            bytes.splice(range, with);
        }
        bytes
    }

    fn holds_for_any_bytes(name: &str) {
        let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).expect("a target");
        let seeds = corpus(name);
        assert!(!seeds.is_empty());
        seeds.iter().for_each(|seed| target(seed));
        let changes = vec((any::<Index>(), change()), 0..12);
        let bytes = (select(seeds.clone()), changes).prop_map({
            let seeds = seeds.clone();
            move |(seed, changes)| changed(&seeds, seed, changes)
        });
        let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
        let outcome = TestRunner::new(config).run(&prop_oneof![4 => bytes, 1 => vec(any::<u8>(), 0..512)], |bytes| {
            target(&bytes);
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(reason, bytes)) => {
                let bytes = bytes.escape_ascii();
                panic!("{name}: {reason}\nkeep the bytes in host/fuzz/corpus/{name} once it is mended: b\"{bytes}\"");
            }
            Err(aborted) => panic!("{name}: {aborted}"),
        }
    }

    #[test]
    fn settings_are_read_or_explained() {
        holds_for_any_bytes("settings");
    }

    #[test]
    fn routes_that_are_taken_stand_together() {
        holds_for_any_bytes("routes");
    }

    #[test]
    fn output_of_commands_is_a_head_or_a_fault() {
        holds_for_any_bytes("cgi");
    }

    #[test]
    fn any_file_has_a_name() {
        holds_for_any_bytes("artifact");
    }

    #[test]
    fn admin_requests_lead_nowhere_else() {
        holds_for_any_bytes("admin");
    }
}
