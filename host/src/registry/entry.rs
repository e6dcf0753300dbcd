//! What the registry knows of one service: its revisions, its routes and how its traffic is shared.

use super::{
    Serving,
    split::{Side, Split},
};
use crate::{
    config::{Label, RouteSpec, ServiceName, Traffic},
    runtime::Revision,
};
use std::{collections::BTreeMap, sync::Arc};

/// What the registry knows of one service.
pub(super) struct Entry {
    pub(super) main: Main,
    /// What the table says of it; made when one of the others changes.
    pub(super) serving: Serving,
    /// The main revision's.
    pub(super) routes: Arc<[RouteSpec]>,
    pub(super) labelled: BTreeMap<Label, Arc<Revision>>,
    pub(super) traffic: Traffic,
}

/// The revision without a label. Routes are its own: without it the labelled ones get no requests, and keep their place.
pub(super) enum Main {
    Up(Arc<Revision>),
    /// None was ever good.
    Down,
    /// Its file is not in the bay.
    Absent,
}

impl Entry {
    pub(super) fn absent(name: &ServiceName) -> Self {
        Self {
            main: Main::Absent,
            serving: Serving::Down(name.clone()),
            routes: Arc::default(),
            labelled: BTreeMap::new(),
            traffic: Traffic::default(),
        }
    }

    /// A service without shares and rules costs a request no more than its one revision.
    pub(super) fn settle(&mut self, name: &ServiceName) {
        let Main::Up(main) = &self.main else {
            self.serving = Serving::Down(name.clone());
            return;
        };
        let has_share = |(label, percent): &(Label, u32)| *percent > 0 && self.labelled.contains_key(label);
        if !self.traffic.header_override && !self.traffic.shares.iter().any(has_share) {
            self.serving = Serving::Up(main.clone());
            return;
        }
        let labelled = self.labelled.iter().map(|(label, revision)| (label.clone(), side(revision)));
        self.serving = Serving::Split(Arc::new(Split::new(name, side(main), labelled, &self.traffic)));
    }
}

fn side(revision: &Arc<Revision>) -> Side<Arc<Revision>> {
    Side { id: revision.header().clone(), revision: revision.clone() }
}
