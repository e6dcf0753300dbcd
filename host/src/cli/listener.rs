//! Where a host answers: its sockets, and the process around them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{io, net::SocketAddr};
use tokio::{net::TcpListener, runtime::Runtime};
use tracing::warn;

/// Tasks after which a thread looks at its sockets although it has more of them: with 61, which is usual, a request that comes in
/// waits for as many of a service that is flooded.
const EVENT_INTERVAL: u32 = 8;

/// Ports after the usual one that are tried where it is taken.
const NEXT_PORTS: u16 = 100;

/// The threads of a host.
pub(super) fn runtime() -> Result<Runtime, String> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().event_interval(EVENT_INTERVAL).global_queue_interval(EVENT_INTERVAL).build();
    runtime.map_err(|error| format!("the runtime does not start: {error}"))
}

/// Takes all the descriptors that this user may have: the usual 1024 are fewer than `http.connections`.
pub(super) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        warn!(%error, "the limit of open files cannot be raised; connections beyond it wait");
    }
}

/// Listens there, or says what is in the way.
pub(super) async fn bind(address: SocketAddr, flag: &str) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address).await.map_err(|error| bind_error(address, flag, &error))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    Ok((listener, bound))
}

/// Listens there, or at the next free port where another process has it.
pub(super) async fn bind_near(address: SocketAddr, flag: &str) -> Result<(TcpListener, SocketAddr), String> {
    for port in address.port()..=address.port().saturating_add(NEXT_PORTS) {
        match TcpListener::bind(SocketAddr::new(address.ip(), port)).await {
            Ok(listener) => {
                let bound = listener.local_addr().map_err(|error| error.to_string())?;
                return Ok((listener, bound));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(bind_error(address, flag, &error)),
        }
    }
    bind(address, flag).await
}

fn bind_error(address: SocketAddr, flag: &str, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("something else listens there, another hotbay perhaps; stop it, or take another with {flag} 127.0.0.1:0")
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need privileges; take a higher one, such as {flag} 127.0.0.1:8080")
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address; see `ip address`".to_owned(),
        _ => format!("take another with {flag}"),
    };
    format!("cannot listen on {address}: {error}; {remedy}")
}
