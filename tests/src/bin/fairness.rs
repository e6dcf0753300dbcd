//! What a neighbour pays for a service that computes for ever on every core and for another that is flooded: its latency at
//! 100 requests a second, open loop, quiet and under that load.
//!
//! Quiet and loaded phases take turns against one host, so that whatever else the machine does meets both alike. A latency is
//! counted from the moment at which a request was due, so that a late answer is not hidden by the requests that waited for it.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use hotbay_tests::load::{self, Connection, Connections, Load, Until};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

/// Longest wait for the first good answer; compiles are in it.
const START: Duration = Duration::from_secs(60);
/// Requests of the neighbour before the first phase.
const WARM_UP: u32 = 200;
/// Computes for ever.
const SPIN: &str = include_str!("../../fixtures/spin.wat");
const SPIN_SETTINGS: &str = "[limits]\ndeadline = \"1h\"\ncpu = \"1h\"\n";

/// Prints one markdown table: p50 and p99 of the neighbour, quiet and under each load, and the ratios.
#[derive(Parser)]
struct Args {
    /// The `hotbay` binary
    #[arg(long, default_value = "target/release/hotbay")]
    hotbay: PathBuf,
    /// The component of the neighbour and of the service that is flooded
    #[arg(long, default_value = "target/bay/hello.wasm")]
    hello: PathBuf,
    /// Rounds; each has a phase of every kind
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds a phase
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Requests a second of the neighbour
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Clients of the flood, each with a new connection for each request
    #[arg(long, default_value_t = 64)]
    flood_clients: usize,
    /// Only phases whose name contains this, and the quiet one
    #[arg(long, default_value = "")]
    only: String,
    /// Flood this address until stdin ends; what the measurement starts as a process of its own
    #[arg(long, hide = true)]
    flood: Option<SocketAddr>,
}

/// What the others do while the neighbour is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Phase {
    name: &'static str,
    spins: bool,
    floods: bool,
}

const PHASES: [Phase; 4] = [
    Phase { name: "quiet", spins: false, floods: false },
    Phase { name: "one spins", spins: true, floods: false },
    Phase { name: "one is flooded", spins: false, floods: true },
    Phase { name: "one spins, one is flooded", spins: true, floods: true },
];

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(address) = args.flood {
        return flood(address, args.flood_clients).await;
    }
    let scratch = tempfile::tempdir()?;
    let host = Host::start(&args, scratch.path()).await?;
    let phases: Vec<Phase> = PHASES.into_iter().filter(|phase| *phase == PHASES[0] || phase.name.contains(&args.only)).collect();
    let mut seen: Vec<(Phase, Vec<Vec<Duration>>, u64)> = phases.into_iter().map(|phase| (phase, Vec::new(), 0)).collect();
    neighbour(&host, WARM_UP, args.rate).await?;
    for _ in 0..args.rounds {
        for (phase, latencies, flooded) in &mut seen {
            let spinners = if phase.spins { spinners(host.address).await? } else { Vec::new() };
            let flood = phase.floods.then(|| Flood::start(host.address, args.flood_clients)).transpose()?;
            latencies.push(neighbour(&host, args.rate * args.seconds, args.rate).await?);
            *flooded += flood.map_or(Ok(0), Flood::end)?;
            drop(spinners);
        }
    }
    print!("{}", report(&args, &seen));
    Ok(())
}

/// Asks the neighbour `count` times, `rate` times a second, whether or not earlier answers are there.
async fn neighbour(host: &Host, count: u32, rate: u32) -> Result<Vec<Duration>> {
    let kept: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let request: Arc<[u8]> = load::get(host.address, "/neighbour", Connections::Kept).into();
    let (begun, mut asked) = (Instant::now(), JoinSet::new());
    for n in 0..count {
        let due = begun + Duration::from_secs(1) * n / rate;
        tokio::time::sleep_until(due.into()).await;
        let (kept, request, address) = (kept.clone(), request.clone(), host.address);
        // The timer of this process is late by up to a millisecond, which is not the host's doing.
        let due = Instant::now();
        asked.spawn(async move {
            let free = lock(&kept).pop();
            let mut connection = match free {
                Some(connection) => connection,
                None => Connection::open(address).await?,
            };
            let head = connection.ask(&request, |_| {}).await?;
            ensure!(head.status == 200, "the neighbour answered {}", head.status);
            lock(&kept).push(connection);
            anyhow::Ok(due.elapsed())
        });
    }
    let mut latencies: Vec<Duration> = asked.join_all().await.into_iter().collect::<Result<_>>()?;
    latencies.sort();
    Ok(latencies)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests that never end, twice as many as there are cores. They end with their connections.
async fn spinners(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut sockets = Vec::new();
    for _ in 0..2 * std::thread::available_parallelism()?.get() {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(&load::get(address, "/spin", Connections::Kept)).await?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// A process that floods.
struct Flood(Child);

impl Flood {
    /// Its clients give way to the one that measures: on one machine they would be measured instead of the host.
    fn start(address: SocketAddr, clients: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--flood", &address.to_string(), "--flood-clients", &clients.to_string()]);
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    /// Ends it and returns how many of its requests were answered.
    fn end(mut self) -> Result<u64> {
        drop(self.0.stdin.take());
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().context("piped")?).read_line(&mut line)?;
        self.0.wait()?;
        line.trim().parse().with_context(|| format!("the flood said {line:?}"))
    }
}

async fn flood(address: SocketAddr, clients: usize) -> Result<()> {
    rustix::process::setpriority_process(None, 19)?;
    let load = Load { address, path: "/flooded".to_owned(), clients, connections: Connections::New };
    let until = Until::stopped();
    let stop = until.clone();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stop.stop();
    });
    // That some are refused is what a host may do with a flood.
    let tally = load::run(&load, &until, |answer| {
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    })
    .await;
    println!("{}", tally.requests - tally.failed);
    Ok(())
}

/// A host with the three services, which runs until it is dropped.
struct Host {
    child: Child,
    address: SocketAddr,
}

impl Host {
    async fn start(args: &Args, scratch: &Path) -> Result<Self> {
        for name in ["neighbour", "flooded"] {
            let copied = fs::copy(&args.hello, scratch.join(format!("{name}.wasm")));
            copied.with_context(|| format!("{}; make it with `make guests`", args.hello.display()))?;
        }
        fs::write(scratch.join("spin.wasm"), wat::parse_str(SPIN)?)?;
        fs::write(scratch.join("spin.toml"), SPIN_SETTINGS)?;
        let mut command = Command::new(&args.hotbay);
        command.arg("serve").arg(scratch).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.env_remove("RUST_BACKTRACE").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("{}", args.hotbay.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://").with_context(|| format!("it says {line:?}"))?.parse()?;
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let host = Self { child, address };
        let begun = Instant::now();
        while neighbour(&host, 1, 1).await.is_err() {
            if begun.elapsed() > START {
                bail!("the neighbour does not answer");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(host)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Nothing is left to be done for one that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn report(args: &Args, seen: &[(Phase, Vec<Vec<Duration>>, u64)]) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!(
        "{cores} cores; {} rounds of {} s a phase, the neighbour at {} requests/s open loop. Medians of the rounds (min–max), in µs.\n\n\
         | load | p50 | p99 | slowest | p99 × quiet, round by round | flood, requests/s |\n|---|---:|---:|---:|---:|---:|\n",
        args.rounds, args.seconds, args.rate,
    );
    let quiet: Vec<f64> = seen.iter().take(1).flat_map(|(_, rounds, _)| rounds).map(|round| quantile(round, 0.99)).collect();
    for (phase, rounds, flooded) in seen {
        let of = |q| spread(rounds.iter().map(|round| quantile(round, q)));
        let shown = |[min, median, max]: [f64; 3]| format!("{median:.0} ({min:.0}–{max:.0})");
        let ratios = spread(rounds.iter().zip(&quiet).map(|(round, quiet)| quantile(round, 0.99) / quiet));
        let [low, median, high] = ratios;
        text.push_str(&format!(
            "| {} | {} | {} | {} | {median:.2} ({low:.2}–{high:.2}) | {} |\n",
            phase.name,
            shown(of(0.5)),
            shown(of(0.99)),
            shown(of(1.0)),
            flooded / u64::from(args.rounds * args.seconds),
        ));
    }
    text
}

/// Microseconds that the share `q` did not exceed.
fn quantile(sorted: &[Duration], q: f64) -> f64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a few thousand latencies, and an index among them"
    )]
    let at = ((sorted.len() as f64 * q).ceil() as usize).saturating_sub(1);
    sorted.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
}

/// Minimum, median and maximum.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    [at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1))]
}
