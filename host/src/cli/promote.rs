//! `hotbay promote`: a labelled revision becomes the main one.

use super::{
    client::{Which, segment},
    outcome,
};
use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
pub(super) struct Args {
    /// The labelled revision
    #[arg(value_name = "NAME@LABEL")]
    labelled: String,
    /// Print the API's JSON as it comes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Exit code 0 where it is the main one.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let Some((name, label)) = args.labelled.split_once('@') else {
        return Err(format!("`{}` names no labelled revision; write NAME@LABEL", args.labelled.escape_debug()));
    };
    let client = args.which.client()?;
    let path = format!("/v1/services/{}/promote", segment(name));
    outcome::end(client.order_json(&path, &serde_json::json!({ "label": label }))?, args.json)
}
