//! `GET /v1/keyvalue/backup`: a copy of what services keep, as a file.

use super::{Admin, problem::Problem};
use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;
use tokio_util::io::ReaderStream;

/// A copy of the whole key-value store at this moment
///
/// Services read and write meanwhile. The copy is first made in the state folder, which needs as much room again.
#[utoipa::path(get, path = "/v1/keyvalue/backup", tag = "description", responses(
    (status = 200, content_type = "application/octet-stream", body = [u8]),
    (status = 503, description = "The store cannot be used, or another copy is being made", body = Problem),
))]
pub(super) async fn backup(State(admin): State<Arc<Admin>>) -> Result<Response, Problem> {
    // One at a time: each takes as much room as the store.
    let place = admin.backups.clone().try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "another copy is being made".to_owned()).remedy("wait for its end")
    })?;
    let failed = |detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    let (copy, place) = admin.keyvalue.backup(place).await.map_err(|failure| failed(failure.to_string()))?;
    let mut copy = tokio::fs::File::from_std(copy);
    let rewound = tokio::io::AsyncSeekExt::rewind(&mut copy).await;
    let size = match rewound {
        Ok(_) => copy.metadata().await.map(|found| found.len()),
        Err(error) => Err(error),
    };
    let size = size.map_err(|error| failed(format!("the copy cannot be read: {error}")))?;
    let stream = futures::StreamExt::map(ReaderStream::with_capacity(copy, 256 << 10), move |read| {
        // Held until the last piece.
        let _place = &place;
        read
    });
    let headers = [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, size.to_string())];
    Ok((headers, Body::from_stream(stream)).into_response())
}
