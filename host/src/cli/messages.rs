//! Server-sent events of the host, one after another.

use serde::Deserialize;
use std::io::{self, BufRead};

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
