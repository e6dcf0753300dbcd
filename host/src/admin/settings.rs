//! `GET /v1/services/{name}/settings`, as they lie in the bay, and `PUT /v1/services/{name}/traffic`, which changes a part of them.

use super::{
    Admin,
    changes::json,
    order::{Answer, Call, Outcome},
    problem::Problem,
    upload::unwritten,
};
use crate::{
    config::{Label, ServiceName},
    deploy::{Change, read_settings_of},
    runtime::Digest,
};
use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::{collections::BTreeMap, io};
use utoipa::ToSchema;

/// Who gets how much.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Shares {
    /// Percent by label. Labels that are not named keep what they have; the main revision gets the rest.
    shares: BTreeMap<String, u32>,
}

/// The settings of a service, as they lie in the bay
///
/// The text of `NAME.toml`; empty where there is no such file. They may be others than those that hold, where they were rejected.
/// `ETag` names this text: who sends it back in `If-Match` with a change overwrites nobody else's.
#[utoipa::path(get, path = "/v1/services/{name}/settings", tag = "services",
    params(("name", description = "The service")),
    responses(
        (status = 200, content_type = "application/toml", body = String, headers(("etag" = String, description = "Names this text"))),
        (status = 404, description = "No such service", body = Problem),
        (status = 500, description = "The file cannot be read", body = Problem),
    ))]
pub(super) async fn settings(call: Call) -> Result<Response, Problem> {
    call.must_be_service("ask for the settings of its service, which are its own too")?;
    call.must_be_there()?;
    let text = read(&call.admin, call.name.service).await?.unwrap_or_default();
    let tag = format!("\"{}\"", Digest::of(&text));
    Ok(([(header::CONTENT_TYPE, "application/toml".to_owned()), (header::ETAG, tag)], text).into_response())
}

/// The text that a change was made from, as `If-Match` names it.
pub(super) fn made_from(headers: &HeaderMap) -> Result<Option<Digest>, Problem> {
    let mut tags = headers.get_all(header::IF_MATCH).iter();
    let (Some(tag), more) = (tags.next(), tags.next()) else { return Ok(None) };
    let named = tag.to_str().ok().filter(|_| more.is_none()).map(str::trim);
    // Proxies that compress call it weak; it names the same text.
    let quoted = named.and_then(|tag| tag.trim_start_matches("W/").strip_prefix('"')?.strip_suffix('"'));
    quoted.and_then(Digest::parse).map(Some).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "if-match does not hold the etag of settings")
            .remedy("send the etag that came with them, or leave it out to overwrite whatever is there")
    })
}

/// Share the requests of a service out anew
///
/// Writes the shares into `[traffic]` of its settings and leaves the rest as it is written. The revisions stay as they are.
#[utoipa::path(put, path = "/v1/services/{name}/traffic", tag = "changes",
    params(
        ("name", description = "The service"),
        ("wait" = Option<bool>, Query, description = "`false`: answer at once, and go on"),
    ),
    request_body = Shares,
    responses(
        (status = 200, description = "They hold", body = Outcome),
        (status = 400, description = "No labels and percentages", body = Problem),
        (status = 404, description = "No such service", body = Problem),
        (status = 409, description = "Somebody else changed its files meanwhile, which stay", body = Problem),
        (status = 422, description = "They will not do, and the bay is as it was", body = Problem),
    ))]
pub(super) async fn traffic(call: Call, body: Result<Bytes, BytesRejection>) -> Answer {
    let usage = "send {\"shares\": {\"LABEL\": PERCENT}} to the service";
    call.must_be_service(usage)?;
    call.must_be_there()?;
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail).remedy(usage);
    let Shares { shares } = json(body, usage)?.ok_or_else(|| bad("the body names no shares".to_owned()))?;
    let labels = shares.into_iter().map(|(label, percent)| Label::parse(&label).map(|label| (label, percent)));
    let shares = labels.collect::<Result<Vec<_>, _>>().map_err(|error| bad(error.to_string()))?;
    call.order(Change::Shares(shares), None).await
}

async fn read(admin: &Admin, service: ServiceName) -> Result<Option<Bytes>, Problem> {
    let bay = admin.bay.clone();
    let read = tokio::task::spawn_blocking(move || read_settings_of(&bay, &service)).await;
    read.map_err(io::Error::other).flatten().map_err(|error| unwritten(&error))
}
