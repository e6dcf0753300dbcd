//! The load generator: clients that ask one service as fast as it answers, over real sockets, and look at every answer.
//!
//! It writes requests from one prepared buffer and reads answers with `httparse` into buffers that are kept, so that on a small
//! machine it takes little of the time that the server under test should have.

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Buf, BytesMut};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// An answer that takes longer is a failed one. Longer than any queue of the host, so that a slow machine alone fails nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Failures that are kept word for word; the rest is counted.
const FAILURES_KEPT: usize = 10;
/// Header fields of one answer.
const FIELDS_MAX: usize = 48;

/// Whether clients keep their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// One connection for all requests of a client, for as long as the server keeps it.
    Kept,
    /// A connection for each request.
    New,
}

/// Who asks whom for what.
#[derive(Debug, Clone)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// Path and query.
    pub path: String,
    /// Clients that ask at the same time, each one request after another.
    pub clients: usize,
    /// How they connect.
    pub connections: Connections,
}

/// When the clients stop: after so many requests together, or when told.
#[derive(Debug)]
pub struct Until {
    count: u64,
    left: AtomicU64,
    stopped: AtomicBool,
}

impl Until {
    /// After `count` requests.
    pub fn requests(count: u64) -> Arc<Self> {
        Arc::new(Self { count, left: AtomicU64::new(count), stopped: AtomicBool::new(false) })
    }

    /// When [`Until::stop`] is called.
    pub fn stopped() -> Arc<Self> {
        Self::requests(u64::MAX)
    }

    /// Lets the clients finish what they have begun and then end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Requests that have been begun.
    pub fn begun(&self) -> u64 {
        self.count - self.left.load(Ordering::Relaxed)
    }

    fn one_more(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        !self.stopped.load(Ordering::Relaxed) && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// One whole answer.
#[derive(Debug)]
pub struct Answer<'a> {
    /// When its request was begun: before the first byte was written, and before connecting where that was needed.
    pub begun: SystemTime,
    /// The status code.
    pub status: u16,
    /// `x-hotbay-revision`, empty where there is none.
    pub revision: &'a str,
    /// The body without its framing.
    pub body: &'a [u8],
}

/// What came of a load.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests asked, failed ones too.
    pub requests: u64,
    /// Requests without an answer, or with one that the check refused.
    pub failed: u64,
    /// The first failures in words.
    pub failures: Vec<String>,
    /// The longest that a request took.
    pub slowest: Duration,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Tally {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.requests).unwrap_or(u32::MAX)) / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// Adds what came of a load that ran at the same time.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.requests += other.requests;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_KEPT);
        self.slowest = self.slowest.max(other.slowest);
        self.elapsed = self.elapsed.max(other.elapsed);
        self
    }

    fn failure(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(format!("request {} of a client: {error:#}", self.requests));
        }
    }
}

/// Runs the clients until `until` says so. Each answer is shown to `check`; one that it refuses is a failed request.
///
/// # Panics
/// Where `check` does.
pub async fn run<C>(load: &Load, until: &Arc<Until>, check: C) -> Tally
where
    C: Fn(&Answer<'_>) -> Result<()> + Clone + Send + 'static,
{
    run_with(load, "", until, check).await
}

/// As [`run`], with more lines in the head of each request: `x-name: value\r\n`.
///
/// # Panics
/// Where `check` does.
pub async fn run_with<C>(load: &Load, head: &str, until: &Arc<Until>, check: C) -> Tally
where
    C: Fn(&Answer<'_>) -> Result<()> + Clone + Send + 'static,
{
    let mut request = get(load.address, &load.path, load.connections);
    request.splice(request.len() - 2..request.len() - 2, head.bytes());
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        clients.spawn(client(load.clone(), request.clone(), until.clone(), check.clone()));
    }
    let tallies = clients.join_all().await;
    let mut sum = tallies.into_iter().fold(Tally::default(), Tally::and);
    sum.elapsed = begun.elapsed();
    sum
}

async fn client(load: Load, request: Vec<u8>, until: Arc<Until>, check: impl Fn(&Answer<'_>) -> Result<()>) -> Tally {
    let mut tally = Tally::default();
    let mut kept = None;
    let mut body = Vec::new();
    while until.one_more() {
        tally.requests += 1;
        let (begun, clock) = (SystemTime::now(), Instant::now());
        body.clear();
        let exchanged = tokio::time::timeout(PATIENCE, async {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => Connection::open(load.address).await?,
            };
            let head = connection.ask(&request, |piece| body.extend_from_slice(piece)).await?;
            anyhow::Ok((head, connection))
        });
        let outcome = exchanged.await.context("no answer in time").flatten().and_then(|(head, connection)| {
            if head.keeps_connection && load.connections == Connections::Kept {
                kept = Some(connection);
            }
            check(&Answer { begun, status: head.status, revision: &head.revision, body: &body })
        });
        tally.slowest = tally.slowest.max(clock.elapsed());
        if let Err(error) = outcome {
            tally.failure(&error);
        }
    }
    tally
}

/// The bytes of a GET request.
pub fn get(address: SocketAddr, path: &str, connections: Connections) -> Vec<u8> {
    let close = if connections == Connections::New { "connection: close\r\n" } else { "" };
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{close}\r\n").into_bytes()
}

/// The head of an answer, as far as clients care.
#[derive(Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// `x-hotbay-revision`, empty where there is none.
    pub revision: String,
    keeps_connection: bool,
    framing: Framing,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(u64),
    Chunked,
}

/// One HTTP/1.1 connection of a client.
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Where the server does not accept.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(16 << 10) })
    }

    /// Sends `request`, the bytes of a whole request, and hands on the body of its answer piece by piece.
    ///
    /// # Errors
    /// Where the connection ends before the answer does, or the answer is no HTTP/1.1.
    pub async fn ask(&mut self, request: &[u8], mut take: impl FnMut(&[u8])) -> Result<Head> {
        let head = self.begin(request).await?;
        let mut body = self.body(&head);
        while let Some(piece) = body.next().await? {
            take(piece);
        }
        Ok(head)
    }

    /// Sends `request` and reads the head of its answer. The body waits until [`Connection::body`] takes it.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub async fn begin(&mut self, request: &[u8]) -> Result<Head> {
        self.stream.write_all(request).await.context("sending the request")?;
        loop {
            if let Some((used, head)) = parse_head(&self.buffer)? {
                self.buffer.advance(used);
                return Ok(head);
            }
            self.fill().await.context("reading the head")?;
        }
    }

    /// The body that belongs to `head`, which [`Connection::begin`] has just read.
    pub fn body(&mut self, head: &Head) -> Body<'_> {
        let (left, state) = match head.framing {
            Framing::Length(length) => (length, State::Last),
            Framing::Chunked => (0, State::BeforeFirst),
        };
        Body { connection: self, passed: 0, left, state }
    }

    /// Takes one line off and returns its length without the line's end.
    async fn line(&mut self) -> Result<usize> {
        loop {
            if let Some(length) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                self.buffer.advance(length + 2);
                return Ok(length);
            }
            self.fill().await?;
        }
    }

    async fn chunk_size(&mut self) -> Result<u64> {
        loop {
            match httparse::parse_chunk_size(&self.buffer).map_err(|_| anyhow!("a chunk without a size"))? {
                httparse::Status::Complete((used, size)) => {
                    self.buffer.advance(used);
                    return Ok(size);
                }
                httparse::Status::Partial => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.buffer.reserve(16 << 10);
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the connection ended before the answer did");
        Ok(())
    }
}

/// The body of an answer on its way.
pub struct Body<'connection> {
    connection: &'connection mut Connection,
    /// Bytes at the front of the buffer that were handed on.
    passed: usize,
    /// What is left of the body, or of its chunk.
    left: u64,
    state: State,
}

/// Where in its framing a body is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeFirst,
    InChunk,
    /// Nothing comes after what is left.
    Last,
}

impl Body<'_> {
    /// The next piece; `None` at the end, with the connection ready for the next request.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub async fn next(&mut self) -> Result<Option<&[u8]>> {
        self.connection.buffer.advance(std::mem::take(&mut self.passed));
        if self.left == 0 && self.state != State::Last {
            self.next_chunk().await.context("reading the chunked body")?;
        }
        if self.left == 0 {
            return Ok(None);
        }
        if self.connection.buffer.is_empty() {
            self.connection.fill().await.context("reading the body")?;
        }
        let buffer = &self.connection.buffer;
        self.passed = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        self.left -= self.passed as u64;
        Ok(buffer.get(..self.passed))
    }

    async fn next_chunk(&mut self) -> Result<()> {
        if self.state == State::InChunk {
            ensure!(self.connection.line().await? == 0, "a chunk longer than its size");
        }
        self.left = self.connection.chunk_size().await?;
        self.state = State::InChunk;
        if self.left == 0 {
            // Trailers, none as a rule, up to the empty line.
            while self.connection.line().await? > 0 {}
            self.state = State::Last;
        }
        Ok(())
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(used) = response.parse(bytes).context("no HTTP/1.1 answer")? else {
        return Ok(None);
    };
    let status = response.code.context("no status")?;
    let mut framing = None;
    let mut revision = String::new();
    let mut keeps_connection = response.version == Some(1);
    for field in response.headers.iter() {
        let value = std::str::from_utf8(field.value).unwrap_or_default();
        if field.name.eq_ignore_ascii_case("content-length") {
            framing = Some(Framing::Length(value.parse().context("content-length")?));
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            ensure!(value.eq_ignore_ascii_case("chunked"), "transfer-encoding {value}");
            framing = Some(Framing::Chunked);
        } else if field.name.eq_ignore_ascii_case("connection") {
            keeps_connection &= !value.eq_ignore_ascii_case("close");
        } else if field.name.eq_ignore_ascii_case("x-hotbay-revision") {
            value.clone_into(&mut revision);
        }
    }
    let Some(framing) = framing else {
        bail!("status {status} with a body that nothing ends");
    };
    Ok(Some((used, Head { status, revision, keeps_connection, framing })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn answering(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // One request fits one read here; the answer ends with the connection.
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer).await;
            }
        });
        address
    }

    async fn tally(answer: &'static [u8]) -> Tally {
        let load = Load { address: answering(answer).await, path: "/".to_owned(), clients: 2, connections: Connections::New };
        let check = |answer: &Answer<'_>| {
            ensure!(answer.status == 200 && answer.body == b"hello", "{answer:?}");
            Ok(())
        };
        run(&load, &Until::requests(6), check).await
    }

    #[tokio::test]
    async fn whole_answers_are_counted() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nx: y\r\n\r\n",
        ] {
            let tally = tally(answer).await;
            assert_eq!((tally.requests, tally.failed), (6, 0), "{:?}", tally.failures);
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_or_wrong_is_a_failed_request() {
        for answer in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\ncontent-le",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhullo",
            b"HTTP/1.1 503 Unavailable\r\ncontent-length: 5\r\n\r\nhello",
        ] {
            let tally = tally(answer).await;
            assert_eq!((tally.requests, tally.failed), (6, 6));
        }
    }
}
