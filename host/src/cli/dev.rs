//! `hotbay dev`: host, builder and watcher in one process, for who writes services.

use super::{
    hangup, host_config,
    listener::{bind, bind_near, raise_descriptor_limit, runtime},
    output::tell,
};
use crate::develop::{self, Bay, Development, Found, Parts};
use clap::Parser;
use hotbay::{
    Host, Listeners, RunError,
    config::HostConfig,
    shutdown::Shutdown,
    telemetry::{self, LogFormat, LogLine},
};
use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinError,
};

/// What still runs at the end is told of after so long.
const PATIENCE: Duration = Duration::from_millis(500);

/// Flags win over the configuration file, which wins over the defaults.
#[derive(Parser)]
pub(super) struct Args {
    /// Folders with the sources of services, at any depth [default: .]
    dirs: Vec<PathBuf>,
    /// Where builds are put, which may hold other services too [default: DIR/.hotbay/dev, or ./.hotbay/dev of several DIRs]
    #[arg(long, value_name = "DIR")]
    bay: Option<PathBuf>,
    /// Where requests are answered; port 0 takes a free one [default: 127.0.0.1:8080, or the next port that is free]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the admin API is answered; port 0 takes a free one [default: 127.0.0.1:9191, or the next port that is free]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// The host's own settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A trap leaves a core dump, with the guest's data, in the state folder
    #[arg(long)]
    coredump: bool,
    /// Write the host's whole log to stderr as well
    #[arg(long, value_enum)]
    log: Option<LogFormat>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, String> {
    let (_log, complaints) = telemetry::start_shown(args.log).map_err(|error| format!("the log does not start: {error}"))?;
    raise_descriptor_limit();
    let runtime = runtime()?;
    let outcome = runtime.block_on(develop(args, complaints));
    develop::restore_terminal();
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn develop(args: Args, log: mpsc::Receiver<LogLine>) -> Result<(), String> {
    let folders = if args.dirs.is_empty() { vec![PathBuf::from(".")] } else { args.dirs };
    // Before anything is made: a folder without a service is none to make a bay in.
    let found = Found::below(&folders)?;
    let bay = bay(args.bay.as_deref(), &folders)?;
    let mut config = HostConfig { bay: bay.path().to_owned(), ..host_config::read(args.config.as_deref())? };
    config.dev.on = true;
    config.dev.coredump |= args.coredump;
    let usual = HostConfig::default();
    let (public, bound) = listen(args.listen, (config.listen, usual.listen), "--listen").await?;
    let (admin, admin_bound) = listen(args.admin, (config.admin, usual.admin), "--admin").await?;
    let host = Host::prepare(config).map_err(|error| error.to_string())?;
    let shutdown = Shutdown::new();
    let signals = shutdown.on_signal(at_exit).and_then(|()| end_with_terminal(&shutdown));
    signals.map_err(|error| format!("signals cannot be handled: {error}"))?;
    let (voices, unbuilt) = (host.voices(), host.unbuilt());
    let (listening, listens) = oneshot::channel();
    let listening = move || {
        tell(&format!("listening on http://{bound}\nadmin on http://{admin_bound}\n"));
        // Nobody waits for it any more where the start was interrupted.
        let _ = listening.send(());
    };
    let mut serving = tokio::spawn(host.run(Listeners { public, admin }, None, shutdown.clone(), listening, |_| {}));
    // A host that ends before has a reason, which is told below.
    if listens.await.is_ok() {
        let colours = io::stdout().is_terminal() && console::Term::stdout().features().colors_supported();
        let parts = Parts { folders, found, bay, bound, colours, print: tell, voices, unbuilt, log, shutdown: shutdown.clone() };
        let mut following = std::pin::pin!(Development::new(parts).run());
        tokio::select! {
            () = &mut following => {}
            ended = &mut serving => {
                // Builds that run are ended with all their processes.
                shutdown.begin();
                following.await;
                return outcome(ended);
            }
        }
        match tokio::time::timeout(PATIENCE, &mut serving).await {
            Ok(ended) => return outcome(ended),
            Err(_) => tell("finishing the requests that run; Ctrl-C again ends them\n"),
        }
    }
    outcome(serving.await)
}

fn outcome(ended: Result<Result<(), RunError>, JoinError>) -> Result<(), String> {
    ended.map_err(|error| format!("the host failed: {error}"))?.map_err(|error| error.to_string())
}

/// The bay that was named, or one of our own in the folder; of several folders, here.
fn bay(named: Option<&Path>, folders: &[PathBuf]) -> Result<Bay, String> {
    let made = match (named, folders) {
        (Some(named), _) => Bay::named(named),
        (None, [folder]) => Bay::own(folder),
        (None, _) => Bay::own(Path::new(".")),
    };
    made.map_err(|error| format!("the bay cannot be used: {error}; name another folder with --bay"))
}

/// Where a flag or the settings say; where neither does, a port that another process has is no reason not to start.
async fn listen(
    flag: Option<SocketAddr>,
    (configured, usual): (SocketAddr, SocketAddr),
    name: &str,
) -> Result<(TcpListener, SocketAddr), String> {
    if flag.is_some() || configured != usual {
        return bind(flag.unwrap_or(configured), name).await;
    }
    let (listener, bound) = bind_near(usual, name).await?;
    if bound != usual {
        tell(&format!(
            "port {} is taken by another process; {} is free (or say which: {name} ADDRESS)\n",
            usual.port(),
            bound.port()
        ));
    }
    Ok((listener, bound))
}

/// A terminal that is closed ends what runs in it, in good order.
fn end_with_terminal(shutdown: &Shutdown) -> io::Result<()> {
    if hangup::is_ignored() {
        return Ok(());
    }
    let mut hangup = signal(SignalKind::hangup())?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        if hangup.recv().await.is_some() {
            shutdown.begin();
        }
    });
    Ok(())
}

fn at_exit() {
    develop::restore_terminal();
    telemetry::flush();
}
