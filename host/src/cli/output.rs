//! What commands print: a reader that has gone ends them in good order.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

/// Writes to stdout at once. Whoever reads may have seen enough (`| head`): then the command ends as if it were done.
pub(super) fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(|error| format!("stdout cannot be written: {error}; send it somewhere else")),
    }
}

/// Writes to stdout at once, where going on matters more than being read.
pub(super) fn tell(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A time in its two largest units.
pub(super) fn took(micros: u64) -> String {
    in_words(Duration::from_micros(micros))
}

/// How long ago, to the second, in the two largest units.
pub(super) fn age(at: &str) -> String {
    let Ok(at) = humantime::parse_rfc3339(at) else {
        return at.to_owned();
    };
    let whole = SystemTime::now().duration_since(at).unwrap_or_default().as_secs();
    in_words(Duration::from_secs(whole))
}

fn in_words(time: Duration) -> String {
    let text = humantime::format_duration(time).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
