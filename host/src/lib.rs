//! Hotbay hosts microservices as WebAssembly components: drop `NAME.wasm` into the bay and it answers HTTP, replace the file
//! and the next request runs the new code.
//!
//! The life of a request: [`http`] takes it and observes it, `dispatch` finds its revision in the route table of [`registry`]
//! and admits it, [`runtime`] calls the guest, whose imports end in `capabilities`. The life of a swap: [`deploy`] sees the
//! bay change, [`runtime`] loads the build, [`registry`] publishes it, and the revision before drains. `docs/architecture.md`
//! walks both and lists what must hold.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
mod capabilities;
pub mod config;
pub mod cron;
pub mod deploy;
mod dispatch;
mod fault_point;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod handover;
mod hop_by_hop;
pub mod http;
pub mod registry;
pub mod runtime;
pub mod shutdown;
pub mod state;
pub mod telemetry;

use config::HostConfig;
use cron::Cron;
use deploy::{Board, Deployer, Events, Parts, Standing, history::History};
use dispatch::Rejected;
use futures::FutureExt;
use handover::{Offered, Post, Predecessor, TakeOverError};
use registry::Registry;
use runtime::{Backtraces, CoreDumps, KeyValue, Loader, Network, NetworkError, Observers, Reach, SecretFolder, Sources};
use shutdown::Shutdown;
use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};
use telemetry::{GuestLines, Metrics};
use tokio::net::TcpListener;
use tracing::{info, warn};

/// The sockets of a host, bound by the caller.
pub struct Listeners {
    /// Where requests are answered.
    pub public: TcpListener,
    /// Where the admin API is answered.
    pub admin: TcpListener,
}

/// The listening sockets by name, as far as there are descriptors for them.
type Offers = io::Result<Vec<(&'static str, OwnedFd)>>;

impl Listeners {
    /// All of them by name, for the host that takes over.
    fn offered(&self) -> Offers {
        let offered = [(handover::PUBLIC, &self.public), (handover::ADMIN, &self.admin)];
        offered.into_iter().map(|(name, socket)| Ok((name, socket.as_fd().try_clone_to_owned()?))).collect()
    }
}

/// Longest rest of a connection that still gets a last response after a hand-over.
const LAST_REQUEST: Duration = Duration::from_secs(5);

/// Why a host does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder to watch cannot be read.
    #[error("the bay `{bay}` cannot be read: {error}; {}", bay_remedy(bay, error))]
    Bay {
        /// The folder.
        bay: String,
        /// The reason.
        error: io::Error,
    },
    /// The admin listener does not start.
    #[error("the admin listener does not start: {0}; take another address with --admin")]
    Admin(io::Error),
    /// The engine does not start.
    #[error(
        "the WebAssembly engine does not start: {0}; it reserves address space for pool.instances in hotbay.toml, which a \
         limit on virtual memory (ulimit -v) can refuse"
    )]
    Engine(String),
    /// Guests could reach no other host as the settings have it.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Two metrics have one name, which the tests rule out.
    #[error("the metrics do not start: {0}")]
    Metrics(String),
    /// The host that serves goes on.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
}

/// Makes this host one that can be taken over, as far as its state folder allows. Returns whether no other host serves the bay.
fn keep_post(config: &HostConfig, offered: Offers, registry: &Arc<Registry>, shutdown: &Shutdown, handed_over: bool) -> bool {
    let post = offered
        .and_then(|sockets| Ok((sockets, Post::claim(&config.state_dir(), &config.bay, handed_over)?)))
        .inspect_err(|error| warn!(%error, "this host serves, but no other can take over from it (--take-over)"));
    let is_alone = !post.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    if let Ok((sockets, post)) = post {
        let registry = registry.clone();
        // Connections at rest must not be what the drain deadline ends.
        let grace = LAST_REQUEST.min(config.drain.0 / 2);
        let offered = Offered { sockets, serving: Box::new(move || registry.serving()), grace };
        tokio::spawn(post.serve(offered, shutdown.clone()));
    }
    is_alone
}

/// Why the last build of a service does not serve, if it does not.
fn rejected(board: &Board, service: &str) -> Option<Rejected> {
    let deploy::Rejected { reason, remedy, .. } = board.one(service)?.rejected?;
    Some(Rejected { reason, remedy })
}

fn bay_remedy(bay: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotADirectory => "name the folder that it lies in: hotbay serve BAY".to_owned(),
        io::ErrorKind::PermissionDenied => "let hotbay's user read and enter the folder".to_owned(),
        _ => format!("create it (mkdir -p {bay}) or name another folder: hotbay serve BAY"),
    }
}

/// A host that could be started: its settings hold on this machine.
pub struct Host {
    config: HostConfig,
    registry: Arc<Registry>,
    loader: Arc<Loader>,
    keyvalue: Arc<KeyValue>,
    observers: Observers,
    events: Arc<Events>,
    board: Arc<Board>,
    unbuilt: Arc<http::Unbuilt>,
}

/// What a host tells in its own process.
pub struct Voices {
    /// What happens to revisions.
    pub events: Arc<Events>,
    /// How each service stands.
    pub board: Arc<Board>,
    /// What guests write.
    pub lines: GuestLines,
}

impl Host {
    /// Sets up what can fail: the bay must be readable, the engine must start. The state folder may fail; it is told in the log.
    ///
    /// # Errors
    /// Where the bay or the engine cannot be used.
    pub fn prepare(config: HostConfig) -> Result<Self, RunError> {
        let bay = &config.bay;
        fs::read_dir(bay).map_err(|error| RunError::Bay { bay: bay.display().to_string(), error })?;
        let metrics = Metrics::new().map_err(|error| RunError::Metrics(error.to_string()))?;
        let observers = Observers { metrics: Arc::new(metrics), lines: GuestLines::new() };
        let (board, events) = (Arc::new(Board::new()), Arc::new(Events::new(observers.metrics.clone())));
        let network = Network::new(config.outbound.clone())?;
        let registry = Arc::new(Registry::new());
        let unbuilt = Arc::new(http::Unbuilt::new(registry.clone()));
        let calls = Arc::new(dispatch::Calls::new(registry.clone(), config.calls.depth.0, config.dev.on));
        // Weakly, since what is loaded goes into the registry.
        let providers = Arc::downgrade(&calls);
        let (state, pools, compile) =
            (config.state_dir(), (&config.budgets, &config.pool), (config.compile.clone(), Backtraces::of(config.dev.on)));
        let keyvalue = KeyValue::new(&state, &config.keyvalue, &network, SecretFolder::new(config.secrets_dir()));
        let sources = Sources { reach: Reach { network, services: Some(calls) }, keyvalue: keyvalue.clone() };
        let coredumps = config.coredumps_dir().map(CoreDumps::at);
        let loader = Loader::new(Some(&state), pools, compile, observers.clone(), sources, providers, coredumps);
        let loader = loader.map_err(|error| RunError::Engine(format!("{error:#}")))?;
        Ok(Self { config, registry, loader: Arc::new(loader), keyvalue, observers, events, board, unbuilt })
    }

    /// What it will tell once it runs.
    pub fn voices(&self) -> Voices {
        Voices { events: self.events.clone(), board: self.board.clone(), lines: self.observers.lines.clone() }
    }

    /// Where it is told of builds that are not in the bay yet; with `--dev` alone it speaks of them.
    pub fn unbuilt(&self) -> Arc<http::Unbuilt> {
        self.unbuilt.clone()
    }

    /// Serves the bay until the shutdown has begun and what ran has finished, at most for the drain deadline.
    ///
    /// `listening` is called once callers and commands find the host. `started` is told once how each service, and each misnamed
    /// file, that was in the bay at the start ended up. Requests are answered before that: with 503 as long as their service may
    /// still come. Where there is a `predecessor`, it answers until then, and both mean that this host has relieved it.
    ///
    /// # Errors
    /// Where the bay cannot be read any more, or the predecessor serves on. A build that will not serve is no error.
    pub async fn run(
        self,
        listeners: Listeners,
        predecessor: Option<Predecessor>,
        shutdown: Shutdown,
        listening: impl FnOnce() + Send,
        started: impl FnOnce(&[(String, Standing)]) + Send + 'static,
    ) -> Result<(), RunError> {
        let Self { config, registry, loader, keyvalue, observers, events, board, unbuilt } = self;
        let metrics = observers.metrics;
        tokio::spawn(loader.clone().try_compiler());
        let history = Arc::new(History::open(&config.state_dir(), &config.bay, config.history.clone(), predecessor.is_some()));
        let parts = Parts {
            bay: config.bay.clone(),
            rescan: config.rescan.0,
            drain: config.drain.0,
            registry: registry.clone(),
            loader,
            secrets: SecretFolder::new(config.secrets_dir()),
            history: history.clone(),
            events: events.clone(),
            board: board.clone(),
            shutdown: shutdown.clone(),
        };
        let unreadable = |error| RunError::Bay { bay: config.bay.display().to_string(), error };
        let (deployer, start) = Deployer::start(parts, predecessor.is_some()).map_err(unreadable)?;
        let charge = deployer.charge();
        let cron = Arc::new(Cron::new(registry.clone(), metrics.clone(), shutdown.clone()));
        // Hosts of other bays may share the state folder.
        let cron_lock = config.state_dir().join(format!("cron-{}.lock", handover::bay_id(&config.bay)));
        let admin_parts = admin::Parts {
            board: board.clone(),
            registry: registry.clone(),
            cron: cron.clone(),
            events,
            metrics: metrics.clone(),
            lines: observers.lines,
            orders: deployer.orders(),
            history,
            keyvalue: keyvalue.clone(),
            public: listeners.public.local_addr().ok(),
            shutdown: shutdown.clone(),
            hosts: config.admin_hosts.clone(),
            state: config.state_dir(),
            bay: config.bay.clone(),
        };
        let dev = config.dev.on.then(|| {
            let board = board.clone();
            http::Dev::new(config.dev.reload, move |service| rejected(&board, service), unbuilt, shutdown.clone())
        });
        let deploying = tokio::spawn(deployer.run());
        let decided = {
            let registry = registry.clone();
            async move {
                let standings = start.finished().await;
                registry.loaded();
                board.start_ended();
                standings
            }
        };
        let edge = Arc::new(http::Edge::new(registry.clone(), config.http.clone(), dev, metrics));
        let offered = listeners.offered();
        let serving = http::serve(listeners.public, edge, shutdown.clone());
        let (starting, serving, is_alone) = match predecessor {
            None => {
                let is_alone = keep_post(&config, offered, &registry, &shutdown, false);
                shutdown.track(cron.run(cron_lock, false));
                let starting = async move {
                    let standings = decided.await;
                    handover::ready(false);
                    started(&standings);
                };
                (starting.boxed(), tokio::spawn(serving), is_alone)
            }
            Some(predecessor) => {
                let standings = tokio::select! {
                    biased;
                    // Nothing has been taken over, so there is nothing to end.
                    () = shutdown.begun() => return Ok(()),
                    standings = decided => standings,
                };
                let relieved = predecessor.relieve(registry.serving()).await?;
                // First of all: clients wait.
                let serving = tokio::spawn(serving);
                keep_post(&config, offered, &registry, &shutdown, true);
                shutdown.track(cron.run(cron_lock, true));
                handover::ready(true);
                drop(relieved);
                // A panic in it was logged.
                let _ = tokio::task::spawn_blocking(|| charge.take()).await;
                (async move { started(&standings) }.boxed(), serving, true)
            }
        };
        // Not before: until then a predecessor answers there.
        let admin = admin::start(listeners.admin, admin_parts, is_alone).await.map_err(RunError::Admin)?;
        listening();
        let loading = tokio::spawn(starting);
        // A panic in it was logged.
        let _ = serving.await;
        if !shutdown.is_hand_over() {
            handover::stopping();
        }
        let ending = Instant::now();
        match shutdown.finished(config.drain.0).await {
            0 => info!("everything has finished"),
            left => warn!(left, "the drain deadline is over; what still runs is ended"),
        }
        loading.abort();
        // It ends by itself at the shutdown; a panic in it was logged.
        if let Ok(followers) = deploying.await {
            registry.clear();
            followers.retire(config.drain.0.saturating_sub(ending.elapsed())).await;
        }
        admin.end().await;
        keyvalue.close().await;
        Ok(())
    }
}
