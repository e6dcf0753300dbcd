//! Back to a revision of the history: at the start, where what lies in the bay does not serve, and from a revision that fails.

use super::{
    candidate::{Candidate, Identity},
    history::{Came, End, Entry, Files, good},
    prepared::Prepared,
    publication::{Current, Rejected, Standing},
    swap::Swaps,
    verdict::Counts,
};
use crate::runtime::{Reject, Secrets};
use bytes::Bytes;
use std::time::{Instant, SystemTime};

/// What there is to do after the host went back.
const REMEDY: &str = "put a mended build into the bay; `hotbay history` shows what there is to go back to";

/// What the history says of a candidate.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Why it will not do, and since when, where the host or somebody went back from it the last time.
    pub(super) gone_back_from: Option<(Reject, SystemTime)>,
    /// It has not yet served for as long as it is watched, and there is an earlier good revision to go back to.
    pub(super) is_young: bool,
    /// It is what the host would go back to.
    pub(super) is_last_good: bool,
}

/// A revision of the history that can be loaded.
struct First {
    entry: Entry,
    candidate: Candidate,
    prepared: Prepared,
}

impl Swaps {
    pub(super) async fn past_of(&self, candidate: &Candidate) -> Past {
        let entries = self.entries().await;
        let last = entries.iter().rev().find(|entry| candidate.makes_files(&self.name, &entry.files()));
        let gone_back_from = last.and_then(Entry::fault).map(|(reason, moment)| {
            let remedy = "put another build or other settings into the bay; to try the same again, place the build once more";
            (Reject::new(format!("the host went back from it: {reason}"), remedy), moment)
        });
        let window = candidate.settings.as_ref().map(|settings| settings.rollback.window.0).unwrap_or_default();
        let is_proven = last.is_some_and(|last| last.served() >= window);
        let mine = Identity::of(&self.name, &candidate.files());
        let good = self.good(&entries);
        let is_another = |entry: &&Entry| Identity::of(&self.name, &entry.files()) != mine;
        let is_last_good = good.first().is_some_and(|last| !is_another(last));
        Past { gone_back_from, is_young: !is_proven && good.iter().any(is_another), is_last_good }
    }

    /// The revisions of these that nobody has seen fault with, the latest first.
    pub(super) fn good<'a>(&self, entries: &'a [Entry]) -> Vec<&'a Entry> {
        good(entries, |entry| Identity::of(&self.name, &entry.files()))
    }

    /// Tells whether an entry is the revision that serves.
    pub(super) fn is_current(&self) -> impl Fn(&Entry) -> bool + use<> {
        let name = self.name.clone();
        let current = self.current.as_ref().map(|current| Identity::of(&name, &current.files));
        move |entry| current.as_ref().is_some_and(|current| *current == Identity::of(&name, &entry.files()))
    }

    /// What was published of it, the oldest first; nothing where no history is kept.
    async fn entries(&self) -> Vec<Entry> {
        self.with_history(|history, name| history.entries(name).unwrap_or_default()).await
    }

    /// Where the files in the bay were rejected and nothing serves: publishes the last good revision of the history, and reports
    /// how the first attempt ended.
    pub(super) async fn fall_back(&mut self) {
        if self.current.is_none() {
            let entries = self.with_history(|history, name| history.to_fall_back_to(name)).await;
            let entries: Vec<Entry> = self.good(&entries).into_iter().cloned().collect();
            if !entries.is_empty()
                && let Err(reject) = self.publish_last_good(entries).await
            {
                self.context.events.last_good_fails(&self.name, &reject);
            }
        }
        if let Some(rejected) = &self.rejected {
            let reject = rejected.reject.clone();
            self.report(|| Standing::Rejected(reject));
        }
    }

    async fn publish_last_good(&mut self, entries: Vec<Entry>) -> Result<(), Reject> {
        let First { candidate, prepared, .. } = self.prepare_first(entries).await?;
        let reason = self.rejected.as_ref().map_or_else(String::new, |rejected| {
            format!("{}.wasm in the bay was rejected: {}", self.name, rejected.reject.reason)
        });
        let context = self.context.clone();
        let turn = context.publishing.lock().await;
        self.publish(prepared, &candidate, Came::LastGood, Some(&reason), None)?;
        drop(turn);
        self.remember(&candidate).await;
        Ok(())
    }

    /// The first of these revisions that can be loaded, and that the other services agree to.
    ///
    /// # Errors
    /// Why the first one cannot, or that there is none.
    async fn prepare_first(&self, entries: Vec<Entry>) -> Result<First, Reject> {
        let mut first = None;
        for entry in entries {
            let candidate = self.candidate_of(entry.clone()).await;
            let prepared = match &candidate {
                Ok(candidate) => self.prepare_to_fit(candidate).await,
                Err(reject) => Err(reject.clone()),
            };
            match (candidate, prepared) {
                (Ok(candidate), Ok(prepared)) => return Ok(First { entry, candidate, prepared }),
                (_, Err(reject)) | (Err(reject), _) => drop(first.get_or_insert(reject)),
            }
        }
        Err(first.unwrap_or_else(|| Reject::new("the history holds no earlier good revision", REMEDY)))
    }

    async fn prepare_to_fit(&self, candidate: &Candidate) -> Result<Prepared, Reject> {
        let prepared = self.prepare(candidate).await?;
        match self.check(candidate, &prepared.revision) {
            Ok(()) => Ok(prepared),
            Err(conflict) => {
                prepared.discard().await;
                Err(conflict)
            }
        }
    }

    /// What serves beside files that were rejected gets its secrets as they are now. One that is missing stays as it was: the files
    /// in the bay are told of it where they name it.
    pub(super) async fn renew_secrets(&mut self) {
        let Some(current) = self.current.as_ref().filter(|_| self.rejected.is_some()) else { return };
        if current.revision.settings().grants.secrets().is_empty() {
            return;
        }
        let files = current.files.clone();
        let (Ok(candidate), Some(current)) = (self.candidate_of_files(files).await, &self.current) else { return };
        if !candidate.secrets.as_ref().is_ok_and(|secrets| secrets != current.revision.secrets()) {
            return;
        }
        let candidate = Candidate { repeats: current.repeats, ..candidate };
        let reason = "its secrets changed, and what lies in the bay was rejected";
        let came = if current.is_instead_of_the_bay() { current.came } else { Came::LastGood };
        let prepared = match self.prepare(&candidate).await {
            Ok(prepared) => prepared,
            Err(reject) => return self.context.events.last_good_fails(&self.name, &reject),
        };
        let context = self.context.clone();
        let _turn = context.publishing.lock().await;
        // It is the same publication to the history, which may still have to be told of it.
        let unremembered = self.current.as_mut().and_then(|current| current.unremembered.take());
        if let Err(reject) = self.publish(prepared, &candidate, came, Some(reason), None) {
            self.context.events.last_good_fails(&self.name, &reject);
        }
        if let Some(current) = &mut self.current {
            current.unremembered = unremembered;
        }
    }

    /// Looks at the counters of what serves, and goes back from it where it is new and fails too often.
    pub(super) async fn judge(&mut self) {
        let Some(current) = &mut self.current else { return };
        let (now, counts) = (Instant::now(), current.counts());
        current.lately.note(now, counts);
        let Some(watch) = current.watch else { return };
        let Some(reason) = watch.verdict(counts, now) else {
            if watch.is_over(now) {
                current.watch = None;
            }
            return;
        };
        if let Err(reject) = self.roll_back(&reason).await {
            self.context.events.rollback_fails(&self.name, &reason, &reject);
            if let Some(current) = &mut self.current {
                // What the host lacked may be there in a moment, and other services may change; the revision goes on failing until then.
                let may_change = reject.retries > 0 || reject.links.is_some();
                current.watch = may_change.then(|| watch.later(Instant::now()));
            }
        }
    }

    /// Goes back to a revision before the one that serves. The bay stays as it is, and is not tried again until it changes.
    async fn roll_back(&mut self, reason: &str) -> Result<(), Reject> {
        let Some(current) = &self.current else { return Ok(()) };
        let (files, bad, counts) = (current.files.clone(), current.revision.digest().short(), current.counts());
        let policy = current.revision.settings().rollback;
        let secrets = current.revision.secrets().clone();
        let (entries, is_current) = (self.entries().await, self.is_current());
        let others = self.good(&entries).into_iter().filter(|entry| !is_current(entry));
        let mut entries: Vec<Entry> = others.cloned().collect();
        // Nobody has seen whether one that was hardly asked is any better.
        entries.sort_by_key(|entry| !entry.is_proven(&policy));
        let is_label = self.name.label.is_some();
        let First { entry, candidate, prepared } = match self.prepare_first(entries).await {
            Ok(first) => first,
            Err(reject) if is_label && reject.retries == 0 => return self.withdraw(files, secrets, &bad, reason).await,
            Err(reject) => return Err(reject),
        };
        let context = self.context.clone();
        let turn = context.publishing.lock().await;
        if let Err(conflict) = self.check(&candidate, &prepared.revision) {
            drop(turn);
            prepared.discard().await;
            return Err(conflict);
        }
        // Before the publication: after a crash in between it is not tried again either.
        self.note_fault(&files, reason, counts).await;
        let served = self.current.as_ref().map(|current| current.published.elapsed()).unwrap_or_default();
        self.context.events.rolled_back(&self.name, &bad, served, reason, REMEDY);
        let because = format!("the host went back from {bad}: {reason}");
        let unproven = (!entry.is_proven(&policy)).then(Counts::default);
        self.publish(prepared, &candidate, Came::AutomaticRollback, Some(&because), unproven)?;
        if let Some(current) = &mut self.current {
            // They were counted with its end.
            current.replaced = Counts::default();
        }
        drop(turn);
        self.went_back(files, secrets, Reject::new(because, REMEDY));
        self.remember(&candidate).await;
        Ok(())
    }

    /// Gives the share of a labelled revision that fails, and has none before it, back to the main one.
    async fn withdraw(&mut self, files: Files, secrets: Secrets, bad: &str, reason: &str) -> Result<(), Reject> {
        let counts = self.current.as_ref().map(Current::counts).unwrap_or_default();
        self.note_fault(&files, reason, counts).await;
        let (Some(label), Some(current)) = (&self.name.label, self.current.take()) else { return Ok(()) };
        let because = "it failed, and the main revision takes its share";
        self.context.events.rolled_back(&self.name, bad, current.published.elapsed(), reason, REMEDY);
        self.context.registry.remove_label(&self.name.service, label);
        self.context.board.withdrawn(&self.name.to_string());
        self.retire(current, Some(because));
        self.went_back(files, secrets, Reject::new(format!("the host went back from {bad}: {reason}"), REMEDY));
        Ok(())
    }

    fn went_back(&mut self, files: Files, secrets: Secrets, reject: Reject) {
        let bad = files.digest.short();
        self.context.board.rejected(&self.name.to_string(), Some(&bad), &reject.reason, &reject.remedy);
        let sighting = *self.sightings.borrow();
        let went_back_from = Some((files, SystemTime::now()));
        let secrets = Some(Ok(secrets));
        self.rejected = Some(Rejected { sighting, reject, secrets, contested: false, tries: 0, retry: None, went_back_from });
    }

    /// Remembers that somebody or the host went back from these files.
    pub(super) async fn note_fault(&self, files: &Files, reason: &str, counts: Counts) {
        let (files, end) = (files.clone(), End::RolledBack(reason.to_owned()));
        self.with_history(move |history, name| history.ended(name, &files, end, counts)).await;
    }

    /// The build and the settings of a revision of the history. A labelled one has the settings that its service has now.
    pub(super) async fn candidate_of(&self, entry: Entry) -> Result<Candidate, Reject> {
        let repeats = Some(entry.origin());
        self.candidate_of_files(entry.files()).await.map(|candidate| Candidate { repeats, ..candidate })
    }

    async fn candidate_of_files(&self, files: Files) -> Result<Candidate, Reject> {
        let detected = Instant::now();
        let digest = files.digest;
        let text = match self.name.label {
            None => files.settings.map(Bytes::from),
            Some(_) => match self.read_settings().await {
                Ok(read) => read.map(|(text, _)| text),
                Err(error) => return Err(Reject::transient(error.to_string(), super::UNREADABLE_REMEDY)),
            },
        };
        let read = self.with_history(move |history, _| Some(history.build(&digest))).await;
        match read {
            Some(Ok(build)) => self.candidate(build, text, detected).await,
            read => {
                let error = read.and_then(Result::err).map(|error| format!(": {error}")).unwrap_or_default();
                Err(Reject::new(
                    format!("the build of revision {} cannot be read from the history{error}", digest.short()),
                    "put the build into the bay again, or go back to another revision",
                ))
            }
        }
    }
}
