//! `hotbay rollback`: back to an earlier revision.

use super::{
    client::{Which, segment},
    outcome,
};
use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
pub(super) struct Args {
    /// The service, or a labelled revision by NAME@LABEL
    name: String,
    /// Where to go back to: `v3` of `hotbay history`, or the first 4 or more digits of a revision [default: the good one before the
    /// one that serves]
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    /// Print the API's JSON as it comes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Exit code 0 where the earlier revision serves.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let client = args.which.client()?;
    let path = format!("/v1/services/{}/rollback", segment(&args.name));
    outcome::end(client.order_json(&path, &serde_json::json!({ "to": args.to }))?, args.json)
}
