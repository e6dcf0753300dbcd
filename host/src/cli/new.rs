//! `hotbay new`: a folder with a service that builds at once.

use super::{Cli, output::print, shell::quoted};
use crate::workshop::{Language, Template, update_sdk};
use clap::{CommandFactory, Parser, error::ErrorKind};
use console::Term;
use dialoguer::{Input, Select};
use hotbay::config::ServiceName;
use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

#[derive(Parser)]
pub(super) struct Args {
    /// The service, and the folder that is made for it: 1 to 63 of a-z, 0-9 and -. A path puts it elsewhere: services/NAME
    name: Option<PathBuf>,
    /// The language that it is written in
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    lang: Option<Language>,
    /// A template of your own: all files of this folder, with {{name}} replaced in texts and names
    #[arg(long, value_name = "FOLDER", conflicts_with = "lang")]
    template: Option<PathBuf>,
    /// Write the SDK for Rust of this hotbay into vendor/ of the service in this folder, and do nothing else
    #[arg(long, conflicts_with_all = ["name", "lang", "template"])]
    update_sdk: bool,
}

/// What is missing is asked for on a terminal; elsewhere it is wrong usage.
pub(super) fn run(args: Args) -> Result<ExitCode, String> {
    if args.update_sdk {
        return update();
    }
    let may_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !may_ask && (args.name.is_none() || (args.lang.is_none() && args.template.is_none())) {
        wrong_usage();
    }
    let dir = match args.name {
        Some(dir) => dir,
        None => ask_name()?,
    };
    let name = name_of(&dir)?;
    let template = match (args.template, args.lang) {
        (Some(folder), _) => Template::Folder(folder),
        (None, Some(language)) => Template::Language(language),
        (None, None) => Template::Language(ask_language()?),
    };
    template.make(&dir, &name).map_err(|error| error.to_string())?;
    let shown = dir.display();
    let folder = quoted(&shown.to_string());
    print(&format!("made {shown}\nnext:\n  cd {folder}\n  hotbay dev\n  curl http://127.0.0.1:8080/{name}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Ends the process with exit code 2.
fn wrong_usage() -> ! {
    let mut command = Cli::command();
    command.build();
    let message = "name the service and its language: hotbay new NAME --lang rust|python|javascript|c (or --template FOLDER)";
    match command.find_subcommand_mut("new") {
        Some(new) => new.error(ErrorKind::MissingRequiredArgument, message).exit(),
        None => command.error(ErrorKind::MissingRequiredArgument, message).exit(),
    }
}

fn name_of(dir: &Path) -> Result<ServiceName, String> {
    let Some(name) = dir.file_name().map(|name| name.to_string_lossy()) else {
        return Err(format!(
            "`{}` is no folder that can be made; name one, which is the service's name: hotbay new NAME",
            dir.display()
        ));
    };
    ServiceName::parse(&name)
        .map_err(|error| format!("{error}; a service is called by 1 to 63 of a-z, 0-9 and -, without - at either end"))
}

fn ask_name() -> Result<PathBuf, String> {
    let _interrupts = Interrupts::noted()?;
    let valid = |name: &String| name_of(Path::new(name)).map(|_| ());
    let asked = Input::new().with_prompt("Name of the service").validate_with(valid).interact_text_on(&Term::stderr());
    answered(asked).map(PathBuf::from)
}

fn ask_language() -> Result<Language, String> {
    let _interrupts = Interrupts::noted()?;
    let asked = Select::new().with_prompt("Language").items(Language::ALL).default(0).interact_on(&Term::stderr());
    let chosen = answered(asked)?;
    Language::ALL.get(chosen).copied().ok_or_else(|| "no language was chosen".to_owned())
}

/// The terminal as it was, where Ctrl-C came instead of an answer: a list hides the cursor.
fn answered<T>(answer: dialoguer::Result<T>) -> Result<T, String> {
    answer.map_err(|error| {
        // A terminal that is gone has no cursor.
        let _ = Term::stderr().show_cursor();
        format!("nothing was made: {error}")
    })
}

/// While it is asked, Ctrl-C is an answer, and does not end the process where it stands.
struct Interrupts {
    _runtime: Runtime,
    _signal: Signal,
}

impl Interrupts {
    fn noted() -> Result<Self, String> {
        let cannot = |error: io::Error| format!("signals cannot be handled: {error}");
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let signal = {
            let _inside = runtime.enter();
            signal(SignalKind::interrupt()).map_err(cannot)?
        };
        Ok(Self { _runtime: runtime, _signal: signal })
    }
}

fn update() -> Result<ExitCode, String> {
    if !Path::new("Cargo.toml").is_file() {
        return Err("there is no Cargo.toml in this folder; go to the folder of the service".to_owned());
    }
    update_sdk(Path::new(".")).map_err(|error| format!("the SDK cannot be written: {error}; see to vendor/ in this folder"))?;
    print("wrote vendor/hotbay-sdk and vendor/wit\n")?;
    Ok(ExitCode::SUCCESS)
}
