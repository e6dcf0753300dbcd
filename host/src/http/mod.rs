//! The public edge: connections in, HTTP/1.1 and HTTP/2 with prior knowledge (h2c), responses out.

mod exchange;
mod forward;
mod observe;
mod problem;

pub use exchange::Edge;

use crate::{config::HttpConfig, shutdown::Shutdown};
use exchange::ConnectionInfo;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tracing::{debug, warn};

/// Streams of one HTTP/2 connection at once.
const STREAMS_MAX: u32 = 256;
/// Pause after an accept that failed for want of descriptors: a tight loop would only burn what is short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections until the shutdown begins.
pub async fn serve(listener: TcpListener, edge: Arc<Edge>, shutdown: Shutdown) {
    let builder = Arc::new(builder(edge.config()));
    let places = Arc::new(Semaphore::new(edge.config().connections.as_usize()));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.begun() => return,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (edge, builder, ending) = (edge.clone(), builder.clone(), shutdown.clone());
        shutdown.track(async move {
            connection(stream, edge, &builder, ending).await;
            drop(place);
        });
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

fn builder(config: &HttpConfig) -> Builder<TokioExecutor> {
    let header_size = config.header_size.as_usize().max(8 << 10);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout.0)
        // Above `header_size` the edge answers 431 with its reason; far above it hyper answers without one.
        .max_buf_size(header_size.saturating_mul(2));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(header_size).unwrap_or(u32::MAX))
        .keep_alive_interval(config.header_timeout.0)
        .keep_alive_timeout(config.header_timeout.0);
    builder
}

async fn connection(stream: TcpStream, edge: Arc<Edge>, builder: &Builder<TokioExecutor>, shutdown: Shutdown) {
    let Ok(info) = ConnectionInfo::of(&stream) else {
        return; // The client is gone already.
    };
    // A response that is written in pieces must not wait for the client's acknowledgement of the first.
    let _ = stream.set_nodelay(true);
    let silence = edge.config().header_timeout.0;
    let first_byte = tokio::select! {
        first_byte = tokio::time::timeout(silence, stream.readable()) => first_byte,
        () = shutdown.begun() => return,
    };
    // hyper's own timer starts with the first byte, so a client that sends none is shown out here.
    if !matches!(first_byte, Ok(Ok(()))) {
        return;
    }
    let info = Arc::new(info);
    let service = service_fn(move |request| exchange::exchange(edge.clone(), info.clone(), request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}
