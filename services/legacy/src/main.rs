//! A program that knows nothing of HTTP libraries, components or Hotbay: a plain command for `wasm32-wasip1`, written
//! as CGI/1.1 (RFC 3875) was always written. The request comes as environment variables and standard input; the
//! response goes to standard output, header lines first, then an empty line, then the body.
//!
//! It counts what it is sent, as `wc` does:
//!
//! ```text
//! $ curl --data-binary @README.md http://127.0.0.1:8080/legacy
//! lines 120
//! words 903
//! bytes 6120
//! $ curl http://127.0.0.1:8080/legacy?name=value       # what the request looks like to such a program
//! ```
//!
//! Whatever compiles to `wasm32-wasip1` (C, Zig, TinyGo, …) and reads and prints serves like this. Each request is a
//! run of its own. It is an ordinary program natively, too: `REQUEST_METHOD=POST legacy < FILE`.

use std::io::{self, BufWriter, Read, Write};

/// What RFC 3875 says of a request, in the order in which it is shown.
const VARIABLES: [&str; 11] = [
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "GATEWAY_INTERFACE",
    "HTTP_USER_AGENT",
];

fn main() -> io::Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    respond(variable, io::stdin().lock(), BufWriter::new(io::stdout().lock()))
}

fn respond(variable: impl Fn(&str) -> Option<String>, input: impl Read, mut output: impl Write) -> io::Result<()> {
    match variable("REQUEST_METHOD").as_deref() {
        Some("GET" | "HEAD") => {
            write!(output, "Content-Type: text/plain; charset=utf-8\n\n")?;
            for name in VARIABLES {
                writeln!(output, "{name}={}", variable(name).unwrap_or_default())?;
            }
        }
        Some("POST" | "PUT") => {
            // Counted before the first header: a failure to read can still become a status.
            let Counts { lines, words, bytes } = count(input)?;
            write!(output, "Content-Type: text/plain; charset=utf-8\n\nlines {lines}\nwords {words}\nbytes {bytes}\n")?;
        }
        _ => {
            // `Status` is not a header that the client sees: it becomes the status of the response.
            write!(output, "Status: 405 Method Not Allowed\nAllow: GET, HEAD, POST, PUT\n")?;
            write!(output, "Content-Type: text/plain\n\n")?;
            writeln!(output, "send something to be counted")?;
        }
    }
    output.flush()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    lines: u64,
    words: u64,
    bytes: u64,
}

/// Counts in pieces, so that the input may be larger than the memory.
fn count(mut input: impl Read) -> io::Result<Counts> {
    let mut counts = Counts::default();
    let mut in_word = false;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => return Ok(counts),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        counts.bytes += n as u64;
        for byte in buffer.iter().take(n) {
            counts.lines += u64::from(*byte == b'\n');
            let is_word = !byte.is_ascii_whitespace();
            counts.words += u64::from(is_word && !in_word);
            in_word = is_word;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(method: &'static str, input: &str) -> String {
        let mut output = Vec::new();
        let variable = |name: &str| match name {
            "REQUEST_METHOD" => Some(method.to_owned()),
            "QUERY_STRING" => Some("a=1".to_owned()),
            _ => None,
        };
        respond(variable, input.as_bytes(), &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn it_counts_what_it_is_sent() {
        let expected = "Content-Type: text/plain; charset=utf-8\n\nlines 2\nwords 3\nbytes 13\n";
        assert_eq!(run("POST", "one two\nfour\n"), expected);
    }

    #[test]
    fn it_shows_the_request() {
        assert!(run("GET", "").contains("\nREQUEST_METHOD=GET\n"));
        assert!(run("GET", "").contains("\nQUERY_STRING=a=1\n"));
    }

    #[test]
    fn another_method_is_refused() {
        assert!(run("DELETE", "").starts_with("Status: 405 "));
    }
}
