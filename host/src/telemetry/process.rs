//! What the system says of the process, read for each scrape.

use super::families::Process;
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};
use std::fs;

/// Sets the gauges. What cannot be read keeps its last value.
pub(super) fn read(process: &Process) {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let spent = f64::from(u32::try_from(spent.tv_sec).unwrap_or(u32::MAX))
        + f64::from(u32::try_from(spent.tv_nsec).unwrap_or_default()) / 1e9;
    process.cpu.inc_by((spent - process.cpu.get()).max(0.0));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<i64>().ok()
    };
    if let Some(kib) = number("VmRSS:") {
        process.resident.set(kib.saturating_mul(1 << 10));
    }
    if let Some(threads) = number("Threads:") {
        process.threads.set(threads);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The one that reads them is among them.
        process.open_fds.set(i64::try_from(open.count().saturating_sub(1)).unwrap_or(i64::MAX));
    }
    // No limit is a large one.
    process.max_fds.set(getrlimit(Resource::Nofile).current.and_then(|most| most.try_into().ok()).unwrap_or(i64::MAX));
}
