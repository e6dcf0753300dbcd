//! The services below the folders that people named, and what is wrong there.

use super::{follower::Projects, tree::Roots};
use crate::workshop::{Project, Search};
use std::{collections::BTreeSet, path::PathBuf};

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
pub(super) fn roots(folders: &[PathBuf], projects: &Projects) -> Roots {
    let named = folders.iter().filter_map(|folder| folder.canonicalize().ok());
    let beside = projects.values().flat_map(Project::watched).filter_map(|path| path.canonicalize().ok());
    Roots::new(named.chain(beside))
}
