//! Server-sent events of the host, one after another.

use super::output::print;
use serde::Deserialize;
use std::{
    io::{self, BufRead},
    time::Duration,
};

/// One event as it came.
pub(super) struct Message {
    pub(super) id: Option<u64>,
    pub(super) data: String,
}

/// How many were lost before the next one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lost {
    pub(super) lost: u64,
}

/// Between two looks for a host that has gone.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Prints each event as it comes, as JSON or in the words of `line`, and tells `seen` its number. Returns how the stream ended.
pub(super) fn print_all(
    reader: &mut impl BufRead,
    json: bool,
    line: impl Fn(&str) -> Result<String, String>,
    mut seen: impl FnMut(Option<u64>),
) -> Result<Result<(), String>, String> {
    loop {
        match next(reader) {
            Ok(Some(Message { id, data })) => {
                seen(id);
                print(&if json { data + "\n" } else { line(&data)? })?;
            }
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(format!("the host's answer broke off: {error}; ask again"))),
        }
    }
}

/// The next event of a stream in the format of server-sent events; none at its end.
pub(super) fn next(reader: &mut impl BufRead) -> io::Result<Option<Message>> {
    let mut message = Message { id: None, data: String::new() };
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let field = line.trim_end_matches(['\r', '\n']);
        match field.split_once(':').map(|(name, value)| (name, value.strip_prefix(' ').unwrap_or(value))) {
            Some(("id", id)) => message.id = id.parse().ok(),
            Some(("data", data)) => message.data.push_str(data),
            None if field.is_empty() && !message.data.is_empty() => return Ok(Some(message)),
            _ => {}
        }
    }
}
