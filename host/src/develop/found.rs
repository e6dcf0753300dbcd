//! The services below the folders that people named, and what is wrong there.

use super::follower::Projects;
use crate::workshop::{Project, Search};
use hotbay::config::ServiceName;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// The services below some folders, and what is wrong there.
pub(crate) struct Found {
    pub(super) projects: Projects,
    /// With what is left out although it may be meant for a service.
    pub(super) faults: BTreeSet<String>,
}

impl Found {
    /// Looks for them.
    ///
    /// # Errors
    /// Where there is none at all, with the remedy.
    pub(crate) fn below(folders: &[PathBuf]) -> Result<Self, String> {
        let found = Self::so_far(folders);
        match found.projects.is_empty() {
            true => Err(found.faults.into_iter().collect::<Vec<_>>().join("\n")),
            false => Ok(found),
        }
    }

    pub(super) fn so_far(folders: &[PathBuf]) -> Self {
        let Search { projects, faults, remarks } = Project::search(folders);
        Self {
            projects: projects.into_iter().map(|project| (project.name().clone(), project)).collect(),
            faults: faults.iter().map(ToString::to_string).chain(remarks).collect(),
        }
    }
}

/// The folders that people named, and what services are built from beside them.
pub(super) fn roots(folders: &[PathBuf], projects: &BTreeMap<ServiceName, Project>) -> Vec<PathBuf> {
    let named = folders.iter().filter_map(|folder| folder.canonicalize().ok());
    let beside = projects.values().flat_map(Project::watched).filter_map(|folder| folder.canonicalize().ok());
    let mut roots: Vec<PathBuf> = Vec::new();
    for root in named.chain(beside) {
        if !roots.iter().any(|above| root.starts_with(above)) {
            roots.push(root);
        }
    }
    roots
}
