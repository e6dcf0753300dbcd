//! A reader's terminals: one in which commands run one after another, and one more for each that goes on running.

use super::{
    expected::{begins_as_told, is_as_told},
    page::Typed,
    root,
};
use anyhow::{Context, Result, bail, ensure};
use hotbay_tests::host::binary;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// The longest that a command may take, or what it leads to: some build a service from nothing, on machines that are shared.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// The settings of a host whose page names none: machines of tests are shared, and an interpreter is much to compile.
const PATIENT: &str = "[compile]\ntimeout = \"10min\"\n";

/// The ports that pages name, in place of those that are free here.
const PUBLIC: &str = ":8080";
const ADMIN: &str = ":9191";

/// What is kept from page to page and from run to run, below target: what cargo has built, tools that were fetched. Of two crates of
/// one name cargo would put the later in the place of the other, so no two pages may build one at once.
const SHARED: [(&str, &str); 2] = [("CARGO_TARGET_DIR", "guests-of-docs"), ("XDG_CACHE_HOME", "cache-of-templates")];

/// What readers have in their home, where it is not to be fetched once more: toolchains and caches.
const KEPT: [(&str, &str); 5] = [
    ("CARGO_HOME", ".cargo"),
    ("RUSTUP_HOME", ".rustup"),
    ("PYENV_ROOT", ".pyenv"),
    ("npm_config_cache", ".npm"),
    ("PIP_CACHE_DIR", ".cache/pip"),
];

pub(super) struct Terminals {
    folder: TempDir,
    running: Vec<Running>,
    /// Grows by what any of them prints.
    heard: Arc<watch::Sender<usize>>,
    public: Option<String>,
    admin: Option<String>,
}

/// A command that goes on. Dropping it kills it, with what it has started.
struct Running {
    command: String,
    child: Child,
    group: Option<Pid>,
    printed: watch::Receiver<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Terminals {
    pub(super) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("hotbay-docs-").tempdir()?;
        for name in ["home", "work", "bin"] {
            fs::create_dir(folder.path().join(name))?;
        }
        symlink(fs::canonicalize(binary())?, folder.path().join("bin/hotbay"))?;
        // Without a terminal curl draws its progress into what it prints.
        fs::write(folder.path().join("home/.curlrc"), "silent\nshow-error\n")?;
        fs::write(folder.path().join("home/hotbay.toml"), PATIENT)?;
        fs::write(folder.path().join("environment"), "")?;
        fs::write(folder.path().join("place"), folder.path().join("work").display().to_string())?;
        Ok(Self { folder, running: Vec::new(), heard: Arc::new(watch::channel(0).0), public: None, admin: None })
    }

    /// Writes a file that the page shows, where the terminal stands.
    pub(super) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.place()?.join(path);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// Types a command, and looks at what it prints and how it ends.
    pub(super) async fn enter(&mut self, typed: &Typed) -> Result<()> {
        if goes_on(&typed.text) {
            return self.start(typed).await.with_context(|| format!("$ {}", typed.text));
        }
        let deadline = Instant::now() + LONGEST;
        loop {
            let mut heard = self.heard.subscribe();
            heard.mark_unchanged();
            let (code, printed) = self.once(&typed.text).await?;
            let told = typed.expected.as_ref().is_none_or(|expected| is_as_told(expected, &printed));
            if told && code == Some(typed.code) {
                return Ok(());
            }
            // What a change leads to may come a moment later, and whoever brings it about says so.
            let again = asks_only(&typed.text) && timeout_at(deadline, heard.changed()).await.is_ok_and(|heard| heard.is_ok());
            if !again {
                let expected = typed.expected.as_deref().unwrap_or("…");
                bail!(
                    "$ {}\nexpected, with exit code {}:\n{expected}\nprinted, with {code:?}:\n{printed}\n{}",
                    typed.text,
                    typed.code,
                    self.told()
                );
            }
        }
    }

    /// Whether a command succeeds; what it said if not.
    pub(super) async fn try_out(&self, command: &str) -> Result<()> {
        let (code, printed) = self.once(command).await?;
        ensure!(code == Some(0), "`{command}`: {}", printed.trim());
        Ok(())
    }

    /// Presses Ctrl-C in every terminal in which something goes on.
    pub(super) async fn close(&mut self) -> Result<()> {
        while let Some(mut running) = self.running.pop() {
            if let (Some(group), None) = (running.group, running.child.try_wait()?) {
                kill_process_group(group, Signal::INT)?;
            }
            let ended = timeout(LONGEST, running.child.wait()).await;
            let status = ended.with_context(|| format!("`{}` does not end", running.command))??;
            running.group = None;
            // Readers of a stream end by the signal.
            let fine = status.success() || !serves(&running.command);
            ensure!(fine, "`{}` ended with {status}:\n{}", running.command, *running.printed.borrow());
        }
        Ok(())
    }

    /// Runs a command to its end: how, and what it printed. The folder and the variables that it leaves hold for the next one.
    async fn once(&self, text: &str) -> Result<(Option<i32>, String)> {
        let keep = "trap 'pwd >\"$TERMINAL/place\"; export -p >\"$TERMINAL/environment\"' EXIT";
        let mut command = self.shell(&format!("{keep}; set -eu\n{}", self.with_ports(text)))?;
        let output = timeout(LONGEST, command.output()).await.with_context(|| format!("`{text}` does not end"))??;
        Ok((output.status.code(), self.as_told(&String::from_utf8_lossy(&output.stdout))))
    }

    async fn start(&mut self, typed: &Typed) -> Result<()> {
        // What is behind it is said to the reader.
        let (text, _) = typed.text.split_once(" #").unwrap_or((&typed.text, ""));
        let mut text = text.trim_end().to_owned();
        if serves(&text) && !text.contains("--listen") {
            text.push_str(" --listen 127.0.0.1:0 --admin 127.0.0.1:0");
        }
        if serves(&text) && !text.contains("--config") {
            text.push_str(" --config \"$HOME/hotbay.toml\"");
        }
        let mut child = self.shell(&format!("set -eu\nexec {}", self.with_ports(&text)))?.process_group(0).spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut stdout = child.stdout.take().context("piped")?;
        let (sender, printed) = watch::channel(String::new());
        let heard = self.heard.clone();
        tokio::spawn(async move {
            let mut piece = vec![0; 8 << 10];
            while let Ok(len @ 1..) = stdout.read(&mut piece).await {
                sender.send_modify(|text| text.push_str(&String::from_utf8_lossy(&piece[..len])));
                heard.send_modify(|heard| *heard += len);
            }
        });
        self.running.push(Running { command: text.clone(), child, group, printed: printed.clone() });
        if serves(&text) {
            let develops = text.starts_with("hotbay dev");
            let ready = |printed: &str| match develops {
                // Its services come one after another, as they are built.
                true => port(printed, "http://").is_some(),
                false => printed.contains("\nSERVICE ") || printed.contains("\nno service"),
            };
            let text = self.wait(&printed, ready).await?;
            (self.public, self.admin) = (port(&text, "http://"), port(&text, "admin on http://"));
        }
        if let Some(expected) = &typed.expected {
            self.wait(&printed, |printed| begins_as_told(expected, &self.as_told(printed))).await?;
        }
        Ok(())
    }

    /// Waits until what a command prints is so.
    async fn wait(&self, printed: &watch::Receiver<String>, is: impl Fn(&str) -> bool) -> Result<String> {
        let mut printed = printed.clone();
        match timeout(LONGEST, printed.wait_for(|text| is(text))).await {
            Ok(Ok(text)) => Ok(text.clone()),
            _ => bail!("it does not print what is expected\n{}", self.told()),
        }
    }

    fn shell(&self, script: &str) -> Result<Command> {
        let terminal = self.folder.path();
        // Whoever starts the tests in the background of a shell leaves them Ctrl-C ignored.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT", "bash", "-c"])
            .arg(format!("exec 2>&1; . \"$TERMINAL/environment\"; cd \"$(cat \"$TERMINAL/place\")\"; {script}"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        for name in ["HOTBAY_LOG", "HOTBAY_ADMIN_TOKEN", "RUST_BACKTRACE", "OLDPWD"] {
            command.env_remove(name);
        }
        for (name, folder) in SHARED {
            let folder = root().join("target").join(folder);
            fs::create_dir_all(&folder)?;
            command.env(name, fs::canonicalize(folder)?);
        }
        let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
        for (name, folder) in KEPT {
            if env::var_os(name).is_none() && home.join(folder).exists() {
                command.env(name, home.join(folder));
            }
        }
        let path = env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", terminal.join("bin").display())).env("HOME", terminal.join("home"));
        command.env("TERMINAL", terminal).env("SERVICES", fs::canonicalize(root().join("target/bay"))?);
        Ok(command)
    }

    fn place(&self) -> Result<PathBuf> {
        Ok(Path::new(fs::read_to_string(self.folder.path().join("place"))?.trim_end()).to_owned())
    }

    /// The page's ports made those of this host.
    fn with_ports(&self, text: &str) -> String {
        let public = self.public.as_deref().unwrap_or(PUBLIC);
        text.replace(PUBLIC, public).replace(ADMIN, self.admin.as_deref().unwrap_or(ADMIN))
    }

    /// The ports of this host made those of the page.
    fn as_told(&self, printed: &str) -> String {
        let mut printed = printed.to_owned();
        for (here, told) in [(&self.public, PUBLIC), (&self.admin, ADMIN)] {
            if let Some(here) = here {
                printed = printed.replace(here, told);
            }
        }
        printed
    }

    /// What goes on, and the end of what it has said.
    fn told(&self) -> String {
        let mut told = String::new();
        for running in &self.running {
            let printed = running.printed.borrow();
            let lines: Vec<_> = printed.lines().collect();
            let end = lines[lines.len().saturating_sub(40)..].join("\n");
            told.push_str(&format!("--- `{}`, the last lines:\n{end}\n", running.command));
        }
        told
    }
}

/// The port, with its colon, of the first address of this machine behind `label`.
fn port(printed: &str, label: &str) -> Option<String> {
    let (_, rest) = printed.split_once(&format!("{label}127.0.0.1:"))?;
    let port = rest.get(..rest.find(|c: char| !c.is_ascii_digit())?)?;
    Some(format!(":{port}"))
}

/// Whether a command goes on until somebody ends it.
fn goes_on(text: &str) -> bool {
    serves(text) || text.contains(" --follow")
}

fn serves(text: &str) -> bool {
    text.starts_with("hotbay serve") || text.starts_with("hotbay dev")
}

/// Whether a command changes nothing, so that it can be typed again.
fn asks_only(text: &str) -> bool {
    let changes = [" -d", " --data", " -X", " -T", " >"].iter().any(|flag| text.contains(flag));
    let asks =
        ["curl ", "hotbay ps", "hotbay history", "hotbay events", "hotbay logs"].iter().any(|begin| text.starts_with(begin));
    asks && !changes
}
