//! Orders of the admin API, carried out between two swaps of the same service: checked first, then written into the bay, then
//! published. What is rejected leaves the bay as it was.

use super::{
    bay::Written,
    history::{Came, Entry},
    orders::{Change, Done, Order, OrderError, Published},
    swap::{Candidate, Swaps},
};
use crate::{
    config::{BuildName, Label, without_share},
    fault_point,
    runtime::Reject,
};
use bytes::Bytes;
use std::{io, time::Instant};

/// The shortest beginning of a digest that names a revision.
const PREFIX_MIN: usize = 4;

impl Swaps {
    /// Carries out one order and tells whoever gave it.
    pub(super) async fn carry_out(&mut self, order: Order) {
        let done = match order.change {
            Change::Remove => self.take_out().await,
            change => self.put(change).await,
        };
        // Whoever gave it may have gone; it is done all the same.
        let _ = order.reply.send(done);
        // The files in the bay are others now; the next look must not be the old one.
        self.context.hint.notify_one();
    }

    async fn put(&mut self, change: Change) -> Result<Done, OrderError> {
        let (came, promoted) = match &change {
            Change::Rollback { .. } => (Came::Rollback, None),
            Change::Promote { label } => (Came::Promote, Some(BuildName { label: Some(label.clone()), ..self.name.clone() })),
            _ => (Came::Deploy, None),
        };
        let done = self.put_as(change, came).await?;
        if let Some(promoted) = promoted {
            // Last, so that a crash leaves two of it and not none.
            self.bay_work(move |bay| bay.remove(&promoted)).await?;
        }
        Ok(done)
    }

    async fn put_as(&mut self, change: Change, came: Came) -> Result<Done, OrderError> {
        let (candidate, written) = self.ordered(change).await?;
        if let Some(reject) = self.unlabelled(&candidate).await {
            return Err(self.order_rejected(&candidate, reject));
        }
        let digest = *candidate.build.digest();
        if self.serves(&digest, candidate.settings.as_ref()) {
            // What lies in the bay may be something else, which was rejected.
            self.write(written, None).await?;
            self.share_anew(candidate.settings.as_ref());
            self.rejected = None;
            self.context.board.mended(&self.name.to_string());
            return Ok(Done::Unchanged { digest });
        }
        let prepared = match self.prepare(&candidate).await {
            Ok(prepared) => prepared,
            Err(reject) => return Err(self.order_rejected(&candidate, reject)),
        };
        if let Err(conflict) = self.check_routes(candidate.settings.as_ref()) {
            prepared.discard().await;
            return Err(self.order_rejected(&candidate, conflict));
        }
        if let Err(error) = self.write(written, Some(&candidate)).await {
            prepared.discard().await;
            return Err(error.into());
        }
        let steps = prepared.steps.clone();
        self.publish(prepared, &candidate, came, None).map_err(|reject| self.order_rejected(&candidate, reject))?;
        let took = candidate.detected.elapsed();
        self.remember(candidate.build, came).await;
        Ok(Done::Published(Published { digest, took, steps }))
    }

    /// What is ordered, and what of it has to be written into the bay.
    async fn ordered(&self, change: Change) -> Result<(Candidate, Written), OrderError> {
        let detected = Instant::now();
        match change {
            Change::Build(build) => {
                let settings = self.read_settings().await?;
                let written = Written { build: Some(build.clone()), settings: None };
                Ok((Candidate { build, settings, detected }, written))
            }
            Change::Both(build, settings) => {
                let settings = Some(settings);
                let written = Written { build: Some(build.clone()), settings: Some(settings.clone()) };
                Ok((Candidate { build, settings, detected }, written))
            }
            Change::Settings(settings) => {
                let build = match self.read().await {
                    Ok(contents) => contents.build,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(OrderError::UnknownService(self.name.clone()));
                    }
                    Err(error) => return Err(error.into()),
                };
                let written = Written { build: None, settings: Some(settings.clone()) };
                Ok((Candidate { build, settings, detected }, written))
            }
            Change::Rollback { to } => {
                let entry = self.find(to.as_deref()).await?;
                let candidate = self.candidate_of(entry).await.map_err(OrderError::Rejected)?;
                let written = Written { build: Some(candidate.build.clone()), settings: Some(candidate.settings.clone()) };
                Ok((candidate, written))
            }
            Change::Promote { label } => {
                let labelled = BuildName { label: Some(label.clone()), ..self.name.clone() };
                let build = match self.bay_work(move |bay| bay.read(&labelled)).await {
                    Ok(contents) => contents.build,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.unknown_label(&label).await),
                    Err(error) => return Err(error.into()),
                };
                let before = self.read_settings().await?;
                let text = before.as_ref().and_then(|text| without_share(std::str::from_utf8(text).ok()?, &label));
                let changed = text.map(|text| Some(Bytes::from(text)));
                let settings = changed.clone().unwrap_or(before);
                let written = Written { build: Some(build.clone()), settings: changed };
                Ok((Candidate { build, settings, detected }, written))
            }
            Change::Remove => Err(OrderError::UnknownService(self.name.clone())),
        }
    }

    async fn read_settings(&self) -> io::Result<Option<Bytes>> {
        let service = self.name.service.clone();
        let read = self.bay_work(move |bay| bay.read_settings(&service)).await?;
        Ok(read.map(|(text, _)| text))
    }

    async fn unknown_label(&self, label: &Label) -> OrderError {
        let service = self.name.service.clone();
        let labels = self.bay_work(move |bay| bay.labels(&service)).await.unwrap_or_default();
        OrderError::UnknownRevision {
            reason: format!("`{}` has no labelled revision `{label}`", self.name),
            known: labels.iter().map(|label| format!("{}@{label}", self.name)).collect(),
        }
    }

    /// The revision to go back to: the last one before the one that serves that nobody went back from, or the one whose digest
    /// begins with `to`.
    async fn find(&self, to: Option<&str>) -> Result<Entry, OrderError> {
        let entries = self.with_history(|history, name| Some(history.entries(name))).await;
        let entries = entries.unwrap_or_else(|| Ok(Vec::new()))?;
        let current = self.current.as_ref().map(|current| &current.files);
        let others = || entries.iter().rev().filter(|entry| current.is_none_or(|files| !entry.is_of(files)));
        let known = || {
            let mut known: Vec<String> = Vec::new();
            for revision in entries.iter().rev().map(|entry| entry.digest.short()) {
                if !known.contains(&revision) {
                    known.push(revision);
                }
            }
            known
        };
        let unknown = |reason: String| OrderError::UnknownRevision { reason, known: known() };
        if entries.is_empty() && current.is_none() {
            return Err(OrderError::UnknownService(self.name.clone()));
        }
        let Some(to) = to else {
            return others()
                .find(|entry| entry.is_good())
                .cloned()
                .ok_or_else(|| unknown(format!("`{}` has no earlier good revision", self.name)));
        };
        if to.len() < PREFIX_MIN || !to.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown(format!(
                "`{}` names no revision: write its first {PREFIX_MIN} to 64 hex digits",
                to.escape_debug()
            )));
        }
        let begins = |entry: &&Entry| entry.digest.to_string().starts_with(&to.to_ascii_lowercase());
        let found: Vec<&Entry> = entries.iter().rev().filter(begins).collect();
        match found.split_first() {
            // One build with several settings: the last of them, and rather not the one that serves.
            Some((first, rest)) if rest.iter().all(|entry| entry.digest == first.digest) => {
                Ok(others().find(begins).unwrap_or(first).clone())
            }
            Some(_) => Err(unknown(format!("several revisions of `{}` begin with {to}", self.name))),
            None => Err(unknown(format!("`{}` has no revision {to} in its history", self.name))),
        }
    }

    /// Writes into the bay. A change of both files is noted first, so that a crash between them is made good at the next start.
    async fn write(&self, written: Written, noted: Option<&Candidate>) -> io::Result<()> {
        let (context, name) = (self.context.clone(), self.name.clone());
        let noted = noted.filter(|_| written.build.is_some() && written.settings.is_some());
        let noted = noted.map(|candidate| (candidate.build.clone(), candidate.files().settings));
        let writing = tokio::task::spawn_blocking(move || {
            if let Some((build, settings)) = &noted {
                context.history.intend(&name.to_string(), build, settings.clone())?;
            }
            fault_point::reached("intended");
            let wrote = context.bay.write(&name, &written);
            fault_point::reached("placed");
            if noted.is_some() {
                context.history.settled(&name.to_string());
            }
            wrote
        });
        writing.await.map_err(io::Error::other)?
    }

    async fn take_out(&mut self) -> Result<Done, OrderError> {
        let name = self.name.clone();
        let was_there = self.bay_work(move |bay| bay.remove(&name)).await?;
        if !was_there && self.current.is_none() {
            return Err(OrderError::UnknownService(self.name.clone()));
        }
        self.removed().await;
        Ok(Done::Removed)
    }

    fn order_rejected(&self, candidate: &Candidate, reject: Reject) -> OrderError {
        let revision = candidate.build.digest().short();
        let took = candidate.detected.elapsed();
        self.context.events.rejected(&self.name, Some(&revision), took, &reject.reason, &reject.remedy);
        OrderError::Rejected(reject)
    }
}
