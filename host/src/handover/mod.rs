//! The hand-over: a new host takes the listening sockets of the one that serves the same bay, and no request fails because of it.
//!
//! The old host listens at a Unix socket in the state folder ([`Post`]). The new one connects ([`Predecessor::greet`]), gets the
//! sockets, loads the bay, and says when everything has been decided ([`Predecessor::relieve`]). Only then the old one ends.
//!
//! | new → old | old → new |
//! |---|---|
//! | `hello`: protocol, version, bay | `offer`: version, names of the sockets, and the sockets beside it; or `refused` |
//! | `ready`: the services that it serves | `go`; or `missing`: services that would be lost; or `refused` |
//! | `accepting`: from here on it serves | |
//! | hangs up: it is reachable for the next hand-over, and the service manager knows it | |

mod message;
mod place;
mod post;
mod predecessor;
mod readiness;
mod sockets;
mod wire;

pub(crate) use place::bay_id;
pub use post::{Offered, Post};
pub use predecessor::{Predecessor, Relieved, TakeOverError};
pub use readiness::{ready, stopping};
pub use sockets::{ADMIN, PUBLIC, Sockets, SocketsError};

use std::time::Duration;

/// What both sides must speak. A host of another protocol is refused with a reason that it can read.
const PROTOCOL: u32 = 1;
/// Longest time for a step in which nobody loads anything.
const STEP: Duration = Duration::from_secs(10);
/// Longest time for a new host to load the bay; the old one serves meanwhile and loses nothing by waiting.
const LOADING: Duration = Duration::from_secs(600);
