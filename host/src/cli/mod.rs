//! Arguments and exit codes; one file a subcommand.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "talking on stdout and stderr is what the commands are for")]

mod backup;
mod build;
mod check;
mod client;
mod dashboard;
mod deploy;
mod dev;
mod doctor;
mod events;
mod hangup;
mod history;
mod host_config;
mod hottest;
mod lacking;
mod listener;
mod logs;
mod messages;
mod new;
mod outcome;
mod output;
mod pages;
mod profile;
mod progress;
mod promote;
mod ps;
mod remove;
mod rollback;
mod serve;
mod shell;
mod table;

use clap::{Parser, Subcommand};
use hotbay::runtime;
use std::process::ExitCode;

/// Hosts microservices as WebAssembly components and swaps them under load.
#[derive(Parser)]
#[command(name = "hotbay", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a service: a folder with sources that build at once
    New(new::Args),
    /// Build services from their sources and put them into a bay
    Build(build::Args),
    /// Tell what this machine has for building and serving, and how to get what is missing
    Doctor(doctor::Args),
    /// Serve every service in a folder and follow its changes
    Serve(serve::Args),
    /// Build every service below a folder, serve them, and follow what is saved
    Dev(dev::Args),
    /// Tell what a file is, and whether and why not it would serve here
    Check(check::Args),
    /// Show how the services of a running host stand
    Ps(ps::Args),
    /// Put a build into the bay of a running host, and wait until it serves
    Deploy(deploy::Args),
    /// Go back to an earlier revision, with the settings that it had
    Rollback(rollback::Args),
    /// Make a labelled revision the main one
    Promote(promote::Args),
    /// Take a service, or a labelled revision, out of the bay
    Remove(remove::Args),
    /// Show the revisions that a service had
    History(history::Args),
    /// Show what guests write, as they write it
    Logs(logs::Args),
    /// Show what has happened to the services of a running host
    Events(events::Args),
    /// Open the dashboard of a running host in the browser
    Dashboard(dashboard::Args),
    /// Look at where the guests of a service compute, for a while
    Profile(profile::Args),
    /// Write a copy of what services keep (wasi:keyvalue) while they serve
    Backup(backup::Args),
    /// Print a script that completes commands in a shell
    Completions(pages::Completions),
    /// Print the manual page, or write one for each command
    Man(pages::Manual),
    /// The compiling child process of `serve` and `check`
    #[command(name = runtime::COMPILE_CHILD, hide = true)]
    CompileChild {
        memory: u64,
        seconds: u64,
        #[arg(long)]
        lines: bool,
        #[arg(long)]
        stay: bool,
    },
}

/// Exit codes: 0 fine, 1 failed, 2 wrong usage.
pub(crate) fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::New(args) => new::run(args),
        Command::Build(args) => build::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Dev(args) => dev::run(args),
        Command::Check(args) => check::run(args),
        Command::Ps(args) => ps::run(&args),
        Command::Deploy(args) => deploy::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Promote(args) => promote::run(&args),
        Command::Remove(args) => remove::run(&args),
        Command::History(args) => history::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Dashboard(args) => dashboard::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::manual(&args),
        Command::CompileChild { memory, seconds, lines, stay } => {
            let child = if stay { runtime::staying_compile_child } else { runtime::compile_child };
            child(memory, seconds, runtime::Backtraces::of(lines)).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string())
        }
    };
    outcome.unwrap_or_else(|reason| {
        eprintln!("hotbay: {reason}");
        ExitCode::FAILURE
    })
}
