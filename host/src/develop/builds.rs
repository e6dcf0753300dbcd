//! The builds: one or two at once, the newest save of a service before all others of it.

use crate::workshop::{BuildFailure, Built, Effort, Line, Project, Workshop};
use hotbay::config::ServiceName;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

/// Cores that a build and the host share well: with fewer, builds come one after another.
const CORES_FOR_TWO: usize = 4;

/// A build that takes longer is told of while it runs.
const LONG: Duration = Duration::from_secs(2);

/// Lines of a tool that are shown: the first ones often say what is wrong, and the last ones where the first only warn.
const FIRST_WORDS: usize = 40;
const LAST_WORDS: usize = 160;

/// What cargo does while nothing is wrong, written so that it ends in the same column of each line.
const PROGRESS: [&str; 9] =
    ["Adding", "Blocking", "Checking", "Compiling", "Downloaded", "Downloading", "Finished", "Locking", "Updating"];
const PROGRESS_COLUMN: usize = 12;

/// A build that somebody waits for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) project: Project,
    /// What was saved, in words.
    pub(super) why: String,
    /// When.
    pub(super) saved: Instant,
    /// Whether one of the same sources will do.
    pub(super) effort: Effort,
}

/// A build that came to its end.
pub(super) struct Ended {
    pub(super) wanted: Wanted,
    pub(super) outcome: Result<Built, BuildFailure>,
    /// What its tools said.
    pub(super) words: String,
    /// From its beginning to its end.
    pub(super) took: Duration,
}

/// Something that is told while a build runs.
pub(super) struct Note {
    pub(super) service: ServiceName,
    pub(super) text: String,
}

/// Which builds run, and which wait.
pub(super) struct Builds {
    workshop: Arc<Workshop>,
    at_once: usize,
    waiting: VecDeque<Wanted>,
    running: BTreeMap<ServiceName, AbortHandle>,
    tasks: JoinSet<Ended>,
    notes: mpsc::UnboundedSender<Note>,
}

impl Builds {
    /// None yet. What is told while they run comes by the receiver.
    pub(super) fn new(workshop: Workshop) -> (Self, mpsc::UnboundedReceiver<Note>) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (notes, told) = mpsc::unbounded_channel();
        let builds = Self {
            workshop: Arc::new(workshop),
            at_once: if cores < CORES_FOR_TWO { 1 } else { 2 },
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            notes,
        };
        (builds, told)
    }

    /// Builds this, when it is its turn. A build of the same service that runs is of sources that are no more, and is ended.
    pub(super) fn want(&mut self, wanted: Wanted) {
        let name = wanted.project.name().clone();
        let was_running = self.cancel(&name);
        // Who was under way goes first: its sources are the newest.
        if was_running {
            self.waiting.push_front(wanted)
        } else {
            self.waiting.push_back(wanted)
        }
        self.start();
    }

    /// Whether one of this service runs.
    pub(super) fn runs(&self, name: &ServiceName) -> bool {
        self.running.contains_key(name)
    }

    /// Ends whatever there is of this service. Returns whether it ran.
    pub(super) fn cancel(&mut self, name: &ServiceName) -> bool {
        self.waiting.retain(|waiting| waiting.project.name() != name);
        let running = self.running.remove(name);
        running.inspect(AbortHandle::abort).is_some()
    }

    /// The next one that came to its end. Waits for ever where none runs; whoever stops waiting loses nothing.
    pub(super) async fn next(&mut self) -> Ended {
        loop {
            match self.tasks.join_next().await {
                None => std::future::pending().await,
                // Cancelled, or a panic that was logged: its place is free.
                Some(Err(_)) => self.start(),
                Some(Ok(ended)) => {
                    // One that was cancelled at its last moment is not the one that runs.
                    let name = ended.wanted.project.name().clone();
                    let is_current = self.running.get(&name).is_some_and(AbortHandle::is_finished);
                    if is_current {
                        self.running.remove(&name);
                        self.start();
                        return ended;
                    }
                    self.start();
                }
            }
        }
    }

    /// Ends all of them, with all their processes.
    pub(super) async fn end(&mut self) {
        self.waiting.clear();
        self.running.clear();
        self.tasks.shutdown().await;
    }

    fn start(&mut self) {
        // Those that were cancelled count until they have ended.
        while self.tasks.len() < self.at_once
            && let Some(wanted) = self.waiting.pop_front()
        {
            let name = wanted.project.name().clone();
            let task = self.tasks.spawn(build(self.workshop.clone(), wanted, self.notes.clone()));
            self.running.insert(name, task);
        }
    }
}

async fn build(workshop: Arc<Workshop>, wanted: Wanted, notes: mpsc::UnboundedSender<Note>) -> Ended {
    let begun = Instant::now();
    let service = wanted.project.name().clone();
    // Nobody listens any more where the process ends.
    let note = |text: String| drop(notes.send(Note { service: service.clone(), text }));
    let mut words = Words::default();
    let outcome = {
        let mut sink = |line: Line<'_>| match line {
            Line::Note(text) => note(text.to_owned()),
            Line::Tool(text) => words.push(text),
        };
        let mut building = std::pin::pin!(workshop.build(&wanted.project, wanted.effort, &mut sink));
        tokio::select! {
            outcome = &mut building => outcome,
            () = tokio::time::sleep(LONG) => {
                note(format!("{}: building…", wanted.why));
                building.await
            }
        }
    };
    Ended { wanted, outcome, words: words.text(), took: begun.elapsed() }
}

/// The first and the last lines that were said, and how many there were between them.
#[derive(Default)]
struct Words {
    first: Vec<String>,
    last: VecDeque<String>,
    between: usize,
}

impl Words {
    fn push(&mut self, line: &str) {
        if is_progress(line) {
            return;
        }
        if self.first.len() < FIRST_WORDS {
            self.first.push(line.to_owned());
            return;
        }
        if self.last.len() == LAST_WORDS {
            self.last.pop_front();
            self.between += 1;
        }
        self.last.push_back(line.to_owned());
    }

    fn text(self) -> String {
        let mut lines = self.first;
        if self.between > 0 {
            lines.push(format!("… {} lines more (hotbay build shows them all) …", self.between));
        }
        lines.extend(self.last);
        lines.join("\n")
    }
}

/// Whether a line, in colour or not, says no more than what cargo is at.
fn is_progress(line: &str) -> bool {
    let line = console::strip_ansi_codes(line);
    let bare = line.trim_start_matches(' ');
    let indent = line.len() - bare.len();
    bare.split_once(' ').is_some_and(|(word, _)| indent > 0 && indent + word.len() == PROGRESS_COLUMN && PROGRESS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workshop::Mode;
    use std::{fs, path::Path};

    /// A service whose build is this line of shell.
    fn wanted(folder: &Path, name: &str, command: &str) -> Wanted {
        let dir = folder.join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("hotbay-build.toml"), format!("command = {command:?}\noutput = \"out.wasm\"\n")).unwrap();
        let project = Project::find(&[&dir]).unwrap().remove(0);
        Wanted { project, why: command.to_owned(), saved: Instant::now(), effort: Effort::Needed }
    }

    fn builds() -> Builds {
        Builds { at_once: 1, ..Builds::new(Workshop::new(Mode::Quick, false, Path::new("bay"))).0 }
    }

    #[tokio::test]
    async fn the_newest_save_ends_the_build_before_it_with_all_its_processes() {
        let folder = tempfile::tempdir().unwrap();
        let mut builds = builds();
        let started = folder.path().join("started");
        let line = format!("sh -c 'echo $$ > {0}.new && mv {0}.new {0}; sleep 1000' & wait", started.display());
        builds.want(wanted(folder.path(), "a", &line));
        let process = loop {
            tokio::select! {
                ended = builds.next() => panic!("{} has ended", ended.wanted.why),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
            if let Ok(process) = fs::read_to_string(&started) {
                break process;
            }
        };
        builds.want(wanted(folder.path(), "a", "echo words; exit 3"));
        let ended = builds.next().await;
        assert!(ended.wanted.why.contains("exit 3") && matches!(ended.outcome, Err(BuildFailure::Failed { .. })));
        assert_eq!(ended.words, "words");
        let is_there = || {
            let status = fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        while is_there() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn builds_come_one_after_another_and_of_each_service_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let mut builds = builds();
        for line in ["true 1", "true 2", "true 3"] {
            builds.want(wanted(folder.path(), "a", line));
            builds.want(wanted(folder.path(), "b", line));
        }
        let (first, second) = (builds.next().await.wanted.why, builds.next().await.wanted.why);
        assert_eq!((first.as_str(), second.as_str()), ("true 3", "true 3"));
        assert!(builds.waiting.is_empty() && builds.running.is_empty());
        builds.want(wanted(folder.path(), "a", "sleep 1000"));
        builds.end().await;
        assert!(builds.tasks.is_empty());
    }

    #[test]
    fn the_first_words_and_the_last_ones_are_kept() {
        let said = |lines: usize| {
            let mut words = Words::default();
            (0..lines).for_each(|n| words.push(&n.to_string()));
            words.text()
        };
        let whole = said(FIRST_WORDS + LAST_WORDS);
        assert!(whole.starts_with("0\n1\n") && whole.ends_with("\n199") && !whole.contains('…'), "{whole}");
        let cut = said(FIRST_WORDS + LAST_WORDS + 3);
        assert!(cut.contains("\n39\n… 3 lines more (hotbay build shows them all) …\n43\n") && cut.ends_with("\n202"), "{cut}");
    }

    #[test]
    fn what_cargo_is_at_is_no_word_of_a_build() {
        let mut words = Words::default();
        for line in [
            "   Compiling serde v1.0.228",
            "\u{1b}[1m\u{1b}[92m   Compiling\u{1b}[0m serde v1.0.228",
            " Downloading crates ...",
            "    Blocking waiting for file lock on build directory",
            "error[E0425]: cannot find value `x` in this scope",
            "Compiling templates",
            "    Checking",
            "  Compiling modules",
        ] {
            words.push(line);
        }
        let kept = "error[E0425]: cannot find value `x` in this scope\nCompiling templates\n    Checking\n  Compiling modules";
        assert_eq!(words.text(), kept);
    }
}
