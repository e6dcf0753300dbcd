//! `hotbay ps`: how the services of a host stand.

use super::{
    client::{Client, Which, segment},
    output::{age, print, took},
};
use clap::Parser;
use hotbay::admin::{CronState, Edge, Graph, LimitState, Rejected, Service, ServiceList};
use std::process::ExitCode;

#[derive(Parser)]
pub(super) struct Args {
    /// One service, with everything that is known of it
    name: Option<String>,
    /// Which service may call which, and which did
    #[arg(long, conflicts_with = "name")]
    graph: bool,
    /// Print the API's JSON as it comes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Exit code 0 where the host answered, however its services stand.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let client = args.which.client()?;
    let (json, text) = match &args.name {
        None if args.graph => client.get::<Graph>("/v1/graph").map(|(json, graph)| (json, picture(&graph.calls)))?,
        Some(name) => {
            let (json, one) = client.get::<Service>(&format!("/v1/services/{}", segment(name)))?;
            let text = if args.json {
                String::new()
            } else {
                details(&one) + &crons(&one.cron) + &side_by_side(name, &all(&client)?) + &limits(&one)
            };
            (json, text)
        }
        None => client.get::<ServiceList>("/v1/services").map(|(json, all)| (json, table(&all.services)))?,
    };
    print(&if args.json { json + "\n" } else { text })?;
    Ok(ExitCode::SUCCESS)
}

fn all(client: &Client) -> Result<Vec<Service>, String> {
    client.get::<ServiceList>("/v1/services").map(|(_, all)| all.services)
}

/// What the host asks by the clock: two lines an entry.
fn crons(entries: &[CronState]) -> String {
    let mut text = String::new();
    for CronState { schedule, timezone, method, path, next, running, last, runs, missed } in entries {
        let next = next.as_deref().unwrap_or("-");
        text += &format!("\ncron        {schedule} ({timezone}), {method} {path}, {runs} runs, {missed} missed\n");
        text += &format!("  next      {next}\n");
        if let Some(since) = running {
            text += &format!("  running   since {since}\n");
        }
        if let Some(last) = last {
            let reason = last.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            text += &format!("  last      {}, {} {} after {}{reason}\n", last.at, last.result, last.status, took(last.took_us));
        }
    }
    text
}

/// What was counted of each revision that serves: the one of `name`, and those of its labels.
fn side_by_side<'a>(name: &str, services: &'a [Service]) -> String {
    let labels = format!("{name}@");
    let of = |service: &&Service| service.name == name || service.name.starts_with(&labels);
    let shown = |service: &'a Service| Some((service.name.as_str(), service.share, service.serving.as_ref()?));
    let serving: Vec<_> = services.iter().filter(of).filter_map(shown).collect();
    if serving.is_empty() {
        return String::new();
    }
    let width = serving.iter().map(|(name, ..)| name.len()).max().unwrap_or(0).max("SERVES".len());
    let row = |name: &str, revision: &str, counts: [&str; 6]| {
        let [share, requests, faults, p50, p99, in_flight] = counts;
        format!("{name:width$}  {revision:12}  {share:>5}  {requests:>9}  {faults:>6}  {p50:>10}  {p99:>10}  {in_flight:>9}\n")
    };
    let mut text = format!("\n{}", row("SERVES", "REVISION", ["SHARE", "REQUESTS", "FAULTS", "P50", "P99", "IN FLIGHT"]));
    for (name, share, revision) in serving {
        let share = share.map_or_else(|| "-".to_owned(), |share| format!("{share} %"));
        let quantile = |micros: Option<u64>| micros.map_or_else(|| "-".to_owned(), took);
        let (requests, faults) = (revision.requests.to_string(), revision.faults.to_string());
        let (p50, p99, in_flight) = (quantile(revision.p50_us), quantile(revision.p99_us), revision.in_flight.to_string());
        text += &row(name, &revision.revision, [&share, &requests, &faults, &p50, &p99, &in_flight]);
    }
    text
}

/// What the serving revision may use, how much it uses, and how often that was too little.
fn limits(service: &Service) -> String {
    let Some(serving) = &service.serving else {
        return String::new();
    };
    let row = |limit: &str, value: &str, now: &str, reached: &str| format!("{limit:13}  {value:>9}  {now:>9}  {reached:>8}\n");
    let mut text = format!("\n{}", row("LIMIT", "VALUE", "NOW", "REACHED"));
    for LimitState { limit, value, now, reached } in &serving.limits {
        let now = match now {
            Some(bytes) if limit == "memory" => format!("{}KiB", bytes >> 10),
            Some(count) => count.to_string(),
            None => "-".to_owned(),
        };
        text += &row(limit, value, &now, &reached.to_string());
    }
    text
}

fn table(services: &[Service]) -> String {
    let width = services.iter().map(|service| service.name.len()).max().unwrap_or(0).max("SERVICE".len());
    let row = |name: &str, state: &str, revision: &str, since: &str, rest: &str| {
        format!("{name:width$}  {state:11}  {revision:12}  {since:8}  {rest}").trim_end().to_owned() + "\n"
    };
    let mut text = row("SERVICE", "STATE", "REVISION", "SINCE", "ROUTES");
    for service in services {
        let (revision, routes) = match &service.serving {
            Some(serving) => (serving.revision.as_str(), serving.routes.join(", ")),
            None => ("-", String::new()),
        };
        text += &row(&service.name, &service.state, revision, &age(&service.since), &routes);
        if let Some(reason) = service.serving.as_ref().and_then(|serving| serving.reason.as_ref()) {
            text += &format!("{:indent$}because   {reason}\n", "", indent = width + 2);
        }
        if !service.missing.is_empty() {
            let missing = service.missing.join(", ");
            text += &format!("{:indent$}missing   {missing}: it may be called, and is not in the bay\n", "", indent = width + 2);
        }
        if let Some(rejected) = &service.rejected {
            text += &reject(rejected, width + 2);
        }
    }
    if services.is_empty() {
        text += "no service yet: put a NAME.wasm into the bay\n";
    }
    text
}

/// A line for each pair of services.
fn picture(calls: &[Edge]) -> String {
    if calls.is_empty() {
        return "no service that serves may call another, and none waits for one; grants are in NAME.toml, as [grants] calls = [\"stock\"], and `hotbay ps` says what waits\n".to_owned();
    }
    let width = |of: fn(&Edge) -> &String, head: &str| calls.iter().map(|edge| of(edge).len()).max().unwrap_or(0).max(head.len());
    let (callers, callees) = (width(|edge| &edge.caller, "CALLER"), width(|edge| &edge.callee, "CALLEE"));
    let row = |caller: &str, callee: &str, http: [&str; 2], wit: [&str; 2], note: &str| {
        let ([calls, failed], [typed, typed_failed]) = (http, wit);
        let counts = format!("{calls:>9}  {failed:>6}  {typed:>9}  {typed_failed:>6}");
        format!("{caller:callers$} -> {callee:callees$}  {counts}  {note}").trim_end().to_owned() + "\n"
    };
    let mut text = row("CALLER", "CALLEE", ["HTTP", "FAILED"], ["WIT", "FAILED"], "");
    for edge in calls {
        let waits = (!edge.waits.is_empty()).then(|| format!("waits for {}", edge.waits.join(", ")));
        let state = match (edge.granted || waits.is_some(), edge.callee_state.as_str()) {
            (false, _) => Some("no longer granted"),
            (true, "serving") => None,
            (true, state) => Some(state),
        };
        let notes: Vec<_> = edge.interfaces.iter().map(String::as_str).chain(waits.as_deref()).chain(state).collect();
        let [calls, failed, typed, typed_failed] =
            [edge.calls, edge.failed, edge.typed_calls, edge.typed_failed].map(|count| count.to_string());
        text += &row(&edge.caller, &edge.callee, [&calls, &failed], [&typed, &typed_failed], &notes.join(", "));
    }
    text
}

fn reject(rejected: &Rejected, indent: usize) -> String {
    let build = rejected.revision.as_deref().unwrap_or("files");
    let indent = " ".repeat(indent);
    let Rejected { reason, remedy, at, .. } = rejected;
    format!("{indent}rejected  {build}, {} ago: {reason}\n{indent}remedy    {remedy}\n", age(at))
}

fn details(service: &Service) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| text += &format!("{label:10}  {value}\n");
    line("service", &service.name);
    line("state", &format!("{}, since {}", service.state, service.since));
    if let Some(serving) = &service.serving {
        line("revision", &serving.revision);
        line("digest", &serving.digest);
        line("kind", &serving.kind);
        line("published", &format!("{}, by {}", serving.published_at, serving.came));
        serving.reason.iter().for_each(|reason| line("because", reason));
        serving.routes.iter().for_each(|route| line("route", route));
        serving.grants.iter().for_each(|grant| line("grant", grant));
    }
    for missing in &service.missing {
        line("missing", &format!("{missing}: it may be called, and is not in the bay"));
    }
    for draining in &service.draining {
        line("draining", &format!("{}, since {}", draining.revision, draining.since));
    }
    if let Some(rejected) = &service.rejected {
        line("rejected", &format!("{}, at {}", rejected.revision.as_deref().unwrap_or("files"), rejected.at));
        line("reason", &rejected.reason);
        line("remedy", &rejected.remedy);
    }
    text
}
