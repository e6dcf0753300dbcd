//! What a page says is printed against what was: equal but for times, sizes and digests, which differ each time, and for what `…` stands for.

use serde_json::Value;

/// Stands for anything within a line, and alone on a line for any number of lines.
const ANYTHING: &str = "…";

/// Whether `printed` is what the page says.
pub(super) fn is_as_told(expected: &str, printed: &str) -> bool {
    if let (Ok(expected), Ok(printed)) = (serde_json::from_str(expected), serde_json::from_str(printed)) {
        return values_match(&expected, &printed);
    }
    lines_match(&lines(expected), &lines(printed))
}

/// Whether `printed` begins with what the page says.
pub(super) fn begins_as_told(expected: &str, printed: &str) -> bool {
    is_as_told(&format!("{}\n{ANYTHING}", expected.trim_end()), printed)
}

fn values_match(expected: &Value, printed: &Value) -> bool {
    match (expected, printed) {
        (Value::String(text), _) if text == ANYTHING => true,
        (Value::String(expected), Value::String(printed)) => line_matches(&plain(expected), &plain(printed)),
        (Value::Array(expected), Value::Array(printed)) => {
            expected.len() == printed.len()
                && expected.iter().zip(printed).all(|(expected, printed)| values_match(expected, printed))
        }
        (Value::Object(expected), Value::Object(printed)) => {
            expected.len() == printed.len()
                && expected.iter().all(|(key, value)| printed.get(key).is_some_and(|printed| values_match(value, printed)))
        }
        (expected, printed) => expected == printed,
    }
}

fn lines(text: &str) -> Vec<String> {
    text.trim().lines().map(plain).collect()
}

fn lines_match(expected: &[String], printed: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else { return printed.is_empty() };
    if first == ANYTHING {
        return (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..]));
    }
    printed.split_first().is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others))
}

fn line_matches(expected: &str, printed: &str) -> bool {
    let Some((head, rest)) = expected.split_once(ANYTHING) else { return expected == printed };
    let Some(after) = printed.strip_prefix(head) else { return false };
    let ends = after.char_indices().map(|(at, _)| at).chain([after.len()]);
    ends.into_iter().any(|at| line_matches(rest, &after[at..]))
}

/// A line with one space between its words, and names in place of what differs each time.
fn plain(line: &str) -> String {
    let mut named: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let inner = bare(word);
        let kind = if inner.is_empty() { None } else { kind(inner) };
        match (named.last_mut(), kind) {
            // `12 ms`, and `1s 12ms`.
            (Some(last), _) if is_number(bare(last)) && UNITS.contains(&inner) => {
                *last = last.replacen(bare(last), AMOUNT, 1) + &word.replacen(inner, "", 1);
            }
            (Some(last), Some(AMOUNT)) if last.ends_with(AMOUNT) => last.push_str(&word.replacen(inner, "", 1)),
            (_, Some(kind)) => named.push(word.replacen(inner, kind, 1)),
            (_, None) => named.push(word.to_owned()),
        }
    }
    named.join(" ")
}

fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| "(),;:[]".contains(c))
}

const UNITS: [&str; 13] = ["ns", "µs", "us", "ms", "s", "min", "h", "d", "B", "bytes", "KiB", "MiB", "GiB"];
const AMOUNT: &str = "<amount>";

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn kind(word: &str) -> Option<&'static str> {
    let is_hex = word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && matches!(word.len(), 12 | 32 | 64) {
        return Some("<digest>");
    }
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if unit.len() < word.len() && UNITS.contains(&unit) {
        return Some(AMOUNT);
    }
    let is_moment = word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_digit() || b"-:.TZ".contains(&byte));
    (is_moment && word.contains([':', '-'])).then_some("<moment>")
}

#[test]
fn what_differs_each_time_makes_no_difference() {
    for (expected, printed) in [
        ("Hello!", "Hello!\n"),
        ("published  3f2a9c01b7e4 (12 ms)", "published 000000000000  (3.4 ms)"),
        ("in 1s 12ms", "in 7 us"),
        ("took 130ms at 2026-01-02T03:04:05.678Z", "took 1.2s at 2027-11-12T13:14:15Z"),
        ("…\nend", "a\nb\nend"),
        ("a … c", "a b b c"),
        ("{\"a\": \"…\", \"b\": [1]}", "{\"b\":[1],\"a\":\"x\"}"),
    ] {
        assert!(is_as_told(expected, printed), "{expected} / {printed}");
    }
    for (expected, printed) in
        [("404", "405"), ("a", "a\nb"), ("a … c", "a b"), ("{\"a\":1}", "{\"a\":1,\"b\":2}"), ("a\n…\nb", "a")]
    {
        assert!(!is_as_told(expected, printed), "{expected} / {printed}");
    }
    assert!(begins_as_told("a\nb", "a\nb\nc") && !begins_as_told("a\nb", "a\nc"));
}
