//! `hotbay dashboard`: the page of a running host, opened in the browser.

use super::{client::Which, output::print};
use crate::browser;
use clap::Parser;
use hotbay::admin::ServiceList;
use std::process::ExitCode;

#[derive(Parser)]
pub(super) struct Args {
    /// Print the address and open nothing. It holds the token, which lets whoever has it change the host
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    which: Which,
}

/// Exit code 0 where the host answered and the browser was told.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let client = args.which.client()?;
    // A page that cannot reach its host, or is not let in, would say so with less.
    client.get::<ServiceList>("/v1/services")?;
    let (page, with_token) = client.page();
    if args.print {
        print(&format!("{with_token}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Other users of this machine may read the arguments of the browser.
    let with_ticket = client.page_with_ticket()?;
    browser::open(&with_ticket).map_err(|why| {
        format!("no browser could be opened: {why}; the page is {page}, and `hotbay dashboard --print` prints it with the token")
    })?;
    print(&format!("opened {page} in the browser\n"))?;
    Ok(ExitCode::SUCCESS)
}
