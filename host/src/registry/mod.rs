//! The services and the route table: the only writer of routes.

mod circle;
mod entry;
mod links;
mod split;
mod table;

pub use split::{REVISION, Split};
use table::Named;
pub use table::{Found, RouteTable, Target};

use crate::{
    config::{BuildName, CronEntry, Label, RouteSpec, ServiceName, Traffic},
    runtime::{Kind, Reject, Revision},
};
use arc_swap::{ArcSwap, Guard};
use entry::{Entry, Main};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Who serves a service's routes.
#[derive(Clone)]
pub enum Serving {
    /// A good revision.
    Up(Arc<Revision>),
    /// A good revision and labelled ones, or a rule by which requests pick.
    Split(Arc<Split<Arc<Revision>>>),
    /// No revision was ever good: its routes answer 503.
    Down(ServiceName),
}

impl Serving {
    /// The revisions that requests can get.
    pub(crate) fn revisions(&self) -> Vec<&Arc<Revision>> {
        match self {
            Self::Up(revision) => vec![revision],
            Self::Split(split) => split.all().collect(),
            Self::Down(_) => Vec::new(),
        }
    }
}

/// All services of the host.
pub struct Registry {
    table: ArcSwap<RouteTable>,
    /// Told of each new table.
    published: watch::Sender<()>,
    services: Mutex<BTreeMap<ServiceName, Entry>>,
    leaving: links::Leaving,
}

type Services = BTreeMap<ServiceName, Entry>;

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
        Self {
            table: ArcSwap::from_pointee(RouteTable::empty()),
            published: watch::Sender::new(()),
            services: Mutex::default(),
            leaving: links::Leaving::default(),
        }
    }

    /// The route table of this moment. Whoever holds it sees one consistent state.
    pub fn table(&self) -> Guard<Arc<RouteTable>> {
        self.table.load()
    }

    /// Publishes `revision`: from the return on, new requests run on it. Returns whether routes were claimed or freed by it, or
    /// interfaces of services are others.
    ///
    /// # Errors
    /// A route is another's, or the services would not agree on an interface or call each other in a circle: nothing has changed.
    pub fn publish(&self, revision: Arc<Revision>) -> Result<bool, Reject> {
        let mut services = self.services();
        let routes: Arc<[RouteSpec]> = match revision.kind() {
            Kind::Library => Arc::default(),
            _ => revision.settings().routes.as_slice().into(),
        };
        let name = revision.service().clone();
        collision(&services, &name, &routes)?;
        links::agree(&services, &self.leaving, &name.clone().into(), revision.links())?;
        let entry = services.entry(name.clone()).or_insert_with(|| Entry::absent(&name));
        let links_before = match &entry.main {
            Main::Up(before) => before.links().clone(),
            Main::Down | Main::Absent => Arc::default(),
        };
        let changed = entry.routes != routes || links_before != *revision.links();
        entry.traffic = revision.settings().traffic.clone();
        if let Main::Up(before) = std::mem::replace(&mut entry.main, Main::Up(revision)) {
            self.leaving.add(name.to_string(), &before);
        }
        entry.routes = routes;
        entry.settle(&name);
        self.store(&services);
        Ok(changed)
    }

    /// Publishes `revision` under `label` of its service: from the return on it gets the share that the traffic gives to the
    /// label, and what asks for it, on the routes of the main revision. Without a main revision it waits for one.
    ///
    /// # Errors
    /// A library has no requests of which it could have a share; a service that it calls may be missing, or call it in turn.
    pub fn publish_labelled(&self, label: &Label, revision: Arc<Revision>) -> Result<(), Reject> {
        if revision.kind() == Kind::Library {
            let reason = format!("`{}@{label}` is a library, which has no requests to share", revision.service());
            return Err(Reject::new(reason, "deploy it without a label, as NAME.wasm"));
        }
        let name = revision.service().clone();
        let mut services = self.services();
        let build = BuildName { service: name.clone(), label: Some(label.clone()) };
        links::agree(&services, &self.leaving, &build, revision.links())?;
        let before = self.change(&mut services, &name, |entry| entry.labelled.insert(label.clone(), revision));
        if let Some(before) = before {
            self.leaving.add(format!("{name}@{label}"), &before);
        }
        Ok(())
    }

    /// Takes the revision under `label` out: its share goes to the main one. Returns whether there was one.
    pub fn remove_label(&self, name: &ServiceName, label: &Label) -> bool {
        let mut services = self.services();
        if services.get(name).is_none_or(|entry| !entry.labelled.contains_key(label)) {
            return false;
        }
        let before = self.change(&mut services, name, |entry| entry.labelled.remove(label));
        if let Some(before) = &before {
            self.leaving.add(format!("{name}@{label}"), before);
        }
        before.is_some()
    }

    /// Shares the traffic of a service out anew; its revisions stay as they are. Returns whether that is a change.
    pub fn set_traffic(&self, name: &ServiceName, traffic: &Traffic) -> bool {
        let mut services = self.services();
        let differs = services.get(name).is_some_and(|entry| entry.traffic != *traffic);
        if differs {
            self.change(&mut services, name, |entry| entry.traffic = traffic.clone());
        }
        differs
    }

    /// Changes what does not touch routes, and publishes it.
    fn change<T>(&self, services: &mut Services, name: &ServiceName, change: impl FnOnce(&mut Entry) -> T) -> T {
        let entry = services.entry(name.clone()).or_insert_with(|| Entry::absent(name));
        let changed = change(entry);
        entry.settle(name);
        if matches!(entry.main, Main::Absent) && entry.labelled.is_empty() {
            services.remove(name);
        }
        self.store(services);
        changed
    }

    /// The main revision of a service, for a moment: whoever keeps it keeps its code.
    pub fn main(&self, name: &ServiceName) -> Option<Arc<Revision>> {
        match &self.services().get(name)?.main {
            Main::Up(revision) => Some(revision.clone()),
            Main::Down | Main::Absent => None,
        }
    }

    /// The main or the labelled revision of this name, for a moment: whoever keeps it keeps its code.
    pub fn named(&self, name: &BuildName) -> Option<Arc<Revision>> {
        match &name.label {
            None => self.main(&name.service),
            Some(label) => self.services().get(&name.service)?.labelled.get(label).cloned(),
        }
    }

    /// The `[[cron]]` entries of all main revisions that have any.
    pub fn crons(&self) -> Vec<(ServiceName, Arc<[CronEntry]>)> {
        let services = self.services();
        let of = |(name, entry): (&ServiceName, &Entry)| match &entry.main {
            Main::Up(revision) => Some((name.clone(), revision.settings().crons.clone())),
            Main::Down | Main::Absent => None,
        };
        services.iter().filter_map(of).filter(|(_, crons)| !crons.is_empty()).collect()
    }

    /// Changes whenever a table was published, and when there may be another reason why a service is down.
    pub fn published(&self) -> watch::Receiver<()> {
        self.published.subscribe()
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
            if before.is_some_and(|entry| matches!(entry.main, Main::Up(_))) {
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
            if before.is_none_or(|before| matches!(before.main, Main::Absent) || *before.routes != *routes) {
                let entry = services.entry(name.clone()).or_insert_with(|| Entry::absent(&name));
                entry.main = Main::Down;
                entry.routes = routes.into();
                changed = true;
            }
        }
        if changed {
            self.store(&services);
        } else {
            // Why they are down may be other than before.
            self.published.send_replace(());
        }
        changed
    }

    /// Takes the routes of a service out that has no good revision.
    pub fn remove_down(&self, name: &ServiceName) {
        let mut services = self.services();
        if services.get(name).is_some_and(|entry| matches!(entry.main, Main::Down)) {
            self.change(&mut services, name, |entry| {
                entry.main = Main::Absent;
                !std::mem::take(&mut entry.routes).is_empty()
            });
        }
    }

    /// Takes the main revision and its routes out. Labelled ones get no more requests, and do so again once there is a main one.
    /// Returns whether that freed routes, or took interfaces of services away.
    pub fn remove(&self, name: &ServiceName) -> bool {
        let mut services = self.services();
        if services.get(name).is_none_or(|entry| matches!(entry.main, Main::Absent)) {
            return false;
        }
        self.change(&mut services, name, |entry| {
            let before = std::mem::replace(&mut entry.main, Main::Absent);
            let had_links = matches!(&before, Main::Up(revision) if !revision.links().is_empty());
            if let Main::Up(before) = &before {
                self.leaving.add(name.to_string(), before);
            }
            !std::mem::take(&mut entry.routes).is_empty() || had_links
        })
    }

    /// The routes of all services that have a place in the table.
    pub(crate) fn routes(&self) -> Vec<RouteSpec> {
        self.services().values().flat_map(|entry| entry.routes.iter().cloned()).collect()
    }

    /// Whether the service is here, with a good main revision or without.
    pub fn knows(&self, name: &ServiceName) -> bool {
        self.services().get(name).is_some_and(|entry| !matches!(entry.main, Main::Absent))
    }

    /// The services that have a good revision, and the labelled revisions as NAME@LABEL.
    pub fn serving(&self) -> Vec<String> {
        let services = self.services();
        let revisions = services.iter().flat_map(|(name, entry)| {
            let main = matches!(entry.main, Main::Up(_)).then(|| name.to_string());
            main.into_iter().chain(entry.labelled.keys().map(move |label| format!("{name}@{label}")))
        });
        revisions.collect()
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
        self.store_as(&services, false);
    }

    fn store(&self, services: &Services) {
        self.store_as(services, self.table.load().is_loading());
    }

    fn store_as(&self, services: &Services, loading: bool) {
        let named = Named { services: by_name(services), providers: providers(services) };
        self.table.store(Arc::new(RouteTable::build(routes(services), named, loading)));
        self.published.send_replace(());
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

/// The revisions that other services may call: the labelled ones have a share of requests and not of calls.
fn providers(services: &Services) -> HashMap<ServiceName, Arc<Revision>> {
    let exporting = services.iter().filter_map(|(name, entry)| match &entry.main {
        Main::Up(revision) if !revision.links().exports.is_empty() => Some((name.clone(), revision.clone())),
        _ => None,
    });
    exporting.collect()
}

fn routes(services: &Services) -> impl Iterator<Item = (&Serving, &RouteSpec)> {
    services.values().flat_map(|entry| entry.routes.iter().map(|route| (&entry.serving, route)))
}

/// Without a main revision or a place for one, a service is not there: nobody asks for the labelled ones.
fn by_name(services: &Services) -> HashMap<ServiceName, Serving> {
    let there = services.iter().filter(|(_, entry)| !matches!(entry.main, Main::Absent));
    there.map(|(name, entry)| (name.clone(), entry.serving.clone())).collect()
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
pub(crate) fn collide(a: &RouteSpec, b: &RouteSpec) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use http::{HeaderMap, Method};

    struct Bay(Registry, ServiceName);

    impl Bay {
        fn new() -> Self {
            let registry = Registry::new();
            registry.loaded();
            Self(registry, ServiceName::parse("orders").unwrap())
        }

        fn revision(&self, n: u8, settings: &str) -> Arc<Revision> {
            Revision::sample(&self.1, n, settings)
        }

        /// The number of the revision that a request gets, or the status that it gets instead.
        fn asks(&self, headers: &HeaderMap) -> u16 {
            let table = self.0.table();
            let Found::Hit(target) = table.find("x", "/orders", &Method::GET) else { return 404 };
            let revision = match &target.serving {
                Serving::Up(revision) => revision,
                Serving::Split(split) => split.pick(headers),
                Serving::Down(_) => return 503,
            };
            (0..10).find(|n| crate::runtime::Digest::of(&[*n]) == *revision.digest()).unwrap().into()
        }

        fn gets(&self) -> u16 {
            self.asks(&HeaderMap::new())
        }
    }

    fn beta() -> Label {
        Label::parse("beta").unwrap()
    }

    #[test]
    fn a_labelled_revision_gets_its_share_for_as_long_as_there_is_a_main_one() {
        let bay = Bay::new();
        let Bay(registry, name) = &bay;
        registry.publish_labelled(&beta(), bay.revision(2, "")).unwrap();
        assert!((bay.gets(), registry.knows(name)) == (404, false), "routes are the main revision's");
        registry.mark_down([(name.clone(), Settings::defaults(name).routes)]);
        assert_eq!(bay.gets(), 503);
        assert!(registry.publish(bay.revision(1, "[traffic]\nbeta = 100")).is_ok_and(|changed| !changed));
        assert_eq!(bay.gets(), 2);
        registry.publish_labelled(&beta(), bay.revision(3, "")).unwrap();
        assert_eq!(bay.gets(), 3, "the next one under the label");
        assert!(registry.remove(name) && !registry.knows(name));
        assert_eq!(bay.gets(), 404);
        assert!(!registry.remove(name), "it is out already");
        registry.publish(bay.revision(4, "[traffic]\nbeta = 100")).unwrap();
        assert_eq!(bay.gets(), 3, "it kept its place");
        assert!(registry.remove_label(name, &beta()) && !registry.remove_label(name, &beta()));
        assert_eq!(bay.gets(), 4, "its share is the main one's");
    }

    #[test]
    fn shares_change_without_the_revisions() {
        let bay = Bay::new();
        let Bay(registry, name) = &bay;
        let traffic = |text: &str| Settings::parse(name, text).unwrap().traffic;
        assert!(!registry.set_traffic(name, &traffic("[traffic]\nbeta = 100")), "nobody is there");
        registry.publish(bay.revision(1, "")).unwrap();
        registry.publish_labelled(&beta(), bay.revision(2, "")).unwrap();
        assert_eq!(bay.gets(), 1, "no share, no requests");
        assert!(matches!(registry.services()[name].serving, Serving::Up(_)), "and no cost");
        assert!(registry.set_traffic(name, &traffic("[traffic]\nbeta = 100")));
        assert!(!registry.set_traffic(name, &traffic("[traffic]\nbeta = 100")));
        assert_eq!(bay.gets(), 2);
        assert!(registry.set_traffic(name, &traffic("[traffic]\nheader_override = true")));
        assert_eq!(bay.gets(), 1);
        assert_eq!(bay.asks(&HeaderMap::from_iter([(REVISION, http::HeaderValue::from_static("beta"))])), 2);
        registry.publish(bay.revision(3, "")).unwrap();
        assert_eq!(bay.asks(&HeaderMap::from_iter([(REVISION, http::HeaderValue::from_static("beta"))])), 3);
    }

    /// A share, the entry or an older table that kept a revision would keep its code for ever.
    #[test]
    fn whatever_is_taken_out_is_let_go() {
        let bay = Bay::new();
        let Bay(registry, name) = &bay;
        let (main, labelled) = (bay.revision(1, "[traffic]\nbeta = 50"), bay.revision(2, ""));
        let (weak_main, weak_labelled) = (Arc::downgrade(&main), Arc::downgrade(&labelled));
        registry.publish(main).unwrap();
        registry.publish_labelled(&beta(), labelled).unwrap();
        registry.remove(name);
        assert!(weak_main.upgrade().is_none() && weak_labelled.upgrade().is_some());
        registry.remove_label(name, &beta());
        assert!(weak_labelled.upgrade().is_none() && registry.services().is_empty());
    }
}
