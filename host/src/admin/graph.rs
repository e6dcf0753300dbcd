//! `GET /v1/graph`: which service may call which, by HTTP and by WIT, and which did.

use super::{Admin, services::is_there};
use crate::{
    deploy::Status,
    runtime::{Links, difference},
};
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use utoipa::ToSchema;

/// All pairs of services of which one may call the other, or did.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Graph {
    /// By caller and callee.
    pub calls: Vec<Edge>,
}

/// One service that may call another.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Edge {
    /// Who calls.
    pub caller: String,
    /// Who is called.
    pub callee: String,
    /// Whether the caller's revision that serves may. One that drains may have other grants.
    pub granted: bool,
    /// The state of the callee as `/v1/services` has it, or `missing`.
    pub callee_state: String,
    /// The interfaces by which the caller's revision that serves calls functions of it.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// The interfaces that a build of the caller in the bay would call it by, and that it does not export, or with other types: the
    /// build waits until it does.
    #[serde(default)]
    pub waits: Vec<String>,
    /// Calls by HTTP since the host, or the caller, was started.
    pub calls: u64,
    /// Those of them that got no response, or a status of 500 or more.
    pub failed: u64,
    /// Calls of functions since then.
    #[serde(default)]
    pub typed_calls: u64,
    /// Those of them that did not return.
    #[serde(default)]
    pub typed_failed: u64,
}

/// Who may call whom, and who did
#[utoipa::path(get, path = "/v1/graph", tag = "services", responses((status = 200, body = Graph)))]
pub(super) async fn graph(State(admin): State<Arc<Admin>>) -> Json<Graph> {
    let all = admin.board.all();
    let mut pairs: BTreeMap<(String, String), Edge> = BTreeMap::new();
    let mut edge = |caller: &str, callee: &str, change: &dyn Fn(&mut Edge)| {
        let place = pairs.entry((caller.to_owned(), callee.to_owned()));
        change(place.or_insert_with(|| Edge::of(caller, callee, &all)));
    };
    for counted in admin.metrics.calls() {
        edge(counted.caller(), counted.callee(), &|edge| {
            (edge.calls, edge.failed) = (counted.calls(), counted.failed());
            (edge.typed_calls, edge.typed_failed) = (counted.typed(), counted.typed_failed());
        });
    }
    for (name, status) in &all {
        // A labelled revision has the settings of its service.
        let caller = name.split_once('@').map_or(name.as_str(), |(service, _)| service);
        for (callee, interface) in status.waits.iter().flat_map(|links| lacked(&all, links)) {
            edge(caller, &callee, &|edge| {
                if !edge.waits.contains(&interface) {
                    edge.waits.push(interface.clone());
                }
            });
        }
        let Some(serving) = &status.serving else { continue };
        for callee in &serving.calls {
            edge(caller, callee, &|edge| edge.granted = true);
        }
        for interface in serving.links.imports.keys() {
            // The first that is listed and exports it is called.
            if let Some(callee) = serving.calls.iter().find(|callee| exports(&all, callee, interface)) {
                edge(caller, callee, &|edge| {
                    if !edge.interfaces.contains(interface) {
                        edge.interfaces.push(interface.clone());
                    }
                });
            }
        }
    }
    Json(Graph { calls: pairs.into_values().collect() })
}

fn exports(all: &BTreeMap<String, Status>, service: &str, interface: &str) -> bool {
    let serving = all.get(service).and_then(|status| status.serving.as_ref());
    serving.is_some_and(|serving| serving.links.exports.contains_key(interface))
}

/// Whom a build waits for, and for which interface of theirs: of those that it may call, each that could export it.
fn lacked(all: &BTreeMap<String, Status>, links: &Links) -> Vec<(String, String)> {
    let mut lacked = Vec::new();
    for (interface, wanted) in &links.imports {
        let offered = |callee: &str| all.get(callee)?.serving.as_ref()?.links.exports.get(interface).cloned();
        let granted: Vec<_> = links.granted.iter().map(ToString::to_string).collect();
        let offers: Vec<_> = granted.iter().filter_map(|callee| Some((callee, offered(callee)?))).collect();
        let waits_for: Vec<_> = match offers.is_empty() {
            true => granted,
            false => {
                let differ = offers.into_iter().filter(|(_, offered)| difference(wanted, offered).is_some());
                differ.map(|(callee, _)| callee.clone()).collect()
            }
        };
        lacked.extend(waits_for.into_iter().map(|callee| (callee, interface.clone())));
    }
    lacked
}

impl Edge {
    /// A pair of which nothing is known yet.
    fn of(caller: &str, callee: &str, all: &BTreeMap<String, Status>) -> Self {
        let there = all.get(callee).filter(|_| is_there(callee, all));
        Self {
            caller: caller.to_owned(),
            callee: callee.to_owned(),
            granted: false,
            callee_state: there.map_or("missing", |status| status.phase().as_str()).to_owned(),
            interfaces: Vec::new(),
            waits: Vec::new(),
            calls: 0,
            failed: 0,
            typed_calls: 0,
            typed_failed: 0,
        }
    }
}
