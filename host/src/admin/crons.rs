//! How the `[[cron]]` entries of a service stand, as part of what is told of it.

use super::services::rfc3339;
use crate::cron::{JobState, LastRun};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One `[[cron]]` entry.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CronState {
    /// When, as it is written.
    pub schedule: String,
    /// The time zone whose clocks it goes by.
    pub timezone: String,
    /// The method of the request.
    pub method: String,
    /// Path and query of the request.
    pub path: String,
    /// When it comes next, RFC 3339 in UTC. Absent while another host runs the entries of this bay.
    pub next: Option<String>,
    /// Since when it runs, where it does.
    pub running: Option<String>,
    /// The last run that has ended.
    pub last: Option<CronLast>,
    /// Runs that have ended since the host started.
    pub runs: u64,
    /// Times since then at which it did not run.
    pub missed: u64,
}

/// A run of an entry that has ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CronLast {
    /// When it began, RFC 3339 in UTC.
    pub at: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// `succeeded`, `failed` (a status of 400 or more), `fault` (the host saw the guest fail) or `refused` (by a limit).
    pub result: String,
    /// The status that a client would have got.
    pub status: u16,
    /// Why there was no response of the guest.
    pub reason: Option<String>,
    /// `x-request-id`: its lines in the log have it too.
    pub request_id: String,
}

impl From<JobState> for CronState {
    fn from(state: JobState) -> Self {
        let JobState { entry, next, running, last, runs, missed } = state;
        Self {
            schedule: entry.schedule().to_owned(),
            timezone: entry.timezone().to_owned(),
            method: entry.method().to_string(),
            path: entry.target().to_string(),
            next: next.map(rfc3339),
            running: running.map(rfc3339),
            last: last.map(CronLast::from),
            runs,
            missed,
        }
    }
}

impl From<LastRun> for CronLast {
    fn from(last: LastRun) -> Self {
        let LastRun { begun, took_us, result, status, reason, request_id } = last;
        Self { at: rfc3339(begun), took_us, result: result.as_str().to_owned(), status, reason, request_id }
    }
}
