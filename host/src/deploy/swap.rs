//! The swaps of one service, one after another: read, load, publish, drain. The newest state of the files wins.

use super::{
    bay::{Bay, Contents, Sighting},
    event::{Events, State},
};
use crate::{
    config::{ServiceName, Settings},
    registry::Registry,
    runtime::{Build, Digest, Drain, Loader, Reject, Revision, Stage},
    shutdown::Shutdown,
};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};

/// A file that goes and comes back within this is a swap and no removal.
const REMOVAL_GRACE: Duration = Duration::from_secs(1);
/// A build that would be rejected is believed to be whole once nobody has written it for so long.
const SETTLED: Duration = Duration::from_millis(300);
/// A truncated build gets longer: a copy over a slow network pauses.
const SETTLED_TRUNCATED: Duration = Duration::from_secs(2);
/// Two writes within a clock's grain leave the same stamp, so a file this young is read once more.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);
/// Between two looks at a file that is being written.
const WRITING_PAUSE: Duration = Duration::from_millis(20);

/// What the swaps of all services share.
pub(super) struct SwapContext {
    pub(super) bay: Bay,
    pub(super) registry: Arc<Registry>,
    pub(super) loader: Arc<Loader>,
    pub(super) events: Arc<Events>,
    pub(super) shutdown: Shutdown,
    pub(super) drain: Duration,
    /// Counts publications and removals: whoever lost a route to another service tries again.
    pub(super) routes_changed: watch::Sender<u64>,
}

/// How the first attempt of a service ended.
#[derive(Clone)]
pub enum Standing {
    /// Its revision serves.
    Published(Arc<Revision>),
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
    /// What was rejected last, so that the same is neither tried nor told twice.
    rejected: Option<Rejected>,
}

struct Rejected {
    digest: Digest,
    settings: Option<bytes::Bytes>,
    reason: String,
    contested: bool,
}

/// What one attempt came to.
enum Attempt {
    /// The state of the files is served or rejected.
    Settled,
    /// The files changed, or may have: look again after so long.
    Again(Duration),
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
        Self { context, name, sightings, report, current: None, rejected: None }
    }

    /// Follows the files until the host ends or both are gone for good.
    pub(super) async fn run(mut self) {
        let mut routes = self.context.routes_changed.subscribe();
        loop {
            let sighting = *self.sightings.borrow_and_update();
            let next = match sighting.build {
                Some(_) => self.attempt().await,
                None => Attempt::Gone,
            };
            match next {
                Attempt::Settled => {
                    if !self.changed(&mut routes).await {
                        return;
                    }
                }
                Attempt::Again(pause) => self.pause(pause).await,
                // The file went between the scan and the reading, or the whole bay did: the next scan has the say.
                Attempt::Gone if sighting.build.is_some() => self.pause(WRITING_PAUSE).await,
                Attempt::Gone => {
                    let came_back = tokio::time::timeout(REMOVAL_GRACE, self.sightings.changed()).await;
                    match came_back {
                        Ok(Ok(())) => continue,
                        Ok(Err(_)) => return,
                        Err(_) => self.removed(),
                    }
                    // Settings without a build are told once and then waited with; where nothing is left, the task ends too.
                    if self.sightings.borrow().settings.is_none() || self.sightings.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for the next change of the files, or of the routes where one of ours is another's. False: the host ends.
    async fn changed(&mut self, routes: &mut watch::Receiver<u64>) -> bool {
        let contested = self.rejected.as_ref().is_some_and(|rejected| rejected.contested);
        tokio::select! {
            changed = self.sightings.changed() => changed.is_ok(),
            _ = routes.changed(), if contested => true,
        }
    }

    /// Waits, or until the files change.
    async fn pause(&mut self, pause: Duration) {
        let _ = tokio::time::timeout(pause, self.sightings.changed()).await;
    }

    async fn attempt(&mut self) -> Attempt {
        let detected = Instant::now();
        let contents = match self.read().await {
            Ok(contents) => contents,
            Err(error) => return self.unreadable(&error, detected),
        };
        let digest = *contents.build.digest();
        if self.is_current(&digest, &contents) || self.is_rejected(&digest, &contents) {
            return Attempt::Settled;
        }
        let Contents { build, stamp, settings, settings_stamp } = contents;
        // Half a settings file may well be whole TOML, so one is believed only once nobody has written it for a moment.
        if let Some(wait) = settings_stamp.and_then(|stamp| stamp.until_aged(SETTLED)) {
            return Attempt::Again(wait);
        }
        // A file that is still being written is not an error yet, and nothing to speak of.
        let half_written = build.may_be_half_written();
        let settled = if half_written { SETTLED_TRUNCATED } else { SETTLED };
        if half_written && let Some(wait) = stamp.until_aged(settled) {
            return Attempt::Again(wait);
        }
        let revision = digest.short();
        self.context.events.state(&self.name, Some(&revision), State::Detected, Duration::ZERO);
        self.context.events.state(&self.name, Some(&revision), State::Reading, detected.elapsed());
        match self.load(&build, settings.as_ref(), &revision).await {
            Ok((loaded, drained)) => self.publish(loaded, drained, digest, settings, detected),
            Err(reject) => {
                if let Some(wait) = stamp.until_aged(settled) {
                    return Attempt::Again(wait);
                }
                self.reject(reject, digest, settings, detected, false);
                return Attempt::Settled;
            }
        }
        if stamp.age() < detected.elapsed() + CLOCK_GRAIN { Attempt::Again(CLOCK_GRAIN) } else { Attempt::Settled }
    }

    async fn read(&self) -> io::Result<Contents> {
        let (context, name) = (self.context.clone(), self.name.clone());
        tokio::task::spawn_blocking(move || context.bay.read(&name)).await.map_err(io::Error::other)?
    }

    fn unreadable(&mut self, error: &io::Error, detected: Instant) -> Attempt {
        match error.kind() {
            io::ErrorKind::NotFound => Attempt::Gone,
            io::ErrorKind::Interrupted => Attempt::Again(WRITING_PAUSE),
            _ => {
                let reason = format!("{} cannot be read: {error}", self.context.bay.build_path(&self.name).display());
                let remedy = "see to the file's kind, size and permissions; hotbay must be able to read it";
                let reject = Reject::new(reason, remedy);
                // Nothing was read, so nothing tells this state from the next but the reason.
                self.reject(reject, Digest::of(&[]), None, detected, false);
                Attempt::Settled
            }
        }
    }

    fn is_current(&self, digest: &Digest, contents: &Contents) -> bool {
        let Some((revision, _)) = &self.current else {
            return false;
        };
        revision.digest() == digest
            && read_settings(&self.name, contents.settings.as_ref()).is_ok_and(|settings| settings == *revision.settings())
    }

    fn is_rejected(&self, digest: &Digest, contents: &Contents) -> bool {
        let same =
            |rejected: &Rejected| rejected.digest == *digest && rejected.settings == contents.settings && !rejected.contested;
        self.rejected.as_ref().is_some_and(same)
    }

    /// Everything up to the publication: nothing of it can be seen from outside.
    async fn load(
        &self,
        build: &Build,
        settings: Option<&bytes::Bytes>,
        revision: &str,
    ) -> Result<(Arc<Revision>, Drain), Reject> {
        let settings = read_settings(&self.name, settings)?;
        let mut steps = Steps { swaps: self, revision, now: None };
        let loaded = self.context.loader.load(&self.name, build, settings, |stage| steps.enter(Some(stage))).await?;
        steps.enter(None);
        Ok(loaded)
    }

    fn publish(
        &mut self,
        revision: Arc<Revision>,
        drained: Drain,
        digest: Digest,
        settings: Option<bytes::Bytes>,
        detected: Instant,
    ) {
        match self.context.registry.publish(revision.clone()) {
            Ok(()) => {
                self.context.events.state(&self.name, Some(&digest.short()), State::Published, detected.elapsed());
                self.rejected = None;
                self.report(Standing::Published(revision.clone()));
                if let Some((old, drained)) = self.current.replace((revision, drained)) {
                    self.retire(old, drained);
                }
                self.context.routes_changed.send_modify(|count| *count += 1);
            }
            Err(conflict) => {
                drop(revision);
                tokio::spawn(drained.retire());
                self.reject(conflict.into(), digest, settings, detected, true);
            }
        }
    }

    fn reject(&mut self, reject: Reject, digest: Digest, settings: Option<bytes::Bytes>, detected: Instant, contested: bool) {
        let told = self
            .rejected
            .as_ref()
            .is_some_and(|last| last.digest == digest && last.settings == settings && last.reason == reject.reason);
        if !told {
            self.context.events.rejected(
                self.name.as_str(),
                Some(&digest.short()),
                detected.elapsed(),
                &reject.reason,
                &reject.remedy,
            );
        }
        if self.current.is_none() {
            let routes = read_settings(&self.name, settings.as_ref()).unwrap_or_else(|_| Settings::defaults(&self.name)).routes;
            self.context.registry.mark_down([(self.name.clone(), routes)]);
        }
        self.rejected = Some(Rejected { digest, settings, reason: reject.reason.clone(), contested });
        self.report(Standing::Rejected(reject));
    }

    /// The files stayed away.
    fn removed(&mut self) {
        self.rejected = None;
        self.context.registry.remove(&self.name);
        if let Some((old, drained)) = self.current.take() {
            self.retire(old, drained);
        } else if self.sightings.borrow().settings.is_some() {
            let reason = format!("{0}.toml is there without {0}.wasm", self.name);
            let remedy = format!("put {}.wasm beside it, or take the settings away", self.name);
            self.context.events.rejected(self.name.as_str(), None, Duration::ZERO, &reason, &remedy);
            self.report(Standing::Rejected(Reject::new(reason, remedy)));
        }
        self.report(Standing::Gone);
        self.context.routes_changed.send_modify(|count| *count += 1);
    }

    /// Lets the revision finish what it has, beside the next swap. Not tracked by the shutdown: the connections are.
    fn retire(&self, old: Arc<Revision>, drained: Drain) {
        let (context, name, revision) = (self.context.clone(), self.name.clone(), old.digest().short());
        drop(old);
        context.events.state(&name, Some(&revision), State::Draining, Duration::ZERO);
        tokio::spawn(async move {
            let begun = Instant::now();
            let finished = drained.wait(context.drain).await;
            drained.retire().await;
            match finished {
                true => context.events.state(&name, Some(&revision), State::Retired, begun.elapsed()),
                false => context.events.cut(&name, &revision, begun.elapsed()),
            }
        });
    }

    fn report(&mut self, standing: Standing) {
        if let Some(report) = self.report.take() {
            // Whoever waited for the start may have gone.
            let _ = report.send(standing);
        }
    }
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

/// The settings in the text of `NAME.toml`, or the defaults where there is none.
pub(super) fn read_settings(name: &ServiceName, text: Option<&bytes::Bytes>) -> Result<Settings, Reject> {
    let Some(text) = text else {
        return Ok(Settings::defaults(name));
    };
    let text = std::str::from_utf8(text)
        .map_err(|error| Reject::new(format!("{name}.toml is not UTF-8: {error}"), "save it as UTF-8"))?;
    Settings::parse(name, text).map_err(|error| Reject::new(format!("{name}.toml {error}"), error.remedy))
}
