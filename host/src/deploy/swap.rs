//! The swaps of one service, one after another: what the files in the bay say, or what was ordered. The newest state of the files
//! wins.

use super::{
    bay::{Contents, Sighting, Stamp, UNREADABLE_REMEDY},
    candidate::Candidate,
    context::SwapContext,
    history::{Came, End},
    orders::Order,
    publication::{Current, Rejected, Standing},
    verdict::Counts,
};
use crate::{
    config::BuildName,
    runtime::{Build, Drain, Reject, SecretsSeen},
    telemetry::ServiceMetrics,
};
use bytes::Bytes;
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{mpsc, oneshot, watch};

/// A file that goes and comes back within this is a swap and no removal.
const REMOVAL_GRACE: Duration = Duration::from_secs(1);
/// A build that would be rejected, or settings, are believed to be whole once nobody has written them for so long.
const SETTLED: Duration = Duration::from_millis(300);
/// A truncated build and blank settings get longer: a copy over a slow network pauses, an editor empties before it writes.
pub(super) const SETTLED_TRUNCATED: Duration = Duration::from_secs(2);
/// Two writes within a clock's grain leave the same stamp, so a file this young is read once more.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);
/// Between two looks at a file that is being written, the least and the most.
pub(super) const WRITING_PAUSE: Duration = Duration::from_millis(20);
const WRITING_PAUSE_MAX: Duration = Duration::from_secs(1);

/// One service's swaps.
pub(super) struct Swaps {
    pub(super) context: Arc<SwapContext>,
    pub(super) name: BuildName,
    pub(super) sightings: watch::Receiver<Sighting>,
    orders: mpsc::Receiver<Order>,
    /// Told how the first attempt ends.
    pub(super) report: Option<oneshot::Sender<Standing>>,
    /// What serves.
    pub(super) current: Option<Current>,
    /// What was rejected last, so that the same is not told twice, and tried again only where the host was at fault.
    pub(super) rejected: Option<Rejected>,
    /// Whether the files that were believed last had settings among them, and since when those are missing.
    had_settings: bool,
    settings_gone: Option<Instant>,
    /// Whether what was seen last in the bay is granted secrets, which may change.
    has_secrets: bool,
    /// Keeps what is counted of the service for as long as it is followed.
    _metrics: Arc<ServiceMetrics>,
}

/// What one attempt came to.
enum Attempt {
    /// The state of the files is served or rejected.
    Settled,
    /// The files changed, or may have: look again after so long.
    Again(Duration),
    /// It is served, but so young that it may have changed without its stamp having done so.
    Recheck,
    /// What it calls may still come: look again when another service has been decided.
    Awaiting,
    /// The build is not there.
    Gone,
}

/// What ended a wait.
#[derive(Debug, PartialEq, Eq)]
enum Woken {
    /// The files, or the routes that are waited for, are others.
    Changed,
    /// An order was carried out.
    Order,
    /// The time is over.
    Due,
    /// Nobody tells of changes any more.
    Closed,
}

impl Swaps {
    pub(super) fn new(
        context: Arc<SwapContext>,
        name: BuildName,
        sightings: watch::Receiver<Sighting>,
        orders: mpsc::Receiver<Order>,
        report: Option<oneshot::Sender<Standing>>,
    ) -> Self {
        Self {
            _metrics: context.events.metrics().service(name.service.as_str()),
            context,
            name,
            sightings,
            orders,
            report,
            current: None,
            rejected: None,
            had_settings: false,
            settings_gone: None,
            has_secrets: false,
        }
    }

    /// Follows the files until both are gone for good, or until the host ends: then what serves is returned.
    pub(super) async fn run(mut self) -> Option<Drain> {
        let context = self.context.clone();
        tokio::select! {
            biased;
            () = context.shutdown.begun() => {}
            () = self.follow() => {}
        }
        // After a hand-over it goes on to serve, in another host; before one has been relieved it serves in that one.
        if let Some(current) = &self.current
            && context.is_in_charge()
            && !context.shutdown.is_hand_over()
        {
            let (files, counts) = (current.files.clone(), current.counts());
            self.with_history(move |history, name| history.ended(name, &files, End::HostEnded, counts)).await;
        }
        let current = self.current.take();
        // What was ordered at the last moment begins a new task.
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            context.orders.give_again(self.name.clone(), order);
        }
        // Files that came back just now were told to a task that no longer listens; the next look finds that it has ended.
        drop(self);
        context.hint.notify_one();
        current.map(|current| current.drain)
    }

    async fn follow(&mut self) {
        let mut routes = self.context.routes_changed.subscribe();
        let mut secrets = self.context.secrets_seen.subscribe();
        let mut missing = WRITING_PAUSE;
        loop {
            // Orders were given after the files that are seen now were placed, or they would not be waiting.
            while let Ok(order) = self.orders.try_recv() {
                self.carry_out(order).await;
            }
            let begun = Instant::now();
            let sighting = *self.sightings.borrow_and_update();
            let attempt = match sighting.build {
                Some(_) => self.attempt().await,
                None => Attempt::Gone,
            };
            let vanished = sighting.build.is_some() && matches!(attempt, Attempt::Gone);
            missing = if vanished { (missing * 2).min(WRITING_PAUSE_MAX) } else { WRITING_PAUSE };
            let woken = match attempt {
                Attempt::Settled => {
                    self.renew_secrets().await;
                    self.changed(&mut routes, &mut secrets, false).await
                }
                Attempt::Awaiting => self.changed(&mut routes, &mut secrets, true).await,
                // Reading a large file again and again while it is copied would take a core: half of one at most.
                Attempt::Again(pause) => self.pause(begun.elapsed().min(WRITING_PAUSE_MAX), pause).await,
                Attempt::Recheck => self.pause(Duration::ZERO, CLOCK_GRAIN).await,
                // The file went between the scan and the reading, or the whole bay did: the next scan has the say.
                Attempt::Gone if vanished => self.pause(Duration::ZERO, missing).await,
                Attempt::Gone => self.gone().await,
            };
            if woken == Woken::Closed {
                return;
            }
        }
    }

    /// Waits for the next change of the files, for an order, or until `until`, and watches what serves meanwhile.
    async fn wait(&mut self, until: Option<Instant>) -> Woken {
        let mut charge = self.context.in_charge.subscribe();
        loop {
            let owes = self.current.as_ref().is_some_and(|current| current.unremembered.is_some());
            let metrics = self.current.as_ref().map(|current| current.revision.metrics().clone());
            let watched = self.current.as_ref().is_some_and(|current| current.watch.is_some());
            let look = self.current.as_ref().map(Current::next_look);
            let fault = async {
                match &metrics {
                    Some(metrics) if watched => metrics.fault_seen().notified().await,
                    _ => std::future::pending().await,
                }
            };
            let in_charge = async {
                // The sender is there as long as the context is.
                let _ = charge.wait_for(|in_charge| *in_charge).await.is_ok();
            };
            tokio::select! {
                biased;
                order = self.orders.recv() => return match order {
                    Some(order) => {
                        self.carry_out(order).await;
                        Woken::Order
                    }
                    None => Woken::Closed,
                },
                changed = self.sightings.changed() => return if changed.is_ok() { Woken::Changed } else { Woken::Closed },
                () = at(until) => return Woken::Due,
                () = in_charge, if owes => {
                    self.remember_late().await;
                    continue;
                }
                () = fault => {}
                () = at(look) => {}
            }
            self.judge().await;
        }
    }

    /// Waits for the next change of the files or an order, of the routes where one of ours is another's, of the secrets where some
    /// are granted, or for the time of a new attempt.
    async fn changed(
        &mut self,
        routes: &mut watch::Receiver<u64>,
        secrets: &mut watch::Receiver<SecretsSeen>,
        awaiting: bool,
    ) -> Woken {
        let contested = awaiting || self.rejected.as_ref().is_some_and(|rejected| rejected.contested);
        let retry = self.rejected.as_ref().and_then(|rejected| rejected.retry);
        let serves_secrets = self.current.as_ref().is_some_and(|now| !now.revision.settings().grants.secrets().is_empty());
        let has_secrets = self.has_secrets || serves_secrets;
        loop {
            tokio::select! {
                woken = self.wait(retry) => return woken,
                _ = routes.changed(), if contested => {}
                _ = secrets.changed(), if has_secrets => return Woken::Changed,
            }
            if !awaiting || !self.awaits_still() {
                return Woken::Changed;
            }
        }
    }

    /// Waits for `least`, then until the files change or an order comes, `pause` in all.
    async fn pause(&mut self, least: Duration, pause: Duration) -> Woken {
        let until = Instant::now() + pause;
        tokio::time::sleep(least).await;
        self.wait(Some(until)).await
    }

    /// Waits for the build to come back. Closed: nothing is left of the service.
    async fn gone(&mut self) -> Woken {
        match self.wait(Some(Instant::now() + REMOVAL_GRACE)).await {
            Woken::Due => {}
            // The build may be there again; an order may have put it there.
            woken => return woken,
        }
        self.removed().await;
        // Settings without a build are told once and then waited with; where nothing is left, the task ends too.
        let settings_stay = self.name.label.is_none() && self.sightings.borrow().settings.is_some();
        if settings_stay { self.wait(None).await } else { Woken::Closed }
    }

    async fn attempt(&mut self) -> Attempt {
        let detected = Instant::now();
        let contents = match self.read().await {
            Ok(contents) => contents,
            Err(error) => return self.unreadable(&error, detected).await,
        };
        // Settings that are missing, blank or half written may well be whole ones in a moment, and mean something else then.
        if let Some(wait) = self.settings_unsettled(contents.settings_stamp, contents.settings_are_blank()) {
            return Attempt::Again(wait);
        }
        self.had_settings = contents.settings.is_some();
        let sighting = contents.sighting();
        let Contents { build, stamp, settings, .. } = contents;
        let candidate = match self.candidate(build, settings, detected).await {
            Ok(candidate) => candidate,
            Err(reject) => return self.refuse(reject, sighting, None, false, detected).await,
        };
        self.has_secrets = candidate.has_secrets();
        // As settings: a secret may be written in steps.
        if let Some(wait) = SETTLED.checked_sub(candidate.secrets_age).filter(|left| !left.is_zero()) {
            return Attempt::Again(wait);
        }
        if self.serves(&candidate) {
            return self.still_current(candidate, sighting).await;
        }
        if self.is_rejected(&candidate, &sighting, &stamp) {
            return Attempt::Settled;
        }
        // A file that is still being written is not an error yet, and nothing to speak of.
        let half_written = candidate.build.may_be_half_written();
        let settled = if half_written { SETTLED_TRUNCATED } else { SETTLED };
        if half_written && let Some(wait) = stamp.until_aged(settled) {
            return Attempt::Again(wait);
        }
        if let Some(reject) = self.unlabelled(&candidate).await {
            return self.refuse(reject, sighting, Some(&candidate), false, detected).await;
        }
        let past = self.past_of(&candidate).await;
        let renewed = self.rejected.as_ref().is_some_and(|rejected| rejected.had_other_secrets(&candidate));
        if let Some(reject) = past.gone_back_from.filter(|(_, moment)| !renewed && stamp.changed_at() <= *moment) {
            return self.refuse_again(reject, sighting, &candidate).await;
        }
        let (loaded, contested) = match self.prepare(&candidate).await {
            Ok(prepared) => {
                let context = self.context.clone();
                let _turn = context.publishing.lock().await;
                // A revision that is new to the history is watched from its first request, although nothing served before it.
                let before = (self.current.is_none() && past.is_young).then(Counts::default);
                (self.publish(prepared, &candidate, Came::Bay, None, before), true)
            }
            Err(reject) => {
                if let Some(wait) = stamp.until_aged(settled) {
                    return Attempt::Again(wait);
                }
                match self.wait_or(reject, past.is_last_good) {
                    Ok(()) => return Attempt::Awaiting,
                    Err(reject) => (Err(reject), false),
                }
            }
        };
        if let Err(reject) = loaded {
            return self.refuse(reject, sighting, Some(&candidate), contested, detected).await;
        }
        self.remember(&candidate).await;
        if stamp.age() < detected.elapsed() + CLOCK_GRAIN { Attempt::Recheck } else { Attempt::Settled }
    }

    /// What lies in the bay will not serve: it is told, and where nothing serves, the last good revision does.
    async fn refuse(
        &mut self,
        reject: Reject,
        sighting: Sighting,
        candidate: Option<&Candidate>,
        contested: bool,
        detected: Instant,
    ) -> Attempt {
        self.goes_back();
        self.reject_in_turn(reject, sighting, candidate, contested, detected).await;
        self.fall_back().await;
        Attempt::Settled
    }

    /// A reject may claim the routes of a service that is down, which must not come between another's check and its publication.
    async fn reject_in_turn(
        &mut self,
        reject: Reject,
        sighting: Sighting,
        candidate: Option<&Candidate>,
        contested: bool,
        detected: Instant,
    ) {
        let context = self.context.clone();
        let _turn = context.publishing.lock().await;
        self.reject(reject, sighting, candidate, contested, detected);
    }

    /// The host went back from these files, and they have not been placed anew since.
    async fn refuse_again(&mut self, back: (Reject, SystemTime), sighting: Sighting, candidate: &Candidate) -> Attempt {
        let (reject, moment) = back;
        let attempt = self.refuse(reject, sighting, Some(candidate), false, candidate.detected).await;
        if let Some(rejected) = &mut self.rejected {
            rejected.went_back_from = Some((candidate.files(), moment));
        }
        attempt
    }

    /// The files make the revision that serves; its shares may be others.
    async fn still_current(&mut self, candidate: Candidate, sighting: Sighting) -> Attempt {
        if let Some(reject) = self.unlabelled(&candidate).await {
            self.reject_in_turn(reject, sighting, Some(&candidate), false, candidate.detected).await;
            return Attempt::Settled;
        }
        self.is_in_the_bay(&candidate).await;
        Attempt::Settled
    }

    pub(super) async fn read(&self) -> io::Result<Contents> {
        let name = self.name.clone();
        self.bay_work(move |bay| bay.read(&name)).await
    }

    /// A build and its settings, with the secrets that these grant.
    ///
    /// # Errors
    /// A panic, which was logged.
    pub(super) async fn candidate(&self, build: Build, text: Option<Bytes>, detected: Instant) -> Result<Candidate, Reject> {
        let (context, name) = (self.context.clone(), self.name.clone());
        let read = tokio::task::spawn_blocking(move || Candidate::new(&name, build, text, detected, &context.secrets));
        read.await.map_err(|error| Reject::transient(error.to_string(), UNREADABLE_REMEDY))
    }

    /// How long the settings file must be left alone before it is believed; none where it is already.
    pub(super) fn settings_unsettled(&mut self, stamp: Option<Stamp>, blank: bool) -> Option<Duration> {
        let Some(stamp) = stamp else {
            if !self.had_settings {
                return None;
            }
            let gone = *self.settings_gone.get_or_insert_with(Instant::now);
            return REMOVAL_GRACE.checked_sub(gone.elapsed()).filter(|left| !left.is_zero());
        };
        self.settings_gone = None;
        stamp.until_aged(if blank { SETTLED_TRUNCATED } else { SETTLED })
    }

    async fn unreadable(&mut self, error: &io::Error, detected: Instant) -> Attempt {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Attempt::Gone,
            io::ErrorKind::Interrupted => Attempt::Again(WRITING_PAUSE),
            // A file that is still growing or whose owner or mode is about to be set is not an error yet.
            _ if self.sightings.borrow().build.and_then(|stamp| stamp.until_unchanged(SETTLED)).is_some() => {
                Attempt::Again(SETTLED)
            }
            _ => {
                let reject = Reject::transient(error.to_string(), UNREADABLE_REMEDY);
                // Nothing was read, so nothing tells this state from the next but the reason and the files' stamps.
                let sighting = *self.sightings.borrow();
                self.refuse(reject, sighting, None, false, detected).await
            }
        }
    }

    /// Whether the revision that serves is of this build and these settings.
    pub(super) fn serves(&self, candidate: &Candidate) -> bool {
        self.current.as_ref().is_some_and(|current| candidate.makes(current))
    }

    /// Whether these files were rejected before and nothing speaks for another attempt.
    fn is_rejected(&self, candidate: &Candidate, sighting: &Sighting, stamp: &Stamp) -> bool {
        let Some(rejected) = &self.rejected else {
            return false;
        };
        if rejected.is_gone_back_from(&self.name, candidate, stamp) {
            return true;
        }
        let due = rejected.retry.is_some_and(|at| at <= Instant::now());
        if rejected.sighting != *sighting || due || rejected.had_other_secrets(candidate) {
            return false;
        }
        if let Some(links) = &rejected.reject.links {
            // What it waits for has come, or something else is in the way now.
            return self.check_links(links).is_err_and(|reject| reject.reason == rejected.reject.reason);
        }
        // Whoever lost a route loads again only once it is free.
        !rejected.contested || self.check_routes(candidate, None).is_err()
    }
}

/// Returns at `moment`, never where there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
