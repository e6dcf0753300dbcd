//! `hotbay build`: from sources to builds in a bay.

use super::{
    check, hangup,
    output::{print, took},
    shell::quoted,
    table,
};
use crate::workshop::{Built, Effort, Line, Mode, Placed, Project, Search, Workshop};
use clap::Parser;
use futures::future;
use hotbay::{
    admin,
    config::{CompileConfig, HostConfig, Settings, Span},
    deploy::{UNREADABLE_REMEDY, read_build, read_settings_at},
    runtime::{Inspection, Kind, Loader, Reject, SecretFolder},
};
use serde::Serialize;
use std::{
    collections::VecDeque,
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// How long the compile of a check may take: whoever builds waits anyway, and beside other compilers it takes its time.
const CHECK: Duration = Duration::from_secs(600);

/// Lines of the tools that a report of a failed build has.
const OUTPUT_MAX: usize = 50;

/// What shells tell of a command that Ctrl-C has ended; here of all signals.
const INTERRUPTED: u8 = 130;

#[derive(Parser)]
pub(super) struct Args {
    /// Folders that hold services, or services in folders of their own [default: this folder]
    dirs: Vec<PathBuf>,
    /// Where builds go; made if it is missing [default: bay]
    #[arg(long, value_name = "BAY")]
    bay: Option<PathBuf>,
    /// Take the time for a fast and small build, as for production
    #[arg(long)]
    release: bool,
    /// Build also what was built before of the very same sources
    #[arg(long)]
    anew: bool,
    /// Print a JSON array with one object a service; what tools say still goes to stderr
    #[arg(long)]
    json: bool,
}

/// What is told of one service.
#[derive(Serialize)]
struct Report {
    service: String,
    dir: PathBuf,
    language: Option<&'static str>,
    /// The file that the tool made.
    wasm: Option<PathBuf>,
    /// The file in the bay.
    file: Option<PathBuf>,
    placed: Option<Placed>,
    size: Option<u64>,
    digest: Option<String>,
    kind: Option<Kind>,
    took_ms: Option<u64>,
    /// Nothing of what it was made of is another, so that no tool ran.
    was_there: bool,
    /// A request to a host with default addresses that serves the bay.
    request: Option<String>,
    reason: Option<String>,
    remedy: Option<String>,
    /// The last lines of the tools of a build that failed, without colours.
    output: Option<VecDeque<String>>,
}

/// Exit code 0 where every service was built and is in the bay, 1 where one is not, 130 after a signal.
pub(super) fn run(args: Args) -> Result<ExitCode, String> {
    let dirs = if args.dirs.is_empty() { vec![PathBuf::from(".")] } else { args.dirs };
    let Search { projects, faults, remarks } = Project::search(&dirs);
    remarks.into_iter().chain(faults.iter().map(ToString::to_string)).for_each(|line| eprintln!("hotbay: {line}"));
    if projects.is_empty() {
        if args.json {
            print("[]\n")?;
        }
        return Ok(ExitCode::FAILURE);
    }
    let bay = args.bay.unwrap_or_else(|| HostConfig::default().bay);
    let mode = if args.release { Mode::Release } else { Mode::Quick };
    let effort = if args.anew { Effort::Anew } else { Effort::Needed };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    let reports = runtime.block_on(async {
        // The last when its terminal is closed: tools in groups of their own are not told of it.
        let hangup = (!hangup::is_ignored()).then(SignalKind::hangup);
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hangup);
        let signals: Result<Vec<_>, _> = kinds.map(signal).collect();
        let mut signals = signals.map_err(|error| format!("signals cannot be handled: {error}"))?;
        let stopped = future::select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv())));
        tokio::select! {
            reports = all(&projects, &bay, (mode, effort), args.json) => reports.map(Some),
            _ = stopped => Ok(None),
        }
    });
    runtime.shutdown_background();
    let Some(reports) = reports? else {
        eprintln!("hotbay: stopped; the bay has whole files only");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    if args.json {
        print(&(serde_json::to_string_pretty(&reports).map_err(|error| error.to_string())? + "\n"))?;
    } else if reports.iter().any(|report| report.placed.is_some()) {
        print(&how_it_is_served(&bay))?;
    }
    let failed: Vec<_> = reports.iter().filter(|report| report.reason.is_some()).map(|report| report.service.as_str()).collect();
    if let Some(text) = not_all(&failed, reports.len(), faults.len()) {
        eprintln!("hotbay: {text}");
    }
    let all = faults.is_empty() && failed.is_empty();
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn all(projects: &[Project], bay: &Path, (mode, effort): (Mode, Effort), json: bool) -> Result<Vec<Report>, String> {
    let workshop = Workshop::new(mode, console::colors_enabled_stderr(), bay);
    let mut checker = None;
    let mut reports = Vec::new();
    for project in projects {
        let mut report = Report::of(project);
        if let Err((reason, remedy)) = one(&workshop, (project, effort), bay, &mut checker, &mut report).await {
            eprintln!("hotbay: {}: {reason}", project.name());
            if let Some(remedy) = &remedy {
                eprintln!("  remedy  {remedy}");
            }
            (report.reason, report.remedy) = (Some(reason), remedy);
        } else if !json {
            print(&report.text())?;
        }
        reports.push(report);
    }
    Ok(reports)
}

/// Why a service is not in the bay, and what to do about it where the reason does not say so.
type Fault = (String, Option<String>);

async fn one(
    workshop: &Workshop,
    (project, effort): (&Project, Effort),
    bay: &Path,
    checker: &mut Option<Arc<Loader>>,
    report: &mut Report,
) -> Result<(), Fault> {
    let plain = |reason: String| (reason, None);
    let name = project.name();
    let mut last = VecDeque::with_capacity(OUTPUT_MAX);
    let mut tell = |line: Line<'_>| match line {
        Line::Note(text) => eprintln!("{name}: {text}"),
        Line::Tool(text) => {
            eprintln!("{text}");
            if last.len() == OUTPUT_MAX {
                last.pop_front();
            }
            last.push_back(console::strip_ansi_codes(text).into_owned());
        }
    };
    let outcome = workshop.build(project, effort, &mut tell).await;
    let built = match outcome {
        Ok(built) => built,
        Err(failure) => {
            report.output = Some(last);
            return Err(plain(failure.to_string()));
        }
    };
    report.built(&built);
    let file = bay.join(format!("{name}.wasm"));
    // It was looked at when it came there.
    if built.is_in(bay) {
        (report.placed, report.file) = (Some(Placed::Unchanged), Some(file));
        report.kind = read_build(&built.wasm).ok().and_then(|(build, _)| build.kind());
        return Ok(());
    }
    let checker = match checker {
        Some(checker) => checker,
        None => {
            let compile = CompileConfig { timeout: Span(CHECK), ..CompileConfig::default() };
            checker.insert(check::loader(compile).map_err(plain)?)
        }
    };
    let (seen, settings) = inspect(checker, &built, bay).await.map_err(|reject| (reject.reason, Some(reject.remedy)))?;
    report.kind = seen.kind;
    if let Some(Reject { reason, remedy, .. }) = seen.reject {
        return Err((reason, Some(remedy)));
    }
    let placed = built.place(bay).map_err(|error| plain(error.to_string()))?;
    (report.placed, report.file) = (Some(placed), Some(file));
    if seen.kind != Some(Kind::Library) {
        report.request = Some(table::request(name.as_str(), &settings.routes, HostConfig::default().listen));
    }
    Ok(())
}

/// What `hotbay check` would say of it. Secrets are those of the bay's own state folder; where they are not, the host has to say.
async fn inspect(loader: &Arc<Loader>, built: &Built, bay: &Path) -> Result<(Inspection, Settings), Reject> {
    let in_bay = bay.join(format!("{}.toml", built.name));
    let settings = read_settings_at(&built.name, built.settings.as_ref().unwrap_or(&in_bay))?;
    let (build, _) = read_build(&built.wasm).map_err(|error| Reject::new(error.to_string(), UNREADABLE_REMEDY))?;
    let folder = SecretFolder::new(HostConfig::secrets_of(&HostConfig::state_of(bay)));
    let secrets = folder.read(settings.grants.secrets()).map(|(secrets, _)| secrets).unwrap_or_default();
    Ok((loader.inspect(&built.name, &build, (settings.clone(), secrets)).await, settings))
}

/// The last line where some of several are not in the bay: what was said of each is far above by then.
fn not_all(failed: &[&str], of: usize, not_begun: usize) -> Option<String> {
    let begun = (!failed.is_empty()).then(|| format!("{} of {of} services failed: {}", failed.len(), failed.join(", ")));
    let others = (not_begun > 0).then(|| format!("{not_begun} more could not be begun, as the first lines say"));
    let parts: Vec<_> = begun.into_iter().chain(others).collect();
    (of + not_begun > 1 && !parts.is_empty()).then(|| format!("not all is built: {}", parts.join("; ")))
}

fn how_it_is_served(bay: &Path) -> String {
    let whole = bay.canonicalize().unwrap_or_else(|_| bay.to_owned());
    let hosts = admin::addresses(&HostConfig::state_of(bay)).unwrap_or_default();
    match hosts.iter().any(|host| host.bay == whole && host.is_alive()) {
        true => format!("a host serves {} and takes what is new\n", bay.display()),
        false => format!("serve it: hotbay serve {}\n", quoted(&bay.display().to_string())),
    }
}

impl Report {
    fn of(project: &Project) -> Self {
        Self {
            service: project.name().to_string(),
            dir: shown(project.dir()),
            language: project.language().map(|language| language.word()),
            wasm: None,
            file: None,
            placed: None,
            size: None,
            digest: None,
            kind: None,
            took_ms: None,
            was_there: false,
            request: None,
            reason: None,
            remedy: None,
            output: None,
        }
    }

    fn built(&mut self, built: &Built) {
        self.wasm = Some(shown(&built.wasm));
        self.size = Some(built.size);
        self.digest = Some(built.digest.clone());
        self.was_there = built.was_there;
        self.took_ms = u64::try_from(built.took.as_millis()).ok();
    }

    fn text(&self) -> String {
        let size = self.size.unwrap_or_default().div_ceil(1 << 10);
        let time = took(self.took_ms.unwrap_or_default() * 1000);
        let digest = self.digest.as_deref().unwrap_or_default();
        let mut text = match self.was_there {
            true => format!(
                "built   {} {digest}  {size} KiB, before: no source has changed since (--anew builds it all the same)\n",
                self.service
            ),
            false => format!("built   {} {digest}  {size} KiB in {time}\n", self.service),
        };
        if let (Some(file), Some(placed)) = (&self.file, self.placed) {
            text += &match placed {
                Placed::Changed => format!("placed  {}\n", file.display()),
                Placed::Unchanged => format!("same    {} has it already\n", file.display()),
            };
        }
        if let Some(request) = &self.request {
            text += &format!("try:    {request}\n");
        }
        text
    }
}

/// Seen from here, where it lies below.
fn shown(path: &Path) -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    match path.strip_prefix(&here) {
        Ok(inside) if inside.as_os_str().is_empty() => PathBuf::from("."),
        Ok(inside) => inside.to_owned(),
        Err(_) => path.to_owned(),
    }
}
