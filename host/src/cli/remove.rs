//! `hotbay remove`: a service leaves the bay.

use super::{
    client::{Which, segment},
    outcome,
};
use clap::Parser;
use std::process::ExitCode;
use ureq::SendBody;

#[derive(Parser)]
pub(super) struct Args {
    /// The service, or a labelled revision by NAME@LABEL
    name: String,
    /// Print the API's JSON as it comes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Exit code 0 where it is gone.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let client = args.which.client()?;
    let path = format!("/v1/services/{}", segment(&args.name));
    outcome::end(client.order("DELETE", &path, &[], SendBody::none())?, args.json)
}
