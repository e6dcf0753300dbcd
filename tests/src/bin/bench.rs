//! CPU time that one request costs: `hello` under Hotbay, under `wasmtime serve`, and as a native axum server.
//!
//! All servers run side by side and are loaded in turn, round after round, so that whatever else the machine does meets each
//! of them alike. What is counted is the CPU time of the server's process (utime + stime), not the time on the clock.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use hotbay_tests::load::{self, Connections, Load, Until};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longest wait for a server's first good answer; a first compile is in it.
const START: Duration = Duration::from_secs(60);
/// Requests before the first round: pools fill and code is paged in.
const WARM_UP: u32 = 1000;
/// A native request takes so much less time that the clock's 10 ms ticks would show; it gets more of them.
const NATIVE_FACTOR: u32 = 4;
/// `pooling-memory-keep-resident` and its like for `wasmtime serve`, in bytes: above what the guest touches.
const KEEP_RESIDENT: u32 = 10 << 20;

/// Prints one markdown table: CPU µs a request of each server, and the ratios.
#[derive(Parser)]
struct Args {
    /// The `hotbay` binary
    #[arg(long, default_value = "target/release/hotbay")]
    hotbay: PathBuf,
    /// The component that is served
    #[arg(long, default_value = "target/bay/hello.wasm")]
    hello: PathBuf,
    /// The `wasmtime` binary to compare with; left out where it is not given
    #[arg(long)]
    wasmtime: Option<PathBuf>,
    /// Rounds; each loads every server once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Requests a round
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Keep-alive connections
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Only servers whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let scratch = tempfile::tempdir()?;
    let mut servers = Vec::new();
    for spec in specs(&args, scratch.path())? {
        if spec.name.contains(&args.only) {
            servers.push(Server::start(spec, args.connections).await?);
        }
    }
    for round in 0..=args.rounds {
        for server in &mut servers {
            match round {
                0 => drop(server.ask(WARM_UP).await?),
                _ => server.round(args.requests).await?,
            }
        }
    }
    print!("{}", report(&args, &servers));
    Ok(())
}

/// One server: how it is started and where it answers.
struct Spec {
    name: &'static str,
    command: Command,
    /// The address, where it was chosen for the server; else the first line of its stdout ends with it.
    address: Option<SocketAddr>,
    path: &'static str,
    factor: u32,
}

fn specs(args: &Args, scratch: &Path) -> Result<Vec<Spec>> {
    let native = std::env::current_exe()?.with_file_name("native");
    let mut specs =
        vec![Spec { name: "native axum", command: Command::new(native), address: None, path: "/hello", factor: NATIVE_FACTOR }];
    for (name, policy, quiet) in [
        ("hotbay, fresh", "fresh", false),
        ("hotbay, fresh, HOTBAY_LOG=warn", "fresh", true),
        ("hotbay, reuse", "reuse", false),
        ("hotbay, reuse, HOTBAY_LOG=warn", "reuse", true),
    ] {
        specs.push(hotbay(args, scratch, name, policy, quiet)?);
    }
    if let Some(wasmtime) = &args.wasmtime {
        let keep = |option: &str| format!("{option}={KEEP_RESIDENT}");
        let pooling = [
            "pooling-allocator=y".to_owned(),
            keep("pooling-memory-keep-resident"),
            keep("pooling-table-keep-resident"),
            keep("pooling-async-stack-keep-resident"),
            "pooling-pagemap-scan=auto".to_owned(),
        ];
        let pooling: Vec<&str> = pooling.iter().flat_map(|option| ["-O", option]).collect();
        for (name, options) in [
            ("wasmtime serve", &[][..]),
            ("wasmtime serve, pooling", &pooling),
            ("wasmtime serve, reuse", &["--max-instance-reuse-count", "1000000"]),
        ] {
            specs.push(wasmtime_serve(wasmtime, &args.hello, name, options)?);
        }
    }
    Ok(specs)
}

fn hotbay(args: &Args, scratch: &Path, name: &'static str, policy: &str, quiet: bool) -> Result<Spec> {
    let bay = scratch.join(name);
    fs::create_dir(&bay)?;
    fs::copy(&args.hello, bay.join("hello.wasm"))
        .with_context(|| format!("{}; make it with `make guests`", args.hello.display()))?;
    fs::write(bay.join("hello.toml"), format!("[instances]\npolicy = \"{policy}\"\n"))?;
    let mut command = Command::new(&args.hotbay);
    command.arg("serve").arg(&bay).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).env_remove("HOTBAY_LOG");
    if quiet {
        command.env("HOTBAY_LOG", "warn");
    }
    Ok(Spec { name, command, address: None, path: "/hello", factor: 1 })
}

fn wasmtime_serve(wasmtime: &Path, hello: &Path, name: &'static str, options: &[&str]) -> Result<Spec> {
    // It prints no port that it took itself on stdout, so a free one is chosen for it.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(wasmtime);
    command.args(["serve", "--addr", &address.to_string(), "-S", "cli"]).args(options).arg(hello);
    Ok(Spec { name, command, address: Some(address), path: "/", factor: 1 })
}

/// A server that runs until it is dropped.
struct Server {
    name: &'static str,
    child: Child,
    load: Load,
    factor: u32,
    /// CPU µs a request, one of each round.
    cost: Vec<f64>,
    /// Requests a second, one of each round.
    rate: Vec<f64>,
}

impl Server {
    async fn start(spec: Spec, clients: usize) -> Result<Self> {
        let Spec { name, mut command, address, path, factor } = spec;
        // A backtrace for each internal error is a matter of the environment and not of the server.
        command.env_remove("RUST_BACKTRACE").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        let address = match address {
            Some(address) => address,
            None => address_from(&mut child).with_context(|| format!("starting {name}"))?,
        };
        let load = Load { address, path: path.to_owned(), clients, connections: Connections::Kept };
        let server = Self { name, child, load, factor, cost: Vec::new(), rate: Vec::new() };
        server.answers().await?;
        Ok(server)
    }

    /// Waits for the first good answer.
    async fn answers(&self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < START {
            if self.ask(1).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} does not answer {}", self.name, self.load.path)
    }

    async fn ask(&self, requests: u32) -> Result<load::Tally> {
        let tally = load::run(&self.load, &Until::requests(u64::from(requests)), |answer| {
            ensure!(answer.status == 200 && answer.body == b"Hello from Hotbay!\n", "{answer:?}");
            Ok(())
        })
        .await;
        ensure!(tally.failed == 0, "{}: {} of {} requests failed: {:?}", self.name, tally.failed, tally.requests, tally.failures);
        Ok(tally)
    }

    async fn round(&mut self, requests: u32) -> Result<()> {
        let requests = requests * self.factor;
        let before = cpu_time(self.child.id())?;
        let tally = self.ask(requests).await?;
        let used = cpu_time(self.child.id())? - before;
        self.cost.push(used.as_secs_f64() * 1e6 / f64::from(requests));
        self.rate.push(tally.rate());
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to be done for one that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_from(child: &mut Child) -> Result<SocketAddr> {
    let stdout = child.stdout.take().context("no stdout")?;
    let mut lines = BufReader::new(stdout);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let address =
        line.trim().strip_prefix("listening on http://").with_context(|| format!("its first line is {line:?}"))?.parse()?;
    // The rest is read so that nobody waits for a full pipe.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    Ok(address)
}

/// utime + stime of a process, without those of its children.
fn cpu_time(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field after it.
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11).context("utime")?.parse::<u64>()? + fields.get(12).context("stime")?.parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

fn report(args: &Args, servers: &[Server]) -> String {
    let median_of = |name: &str| servers.iter().find(|server| server.name == name).map(|server| spread(&server.cost)[1]);
    let ratio = |cost: f64, base: Option<f64>| base.map_or_else(|| "-".to_owned(), |base| format!("{:.2}", cost / base));
    let (native, wasmtime) = (median_of("native axum"), median_of("wasmtime serve"));
    let mut text = format!(
        "{}\n\n{} rounds of {} requests (native {}) over {} keep-alive connections, CPU µs a request of the server process (utime + stime).\n\n",
        machine(),
        args.rounds,
        args.requests,
        args.requests * NATIVE_FACTOR,
        args.connections,
    );
    text.push_str(
        "| server | min | median | max | × native | × wasmtime serve | requests/s |\n|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for server in servers {
        let ([min, median, max], [_, rate, _]) = (spread(&server.cost), spread(&server.rate));
        let (to_native, to_wasmtime) = (ratio(median, native), ratio(median, wasmtime));
        text.push_str(&format!(
            "| {} | {min:.1} | {median:.1} | {max:.1} | {to_native} | {to_wasmtime} | {rate:.0} |\n",
            server.name
        ));
    }
    text
}

/// Minimum, median and maximum.
fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    [at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1))]
}

/// The machine in one line.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let load = read("/proc/loadavg");
    format!(
        "{cores} cores, {}, Linux {}; load average before the end {}",
        model.trim_start_matches([' ', '\t', ':']),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or_default(),
    )
}
