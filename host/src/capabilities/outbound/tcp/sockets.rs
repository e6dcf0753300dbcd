//! The sockets of one instance, and what the host's side of it lends to the interfaces.

use super::{
    super::{OutboundHttp, client::OutboundClient},
    client::Place,
    guest::{Found, Guest, NameFailure},
};
use crate::capabilities::Denials;
use std::{collections::BTreeMap, future::ready, sync::Arc};
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi::{WasiCtxBuilder, sockets::WasiSocketsCtxView};

/// The sockets of one instance to which TCP is granted. They close with it.
pub(crate) struct Sockets {
    guest: Arc<Guest>,
    /// The place of each, by its handle.
    places: BTreeMap<u32, Arc<Place>>,
}

impl Sockets {
    /// None where nothing is granted.
    pub(crate) fn granted(outbound: &OutboundClient) -> Option<Box<Self>> {
        let client = outbound.tcp()?;
        Some(Box::new(Self { guest: Guest::new(client.clone()), places: BTreeMap::new() }))
    }

    /// Lets the guest have sockets, each use of which is held against the grants.
    pub(crate) fn open(&self, wasi: &mut WasiCtxBuilder) {
        let guest = self.guest.clone();
        wasi.allow_tcp(true).socket_addr_check(move |address, usage| Box::pin(ready(guest.allows(address, usage))));
    }

    /// What is asked for from here on belongs to this request.
    pub(crate) fn begin(&mut self, request_id: &str, denials: &Denials) {
        self.guest.begin(request_id, denials);
    }
}

/// What the interfaces need of an instance.
pub(crate) struct SocketsView<'a> {
    /// Absent where no TCP is granted.
    pub(crate) sockets: Option<&'a mut Sockets>,
    /// Tells of what is denied where none is.
    pub(crate) outbound: &'a mut OutboundHttp,
    /// The engine's own side.
    pub(crate) wasi: WasiSocketsCtxView<'a>,
}

/// Why there is no socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSocket {
    /// None is granted.
    Denied,
    /// There are as many as may be.
    Limit,
}

impl SocketsView<'_> {
    pub(super) fn place(&mut self) -> Result<Place, NoSocket> {
        match &self.sockets {
            Some(sockets) => sockets.guest.client.place().ok_or(NoSocket::Limit),
            None => {
                self.outbound.deny_tcp(&"a socket", "HOST", "no TCP is granted");
                Err(NoSocket::Denied)
            }
        }
    }

    /// The socket of this handle has that place.
    pub(super) fn hold(&mut self, handle: u32, place: Place) {
        if let Some(sockets) = &mut self.sockets {
            sockets.places.insert(handle, Arc::new(place));
        }
    }

    /// The place of a socket, for streams that may outlive its handle.
    pub(super) fn held(&self, handle: u32) -> Option<Arc<Place>> {
        self.sockets.as_ref().and_then(|sockets| sockets.places.get(&handle).cloned())
    }

    /// The handle was dropped.
    pub(super) fn release(&mut self, handle: u32) {
        if let Some(sockets) = &mut self.sockets {
            sockets.places.remove(&handle);
        }
    }

    pub(super) fn look_up(&mut self, name: &str) -> Result<AbortOnDropHandle<Found>, NameFailure> {
        match &self.sockets {
            Some(sockets) => sockets.guest.look_up(name),
            None => {
                self.outbound.deny_tcp(&name, name, "no TCP is granted, so no name is looked up");
                Err(NameFailure::Denied)
            }
        }
    }
}
