//! The harness of Hotbay's tests: the real binary, real files, real sockets.
//!
//! A test starts a [`Host`] on a bay of its own, places builds from [`guests`], asks over HTTP, and waits for what the host
//! says in its log. Nothing sleeps: every wait is for an event and ends with the log where it does not come.
//!
//! ```ignore
//! let host = Host::builder().service("hello", &guests::fixture("probe")).start().await;
//! let next = guests::revision("probe", 2);
//! host.place("hello", &next, How::Rename);
//! host.wait_published("hello", &guests::digest(&next)).await;
//! assert_eq!(host.get("/hello/marker").await.text(), guests::marker(2));
//! ```

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on ends and says why"
)]

pub mod admin;
pub mod bombs;
pub mod client;
pub mod guests;
pub mod host;
pub mod load;
pub mod log;
pub mod name_server;
pub mod redis;
pub mod resources;
pub mod upstream;

pub use admin::{Admin, Message, Messages};
pub use client::{Connection, Reply, Request, Response};
pub use host::{Builder, Finished, Host, How};
pub use log::{Event, Tail};
pub use name_server::NameServer;
pub use redis::Redis;
pub use resources::Resources;
pub use rustix::process::Signal;
pub use upstream::{Authority, Gate, Peer, Upstream};

use std::time::Duration;

/// The longest that anything may take before a test gives up: generous, since machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);
