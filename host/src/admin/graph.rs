//! `GET /v1/graph`: which service may call which, and which did.

use super::{Admin, services::is_there};
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
    /// Calls since the host, or the caller, was started.
    pub calls: u64,
    /// Those of them that got no response, or a status of 500 or more.
    pub failed: u64,
}

/// Who may call whom, and who did
#[utoipa::path(get, path = "/v1/graph", tag = "services", responses((status = 200, body = Graph)))]
pub(super) async fn graph(State(admin): State<Arc<Admin>>) -> Json<Graph> {
    let all = admin.board.all();
    let mut pairs: BTreeMap<(String, String), (bool, u64, u64)> = BTreeMap::new();
    for counted in admin.metrics.calls() {
        let pair = (counted.caller().to_owned(), counted.callee().to_owned());
        pairs.insert(pair, (false, counted.calls(), counted.failed()));
    }
    for (name, status) in &all {
        // A labelled revision has the settings of its service.
        let caller = name.split_once('@').map_or(name.as_str(), |(service, _)| service);
        for callee in status.serving.iter().flat_map(|serving| &serving.calls) {
            pairs.entry((caller.to_owned(), callee.clone())).or_default().0 = true;
        }
    }
    let edge = |((caller, callee), (granted, calls, failed)): ((String, String), _)| {
        let there = all.get(&callee).filter(|_| is_there(&callee, &all));
        let callee_state = there.map_or("missing", |status| status.phase().as_str()).to_owned();
        Edge { caller, callee, granted, callee_state, calls, failed }
    };
    Json(Graph { calls: pairs.into_iter().map(edge).collect() })
}
