//! The swaps of one service, one after another: read, load, publish, drain. The newest state of the files wins.

use super::{
    bay::{Bay, Contents, Sighting, UNREADABLE_REMEDY, parse_settings},
    event::{Events, State},
};
use crate::{
    config::{RouteSpec, ServiceName, Settings},
    registry::Registry,
    runtime::{Build, Digest, Drain, Kind, Loader, Reject, Revision, Stage},
    shutdown::Shutdown,
    telemetry::ServiceMetrics,
};
use bytes::Bytes;
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, oneshot, watch};

/// A file that goes and comes back within this is a swap and no removal.
const REMOVAL_GRACE: Duration = Duration::from_secs(1);
/// A build that would be rejected, or settings, are believed to be whole once nobody has written them for so long.
const SETTLED: Duration = Duration::from_millis(300);
/// A truncated build and blank settings get longer: a copy over a slow network pauses, an editor empties before it writes.
const SETTLED_TRUNCATED: Duration = Duration::from_secs(2);
/// Two writes within a clock's grain leave the same stamp, so a file this young is read once more.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);
/// Between two looks at a file that is being written, the least and the most.
const WRITING_PAUSE: Duration = Duration::from_millis(20);
const WRITING_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Between two attempts with a build that failed for want of something of the host's, the least and the most.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the swaps of all services share.
pub(super) struct SwapContext {
    pub(super) bay: Bay,
    /// Makes the bay be read again.
    pub(super) hint: Arc<Notify>,
    pub(super) registry: Arc<Registry>,
    pub(super) loader: Arc<Loader>,
    pub(super) events: Arc<Events>,
    pub(super) shutdown: Shutdown,
    pub(super) drain: Duration,
    /// Counts the changes of who owns which routes: whoever lost a route to another service tries again.
    pub(super) routes_changed: watch::Sender<u64>,
}

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
    },
    /// It will not serve.
    Rejected(Reject),
    /// Its files were gone before they could be read.
    Gone,
}

/// One service's swaps.
pub(super) struct Swaps {
    context: Arc<SwapContext>,
    name: ServiceName,
    sightings: watch::Receiver<Sighting>,
    /// Told how the first attempt ends.
    report: Option<oneshot::Sender<Standing>>,
    /// What serves and what its end needs.
    current: Option<(Arc<Revision>, Drain)>,
    /// What was rejected last, so that the same is not told twice, and tried again only where the host was at fault.
    rejected: Option<Rejected>,
    /// Whether the files that were believed last had settings among them, and since when those are missing.
    had_settings: bool,
    settings_gone: Option<Instant>,
    /// Keeps what is counted of the service for as long as it is followed.
    _metrics: Arc<ServiceMetrics>,
}

struct Rejected {
    /// The files as they were. The same content placed anew is a new attempt: whoever places it wants one.
    sighting: Sighting,
    reason: String,
    contested: bool,
    /// How often the same was tried again, and when to do so next; never where the build itself is at fault.
    tries: u32,
    retry: Option<Instant>,
}

/// What one attempt came to.
enum Attempt {
    /// The state of the files is served or rejected.
    Settled,
    /// The files changed, or may have: look again after so long.
    Again(Duration),
    /// It is served, but so young that it may have changed without its stamp having done so.
    Recheck,
    /// The build is not there.
    Gone,
}

impl Swaps {
    pub(super) fn new(
        context: Arc<SwapContext>,
        name: ServiceName,
        sightings: watch::Receiver<Sighting>,
        report: Option<oneshot::Sender<Standing>>,
    ) -> Self {
        Self {
            _metrics: context.events.metrics().service(name.as_str()),
            context,
            name,
            sightings,
            report,
            current: None,
            rejected: None,
            had_settings: false,
            settings_gone: None,
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
        let current = self.current.take();
        // Files that came back just now were told to a task that no longer listens; the next look finds that it has ended.
        drop(self);
        context.hint.notify_one();
        current.map(|(_, drain)| drain)
    }

    async fn follow(&mut self) {
        let mut routes = self.context.routes_changed.subscribe();
        let mut missing = WRITING_PAUSE;
        loop {
            let begun = Instant::now();
            let sighting = *self.sightings.borrow_and_update();
            let attempt = match sighting.build {
                Some(_) => self.attempt().await,
                None => Attempt::Gone,
            };
            let vanished = sighting.build.is_some() && matches!(attempt, Attempt::Gone);
            missing = if vanished { (missing * 2).min(WRITING_PAUSE_MAX) } else { WRITING_PAUSE };
            let goes_on = match attempt {
                Attempt::Settled => self.changed(&mut routes).await,
                // Reading a large file again and again while it is copied would take a core: half of one at most.
                Attempt::Again(pause) => self.pause(begun.elapsed().min(WRITING_PAUSE_MAX), pause).await,
                Attempt::Recheck => self.pause(Duration::ZERO, CLOCK_GRAIN).await,
                // The file went between the scan and the reading, or the whole bay did: the next scan has the say.
                Attempt::Gone if vanished => self.pause(Duration::ZERO, missing).await,
                Attempt::Gone => self.gone().await,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Waits for the next change of the files, of the routes where one of ours is another's, or for the time of a new attempt.
    /// False: nobody tells of changes any more.
    async fn changed(&mut self, routes: &mut watch::Receiver<u64>) -> bool {
        let contested = self.rejected.as_ref().is_some_and(|rejected| rejected.contested);
        let retry = self.rejected.as_ref().and_then(|rejected| rejected.retry);
        tokio::select! {
            changed = self.sightings.changed() => changed.is_ok(),
            _ = routes.changed(), if contested => true,
            () = tokio::time::sleep_until(retry.unwrap_or_else(Instant::now).into()), if retry.is_some() => true,
        }
    }

    /// Waits for `least`, then until the files change, `pause` in all. False: nobody tells of changes any more.
    async fn pause(&mut self, least: Duration, pause: Duration) -> bool {
        tokio::time::sleep(least).await;
        match tokio::time::timeout(pause.saturating_sub(least), self.sightings.changed()).await {
            Ok(changed) => changed.is_ok(),
            Err(_) => true,
        }
    }

    /// Waits for the build to come back. False: nothing is left of the service.
    async fn gone(&mut self) -> bool {
        match tokio::time::timeout(REMOVAL_GRACE, self.sightings.changed()).await {
            Ok(changed) => return changed.is_ok(),
            Err(_) => self.removed(),
        }
        // Settings without a build are told once and then waited with; where nothing is left, the task ends too.
        let settings_stay = self.sightings.borrow().settings.is_some();
        settings_stay && self.sightings.changed().await.is_ok()
    }

    async fn attempt(&mut self) -> Attempt {
        let detected = Instant::now();
        let contents = match self.read().await {
            Ok(contents) => contents,
            Err(error) => return self.unreadable(&error, detected),
        };
        // Settings that are missing, blank or half written may well be whole ones in a moment, and mean something else then.
        if let Some(wait) = self.settings_unsettled(&contents) {
            return Attempt::Again(wait);
        }
        self.had_settings = contents.settings.is_some();
        if self.is_current(&contents) {
            self.rejected = None;
            return Attempt::Settled;
        }
        if self.is_rejected(&contents) {
            return Attempt::Settled;
        }
        let (digest, sighting) = (*contents.build.digest(), contents.sighting());
        let Contents { build, stamp, settings, .. } = contents;
        // A file that is still being written is not an error yet, and nothing to speak of.
        let half_written = build.may_be_half_written();
        let settled = if half_written { SETTLED_TRUNCATED } else { SETTLED };
        if half_written && let Some(wait) = stamp.until_aged(settled) {
            return Attempt::Again(wait);
        }
        let revision = digest.short();
        self.context.events.state(&self.name, Some(&revision), State::Detected, Duration::ZERO);
        self.context.events.state(&self.name, Some(&revision), State::Reading, detected.elapsed());
        let files = Files { sighting, digest: Some(digest), settings, detected };
        let (loaded, drained) = match self.load(&build, files.settings.as_ref(), &revision).await {
            Ok(loaded) => loaded,
            Err(reject) => {
                if let Some(wait) = stamp.until_aged(settled) {
                    return Attempt::Again(wait);
                }
                self.reject(reject, files, false);
                return Attempt::Settled;
            }
        };
        self.publish(loaded, drained, files);
        if stamp.age() < detected.elapsed() + CLOCK_GRAIN { Attempt::Recheck } else { Attempt::Settled }
    }

    async fn read(&self) -> io::Result<Contents> {
        let (context, name) = (self.context.clone(), self.name.clone());
        tokio::task::spawn_blocking(move || context.bay.read(&name)).await.map_err(io::Error::other)?
    }

    /// How long the settings file must be left alone before it is believed; none where it is already.
    fn settings_unsettled(&mut self, contents: &Contents) -> Option<Duration> {
        let Some(stamp) = contents.settings_stamp else {
            if !self.had_settings {
                return None;
            }
            let gone = *self.settings_gone.get_or_insert_with(Instant::now);
            return REMOVAL_GRACE.checked_sub(gone.elapsed()).filter(|left| !left.is_zero());
        };
        self.settings_gone = None;
        stamp.until_aged(if contents.settings_are_blank() { SETTLED_TRUNCATED } else { SETTLED })
    }

    fn unreadable(&mut self, error: &io::Error, detected: Instant) -> Attempt {
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
                self.reject(reject, Files { sighting, digest: None, settings: None, detected }, false);
                Attempt::Settled
            }
        }
    }

    fn is_current(&self, contents: &Contents) -> bool {
        let Some((revision, _)) = &self.current else {
            return false;
        };
        revision.digest() == contents.build.digest()
            && parse_settings(&self.name, contents.settings.as_ref()).is_ok_and(|settings| settings == *revision.settings())
    }

    /// Whether these files were rejected before and nothing speaks for another attempt.
    fn is_rejected(&self, contents: &Contents) -> bool {
        let Some(rejected) = &self.rejected else {
            return false;
        };
        let due = rejected.retry.is_some_and(|at| at <= Instant::now());
        if rejected.sighting != contents.sighting() || due {
            return false;
        }
        // Whoever lost a route loads again only once it is free.
        !rejected.contested || self.context.registry.check(&self.name, &self.routes(contents.settings.as_ref())).is_err()
    }

    /// The routes of these settings; those without settings where they are not understood.
    fn routes(&self, settings: Option<&Bytes>) -> Vec<RouteSpec> {
        parse_settings(&self.name, settings).unwrap_or_else(|_| Settings::defaults(&self.name)).routes
    }

    /// Everything up to the publication: nothing of it can be seen from outside.
    async fn load(&self, build: &Build, settings: Option<&Bytes>, revision: &str) -> Result<(Arc<Revision>, Drain), Reject> {
        let settings = parse_settings(&self.name, settings)?;
        let mut steps = Steps { swaps: self, revision, now: None };
        let loaded = self.context.loader.load(&self.name, build, settings, |stage| steps.enter(Some(stage))).await?;
        steps.enter(None);
        Ok(loaded)
    }

    fn publish(&mut self, revision: Arc<Revision>, drained: Drain, files: Files) {
        let routes_changed = match self.context.registry.publish(revision.clone()) {
            Ok(routes_changed) => routes_changed,
            Err(conflict) => {
                drop(revision);
                tokio::spawn(drained.retire());
                return self.reject(conflict.into(), files, true);
            }
        };
        let short = revision.digest().short();
        self.context.events.state(&self.name, Some(&short), State::Published, files.detected.elapsed());
        self.rejected = None;
        self.report(|| Standing::Published {
            revision: short,
            kind: revision.kind(),
            routes: revision.settings().routes.clone(),
        });
        if let Some((old, drained)) = self.current.replace((revision, drained)) {
            self.retire(old, drained, None);
        }
        self.routes_changed(routes_changed);
    }

    fn reject(&mut self, reject: Reject, files: Files, contested: bool) {
        let Files { sighting, digest, settings, detected } = files;
        let same = self.rejected.as_ref().filter(|last| last.sighting == sighting && last.reason == reject.reason);
        if same.is_none() {
            let revision = digest.map(|digest| digest.short());
            self.context.events.rejected(
                self.name.as_str(),
                revision.as_deref(),
                detected.elapsed(),
                &reject.reason,
                &reject.remedy,
            );
        }
        let tries = same.map_or(0, |last| last.tries.saturating_add(1));
        let retry = (tries < reject.retries).then(|| {
            let pause = RETRY_PAUSE.saturating_mul(1_u32.checked_shl(tries).unwrap_or(u32::MAX)).min(RETRY_PAUSE_MAX);
            Instant::now() + pause
        });
        // Where nothing could be read, what its settings said before still holds.
        if self.current.is_none() && (digest.is_some() || !self.context.registry.knows(&self.name)) {
            let changed = self.context.registry.mark_down([(self.name.clone(), self.routes(settings.as_ref()))]);
            self.routes_changed(changed);
        }
        self.rejected = Some(Rejected { sighting, reason: reject.reason.clone(), contested, tries, retry });
        self.report(|| Standing::Rejected(reject));
    }

    /// The files stayed away.
    fn removed(&mut self) {
        self.rejected = None;
        let changed = self.context.registry.remove(&self.name);
        if let Some((old, drained)) = self.current.take() {
            self.retire(old, drained, Some("its file was removed from the bay"));
        } else if self.sightings.borrow().settings.is_some() {
            let reason = format!("{0}.toml is there without {0}.wasm", self.name);
            let remedy = format!("put {}.wasm beside it, or take the settings away", self.name);
            self.context.events.rejected(self.name.as_str(), None, Duration::ZERO, &reason, &remedy);
            self.report(|| Standing::Rejected(Reject::new(reason, remedy)));
        }
        self.report(|| Standing::Gone);
        self.routes_changed(changed);
    }

    fn routes_changed(&self, changed: bool) {
        if changed {
            self.context.routes_changed.send_modify(|count| *count += 1);
        }
    }

    /// Lets the revision finish what it has, beside the next swap. Its idle instances end at once: the next one needs their slots.
    fn retire(&self, old: Arc<Revision>, drained: Drain, reason: Option<&str>) {
        let (context, name, revision) = (self.context.clone(), self.name.clone(), old.digest().short());
        drop(old);
        drained.end_idle();
        context.events.draining(&name, &revision, reason);
        self.context.shutdown.track(async move {
            let begun = Instant::now();
            let finished = drained.wait(context.drain).await;
            drained.retire().await;
            match finished {
                true => context.events.state(&name, Some(&revision), State::Retired, begun.elapsed()),
                false => context.events.cut(&name, &revision, begun.elapsed()),
            }
        });
    }

    fn report(&mut self, standing: impl FnOnce() -> Standing) {
        if let Some(report) = self.report.take() {
            // Whoever waited for the start may have gone.
            let _ = report.send(standing());
        }
    }
}

/// What an attempt is made with.
struct Files {
    sighting: Sighting,
    /// Of the build, where it could be read.
    digest: Option<Digest>,
    settings: Option<Bytes>,
    detected: Instant,
}

/// Tells each step of the loading when it has ended, with its time.
struct Steps<'a> {
    swaps: &'a Swaps,
    revision: &'a str,
    now: Option<(Stage, Instant)>,
}

impl Steps<'_> {
    fn enter(&mut self, stage: Option<Stage>) {
        if let Some((ended, begun)) = self.now.take() {
            let state = match ended {
                Stage::Compiling => State::Compiling,
                Stage::Linking => State::Linking,
                Stage::Warming => State::Warming,
            };
            self.swaps.context.events.state(&self.swaps.name, Some(self.revision), state, begun.elapsed());
        }
        self.now = stage.map(|stage| (stage, Instant::now()));
    }
}
