//! Services that are followed and cannot be built, or have not been yet: what is said of them, to who builds and to who asks.

use super::{Development, address, builds::Wanted};
use crate::workshop::{Effort, Project};
use hotbay::config::ServiceName;
use std::{collections::BTreeSet, time::Instant};

impl Development {
    /// Nothing says any more how this service is built, although its folder is there. `faults` were found in it.
    pub(super) fn breaks(&mut self, name: &ServiceName, faults: &[String]) {
        self.builds.cancel(name);
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

    /// Says again of those of `asked_for` that cannot be built still why it is so.
    pub(super) fn tell_broken(&mut self, asked_for: &BTreeSet<ServiceName>) {
        for name in asked_for.intersection(&self.broken.clone()) {
            let dir = self.projects.get(name).map(|project| project.dir().display().to_string()).unwrap_or_default();
            let is_of_it = |fault: &&String| fault.strip_prefix(&dir).is_some_and(|rest| rest.starts_with(['/', ' ', ':']));
            let faults: Vec<_> = self.faults.iter().filter(is_of_it).cloned().collect();
            self.breaks(name, &faults);
        }
    }

    /// Builds all anew, and says of those that cannot be built why it is so.
    pub(super) fn rebuild(&mut self) {
        let were_broken = self.broken.clone();
        self.search();
        self.tell_broken(&were_broken);
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

    /// Whether nothing of this service has come into the bay.
    fn is_unbuilt(&self, name: &ServiceName) -> bool {
        self.voices.board.one(name.as_str()).is_none()
    }
}
