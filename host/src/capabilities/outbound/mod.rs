//! What a guest asks of other hosts: `wasi:http` requests here, TCP connections in `tcp`. Either goes out where a grant covers it,
//! and is denied in the interface's own words where not.

mod address;
mod asker;
mod body;
mod client;
mod failure;
mod network;
mod pool;
mod resolver;
mod share;
mod tally;
mod tcp;
mod unread;

pub(crate) use client::OutboundClient;
pub use client::Reach;
pub use network::{Network, NetworkError};
pub(crate) use tcp::{Sockets, SocketsView, add_sockets, add_sockets_of_async};

use super::{
    calls::{Due, Errand, Unanswered},
    denials::Denials,
};
use crate::telemetry::Capability;
use asker::Asker;
use client::Destination;
use failure::Failure;
use http::{Request, Response};
use std::{fmt::Display, future::ready, sync::Arc};
use unread::ReadToItsEnd;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answer = Box<dyn Future<Output = Result<(Response<WasiBody>, Transmission), Error>> + Send>;

/// Bytes of a body that a guest hands over at once. A body that nobody reads holds two of these in the host's memory, outside
/// the guest's own budget, for each handle that the guest may have.
const CHUNK: usize = 32 << 10;

/// The outbound side of one instance.
pub(crate) struct OutboundHttp {
    client: Arc<OutboundClient>,
    request_id: String,
    denials: Denials,
    /// Made at the first call of a request: most requests make none.
    asker: Option<Arc<Asker>>,
    /// What calls take along; absent where none are granted, and before the first request.
    errand: Option<Errand>,
    /// Whether what is under way is polled apart from the guest's store.
    apart: bool,
}

impl OutboundHttp {
    pub(crate) fn new(client: Arc<OutboundClient>) -> Self {
        let (request_id, denials) = (String::new(), Denials::default());
        Self { client, request_id, denials, asker: None, errand: None, apart: false }
    }

    /// The store polls nothing of what is under way: wasmtime-wasi gives each request of WASI 0.2 a task of its own, and the
    /// guest can make no others.
    pub(crate) fn is_apart(&mut self) {
        self.apart = true;
    }

    /// What is asked for from here on belongs to this request.
    pub(crate) fn begin(&mut self, errand: &Errand) {
        self.request_id.clear();
        self.request_id.push_str(&errand.request_id);
        self.denials.clone_from(&errand.denials);
        self.asker = None;
        self.errand = self.client.callees.any().then(|| errand.clone());
    }

    /// What calls take along.
    pub(crate) fn errand(&self) -> Errand {
        self.errand.clone().unwrap_or_else(Errand::nobodys)
    }

    /// By when the request that began must be answered.
    pub(crate) fn is_due(&mut self, due: Option<Arc<Due>>) {
        if let Some(errand) = &mut self.errand {
            errand.due = due;
        }
    }

    /// The request that the instance works for.
    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Who is told of what is denied to that request.
    pub(crate) fn denials(&self) -> &Denials {
        &self.denials
    }

    /// TCP of an instance to which none is granted: told and counted like any call that is denied. `wanted` is where to.
    fn deny_tcp(&mut self, destination: &impl Display, wanted: &str, reason: &str) {
        self.client.metrics().denied(Capability::Tcp);
        let grant = self.client.line_with_tcp(wanted);
        self.asker().denied("tcp", destination, reason, Some(&grant));
    }

    fn asker(&mut self) -> &Arc<Asker> {
        self.asker.get_or_insert_with(|| self.client.asker(&self.request_id, &self.denials))
    }

    /// Whether anything that was asked for is still under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.asker.as_ref().is_some_and(|asker| Arc::strong_count(asker) > 1)
    }
}

impl WasiHttpHooks for OutboundHttp {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    /// Whoever drops the future, or the body that it leads to, ends the call: a deadline and a client that leaves drop the store
    /// with all that the guest had.
    fn send_request(&mut self, request: Request<WasiBody>, options: Option<RequestOptions>, _sent: Transmission) -> Answer {
        let asker = self.asker().clone();
        let client = self.client.clone();
        let request = request.map(ReadToItsEnd::of);
        match client.admit(request.method(), request.uri()) {
            Ok(Destination::Host(origin)) => Box::new(async move {
                let response = client.send(origin, request, options, asker).await?;
                Ok((response, Box::new(ready(Ok(()))) as Transmission))
            }),
            Ok(Destination::Service(callee)) => {
                let errand = self.errand();
                let called = client.callees.call(&callee, request, options, errand, self.apart, asker.clone());
                Box::new(async move {
                    let response = called.await.map_err(|unanswered| match unanswered {
                        Unanswered::Told(error) => error,
                        Unanswered::Missing => {
                            let failure = Failure::missing();
                            asker.tell(callee.authority(), &failure);
                            failure.error
                        }
                    })?;
                    Ok((response, Box::new(ready(Ok(()))) as Transmission))
                })
            }
            Err(failure) => {
                asker.tell(&request.uri().authority().map_or("", |authority| authority.as_str()), &failure);
                Box::new(ready(Err(failure.error)))
            }
        }
    }
}
