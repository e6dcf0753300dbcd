//! The public edge: connections in, HTTP/1.1 and HTTP/2 with prior knowledge (h2c), responses out.

mod bad_request;
mod dev;
mod exchange;
mod forward;
mod outgoing;
mod places;
mod watch;

pub use dev::{Dev, Unbuilt, in_lines};
pub use exchange::Edge;

use crate::{config::HttpConfig, shutdown::Shutdown};
use exchange::ConnectionInfo;
use http::{HeaderValue, header};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use places::{Place, Places};
use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};
use watch::{Activity, Protocol, Watched};

/// Bytes of a response that wait in the host for an HTTP/2 client that does not take them; of each stream.
const SEND_BUFFER: usize = 64 << 10;
/// Bytes that an HTTP/2 client may send before its request's body is read: of each stream, and of all streams of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Streams that a client opened and reset before they were looked at, above which its connection ends (rapid reset).
const RESET_STREAMS: usize = 20;
/// Pause after an accept that failed for want of descriptors: a tight loop would only burn what is short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Lines about that: one in so long.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// Silence after which a connection that is shown out is cut; what still moves on it goes on.
const FAREWELL: Duration = Duration::from_secs(5);

/// Accepts connections until the shutdown begins.
pub async fn serve(listener: TcpListener, edge: Arc<Edge>, shutdown: Shutdown) {
    let protocols = Arc::new(Protocols::new(edge.config()));
    let mut places = Places::new(edge.config().connections.as_usize(), edge.metrics().connections_full());
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.begun() => return,
            accepted = places.accept(&listener) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // A shortage fails fifty times a second, and is told once.
                if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                    told = Some(Instant::now());
                    warn!(%error, "a connection could not be accepted; those to come wait");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (edge, protocols, ending) = (edge.clone(), protocols.clone(), shutdown.clone());
        shutdown.track(async move {
            connection(stream, edge, &protocols, ending, &place).await;
            drop(place);
        });
    }
}

/// How the two protocols are spoken here.
struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    fn new(config: &HttpConfig) -> Self {
        let header_size = config.header_size.as_usize().max(8 << 10);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout.0)
            // Above `header_size` the edge answers 431 with its reason; far above it hyper answers without one.
            .max_buf_size(header_size.saturating_mul(2));
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.streams.0)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(RESET_STREAMS)
            .max_header_list_size(u32::try_from(header_size).unwrap_or(u32::MAX))
            .keep_alive_interval(config.header_timeout.0)
            .keep_alive_timeout(config.header_timeout.0);
        Self { http1, http2 }
    }
}

async fn connection(stream: TcpStream, edge: Arc<Edge>, protocols: &Protocols, shutdown: Shutdown, place: &Place) {
    let _connected = edge.metrics().connected();
    let activity = Arc::new(Activity::default());
    let Ok(info) = ConnectionInfo::of(&stream, activity.clone()) else {
        return; // The client is gone already.
    };
    // A response that is written in pieces must not wait for the client's acknowledgement of the first.
    let _ = stream.set_nodelay(true);
    let silence = edge.config().header_timeout.0;
    let begun = tokio::select! {
        // What has arrived before the shutdown is still answered.
        biased;
        begun = tokio::time::timeout(silence, Watched::of(stream, activity.clone())) => begun,
        () = async {
            shutdown.begun().await;
            tokio::time::sleep(shutdown.grace()).await;
        } => return,
        () = place.needed(&activity) => return,
    };
    let Ok(Ok((stream, protocol))) = begun else {
        return; // It said nothing that tells its protocol.
    };
    let info = Arc::new(info);
    let stream = TokioIo::new(stream);
    let ended = match protocol {
        Protocol::Http1 => {
            let ending = shutdown.clone();
            let service = service_fn(move |request| {
                let (exchanged, ending) = (exchange::exchange(edge.clone(), info.clone(), request), ending.clone());
                async move {
                    let mut response = exchanged.await?;
                    if ending.has_begun() {
                        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = protocols.http1.serve_connection(stream, service);
            // HTTP/1.1 has no word for the end but in a response. A connection that is closed between two requests may meet the
            // next one on its way, so at a hand-over it gets time for one more.
            let leave = async {
                let ending = async {
                    shutdown.begun().await;
                    activity.at_rest(shutdown.grace()).await;
                };
                tokio::select! {
                    () = ending => {}
                    () = place.needed(&activity) => {}
                }
            };
            until_its_end(connection, http1::Connection::graceful_shutdown, &activity, silence, leave).await
        }
        Protocol::Http2 => {
            let service = service_fn(move |request| exchange::exchange(edge.clone(), info.clone(), request));
            let connection = protocols.http2.serve_connection(stream, service);
            let leave = async {
                tokio::select! {
                    () = shutdown.begun() => {}
                    () = place.needed(&activity) => {}
                }
            };
            until_its_end(connection, http2::Connection::graceful_shutdown, &activity, silence, leave).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

/// Serves a connection until its client ends it, or `leave` returns, or the client is silent for `silence`.
async fn until_its_end<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    graceful_shutdown: fn(Pin<&mut C>),
    activity: &Activity,
    silence: Duration,
    leave: impl Future<Output = ()>,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = activity.silent(silence) => {}
        () = leave => {}
    }
    graceful_shutdown(connection.as_mut());
    tokio::select! {
        ended = connection => ended,
        () = activity.silent(FAREWELL) => {
            debug!(limit = ?silence, "a connection was closed whose client neither asked nor took anything");
            Ok(())
        }
    }
}
