//! What is printed of an order's end.

use super::{
    client::told,
    output::{print, took},
};
use hotbay::admin::{Outcome, Problem};
use std::process::ExitCode;

/// Prints the answer: exit code 0 where the order was carried out, 1 where not.
pub(super) fn end((json, meaning): (String, Result<Outcome, Problem>), as_json: bool) -> Result<ExitCode, String> {
    match meaning {
        Ok(_) if as_json => print(&(json + "\n")).map(|()| ExitCode::SUCCESS),
        Ok(outcome) => print(&text(&outcome)).map(|()| ExitCode::SUCCESS),
        Err(_) if as_json => print(&(json + "\n")).map(|()| ExitCode::FAILURE),
        Err(problem) => Err(told(problem)),
    }
}

fn text(outcome: &Outcome) -> String {
    let Outcome { service, revision, took_us, steps, url, .. } = outcome;
    let revision = revision.as_deref().unwrap_or_default();
    let mut text: String = steps.iter().map(|step| format!("{:10}  {}\n", step.step, took(step.took_us))).collect();
    text += &match outcome.outcome.as_str() {
        "published" => format!("published   {service} {revision} in {}\n", took(took_us.unwrap_or_default())),
        "unchanged" => format!("unchanged   {service} {revision} serves already, and its files are in the bay\n"),
        "accepted" => format!("accepted    {service}; `hotbay events {service}` tells how it ends\n"),
        other => format!("{other:10}  {service}\n"),
    };
    if let Some(url) = url {
        text += &format!("try: curl {url}\n");
    }
    text
}
