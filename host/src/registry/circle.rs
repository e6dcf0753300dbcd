//! Services that call each other by WIT in a circle: none of them could start before the others.

use super::{
    Registry, Services,
    links::{Leaving, is_missing, revisions},
};
use crate::{
    config::{BuildName, ServiceName},
    runtime::{Links, Reject},
};
use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    sync::Arc,
};

const REMEDY: &str = "let one of them do without the others: by handing over with the call what it would be asked for, or by a service of its own \
     for what several of them need; see \"Circles\" in docs/calling-services.md";

impl Registry {
    /// Whether `links` of `name` lack something that could never come, since those in `lacking` that have it wait in turn for
    /// `name`, directly or through others.
    ///
    /// # Errors
    /// The circle, and what to do.
    pub fn check_circle(
        &self,
        name: &BuildName,
        links: &Arc<Links>,
        lacking: BTreeMap<BuildName, Arc<Links>>,
    ) -> Result<(), Reject> {
        let services = self.services();
        if links.exports.is_empty() || !is_missing(&services, links) {
            return Ok(());
        }
        let mut builds = serving(&services);
        builds.extend(lacking);
        check(builds, &[], name, links)
    }
}

/// Whether services would call each other in a circle if `links` were those of `name`. One that still drains is among them.
pub(super) fn circle(services: &Services, leaving: &Leaving, name: &BuildName, links: &Arc<Links>) -> Result<(), Reject> {
    if links.is_empty() {
        return Ok(());
    }
    let leaving: Vec<_> =
        leaving.there().into_iter().map(|(_, revision)| (revision.service().clone(), revision.links().clone())).collect();
    check(serving(services), &leaving, name, links)
}

fn serving(services: &Services) -> BTreeMap<BuildName, Arc<Links>> {
    revisions(services).map(|(name, revision)| (name, revision.links().clone())).collect()
}

fn check(
    mut builds: BTreeMap<BuildName, Arc<Links>>,
    leaving: &[(ServiceName, Arc<Links>)],
    name: &BuildName,
    links: &Arc<Links>,
) -> Result<(), Reject> {
    builds.insert(name.clone(), links.clone());
    let mut graph = Graph::default();
    for (name, links) in &builds {
        let node = graph.0.entry(&name.service).or_default();
        node.calling.push(links);
        if name.label.is_none() {
            node.called = Some(links);
        }
    }
    for (service, links) in leaving {
        graph.0.entry(service).or_default().calling.push(links);
    }
    graph.circle(&name.service).map_or(Ok(()), |calls| Err(reject(links, &calls)))
}

fn reject(links: &Arc<Links>, calls: &[Call<'_>]) -> Reject {
    let first = calls.iter().map(|call| call.caller.as_str()).take(1);
    let chain: Vec<_> = first.chain(calls.iter().map(|call| call.callee.as_str())).collect();
    let told: Vec<_> =
        calls.iter().map(|call| format!("`{}` calls `{}` of `{}`", call.caller, call.interface, call.callee)).collect();
    let reason = format!("it would close a circle of calls: {} ({})", chain.join(" → "), told.join(", "));
    Reject::of_links(links, reason, REMEDY)
}

/// Who could call whom: every service that is granted and exports the interface, though only the first of them that is there is
/// called. So what is a circle does not depend on the order in which the files come.
#[derive(Default)]
struct Graph<'a>(BTreeMap<&'a ServiceName, Node<'a>>);

/// One service.
#[derive(Default)]
struct Node<'a> {
    /// All its revisions, the labelled ones too.
    calling: Vec<&'a Links>,
    /// The one without a label.
    called: Option<&'a Links>,
}

#[derive(Clone, Copy)]
struct Call<'a> {
    caller: &'a ServiceName,
    interface: &'a str,
    callee: &'a ServiceName,
}

impl<'a> Graph<'a> {
    /// The shortest way by which `start` would call itself.
    fn circle(&self, start: &'a ServiceName) -> Option<Vec<Call<'a>>> {
        let mut reached: BTreeMap<&ServiceName, Call<'a>> = BTreeMap::new();
        let mut next = VecDeque::from([start]);
        while let Some(caller) = next.pop_front() {
            for call in self.calls(caller) {
                if call.callee == start {
                    let back = std::iter::successors(Some(call), |call| reached.get(call.caller).copied());
                    let mut calls: Vec<_> = back.collect();
                    calls.reverse();
                    return Some(calls);
                }
                if let Entry::Vacant(place) = reached.entry(call.callee) {
                    place.insert(call);
                    next.push_back(call.callee);
                }
            }
        }
        None
    }

    fn calls(&self, caller: &'a ServiceName) -> impl Iterator<Item = Call<'a>> {
        let calling = self.0.get(caller).into_iter().flat_map(|node| node.calling.iter().copied());
        let imports = calling.flat_map(|links| links.imports.keys().map(move |interface| (links, interface)));
        imports.flat_map(move |(links, interface)| {
            let callees = links.granted.iter().filter(move |callee| self.exports(callee, interface));
            callees.map(move |callee| Call { caller, interface, callee })
        })
    }

    fn exports(&self, service: &ServiceName, interface: &str) -> bool {
        let called = self.0.get(service).and_then(|node| node.called);
        called.is_some_and(|links| links.exports.contains_key(interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a: i j -> k of b c` is a service that exports i and j, and may call k of b and of c.
    fn builds(text: &[&str]) -> BTreeMap<BuildName, Arc<Links>> {
        let build = |line: &&str| {
            let (name, rest) = line.split_once(':').unwrap();
            let (exports, calls) = rest.split_once("->").unwrap_or((rest, ""));
            let (imports, granted) = calls.split_once(" of ").unwrap_or_default();
            let interfaces = |text: &str| text.split_whitespace().map(|name| (name.to_owned(), BTreeMap::new())).collect();
            let granted = granted.split_whitespace().map(|name| ServiceName::parse(name).unwrap()).collect();
            let links = Links { granted, imports: interfaces(imports), exports: interfaces(exports) };
            (BuildName::parse(name).unwrap(), Arc::new(links))
        };
        text.iter().map(build).collect()
    }

    /// The chain that the last one closes.
    fn closed(text: &[&str]) -> Option<String> {
        let (last, others) = text.split_last().unwrap();
        let (name, links) = builds(&[last]).pop_first().unwrap();
        let reject = check(builds(others), &[], &name, &links).err()?;
        let (_, told) = reject.reason.split_once(": ").unwrap();
        Some(told.split_once(" (").unwrap().0.to_owned())
    }

    #[test]
    fn a_circle_is_found_from_each_of_its_services() {
        let all = ["a: i -> j of b", "b: j -> k of c", "c: k -> i of a", "d: -> i of a", "e: x -> i of a"];
        assert_eq!(closed(&[all[0], all[1], all[3], all[2]]).as_deref(), Some("c → a → b → c"));
        assert_eq!(closed(&[all[2], all[1], all[4], all[0]]).as_deref(), Some("a → b → c → a"));
        assert_eq!(closed(&[all[0], all[1], all[2], all[4]]), None, "whoever only leads into it does not close it");
        assert_eq!(closed(&["a: i -> i of a"]).as_deref(), Some("a → a"), "itself");
        assert_eq!(closed(&["b: j", "c: j -> i of a", "a: i -> j of b c"]).as_deref(), Some("a → c → a"), "whichever is called");
        assert_eq!(closed(&["b: j -> i of a", "a: i -> j of c"]), None, "what is not granted is not called");
        assert_eq!(closed(&["b: j -> i of a", "a: x -> j of b"]), None, "what is not exported is not called");
    }

    #[test]
    fn labelled_revisions_call_and_are_not_called() {
        assert_eq!(closed(&["a: i", "b: j -> i of a", "a@beta: -> j of b"]).as_deref(), Some("a → b → a"));
        assert_eq!(closed(&["a: x", "b: j -> i of a", "a@beta: i -> j of b"]), None);
        let told = check(
            builds(&["a: i", "b: j -> i of a"]),
            &[],
            &BuildName::parse("a").unwrap(),
            &builds(&["a: i -> j of b"]).pop_first().unwrap().1,
        );
        let told = told.unwrap_err();
        assert!(told.reason.ends_with("a → b → a (`a` calls `j` of `b`, `b` calls `i` of `a`)"), "{}", told.reason);
        assert!(told.links.is_some(), "it is tried again when the others change");
    }

    #[test]
    fn what_drains_calls_until_it_has_ended() {
        let (name, links) = builds(&["b: j -> i of a"]).pop_first().unwrap();
        let leaving: Vec<_> = builds(&["a: -> j of b"]).into_iter().map(|(name, links)| (name.service, links)).collect();
        assert!(check(builds(&["a: i"]), &leaving, &name, &links).is_err());
        assert!(check(builds(&["a: i"]), &[], &name, &links).is_ok());
    }
}
