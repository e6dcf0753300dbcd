//! A build and its settings on their way to being served.

use super::{bay::parse_settings, history::Files, publication::Current};
use crate::{
    config::{BuildName, RouteSpec, Settings, Traffic},
    runtime::{Build, Digest, Reject},
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
    /// The number of the publication that it repeats, where it comes from the history.
    pub(super) repeats: Option<u64>,
}

impl Candidate {
    pub(super) fn new(name: &BuildName, build: Build, text: Option<Bytes>, detected: Instant) -> Self {
        let settings = parse_settings(&name.service, text.as_ref());
        Self { build, text, settings, detected, repeats: None }
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

    /// Whether it makes the revision of these files, as the history of `name` holds them. Comments and shares make no difference.
    pub(super) fn makes_files(&self, name: &BuildName, files: &Files) -> bool {
        let says_the_same = |settings: &Settings| {
            let text = files.settings.clone().map(Bytes::from);
            parse_settings(&name.service, text.as_ref()).is_ok_and(|other| settings.same_revision(&other))
        };
        files.digest == *self.build.digest() && (*files == self.files() || self.settings.as_ref().is_ok_and(says_the_same))
    }
}

/// What tells the revisions of one build name apart that can be gone back to: comments and shares do not, and the settings of a
/// labelled revision are its service's of the day.
#[derive(PartialEq)]
pub(super) struct Identity {
    digest: Digest,
    settings: Option<Result<Settings, Option<String>>>,
}

impl Identity {
    pub(super) fn of(name: &BuildName, files: &Files) -> Self {
        let settings = || {
            let text = files.settings.clone().map(Bytes::from);
            let settings = parse_settings(&name.service, text.as_ref());
            settings.map(|settings| Settings { traffic: Traffic::default(), ..settings }).map_err(|_| files.settings.clone())
        };
        Self { digest: files.digest, settings: name.label.is_none().then(settings) }
    }
}
