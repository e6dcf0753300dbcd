//! Services that have never been in the bay, as whoever builds them tells it: their routes answer what is going on, and no 404.

use crate::{
    config::{RouteSpec, ServiceName},
    dispatch::{Building, FirstBuild},
    registry::Registry,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The first builds of services for which nothing serves yet. Of a service that lies in the bay the host knows more.
pub struct Unbuilt {
    registry: Arc<Registry>,
    builds: Mutex<BTreeMap<ServiceName, FirstBuild>>,
}

impl Unbuilt {
    /// None yet.
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, builds: Mutex::default() }
    }

    /// A build of `service` is under way, and waited for on these routes.
    pub fn begins(&self, service: &ServiceName, routes: Vec<RouteSpec>) {
        self.tell(service, FirstBuild { state: Building::UnderWay, output: Vec::new() }, routes);
    }

    /// It failed, with these words of its tools.
    pub fn failed(&self, service: &ServiceName, routes: Vec<RouteSpec>, words: &str) {
        let output = words.lines().map(str::to_owned).collect();
        self.tell(service, FirstBuild { state: Building::Failed, output }, routes);
    }

    /// It is waited for on these routes from now on.
    pub fn moves(&self, service: &ServiceName, routes: Vec<RouteSpec>) {
        if self.knows(service) {
            self.registry.mark_down([(service.clone(), routes)]);
        }
    }

    /// Whether it has been told of this one, and nothing of it is in the bay.
    pub fn knows(&self, service: &ServiceName) -> bool {
        self.builds().contains_key(service)
    }

    /// It lies in the bay: from here on the host says how it stands.
    pub fn is_placed(&self, service: &ServiceName) {
        self.builds().remove(service);
    }

    /// Nobody builds it any more.
    pub fn is_gone(&self, service: &ServiceName) {
        if self.builds().remove(service).is_some() {
            self.registry.remove_down(service);
        }
    }

    /// How the first build of this service stands, if nothing of it has come into the bay.
    pub(super) fn of(&self, service: &ServiceName) -> Option<FirstBuild> {
        self.builds().get(service).cloned()
    }

    fn tell(&self, service: &ServiceName, build: FirstBuild, routes: Vec<RouteSpec>) {
        self.builds().insert(service.clone(), build);
        // Which tells pages that there is something new to see, too.
        self.registry.mark_down([(service.clone(), routes)]);
    }

    /// Nothing that can panic runs under the lock.
    fn builds(&self) -> MutexGuard<'_, BTreeMap<ServiceName, FirstBuild>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
