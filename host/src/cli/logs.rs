//! `hotbay logs`: what guests write, as they write it.

use super::{
    client::{Which, segment},
    messages::{LOOK_AGAIN, Lost, print_all},
};
use clap::Parser;
use serde::Deserialize;
use std::process::ExitCode;

#[derive(Parser)]
pub(super) struct Args {
    /// Of this service only
    name: Option<String>,
    /// Print the API's JSON, an object a line
    #[arg(long)]
    json: bool,
    /// Go on over restarts of the host [default: until it ends]
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    which: Which,
}

/// What is shown of a line.
#[derive(Deserialize)]
struct Shown {
    at: String,
    service: String,
    revision: String,
    request_id: String,
    level: String,
    text: String,
}

/// Exit code 0 where the host ended in good order.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let service = args.name.as_deref().map(|name| format!("?service={}", segment(name))).unwrap_or_default();
    let path = format!("/v1/logs{service}");
    let mut reader = args.which.client()?.open(&path)?;
    loop {
        let ended = print_all(&mut reader, args.json, line, |_| {})?;
        if !args.follow {
            return ended.map(|()| ExitCode::SUCCESS);
        }
        eprintln!("hotbay: the host no longer answers; waiting until it does");
        reader = loop {
            std::thread::sleep(LOOK_AGAIN);
            if let Ok(reader) = args.which.client().and_then(|client| client.open(&path)) {
                break reader;
            }
        };
    }
}

fn line(data: &str) -> Result<String, String> {
    if let Ok(Lost { lost }) = serde_json::from_str(data) {
        return Ok(format!("{lost} lines were lost: this reader was more than 1024 behind\n"));
    }
    let shown: Shown = serde_json::from_str(data)
        .map_err(|error| format!("a line is not understood: {error}: {data}; --json prints it as it is"))?;
    let Shown { at, service, revision, request_id, level, text } = shown;
    // A guest may write what a terminal obeys.
    let text: String = text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    Ok(format!("{at}  {service}  {revision}  {request_id}  {level:8}  {text}\n"))
}
