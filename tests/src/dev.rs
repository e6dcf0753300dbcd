//! A running `hotbay dev` on sources of its own, asked, typed at, and gone when the test is over.

use crate::{
    Connection, PATIENCE, Request, Response, Signal, Tail, guests,
    host::{follow, hotbay, kill, wait_stdout},
    log::{Event, Log},
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::process::Child;

/// A folder with services whose build is a copy: `src/main` in each names the build that it makes, or says what is wrong.
#[derive(Clone)]
pub struct Sources(Arc<TempDir>);

/// What takes the place of a compiler: `src/main` holds the path of a build, or words that it is broken with.
const COMPILER: &str =
    r#"read -r made < src/main; if [ ! -f "$made" ]; then echo "error: $made" >&2; exit 1; fi; cp "$made" out.wasm"#;

impl Sources {
    /// None yet.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("hotbay-dev-").tempdir().expect("a temporary folder");
        for name in ["services", "builds"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Self(Arc::new(folder))
    }

    /// One more service, in `services/NAME`, that makes this build.
    pub fn service(self, name: &str, wasm: &[u8]) -> Self {
        self.add(name, wasm);
        self
    }

    /// One more, as long as somebody may look.
    pub fn add(&self, name: &str, wasm: &[u8]) {
        self.add_with(name, COMPILER);
        self.save(name, wasm);
    }

    /// One whose build is this line of shell.
    pub fn add_with(&self, name: &str, command: &str) {
        let dir = self.dir(name);
        fs::create_dir_all(dir.join("src")).expect("a folder");
        write(&dir.join("hotbay-build.toml"), &format!("command = '''{command}'''\noutput = \"out.wasm\"\n"));
    }

    /// Saves a source of which this build is made. Returns its revision.
    pub fn save(&self, name: &str, wasm: &[u8]) -> String {
        let revision = guests::digest(wasm);
        let build = self.folder().join("builds").join(&revision);
        fs::write(&build, wasm).expect("a build");
        self.write(name, &build.display().to_string());
        revision
    }

    /// Saves a source that cannot be built; the words are the compiler's.
    pub fn write(&self, name: &str, words: &str) {
        write(&self.dir(name).join("src/main"), &format!("{words}\n"));
    }

    /// Saves settings.
    pub fn settings(&self, name: &str, toml: &str) {
        write(&self.dir(name).join(format!("{name}.toml")), toml);
    }

    /// The folder of a service.
    pub fn dir(&self, name: &str) -> PathBuf {
        self.services().join(name)
    }

    /// The folder that is followed.
    pub fn services(&self) -> PathBuf {
        self.folder().join("services")
    }

    /// The folder around all of it.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Where `hotbay dev` builds to.
    pub fn bay(&self) -> PathBuf {
        self.services().join(".hotbay/dev")
    }

    /// Starts `hotbay dev` and waits until it listens. Builds may not be there yet.
    pub async fn start(&self) -> Dev {
        self.start_with(&[]).await
    }

    /// The same with more arguments.
    pub async fn start_with(&self, args: &[&str]) -> Dev {
        let services = self.services();
        let mut command = hotbay(["dev"]);
        command.arg(&services).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "json"]).args(args);
        Dev::launch(command, self.clone()).await
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self::new()
    }
}

/// Whole at every moment, as editors save.
fn write(path: &Path, text: &str) {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, text).expect("a source is written");
    fs::rename(&temporary, path).expect("a source is renamed");
}

/// A running `hotbay dev`. Dropping it kills it.
pub struct Dev {
    child: Child,
    pid: u32,
    address: SocketAddr,
    log: Arc<Log>,
    sources: Sources,
}

impl Dev {
    /// Starts this command and waits until it says where it listens.
    pub async fn launch(mut command: tokio::process::Command, sources: Sources) -> Self {
        let mut child = command.spawn().expect("hotbay starts");
        let pid = child.id().expect("the process has just been started");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let log = Arc::new(Log::new());
        tokio::spawn(follow(stdout, {
            let log = log.clone();
            move |line| log.stdout.send_modify(|text| text.extend([&line, "\n"]))
        }));
        tokio::spawn(follow(stderr, {
            let log = log.clone();
            move |line| log.push(Event::parse(&line))
        }));
        let told = wait_stdout(&log, "where it listens", |text| address(text).is_some()).await;
        Self { child, pid, address: address(&told).expect("an address"), log, sources }
    }

    /// Its sources.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// GET, on a connection of its own.
    pub async fn get(&self, target: &str) -> Response {
        self.request("GET", target).send().await
    }

    /// A request, on a connection of its own.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.address, method, target)
    }

    /// A connection that is kept.
    pub async fn connect(&self) -> Connection {
        Connection::http1(self.address).await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.told()))
    }

    /// What it has printed, from this length on.
    pub fn printed(&self, from: usize) -> String {
        self.log.stdout.borrow()[from..].to_owned()
    }

    /// How much it has printed.
    pub fn mark(&self) -> usize {
        self.log.stdout.borrow().len()
    }

    /// Waits for a whole line that holds all of these, from a mark on.
    pub async fn wait_line(&self, from: usize, parts: &[&str]) -> String {
        let find = |text: &str| {
            let whole = text[from..].rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        };
        let text = wait_stdout(&self.log, &format!("a line with {parts:?}"), |text| find(text).is_some()).await;
        find(&text).expect("it is there")
    }

    /// Waits until this revision serves.
    pub async fn wait_published(&self, service: &str, revision: &str) -> Event {
        self.log().wait_published(service, revision).await
    }

    /// The log from its beginning.
    pub fn log(&self) -> Tail<'_> {
        Tail { log: &self.log, from: 0 }
    }

    /// The log from here on.
    pub fn log_mark(&self) -> usize {
        self.log.len()
    }

    /// The log from a mark on.
    pub fn log_since(&self, mark: usize) -> Tail<'_> {
        Tail { log: &self.log, from: mark }
    }

    /// All that it has said, for a message.
    pub fn told(&self) -> String {
        self.log.told()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal);
    }

    /// Waits for its end.
    pub async fn exit_status(&mut self) -> ExitStatus {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("a child of ours"),
            Err(_) => panic!("it did not end\n{}", self.told()),
        }
    }

    /// Ends it as Ctrl-C does, in good order.
    pub async fn interrupt(mut self) {
        self.signal(Signal::INT);
        let status = self.exit_status().await;
        assert!(status.success(), "it ended with {status}\n{}", self.told());
    }

    /// Types at it, where it was started so that one can.
    pub async fn type_keys(&mut self, keys: &str) {
        use tokio::io::AsyncWriteExt;
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(keys.as_bytes()).await.expect("it reads");
        stdin.flush().await.expect("it reads");
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    let whole = text.rsplit_once('\n')?.0;
    whole.lines().find_map(|line| line.trim_end().strip_prefix("listening on http://")?.parse().ok())
}

/// The steps of a save as its line says them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steps {
    /// Of the tools.
    pub build: Duration,
    /// The look at what they made.
    pub check: Duration,
    /// To machine code.
    pub compile: Duration,
    /// All the rest until it serves.
    pub swap: Duration,
    /// From the save on.
    pub whole: Duration,
}

impl Steps {
    /// Reads `… build 812 ms · check 3.0 ms · compile 61 ms · swap 2.4 ms → REVISION in 1.9 s`.
    pub fn parse(line: &str) -> Self {
        let after = |word: &str| {
            let rest = line.split_once(&format!("{word} ")).unwrap_or_else(|| panic!("{word} in {line:?}")).1;
            let mut parts = rest.split_whitespace();
            let number: f64 = parts.next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{word} in {line:?}"));
            Duration::from_secs_f64(if parts.next() == Some("s") { number } else { number / 1000.0 })
        };
        let whole = line.rsplit_once(" in ").map_or("", |(_, took)| took).to_owned();
        let (number, unit) = whole.split_once(' ').unwrap_or_else(|| panic!("a time at the end of {line:?}"));
        let number: f64 = number.parse().unwrap_or_else(|_| panic!("a time at the end of {line:?}"));
        let whole = Duration::from_secs_f64(if unit.trim() == "s" { number } else { number / 1000.0 });
        Self { build: after(": build"), check: after("· check"), compile: after("· compile"), swap: after("· swap"), whole }
    }
}
