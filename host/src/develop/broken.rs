//! Services that are followed and cannot be built: what is said of them, each time somebody asks for a build.

use super::{Development, builds::Wanted};
use crate::workshop::Effort;
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
        let words: Vec<_> = faults.iter().chain([&remedy]).map(String::as_str).collect();
        self.tell(|screen| screen.failed(name.as_str(), &what, &words.join("\n")));
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
            self.last = Some(project.name().clone());
            let why = "rebuild".to_owned();
            self.builds.want(Wanted { project, why, saved: Instant::now(), effort: Effort::Anew });
        }
    }
}
