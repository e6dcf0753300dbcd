//! `hotbay serve`: binds, starts, prints where and what, and serves until a signal.

use super::{
    host_config,
    listener::{bind, raise_descriptor_limit, runtime},
    output::tell,
    table,
};
use clap::Parser;
use hotbay::{
    Host, Listeners,
    config::HostConfig,
    handover::{self, Predecessor, Sockets},
    shutdown::Shutdown,
    telemetry::{self, LogFormat},
};
use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode};
use tokio::net::TcpListener;
use tracing::info;

/// The exit code of arguments that do not go together.
const WRONG_USAGE: u8 = 2;

/// Flags win over the configuration file, which wins over the defaults.
#[derive(Parser)]
pub(super) struct Args {
    /// The folder to watch: NAME.wasm in it is service NAME, NAME.toml its settings [default: bay]
    bay: Option<PathBuf>,
    /// Where requests are answered; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the admin API is answered; port 0 takes a free one [default: 127.0.0.1:9191]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Where the compile cache and the admin token live [default: BAY/.hotbay]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The host's own settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take over from the host that serves this bay: load everything, get its sockets, and only then let it finish
    #[arg(long)]
    take_over: bool,
    /// Tell clients what the log tells: traps, backtraces, remedies
    #[arg(long)]
    dev: bool,
    /// With --dev: a trap leaves a core dump, with the guest's data, in the state folder
    #[arg(long)]
    coredump: bool,
    /// How the log on stderr looks
    #[arg(long, value_enum, default_value = "text")]
    log: LogFormat,
}

impl Args {
    fn config(self) -> Result<HostConfig, String> {
        let mut config = host_config::read(self.config.as_deref())?;
        config.bay = self.bay.unwrap_or(config.bay);
        config.listen = self.listen.unwrap_or(config.listen);
        config.admin = self.admin.unwrap_or(config.admin);
        config.state = self.state.or(config.state);
        config.dev.on |= self.dev;
        config.dev.coredump |= self.coredump;
        Ok(config)
    }
}

pub(super) fn run(args: Args) -> Result<ExitCode, String> {
    // Before there are other threads: it takes variables out of the environment.
    let activated = Sockets::activated().map_err(|error| error.to_string())?;
    let _log = telemetry::start(args.log).map_err(|error| format!("the log does not start: {error}"))?;
    let take_over = args.take_over;
    let config = args.config()?;
    if config.dev.coredump && !config.dev.on {
        eprintln!(
            "hotbay: core dumps hold the data of guests, so --coredump (`dev.coredump`) is for --dev alone: add --dev or leave it out"
        );
        return Ok(ExitCode::from(WRONG_USAGE));
    }
    raise_descriptor_limit();
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve(config, activated, take_over));
    // Blocking work that is left, a compile say, is not waited for.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: HostConfig, mut sockets: Sockets, take_over: bool) -> Result<(), String> {
    let mut predecessor = None;
    if take_over {
        let met = Predecessor::greet(&config.state_dir(), &config.bay).await.map_err(|error| error.to_string())?;
        (predecessor, sockets) = (Some(met.0), met.1);
    }
    let (public, bound) = match sockets.take(handover::PUBLIC) {
        Some(given) => given_socket(given, config.listen, "listen")?,
        None => bind(config.listen, "--listen").await?,
    };
    let (admin, admin_bound) = match sockets.take(handover::ADMIN) {
        Some(given) => given_socket(given, config.admin, "admin")?,
        None => bind(config.admin, "--admin").await?,
    };
    let host = Host::prepare(config).map_err(|error| error.to_string())?;
    let shutdown = Shutdown::new();
    shutdown.on_signal(telemetry::flush).map_err(|error| format!("signals cannot be handled: {error}"))?;
    let listening = move || tell(&format!("listening on http://{bound}\nadmin on http://{admin_bound}\n"));
    let started = move |standings: &[_]| tell(&table::services(standings, bound));
    host.run(Listeners { public, admin }, predecessor, shutdown, listening, started).await.map_err(|error| error.to_string())
}

/// A socket that another opened is used as it is: its address holds, whatever the settings say.
fn given_socket(given: io::Result<TcpListener>, configured: SocketAddr, key: &str) -> Result<(TcpListener, SocketAddr), String> {
    let given = given.map_err(|error| format!("the socket that was handed over cannot be used: {error}"))?;
    let bound = given.local_addr().map_err(|error| error.to_string())?;
    if bound != configured && configured.port() != 0 {
        info!(%bound, %configured, "the socket that was handed over counts, and `{key}` does not; to change it, start anew");
    }
    Ok((given, bound))
}
