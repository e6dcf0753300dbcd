//! `wasi:keyvalue`: what a service keeps beyond its instances. Each service has a space of its own, with a quota.

mod access;
mod backup;
mod change;
mod database;
mod failure;
mod interface;
mod limits;
mod redis;
mod report;
mod store;
mod tables;
mod turns;
mod writer;

pub(crate) use access::{KeyValueAccess, Space};
pub use failure::Failure as KeyValueFailure;
pub(crate) use interface::{HandleMemory, KeyValueView, VERSION, add_keyvalue};
pub use store::KeyValue;
