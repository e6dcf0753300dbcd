//! `hotbay check`: the steps of a swap up to its publication, told instead of done.

use super::{lacking::Lacking, output::print};
use clap::Parser;
use hotbay::{
    RunError,
    config::{
        BayFile, BudgetConfig, CompileConfig, Count, CronEntry, HostConfig, OutboundConfig, PoolConfig, ServiceName, Settings,
    },
    deploy::{UNREADABLE_REMEDY, read_build, read_settings_at},
    runtime::{
        Backtraces, Binary, Build, Inspection, KeyValue, Kind, Loader, Network, Observers, Reach, Reject, SecretFolder, Secrets,
        Sources, nobody,
    },
    telemetry::{GuestLines, Metrics},
};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::SystemTime,
};

#[derive(Parser)]
pub(super) struct Args {
    /// The files to look at; a NAME.toml beside NAME.wasm is taken for its settings
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print a JSON array with one object a file
    #[arg(long)]
    json: bool,
    /// Where the secrets are that the settings grant [default: .hotbay/secrets beside the file]
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
}

/// What is told of one file.
#[derive(Serialize)]
struct Report {
    file: PathBuf,
    size: Option<u64>,
    digest: Option<String>,
    file_kind: Option<Binary>,
    kind: Option<Kind>,
    wasi: Vec<String>,
    imports: Vec<String>,
    exports: Vec<String>,
    grants: Vec<String>,
    /// Services that it may call and that do not lie beside it.
    missing: Vec<String>,
    /// Interfaces of other services that it calls and that no build beside it exports to it: in a bay it would wait.
    lacking: Vec<Lacking>,
    cron: Vec<ByTheClock>,
    serves: bool,
    reason: Option<String>,
    remedy: Option<String>,
}

/// A `[[cron]]` entry of the settings; the keys are those of the admin API.
#[derive(Serialize)]
struct ByTheClock {
    schedule: String,
    timezone: String,
    method: String,
    path: String,
    /// RFC 3339 in UTC.
    next: Option<String>,
}

/// Exit code 0 where every file would serve, 1 where one would not.
pub(super) fn run(args: Args) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    let reports = runtime.block_on(async {
        let loader = loader(CompileConfig::default())?;
        let mut reports = Vec::new();
        for file in args.files {
            reports.push(check(&loader, file, args.secrets.as_deref()).await);
        }
        Ok::<_, String>(reports)
    })?;
    if args.json {
        print(&(serde_json::to_string_pretty(&reports).map_err(|error| error.to_string())? + "\n"))?;
    } else {
        print(&reports.iter().map(Report::text).collect::<String>())?;
    }
    let all = reports.iter().all(|report| report.serves);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What takes a build through the steps of a swap and keeps nothing of it. Belongs into a runtime.
pub(super) fn loader(compile: CompileConfig) -> Result<Arc<Loader>, String> {
    // One instance at a time is all that a check needs.
    let pool = PoolConfig { instances: Count(1), ..PoolConfig::default() };
    let metrics = Metrics::new().map_err(|error| RunError::Metrics(error.to_string()).to_string())?;
    let observers = Observers { metrics: Arc::new(metrics), lines: GuestLines::new() };
    let network = Network::new(OutboundConfig::default()).map_err(|error| error.to_string())?;
    // In memory: a start that keeps something keeps nothing.
    let sources = Sources { reach: Reach { network, services: None }, keyvalue: KeyValue::in_memory() };
    let pools = (&BudgetConfig::default(), &pool);
    let loader = Loader::new(None, pools, (compile, Backtraces::Lines), observers, sources, nobody(), None)
        .map_err(|error| RunError::Engine(format!("{error:#}")).to_string())?;
    Ok(Arc::new(loader))
}

async fn check(loader: &Arc<Loader>, file: PathBuf, secrets: Option<&Path>) -> Report {
    let build = match read_build(&file) {
        Ok((build, _)) => build,
        Err(error) => return Report::unread(file, Reject::new(error.to_string(), UNREADABLE_REMEDY)),
    };
    let (seen, grants, missing, cron) = match settings(&file) {
        Ok((name, settings)) => {
            let grants = settings.grants.listed();
            let cron = if is_main(&file) { settings.crons.iter().map(ByTheClock::from).collect() } else { Vec::new() };
            let not_beside = |callee: &&ServiceName| !file.with_file_name(format!("{callee}.wasm")).exists();
            let missing = settings.grants.calls().iter().filter(not_beside).map(ToString::to_string).collect();
            let (secrets, unread) = match read_secrets(&file, secrets, &settings) {
                Ok(secrets) => (secrets, None),
                Err(reject) => (Secrets::default(), Some(reject)),
            };
            let mut seen = loader.inspect(&name, &build, (settings, secrets)).await;
            seen.reject = unread.or(seen.reject);
            (seen, grants, missing, cron)
        }
        // The name or the settings will not do; what is in the file can be told all the same.
        Err(reject) => {
            let name = ServiceName::unnamed();
            let settings = Settings::defaults(&name);
            let mut seen = loader.inspect(&name, &build, (settings, Secrets::default())).await;
            // Whoever names the settings means the build beside them, and knows that a text is none.
            if seen.reject.is_none() || is_settings(&file) {
                seen.reject = Some(reject);
            }
            (seen, Vec::new(), Vec::new(), Vec::new())
        }
    };
    Report { grants, missing, cron, ..Report::read(file, &build, seen) }
}

/// Whether it is the build that gets the requests by the clock: no labelled one does.
fn is_main(file: &Path) -> bool {
    matches!(BayFile::of(&file.file_name().unwrap_or_default().to_string_lossy()), BayFile::Build(_))
}

fn is_settings(file: &Path) -> bool {
    matches!(BayFile::of(&file.file_name().unwrap_or_default().to_string_lossy()), BayFile::Settings(_))
}

/// The service that the file would be, and its settings.
fn settings(file: &Path) -> Result<(ServiceName, Settings), Reject> {
    let file_name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = match BayFile::of(&file_name) {
        BayFile::Build(name) | BayFile::Labelled(name, _) => name,
        BayFile::Misnamed(error) => return Err(Reject::new(error.to_string(), error.remedy())),
        BayFile::Settings(name) => {
            return Err(Reject::new(
                "it is the settings of a service and no build",
                format!("check {name}.wasm: the settings beside it are checked with it"),
            ));
        }
        BayFile::Ignored => {
            let shown = file_name.escape_debug();
            return Err(Reject::new(format!("the bay takes no build of the name `{shown}`"), "call it NAME.wasm"));
        }
    };
    let settings = read_settings_at(&name, &file.with_file_name(format!("{name}.toml")))?;
    Ok((name, settings))
}

/// The secrets that the settings grant.
fn read_secrets(file: &Path, folder: Option<&Path>, settings: &Settings) -> Result<Secrets, Reject> {
    let beside = || HostConfig::secrets_of(&HostConfig::state_of(file.parent().unwrap_or(Path::new(""))));
    let folder = SecretFolder::new(folder.map_or_else(beside, Path::to_owned));
    Ok(folder.read(settings.grants.secrets())?.0)
}

impl From<&CronEntry> for ByTheClock {
    fn from(entry: &CronEntry) -> Self {
        Self {
            schedule: entry.schedule().to_owned(),
            timezone: entry.timezone().to_owned(),
            method: entry.method().to_string(),
            path: entry.target().to_string(),
            next: entry.next(SystemTime::now()).map(|next| humantime::format_rfc3339_seconds(next).to_string()),
        }
    }
}

impl ByTheClock {
    fn text(&self) -> String {
        let Self { schedule, timezone, method, path, next } = self;
        format!("{schedule} ({timezone}), {method} {path}, next {}", next.as_deref().unwrap_or("-"))
    }
}

impl Report {
    fn unread(file: PathBuf, reject: Reject) -> Self {
        Self {
            file,
            size: None,
            digest: None,
            file_kind: None,
            kind: None,
            wasi: Vec::new(),
            imports: Vec::new(),
            exports: Vec::new(),
            grants: Vec::new(),
            missing: Vec::new(),
            lacking: Vec::new(),
            cron: Vec::new(),
            serves: false,
            reason: Some(reject.reason),
            remedy: Some(reject.remedy),
        }
    }

    fn read(file: PathBuf, build: &Build, seen: Inspection) -> Self {
        let beside = file.parent().unwrap_or(Path::new(""));
        let lacking = seen.links.map(|links| Lacking::of(beside, &links)).unwrap_or_default();
        let (reason, remedy) = seen.reject.map(|reject| (reject.reason, reject.remedy)).unzip();
        Self {
            file,
            size: u64::try_from(build.size()).ok(),
            digest: Some(build.digest().to_string()),
            file_kind: build.binary().ok(),
            kind: seen.kind,
            wasi: seen.surface.wasi_versions(),
            imports: seen.surface.imports,
            exports: seen.surface.exports,
            grants: Vec::new(),
            missing: Vec::new(),
            lacking,
            cron: Vec::new(),
            serves: reason.is_none(),
            reason,
            remedy,
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![self.file.to_string_lossy().escape_debug().to_string()];
        let mut line = |label: &str, value: Option<String>| lines.extend(value.map(|value| format!("  {label:8} {value}")));
        let list = |names: &[String]| (!names.is_empty()).then(|| names.join("\n           "));
        line("file", self.file_kind.map(|kind| kind.to_string()));
        line("kind", self.kind.map(|kind| kind.to_string()));
        line("size", self.size.map(|size| format!("{size} bytes")));
        line("digest", self.digest.clone());
        line("wasi", (!self.wasi.is_empty()).then(|| self.wasi.join(", ")));
        line("imports", list(&self.imports));
        line("exports", list(&self.exports));
        line("grants", list(&self.grants));
        let missing: Vec<_> =
            self.missing.iter().map(|name| format!("{name}.wasm: it may be called, and is not beside it")).collect();
        line("missing", list(&missing));
        line("lacking", list(&self.lacking.iter().map(Lacking::text).collect::<Vec<_>>()));
        line("cron", list(&self.cron.iter().map(ByTheClock::text).collect::<Vec<_>>()));
        line("serves", Some(if self.serves { "yes" } else { "no" }.to_owned()));
        line("reason", self.reason.clone());
        line("remedy", self.remedy.clone());
        lines.join("\n") + "\n"
    }
}
