//! A request as it comes from the host.
//!
//! It is made with as few calls into the host as there can be, since they are the greater part of what a small request
//! costs: the body is not even asked for unless the handler reads it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum_core::BoxError;
use axum_core::body::Body;
use axum_core::extract::Request;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use wasip2::http::types::{Fields, FutureTrailers, IncomingBody, IncomingRequest, Method as WasiMethod};
use wasip2::io::streams::{InputStream, StreamError};
use wstd::runtime::{AsyncPollable, WaitFor};

/// What is read in one call: as large as the pieces in which hosts pass bodies on.
const CHUNK: u64 = 64 * 1024;

/// The request with its target in origin form and the authority as `host`, which is how servers are used to see it;
/// WASI keeps the authority apart.
pub(super) fn receive(incoming: IncomingRequest) -> Result<Request, BoxError> {
    let mut headers = to_headers(&incoming.headers())?;
    if let Some(authority) = incoming.authority() {
        headers.insert(HOST, HeaderValue::try_from(authority)?);
    }
    let method = to_method(incoming.method())?;
    let target = incoming.path_with_query().map(PathAndQuery::from_maybe_shared).transpose()?;
    let uri = target.map(Uri::from).unwrap_or_default();

    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut request = Request::new(Body::new(RequestBody { length, state: State::Unread(incoming) }));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn to_headers(fields: &Fields) -> Result<HeaderMap, BoxError> {
    let entries = fields.entries();
    let mut headers = HeaderMap::with_capacity(entries.len() + 1);
    for (name, value) in entries {
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(headers)
}

fn to_method(method: WasiMethod) -> Result<Method, BoxError> {
    Ok(match method {
        WasiMethod::Get => Method::GET,
        WasiMethod::Head => Method::HEAD,
        WasiMethod::Post => Method::POST,
        WasiMethod::Put => Method::PUT,
        WasiMethod::Delete => Method::DELETE,
        WasiMethod::Connect => Method::CONNECT,
        WasiMethod::Options => Method::OPTIONS,
        WasiMethod::Trace => Method::TRACE,
        WasiMethod::Patch => Method::PATCH,
        WasiMethod::Other(name) => Method::try_from(name.as_str())?,
    })
}

/// The body of a request, read when it is polled and not before.
struct RequestBody {
    length: Option<u64>,
    state: State,
}

/// The host's resources hang on one another, and a child must be dropped before its parent: fields are dropped in the
/// order in which they stand here.
enum State {
    Unread(IncomingRequest),
    Data { wait: Wait, stream: InputStream, body: IncomingBody },
    Trailers { wait: Wait, trailers: FutureTrailers },
    Ended,
}

/// Waiting for a resource of the host, which is asked for a pollable only when there is something to wait for.
#[derive(Default)]
struct Wait {
    future: Option<Pin<Box<WaitFor>>>,
    pollable: Option<AsyncPollable>,
}

impl Wait {
    /// Done waiting, if there was anything to wait for.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(future) = &mut self.future {
            ready!(future.as_mut().poll(context));
            self.future = None;
        }
        Poll::Ready(())
    }

    /// The next `poll` waits.
    fn start(&mut self, subscribe: impl FnOnce() -> wasip2::io::poll::Pollable) {
        let pollable = self.pollable.get_or_insert_with(|| AsyncPollable::new(subscribe()));
        self.future = Some(Box::pin(pollable.wait_for()));
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl RequestBody {
    fn fail(&mut self, error: impl Into<BoxError>) -> Polled {
        self.state = State::Ended;
        Poll::Ready(Some(Err(error.into())))
    }

    fn end(&mut self, last: Option<Frame<Bytes>>) -> Polled {
        self.state = State::Ended;
        Poll::Ready(last.map(Ok))
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Unread(request) => {
                    let opened = request.consume().and_then(|body| Ok((body.stream()?, body)));
                    match opened {
                        Ok((stream, body)) => this.state = State::Data { wait: Wait::default(), stream, body },
                        Err(()) => return this.fail("the host gives no body"),
                    }
                }
                State::Data { wait, stream, .. } => {
                    ready!(wait.poll(context));
                    match stream.read(CHUNK) {
                        Ok(data) if data.is_empty() => wait.start(|| stream.subscribe()),
                        Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data.into())))),
                        Err(StreamError::Closed) => this.finish_data(),
                        Err(StreamError::LastOperationFailed(error)) => return this.fail(error.to_debug_string()),
                    }
                }
                State::Trailers { wait, trailers } => {
                    ready!(wait.poll(context));
                    match trailers.get() {
                        None => wait.start(|| trailers.subscribe()),
                        Some(Ok(Ok(Some(fields)))) => {
                            return match to_headers(&fields) {
                                Ok(fields) => this.end(Some(Frame::trailers(fields))),
                                Err(error) => this.fail(error),
                            };
                        }
                        Some(Ok(Ok(None)) | Err(())) => return this.end(None),
                        Some(Ok(Err(code))) => return this.fail(code.to_string()),
                    }
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match (self.length, &self.state) {
            (Some(length), State::Unread(_)) => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}

impl RequestBody {
    /// From the data to the trailers, which the host gives for the body once its stream is gone.
    fn finish_data(&mut self) {
        if let State::Data { wait, stream, body } = std::mem::replace(&mut self.state, State::Ended) {
            drop(wait);
            drop(stream);
            self.state = State::Trailers { wait: Wait::default(), trailers: IncomingBody::finish(body) };
        }
    }
}
