//! A running host: started on a bay of its own, asked, signalled, and gone when the test is over.

use crate::{
    PATIENCE, Resources,
    admin::Admin,
    client::{Connection, Reply, Request, Response},
    guests,
    log::{Event, Log, Tail},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

const TAKE_OVER: &str = "--take-over";

/// The way in which a build comes into the bay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Written under its name, in place of what is there. A link makes room for a file first.
    Overwrite,
    /// Written under another name and renamed: readers see the old or the new.
    Rename,
    /// A link to a file outside the bay, switched by one rename.
    Symlink,
    /// The old file deleted, the new one written.
    Replace,
}

impl How {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Overwrite, Self::Rename, Self::Symlink, Self::Replace];
}

/// How a host is to be started. The bay is a new folder with what [`Self::service`] and its like put there.
#[derive(Clone)]
pub struct Builder {
    folder: Arc<TempDir>,
    bay: PathBuf,
    state: Option<PathBuf>,
    admin: SocketAddr,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    binary: Option<PathBuf>,
}

/// A host process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code, absent where a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// A running host. Dropping it kills it.
pub struct Host {
    child: Child,
    pid: u32,
    address: SocketAddr,
    admin: SocketAddr,
    log: Arc<Log>,
    builder: Builder,
}

/// The binary under test: `$HOTBAY_BIN`, or what cargo built beside this test.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("HOTBAY_BIN") {
        return named.into();
    }
    let beside = std::env::current_exe().ok().and_then(|test| Some(test.parent()?.parent()?.join("hotbay")));
    let target = std::env::var_os("CARGO_TARGET_DIR").map(|target| PathBuf::from(target).join("release/hotbay"));
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/hotbay");
    let found = beside.into_iter().chain(target).chain([usual]).find(|path| path.is_file());
    found.expect("there is no hotbay binary: run `cargo build --release -p hotbay`, or name one in HOTBAY_BIN")
}

/// The same host with points at which it can be killed: `$HOTBAY_FAULTS_BIN`, or what `make fault-points` built.
pub fn faulty_binary() -> PathBuf {
    if let Some(named) = std::env::var_os("HOTBAY_FAULTS_BIN") {
        return named.into();
    }
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fault-points/hotbay");
    assert!(usual.is_file(), "there is no hotbay binary with fault points: run `make fault-points`");
    usual
}

/// What `.ci/setup test` brought for tests, by its path in target/tools. Absent where it could not be had.
pub fn tool(path: &str) -> Option<PathBuf> {
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools").join(path)).filter(|path| path.is_file())
}

/// A command of the binary under test, with its output caught and nothing of ours in its environment.
pub fn hotbay<I: AsRef<str>>(args: impl IntoIterator<Item = I>) -> Command {
    quiet(Command::new(binary()), args)
}

fn binary_text() -> String {
    binary().to_string_lossy().into_owned()
}

fn quiet<I: AsRef<str>>(mut command: Command, args: impl IntoIterator<Item = I>) -> Command {
    command.args(args.into_iter().map(|arg| arg.as_ref().to_owned()));
    command.env_remove("HOTBAY_LOG").env_remove("RUST_BACKTRACE").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Sends a signal to a process that is there.
pub fn kill(pid: u32, signal: Signal) {
    let process = Pid::from_raw(pid.cast_signed()).expect("a process id is not 0");
    kill_process(process, signal).unwrap_or_else(|error| panic!("process {pid} cannot be signalled: {error}"));
}

/// Runs a command of [`hotbay`] to its end.
pub async fn finish(mut command: Command) -> Finished {
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("the process did not end").unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command that talks to `host` to its end.
pub async fn ask<const N: usize>(host: &Host, args: [&str; N]) -> Finished {
    finish(host.command(args)).await
}

/// That a command failed, printed nothing, and named all of these.
#[track_caller]
pub fn assert_fails(ended: &Finished, named: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    for named in named {
        assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
    }
}

/// The state folder of all hosts of this test process that have none of their own: each fixture is compiled once.
///
/// It lies under the system's temporary folder and is cleared away by the next run, when its process has ended.
fn shared_state() -> &'static Path {
    static STATE: LazyLock<PathBuf> = LazyLock::new(|| {
        let all = std::env::temp_dir();
        let pid_of = |path: &Path| path.file_name()?.to_str()?.strip_prefix("hotbay-tests-")?.parse::<u32>().ok();
        for old in fs::read_dir(&all).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if pid_of(&old).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                // Another run may be clearing it too.
                let _ = fs::remove_dir_all(&old);
            }
        }
        let mine = all.join(format!("hotbay-tests-{}", std::process::id()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&mine).expect("a state folder");
        // Made here, since hosts that start at once would each make one.
        let key = tempfile::NamedTempFile::new_in(&mine).expect("a key");
        fs::write(key.path(), std::array::from_fn::<u8, 32, _>(|_| fastrand::u8(..))).expect("a key");
        key.persist(mine.join("cache.key")).expect("a key");
        mine
    });
    &STATE
}

impl Builder {
    fn new() -> Self {
        let folder = Arc::new(tempfile::Builder::new().prefix("hotbay-it-").tempdir().expect("a temporary folder"));
        let bay = folder.path().join("bay");
        fs::create_dir(&bay).expect("a bay");
        Self {
            folder,
            bay,
            state: Some(shared_state().to_owned()),
            admin: ([127, 0, 0, 1], 0).into(),
            args: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            binary: None,
        }
    }

    /// Another bay, which need not exist.
    pub fn bay(mut self, path: impl Into<PathBuf>) -> Self {
        self.bay = path.into();
        self
    }

    /// A build that is in the bay at the start.
    pub fn service(self, name: &str, wasm: &[u8]) -> Self {
        self.file(&format!("{name}.wasm"), wasm)
    }

    /// The settings of a service.
    pub fn settings(self, name: &str, toml: &str) -> Self {
        self.file(&format!("{name}.toml"), toml.as_bytes())
    }

    /// A file in the bay, whatever it is.
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        fs::write(self.bay.join(name), content).unwrap_or_else(|error| panic!("{name}: {error}"));
        self
    }

    /// The host's own settings.
    pub fn config(self, toml: &str) -> Self {
        let path = self.folder.path().join("hotbay.toml");
        fs::write(&path, toml).expect("a settings file");
        self.args(["--config", path.to_str().expect("a path in UTF-8")])
    }

    /// With `--dev`.
    pub fn dev(self) -> Self {
        self.args(["--dev"])
    }

    /// More arguments of `hotbay serve`.
    pub fn args<I: AsRef<str>>(mut self, args: impl IntoIterator<Item = I>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A state folder that no other host knows: where it is by default, `BAY/.hotbay`.
    pub fn own_state(mut self) -> Self {
        self.state = None;
        self
    }

    /// Its admin listener at this address, and not at a free port.
    pub fn admin_at(mut self, address: SocketAddr) -> Self {
        self.admin = address;
        self
    }

    /// This state folder.
    pub fn state(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state = Some(folder.into());
        self
    }

    /// What is logged, in the words of `HOTBAY_LOG`.
    pub fn log(self, filter: &str) -> Self {
        self.env("HOTBAY_LOG", filter)
    }

    /// A variable of the host's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the host by another command, which gets the host's as its last arguments and becomes it (exec).
    pub fn wrapped<I: AsRef<str>>(mut self, wrapper: impl IntoIterator<Item = I>) -> Self {
        self.wrapper = wrapper.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// The host that is killed at `point` once the file `armed` is there.
    pub fn faulty(mut self, point: &str, armed: &Path) -> Self {
        self.binary = Some(faulty_binary());
        self.env("HOTBAY_FAULT_POINT", point).env("HOTBAY_FAULT_ARMED", &armed.to_string_lossy())
    }

    /// The host as people run it.
    pub fn sound(mut self) -> Self {
        self.binary = None;
        self
    }

    /// The folder around the bay, for files that are not in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The bay.
    pub fn bay_path(&self) -> &Path {
        &self.bay
    }

    fn command(&self) -> Command {
        let mut command = match self.wrapper.split_first() {
            None => quiet(Command::new(self.binary.clone().unwrap_or_else(binary)), ["serve"]),
            Some((program, args)) => quiet(Command::new(program), args.iter().chain([&binary_text(), &"serve".to_owned()])),
        };
        command.arg(&self.bay).args(["--listen", "127.0.0.1:0", "--admin", &self.admin.to_string(), "--log", "json"]);
        if let Some(state) = &self.state {
            command.arg("--state").arg(state);
        }
        command.args(&self.args).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the host and waits until everything in the bay has been decided.
    pub async fn start(self) -> Host {
        let host = self.start_listening().await;
        let table = host.table().await;
        // The log comes by another way than the table, and later: what it says of the start must not be taken for news.
        let rows = table.lines().skip_while(|line| !line.starts_with("SERVICE ")).skip(1);
        for name in rows
            .take_while(|line| !line.starts_with("try: ") && !line.starts_with("no service"))
            .filter(|line| !line.starts_with(' '))
        {
            let name = name.split_whitespace().next().unwrap_or_default();
            let decided = |event: &Event| event.is(name, "published") || event.is(name, "rejected");
            host.log().wait(format!("the line on {name}"), decided).await;
        }
        host
    }

    /// Starts the host and waits until it listens. Services may not be there yet.
    pub async fn start_listening(self) -> Host {
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut host = self.launch(nowhere);
        let log = &host.log;
        let first = wait_stdout(log, "its first two lines", |text| text.lines().count() >= 2 && text.ends_with('\n')).await;
        let mut lines = first.lines();
        let mut after = |label: &str| {
            let line = lines.next().unwrap_or_default();
            let address = line.strip_prefix(label).and_then(|address| address.parse().ok());
            address.unwrap_or_else(|| panic!("a line {label}… was expected and not {line:?}\n{}", log.told()))
        };
        (host.address, host.admin) = (after("listening on http://"), after("admin on http://"));
        host
    }

    /// Starts the process and follows what it says.
    fn launch(self, address: SocketAddr) -> Host {
        let mut child = self.command().spawn().unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
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
        Host { child, pid, address, admin: address, log, builder: self }
    }

    /// Runs a host that is expected to end by itself.
    pub async fn run(self) -> Finished {
        finish(self.command()).await
    }
}

pub(crate) async fn follow(source: impl tokio::io::AsyncRead + Unpin, mut take: impl FnMut(String)) {
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    while source.read_until(b'\n', &mut line).await.is_ok_and(|len| len > 0) {
        take(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
}

pub(crate) async fn wait_stdout(log: &Log, what: &str, is: impl Fn(&str) -> bool) -> String {
    let mut stdout = log.stdout.subscribe();
    match tokio::time::timeout(3 * PATIENCE, stdout.wait_for(|text| is(text))).await {
        Ok(Ok(text)) => text.clone(),
        _ => panic!("the host did not print {what}\n{}", log.told()),
    }
}

impl Host {
    /// A host to be started.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its admin listener, with the token of its state folder.
    pub fn admin(&self) -> Admin {
        Admin::new(self.admin, self.state())
    }

    /// A command of the binary that asks this host.
    pub fn command<I: AsRef<str>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = hotbay(args);
        command.arg("--bay").arg(self.bay()).arg("--state").arg(self.state()).env_remove("HOTBAY_ADMIN_TOKEN");
        command
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The bay.
    pub fn bay(&self) -> &Path {
        self.builder.bay_path()
    }

    /// The folder around the bay.
    pub fn folder(&self) -> &Path {
        self.builder.folder()
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.builder.state.clone().unwrap_or_else(|| self.bay().join(".hotbay"))
    }

    /// What it holds now.
    pub fn resources(&self) -> Resources {
        Resources::of(self.pid)
    }

    // --- asking ---

    /// GET, on a connection of its own.
    pub async fn get(&self, target: &str) -> Response {
        self.request("GET", target).send().await
    }

    /// POST, on a connection of its own.
    pub async fn post(&self, target: &str, body: impl Into<bytes::Bytes>) -> Response {
        self.request("POST", target).body(body).send().await
    }

    /// GET, until the head of the response is there.
    pub async fn get_open(&self, target: &str) -> Reply {
        self.request("GET", target).open().await
    }

    /// GET, again and again until the status is this one: for what the host does a moment after it has answered.
    pub async fn get_until(&self, target: &str, status: u16) -> Response {
        let begun = Instant::now();
        loop {
            let answer = self.get(target).await;
            if answer.status == status {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "{target} stays {}: {}\n{}", answer.status, answer.text(), self.log.told());
        }
    }

    /// A request to be made up and sent.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.address, method, target)
    }

    /// A connection that is kept, HTTP/1.1.
    pub async fn connect(&self) -> Connection {
        Connection::http1(self.address).await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log.told()))
    }

    /// A connection that is kept, HTTP/2 with prior knowledge.
    pub async fn connect_h2(&self) -> Connection {
        Connection::http2(self.address).await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log.told()))
    }

    /// A bare socket.
    pub async fn socket(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap_or_else(|error| panic!("{error}\n{}", self.log.told()))
    }

    /// Sends these bytes and reads until the host closes the connection.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = self.socket().await;
        // A host that refuses early may have closed already; what it said counts.
        let _ = socket.write_all(bytes.as_ref()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection stayed open after {:?}\n{}", String::from_utf8_lossy(&answer), self.log.told());
        String::from_utf8_lossy(&answer).into_owned()
    }

    // --- the bay ---

    /// Puts a build into the bay.
    pub fn place(&self, name: &str, wasm: &[u8], how: How) {
        self.try_place(name, wasm, how).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    fn try_place(&self, name: &str, wasm: &[u8], how: How) -> io::Result<()> {
        let path = self.build_path(name);
        let temporary = self.bay().join(format!(".{name}.new"));
        match how {
            How::Overwrite => {
                if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
                    fs::remove_file(&path)?;
                }
                fs::write(&path, wasm)
            }
            How::Rename => {
                fs::write(&temporary, wasm)?;
                fs::rename(&temporary, &path)
            }
            How::Symlink => {
                static BUILDS: AtomicU64 = AtomicU64::new(0);
                let build = self.folder().join(format!("{name}-{}.wasm", BUILDS.fetch_add(1, Ordering::Relaxed)));
                fs::write(&build, wasm)?;
                let before = fs::read_link(&path).ok();
                symlink(&build, &temporary)?;
                fs::rename(&temporary, &path)?;
                before.map_or(Ok(()), fs::remove_file)
            }
            How::Replace => {
                fs::remove_file(&path)?;
                fs::write(&path, wasm)
            }
        }
    }

    /// Puts a build into the bay and waits until it serves. Returns its revision.
    pub async fn swap(&self, name: &str, wasm: &[u8], how: How) -> String {
        let (since, revision) = (self.mark(), guests::digest(wasm));
        self.place(name, wasm, how);
        self.since(since).wait_published(name, &revision).await;
        revision
    }

    /// Writes the settings of a service, by a rename.
    pub fn place_settings(&self, name: &str, toml: &str) {
        let temporary = self.bay().join(format!(".{name}.toml.new"));
        fs::write(&temporary, toml).expect("settings are written");
        fs::rename(&temporary, self.bay().join(format!("{name}.toml"))).expect("settings are renamed");
    }

    /// Takes a build out of the bay.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.build_path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Where the build of a service lies.
    pub fn build_path(&self, name: &str) -> PathBuf {
        self.bay().join(format!("{name}.wasm"))
    }

    // --- what it says ---

    /// What it printed once everything in the bay had been decided.
    pub async fn table(&self) -> String {
        let ended = |text: &str| text.lines().any(|line| line.starts_with("try: ") || line.starts_with("no service yet"));
        wait_stdout(&self.log, "its table", ended).await
    }

    /// The log from its beginning.
    pub fn log(&self) -> Tail<'_> {
        self.since(0)
    }

    /// A point in the log, for [`Self::since`].
    pub fn mark(&self) -> usize {
        self.log.len()
    }

    /// The log from a point on.
    pub fn since(&self, mark: usize) -> Tail<'_> {
        Tail { log: &self.log, from: mark }
    }

    /// All that it has said.
    pub fn events(&self) -> Vec<Event> {
        self.log().events()
    }

    /// Waits for a state of a service, from the beginning of the log.
    pub async fn wait_for(&self, service: &str, state: &str) -> Event {
        self.log().wait_for(service, state).await
    }

    /// Waits for the publication of one revision, from the beginning of the log.
    pub async fn wait_published(&self, service: &str, revision: &str) -> Event {
        self.log().wait_published(service, revision).await
    }

    /// Waits for the retirement of one revision, from the beginning of the log.
    pub async fn wait_retired(&self, service: &str, revision: &str) -> Event {
        self.log().wait_retired(service, revision).await
    }

    /// Waits for a reject, from the beginning of the log.
    pub async fn wait_rejected(&self, service: &str) -> Event {
        self.log().wait_rejected(service).await
    }

    /// The end of its log, for a message.
    pub fn told(&self) -> String {
        self.log.told()
    }

    // --- its end ---

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal);
    }

    /// Whether the process is there.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Waits for its end.
    pub async fn exit_status(&mut self) -> ExitStatus {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("a child of ours"),
            Err(_) => panic!("the host did not end\n{}", self.log.told()),
        }
    }

    /// A host that takes over from this one, on the same bay. It has done so when its table is there.
    pub fn successor(&self) -> Host {
        let mut builder = self.builder.clone();
        builder.args.retain(|arg| arg != TAKE_OVER);
        let mut next = builder.args([TAKE_OVER]).launch(self.address);
        next.admin = self.admin;
        next
    }

    /// All of its standard output so far.
    pub fn stdout(&self) -> String {
        self.log.stdout.borrow().clone()
    }

    /// How it was started: with the same bay, to be started again.
    pub fn again(&self) -> Builder {
        self.builder.clone()
    }

    /// Ends it in good order, and gives back how it was started: with the same bay, to be started again.
    pub async fn stop(mut self) -> Builder {
        self.signal(Signal::TERM);
        let status = self.exit_status().await;
        assert!(status.success(), "the host ended with {status}\n{}", self.log.told());
        self.builder.clone()
    }
}
