//! `hotbay completions` and `hotbay man`: what shells and man read, made from the commands themselves.

use super::{Cli, output::print};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use clap_mangen::Man;
use std::{fs, path::PathBuf, process::ExitCode};

#[derive(Parser)]
pub(super) struct Completions {
    /// For which shell
    shell: Shell,
}

#[derive(Parser)]
pub(super) struct Manual {
    /// Where to put a page for each command; without it, hotbay(1) goes to stdout
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &Completions) -> Result<ExitCode, String> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hotbay", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn manual(args: &Manual) -> Result<ExitCode, String> {
    match &args.dir {
        Some(dir) => fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
            .map_err(|error| format!("{}: {error}; name a folder that can be written", dir.display()))?,
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page).map_err(|error| error.to_string())?;
            print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
