//! What is remembered of one service: its revisions in the order of their publication, as one JSON document.

use crate::{
    config::RollbackPolicy,
    deploy::{bay::Stamps, verdict::Counts},
    runtime::{Build, Digest},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    io,
    time::{Duration, SystemTime},
};

/// The layout of the documents. One of a later layout is left alone.
const VERSION: u32 = 1;

/// How a revision came to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Came {
    /// Somebody put files into the bay.
    Bay,
    /// By the admin API.
    Deploy,
    /// Somebody went back to it.
    Rollback,
    /// A labelled revision was made the main one.
    Promote,
    /// The host went back to it, since the one after it failed.
    AutomaticRollback,
    /// The host started with files in the bay that were rejected.
    LastGood,
}

impl Came {
    /// The name in logs, events and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bay => "bay",
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Promote => "promote",
            Self::AutomaticRollback => "automatic-rollback",
            Self::LastGood => "last-good",
        }
    }
}

/// How a revision ceased to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how", content = "reason")]
pub enum End {
    /// Another took its place.
    Replaced,
    /// Its files were taken out of the bay.
    Removed,
    /// The host went back from it, or somebody ordered that, with the reason.
    RolledBack(String),
    /// The host ended.
    HostEnded,
}

/// One revision that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts the publications of the service from 1. Revisions of one build are told apart by it.
    #[serde(default)]
    pub number: u64,
    /// SHA-256 of its build.
    pub digest: Digest,
    /// Bytes of its build.
    pub size: u64,
    /// The text of `NAME.toml` as it was; none where there was no such file.
    pub settings: Option<String>,
    /// How it came.
    pub came: Came,
    /// When it was published first.
    #[serde(with = "moment")]
    pub published: SystemTime,
    /// Since when it serves, or when it began to for the last time: a restart of the host begins anew.
    #[serde(with = "moment")]
    pub since: SystemTime,
    /// How long it had served before `since`, in milliseconds.
    pub served_ms: u64,
    /// Its requests that had ended when it ceased to serve, as far as its hosts could write that down.
    #[serde(default)]
    pub requests: u64,
    /// Those of them that ended in a fault that was the guest's alone.
    #[serde(default)]
    pub faults: u64,
    /// The number of the publication that it repeats, where somebody or the host went back to it.
    #[serde(default)]
    pub repeats: Option<u64>,
    /// When and how it ceased to serve; none for the one that serves, and for one whose host was killed.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// The end of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    #[serde(with = "moment")]
    pub at: SystemTime,
    /// How.
    #[serde(flatten)]
    pub end: End,
}

impl Entry {
    /// How long it has served in all. After a host was killed the time until its next start counts as well, since nobody saw the
    /// end.
    pub fn served(&self) -> Duration {
        let until = self.ended.as_ref().map_or_else(SystemTime::now, |ended| ended.at);
        Duration::from_millis(self.served_ms) + until.duration_since(self.since).unwrap_or_default()
    }

    /// The number of the publication that it is, or that it repeats.
    pub(crate) fn origin(&self) -> u64 {
        self.repeats.unwrap_or(self.number)
    }

    /// Whether it was asked often enough for `policy` to tell, and did not fail.
    pub(in crate::deploy) fn is_proven(&self, policy: &RollbackPolicy) -> bool {
        let Self { requests, faults, .. } = *self;
        requests >= u64::from(policy.min_requests.0) && !policy.faults.is_reached_by(faults, requests)
    }

    /// What it was made of.
    pub(crate) fn files(&self) -> Files {
        Files { digest: self.digest, size: self.size, settings: self.settings.clone() }
    }

    /// Whether these files make this revision.
    pub(crate) fn is_of(&self, files: &Files) -> bool {
        self.digest == files.digest && self.settings == files.settings
    }

    /// Adds what was counted since the last time.
    fn count(&mut self, counts: Counts) {
        self.requests = self.requests.saturating_add(counts.requests);
        self.faults = self.faults.saturating_add(counts.faults);
    }

    /// Why it was gone back from, and when, if that is how it ended.
    pub(crate) fn fault(&self) -> Option<(&str, SystemTime)> {
        match &self.ended {
            Some(Ended { at, end: End::RolledBack(reason) }) => Some((reason, *at)),
            _ => None,
        }
    }
}

/// The revisions that nobody has seen fault with, the latest first and each once: it counts how it fared the last time. What has the
/// same `identity` is one revision.
pub(in crate::deploy) fn good<K: PartialEq>(entries: &[Entry], identity: impl Fn(&Entry) -> K) -> Vec<&Entry> {
    let (mut seen, mut good) = (Vec::new(), Vec::new());
    for entry in entries.iter().rev() {
        let identity = identity(entry);
        if seen.contains(&identity) {
            continue;
        }
        seen.push(identity);
        if entry.fault().is_none() {
            good.push(entry);
        }
    }
    good
}

/// What makes a revision: a build and the text of its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// SHA-256 of the build.
    pub digest: Digest,
    /// Bytes of the build.
    pub size: u64,
    /// The text of `NAME.toml`, if there is one.
    pub settings: Option<String>,
}

impl Files {
    pub(crate) fn of(build: &Build, settings: Option<&Bytes>) -> Self {
        // Settings that are no UTF-8 make no revision.
        let settings = settings.map(|text| String::from_utf8_lossy(text).into_owned());
        Self { digest: *build.digest(), size: u64::try_from(build.size()).unwrap_or(u64::MAX), settings }
    }
}

/// What is remembered when a revision is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::deploy) struct Publication {
    pub(in crate::deploy) files: Files,
    pub(in crate::deploy) came: Came,
    /// The publication that it repeats.
    pub(in crate::deploy) repeats: Option<u64>,
    /// How what it replaced has fared.
    pub(in crate::deploy) replaced: Counts,
}

/// A change of both files of a service that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::deploy) struct Intended {
    /// What is to lie in the bay.
    pub(in crate::deploy) files: Files,
    /// What lay there before. What is neither was placed by somebody else and stays.
    pub(in crate::deploy) before: Stamps,
}

/// All that is remembered of a service.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// The oldest first.
    pub(super) entries: Vec<Entry>,
    /// How many publications there were in all.
    #[serde(default)]
    published: u64,
    /// What is being written into the bay, so that a crash in the middle is made good at the next start.
    #[serde(default)]
    pub(super) intended: Option<Intended>,
}

impl Record {
    pub(super) fn parse(text: &[u8]) -> io::Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        match serde_json::from_slice(text)? {
            Versioned { version } if version > VERSION => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("it was written by a later hotbay (layout {version}; this one reads up to {VERSION})"),
            )),
            Versioned { .. } => Ok(serde_json::from_slice(text)?),
        }
    }

    pub(super) fn text(&self) -> io::Result<Vec<u8>> {
        let current = Self { version: VERSION, ..self.clone() };
        Ok(serde_json::to_vec_pretty(&current)?)
    }

    /// Remembers a publication at `now`; `replaced` is how the revision before it fared.
    pub(super) fn publish(&mut self, publication: Publication, now: SystemTime) {
        let Publication { files, came, repeats, replaced } = publication;
        if let Some(last) = self.entries.last_mut()
            && last.is_of(&files)
            // Without an end: the host was killed, or another one took over. It has served all the while as far as is known.
            && last.ended.as_ref().is_none_or(|ended| ended.end == End::HostEnded)
        {
            if last.ended.is_some() {
                last.served_ms = millis(last.served());
                (last.since, last.ended) = (now, None);
            }
            return;
        }
        for serving in self.entries.iter_mut().filter(|entry| entry.ended.is_none()) {
            serving.ended = Some(Ended { at: now, end: End::Replaced });
            serving.count(replaced);
        }
        self.append(files, came, repeats, now);
    }

    fn append(&mut self, files: Files, came: Came, repeats: Option<u64>, now: SystemTime) {
        let Files { digest, size, settings } = files;
        self.published = self.published.saturating_add(1);
        self.entries.push(Entry {
            number: self.published,
            digest,
            size,
            settings,
            came,
            published: now,
            since: now,
            served_ms: 0,
            requests: 0,
            faults: 0,
            repeats,
            ended: None,
        });
    }

    /// Remembers that the revision of these files ceases to serve at `now`. One whose publication could not be remembered, and that
    /// must not come back, is remembered with its end.
    pub(super) fn end(&mut self, files: &Files, end: End, counts: Counts, now: SystemTime) {
        let is_there = self.entries.iter().any(|entry| entry.is_of(files));
        if !is_there && matches!(end, End::RolledBack(_)) {
            self.append(files.clone(), Came::Bay, None, now);
        }
        if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.is_of(files)) {
            entry.count(counts);
            match &mut entry.ended {
                None => entry.ended = Some(Ended { at: now, end }),
                // What was told while another host ended in the middle of it.
                Some(ended) if ended.end == End::HostEnded && end != End::HostEnded => *ended = Ended { at: now, end },
                Some(_) => {}
            }
        }
    }

    /// What was taken out while no host ran has ceased to serve before, and is removed all the same.
    pub(super) fn missing(&mut self, now: SystemTime) {
        let Some(last) = self.entries.last_mut() else { return };
        match &mut last.ended {
            None => last.ended = Some(Ended { at: now, end: End::Removed }),
            Some(ended) if ended.end == End::HostEnded => ended.end = End::Removed,
            Some(_) => {}
        }
    }

    /// What serves is the same revision under another text: other shares, another comment.
    pub(super) fn reword(&mut self, before: &Files, settings: Option<String>) {
        if let Some(last) = self.entries.last_mut().filter(|last| last.is_of(before) && last.ended.is_none()) {
            last.settings = settings;
        }
    }

    /// Forgets the oldest of those that do not serve, until `keep` of them are left.
    pub(super) fn trim(&mut self, keep: usize) {
        let idle = self.entries.iter().filter(|entry| entry.ended.is_some()).count();
        for _ in keep..idle {
            self.forget_oldest();
        }
    }

    /// When the oldest that does not serve was published.
    pub(super) fn oldest(&self) -> Option<SystemTime> {
        self.entries.iter().find(|entry| entry.ended.is_some()).map(|entry| entry.published)
    }

    /// Rather one that was published again later: to go back to and fro must not cost what else there is.
    pub(super) fn forget_oldest(&mut self) {
        let is_idle = |entry: &Entry| entry.ended.is_some();
        let is_repeated = |(position, entry): (usize, &Entry)| {
            let mut later = self.entries.iter().skip(position.saturating_add(1));
            is_idle(entry) && later.any(|later| later.is_of(&entry.files()))
        };
        let repeated = self.entries.iter().enumerate().position(is_repeated);
        if let Some(oldest) = repeated.or_else(|| self.entries.iter().position(is_idle)) {
            self.entries.remove(oldest);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC, to the millisecond.
mod moment {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use std::time::SystemTime;

    pub(super) fn serialize<S: Serializer>(moment: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(*moment))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(build: &str, settings: Option<&str>) -> Files {
        let build = Build::of(Bytes::copy_from_slice(build.as_bytes()));
        Files { settings: settings.map(str::to_owned), ..Files::of(&build, None) }
    }

    fn publish(record: &mut Record, files: Files, came: Came, now: SystemTime) {
        record.publish(Publication { files, came, repeats: None, replaced: Counts::default() }, now);
    }

    fn end(record: &mut Record, build: &str, end: End, now: SystemTime) {
        record.end(&files(build, None), end, Counts { requests: 1, faults: 0 }, now);
    }

    fn numbers(record: &Record) -> Vec<u64> {
        good(&record.entries, Entry::files).iter().map(|entry| entry.number).collect()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn it_reads_what_it_wrote_and_leaves_a_later_layout_alone() {
        let mut record = Record::default();
        publish(&mut record, files("a", Some("[limits]\n")), Came::Bay, at(1));
        publish(&mut record, files("b", None), Came::Deploy, at(2));
        end(&mut record, "b", End::RolledBack("9 of 10 failed".to_owned()), at(4));
        record.intended = Some(Intended { files: files("a", None), before: Stamps::default() });
        let read = Record::parse(&record.text().unwrap()).unwrap();
        assert_eq!((&read.entries, &read.intended), (&record.entries, &record.intended));
        assert_eq!(read.entries[0].ended, Some(Ended { at: at(2), end: End::Replaced }));
        assert_eq!(read.entries[1].served(), Duration::from_secs(2));
        let later = Record::parse(br#"{"version": 2, "revisions": {}}"#).unwrap_err();
        assert_eq!(later.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_restart_goes_on_with_the_same_entry() {
        let mut record = Record::default();
        publish(&mut record, files("a", None), Came::Bay, at(10));
        end(&mut record, "a", End::HostEnded, at(20));
        publish(&mut record, files("a", None), Came::Bay, at(100));
        end(&mut record, "a", End::Removed, at(105));
        assert_eq!(record.entries.len(), 1);
        assert_eq!(record.entries[0].served(), Duration::from_secs(15));
        publish(&mut record, files("a", None), Came::Bay, at(200));
        assert_eq!(record.entries.len(), 2, "what was removed and comes back is another publication");
    }

    #[test]
    fn the_end_of_one_that_could_not_be_remembered_is_its_own() {
        let mut record = Record::default();
        publish(&mut record, files("a", None), Came::Bay, at(1));
        end(&mut record, "b", End::Removed, at(2));
        assert_eq!(record.entries[0].ended, None, "another one ended");
        end(&mut record, "b", End::RolledBack("it failed".to_owned()), at(3));
        assert_eq!(record.entries[1].fault(), Some(("it failed", at(3))));
        assert_eq!(numbers(&record), [1]);
        end(&mut record, "a", End::HostEnded, at(4));
        end(&mut record, "a", End::RolledBack("it failed too".to_owned()), at(5));
        assert_eq!(numbers(&record), [0; 0]);
    }

    #[test]
    fn a_revision_is_as_good_as_it_was_the_last_time() {
        let mut record = Record::default();
        let order = |record: &mut Record, build, second| publish(record, files(build, None), Came::Bay, at(second));
        for (build, second) in [("a", 1), ("b", 2), ("a", 3), ("b", 4)] {
            order(&mut record, build, second);
        }
        end(&mut record, "b", End::RolledBack("by an order".to_owned()), at(5));
        order(&mut record, "a", 5);
        assert_eq!(numbers(&record), [5]);
        order(&mut record, "b", 6);
        assert_eq!(numbers(&record), [6, 5]);
    }

    #[test]
    fn another_text_of_the_same_revision_is_no_publication() {
        let mut record = Record::default();
        publish(&mut record, files("a", None), Came::Bay, at(1));
        record.reword(&files("a", None), Some("# a comment".to_owned()));
        publish(&mut record, files("a", Some("# a comment")), Came::Bay, at(2));
        assert_eq!(record.entries.len(), 1);
    }

    #[test]
    fn going_to_and_fro_pushes_nothing_else_out() {
        let mut record = Record::default();
        for (second, build) in ["a", "b", "c", "b", "c", "b", "c"].into_iter().enumerate() {
            publish(&mut record, files(build, None), Came::Bay, at(second as u64));
        }
        record.trim(2);
        assert_eq!(numbers(&record), [7, 6, 1]);
    }

    #[test]
    fn the_serving_one_is_never_forgotten() {
        let mut record = Record::default();
        for (second, build) in ["a", "b", "c", "d"].into_iter().enumerate() {
            publish(&mut record, files(build, None), Came::Bay, at(second as u64));
        }
        record.trim(2);
        let left: Vec<_> = record.entries.iter().map(|entry| entry.digest).collect();
        assert_eq!(left, ["b", "c", "d"].map(|build| Digest::of(build.as_bytes())));
        record.trim(0);
        assert_eq!(record.entries.len(), 1);
        assert_eq!(record.oldest(), None);
    }
}
