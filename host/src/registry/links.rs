//! Whether the services agree on the interfaces that they call each other by.

use super::{Registry, Services, circle::circle, entry::Main};
use crate::{
    config::{BuildName, ServiceName},
    runtime::{Interface, Links, Reject, Revision, brief, difference},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Revisions that were replaced or taken out, and whose requests may go on to call other services until they end.
#[derive(Default)]
pub(super) struct Leaving(Mutex<Vec<Left>>);

struct Left {
    /// NAME or NAME@LABEL.
    name: String,
    revision: Weak<Revision>,
}

impl Leaving {
    /// From now on `revision` gets no new requests.
    pub(super) fn add(&self, name: String, revision: &Arc<Revision>) {
        if !revision.links().imports.is_empty() {
            let mut all = self.all();
            all.retain(|one| one.revision.strong_count() > 0);
            all.push(Left { name, revision: Arc::downgrade(revision) });
        }
    }

    /// Those that still have requests.
    pub(super) fn there(&self) -> Vec<(String, Arc<Revision>)> {
        let told = |one: &Left| Some((format!("a revision of `{}` that still drains", one.name), one.revision.upgrade()?));
        self.all().iter().filter_map(told).collect()
    }

    /// Taken while the services are, and never the other way round. Nothing that can panic runs under it.
    fn all(&self) -> MutexGuard<'_, Vec<Left>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Whether all that `links` imports is exported by a good revision of a service that is granted, with the same types.
    ///
    /// # Errors
    /// What is missing or differs, and what to do.
    pub fn check_imports(&self, links: &Arc<Links>) -> Result<(), Reject> {
        imports(&self.services(), links)
    }

    /// Whether `links` could be published as those of `name` at this moment: what it imports, what others import of it, and whether
    /// they would call each other in a circle.
    ///
    /// # Errors
    /// What is missing, differs or closes a circle, and what to do.
    pub fn check_links(&self, name: &BuildName, links: &Arc<Links>) -> Result<(), Reject> {
        agree(&self.services(), &self.leaving, name, links)
    }
}

/// What `service` exports at this moment.
fn exports<'a>(services: &'a Services, service: &ServiceName) -> Option<&'a BTreeMap<String, Interface>> {
    match &services.get(service)?.main {
        Main::Up(revision) => Some(&revision.links().exports),
        Main::Down | Main::Absent => None,
    }
}

/// Whether all services agree to `links` as those of `name`.
pub(super) fn agree(services: &Services, leaving: &Leaving, name: &BuildName, links: &Arc<Links>) -> Result<(), Reject> {
    imports(services, links)?;
    if name.label.is_none() {
        dependents(services, leaving, &name.service, links)?;
    }
    circle(services, leaving, name, links)
}

/// Whether `links` import something that no service exports to them.
pub(super) fn is_missing(services: &Services, links: &Links) -> bool {
    let offers = |interface: &String| {
        links.granted.iter().any(|service| exports(services, service).is_some_and(|all| all.contains_key(interface)))
    };
    !links.imports.keys().all(offers)
}

fn imports(services: &Services, links: &Arc<Links>) -> Result<(), Reject> {
    for (interface, wanted) in &links.imports {
        let offers = links.granted.iter().filter_map(|service| Some((service, exports(services, service)?.get(interface)?)));
        let offers: Vec<_> = offers.collect();
        if offers.is_empty() {
            return Err(missing(services, links, interface));
        }
        for (service, offered) in offers {
            if let Some(differs) = difference(wanted, offered) {
                return Err(Reject::of_links(
                    links,
                    format!("it calls `{interface}`, which the service `{service}` exports with other types: {differs}"),
                    format!(
                        "build it against the WIT of `{service}`, or let `{service}` export the version that it calls beside its \
                         own; it is tried again whenever `{service}` changes"
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn missing(services: &Services, links: &Arc<Links>, interface: &str) -> Reject {
    let granted: Vec<_> = links.granted.iter().map(|service| format!("`{service}`")).collect();
    let ungranted = services.keys().find(|service| exports(services, service).is_some_and(|all| all.contains_key(interface)));
    if let Some(service) = ungranted {
        let names: Vec<_> = links.granted.iter().chain([service]).map(|service| format!("\"{service}\"")).collect();
        return Reject::of_links(
            links,
            format!("it calls `{interface}` of the service `{service}`, which is not granted"),
            format!("add `calls = [{}]` to [grants] in its settings", names.join(", ")),
        );
    }
    let package = interface.split('/').next().unwrap_or(interface);
    let remedy = format!(
        "put a service that exports it into the bay and name it in `calls` of [grants], or compose the component of `{package}` into \
         this one (wac plug); it is tried again by itself"
    );
    let reason = match granted.as_slice() {
        [] => format!("it imports `{interface}`, which no service here exports, and is granted no calls"),
        [one] => format!("it waits for a good revision of {one} that exports `{interface}`"),
        several => format!("it waits for a good revision of one of {} that exports `{interface}`", several.join(", ")),
    };
    Reject::of_links(links, reason, remedy)
}

/// Whether what serves now, or still ends requests, could go on to call `name` if it exported what `links` does.
fn dependents(services: &Services, leaving: &Leaving, name: &ServiceName, links: &Arc<Links>) -> Result<(), Reject> {
    let before = exports(services, name);
    let serving = revisions(services).map(|(dependent, revision)| (format!("`{dependent}`"), revision.clone()));
    let mut told = Vec::new();
    for (dependent, revision) in serving.chain(leaving.there()).filter(|(_, revision)| revision.service() != name) {
        let theirs = revision.links();
        if !theirs.granted.contains(name) {
            continue;
        }
        for (interface, wanted) in &theirs.imports {
            let exporting = |service: &ServiceName| exports(services, service).is_some_and(|all| all.contains_key(interface));
            let differs = match links.exports.get(interface) {
                Some(offered) => difference(wanted, offered),
                None if !before.is_some_and(|before| before.contains_key(interface)) => None,
                None if theirs.granted.iter().any(|service| service != name && exporting(service)) => None,
                None => Some("it is not exported any more".to_owned()),
            };
            if let Some(differs) = differs {
                told.push(format!("{dependent} calls `{interface}`: {differs}"));
            }
        }
    }
    if told.is_empty() {
        return Ok(());
    }
    Err(Reject::of_links(
        links,
        format!("services that serve now could not call it any more: {}", brief(told.join("; "))),
        "export the version that they call beside the new one, under another version of the package, until all of them call the new \
         one; it is tried again when they change",
    ))
}

/// All that serves.
pub(super) fn revisions(services: &Services) -> impl Iterator<Item = (BuildName, &Arc<Revision>)> {
    services.iter().flat_map(|(name, entry)| {
        let main = match &entry.main {
            Main::Up(revision) => Some((name.clone().into(), revision)),
            Main::Down | Main::Absent => None,
        };
        let labelled = entry
            .labelled
            .iter()
            .map(move |(label, revision)| (BuildName { service: name.clone(), label: Some(label.clone()) }, revision));
        main.into_iter().chain(labelled)
    })
}
