//! The loop of who develops: a save is built, placed into the bay and served, and what comes of it is told.
//!
//! [`Development::run`] waits for what happens and says who answers to it. Files: `ears.rs` hears of everything, `watch.rs` of saves, `tree.rs` knows what
//! lies where, `follower.rs` decides what a save calls for, `builds.rs` runs the builds, `awaited.rs` knows what the host makes of
//! them, `telling.rs` and `broken.rs` say what people are told, `screen.rs` how it is printed.

mod address;
mod awaited;
mod bay;
mod broken;
mod builds;
mod ears;
mod follower;
mod found;
mod keys;
mod screen;
mod telling;
mod took;
mod tree;
mod watch;

pub(crate) use bay::Bay;
pub(crate) use found::Found;
pub(crate) use keys::restore as restore_terminal;

use crate::workshop::{BuildFailure, Effort, Mode, Placed, Project, Workshop};
use awaited::Awaited;
use builds::{Builds, Ended, Wanted};
use ears::{Ears, Happened};
use follower::{Calls, Late, Projects};
use found::roots;
use hotbay::{Voices, config::ServiceName, deploy, http::Unbuilt, shutdown::Shutdown, telemetry::LogLine};
use keys::Asked;
use screen::{Row, Screen};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use telling::is_warning;
use tokio::sync::mpsc;
use took::Took;
use tree::{Difference, Tree};
use watch::{Hint, Watch, WatchError};

/// A save is no older than this when it is told of; what is older was copied with its time.
const SAVE_MAX: Duration = Duration::from_secs(1);

/// What is needed to follow services.
pub(crate) struct Parts {
    /// The folders that people named.
    pub(crate) folders: Vec<PathBuf>,
    /// What there is below them.
    pub(crate) found: Found,
    /// Where builds go.
    pub(crate) bay: Bay,
    /// Where the host answers.
    pub(crate) bound: SocketAddr,
    /// Whether people see colours.
    pub(crate) colours: bool,
    /// Where lines go.
    pub(crate) print: fn(&str),
    /// What the host tells.
    pub(crate) voices: Voices,
    /// Where the host is told of first builds.
    pub(crate) unbuilt: Arc<Unbuilt>,
    /// What the host complains about.
    pub(crate) log: mpsc::Receiver<LogLine>,
    /// When to stop.
    pub(crate) shutdown: Shutdown,
}

/// Services that are there as before, and are built again.
struct Again {
    /// What says how they are built was wrong.
    mended: BTreeSet<ServiceName>,
    /// By a save that came meanwhile.
    saved: BTreeMap<ServiceName, BTreeSet<PathBuf>>,
    /// Services whose settings were saved meanwhile.
    settings: BTreeSet<ServiceName>,
    /// What was found to be wrong and had not been told.
    faults: BTreeSet<String>,
}

/// Services that are followed, and who is heard.
pub(crate) struct Development {
    folders: Vec<PathBuf>,
    bay: Bay,
    bound: SocketAddr,
    print: fn(&str),
    shutdown: Shutdown,
    voices: Voices,
    unbuilt: Arc<Unbuilt>,
    screen: Screen,
    projects: Projects,
    tree: Tree,
    builds: Builds,
    late: Late,
    awaited: Awaited,
    /// What is wrong with the folders, so that the same is told once.
    faults: BTreeSet<String>,
    /// Services whose folders are there and cannot be built: they are followed, and what serves of them serves on.
    broken: BTreeSet<ServiceName>,
    /// The service of the last save, which is what people want to look at.
    last: Option<ServiceName>,
    ears: Ears,
}

impl Development {
    /// Hears of everything from here on, and begins to build.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { folders, found, bay, bound, colours, print, voices, unbuilt, log, shutdown } = parts;
        let (builds, notes) = Builds::new(Workshop::new(Mode::Quick, colours, bay.path()));
        let (watch, error) = Watch::new();
        let ears = Ears {
            watch,
            notes,
            events: voices.events.subscribe_kept(),
            guests: voices.lines.subscribe(),
            log,
            keys: keys::start(),
        };
        let tree = Tree::new(roots(&folders, &found.projects), [bay.path().to_owned()]);
        let mut development = Self {
            folders,
            bay,
            bound,
            print,
            shutdown,
            voices,
            unbuilt,
            screen: Screen::new(colours),
            projects: found.projects,
            tree,
            builds,
            late: Late::new(),
            awaited: Awaited::default(),
            faults: BTreeSet::new(),
            broken: BTreeSet::new(),
            last: None,
            ears,
        };
        development.begin(error.as_ref(), found.faults);
        development
    }

    /// Tells what is there, and wants all of it built.
    fn begin(&mut self, error: Option<&WatchError>, faults: BTreeSet<String>) {
        let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
        let rows = self.projects.values().map(|project| Row {
            name: project.name(),
            address: address::of(project, self.bound),
            built: project.language().map_or_else(|| "command".to_owned(), |language| language.to_string()),
            folder: match project.dir().strip_prefix(&here) {
                Ok(inside) if inside.as_os_str().is_empty() => Path::new("."),
                Ok(inside) => inside,
                Err(_) => project.dir(),
            },
        });
        let text = self.screen.start(&rows.collect::<Vec<_>>(), self.ears.keys.is_some());
        (self.print)(&text);
        self.tell_watch(error);
        self.tell_faults(faults);
        if let Err(error) = self.bay.keep_only(&self.projects) {
            self.tell_host(&format!(
                "the bay {} cannot be cleared of services that are no more: {error}",
                self.bay.path().display()
            ));
        }
        self.look(None);
        for project in self.projects.values().cloned().collect::<Vec<_>>() {
            self.want(project, "first build".to_owned(), Instant::now());
        }
    }

    /// Follows the services until the shutdown begins; then no build is left, nor any process of one.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        loop {
            let happened = tokio::select! {
                biased;
                () = shutdown.begun() => break,
                happened = self.ears.next(&mut self.builds) => happened,
            };
            match happened {
                Happened::Saved(hint) => self.saved(hint),
                Happened::Built(ended) => self.built(*ended),
                Happened::Noted(note) => self.tell(|screen| screen.note(note.service.as_str(), &note.text)),
                Happened::Told(deploy::Told::Event(event)) => self.swapped(&event),
                Happened::Told(deploy::Told::Lost(_)) => {}
                Happened::Guest(line) => self.tell(|screen| screen.guest(&line)),
                Happened::Complained(line) => self.complained(&line),
                Happened::Asked(asked) => self.asked(asked),
            }
        }
        self.builds.end().await;
    }

    fn saved(&mut self, hint: Hint) {
        let difference = self.look(Some(hint));
        if difference.is_empty() {
            return;
        }
        let Calls { mut builds, mut settings, search } = self.called_for(&difference);
        let were_broken: BTreeSet<_> =
            builds.keys().chain(&settings).filter(|name| self.broken.contains(*name)).cloned().collect();
        let mut told = BTreeSet::new();
        if search || !were_broken.is_empty() {
            let Again { mended, saved, settings: also, faults } = self.search();
            told = faults;
            settings.extend(also);
            for name in mended {
                builds.entry(name).or_default();
            }
            builds.extend(saved);
        }
        self.tell_broken(&were_broken, &told);
        builds.retain(|name, _| !self.broken.contains(name));
        for name in settings.difference(&self.broken.clone()) {
            self.place_settings(name, saved_at(&difference.files));
        }
        for (name, files) in builds {
            if let Some(project) = self.projects.get(&name).cloned() {
                let why = follower::in_words(&project, &files);
                self.want(project, why, saved_at(&files));
            }
        }
    }

    /// What is to be done for it, without what builds that run have written themselves.
    fn called_for(&mut self, difference: &Difference) -> Calls {
        let mut calls = follower::decide(&self.projects, difference);
        calls.leave_out_own_locks(|name| self.builds.runs(name));
        calls.put_off(&difference.new_files, |name| self.builds.runs(name), &mut self.late);
        calls
    }

    /// Looks at what was hinted at, or at everything, until there is no folder left that nobody hears of.
    fn look(&mut self, hint: Option<Hint>) -> Difference {
        let mut difference = match hint {
            Some(Hint::At(paths)) => self.tree.look_at(paths),
            Some(Hint::All) | None => self.tree.look_at_all(),
        };
        loop {
            let unheard = match self.ears.watch.follow(self.tree.folders()) {
                Ok(unheard) if !unheard.is_empty() => unheard,
                Ok(_) => return difference,
                Err(error) => {
                    self.tell_watch(Some(&error));
                    return difference;
                }
            };
            // What came between the look and the watch was told by nobody.
            difference.join(self.tree.look_at(unheard));
        }
    }

    /// Services may have come, gone, or moved. Returns those that are built again for it.
    fn search(&mut self) -> Again {
        let Found { projects: mut now, faults } = Found::so_far(&self.folders);
        let (came, went) = follower::compare(&self.projects, &now);
        let broken = follower::broken(&self.projects, &now);
        let faults = self.tell_faults(faults);
        let were_broken = std::mem::replace(&mut self.broken, broken.keys().cloned().collect());
        for name in self.broken.clone().difference(&were_broken) {
            self.breaks(name, &[]);
        }
        let mended = were_broken.into_iter().filter(|name| now.contains_key(name) && !came.contains(name)).collect();
        now.extend(broken);
        for name in went.iter().filter(|name| !now.contains_key(*name)) {
            self.builds.cancel(name);
            self.late.remove(name);
            self.unbuilt.is_gone(name);
            match self.bay.remove(name) {
                Ok(()) => self.tell(|screen| screen.note(name.as_str(), "its sources are gone; it is taken out of the bay")),
                Err(error) => self.tell(|screen| screen.failed(name.as_str(), "it stays in the bay", &error.to_string())),
            }
        }
        self.projects = now;
        let mut calls = Calls::default();
        if let Some(before) = self.tree.set_roots(roots(&self.folders, &self.projects)) {
            let mut difference = self.look(None);
            // What is followed only from now on was not saved just now; the rest was, since the look before.
            difference.files.retain(|file| before.hold(file));
            calls = self.called_for(&difference);
            calls.builds.retain(|name, _| !came.contains(name));
        }
        for name in came {
            if let Some(project) = self.projects.get(&name).cloned() {
                let address = address::of(&project, self.bound);
                self.tell(|screen| screen.note(name.as_str(), &format!("a new service: {address}")));
                self.want(project, "first build".to_owned(), Instant::now());
            }
        }
        let mut again = Again { mended, saved: calls.builds, settings: calls.settings, faults };
        if calls.search {
            let Again { mended, saved, settings, faults } = self.search();
            again.mended.extend(mended);
            again.saved.extend(saved);
            again.settings.extend(settings);
            again.faults.extend(faults);
        }
        again
    }

    fn want(&mut self, project: Project, why: String, saved: Instant) {
        self.want_with(Wanted { project, why, saved, effort: Effort::Needed });
    }

    fn want_with(&mut self, wanted: Wanted) {
        self.is_begun(&wanted.project);
        // Whatever has come by now is in this one.
        self.late.remove(wanted.project.name());
        self.last = Some(wanted.project.name().clone());
        self.builds.want(wanted);
    }

    fn built(&mut self, ended: Ended) {
        let Ended { wanted: Wanted { project, why, saved, .. }, outcome, words, took } = ended;
        let service = project.name().as_str();
        // What its tools wrote up to their last moment is no save.
        self.tree.look_at(follower::locks(&project));
        let late = self.late.remove(project.name()).unwrap_or_default();
        self.tree.look_at(late.iter().cloned());
        let stay: BTreeSet<_> = late.into_iter().filter(|file| file.exists()).collect();
        match outcome {
            Ok(built) => {
                if words.lines().any(is_warning) {
                    self.tell(|screen| screen.warned(service, &words));
                }
                let at = Instant::now();
                let placed = built.place(self.bay.path());
                match &placed {
                    Ok(_) => self.unbuilt.is_placed(project.name()),
                    Err(error) => self.stays_unbuilt(&project, &error.to_string()),
                }
                match placed {
                    Ok(Placed::Changed) if let Some(serving) = self.serves_already(project.name(), Some(&built.digest)) => {
                        let text = format!("{why}: built in {}; {serving} serves as before", Took(took));
                        self.tell(|screen| screen.note(service, &text));
                    }
                    Ok(Placed::Changed) => {
                        let built_in = Some((took.saturating_sub(built.checked), built.checked));
                        let placed = awaited::Placed { why, saved, built: built_in, at, revision: Some(built.digest) };
                        self.awaited.placed(service, placed);
                    }
                    Ok(Placed::Unchanged) => {
                        let what = match built.was_there {
                            true => format!("{why}: no source is other than when it was built"),
                            false => format!("{why}: built in {} and nothing is other than before", Took(took)),
                        };
                        self.unchanged(service, &what);
                    }
                    Err(error) => self.tell(|screen| screen.failed(service, "the build is not in the bay", &error.to_string())),
                }
            }
            Err(failure) => {
                let what = format!("{why}: build failed in {}; {}", Took(took), self.still(service));
                // A tool that ran has said what is wrong; of others the failure says it.
                let words = match &failure {
                    BuildFailure::Failed { .. } if !words.is_empty() => words,
                    BuildFailure::Missing { .. } if !words.is_empty() => format!("{words}\n{failure}"),
                    _ => failure.to_string(),
                };
                self.stays_unbuilt(&project, &words);
                self.tell(|screen| screen.failed(service, &what, &words));
            }
        }
        if !stay.is_empty() {
            let why = follower::in_words(&project, &stay);
            self.want(project, why, saved_at(&stay));
        }
    }

    fn place_settings(&mut self, name: &ServiceName, saved: Instant) {
        let Some(project) = self.projects.get(name).cloned() else { return };
        if self.is_unbuilt(name) {
            return self.other_settings_of_unbuilt(&project);
        }
        let at = Instant::now();
        match project.place_settings(self.bay.path()) {
            Ok(Placed::Changed) if let Some(serving) = self.serves_already(name, None) => {
                let text = format!("settings make no other revision; {serving} serves as before");
                self.tell(|screen| screen.note(name.as_str(), &text));
            }
            Ok(Placed::Changed) => {
                let placed = awaited::Placed { why: String::new(), saved, built: None, at, revision: None };
                self.awaited.placed(name.as_str(), placed);
            }
            Ok(Placed::Unchanged) => self.unchanged(name.as_str(), "settings: nothing is other than before"),
            Err(error) => self.tell(|screen| screen.failed(name.as_str(), "the settings are not in the bay", &error.to_string())),
        }
    }

    /// The host sees no change, and tells nothing: what it said of these files holds.
    fn unchanged(&mut self, service: &str, what: &str) {
        let still = self.still(service);
        match self.voices.board.one(service).and_then(|status| status.rejected) {
            Some(rejected) => {
                let words = format!("{}\n→ {}", rejected.reason, rejected.remedy);
                self.tell(|screen| screen.failed(service, &format!("{what}: rejected; {still}"), &words));
            }
            None => self.tell(|screen| screen.note(service, &format!("{what}; {still}"))),
        }
    }

    /// The revision that serves, where what lies in the bay makes that very one: its build, of which `built` is new there, and its
    /// settings.
    fn serves_already(&mut self, name: &ServiceName, built: Option<&str>) -> Option<String> {
        let status = self.voices.board.one(name.as_str())?;
        let serving = status.serving?.revision;
        let is_its_build = match built {
            Some(built) => built == serving,
            // What was rejected lies there still.
            None => status.rejected.and_then(|rejected| rejected.revision).is_none_or(|rejected| rejected == serving),
        };
        let settings = self.bay.settings(name)?;
        (is_its_build && self.awaited.is_served(name.as_str(), &serving, &settings)).then_some(serving)
    }

    fn asked(&mut self, asked: Asked) {
        match asked {
            Asked::Quit => self.shutdown.begin(),
            Asked::Rebuild => self.rebuild(),
            Asked::Open => {
                let project =
                    self.last.as_ref().and_then(|name| self.projects.get(name)).or_else(|| self.projects.values().next());
                let Some(project) = project else { return };
                let address = address::of(project, self.bound);
                // A browser may take its time to start.
                std::thread::spawn({
                    let (address, print) = (address.clone(), self.print);
                    move || {
                        if let Err(error) = crate::browser::open(&address) {
                            print(&format!("no browser could be opened ({error}); the address is {address}\n"));
                        }
                    }
                });
            }
        }
    }
}

/// When the last of these was saved, as the files say, unless they were moved here with an older time.
fn saved_at(files: &BTreeSet<PathBuf>) -> Instant {
    let now = Instant::now();
    let written = files.iter().filter_map(|file| fs::metadata(file).ok()?.modified().ok()).max();
    let age = written.and_then(|written| SystemTime::now().duration_since(written).ok()).filter(|age| *age < SAVE_MAX);
    age.and_then(|age| now.checked_sub(age)).unwrap_or(now)
}
