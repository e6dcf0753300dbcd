//! `hotbay events`: what has happened to revisions, and what goes on happening.

use super::{
    client::{Client, Stream, Which, segment},
    messages::{LOOK_AGAIN, Lost, print_all},
    output::took,
};
use clap::Parser;
use hotbay::admin::Service;
use serde::Deserialize;
use std::process::ExitCode;

#[derive(Parser)]
pub(super) struct Args {
    /// Of this service only
    name: Option<String>,
    /// Print the API's JSON, an object a line
    #[arg(long)]
    json: bool,
    /// Go on with what happens from now on, over restarts of the host too
    #[arg(long, short)]
    follow: bool,
    /// Only events after this number, which each line begins with; a host counts them from 1 [default: all that the host keeps, the last 1024]
    #[arg(long, value_name = "N")]
    since: Option<u64>,
    #[command(flatten)]
    which: Which,
}

/// What is shown of an event.
#[derive(Deserialize)]
struct Shown {
    sequence: u64,
    at: String,
    service: String,
    label: Option<String>,
    revision: Option<String>,
    state: String,
    took_us: u64,
    reason: Option<String>,
    remedy: Option<String>,
}

/// Exit code 0 where the host answered.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let mut client = args.which.client()?;
    let mut since = args.since;
    let mut reader = client.open(&path(args, since))?;
    loop {
        let mut is_empty = true;
        let ended = print_all(&mut reader, args.json, line, |id| {
            is_empty = false;
            since = id.or(since);
        })?;
        if !args.follow {
            ended?;
            // A name that nothing has happened to may be a slip of the pen.
            if let Some(name) = args.name.as_ref().filter(|_| is_empty) {
                client.get::<Service>(&format!("/v1/services/{}", segment(name)))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("hotbay: the host no longer answers; waiting until it does");
        (client, reader) = again(args, &client, &mut since);
    }
}

fn path(args: &Args, since: Option<u64>) -> String {
    let service = args.name.as_deref().map(|name| format!("&service={}", segment(name))).unwrap_or_default();
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    format!("/v1/events?follow={}{service}{since}", args.follow)
}

/// Waits for the host to come back. One that is another process counts its events anew.
fn again(args: &Args, before: &Client, since: &mut Option<u64>) -> (Client, Stream) {
    loop {
        std::thread::sleep(LOOK_AGAIN);
        if let Ok(client) = args.which.client() {
            if client.found().is_some() && client.found() != before.found() {
                *since = None;
            }
            if let Ok(reader) = client.open(&path(args, *since)) {
                return (client, reader);
            }
        }
    }
}

fn line(data: &str) -> Result<String, String> {
    if let Ok(Lost { lost }) = serde_json::from_str(data) {
        return Ok(format!("{lost} events were lost: the host keeps the last 1024\n"));
    }
    let shown: Shown = serde_json::from_str(data)
        .map_err(|error| format!("an event is not understood: {error}: {data}; --json prints it as it is"))?;
    let Shown { sequence, at, service, label, revision, state, took_us, reason, remedy } = shown;
    let service = label.map_or(service.clone(), |label| format!("{service}@{label}"));
    let revision = revision.unwrap_or_else(|| "-".to_owned());
    let took = took(took_us);
    let why = [reason, remedy].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Ok(format!("{sequence:>5}  {at}  {service}  {state:9}  {revision:12}  {took:>12}  {why}").trim_end().to_owned() + "\n")
}
