//! What a guest said last before it failed: the message of a panic or of an exception, found among its last lines.

use serde::Serialize;

/// The message of a failure in the guest's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LastWords {
    /// What went wrong.
    pub(crate) message: String,
    /// Where, as the guest's language writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
}

/// How lines begin that are no part of a panic's message.
const AFTER_PANIC: [&str; 2] = ["note: ", "stack backtrace:"];

/// Finds it in the last lines of a guest: the last one counts.
pub(crate) fn find(output: &[String]) -> Option<LastWords> {
    let last = (0..output.len()).rev();
    last.filter_map(|at| {
        let (line, after) = output.get(at..)?.split_first()?;
        let before = output.get(..at)?;
        rust(line, after).or_else(|| named(line, before, after)).or_else(|| prefixed(line, after))
    })
    .next()
}

/// `thread 'main' panicked at src/lib.rs:4:5:`, and the message in the lines after it; before Rust 1.73 all in one line.
fn rust(line: &str, after: &[String]) -> Option<LastWords> {
    let (thread, rest) = line.split_once(" panicked at ")?;
    if !thread.trim_start().starts_with("thread ") {
        return None;
    }
    if let Some(at) = rest.strip_suffix(':') {
        let message: Vec<_> = after.iter().take_while(|line| !AFTER_PANIC.iter().any(|end| line.starts_with(end))).collect();
        let message = message.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n").trim_end().to_owned();
        let message = if message.is_empty() { "it panicked without a message".to_owned() } else { message };
        return Some(LastWords { message, at: Some(at.to_owned()) });
    }
    let (message, at) = rest.strip_prefix('\'')?.rsplit_once("', ")?;
    Some(LastWords { message: message.to_owned(), at: Some(at.to_owned()) })
}

/// `ValueError: message` of Python, with its place in the lines before; `TypeError: message` of JavaScript, with it in those after.
fn named(line: &str, before: &[String], after: &[String]) -> Option<LastWords> {
    let said = line.strip_prefix("Uncaught ").unwrap_or(line);
    let class = said.split(':').next()?;
    let is_name = class.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$'));
    let is_error = ["Error", "Exception", "Interrupt", "Exit"].iter().any(|end| class.ends_with(end));
    if !is_name || !is_error {
        return None;
    }
    let of_python = || {
        let begun = before.iter().rposition(|line| line.starts_with("Traceback "))?;
        let place = before.get(begun..)?.iter().rev().find_map(|line| line.trim_start().strip_prefix("File "))?;
        let (file, rest) = place.strip_prefix('"')?.split_once("\", line ")?;
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some(format!("{file}:{number}"))
    };
    let of_javascript = || {
        let place = after.first()?.trim_start();
        let place = place.strip_prefix("at ").or_else(|| place.rsplit_once('@').map(|(_, place)| place))?;
        Some(place.rsplit_once(" (").map_or(place, |(_, place)| place.trim_end_matches(')')).to_owned())
    };
    Some(LastWords { message: said.to_owned(), at: of_python().or_else(of_javascript) })
}

/// Go's `panic: message`, C's `Assertion failed: message`.
fn prefixed(line: &str, after: &[String]) -> Option<LastWords> {
    let message = line.strip_prefix("panic: ").or_else(|| line.starts_with("Assertion failed: ").then_some(line))?;
    let at = after.iter().find_map(|line| line.trim().strip_prefix('[')?.strip_suffix(']'));
    Some(LastWords { message: message.to_owned(), at: at.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Option<(String, String)> {
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        find(&lines).map(|words| (words.message, words.at.unwrap_or_default()))
    }

    #[track_caller]
    fn assert_said(text: &str, message: &str, at: &str) {
        assert_eq!(said(text), Some((message.to_owned(), at.to_owned())));
    }

    #[test]
    fn a_panic_is_found_with_its_place() {
        let note = "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";
        assert_said(
            &format!("before\n\nthread '<unnamed>' panicked at src/lib.rs:4:5:\nit broke\n{note}"),
            "it broke",
            "src/lib.rs:4:5",
        );
        assert_said("thread 'main' (1) panicked at a b.rs:1:2:\none\ntwo\n", "one\ntwo", "a b.rs:1:2");
        assert_said("thread 'main' panicked at 'it's over', src/main.rs:9:1", "it's over", "src/main.rs:9:1");
        assert_said(
            &format!("thread 'main' panicked at a:1:1:\nfirst\n{note}\nthread 'main' panicked at b:2:2:\nsecond"),
            "second",
            "b:2:2",
        );
    }

    #[test]
    fn a_panic_without_a_message_is_one_all_the_same() {
        assert_said("thread 'main' panicked at a:1:1:\n\nnote: x", "it panicked without a message", "a:1:1");
    }

    #[test]
    fn other_languages_say_it_in_their_own_way() {
        let python = "Traceback (most recent call last):\n  File \"wit_world\", line 9, in f\n    f()\n  File \"app.py\", line 12, in \
                      handle\n    price[item]\nKeyError: 'plum'";
        assert_said(python, "KeyError: 'plum'", "app.py:12");
        assert_said("TypeError: x is undefined\n    at handle (app.js:3:9)", "TypeError: x is undefined", "app.js:3:9");
        assert_said("Uncaught RangeError: too deep\n    at app.js:3:9", "RangeError: too deep", "app.js:3:9");
        assert_said("AssertionError", "AssertionError", "");
        assert_said("Assertion failed: n > 0 (app.c: main: 7)", "Assertion failed: n > 0 (app.c: main: 7)", "");
        assert_said("panic: index out of range\n\n[main.go:10]", "index out of range", "main.go:10");
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for text in ["", "all is well", "the Error: is here", "GET /Error: 5", "thread 'x' panicked at ", "he panicked at a:"] {
            assert_eq!(said(text), None, "{text}");
        }
    }
}
