//! What becomes of a loaded revision, and of the one before it: published, rejected, drained, retired, remembered.

use super::{
    bay::{Bay, Sighting, Stamp},
    candidate::Candidate,
    event::State,
    history::{Came, End, Files, History, Publication},
    prepared::Prepared,
    swap::Swaps,
    verdict::{Counts, Lately, Watch},
};
use crate::{
    config::{BuildName, RouteSpec, Settings},
    fault_point,
    runtime::{Build, Drain, Kind, Links, Reject, Revision, Secrets},
};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Between two attempts with a build that failed for want of something of the host's, the least and the most.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How the first attempt of a service ended.
#[derive(Debug, Clone)]
pub enum Standing {
    /// Its revision serves.
    Published {
        /// 12 hex digits of the digest.
        revision: String,
        /// How it is served.
        kind: Kind,
        /// Where it answers, unless it is a library.
        routes: Vec<RouteSpec>,
        /// Why the files in the bay do not serve, where it is the last good revision of the history.
        instead_of: Option<Reject>,
    },
    /// It will not serve.
    Rejected(Reject),
    /// Its files were gone before they could be read.
    Gone,
}

/// The revision that serves.
pub(super) struct Current {
    pub(super) revision: Arc<Revision>,
    /// What its end needs.
    pub(super) drain: Drain,
    /// What it was made of.
    pub(super) files: Files,
    pub(super) came: Came,
    pub(super) published: Instant,
    pub(super) lately: Lately,
    /// While it is new.
    pub(super) watch: Option<Watch>,
    /// The number of the publication that it repeats.
    pub(super) repeats: Option<u64>,
    /// How what it replaced has fared.
    pub(super) replaced: Counts,
    /// Its build, while the history is still another host's.
    pub(super) unremembered: Option<Build>,
}

impl Current {
    pub(super) fn counts(&self) -> Counts {
        Counts::of(&self.revision)
    }

    /// When its counters are to be looked at even if it does not fail meanwhile.
    pub(super) fn next_look(&self) -> Instant {
        self.watch.map_or(self.lately.due(), |watch| watch.next_look().min(self.lately.due()))
    }

    /// What the history is told of it.
    fn publication(&self) -> Publication {
        Publication { files: self.files.clone(), came: self.came, repeats: self.repeats, replaced: self.replaced }
    }

    /// What the next revision is measured by.
    fn measure(&self) -> Counts {
        let lately = self.lately.counts(self.counts());
        self.watch.map_or(lately, |watch| watch.measure(lately))
    }

    /// Whether the bay holds something else, which failed.
    pub(super) fn is_instead_of_the_bay(&self) -> bool {
        matches!(self.came, Came::AutomaticRollback | Came::LastGood)
    }
}

/// What was rejected last.
pub(super) struct Rejected {
    /// The files as they were. The same content placed anew is a new attempt: whoever places it wants one.
    pub(super) sighting: Sighting,
    pub(super) reject: Reject,
    /// The secrets that it would have had, as they were; none where nothing was read.
    pub(super) secrets: Option<Result<Secrets, String>>,
    /// Whether another service is in the way, or is missing.
    pub(super) contested: bool,
    /// How often the same was tried again, and when to do so next; never where the build itself is at fault.
    pub(super) tries: u32,
    pub(super) retry: Option<Instant>,
    /// What the host went back from: not tried again until it is placed anew after this moment, however it is touched.
    pub(super) went_back_from: Option<(Files, SystemTime)>,
}

impl Rejected {
    /// Whether these are the files that the host went back from, not placed anew since. That an order has written them, which nobody
    /// had seen yet when they failed, or that other shares or comments stand beside them, is no new attempt.
    pub(super) fn is_gone_back_from(&self, name: &BuildName, candidate: &Candidate, stamp: &Stamp) -> bool {
        let Some((files, moment)) = &self.went_back_from else {
            return false;
        };
        candidate.makes_files(name, files) && stamp.changed_at() <= *moment && !self.had_other_secrets(candidate)
    }

    /// Whether its secrets have changed since.
    pub(super) fn had_other_secrets(&self, candidate: &Candidate) -> bool {
        self.secrets.as_ref().is_some_and(|secrets| *secrets != candidate.secrets_seen())
    }
}

impl Swaps {
    /// Publishes what was prepared of `candidate`. `reason` says why, where it is not what lies in the bay; `before` is what it is
    /// measured by where nothing serves before it.
    ///
    /// # Errors
    /// Another service owns one of its routes, or they do not agree on an interface or would call each other in a circle; nothing has
    /// changed.
    pub(super) fn publish(
        &mut self,
        prepared: Prepared,
        candidate: &Candidate,
        came: Came,
        reason: Option<&str>,
        before: Option<Counts>,
    ) -> Result<(), Reject> {
        let Prepared { revision, drain, .. } = prepared;
        let registry = &self.context.registry;
        let published = match &self.name.label {
            None => registry.publish(revision.clone()),
            // It answers on the routes of the main revision.
            Some(label) => registry.publish_labelled(label, revision.clone()).map(|()| !revision.links().is_empty()),
        };
        let routes_changed = match published {
            Ok(routes_changed) => routes_changed,
            Err(reject) => {
                drop(revision);
                tokio::spawn(drain.retire());
                return Err(reject);
            }
        };
        fault_point::reached("published");
        let short = revision.digest().short();
        let of_the_bay = !matches!(came, Came::AutomaticRollback | Came::LastGood);
        if of_the_bay {
            self.lacks_nothing();
        }
        self.context.board.published(&self.name.to_string(), &revision, came, reason, of_the_bay);
        self.context.events.published(&self.name, &short, candidate.detected.elapsed(), came, reason);
        let instead_of = match came {
            Came::LastGood => self.rejected.as_ref().map(|rejected| rejected.reject.clone()),
            _ => None,
        };
        self.report(|| Standing::Published {
            revision: short,
            kind: revision.kind(),
            routes: revision.settings().routes.clone(),
            instead_of,
        });
        let (now, policy) = (Instant::now(), revision.settings().rollback);
        // Whoever went back by hand has been there, and what the host went back to is measured by what is known of it.
        let is_news = matches!(came, Came::Bay | Came::Deploy | Came::Promote);
        let before = self.current.as_ref().filter(|_| is_news).map(Current::measure).or(before);
        // A labelled revision is measured by the main one, beside which it serves.
        let before = before.or_else(|| {
            self.name.label.as_ref().filter(|_| is_news)?;
            let main = self.context.registry.main(&self.name.service);
            Some(main.map_or_else(Counts::default, |main| Counts::of(&main)))
        });
        let watch = before.and_then(|before| Watch::begin(policy, before, now));
        let lately = Lately::new(&policy, now);
        let current = Current {
            revision,
            drain,
            files: candidate.files(),
            came,
            published: now,
            lately,
            watch,
            repeats: candidate.repeats,
            replaced: self.current.as_ref().map(Current::counts).unwrap_or_default(),
            unremembered: None,
        };
        if let Some(old) = self.current.replace(current) {
            self.retire(old, None);
        }
        if of_the_bay {
            self.rejected = None;
        }
        self.routes_changed(routes_changed);
        Ok(())
    }

    /// Writes what was published into the history. Waited for here and not before the publication: a crash in between leaves the
    /// files in the bay, which say the same.
    /// Before this host is in charge, the history is its predecessor's, and it is written later.
    pub(super) async fn remember(&mut self, candidate: &Candidate) {
        let build = candidate.build.clone();
        match &mut self.current {
            Some(current) if !self.context.is_in_charge() => current.unremembered = Some(build),
            Some(current) => {
                let publication = current.publication();
                self.with_history(move |history, name| history.published(name, &build, publication)).await;
            }
            None => {}
        }
    }

    /// Writes what was published before this host was in charge.
    pub(super) async fn remember_late(&mut self) {
        let Some(current) = &mut self.current else { return };
        let Some(build) = current.unremembered.take() else { return };
        let publication = current.publication();
        self.with_history(move |history, name| history.published(name, &build, publication)).await;
    }

    /// What lies in the bay makes the revision that serves, whatever was said before; its shares and comments may be others.
    pub(super) async fn is_in_the_bay(&mut self, candidate: &Candidate) {
        self.share_anew(candidate);
        self.lacks_nothing();
        self.rejected = None;
        self.context.board.mended(&self.name.to_string());
        let Some(current) = &mut self.current else { return };
        if current.is_instead_of_the_bay() {
            current.came = Came::Bay;
        }
        let before = std::mem::replace(&mut current.files, candidate.files());
        if before != current.files && self.context.is_in_charge() {
            let settings = current.files.settings.clone();
            self.with_history(move |history, name| history.reworded(name, &before, settings)).await;
        }
    }

    /// Runs what waits for the disk off the async threads.
    pub(super) async fn with_history<T: Send + Default + 'static>(
        &self,
        work: impl FnOnce(&History, &str) -> T + Send + 'static,
    ) -> T {
        let (context, name) = (self.context.clone(), self.name.clone());
        // A panic in it was logged.
        tokio::task::spawn_blocking(move || work(&context.history, &name.to_string())).await.unwrap_or_default()
    }

    /// Runs what waits for the disk with the bay off the async threads.
    pub(super) async fn bay_work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Bay) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let context = self.context.clone();
        tokio::task::spawn_blocking(move || work(&context.bay)).await.map_err(io::Error::other)?
    }

    /// Tells why `candidate`, or files that cannot even be read, will not serve.
    pub(super) fn reject(
        &mut self,
        reject: Reject,
        sighting: Sighting,
        candidate: Option<&Candidate>,
        contested: bool,
        detected: Instant,
    ) {
        self.lacks(reject.links.as_ref());
        let same = self.rejected.as_ref().filter(|last| last.sighting == sighting && last.reject.reason == reject.reason);
        if same.is_none() {
            let revision = candidate.map(|candidate| candidate.build.digest().short());
            let took = detected.elapsed();
            self.context.board.rejected(&self.name.to_string(), revision.as_deref(), &reject.reason, &reject.remedy);
            self.context.events.rejected(&self.name, revision.as_deref(), took, &reject.reason, &reject.remedy);
        }
        let tries = same.map_or(0, |last| last.tries.saturating_add(1));
        let retry = (tries < reject.retries).then(|| {
            let pause = RETRY_PAUSE.saturating_mul(1_u32.checked_shl(tries).unwrap_or(u32::MAX)).min(RETRY_PAUSE_MAX);
            Instant::now() + pause
        });
        // Where nothing could be read, what its settings said before still holds.
        let is_main = self.name.label.is_none();
        if is_main && self.current.is_none() && (candidate.is_some() || !self.context.registry.knows(&self.name.service)) {
            let defaults = || Settings::defaults(&self.name.service).routes;
            let routes = candidate.map_or_else(defaults, |candidate| candidate.routes(&self.name));
            let changed = self.context.registry.mark_down([(self.name.service.clone(), routes)]);
            self.routes_changed(changed);
        }
        let secrets = candidate.map(Candidate::secrets_seen);
        let contested = contested || reject.links.is_some();
        self.rejected = Some(Rejected { sighting, reject, secrets, contested, tries, retry, went_back_from: None });
    }

    /// Whether the routes of its settings could be published at this moment.
    pub(super) fn check_routes(&self, candidate: &Candidate, kind: Option<Kind>) -> Result<(), Reject> {
        match self.name.label {
            _ if kind == Some(Kind::Library) => Ok(()),
            Some(_) => Ok(()),
            None => self.context.registry.check(&self.name.service, &candidate.routes(&self.name)).map_err(Reject::from),
        }
    }

    /// Whether `revision` of it could be published at this moment.
    pub(super) fn check(&self, candidate: &Candidate, revision: &Revision) -> Result<(), Reject> {
        self.check_routes(candidate, Some(revision.kind()))?;
        self.check_links(revision.links())
    }

    /// Whether the other services would agree to these interfaces at this moment.
    pub(super) fn check_links(&self, links: &Arc<Links>) -> Result<(), Reject> {
        let checked = self.context.registry.check_links(&self.name, links);
        checked.map_err(|reject| self.context.or_circle(&self.name, reject))
    }

    /// Publishes its shares; the revisions stay as they are.
    fn share_anew(&self, candidate: &Candidate) {
        if self.name.label.is_none()
            && let Ok(settings) = &candidate.settings
            && self.context.registry.set_traffic(&self.name.service, &settings.traffic)
        {
            self.context.board.shared(self.name.service.as_str(), &settings.traffic);
            self.context.events.shared(&self.name, &settings.traffic);
        }
    }

    /// Why these settings will not do, where they give a share to a label that has no build.
    pub(super) async fn unlabelled(&self, candidate: &Candidate) -> Option<Reject> {
        let settings = candidate.settings.as_ref().ok()?;
        if self.name.label.is_some() || settings.traffic.shares.is_empty() {
            return None;
        }
        let service = self.name.service.clone();
        let labels = self.bay_work(move |bay| bay.labels(&service)).await.ok()?;
        let (missing, _) = settings.traffic.shares.iter().find(|(label, _)| !labels.contains(label))?;
        let service = &self.name.service;
        Some(Reject::new(
            format!("{service}.toml gives a share to `{missing}` and there is no {service}@{missing}.wasm"),
            format!("put {service}@{missing}.wasm into the bay first, or take `{missing}` out of [traffic]"),
        ))
    }

    /// The files stayed away, or were taken out by an order.
    pub(super) async fn removed(&mut self) {
        self.lacks_nothing();
        self.rejected = None;
        self.context.board.removed(&self.name.to_string());
        let changed = match &self.name.label {
            None => self.context.registry.remove(&self.name.service),
            // Whoever waits for services to agree may wait no longer.
            Some(label) => self.context.registry.remove_label(&self.name.service, label),
        };
        if let Some(old) = self.current.take() {
            let (files, counts) = (old.files.clone(), old.counts());
            self.retire(old, Some("its file was removed from the bay"));
            if self.context.is_in_charge() {
                self.with_history(move |history, name| history.ended(name, &files, End::Removed, counts)).await;
            }
        } else if self.name.label.is_none() && self.sightings.borrow().settings.is_some() {
            let reason = format!("{0}.toml is there without {0}.wasm", self.name);
            let remedy = format!("put {}.wasm beside it, or take the settings away", self.name);
            self.context.board.rejected(&self.name.to_string(), None, &reason, &remedy);
            self.context.events.rejected(&self.name, None, Duration::ZERO, &reason, &remedy);
            self.report(|| Standing::Rejected(Reject::new(reason, remedy)));
        }
        self.report(|| Standing::Gone);
        self.routes_changed(changed);
    }

    pub(super) fn routes_changed(&self, changed: bool) {
        if changed {
            self.context.routes_changed.send_modify(|count| *count += 1);
        }
    }

    /// Lets the revision finish what it has, beside the next swap. Its idle instances end at once: the next one needs their slots.
    pub(super) fn retire(&self, old: Current, reason: Option<&str>) {
        let (context, name, revision) = (self.context.clone(), self.name.clone(), old.revision.digest().short());
        let Current { revision: old, drain, .. } = old;
        let calls_others = !old.links().imports.is_empty();
        drop(old);
        drain.end_idle();
        context.board.draining(&name.to_string(), &revision);
        context.events.draining(&name, &revision, reason);
        self.context.shutdown.track(async move {
            let begun = Instant::now();
            let finished = drain.wait(context.drain).await;
            drain.retire().await;
            if calls_others {
                // Whoever waited until it called nobody any more waits no longer.
                context.routes_changed.send_modify(|count| *count += 1);
            }
            context.board.retired(&name.to_string(), &revision);
            match finished {
                true => context.events.state(&name, Some(&revision), State::Retired, begun.elapsed()),
                false => context.events.cut(&name, &revision, begun.elapsed()),
            }
        });
    }

    pub(super) fn report(&mut self, standing: impl FnOnce() -> Standing) {
        if let Some(report) = self.report.take() {
            self.is_decided();
            // Whoever waited for the start may have gone.
            let _ = report.send(standing());
            // Whoever waits at the start for what it calls may hope for one less.
            self.routes_changed(true);
        }
    }
}
