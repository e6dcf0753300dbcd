//! The admin listener: its own address and connections, for those who look after the host.

mod address;
mod backup;
mod changes;
mod content_digest;
mod crons;
mod dashboard;
mod events;
mod figures;
mod gate;
mod graph;
mod health;
mod history;
mod logs;
mod metrics;
mod order;
mod problem;
mod profile;
mod router;
mod services;
mod settings;
mod stream;
mod tickets;
mod token;
mod upload;
mod user;

pub use address::{Address, FILE as ADDRESS_FILE, read as addresses};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use content_digest::Expected;
pub use crons::{CronLast, CronState};
pub use figures::{FigureHistory, Figures, ServiceFigures, Summary};
pub use graph::{Edge, Graph};
pub use health::{Deviation, Health, Readiness};
pub use history::{Ended, Past, PastList};
pub use order::{Outcome, Step};
pub use problem::Problem;
pub use services::{Draining, LimitState, Rejected, Revision, Service, ServiceList};
pub use tickets::Ticket;
pub use token::FILE as TOKEN_FILE;

use crate::{
    config::HostName,
    cron::Cron,
    deploy::{Board, Events, Orders, history::History},
    registry::Registry,
    runtime::KeyValue,
    shutdown::Shutdown,
    state,
    telemetry::{GuestLines, Metrics, Recent},
};
use axum::{Router, http::StatusCode};
pub(crate) use gate::Names;
use gate::{Peer, Reached};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tickets::Tickets;
use token::Token;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tracing::{debug, error, warn};
use upload::Uploads;

/// Connections at once, of which streams take a part: there is always room for a question.
const CONNECTIONS: usize = 128;
const STREAMS: usize = 64;
/// Time for a request head, and for the rest between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a request head.
const HEADER_SIZE: usize = 32 << 10;
/// Time in which a client must take what was sent, or at least say that it is there.
const UNTAKEN: Duration = Duration::from_secs(60);
/// Pause after an accept that failed for want of descriptors: a tight loop would only burn what is short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Time that an answer may take which is under way when the host has ended.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the listener needs of the host.
pub struct Parts {
    /// How the services stand.
    pub board: Arc<Board>,
    /// The revisions that serve.
    pub registry: Arc<Registry>,
    /// What is asked of them by the clock.
    pub cron: Arc<Cron>,
    /// What happens to them.
    pub events: Arc<Events>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What guests say.
    pub lines: GuestLines,
    /// Where changes are ordered.
    pub orders: Orders,
    /// What was good once.
    pub history: Arc<History>,
    /// What services keep.
    pub keyvalue: Arc<KeyValue>,
    /// Where services answer, for whoever wants to ask one.
    pub public: Option<SocketAddr>,
    /// The end of the host: pages tell of it, streams end with it.
    pub shutdown: Shutdown,
    /// What clients may call the listener, besides its address.
    pub hosts: Vec<HostName>,
    /// The folder of the token and the address.
    pub state: PathBuf,
    /// The bay, which tells hosts with one state folder apart.
    pub bay: PathBuf,
}

/// What the routes share.
struct Admin {
    board: Arc<Board>,
    registry: Arc<Registry>,
    cron: Arc<Cron>,
    events: Arc<Events>,
    metrics: Arc<Metrics>,
    recent: Arc<Recent>,
    lines: GuestLines,
    orders: Orders,
    history: Arc<History>,
    keyvalue: Arc<KeyValue>,
    bay: PathBuf,
    /// One copy of what services keep is made at a time.
    backups: Arc<Semaphore>,
    public: Option<SocketAddr>,
    uploads: Uploads,
    shutdown: Shutdown,
    hosts: Names,
    /// None where the state folder cannot be used: then nobody may call.
    token: Option<Token>,
    tickets: Tickets,
    streams: Arc<Semaphore>,
}

impl Admin {
    /// A place for a response that does not end by itself.
    fn stream_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let detail = format!("{STREAMS} streams are open, and no more are taken");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).remedy("end one of them")
        })
    }
}

/// An admin listener that answers.
pub struct Running {
    /// A thread of its own, so that who looks after the host gets an answer however busy it is.
    _thread: OwnThread,
    ending: Shutdown,
    /// The state folder, and what was written there.
    registered: (PathBuf, Address),
}

/// Makes or reads the token, says in the state folder where the listener is, and answers from then on. A state folder that cannot
/// be used takes the token away and nothing else. Where another host serves the bay, commands go on to find that one.
pub async fn start(listener: TcpListener, parts: Parts, is_alone: bool) -> io::Result<Running> {
    let Parts { board, registry, cron, events, metrics, lines, orders, history, keyvalue, public, shutdown, hosts, state, bay } =
        parts;
    let mine = listener.local_addr()?;
    let folder = bay.clone();
    let entered = tokio::task::spawn_blocking(move || {
        let mine = Address::of(mine, &folder);
        let token = enter(&state, &mine, is_alone);
        (token, (state, mine))
    });
    let (token, registered) = entered.await.map_err(io::Error::other)?;
    let state = registered.0.display();
    let token = match token {
        Ok((token, Ok(()))) => Some(token),
        Ok((token, Err(error))) => {
            warn!(%state, %error, "commands do not find this admin listener by itself ({error}); name it with --admin");
            Some(token)
        }
        Err(error) => {
            error!(
                %state, %error,
                "the admin listener has no token and answers health pages only; give hotbay a state folder of its own with --state"
            );
            None
        }
    };
    let streams = Arc::new(Semaphore::new(STREAMS));
    let host = shutdown.clone();
    let uploads = Uploads::new(&registered.0);
    let hosts = Names(hosts);
    let backups = Arc::new(Semaphore::new(1));
    let recent = Arc::new(Recent::new(metrics.clone()));
    let admin = Admin {
        board,
        registry,
        cron,
        events,
        metrics,
        recent: recent.clone(),
        lines,
        orders,
        history,
        keyvalue,
        bay,
        backups,
        public,
        uploads,
        shutdown,
        hosts,
        token,
        tickets: Tickets::default(),
        streams,
    };
    let router = router::router(Arc::new(admin));
    let ending = Shutdown::new();
    let thread = OwnThread::start()?;
    let listener = thread.adopt(listener)?;
    thread.spawn(async move { recent.follow().await });
    thread.spawn(accept_all(listener, router, ending.clone(), host));
    Ok(Running { _thread: thread, ending, registered })
}

/// A runtime with one thread. It ends when this is dropped, at once and from any thread.
struct OwnThread(Option<Runtime>);

impl OwnThread {
    fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).thread_name("hotbay-admin").enable_all().build();
        Ok(Self(Some(runtime?)))
    }

    /// The same socket, whose news come to this thread from now on.
    fn adopt(&self, listener: TcpListener) -> io::Result<TcpListener> {
        let _entered = self.0.as_ref().map(Runtime::enter);
        TcpListener::from_std(listener.into_std()?)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Running {
    /// Answers no more. The host has drained by now, which the pages told.
    pub async fn end(self) {
        self.ending.begin();
        self.ending.finished(FAREWELL).await;
        let Self { registered: (state, mine), _thread, .. } = self;
        let taken =
            tokio::task::spawn_blocking(move || address::lock(&state).and_then(|lock| address::remove(&lock, &state, &mine)));
        // Where it stays, commands see that its process has ended.
        if let Err(error) = taken.await.map_err(io::Error::other).flatten() {
            debug!(%error, "the address of the admin listener stays in the state folder");
        }
    }
}

/// The token, and whether commands find the listener. A folder that takes no file any more may still hold a token.
fn enter(state: &Path, mine: &Address, is_alone: bool) -> io::Result<(Token, io::Result<()>)> {
    state::make_private(state)?;
    state::refuse_unless_own(&fs::metadata(state)?)?;
    let lock = address::lock(state);
    let token = Token::open(state)?;
    if !is_alone {
        let taken = "another host serves this bay, and commands find that one";
        return Ok((token, Err(io::Error::new(io::ErrorKind::AddrInUse, taken))));
    }
    Ok((token, lock.and_then(|lock| address::add(&lock, state, mine))))
}

async fn accept_all(listener: TcpListener, router: Router, ending: Shutdown, host: Shutdown) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = ending.begun() => return,
            // The socket is another host's now; what comes from here on is for that one.
            () = host.handed_over() => return,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, reached, peer, place)) => {
                let router = router.clone().layer(axum::Extension(Reached(reached))).layer(axum::Extension(Peer(peer)));
                let ended = ending.clone();
                ending.track(async move {
                    connection(stream, router, &ended).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a connection of the admin listener could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    let reached = stream.local_addr()?;
    Ok((stream, reached, peer, place))
}

async fn connection(stream: TcpStream, router: Router, ending: &Shutdown) {
    let _ = stream.set_nodelay(true);
    // A reader of events that takes nothing would keep its place for ever. A system without the option works all the same.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNTAKEN));
    let mut http1 = http1::Builder::new();
    http1.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_SIZE);
    let mut connection = pin!(http1.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection of the admin listener ended early");
    }
}
