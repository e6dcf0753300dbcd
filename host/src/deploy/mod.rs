//! The swap: what is in the bay becomes what is served.

mod awaited;
mod bay;
mod board;
mod candidate;
mod carry_out;
mod choice;
mod context;
mod event;
mod going_back;
pub mod history;
mod orders;
mod prepared;
mod publication;
mod swap;
mod verdict;
mod watcher;

pub use bay::{BUILD_MAX, SETTINGS_MAX, UNREADABLE_REMEDY, read_build, read_settings_at, read_settings_of};
pub use board::{Board, Draining, Phase, Rejected, Serving, Status};
pub use event::{Event, Events, Reader, State, Told};
pub use orders::{Change, Done, OrderError, Orders, Published};
pub use publication::Standing;

use crate::{
    config::BuildName,
    registry::Registry,
    runtime::{Drain, Loader, Reject, SecretFolder},
    shutdown::Shutdown,
};
use awaited::Waiting;
use bay::{Bay, BayView, Sighting, parse_settings};
use context::SwapContext;
use futures::{FutureExt, StreamExt, future::join_all, stream::FuturesOrdered};
use history::History;
use orders::Order;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use swap::Swaps;
use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
        oneshot, watch,
    },
    task::JoinHandle,
};
use tracing::{error, info, warn};
use watcher::Watcher;

/// Least time between two readings of the bay.
const SCAN_PAUSE: Duration = Duration::from_millis(5);

/// What a guest that is ended gets for its last turn, before the host goes without it.
const LAST_TURN: Duration = Duration::from_millis(500);

/// What the deployer needs of the host.
pub struct Parts {
    /// The folder that is watched.
    pub bay: PathBuf,
    /// How often it is read although nothing was reported.
    pub rescan: Duration,
    /// How long a revision may drain.
    pub drain: Duration,
    /// Where routes are published.
    pub registry: Arc<Registry>,
    /// What makes revisions of builds.
    pub loader: Arc<Loader>,
    /// Where secrets are.
    pub secrets: SecretFolder,
    /// What was good once.
    pub history: Arc<History>,
    /// Where events go.
    pub events: Arc<Events>,
    /// Where it is written down how each service stands.
    pub board: Arc<Board>,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// Follows the bay: one task for the folder, one for each service in it.
pub struct Deployer {
    context: Arc<SwapContext>,
    watcher: Watcher,
    orders: (Orders, mpsc::Receiver<(BuildName, Order)>),
    services: BTreeMap<BuildName, Followed>,
    unusable: BTreeSet<String>,
    unreadable: bool,
}

/// The task of one service.
struct Followed {
    sightings: watch::Sender<Sighting>,
    orders: mpsc::Sender<Order>,
    /// Ends with what is needed to end what still serves, when the host ends.
    task: JoinHandle<Option<Drain>>,
}

impl Deployer {
    /// Watches the bay and reads it for the first time. The watch comes first, so that nothing falls between. A successor leaves the
    /// bay and its history as they are until it takes charge.
    ///
    /// # Errors
    /// Where the bay cannot be read.
    pub fn start(parts: Parts, is_successor: bool) -> io::Result<(Self, Start)> {
        let Parts { bay, rescan, drain, registry, loader, secrets, history, events, board, shutdown } = parts;
        let hint = Arc::new(Notify::new());
        let watcher = Watcher::new(bay.clone(), secrets.path().to_owned(), rescan, hint.clone());
        let (orders, ordered) = Orders::new();
        let context = SwapContext {
            hint,
            bay: Bay { folder: bay },
            registry,
            loader,
            history,
            events,
            board,
            shutdown,
            drain,
            routes_changed: watch::channel(0).0,
            // Before any of them is read, so that no change falls between.
            secrets_seen: watch::channel(secrets.seen()).0,
            secrets,
            waiting: Waiting::default(),
            publishing: tokio::sync::Mutex::new(()),
            orders: orders.clone(),
            in_charge: watch::channel(false).0,
        };
        if !is_successor {
            context.take_charge()?;
        }
        let view = context.bay.scan()?;
        let mut deployer = Self {
            context: Arc::new(context),
            watcher,
            orders: (orders, ordered),
            services: BTreeMap::new(),
            unusable: BTreeSet::new(),
            unreadable: false,
        };
        let start = deployer.first(view);
        Ok((deployer, start))
    }

    /// What takes charge of the bay once a predecessor has been relieved.
    pub fn charge(&self) -> Charge {
        Charge(self.context.clone())
    }

    /// Gives orders to this deployer, which carries them out once it runs.
    pub fn orders(&self) -> Orders {
        self.orders.0.clone()
    }

    /// Follows the bay until the shutdown begins. What serves by then goes on serving until [`Followers::retire`].
    pub async fn run(mut self) -> Followers {
        let shutdown = self.context.shutdown.clone();
        let follow = async {
            loop {
                tokio::select! {
                    () = self.watcher.next() => {}
                    Some((name, order)) = self.orders.1.recv() => {
                        self.hand_over(name, order);
                        continue;
                    }
                }
                self.look().await;
                // A storm of changes is read in steps; a single change is read at once.
                tokio::time::sleep(SCAN_PAUSE).await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.begun() => {}
            () = follow => {}
        }
        Followers(self.services.into_values().map(|followed| followed.task).collect())
    }

    /// The services that are there at the start. They load side by side, but their routes are spoken for in the order of
    /// their names, so that who owns a contested route does not depend on which build compiles faster.
    fn first(&mut self, view: BayView) -> Start {
        let routes = |(name, sighting): (&BuildName, &Sighting)| {
            // Labelled revisions answer on the routes of the main one.
            sighting.build.filter(|_| name.label.is_none())?;
            let text = self.context.bay.read_settings(&name.service).ok().flatten().map(|(text, _)| text);
            Some((name.service.clone(), parse_settings(&name.service, text.as_ref()).ok()?.routes))
        };
        let down: Vec<_> = view.builds.iter().filter_map(routes).collect();
        self.context.registry.mark_down(down);
        // All of them before the first begins, which must not take itself for the last.
        view.builds.keys().for_each(|name| self.context.board.loading(&name.to_string()));
        let mut standings = FuturesOrdered::new();
        for (name, sighting) in view.builds {
            let (report, reported) = oneshot::channel();
            self.add(name.clone(), sighting, Some(report));
            standings.push_back(async move { (name.to_string(), reported.await.unwrap_or(Standing::Gone)) }.boxed());
        }
        for (file, reject) in &view.unusable {
            let standing = Standing::Rejected(reject.clone());
            standings.push_back(std::future::ready((file.clone(), standing)).boxed());
        }
        self.tell_unusable(view.unusable);
        Start { standings: standings.boxed() }
    }

    async fn look(&mut self) {
        let context = self.context.clone();
        let looking = move || {
            let seen = context.secrets.seen();
            context.secrets_seen.send_if_modified(|last| std::mem::replace(last, seen) != seen);
            context.bay.scan()
        };
        let scanned = tokio::task::spawn_blocking(looking).await;
        match scanned.map_err(io::Error::other).flatten() {
            Ok(view) => {
                if std::mem::take(&mut self.unreadable) {
                    info!(bay = %self.context.bay.folder.display(), "the bay can be read again");
                }
                self.compare(view);
            }
            // A bay that cannot be read is not an empty one: everything keeps serving.
            Err(reason) if !self.unreadable => {
                self.unreadable = true;
                let bay = self.context.bay.folder.display();
                error!(%bay, error = %reason, "the bay cannot be read; all services stay as they are until it can");
            }
            Err(_) => {}
        }
    }

    fn compare(&mut self, view: BayView) {
        // Tasks of services that are gone have ended; one that comes back gets a new one.
        self.services.retain(|_, followed| !followed.sightings.is_closed());
        for (name, followed) in &self.services {
            let now = view.builds.get(name).copied().unwrap_or_default();
            followed.sightings.send_if_modified(|last| std::mem::replace(last, now) != now);
        }
        for (name, sighting) in view.builds {
            if !self.services.contains_key(&name) {
                self.add(name, sighting, None);
            }
        }
        self.tell_unusable(view.unusable);
    }

    fn add(&mut self, name: BuildName, sighting: Sighting, report: Option<oneshot::Sender<Standing>>) {
        // One that comes by an order is a service once that was carried out.
        if sighting != Sighting::default() {
            self.context.board.loading(&name.to_string());
        }
        let (sightings, seen) = watch::channel(sighting);
        let (orders, queue) = orders::queue();
        let task = tokio::spawn(Swaps::new(self.context.clone(), name.clone(), seen, queue, report).run());
        self.services.insert(name, Followed { sightings, orders, task });
    }

    /// Gives an order to the task of its service, which begins with it where the service is new.
    fn hand_over(&mut self, name: BuildName, order: Order) {
        if self.services.get(&name).is_none_or(|followed| followed.orders.is_closed()) {
            self.add(name.clone(), Sighting::default(), None);
        }
        let Some(followed) = self.services.get(&name) else { return };
        match followed.orders.try_send(order) {
            Ok(()) => {}
            Err(TrySendError::Full(order)) => drop(order.reply.send(Err(OrderError::Busy))),
            // Its task ended just now, with the service; the next one is another.
            Err(TrySendError::Closed(order)) => self.context.orders.give_again(name, order),
        }
    }

    fn tell_unusable(&mut self, unusable: BTreeMap<String, Reject>) {
        for (file, reject) in &unusable {
            if !self.unusable.contains(file) {
                let reason = format!("{file}: {}", reject.reason);
                self.context.board.rejected(file, None, &reason, &reject.remedy);
                self.context.events.unusable(file, reject);
            }
        }
        for file in self.unusable.iter().filter(|file| !unusable.contains_key(*file)) {
            self.context.board.removed(file);
        }
        self.unusable = unusable.into_keys().collect();
    }
}

/// Takes charge of a bay that another host served until now.
pub struct Charge(Arc<SwapContext>);

impl Charge {
    /// From now on this host is the one that serves the bay: what a crash left half done in it is finished. Waits for the disk.
    pub fn take(self) {
        self.0.history.tidy();
        if let Err(error) = self.0.take_charge() {
            warn!(bay = %self.0.bay.folder.display(), %error, "what was taken out of the bay meanwhile could not be noted");
        }
    }
}

/// What served when the host began to end.
pub struct Followers(Vec<JoinHandle<Option<Drain>>>);

impl Followers {
    /// Waits for guests that work on after their last byte, at most for `left`, and ends the kept instances, side by side: each
    /// is told by `lifecycle.stop`, which takes a second at most. Whoever else holds revisions must have let go.
    pub async fn retire(self, left: Duration) {
        // A task that panicked was logged and has nothing left to end.
        let serving = join_all(self.0).await.into_iter().filter_map(|ended| ended.ok().flatten());
        let end = async |drain: Drain| {
            // What was ended lets go at its next turn.
            let _ = tokio::time::timeout(left + LAST_TURN, drain.wait(left)).await;
            drain.retire().await;
        };
        join_all(serving.map(end)).await;
    }
}

/// The first reading of the bay on its way to being served.
pub struct Start {
    standings: futures::stream::BoxStream<'static, (String, Standing)>,
}

impl Start {
    /// How each service that was there ended up, by name, and then each file whose name is not allowed.
    pub async fn finished(self) -> Vec<(String, Standing)> {
        self.standings.collect().await
    }
}
