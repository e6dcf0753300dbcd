//! TCP connections of guests (`wasi:sockets`): to hosts and ports that a grant names, as many at once as may be, and no other use of
//! a socket.
//!
//! The engine's own `wasi:sockets` does the work. Of it the host takes over what it has to know of: names are looked up by the host
//! (`names`), and sockets are counted from when they are made until nothing of them is left (`linked`). Every address is asked for
//! (`guest`) before the system hears of it.

mod client;
mod guest;
mod linked;
mod names;
mod resolved;
mod sockets;

pub(super) use client::TcpClient;
pub(crate) use linked::{add_sockets, add_sockets_of_async};
pub(crate) use sockets::{Sockets, SocketsView};
