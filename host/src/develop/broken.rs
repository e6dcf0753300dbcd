//! Services that are followed and cannot be built, or have not been yet: what is said of them, to who builds and to who asks.

use super::{Development, address, builds::Wanted};
use crate::workshop::{Effort, Project};
use hotbay::config::ServiceName;
use std::{collections::BTreeSet, time::Instant};

impl Development {
    /// Nothing says any more how this service is built, although its folder is there. `faults` were found in it.
    pub(super) fn breaks(&mut self, name: &ServiceName, faults: &[String]) {
        self.builds.cancel(name);
        self.late.remove(name);
        let what = format!("its folder holds no service that can be built; {}", self.still(name.as_str()));
        let remedy = format!(
            "→ mend what says how it is built (hotbay-build.toml, Cargo.toml, package.json, app.py, {name}.toml); it is built again then"
        );
        let words = faults.iter().chain([&remedy]).map(String::as_str).collect::<Vec<_>>().join("\n");
        if let Some(project) = self.projects.get(name) {
            self.stays_unbuilt(project, &words);
        }
        self.tell(|screen| screen.failed(name.as_str(), &what, &words));
    }

    /// Says again of those of `asked_for` that cannot be built still why it is so, but for what was `told` just now.
    pub(super) fn tell_broken(&mut self, asked_for: &BTreeSet<ServiceName>, told: &BTreeSet<String>) {
        for name in asked_for.intersection(&self.broken.clone()) {
            let dir = self.projects.get(name).map(|project| project.dir().display().to_string()).unwrap_or_default();
            let is_of_it = |fault: &&String| fault.strip_prefix(&dir).is_some_and(|rest| rest.starts_with(['/', ' ', ':']));
            let faults: Vec<_> = self.faults.difference(told).filter(is_of_it).cloned().collect();
            self.breaks(name, &faults);
        }
    }

    /// Builds all anew, and says of those that cannot be built why it is so.
    pub(super) fn rebuild(&mut self) {
        let were_broken = self.broken.clone();
        let told = self.search().faults;
        self.tell_broken(&were_broken, &told);
        let whole: Vec<_> = self.projects.values().filter(|project| !self.broken.contains(project.name())).cloned().collect();
        if self.projects.is_empty() {
            self.tell_host("there is no service to build; make one with: hotbay new NAME");
        }
        for project in whole {
            self.want_with(Wanted { project, why: "rebuild".to_owned(), saved: Instant::now(), effort: Effort::Anew });
        }
    }

    /// A build is under way. Whoever asks for a service that was never built is told.
    pub(super) fn is_begun(&self, project: &Project) {
        if self.is_unbuilt(project.name()) {
            self.unbuilt.begins(project.name(), address::routes(project));
        }
    }

    /// The same of one that was not built now either, with the reason.
    pub(super) fn stays_unbuilt(&self, project: &Project, words: &str) {
        if self.is_unbuilt(project.name()) {
            self.unbuilt.failed(project.name(), address::routes(project), &console::strip_ansi_codes(words));
        }
    }

    /// Its settings were saved before there is a build to place them with: what is wrong with them is told.
    pub(super) fn other_settings_of_unbuilt(&mut self, project: &Project) {
        let name = project.name();
        self.unbuilt.moves(name, address::routes(project));
        if let Err(error) = address::settings(project) {
            self.tell(|screen| screen.failed(name.as_str(), "its settings will not do", &error.to_string()));
        }
    }

    /// Whether no build of this service is in the bay, nor serves.
    pub(super) fn is_unbuilt(&self, name: &ServiceName) -> bool {
        let serves = self.voices.board.one(name.as_str()).is_some_and(|status| status.serving.is_some());
        !serves && !self.bay.path().join(format!("{name}.wasm")).exists()
    }
}
