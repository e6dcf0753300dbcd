//! What one service has under way to other hosts, over all of its revisions: a swap does not give it as much again.

use super::resolver::LOOK_UPS_OF_ONE;
use crate::config::{OutboundConfig, ServiceName};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::Semaphore;

/// The places of one service.
pub(super) struct Share {
    pub(super) requests: Arc<Semaphore>,
    pub(super) sockets: Arc<Semaphore>,
    pub(super) look_ups: Arc<Semaphore>,
}

/// Those of all services that have a revision.
#[derive(Default)]
pub(super) struct Shares(Mutex<BTreeMap<ServiceName, Weak<Share>>>);

impl Shares {
    /// That of `service`, with room for what `config` lets one have.
    pub(super) fn of(&self, service: &ServiceName, config: &OutboundConfig) -> Arc<Share> {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(service).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let places = |most: usize| Arc::new(Semaphore::new(most));
        let (requests, sockets) = (places(config.requests.as_usize()), places(config.tcp_connections.as_usize()));
        let share = Arc::new(Share { requests, sockets, look_ups: places(LOOK_UPS_OF_ONE) });
        shares.insert(service.clone(), Arc::downgrade(&share));
        share
    }
}
