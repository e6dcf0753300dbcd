//! Which revision of the history an order goes back to.

use super::{history::Entry, orders::OrderError, publication::Current, swap::Swaps};

/// The shortest beginning of a digest that names a revision.
const PREFIX_MIN: usize = 4;

/// What an order names a revision by.
enum Named<'a> {
    /// The number of its publication, written `v3`.
    Number(u64),
    /// The beginning of its digest.
    Digest(&'a str),
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if let Some(number) = text.strip_prefix('v') {
            return number.parse().ok().map(Self::Number);
        }
        let is_prefix = text.len() >= PREFIX_MIN && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_prefix.then_some(Self::Digest(text))
    }
}

/// A revision to go back to.
pub(super) struct Choice {
    pub(super) entry: Entry,
    /// It came before the one that serves, which is not to be chosen again by itself.
    pub(super) is_back: bool,
}

impl Swaps {
    /// The revision that is named; by default the last good one before the one that serves, or the one that serves where it is not
    /// what lies in the bay.
    pub(super) async fn choose(&self, to: Option<&str>) -> Result<Choice, OrderError> {
        let entries = self.with_history(|history, name| Some(history.entries(name))).await;
        let entries = entries.unwrap_or_else(|| Ok(Vec::new()))?;
        if entries.is_empty() && self.current.is_none() {
            return Err(OrderError::UnknownService(self.name.clone()));
        }
        let entry = match to {
            None => self.earlier(&entries),
            Some(to) => self.named(&entries, to),
        };
        let entry = entry.map_err(|reason| OrderError::UnknownRevision { reason, known: known(&entries) })?;
        let is_back = entry.origin() < self.origin(&entries);
        Ok(Choice { entry: entry.clone(), is_back })
    }

    fn earlier<'a>(&self, entries: &'a [Entry]) -> Result<&'a Entry, String> {
        let is_current = self.is_current();
        // What the host has chosen itself is meant: to choose it is to make the bay agree.
        let wants_current = self.current.as_ref().is_some_and(Current::is_instead_of_the_bay);
        let origin = self.origin(entries);
        let is_meant = |entry: &&Entry| is_current(entry) == wants_current && (wants_current || entry.origin() < origin);
        let found = self.good(entries).into_iter().find(is_meant);
        found.ok_or_else(|| format!("`{}` has no earlier good revision", self.name))
    }

    /// The number of the publication that serves, or of the one that it repeats: what was published later is not before it.
    fn origin(&self, entries: &[Entry]) -> u64 {
        let is_current = self.is_current();
        entries.iter().rev().find(|entry| is_current(entry)).map_or(u64::MAX, Entry::origin)
    }

    fn named<'a>(&self, entries: &'a [Entry], to: &str) -> Result<&'a Entry, String> {
        let Some(named) = Named::parse(to) else {
            let asked = to.escape_debug();
            return Err(format!(
                "`{asked}` names no revision: write v and its number, or the first {PREFIX_MIN} to 64 hex digits of its digest"
            ));
        };
        let prefix = match named {
            Named::Number(number) => {
                let found = entries.iter().find(|entry| entry.number == number);
                return found.ok_or_else(|| format!("`{}` has no v{number} in its history", self.name));
            }
            Named::Digest(prefix) => prefix.to_ascii_lowercase(),
        };
        let found: Vec<&Entry> = entries.iter().rev().filter(|entry| entry.digest.to_string().starts_with(&prefix)).collect();
        match found.split_first() {
            // One build with several settings: the last of them, and rather not the one that serves.
            Some((last, rest)) if rest.iter().all(|entry| entry.digest == last.digest) => {
                let is_current = self.is_current();
                Ok(found.iter().find(|entry| !is_current(entry)).unwrap_or(last))
            }
            Some(_) => Err(format!("several revisions of `{}` begin with {to}", self.name)),
            None => Err(format!("`{}` has no revision {to} in its history", self.name)),
        }
    }
}

/// The revisions that there are, the newest first and each once.
fn known(entries: &[Entry]) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for revision in entries.iter().rev().map(|entry| entry.digest.short()) {
        if !known.contains(&revision) {
            known.push(revision);
        }
    }
    known
}
