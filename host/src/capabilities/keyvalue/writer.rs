//! The writes of all services, one after another, off the async threads: those that wait are committed together.

use super::{
    change::{Change, Changed, Tables},
    database::{Broken, Place, broken},
    failure::Failure,
    limits::CALL_MAX,
    report::Use,
    tables::{ENTRIES, KEYS, USAGE, complete},
};
use redb::Database;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

/// Changes that are committed together at most, and that wait beside them.
const TOGETHER_MAX: usize = 128;
const WAITING_MAX: usize = 128;
/// From so many bytes on, no more changes join a commit.
const BYTES_MAX: usize = 2 * CALL_MAX;

/// A change on its way, and who waits for it.
struct Job {
    service: Arc<str>,
    bucket: Arc<str>,
    change: Change,
    done: oneshot::Sender<Result<Changed, Failure>>,
}

/// The way to the one who writes.
pub(super) struct Writer(mpsc::Sender<Job>);

impl Writer {
    /// Begins to write what is given from now on, until nobody can give anything any more.
    pub(super) fn start(place: Arc<Place>, quota: u64) -> Self {
        let (sender, jobs) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(place, quota, jobs));
        Self(sender)
    }

    /// Does a change, and returns once it is on the disk. Whoever stops waiting does not stop the change.
    ///
    /// # Errors
    /// A limit, and nothing is done; or the database fails, and the change may be done or not.
    pub(super) async fn change(&self, service: &Arc<str>, bucket: &Arc<str>, change: Change) -> Result<Changed, Failure> {
        let (done, outcome) = oneshot::channel();
        let job = Job { service: service.clone(), bucket: bucket.clone(), change, done };
        self.0.send(job).await.map_err(|_| Failure::Unusable)?;
        outcome.await.unwrap_or(Err(Failure::Unusable))
    }
}

async fn write(place: Arc<Place>, quota: u64, mut jobs: mpsc::Receiver<Job>) {
    let mut first = None;
    loop {
        let Some(job) = (match first.take() {
            Some(job) => Some(job),
            None => jobs.recv().await,
        }) else {
            return;
        };
        let mut bytes = job.change.bytes();
        let mut together = vec![job];
        while together.len() < TOGETHER_MAX
            && let Ok(job) = jobs.try_recv()
        {
            bytes += job.change.bytes();
            if bytes > BYTES_MAX {
                first = Some(job);
                break;
            }
            together.push(job);
        }
        let place = place.clone();
        // A panic takes those with it that wait for it, and nobody else.
        if let Err(panic) = tokio::task::spawn_blocking(move || commit(&place, quota, together)).await {
            error!(target: "hotbay::keyvalue", %panic, "a write of the key-value store failed");
        }
    }
}

/// Does all of them in one transaction. Each is told its end after the commit.
fn commit(place: &Place, quota: u64, jobs: Vec<Job>) {
    // Nobody waits for those any more, and nobody has been told anything: they are left out.
    let jobs: Vec<Job> = jobs.into_iter().filter(|job| !job.done.is_closed()).collect();
    let takes_room = jobs.iter().any(|job| job.change.how() == Use::Writing);
    let how = if takes_room { Use::Writing } else { Use::Freeing };
    let outcomes = place.write(how, |database| transact(database, quota, &jobs));
    match outcomes {
        Some(outcomes) => {
            for (job, outcome) in jobs.into_iter().zip(outcomes) {
                // Whoever waited may have gone.
                let _ = job.done.send(outcome);
            }
        }
        None => jobs.into_iter().for_each(|job| drop(job.done.send(Err(Failure::Unusable)))),
    }
}

fn transact(database: &Database, quota: u64, jobs: &[Job]) -> Result<Vec<Result<Changed, Failure>>, Broken> {
    let transaction = database.begin_write().map_err(broken)?;
    let mut tables = Tables {
        entries: transaction.open_table(ENTRIES).map_err(broken)?,
        keys: transaction.open_table(KEYS).map_err(broken)?,
        usage: transaction.open_table(USAGE).map_err(broken)?,
        quota,
        dirty: false,
    };
    // The host that is taken over from may be of a version without that table.
    tables.dirty = complete(&tables.entries, &mut tables.keys).map_err(broken)?;
    let applied = jobs.iter().map(|job| tables.apply(&job.service, &job.bucket, &job.change));
    let outcomes = applied.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    let dirty = tables.dirty;
    drop(tables);
    // The default durability: on the disk when this returns.
    if dirty {
        transaction.commit().map_err(broken)?
    } else {
        transaction.abort().map_err(broken)?
    }
    Ok(outcomes)
}
