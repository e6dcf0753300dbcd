//! A build and its settings on their way to being served.

use super::{bay::parse_settings, history::Files, publication::Current};
use crate::{
    config::{BuildName, RouteSpec, Settings},
    runtime::{Build, Reject},
};
use bytes::Bytes;
use std::time::Instant;

/// A build and what its settings say, read once.
pub(super) struct Candidate {
    pub(super) build: Build,
    /// The text of the settings file, if there is one.
    pub(super) text: Option<Bytes>,
    /// What it says, or why that will not do.
    pub(super) settings: Result<Settings, Reject>,
    /// When it was seen or ordered.
    pub(super) detected: Instant,
}

impl Candidate {
    pub(super) fn new(name: &BuildName, build: Build, text: Option<Bytes>, detected: Instant) -> Self {
        let settings = parse_settings(&name.service, text.as_ref());
        Self { build, text, settings, detected }
    }

    /// What the history calls it.
    pub(super) fn files(&self) -> Files {
        Files::of(&self.build, self.text.as_ref())
    }

    /// The routes that it claims; those without settings where they are not understood.
    pub(super) fn routes(&self, name: &BuildName) -> Vec<RouteSpec> {
        match &self.settings {
            Ok(settings) => settings.routes.clone(),
            Err(_) => Settings::defaults(&name.service).routes,
        }
    }

    /// Whether it makes the revision that serves.
    pub(super) fn makes(&self, current: &Current) -> bool {
        current.revision.digest() == self.build.digest()
            && self.settings.as_ref().is_ok_and(|settings| settings.same_revision(current.revision.settings()))
    }

    /// Whether it makes the revision of these files, as the history of `name` holds them. Comments and shares make no difference, and
    /// the settings of a labelled revision are its service's of the day.
    pub(super) fn makes_files(&self, name: &BuildName, files: &Files) -> bool {
        let says_the_same = |settings: &Settings| {
            let text = files.settings.clone().map(Bytes::from);
            parse_settings(&name.service, text.as_ref()).is_ok_and(|other| settings.same_revision(&other))
        };
        files.digest == *self.build.digest()
            && (name.label.is_some() || *files == self.files() || self.settings.as_ref().is_ok_and(says_the_same))
    }
}
