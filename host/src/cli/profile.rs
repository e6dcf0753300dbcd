//! `hotbay profile`: where the guests of a service compute.

use super::{
    client::{Profiled, Which, segment},
    hottest::hottest,
    output::print,
};
use clap::Parser;
use hotbay::state::Staged;
use serde::de::IgnoredAny;
use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Parser)]
pub(super) struct Args {
    /// The service, or a labelled revision by NAME@LABEL
    name: String,
    /// For how long to look, 1 to 300
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u16).range(1..=300))]
    seconds: u16,
    /// Where to put the profile; a file that is there is replaced [default: NAME.profile.json]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the profile, the API's JSON as it comes, and write no file
    #[arg(long, conflicts_with = "output")]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Exit code 0 where the service was seen at work.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let Args { name, seconds, output, json, which } = args;
    let client = which.client()?;
    // The profile's own answer comes when the time is over.
    client.get::<IgnoredAny>(&format!("/v1/services/{}", segment(name)))?;
    let file = output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.profile.json")));
    if !json {
        try_out(&file)?;
    }
    eprintln!("looking at {name} for {seconds} s: it is seen while it computes, so send it requests");
    let path = format!("/v1/services/{}/profile?seconds={seconds}", segment(name));
    let Profiled { json: profile, samples, revision } = client.profile(&path, u64::from(*seconds))?;
    if *json {
        return print(&(profile + "\n")).map(|()| ExitCode::SUCCESS);
    }
    Staged::shared(&file, profile.as_bytes()).and_then(Staged::place).map_err(unwritable)?;
    let summary = hottest(&profile).unwrap_or_default();
    let opened = opened(&file);
    print(&format!("{samples} samples of {name} {revision}, about a millisecond of computing each\n{summary}{opened}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a profile could be put there: nobody waits for one that cannot. Leaves nothing, and what is there stays.
fn try_out(file: &Path) -> Result<(), String> {
    if file.is_dir() {
        return Err(unwritable(format!("{} is a folder", file.display())));
    }
    Staged::shared(file, &[]).map(drop).map_err(unwritable)
}

fn unwritable(why: impl fmt::Display) -> String {
    format!("the profile cannot be written: {why}; name another file with --output")
}

fn opened(file: &Path) -> String {
    format!("all of it is in {}; open that file at https://profiler.firefox.com, which reads it in the browser\n", file.display())
}
