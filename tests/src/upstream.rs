//! Other hosts, as a guest finds them: what they answer is written out by the test, byte by byte.

use crate::PATIENCE;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A server on a free port of this machine. Dropping it ends it.
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

/// What came in.
struct Seen {
    connections: watch::Sender<usize>,
    closed: watch::Sender<usize>,
    heads: Mutex<Vec<String>>,
}

/// Another host that keeps guests waiting until a test lets them go on.
pub struct Gate {
    upstream: Upstream,
    open: watch::Sender<bool>,
}

impl Gate {
    /// One that is shut.
    pub async fn shut() -> Self {
        let open = watch::Sender::new(false);
        let opens = open.clone();
        let serve = move |mut peer: Peer| {
            let mut opens = opens.subscribe();
            async move {
                while peer.head().await.is_some() && opens.wait_for(|is_open| *is_open).await.is_ok() {
                    peer.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            }
        };
        Self { upstream: Upstream::serving(serve).await, open }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// The lines of `[grants]` for a guest that finds it by the variable `GATE`.
    pub fn grants(&self) -> String {
        format!("http = [\"http://{0}\"]\nenv = {{ GATE = \"{0}\" }}\n", self.address())
    }

    /// Waits until a guest waits here.
    pub async fn asked(&self) {
        self.upstream.wait_connections(1).await;
    }

    /// Lets those that wait go on, and all that come later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

/// One connection of a client, from the server's side.
pub struct Peer {
    stream: BufReader<Box<dyn Bytes>>,
    seen: Arc<Seen>,
}

/// Bytes both ways.
pub trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A certificate authority of one test, in PEM, and what a server of its needs.
pub struct Authority {
    /// The certificate that clients must trust.
    pub pem: String,
    server: Arc<ServerConfig>,
}

impl Authority {
    /// One that has signed for these names and addresses.
    pub fn of<const N: usize>(names: [&str; N]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
        let signed = CertificateParams::new(names).and_then(|params| params.signed_by(&key, &issuer)).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let server = builder.with_single_cert(vec![signed.der().clone()], key).expect("a certificate with its key");
        Self { pem, server: Arc::new(server) }
    }
}

impl Upstream {
    /// Each connection is given to `serve`.
    pub async fn serving<F: Future<Output = ()> + Send>(serve: impl Fn(Peer) -> F + Clone + Send + Sync + 'static) -> Self {
        Self::start("127.0.0.1:0", None, serve).await
    }

    /// As [`Self::serving`], at this address.
    pub async fn at<F: Future<Output = ()> + Send>(
        address: &str,
        serve: impl Fn(Peer) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start(address, None, serve).await
    }

    /// Each request is answered with these bytes; connections are kept.
    pub async fn answering(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::serving(move |peer| answer_all(peer, answer.clone())).await
    }

    /// As [`Self::answering`], over TLS.
    pub async fn answering_tls(authority: &Authority, answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::start("127.0.0.1:0", Some(authority.server.clone().into()), move |peer| answer_all(peer, answer.clone())).await
    }

    /// Each connection goes on to `target`, and is over TLS until here.
    pub async fn relaying_tls(authority: &Authority, target: SocketAddr) -> Self {
        Self::start("127.0.0.1:0", Some(authority.server.clone().into()), move |mut peer| async move {
            let mut beyond = TcpStream::connect(target).await.expect("the target listens");
            // Either side may end it in whatever way.
            let _ = tokio::io::copy_bidirectional(&mut peer.stream, &mut beyond).await;
        })
        .await
    }

    async fn start<F: Future<Output = ()> + Send>(
        address: &str,
        tls: Option<TlsAcceptor>,
        serve: impl Fn(Peer) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen { connections: watch::channel(0).0, closed: watch::channel(0).0, heads: Mutex::default() });
        let task = tokio::spawn({
            let seen = seen.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    seen.connections.send_modify(|count| *count += 1);
                    let (seen, tls, serve) = (seen.clone(), tls.clone(), serve.clone());
                    tokio::spawn(async move {
                        if let Some(stream) = encrypted(stream, tls).await {
                            serve(Peer { stream: BufReader::new(stream), seen: seen.clone() }).await;
                        }
                        seen.closed.send_modify(|count| *count += 1);
                    });
                }
            }
        });
        Self { address, seen, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The grant for it: `"http://127.0.0.1:PORT"`.
    pub fn grant(&self) -> String {
        format!("[grants]\nhttp = [\"http://{}\"]\n", self.address)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        *self.seen.connections.borrow()
    }

    /// Waits until so many connections have ended.
    pub async fn wait_closed(&self, count: usize) {
        let mut closed = self.seen.closed.subscribe();
        let waited = tokio::time::timeout(PATIENCE, closed.wait_for(|ended| *ended >= count)).await;
        assert!(waited.is_ok(), "{} connections, and fewer than {count} of them ended", self.connections());
    }

    /// Waits until so many connections have come.
    pub async fn wait_connections(&self, count: usize) {
        let mut connections = self.seen.connections.subscribe();
        let waited = tokio::time::timeout(PATIENCE, connections.wait_for(|come| *come >= count)).await;
        assert!(waited.is_ok(), "fewer than {count} connections: {}", self.connections());
    }

    /// The heads of requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn encrypted(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Box<dyn Bytes>> {
    stream.set_nodelay(true).ok()?;
    match tls {
        None => Some(Box::new(stream)),
        Some(tls) => Some(Box::new(tls.accept(stream).await.ok()?)),
    }
}

async fn answer_all(mut peer: Peer, answer: String) {
    while peer.head().await.is_some() {
        if !peer.write(&answer).await {
            return;
        }
    }
}

impl Peer {
    /// The head of the next request; none where the client has closed the connection.
    pub async fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        self.seen.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
        Some(head)
    }

    /// The next piece of a body in chunks; none at its end.
    pub async fn chunk(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut data = vec![0; size + 2];
        self.stream.read_exact(&mut data).await.ok()?;
        data.truncate(size);
        (size > 0).then(|| String::from_utf8_lossy(&data).into_owned())
    }

    /// Writes to the client; false where it has gone.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Waits until the client closes the connection.
    pub async fn wait_closed(&mut self) {
        let mut rest = [0; 1024];
        while matches!(self.stream.read(&mut rest).await, Ok(1..)) {}
    }
}
