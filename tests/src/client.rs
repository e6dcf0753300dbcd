//! Requests and responses, over HTTP/1.1 and HTTP/2 with prior knowledge.

use crate::PATIENCE;
use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use http_body_util::{
    BodyExt, Full, StreamBody,
    channel::{Channel, Sender},
    combinators::UnsyncBoxBody,
};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::{convert::Infallible, net::SocketAddr};
use tokio::net::TcpStream;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A request on its way.
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    address: SocketAddr,
    method: String,
    target: String,
    host: String,
    headers: HeaderMap,
    body: Body,
    h2: bool,
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What came after the body.
    pub trailers: HeaderMap,
}

/// A response whose body is still coming.
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    version: Version,
    body: Incoming,
    /// Keeps a connection of its own open for as long as the body is read.
    _connection: Option<Connection>,
}

/// One connection, kept between requests.
pub struct Connection {
    address: SocketAddr,
    sender: ConnectionSender,
}

enum ConnectionSender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// GET, on a connection of its own, for a task that outlives the borrow of its host.
pub async fn get(address: SocketAddr, target: &str) -> Response {
    Request::new(address, "GET", target).send().await
}

impl Request {
    pub(crate) fn new(address: SocketAddr, method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        let body = Full::default().boxed_unsync();
        Self { address, method, target, host: address.to_string(), headers: HeaderMap::new(), body, h2: false }
    }

    /// For this host instead of the address.
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// One more header; a name may come more than once.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .append(name.parse::<HeaderName>().expect("a header name"), value.parse::<HeaderValue>().expect("a header value"));
        self
    }

    /// A body of known length.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Full::new(body.into()).boxed_unsync();
        self
    }

    /// A body in chunks, with trailers after it.
    pub fn chunks(mut self, chunks: impl IntoIterator<Item = Bytes>, trailers: HeaderMap) -> Self {
        let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        if !names.is_empty() {
            // HTTP/1.1 sends the trailers that were announced, and no others.
            self.headers.insert(http::header::TRAILER, names.join(", ").parse().expect("names are a value"));
        }
        let frames = chunks.into_iter().map(Frame::data).chain((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
        let frames: Vec<_> = frames.map(Ok).collect();
        self.body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
        self
    }

    /// A body that is written while the request runs.
    pub fn writing(mut self) -> (Self, Sender<Bytes>) {
        let (sender, body) = Channel::new(1);
        self.body = body.boxed_unsync();
        (self, sender)
    }

    /// Over HTTP/2 with prior knowledge.
    pub fn h2(mut self) -> Self {
        self.h2 = true;
        self
    }

    /// Sends it and reads the response to its end.
    pub async fn send(self) -> Response {
        let what = format!("{} {}", self.method, self.target);
        self.try_send().await.unwrap_or_else(|error| panic!("{what}: {error:#}"))
    }

    /// Sends it; a connection that breaks is an error.
    pub async fn try_send(self) -> Result<Response> {
        self.try_open().await?.whole().await
    }

    /// Sends it and returns when the head of the response is there.
    pub async fn open(self) -> Reply {
        let what = format!("{} {}", self.method, self.target);
        self.try_open().await.unwrap_or_else(|error| panic!("{what}: {error:#}"))
    }

    /// As [`Self::open`]; a connection that breaks is an error.
    pub async fn try_open(self) -> Result<Reply> {
        let mut connection =
            if self.h2 { Connection::http2(self.address).await? } else { Connection::http1(self.address).await? };
        let mut reply = connection.try_open(self).await?;
        reply._connection = Some(connection);
        Ok(reply)
    }

    fn into_http(self, h2: bool) -> Result<http::Request<Body>> {
        let request = http::Request::builder().method(self.method.as_str());
        let mut request = match h2 {
            true => request.uri(format!("http://{}{}", self.host, self.target)).body(self.body)?,
            false => request.uri(self.target).header(http::header::HOST, self.host).body(self.body)?,
        };
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }
}

impl Connection {
    /// A connection to `address`, HTTP/1.1.
    pub async fn http1(address: SocketAddr) -> Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(connect(address).await?)).await?;
        // How it ends is told to whoever waits for a response.
        tokio::spawn(connection);
        Ok(Self { address, sender: ConnectionSender::Http1(sender) })
    }

    /// A connection to `address`, HTTP/2 with prior knowledge.
    pub async fn http2(address: SocketAddr) -> Result<Self> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(connect(address).await?)).await?;
        tokio::spawn(connection);
        Ok(Self { address, sender: ConnectionSender::Http2(sender) })
    }

    /// A request for this connection.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.address, method, target)
    }

    /// GET on this connection.
    pub async fn get(&mut self, target: &str) -> Response {
        let request = self.request("GET", target);
        self.send(request).await
    }

    /// Sends `request` here and reads the response to its end.
    pub async fn send(&mut self, request: Request) -> Response {
        self.try_send(request).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// As [`Self::send`]; a connection that breaks is an error.
    pub async fn try_send(&mut self, request: Request) -> Result<Response> {
        self.try_open(request).await?.whole().await
    }

    /// Sends `request` here and returns when the head of the response is there.
    pub async fn open(&mut self, request: Request) -> Reply {
        self.try_open(request).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// As [`Self::open`]; a connection that breaks is an error.
    pub async fn try_open(&mut self, request: Request) -> Result<Reply> {
        let answer = async {
            match &mut self.sender {
                ConnectionSender::Http1(sender) => {
                    sender.ready().await?;
                    anyhow::Ok(sender.send_request(request.into_http(false)?).await?)
                }
                ConnectionSender::Http2(sender) => {
                    sender.ready().await?;
                    anyhow::Ok(sender.send_request(request.into_http(true)?).await?)
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await.context("no response head in time")??;
        let (parts, body) = answer.into_parts();
        Ok(Reply { status: parts.status.as_u16(), version: parts.version, headers: parts.headers, body, _connection: None })
    }

    /// Whether the host has closed it.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            ConnectionSender::Http1(sender) => sender.is_closed(),
            ConnectionSender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until the host closes it.
    pub async fn closed(&mut self) {
        let closed = async {
            // Ready means open; asking again parks this task until the connection's state changes.
            while !self.is_closed() {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, closed).await.is_ok(), "the host left the connection open");
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("no connection to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Reply {
    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.context("nothing more of the body in time")?;
            match frame.transpose()? {
                None => return Ok(None),
                Some(frame) => {
                    // HTTP/2 may end a stream with an empty piece; trailers are no piece.
                    if let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The rest of the response.
    pub async fn whole(self) -> Result<Response> {
        // The connection is held until the body has been read.
        let Self { status, headers, version, body, _connection } = self;
        let collected = tokio::time::timeout(PATIENCE, body.collect()).await.context("no end of the body in time")?;
        let collected = collected.context("the body broke off")?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Ok(Response { status, version, headers, body: collected.to_bytes(), trailers })
    }
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// A header as text, empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header in ASCII"))
    }

    /// `x-hotbay-revision`.
    pub fn revision(&self) -> &str {
        self.header("x-hotbay-revision")
    }

    /// `x-request-id`.
    pub fn request_id(&self) -> &str {
        self.header("x-request-id")
    }
}
