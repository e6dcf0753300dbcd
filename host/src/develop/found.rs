//! The services below the folders that people named, and what is wrong there.

use super::{follower::Projects, tree::Roots};
use crate::workshop::Project;
use std::{collections::BTreeSet, path::PathBuf};

/// The services below some folders, and what is wrong there.
pub(crate) struct Found {
    pub(super) projects: Projects,
    pub(super) faults: BTreeSet<String>,
}

impl Found {
    /// Looks for them.
    ///
    /// # Errors
    /// Where there is none at all, with the remedy.
    pub(crate) fn below(folders: &[PathBuf]) -> Result<Self, String> {
        let found = Self::so_far(folders);
        match found.faults.first() {
            Some(fault) if found.projects.is_empty() => Err(fault.clone()),
            _ => Ok(found),
        }
    }

    pub(super) fn so_far(folders: &[PathBuf]) -> Self {
        let (projects, faults) = Project::search(folders);
        Self {
            projects: projects.into_iter().map(|project| (project.name().clone(), project)).collect(),
            faults: faults.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The folders that people named, and what services are built from beside them.
pub(super) fn roots(folders: &[PathBuf], projects: &Projects) -> Roots {
    let named = folders.iter().filter_map(|folder| folder.canonicalize().ok());
    let beside = projects.values().flat_map(Project::watched).filter_map(|path| path.canonicalize().ok());
    Roots::new(named.chain(beside))
}
