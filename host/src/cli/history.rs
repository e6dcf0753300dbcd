//! `hotbay history`: the revisions that a service had.

use super::{
    client::{Which, segment},
    output::{age, print, took},
};
use clap::Parser;
use hotbay::admin::{Past, PastList};
use std::process::ExitCode;

#[derive(Parser)]
pub(super) struct Args {
    /// The service, or a labelled revision by NAME@LABEL
    name: String,
    /// Print the API's JSON as it comes, with the settings of each revision
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Exit code 0 where the host answered.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let client = args.which.client()?;
    let (json, past) = client.get::<PastList>(&format!("/v1/services/{}/history", segment(&args.name)))?;
    print(&if args.json { json + "\n" } else { table(&past.revisions) })?;
    Ok(ExitCode::SUCCESS)
}

fn table(revisions: &[Past]) -> String {
    let row = |number: &str, revision: &str, published: &str, came: &str, served: &str, ended: &str| {
        format!("{number:>5}  {revision:12}  {published:24}  {came:18}  {served:>12}  {ended}").trim_end().to_owned() + "\n"
    };
    let mut text = row("NO", "REVISION", "PUBLISHED", "CAME", "SERVED", "ENDED");
    for past in revisions {
        let ended = past.ended.as_ref().map_or_else(
            || (if past.serving { "serves" } else { "its end was not written down" }).to_owned(),
            |ended| {
                let reason = ended.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                format!("{} {} ago{reason}", ended.how, age(&ended.at))
            },
        );
        // To the second: nobody counts the rest of hours.
        let whole = (past.served_ms / 1000).saturating_mul(1_000_000);
        text += &row(&format!("v{}", past.number), &past.revision, &past.published_at, &past.came, &took(whole), &ended);
    }
    text
}
