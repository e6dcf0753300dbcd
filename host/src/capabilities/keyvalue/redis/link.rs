//! The connection to a Redis: made at the first use and shared by all calls. While Redis is gone calls fail at once, and connecting is
//! tried in the background.

use super::Failure;
use crate::{
    capabilities::{Network, SecretFolder},
    config::{KeyValueConfig, RedisAddress, SecretName},
};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, aio::MultiplexedConnection};
use rustls::pki_types::ServerName;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Between two attempts to reach a Redis that is gone, at first and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(20);
const AGAIN_LAST: Duration = Duration::from_millis(500);

/// The way to one Redis.
pub(super) struct Link {
    address: RedisAddress,
    password: Option<SecretName>,
    secrets: SecretFolder,
    tls: TlsConnector,
    timeout: Duration,
    state: Mutex<State>,
    /// Held by the one that connects.
    connecting: tokio::sync::Mutex<()>,
    /// Whether the log has said that Redis cannot be used.
    told: AtomicBool,
}

enum State {
    /// Nobody has asked, or the connection has ended: the next call connects, and waits for that.
    Idle,
    Open(Open),
    /// It cannot be reached, and somebody tries again and again.
    Gone,
}

/// A connection, which many may use at once.
#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    /// Cancelled when it has ended.
    ended: CancellationToken,
}

/// Why there is no connection, and what to do.
struct Unreached {
    reason: String,
    remedy: String,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Link {
    pub(super) fn new(address: RedisAddress, config: &KeyValueConfig, network: &Network, secrets: SecretFolder) -> Arc<Self> {
        Arc::new(Self {
            address,
            password: config.password.clone(),
            secrets,
            tls: network.trusting().into(),
            timeout: config.timeout.0,
            state: Mutex::new(State::Idle),
            connecting: tokio::sync::Mutex::default(),
            told: AtomicBool::new(false),
        })
    }

    pub(super) fn address(&self) -> &RedisAddress {
        &self.address
    }

    pub(super) fn close(&self) {
        *self.state() = State::Idle;
    }

    /// Does something with the connection. It ends within twice the timeout: once to connect, once for the answer.
    ///
    /// # Errors
    /// Redis cannot be used, and the log says why. What was to be changed may be changed or not.
    pub(super) async fn ask<T, F>(self: &Arc<Self>, work: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = RedisResult<T>> + Send + 'static,
    {
        let open = self.open().await.ok_or(Failure::Unusable)?;
        let (link, asked) = (self.clone(), work(open.connection.clone()));
        // A task of its own: that Redis is silent is seen also where each of those who ask has less time than the timeout.
        let answered = tokio::spawn(async move {
            let answer = asked.await;
            match &answer {
                Ok(_) => link.mended(),
                Err(error) => link.failed(&open, error),
            }
            answer.ok()
        });
        answered.await.ok().flatten().ok_or(Failure::Unusable)
    }

    /// The connection that there is, or a new one.
    async fn open(self: &Arc<Self>) -> Option<Open> {
        match self.usable() {
            Ok(open) => return Some(open),
            Err(Wait::No) => return None,
            Err(Wait::ForConnection) => {}
        }
        // A task of its own: whoever is tired of waiting does not end what others wait for.
        let link = self.clone();
        tokio::spawn(async move { link.connect().await }).await.ok().flatten()
    }

    async fn connect(self: Arc<Self>) -> Option<Open> {
        let _one = self.connecting.lock().await;
        match self.usable() {
            Ok(open) => return Some(open),
            Err(Wait::No) => return None,
            Err(Wait::ForConnection) => {}
        }
        match self.dial().await {
            Ok(open) => {
                *self.state() = State::Open(open.clone());
                Some(open)
            }
            Err(unreached) => {
                self.tell(&unreached.reason, &unreached.remedy);
                self.gone();
                None
            }
        }
    }

    fn usable(&self) -> Result<Open, Wait> {
        match &*self.state() {
            State::Open(open) if !open.ended.is_cancelled() => Ok(open.clone()),
            State::Gone => Err(Wait::No),
            State::Open(_) | State::Idle => Err(Wait::ForConnection),
        }
    }

    /// From here on calls fail at once, until it can be reached again.
    fn gone(self: &Arc<Self>) {
        if !matches!(std::mem::replace(&mut *self.state(), State::Gone), State::Gone) {
            tokio::spawn(again(Arc::downgrade(self)));
        }
    }

    fn failed(self: &Arc<Self>, open: &Open, error: &RedisError) {
        let remedy = match error.kind() {
            redis::ErrorKind::Server(ServerErrorKind::ReadOnly) => "name the one that may be written; hotbay connects anew",
            redis::ErrorKind::Server(_) | redis::ErrorKind::Extension => "see to the settings, the memory and the disk of Redis",
            _ => "see to Redis and the network; hotbay connects anew by itself",
        };
        self.tell(&error.to_string(), remedy);
        let is_current = matches!(&*self.state(), State::Open(now) if now.ended == open.ended);
        if !is_current {
            return;
        }
        // One that is silent would be waited for by each call; one that has closed the connection may be there again.
        if error.is_timeout() {
            self.gone();
        } else if error.is_unrecoverable_error() || error.kind() == redis::ErrorKind::Server(ServerErrorKind::ReadOnly) {
            self.close();
        }
    }

    async fn dial(&self) -> Result<Open, Unreached> {
        let remedy = || "see that Redis runs and that keyvalue.redis is its address; hotbay tries again by itself".to_owned();
        let password = self.password().await?;
        let dialled = timeout(self.timeout, self.dial_with(password)).await;
        let silent = || Unreached { reason: format!("there was no answer within {:?}", self.timeout), remedy: remedy() };
        dialled.map_err(|_| silent())?.map_err(|reason| Unreached { reason, remedy: remedy() })
    }

    async fn dial_with(&self, password: Option<String>) -> Result<Open, String> {
        let stream = self.stream().await.map_err(|error| error.to_string())?;
        let mut login = RedisConnectionInfo::default().set_db(self.address.database.into()).set_skip_set_lib_name();
        if let Some(user) = &self.address.user {
            login = login.set_username(user);
        }
        if let Some(password) = password {
            login = login.set_password(password);
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.timeout));
        let connected = MultiplexedConnection::new_with_config(&login, stream, config).await;
        let (mut connection, driver) = connected.map_err(|error| error.to_string())?;
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tokio::spawn(async move {
            driver.await;
            drop(guard);
        });
        // Without a password and with database 0 nothing has been said to it so far.
        let greeted: RedisResult<()> = redis::cmd("PING").query_async(&mut connection).await;
        greeted.map_err(|error| error.to_string())?;
        Ok(Open { connection, ended })
    }

    async fn stream(&self) -> std::io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect((self.address.host.as_str(), self.address.port)).await?;
        stream.set_nodelay(true)?;
        if !self.address.tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(self.address.host.clone()).map_err(std::io::Error::other)?;
        Ok(Box::new(self.tls.connect(name, stream).await?))
    }

    /// Read anew for each connection: it may have changed.
    async fn password(&self) -> Result<Option<String>, Unreached> {
        let Some(name) = self.password.clone() else { return Ok(None) };
        let secrets = self.secrets.clone();
        match spawn_blocking(move || secrets.read(&BTreeSet::from([name]))).await {
            Ok(Ok((read, _))) => Ok(read.iter().next().map(|(_, value)| value.to_owned())),
            Ok(Err(error)) => Err(Unreached { reason: error.reason, remedy: error.remedy }),
            Err(error) => Err(Unreached { reason: error.to_string(), remedy: "see the log".to_owned() }),
        }
    }

    /// Once, until it can be used again: every call of every service meets the same.
    pub(super) fn tell(&self, reason: &str, remedy: &str) {
        if !self.told.swap(true, Relaxed) {
            error!(
                target: "hotbay::keyvalue", address = %self.address, reason, remedy,
                "Redis cannot be used, and services that ask for their keys get an error: {reason}; {remedy}"
            );
        }
    }

    fn mended(&self) {
        // Looked at first: a store would be one for every call.
        if self.told.load(Relaxed) && self.told.swap(false, Relaxed) {
            info!(target: "hotbay::keyvalue", address = %self.address, "Redis can be used again");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do where there is no connection.
enum Wait {
    ForConnection,
    No,
}

/// Tries until it can be reached, or nobody is left who could ask.
async fn again(link: Weak<Link>) {
    let mut pause = AGAIN_FIRST;
    loop {
        sleep(pause).await;
        let Some(link) = link.upgrade() else { return };
        match link.dial().await {
            Ok(open) => {
                *link.state() = State::Open(open);
                link.mended();
                return;
            }
            Err(unreached) => link.tell(&unreached.reason, &unreached.remedy),
        }
        pause = (pause * 2).min(AGAIN_LAST);
    }
}
