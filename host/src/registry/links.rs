//! Whether the services agree on the interfaces that they call each other by.

use super::{
    Registry,
    entry::{Entry, Main},
};
use crate::{
    config::ServiceName,
    runtime::{Interface, Links, Reject, Revision, difference},
};
use std::{collections::BTreeMap, sync::Arc};

type Services = BTreeMap<ServiceName, Entry>;

impl Registry {
    /// Whether all that `links` imports is exported by a good revision of a service that is granted, with the same types.
    ///
    /// # Errors
    /// What is missing or differs, and what to do.
    pub fn check_imports(&self, links: &Arc<Links>) -> Result<(), Reject> {
        imports(&self.services(), links)
    }

    /// Whether `links` could be published at this moment: what it imports, and, as the main revision of `main`, what others import
    /// of it.
    ///
    /// # Errors
    /// What is missing or differs, and what to do.
    pub fn check_links(&self, main: Option<&ServiceName>, links: &Arc<Links>) -> Result<(), Reject> {
        let services = self.services();
        imports(&services, links)?;
        main.map_or(Ok(()), |name| dependents(&services, name, links))
    }
}

/// What `service` exports at this moment.
fn exports<'a>(services: &'a Services, service: &ServiceName) -> Option<&'a BTreeMap<String, Interface>> {
    match &services.get(service)?.main {
        Main::Up(revision) => Some(&revision.links().exports),
        Main::Down | Main::Absent => None,
    }
}

pub(super) fn imports(services: &Services, links: &Arc<Links>) -> Result<(), Reject> {
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

/// Whether what serves now could go on to call `name` if it exported what `links` does.
pub(super) fn dependents(services: &Services, name: &ServiceName, links: &Arc<Links>) -> Result<(), Reject> {
    let before = exports(services, name);
    let mut told = Vec::new();
    for (dependent, revision) in revisions(services).filter(|(_, revision)| revision.service() != name) {
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
                told.push(format!("`{dependent}` calls `{interface}`: {differs}"));
            }
        }
    }
    if told.is_empty() {
        return Ok(());
    }
    Err(Reject::of_links(
        links,
        format!("services that serve now could not call it any more: {}", told.join("; ")),
        "export the version that they call beside the new one, under another version of the package, until all of them call the new \
         one; it is tried again when they change",
    ))
}

/// All that serves, as NAME or NAME@LABEL.
fn revisions(services: &Services) -> impl Iterator<Item = (String, &Arc<Revision>)> {
    services.iter().flat_map(|(name, entry)| {
        let main = match &entry.main {
            Main::Up(revision) => Some((name.to_string(), revision)),
            Main::Down | Main::Absent => None,
        };
        let labelled = entry.labelled.iter().map(move |(label, revision)| (format!("{name}@{label}"), revision));
        main.into_iter().chain(labelled)
    })
}
