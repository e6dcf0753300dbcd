//! The services and the route table: the only writer of routes.

mod table;

pub use table::{Found, RouteTable, Target};

use crate::{
    config::{RouteSpec, ServiceName},
    runtime::{Kind, Reject, Revision},
};
use arc_swap::{ArcSwap, Guard};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Who serves a service's routes.
#[derive(Clone)]
pub enum Serving {
    /// A good revision.
    Up(Arc<Revision>),
    /// No revision was ever good: its routes answer 503.
    Down(ServiceName),
}

/// What the registry knows of one service.
#[derive(Clone)]
struct Entry {
    serving: Serving,
    routes: Arc<[RouteSpec]>,
}

/// All services of the host.
pub struct Registry {
    table: ArcSwap<RouteTable>,
    services: Mutex<BTreeMap<ServiceName, Entry>>,
}

/// Another service owns a route already.
#[derive(Debug, thiserror::Error)]
#[error("its route `{route}` collides with {}", self.whose())]
pub struct Conflict {
    route: String,
    theirs: String,
    /// None where both are in the same settings.
    owner: Option<ServiceName>,
}

impl Conflict {
    fn whose(&self) -> String {
        match &self.owner {
            Some(owner) => format!("the route `{}` of service `{owner}`, which was there earlier and keeps it", self.theirs),
            None => format!("its own route `{}`", self.theirs),
        }
    }
}

impl From<Conflict> for Reject {
    fn from(conflict: Conflict) -> Self {
        let remedy = match &conflict.owner {
            Some(owner) => {
                format!("change `path`, `host` or `methods` in one of the two settings files, or take `{owner}` out of the bay")
            }
            None => "take one of the two out of its settings, or change its `path`, `host` or `methods`".to_owned(),
        };
        Self::new(conflict.to_string(), remedy)
    }
}

impl Registry {
    /// No services yet; until [`Self::loaded`], what is not there may still come.
    pub fn new() -> Self {
        Self { table: ArcSwap::from_pointee(RouteTable::empty()), services: Mutex::default() }
    }

    /// The route table of this moment. Whoever holds it sees one consistent state.
    pub fn table(&self) -> Guard<Arc<RouteTable>> {
        self.table.load()
    }

    /// Publishes `revision`: from the return on, new requests run on it. Returns whether routes were claimed or freed by it.
    ///
    /// # Errors
    /// [`Conflict`]: nothing has changed.
    pub fn publish(&self, revision: Arc<Revision>) -> Result<bool, Conflict> {
        let mut services = self.services();
        let routes: Arc<[RouteSpec]> = match revision.kind() {
            Kind::Library => Arc::default(),
            _ => revision.settings().routes.as_slice().into(),
        };
        let name = revision.service().clone();
        collision(&services, &name, &routes)?;
        let before = services.insert(name, Entry { serving: Serving::Up(revision), routes: routes.clone() });
        self.store(&services);
        Ok(before.map_or(!routes.is_empty(), |before| before.routes != routes))
    }

    /// Whether `name` could publish `routes` at this moment.
    ///
    /// # Errors
    /// [`Conflict`]: another service owns one of them.
    pub fn check(&self, name: &ServiceName, routes: &[RouteSpec]) -> Result<(), Conflict> {
        collision(&self.services(), name, routes)
    }

    /// Makes the routes of services without a good revision answer 503 instead of 404, unless a revision serves; a route that
    /// another service owns stays with it. The earlier of two in `down` owns what both claim. One new table for all of them.
    /// Returns whether routes were claimed or freed by it.
    pub fn mark_down(&self, down: impl IntoIterator<Item = (ServiceName, Vec<RouteSpec>)>) -> bool {
        let mut services = self.services();
        let mut changed = false;
        for (name, mut routes) in down {
            let before = services.get(&name);
            if before.is_some_and(|entry| matches!(entry.serving, Serving::Up(_))) {
                continue;
            }
            let claimed = std::mem::take(&mut routes);
            for route in claimed {
                routes.push(route);
                // The last one falls to another service, or to one of its own before it.
                if collision(&services, &name, &routes).is_err() {
                    routes.pop();
                }
            }
            if before.is_none_or(|before| *before.routes != *routes) {
                services.insert(name.clone(), Entry { serving: Serving::Down(name), routes: routes.into() });
                changed = true;
            }
        }
        if changed {
            self.store(&services);
        }
        changed
    }

    /// Takes the service out. Returns whether that freed routes.
    pub fn remove(&self, name: &ServiceName) -> bool {
        let mut services = self.services();
        let Some(removed) = services.remove(name) else {
            return false;
        };
        self.store(&services);
        !removed.routes.is_empty()
    }

    /// Whether the service is here, with a good revision or without.
    pub fn knows(&self, name: &ServiceName) -> bool {
        self.services().contains_key(name)
    }

    /// The services that have a good revision.
    pub fn serving(&self) -> Vec<String> {
        let services = self.services();
        let up = services.iter().filter(|(_, entry)| matches!(entry.serving, Serving::Up(_)));
        up.map(|(name, _)| name.to_string()).collect()
    }

    /// Lets go of all revisions: the host ends, and nobody asks any more.
    pub fn clear(&self) {
        let mut services = self.services();
        services.clear();
        self.store(&services);
    }

    /// From now on a request without a route is a 404: everything that was in the bay at the start has been decided.
    pub fn loaded(&self) {
        let services = self.services();
        self.table.store(Arc::new(RouteTable::build(routes(&services), false)));
    }

    fn store(&self, services: &BTreeMap<ServiceName, Entry>) {
        let loading = self.table.load().is_loading();
        self.table.store(Arc::new(RouteTable::build(routes(services), loading)));
    }

    /// The lock is held while a table is built, so that no publish is lost to another; readers never take it.
    fn services(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Entry>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

fn routes(services: &BTreeMap<ServiceName, Entry>) -> impl Iterator<Item = (&Serving, &RouteSpec)> {
    services.values().flat_map(|entry| entry.routes.iter().map(|route| (&entry.serving, route)))
}

fn collision(services: &BTreeMap<ServiceName, Entry>, name: &ServiceName, mine: &[RouteSpec]) -> Result<(), Conflict> {
    // Each service alone is checked too: two of its own routes may collide.
    for (position, route) in mine.iter().enumerate() {
        let earlier = mine.iter().take(position).map(|route| (name, route));
        let others = services.iter().filter(|(owner, _)| *owner != name);
        let others = others.flat_map(|(owner, entry)| entry.routes.iter().map(move |route| (owner, route)));
        for (owner, theirs) in earlier.chain(others) {
            if route.host == theirs.host && collide(route, theirs) {
                return Err(Conflict {
                    route: route.to_string(),
                    theirs: theirs.to_string(),
                    owner: (owner != name).then(|| owner.clone()),
                });
            }
        }
    }
    Ok(())
}

/// Whether two routes of one host claim the same requests with the same right; `/a/{x}` and `/a/b` do not, since the nearer wins.
fn collide(a: &RouteSpec, b: &RouteSpec) -> bool {
    let (mine, theirs) = (a.path.normal(), b.path.normal());
    if mine == theirs {
        return a.methods.overlaps(&b.methods);
    }
    // Most pairs part before their first parameter; only the others need the router's own word.
    let literal = |path: &'_ str| path.split('{').next().unwrap_or_default().len();
    let shared = literal(mine).min(literal(theirs));
    if mine.as_bytes().get(..shared) != theirs.as_bytes().get(..shared) {
        return false;
    }
    let mut router = matchit::Router::new();
    router.insert(mine, ()).is_ok() && router.insert(theirs, ()).is_err()
}
