//! Back to a revision of the history: at the start, where what lies in the bay does not serve, and from a revision that fails.

use super::{
    history::{Came, End, Entry, Files},
    publication::{Rejected, Standing},
    swap::{Candidate, Swaps},
};
use crate::runtime::Reject;
use bytes::Bytes;
use std::time::{Instant, SystemTime};

impl Swaps {
    /// Where the files in the bay were rejected and nothing serves: publishes the last good revision of the history, and reports
    /// how the first attempt ended.
    pub(super) async fn fall_back(&mut self) {
        if self.current.is_none()
            && let Some(entry) = self.with_history(|history, name| history.last_good(name)).await
        {
            let came = Came::LastGood;
            let reason = self.rejected.as_ref().map_or_else(String::new, |rejected| {
                format!("{}.wasm in the bay was rejected: {}", self.name, rejected.reject.reason)
            });
            if let Err(reject) = self.go_back(entry, came, &reason).await {
                self.context.events.last_good_fails(&self.name, &reject);
            }
        }
        if let Some(rejected) = &self.rejected {
            let reject = rejected.reject.clone();
            self.report(|| Standing::Rejected(reject));
        }
    }

    /// Publishes a revision of the history; the bay stays as it is.
    pub(super) async fn go_back(&mut self, entry: Entry, came: Came, reason: &str) -> Result<(), Reject> {
        let candidate = self.candidate_of(entry).await?;
        let prepared = self.prepare(&candidate).await?;
        self.publish(prepared, &candidate, came, Some(reason))?;
        self.remember(candidate.build, came).await;
        Ok(())
    }

    /// Looks at the counters of what serves, and goes back from it where it is new and fails too often.
    pub(super) async fn judge(&mut self) {
        let Some(current) = &mut self.current else { return };
        let (now, counts) = (Instant::now(), current.counts());
        current.lately.note(now, counts);
        let Some(watch) = current.watch else { return };
        let verdict = watch.verdict(counts);
        if verdict.is_some() || now >= watch.until() {
            current.watch = None;
        }
        if let Some(reason) = verdict
            && let Err(reject) = self.roll_back(&reason).await
        {
            self.context.events.rollback_fails(&self.name, &reason, &reject);
        }
    }

    /// Goes back to the revision before the one that serves. The bay stays as it is, and is not tried again until it changes.
    async fn roll_back(&mut self, reason: &str) -> Result<(), Reject> {
        const REMEDY: &str = "put a mended build into the bay; `hotbay history` shows what there is to go back to";
        let Some(current) = &self.current else { return Ok(()) };
        let (files, bad) = (current.files.clone(), current.revision.digest().short());
        let entries = self.with_history(|history, name| history.entries(name).unwrap_or_default()).await;
        let before = entries.into_iter().rev().find(|entry| entry.is_good() && !entry.is_of(&files));
        let Some(before) = before else {
            return match self.name.label {
                Some(_) => self.withdraw(files, &bad, reason, REMEDY).await,
                None => Err(Reject::new("the history holds no earlier good revision", REMEDY)),
            };
        };
        let candidate = self.candidate_of(before).await?;
        let prepared = self.prepare(&candidate).await?;
        let served = self.current.as_ref().map(|current| current.published.elapsed()).unwrap_or_default();
        self.context.events.rolled_back(&self.name, &bad, served, reason, REMEDY);
        let because = format!("the host went back from {bad}: {reason}");
        self.publish(prepared, &candidate, Came::AutomaticRollback, Some(&because))?;
        self.went_back(files, Reject::new(because, REMEDY), reason).await;
        self.remember(candidate.build, Came::AutomaticRollback).await;
        Ok(())
    }

    /// Gives the share of a labelled revision that fails, and has none before it, back to the main one.
    async fn withdraw(&mut self, files: Files, bad: &str, reason: &str, remedy: &str) -> Result<(), Reject> {
        let (Some(label), Some(current)) = (&self.name.label, self.current.take()) else { return Ok(()) };
        let because = "it failed, and the main revision takes its share";
        self.context.events.rolled_back(&self.name, bad, current.published.elapsed(), reason, remedy);
        self.context.registry.remove_label(&self.name.service, label);
        self.context.board.withdrawn(&self.name.to_string());
        self.retire(current, Some(because));
        self.went_back(files, Reject::new(format!("the host went back from {bad}: {reason}"), remedy), reason).await;
        Ok(())
    }

    async fn went_back(&mut self, files: Files, reject: Reject, reason: &str) {
        let bad = files.digest.short();
        self.context.board.rejected(&self.name.to_string(), Some(&bad), &reject.reason, &reject.remedy);
        let sighting = *self.sightings.borrow();
        let went_back_from = Some((files, SystemTime::now()));
        self.rejected = Some(Rejected { sighting, reject, contested: false, tries: 0, retry: None, went_back_from });
        let end = End::RolledBack(reason.to_owned());
        self.with_history(|history, name| history.ended(name, end)).await;
    }

    /// The build and the settings of a revision of the history.
    pub(super) async fn candidate_of(&self, entry: Entry) -> Result<Candidate, Reject> {
        let detected = Instant::now();
        let digest = entry.digest;
        let read = self.with_history(move |history, _| Some(history.build(&digest))).await;
        match read {
            Some(Ok(build)) => Ok(Candidate { build, settings: entry.settings.map(Bytes::from), detected }),
            read => {
                let error = read.and_then(Result::err).map(|error| format!(": {error}")).unwrap_or_default();
                Err(Reject::new(
                    format!("the build of revision {} cannot be read from the history{error}", digest.short()),
                    "put the build into the bay again, or go back to another revision",
                ))
            }
        }
    }

    /// Whether these files are what the host went back from before it was started anew. While it runs it remembers by itself.
    pub(super) async fn was_rolled_back(&self, candidate: &Candidate) -> Option<Reject> {
        if self.current.is_some() || self.rejected.is_some() {
            return None;
        }
        let files = candidate.files();
        let reason = self.with_history(move |history, name| history.rolled_back(name, &files)).await?;
        Some(Reject::new(
            format!("the host went back from it: {reason}"),
            "put another build or other settings into the bay; to try the same again, place it once more",
        ))
    }
}
