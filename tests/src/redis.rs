//! A Redis of a test's own: on a free port of this machine, killed, stopped and started again at will.

use crate::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Ports that are tried: another program may take one before Redis does.
const PORTS_TRIED: u32 = 10;

/// A running Redis. Each write is on its disk before it is acknowledged. Dropping it kills it.
pub struct Redis {
    child: Child,
    port: u16,
    args: Vec<String>,
    folder: TempDir,
}

/// The program: of the system, or what `.ci/setup test` brought.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let brought = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin");
    std::env::split_paths(&path).chain([brought]).map(|folder| folder.join("redis-server")).find(|program| program.is_file())
}

impl Redis {
    /// Starts one with these arguments beside the usual; none, with a line that says so, where there is no Redis.
    pub async fn start<const N: usize>(args: [&str; N]) -> Option<Self> {
        if program().is_none() {
            println!("skipped: redis-server is not here; `.ci/setup test` brings it, or install Debian's `redis-server`");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        for _ in 0..PORTS_TRIED {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
            if let Some(child) = spawn(free.port(), &args, folder.path()).await {
                return Some(Self { child, port: free.port(), args, folder });
            }
        }
        panic!("redis-server does not start");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The settings of a host that keeps here; more of `[keyvalue]` may follow.
    pub fn config(&self) -> String {
        format!("[keyvalue]\nredis = 'redis://{}/0'\n", self.address())
    }

    /// Ends it, as a crash does, and returns once it has ended.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it ran");
    }

    /// Starts it again at the same port, with what it kept.
    pub async fn again(&mut self) {
        self.child = spawn(self.port, &self.args, self.folder.path()).await.expect("it starts again");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("it runs");
        kill_process(pid, signal).expect("it runs");
    }
}

/// None where it ends before it is ready, as where the port is taken.
async fn spawn(port: u16, args: &[String], folder: &Path) -> Option<Child> {
    let mut command = Command::new(program()?);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always"]).arg("--dir").arg(folder).args(args);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("redis-server");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let ready = tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.expect("its output") {
            if line.contains("Ready to accept connections") {
                return true;
            }
        }
        false
    });
    if !ready.await.expect("redis-server says that it is ready") {
        return None;
    }
    // Whatever else it says is read, so that it never waits for that.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Some(child)
}
