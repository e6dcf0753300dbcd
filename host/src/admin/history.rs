//! `GET /v1/services/{name}/history`: the revisions that a service had, those of the past too.

use super::{Admin, changes::must_have_been, problem::Problem, services::rfc3339, upload::unwritten};
use crate::deploy::history::{self, End, Entry};
use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde::{Deserialize, Serialize};
use std::{io, sync::Arc};
use utoipa::ToSchema;

/// What is remembered of one service.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PastList {
    /// Its name.
    pub service: String,
    /// The newest first.
    pub revisions: Vec<Past>,
}

/// A revision that was published.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Past {
    /// Counts the publications of the service; `v3` names the third of them.
    pub number: u64,
    /// The first 12 hex digits of the digest.
    pub revision: String,
    /// SHA-256 of the build, in hex.
    pub digest: String,
    /// Bytes of the build.
    pub size: u64,
    /// The text of its settings; absent where there was no such file.
    pub settings: Option<String>,
    /// How it came: `bay`, `deploy`, `rollback`, `promote`, `automatic-rollback` or `last-good`.
    pub came: String,
    /// When it was published first, RFC 3339.
    pub published_at: String,
    /// How long it has served in all, in milliseconds.
    pub served_ms: u64,
    /// Whether it serves at this moment.
    pub serving: bool,
    /// Absent for the one that serves, and where its end could not be written down.
    pub ended: Option<Ended>,
}

/// The end of a revision.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    /// When, RFC 3339.
    pub at: String,
    /// `replaced`, `removed`, `rolled-back` or `host-ended`.
    pub how: String,
    /// Why, where the host went back from it.
    pub reason: Option<String>,
}

/// The revisions of a service, the newest first
#[utoipa::path(get, path = "/v1/services/{name}/history", tag = "services",
    params(("name", description = "The service, or NAME@LABEL")),
    responses(
        (status = 200, body = PastList),
        (status = 404, description = "No service of this name, now or before; `near` names those that look like it", body = Problem),
        (status = 500, description = "The history cannot be read", body = Problem),
    ))]
pub(super) async fn history(
    State(admin): State<Arc<Admin>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<PastList>, Problem> {
    let Path(name) = name?;
    if admin.board.one(&name).is_none() {
        must_have_been(&admin, &name).await?;
    }
    let (history, of) = (admin.history.clone(), name.clone());
    let entries = tokio::task::spawn_blocking(move || history.entries(&of)).await.map_err(io::Error::other).flatten();
    let entries = entries.map_err(|error| unwritten(&error))?;
    let serving = admin.board.one(&name).and_then(|status| Some(status.serving?.digest));
    let mut revisions: Vec<Past> = entries.iter().rev().map(Past::of).collect();
    // Where the disk was full, the history may not know what serves.
    if let Some(last) = revisions.first_mut() {
        last.serving = last.ended.is_none() && serving.as_ref() == Some(&last.digest);
    }
    Ok(Json(PastList { service: name, revisions }))
}

impl Past {
    fn of(entry: &Entry) -> Self {
        Self {
            number: entry.number,
            serving: false,
            revision: entry.digest.short(),
            digest: entry.digest.to_string(),
            size: entry.size,
            settings: entry.settings.clone(),
            came: entry.came.as_str().to_owned(),
            published_at: rfc3339(entry.published),
            served_ms: u64::try_from(entry.served().as_millis()).unwrap_or(u64::MAX),
            ended: entry.ended.as_ref().map(Ended::of),
        }
    }
}

impl Ended {
    fn of(ended: &history::Ended) -> Self {
        let (how, reason) = match &ended.end {
            End::Replaced => ("replaced", None),
            End::Removed => ("removed", None),
            End::RolledBack(reason) => ("rolled-back", Some(reason.clone())),
            End::HostEnded => ("host-ended", None),
        };
        Self { at: rfc3339(ended.at), how: how.to_owned(), reason }
    }
}
