//! What the text of the metrics says, and when a series ends.

use super::*;
use std::{
    collections::BTreeSet,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

const REVISION: &str = "012345678901";

/// A host on which everything was counted once.
fn busy() -> (Arc<Metrics>, Arc<RevisionMetrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let revision = metrics.revision("probe", REVISION, Vitals::none());
    revision.completed(Some(200), Duration::from_millis(3), None);
    revision.completed(Some(500), Duration::from_millis(3), Some(FaultKind::Trap));
    revision.refused(Limit::Queue);
    revision.service().calls_to("stock").called(Some(200));
    revision.service().has_cron();
    metrics.unrouted(Unrouted::NoRoute);
    metrics.swapped("probe", Outcome::Published);
    metrics.step("compiling", Duration::from_millis(300));
    metrics.budget("budget_requests", 100).add(1);
    (metrics, revision)
}

fn value(text: &str, series: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
}

#[test]
fn what_was_counted_is_in_the_text() {
    let (metrics, _revision) = busy();
    let _connected = metrics.connected();
    let text = metrics.text();
    for (series, wanted) in [
        ("hotbay_requests_total{code_class=\"2xx\",revision=\"012345678901\",service=\"probe\"}", "1"),
        ("hotbay_faults_total{fault=\"trap\",revision=\"012345678901\",service=\"probe\"}", "1"),
        ("hotbay_faults_total{fault=\"cpu\",revision=\"012345678901\",service=\"probe\"}", "0"),
        ("hotbay_requests_refused_total{limit=\"queue\",service=\"probe\"}", "1"),
        ("hotbay_unrouted_requests_total{reason=\"no_route\"}", "1"),
        ("hotbay_swaps_total{outcome=\"published\",service=\"probe\"}", "1"),
        ("hotbay_revisions{service=\"probe\"}", "1"),
        ("hotbay_connections", "1"),
        ("hotbay_budget_limit{budget=\"budget_requests\"}", "100"),
        ("hotbay_budget_used{budget=\"budget_requests\"}", "1"),
    ] {
        assert_eq!(value(&text, series).as_deref(), Some(wanted), "{series} in\n{text}");
    }
    let resident = value(&text, "process_resident_memory_bytes").unwrap();
    assert!(resident.parse::<u64>().unwrap() > 1 << 20, "{resident}");
}

#[test]
fn a_revision_that_ended_is_told_once_more_and_then_forgotten() {
    let (metrics, revision) = busy();
    drop(revision);
    let last = metrics.text();
    assert!(last.contains("hotbay_requests_total{code_class=\"5xx\",revision=\"012345678901\",service=\"probe\"} 1"), "{last}");
    assert!(!last.contains("hotbay_requests_in_flight{"), "nothing is in flight of what is not there: {last}");
    let after = metrics.text();
    assert!(!after.contains("service=\"probe\""), "{after}");
}

#[test]
fn loads_of_one_build_share_a_series_that_ends_with_the_last() {
    let (metrics, first) = busy();
    let second = metrics.revision("probe", REVISION, Vitals::none());
    second.completed(Some(200), Duration::ZERO, None);
    assert_eq!((first.requests(), second.requests()), (2, 1));
    let series = "hotbay_requests_total{code_class=\"2xx\",revision=\"012345678901\",service=\"probe\"}";
    drop(first);
    for _ in 0..2 {
        assert_eq!(value(&metrics.text(), series).as_deref(), Some("2"));
    }
    drop(second);
    // One that comes back before the scrape goes on where it was.
    let third = metrics.revision("probe", REVISION, Vitals::none());
    for _ in 0..2 {
        assert_eq!(value(&metrics.text(), series).as_deref(), Some("2"));
    }
    drop(third);
}

#[test]
fn a_host_that_nobody_scrapes_keeps_a_bounded_number_of_series() {
    let metrics = Arc::new(Metrics::new().unwrap());
    for number in 0..10 * ENDED_MAX {
        metrics.revision("probe", &format!("{number:012}"), Vitals::none()).completed(Some(200), Duration::ZERO, None);
    }
    let kept = metrics.text().lines().filter(|line| line.starts_with("hotbay_request_duration_seconds_count")).count();
    assert!(kept <= ENDED_MAX, "{kept}");
}

#[test]
fn files_without_a_service_share_one_line() {
    let (metrics, _revision) = busy();
    for file in ["A B", "C_D"] {
        metrics.swapped(file, Outcome::Rejected);
    }
    assert_eq!(value(&metrics.text(), "hotbay_rejects_total{service=\"\"}").as_deref(), Some("2"));
}

/// Guards docs/metrics.md: it names each metric with its type, and none that there is not.
#[test]
fn the_page_has_every_metric_and_no_other() {
    let (metrics, _revision) = busy();
    let text = metrics.text();
    let told: BTreeSet<(&str, &str)> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let page = include_str!("../../../../docs/metrics.md");
    let row = |line: &'static str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        Some((cells.next()?.strip_suffix('`')?, cells.next()?))
    };
    let written: BTreeSet<(&str, &str)> =
        page.lines().filter_map(row).filter(|(name, _)| name.starts_with("hotbay_") || name.starts_with("process_")).collect();
    assert_eq!(written, told);
    for (name, labels) in [("hotbay_requests_total", "service, revision, code_class"), ("hotbay_connections", "")] {
        let line = page.lines().find(|line| line.starts_with(&format!("| `{name}`"))).unwrap();
        assert_eq!(line.split('|').nth(3).map(|cell| cell.trim().replace('`', "")).as_deref(), Some(labels));
    }
}

/// What Prometheus' own tool says of the text: `.ci/setup test` brings it.
#[test]
fn promtool_finds_nothing_to_complain_about() {
    let (metrics, _revision) = busy();
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/promtool");
    let tools = [Path::new("promtool"), &installed];
    let check = |tool: &&Path| {
        let mut command = Command::new(tool);
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().ok()
    };
    let Some(mut promtool) = tools.iter().find_map(check) else {
        println!("skipped: promtool is not here; `.ci/setup test` brings it, or install Debian's `prometheus`");
        return;
    };
    promtool.stdin.take().unwrap().write_all(metrics.text().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{}", metrics.text());
}
