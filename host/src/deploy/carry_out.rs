//! Orders of the admin API, carried out between two swaps of the same service: checked first, then written into the bay, then
//! published. What is rejected leaves the bay as it was, and what somebody placed meanwhile stays.

use super::{
    bay::{StagedFiles, Stamp, Stamps, Written, is_blank},
    candidate::Candidate,
    choice::Choice,
    history::{Came, Entry, Files, Intended},
    orders::{Change, Done, Order, OrderError, Published},
    swap::{SETTLED_TRUNCATED, Swaps, WRITING_PAUSE},
    verdict::Counts,
};
use crate::{
    config::{BuildName, Label, Settings, with_shares, without_share},
    fault_point,
    runtime::{Build, Digest, Reject},
};
use bytes::Bytes;
use std::{io, time::Instant};
use tracing::warn;

/// What an order makes of the bay.
struct Ordered {
    candidate: Candidate,
    written: Written,
    /// The files as they were when the order was begun.
    before: Stamps,
    /// What is gone back from by it.
    abandoned: Option<Files>,
}

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
        let came = match &change {
            Change::Rollback { .. } => Came::Rollback,
            Change::Promote { .. } => Came::Promote,
            _ => Came::Deploy,
        };
        let promoted = match &change {
            Change::Promote { label } => Some(BuildName { label: Some(label.clone()), ..self.name.clone() }),
            _ => None,
        };
        let ordered = self.ordered(change).await?;
        let digest = *ordered.candidate.build.digest();
        let done = self.put_as(ordered, came).await?;
        if let Some(promoted) = promoted {
            // Last, so that a crash leaves two of it and not none. What was placed there meanwhile is another one, and stays.
            let labelled = promoted.clone();
            let removed = self.bay_work(move |bay| bay.remove_build(&labelled, &digest)).await;
            if let Err(error) = removed.map_err(|error| error.to_string()) {
                warn!(service = %self.name.service, label = promoted.label(), error, "{promoted} was promoted, and its build stays in the bay: {error}");
            }
        }
        Ok(done)
    }

    async fn put_as(&mut self, ordered: Ordered, came: Came) -> Result<Done, OrderError> {
        let Ordered { candidate, written, before, abandoned } = ordered;
        let digest = *candidate.build.digest();
        if let Some(reject) = self.unlabelled(&candidate).await {
            return Err(self.order_rejected(&candidate, reject));
        }
        if self.serves(&candidate) {
            // What lies in the bay may be something else, which was rejected.
            let staged = self.stage(&written).await?;
            self.place(&candidate, &written, staged, before).await?;
            self.is_in_the_bay(&candidate).await;
            return Ok(Done::Unchanged { digest });
        }
        let prepared = match self.prepare(&candidate).await {
            Ok(prepared) => prepared,
            Err(reject) => return Err(self.order_rejected(&candidate, reject)),
        };
        let staged = match self.stage(&written).await {
            Ok(staged) => staged,
            Err(error) => {
                prepared.discard().await;
                return Err(error.into());
            }
        };
        // As for files that a person places: what is new to the history is watched although nothing serves before it.
        let before_it = (self.current.is_none() && self.past_of(&candidate).await.is_young).then(Counts::default);
        let context = self.context.clone();
        let turn = context.publishing.lock().await;
        let placed = match self.check(&candidate, &prepared.revision) {
            Ok(()) => self.place(&candidate, &written, staged, before).await,
            Err(conflict) => Err(self.order_rejected(&candidate, conflict)),
        };
        if let Err(error) = placed {
            drop(turn);
            prepared.discard().await;
            return Err(error);
        }
        let steps = prepared.steps.clone();
        let published = self.publish(prepared, &candidate, came, None, before_it);
        drop(turn);
        published.map_err(|reject| self.order_rejected(&candidate, reject))?;
        let took = candidate.detected.elapsed();
        if let (Some(files), Some(current)) = (abandoned, &mut self.current) {
            let counts = std::mem::take(&mut current.replaced);
            self.note_fault(&files, "somebody ordered it", counts).await;
        }
        self.remember(&candidate).await;
        Ok(Done::Published(Published { digest, took, steps }))
    }

    /// What is ordered, and what of it has to be written into the bay.
    async fn ordered(&mut self, change: Change) -> Result<Ordered, OrderError> {
        let detected = Instant::now();
        let name = self.name.clone();
        let mut before = self.bay_work(move |bay| bay.stamps(&name)).await?;
        let mut repeats = None;
        let (build, text, written, abandoned) = match change {
            Change::Build(build) => {
                let text = self.settled_settings(&mut before).await?;
                (build.clone(), text, Written { build: Some(build), settings: None }, None)
            }
            Change::Both(build, text) => {
                let text = Some(text);
                (build.clone(), text.clone(), Written { build: Some(build), settings: Some(text) }, None)
            }
            Change::Settings { text, made_from } => {
                if let Some(made_from) = made_from {
                    let there = self.settled_settings(&mut before).await?.unwrap_or_default();
                    if Digest::of(&there) != made_from {
                        return Err(OrderError::OtherSettings);
                    }
                }
                let build = self.build_there(&mut before).await?;
                (build, text.clone(), Written { build: None, settings: Some(text) }, None)
            }
            Change::Shares(shares) => {
                let there = self.settled_settings(&mut before).await?.unwrap_or_default();
                let text = Some(shared_out(&there, &shares).map_err(OrderError::Rejected)?);
                let build = self.build_there(&mut before).await?;
                (build, text.clone(), Written { build: None, settings: Some(text) }, None)
            }
            Change::Rollback { to } => {
                let Choice { entry, is_back } = self.choose(to.as_deref()).await?;
                let Candidate { build, text, repeats: origin, .. } =
                    self.candidate_of(entry).await.map_err(OrderError::Rejected)?;
                repeats = origin;
                // A labelled revision has the settings of its service, which are not its own to put back.
                let (text, settings) = match self.name.label {
                    Some(_) => (text, None),
                    None => {
                        let text = self.without_absent_labels(text).await?;
                        (text.clone(), Some(text))
                    }
                };
                let abandoned = self.current.as_ref().filter(|_| is_back).map(|current| current.files.clone());
                (build.clone(), text, Written { build: Some(build), settings }, abandoned)
            }
            Change::Promote { label } => {
                let labelled = BuildName { label: Some(label.clone()), ..self.name.clone() };
                let Some((build, stamp)) = self.build_of(labelled.clone()).await? else {
                    return Err(self.unknown_label(&label).await);
                };
                self.refuse_failed(&labelled, &build, &stamp).await?;
                let text = self.settled_settings(&mut before).await?;
                let changed = text.as_ref().and_then(|text| without_share(std::str::from_utf8(text).ok()?, &label));
                let changed = changed.map(|text| Some(Bytes::from(text)));
                let text = changed.clone().unwrap_or(text);
                (build.clone(), text, Written { build: Some(build), settings: changed }, None)
            }
            Change::Remove => return Err(OrderError::UnknownService(self.name.clone())),
        };
        let candidate = self.candidate(build, text, detected).await.map_err(OrderError::Rejected)?;
        let candidate = Candidate { repeats, ..candidate };
        Ok(Ordered { candidate, written, before, abandoned })
    }

    /// The build in the bay, for an order that leaves it there; `before` is of the same state.
    async fn build_there(&self, before: &mut Stamps) -> Result<Build, OrderError> {
        let unknown = OrderError::UnknownService(self.name.clone());
        let (build, stamp) = self.build_of(self.name.clone()).await?.ok_or(unknown)?;
        before.build = Some(stamp);
        Ok(build)
    }

    /// The build of `name` in the bay, if there is one, once nobody writes it.
    async fn build_of(&self, name: BuildName) -> Result<Option<(Build, Stamp)>, OrderError> {
        let read = self
            .still(|| {
                let name = name.clone();
                self.bay_work(move |bay| bay.read(&name))
            })
            .await;
        match read {
            Ok(contents) => Ok(Some((contents.build, contents.stamp))),
            Err(OrderError::Files(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The text of the settings in the bay, once it is one that a swap would believe; `before` is of the same state.
    async fn settled_settings(&mut self, before: &mut Stamps) -> Result<Option<Bytes>, OrderError> {
        loop {
            let read = self.still(|| self.read_settings()).await?;
            let is_blank = read.as_ref().is_some_and(|(text, _)| is_blank(text));
            let stamp = read.as_ref().map(|(_, stamp)| *stamp);
            let Some(wait) = self.settings_unsettled(stamp, is_blank) else {
                if self.name.label.is_none() {
                    before.settings = stamp;
                }
                return Ok(read.map(|(text, _)| text));
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Reads a file again while somebody writes it, for a while.
    async fn still<T, R: Future<Output = io::Result<T>>>(&self, read: impl Fn() -> R) -> Result<T, OrderError> {
        let until = Instant::now() + SETTLED_TRUNCATED;
        loop {
            match read().await {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => match Instant::now() < until {
                    true => tokio::time::sleep(WRITING_PAUSE).await,
                    false => return Err(OrderError::Changed(format!("somebody went on writing ({error})"))),
                },
                read => return Ok(read?),
            }
        }
    }

    pub(super) async fn read_settings(&self) -> io::Result<Option<(Bytes, Stamp)>> {
        let service = self.name.service.clone();
        self.bay_work(move |bay| bay.read_settings(&service)).await
    }

    /// Settings of the past without the shares of labels that are no more.
    async fn without_absent_labels(&self, text: Option<Bytes>) -> Result<Option<Bytes>, OrderError> {
        let service = self.name.service.clone();
        let labels = self.bay_work(move |bay| bay.labels(&service)).await?;
        let Some(Ok(before)) = text.as_ref().map(|text| std::str::from_utf8(text)) else { return Ok(text) };
        let shares = Settings::parse(&self.name.service, before).map(|settings| settings.traffic.shares).unwrap_or_default();
        let absent = shares.iter().map(|(label, _)| label).filter(|label| !labels.contains(label));
        let without = absent.fold(before.to_owned(), |text, label| without_share(&text, label).unwrap_or(text));
        Ok(Some(without.into()))
    }

    /// Refuses to promote what the host went back from, until it is placed anew.
    async fn refuse_failed(&self, labelled: &BuildName, build: &Build, stamp: &Stamp) -> Result<(), OrderError> {
        let name = labelled.to_string();
        let entries = self.with_history(move |history, _| history.entries(&name).unwrap_or_default()).await;
        let last = entries.iter().rev().find(|entry| entry.digest == *build.digest());
        match last.and_then(Entry::fault).filter(|(_, moment)| stamp.changed_at() <= *moment) {
            None => Ok(()),
            Some((reason, _)) => Err(OrderError::Rejected(Reject::new(
                format!("the host went back from `{labelled}`: {reason}"),
                format!("deploy a mended build as {labelled}; to promote this one all the same, place it once more"),
            ))),
        }
    }

    async fn unknown_label(&self, label: &Label) -> OrderError {
        let service = self.name.service.clone();
        let labels = self.bay_work(move |bay| bay.labels(&service)).await.unwrap_or_default();
        OrderError::UnknownRevision {
            reason: format!("`{}` has no labelled revision `{label}`", self.name),
            known: labels.iter().map(|label| format!("{}@{label}", self.name)).collect(),
        }
    }

    /// Writes the files beside their places: whatever the disk refuses, it refuses before anything changes.
    async fn stage(&self, written: &Written) -> io::Result<StagedFiles> {
        let (name, written) = (self.name.clone(), written.clone());
        self.bay_work(move |bay| bay.stage(&name, &written)).await
    }

    /// Puts the files in their places unless somebody has placed others since `before`. A change of both is noted first, so that a
    /// crash between them is made good at the next start.
    async fn place(
        &self,
        candidate: &Candidate,
        written: &Written,
        staged: StagedFiles,
        before: Stamps,
    ) -> Result<(), OrderError> {
        let (context, name) = (self.context.clone(), self.name.clone());
        let is_both = written.build.is_some() && written.settings.is_some();
        let noted = is_both.then(|| (candidate.build.clone(), Intended { files: candidate.files(), before }));
        let placing = tokio::task::spawn_blocking(move || {
            if let Some((build, intended)) = &noted {
                context.history.intend(&name.to_string(), build, intended.clone())?;
            }
            fault_point::reached("intended");
            // At the last moment: to write down what is intended may have taken long.
            let placed = match context.bay.stamps(&name)? == before {
                true => staged.place(&context.bay, &name).map_err(OrderError::from),
                false => Err(OrderError::Changed(format!("somebody placed other files of `{name}`"))),
            };
            fault_point::reached("placed");
            if noted.is_some() {
                context.history.settled(&name.to_string());
            }
            placed
        });
        placing.await.map_err(io::Error::other)?
    }

    async fn take_out(&mut self) -> Result<Done, OrderError> {
        if let Some(label) = self.name.label.clone() {
            self.take_share(&label).await?;
        }
        let name = self.name.clone();
        let was_there = self.bay_work(move |bay| bay.remove(&name)).await?;
        if !was_there && self.current.is_none() {
            return Err(OrderError::UnknownService(self.name.clone()));
        }
        self.removed().await;
        Ok(Done::Removed)
    }

    /// Takes the share of a label that is about to go out of its service's settings, which would not do without it.
    async fn take_share(&mut self, label: &Label) -> Result<(), OrderError> {
        let text = self.settled_settings(&mut Stamps::default()).await?;
        let text = text.as_ref().and_then(|text| std::str::from_utf8(text).ok());
        let Some(without) = text.and_then(|text| without_share(text, label)) else { return Ok(()) };
        let (main, written) = (self.name.main(), Written { build: None, settings: Some(Some(without.into())) });
        Ok(self.bay_work(move |bay| bay.stage(&main, &written)?.place(bay, &main)).await?)
    }

    fn order_rejected(&self, candidate: &Candidate, reject: Reject) -> OrderError {
        let revision = candidate.build.digest().short();
        let took = candidate.detected.elapsed();
        self.context.events.rejected(&self.name, Some(&revision), took, &reject.reason, &reject.remedy);
        OrderError::Rejected(reject)
    }
}

/// The text of settings with these shares.
fn shared_out(text: &Bytes, shares: &[(Label, u32)]) -> Result<Bytes, Reject> {
    let written = std::str::from_utf8(text)
        .map_err(|error| error.to_string())
        .and_then(|text| with_shares(text, shares.iter().map(|(label, percent)| (label, *percent))));
    written
        .map(Bytes::from)
        .map_err(|reason| Reject::new(format!("the settings in the bay cannot be changed: {reason}"), "mend them by hand first"))
}
