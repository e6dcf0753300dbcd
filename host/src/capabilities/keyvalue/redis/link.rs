//! A connection to a Redis: made at the first use and shared by all calls. While Redis is gone calls fail at once, and connecting is
//! tried in the background.

use super::super::{
    report::{Reports, Trouble, Use},
    turns::Turn,
};
use super::{
    Failure,
    heard::{Heard, Listened},
    unreached::{Cause, Login, Unreached},
};
use crate::{
    capabilities::{Network, SecretFolder},
    config::{KeyValueConfig, RedisAddress},
};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, aio::MultiplexedConnection};
use rustls::pki_types::ServerName;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
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
/// How often the timeout an answer may take that waits for others, which still come.
const ANSWER_MAX: u32 = 10;

/// One way to one Redis.
pub(super) struct Link {
    /// Whether it is the one for what is large.
    is_large: bool,
    address: RedisAddress,
    login: Login,
    tls: TlsConnector,
    timeout: Duration,
    state: Mutex<State>,
    /// Held by the one that connects.
    connecting: tokio::sync::Mutex<()>,
    reports: Reports,
    /// Why it could not be reached the last time, to be told anew where that is another reason.
    cause: Mutex<Cause>,
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
    heard: Heard,
    /// Cancelled when it has ended.
    ended: CancellationToken,
}

/// Why there is no answer.
enum Unanswered {
    /// Nothing at all has come meanwhile.
    Silent,
    /// Answers to others have.
    Slow,
    Error(RedisError),
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Link {
    pub(super) fn new(
        is_large: bool,
        address: RedisAddress,
        config: &KeyValueConfig,
        network: &Network,
        secrets: SecretFolder,
    ) -> Arc<Self> {
        Arc::new(Self {
            is_large,
            login: Login::new(&address, config.password.as_ref(), secrets),
            address,
            tls: network.trusting().into(),
            timeout: config.timeout.0,
            state: Mutex::new(State::Idle),
            connecting: tokio::sync::Mutex::default(),
            reports: Reports::default(),
            cause: Mutex::new(Cause::Network),
        })
    }

    pub(super) fn address(&self) -> &RedisAddress {
        &self.address
    }

    pub(super) fn close(&self) {
        *self.state() = State::Idle;
    }

    /// Does something with the connection. It ends within the timeout to connect, and the timeout for the answer; where answers to
    /// others still come, which may be large, within ten times that. `turn` is held until then, whoever waits.
    ///
    /// # Errors
    /// Redis cannot be used, and the log says why. What was to be changed may be changed or not.
    pub(super) async fn ask<T, F>(
        self: &Arc<Self>,
        how: Use,
        turn: Turn,
        work: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = RedisResult<T>> + Send + 'static,
    {
        let open = self.open().await.ok_or(Failure::Unusable)?;
        let (link, asked) = (self.clone(), work(open.connection.clone()));
        // A task of its own: that Redis is silent is seen also where each of those who ask has less time than the timeout.
        let answered = tokio::spawn(async move {
            let _turn = turn;
            let answer = link.patiently(&open.heard, asked).await;
            match &answer {
                Ok(_) => link.reports.works(how).for_each(|trouble| link.mended(trouble)),
                Err(unanswered) => link.failed(&open, how, unanswered),
            }
            answer.ok()
        });
        answered.await.ok().flatten().ok_or(Failure::Unusable)
    }

    async fn patiently<T>(&self, heard: &Heard, asked: impl Future<Output = RedisResult<T>>) -> Result<T, Unanswered> {
        let (begun, most) = (Instant::now(), self.timeout.saturating_mul(ANSWER_MAX));
        let mut asked = std::pin::pin!(asked);
        loop {
            let took = begun.elapsed();
            let patience = self.timeout.saturating_sub(heard.quiet().min(took));
            match patience.min(most.saturating_sub(took)) {
                _ if patience.is_zero() => return Err(Unanswered::Silent),
                Duration::ZERO => return Err(Unanswered::Slow),
                left => {
                    if let Ok(answer) = timeout(left, asked.as_mut()).await {
                        return answer.map_err(Unanswered::Error);
                    }
                }
            }
        }
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
                self.tell_unreached(&unreached);
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

    fn failed(self: &Arc<Self>, open: &Open, how: Use, unanswered: &Unanswered) {
        let network = "see to Redis and the network; hotbay connects anew by itself";
        let is_current = || matches!(&*self.state(), State::Open(now) if now.ended == open.ended);
        match unanswered {
            Unanswered::Silent => {
                self.tell(Trouble::All, &format!("there was no answer within {:?}", self.timeout), network);
                // It would be waited for by each call.
                if is_current() {
                    self.gone();
                }
            }
            Unanswered::Slow => {
                let remedy = "see to the network, or let services read and write less at once";
                self.tell(
                    how.trouble(),
                    &format!("answers take longer than {:?}", self.timeout.saturating_mul(ANSWER_MAX)),
                    remedy,
                );
            }
            Unanswered::Error(error) => {
                let is_read_only = error.kind() == redis::ErrorKind::Server(ServerErrorKind::ReadOnly);
                let login = self.login.remedy(error);
                let (trouble, remedy) = match error.kind() {
                    _ if is_read_only => (how.trouble(), "name the one that may be written; hotbay connects anew"),
                    redis::ErrorKind::Server(_) | redis::ErrorKind::Extension => {
                        (how.trouble(), login.as_deref().unwrap_or("see to the settings, the memory and the disk of Redis"))
                    }
                    _ => (Trouble::All, network),
                };
                self.tell(trouble, &error.to_string(), remedy);
                // One that has closed the connection may be there again.
                if (is_read_only || error.is_unrecoverable_error()) && is_current() {
                    self.close();
                }
            }
        }
    }

    async fn dial(&self) -> Result<Open, Unreached> {
        let password = self.password().await?;
        let dialled = timeout(self.timeout, self.dial_with(password)).await;
        dialled.map_err(|_| Unreached::network(format!("there was no answer within {:?}", self.timeout)))?
    }

    async fn dial_with(&self, password: Option<String>) -> Result<Open, Unreached> {
        let stream = self.stream().await.map_err(Unreached::network)?;
        let heard = Heard::nothing();
        let stream = Listened { stream, heard: heard.clone(), sends_much: self.is_large };
        // Who asks looks to the time, and at what comes meanwhile.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        // It would log in by itself, and keep Redis' own words on a refusal to itself.
        let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
        let connected = MultiplexedConnection::new_with_config(&nobody, stream, config).await;
        let (mut connection, driver) = connected.map_err(Unreached::network)?;
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tokio::spawn(async move {
            driver.await;
            drop(guard);
        });
        let greeted = self.log_in(&mut connection, password).await;
        greeted.map_err(|error| self.login.refused(&error))?;
        Ok(Open { connection, heard, ended })
    }

    async fn log_in(&self, connection: &mut MultiplexedConnection, password: Option<String>) -> RedisResult<()> {
        if let Some(password) = password {
            let mut auth = redis::cmd("AUTH");
            // An absent one is no argument.
            auth.arg(&self.login.user).arg(password).query_async::<()>(connection).await?;
        }
        if self.address.database != 0 {
            redis::cmd("SELECT").arg(self.address.database).query_async::<()>(connection).await?;
        }
        // Without a password and with database 0 nothing has been said to it so far.
        redis::cmd("PING").query_async(connection).await
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
        let Some(name) = self.login.password.clone() else { return Ok(None) };
        let secrets = self.login.secrets.clone();
        match spawn_blocking(move || secrets.read(&BTreeSet::from([name]))).await {
            Ok(Ok((read, _))) => Ok(read.iter().next().map(|(_, value)| value.to_owned())),
            Ok(Err(error)) => Err(self.login.unread(error)),
            Err(error) => Err(Unreached { cause: Cause::Secret, reason: error.to_string(), remedy: "see the log".to_owned() }),
        }
    }

    fn name(&self) -> &'static str {
        if self.is_large { "Redis, asked for much at once," } else { "Redis" }
    }

    fn tell_unreached(&self, unreached: &Unreached) {
        let before = std::mem::replace(&mut *self.cause.lock().unwrap_or_else(PoisonError::into_inner), unreached.cause);
        if before != unreached.cause {
            // Whoever did what the last line asked for has to know what is wrong now.
            self.reports.reached();
        }
        self.tell(Trouble::All, &unreached.reason, &unreached.remedy);
    }

    pub(super) fn tell(&self, trouble: Trouble, reason: &str, remedy: &str) {
        if !self.reports.fails(trouble) {
            return;
        }
        let name = self.name();
        let what = match trouble {
            Trouble::All => "cannot be used, and services that ask for their keys",
            Trouble::Reading => "cannot be read, and services that read their keys",
            Trouble::Writing => "takes no changes, and services that change their keys",
        };
        error!(
            target: "hotbay::keyvalue", address = %self.address, reason, remedy,
            "{name} {what} get an error: {reason}; {remedy}"
        );
    }

    fn mended(&self, trouble: Trouble) {
        let name = self.name();
        let what = match trouble {
            Trouble::All => "can be used again",
            Trouble::Reading => "can be read again",
            Trouble::Writing => "takes changes again",
        };
        info!(target: "hotbay::keyvalue", address = %self.address, "{name} {what}");
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
                if link.reports.reached() {
                    link.mended(Trouble::All);
                }
                return;
            }
            Err(unreached) => link.tell_unreached(&unreached),
        }
        pause = (pause * 2).min(AGAIN_LAST);
    }
}
