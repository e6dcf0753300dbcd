//! Requests to other services (`http://NAME.internal/…`, `[grants] calls`) and to other hosts (`[grants] http`).
//!
//! ```
//! use hotbay_sdk::http::{self, Response};
//!
//! async fn price(sku: &str) -> Result<String, http::SendError> {
//!     let response = http::get(&format!("http://pricing.internal/prices/{sku}")).await?;
//!     Ok(String::from_utf8_lossy(response.body()).into_owned())
//! }
//!
//! // Natively a test says what is answered.
//! http::answer_for_tests(|request| Response::new(request.uri().path().to_owned().into()));
//! assert_eq!(pollster::block_on(price("tea")).unwrap(), "/prices/tea");
//! ```

use ::http::{Request, Response};
use bytes::Bytes;
use std::fmt;

/// Bytes of a response's body at most; more is [`SendError::TooLarge`]. Who wants to stream takes `wstd::http::Client`.
pub const RESPONSE_MAX: usize = 8 << 20;

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// The settings grant no such host: `[grants] http`, or `calls` for `NAME.internal`. To a guest a service that it may not call does
    /// not exist.
    NotGranted(String),
    /// There was no answer in time.
    Timeout,
    /// The body has more than [`RESPONSE_MAX`].
    TooLarge,
    /// Anything else, in words: a request that is none, a host that does not answer.
    Failed(String),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(host) => write!(f, "{host} is not granted, or is not there: see [grants] http and calls"),
            Self::Timeout => f.write_str("there was no answer in time"),
            Self::TooLarge => write!(f, "the response has more than {RESPONSE_MAX} bytes"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for SendError {}

/// Sends a request, and reads the whole response. A status of 400 and more is a response like any other.
///
/// # Errors
/// There is no whole response.
pub async fn send<B: Into<Bytes>>(request: Request<B>) -> Result<Response<Bytes>, SendError> {
    backend::send(request.map(Into::into)).await
}

/// `GET`.
///
/// # Errors
/// As for [`send`], or `url` is none.
pub async fn get(url: &str) -> Result<Response<Bytes>, SendError> {
    send(Request::get(url).body(Bytes::new()).map_err(|error| SendError::Failed(error.to_string()))?).await
}

/// `POST`, with a body in JSON.
///
/// # Errors
/// As for [`send`], or `url` is none, or `body` cannot be written as JSON.
#[cfg(feature = "json")]
pub async fn post_json<T: serde::Serialize + ?Sized>(url: &str, body: &T) -> Result<Response<Bytes>, SendError> {
    let failed = |error: String| SendError::Failed(error);
    let body = serde_json::to_vec(body).map_err(|error| failed(error.to_string()))?;
    let request = Request::post(url).header(::http::header::CONTENT_TYPE, "application/json").body(body);
    send(request.map_err(|error| failed(error.to_string()))?).await
}

#[cfg(target_family = "wasm")]
use crate::wasi::client as backend;

#[cfg(not(target_family = "wasm"))]
use stand_in as backend;
#[cfg(not(target_family = "wasm"))]
pub use stand_in::{answer_for_tests, refuse_for_tests};

/// What answers natively.
#[cfg(not(target_family = "wasm"))]
mod stand_in {
    use super::{Bytes, Request, Response, SendError};
    use std::cell::RefCell;

    type Answer = Box<dyn Fn(Request<Bytes>) -> Result<Response<Bytes>, SendError>>;

    thread_local! {
        static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
    }

    /// Natively: from here on every request of this thread, and so of this test, gets this answer.
    pub fn answer_for_tests(answer: impl Fn(Request<Bytes>) -> Response<Bytes> + 'static) {
        ANSWER.set(Some(Box::new(move |request| Ok(answer(request)))));
    }

    /// Natively: from here on every request of this thread fails so.
    pub fn refuse_for_tests(error: SendError) {
        ANSWER.set(Some(Box::new(move |_| Err(error.clone()))));
    }

    #[allow(clippy::unused_async, reason = "inside a component it waits")]
    pub(super) async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        ANSWER.with_borrow(|answer| match answer {
            Some(answer) => answer(request),
            None => Err(SendError::NotGranted(request.uri().to_string())),
        })
    }
}
