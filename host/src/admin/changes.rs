//! The calls that change services: builds, settings, rollback, promotion, removal.

use super::{
    Admin,
    order::{Answer, Call, Outcome},
    problem::Problem,
    settings, upload,
};
use crate::{config::Label, deploy::Change, runtime::Reject};
use axum::{
    body::{Body, Bytes},
    extract::rejection::BytesRejection,
    http::{HeaderMap, HeaderName, StatusCode},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use std::sync::Arc;
use utoipa::ToSchema;

/// Settings that go with a build, in base64: both are changed at once.
const SETTINGS: HeaderName = HeaderName::from_static("x-hotbay-settings");

/// Where to go back to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Back {
    /// `v` and a number of the history, or the first 4 to 64 hex digits of a digest. Default: the good revision before the one that serves.
    to: Option<String>,
}

/// What becomes the main revision.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Promoted {
    /// The label of the revision.
    label: String,
}

/// Deploy a build
///
/// The body is the build, at most 256 MiB. It is checked, written into the bay and published. `NAME@LABEL` deploys a labelled
/// revision.
#[utoipa::path(put, path = "/v1/services/{name}", tag = "changes",
    params(
        ("name", description = "The service, or NAME@LABEL"),
        ("wait" = Option<bool>, Query, description = "`false`: answer at once, and go on"),
        ("content-digest" = Option<String>, Header, description = "`sha-256=:BASE64:` of the body (RFC 9530), checked where it is given"),
        ("x-hotbay-settings" = Option<String>, Header, description = "Settings that are changed with the build: TOML in base64"),
    ),
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses(
        (status = 200, description = "It serves", body = Outcome),
        (status = 202, description = "Nobody waits, and it goes on", body = Outcome),
        (status = 400, description = "The body was cut, has another digest, or the name is none", body = Problem),
        (status = 408, description = "The body came too slowly", body = Problem),
        (status = 413, description = "The body is too large", body = Problem),
        (status = 409, description = "Somebody else changed its files meanwhile, which stay", body = Problem),
        (status = 422, description = "It will not serve, and the bay is as it was", body = Problem),
        (status = 503, description = "Busy or ending; try again after `Retry-After`", body = Problem),
        (status = 507, description = "The disk is full", body = Problem),
    ))]
pub(super) async fn deploy(call: Call, headers: HeaderMap, body: Body) -> Answer {
    let settings = settings_of(&headers)?;
    if settings.is_some() {
        call.must_be_service("deploy it without settings; it has those of its service")?;
    }
    let upload::Uploaded { build, memory } = call.admin.uploads.build(&headers, body).await?;
    if let Err(unfit) = build.binary() {
        let reject = Reject::from(unfit.clone());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reject.reason).remedy(reject.remedy));
    }
    let change = match settings {
        Some(settings) => Change::Both(build, settings),
        None => Change::Build(build),
    };
    call.order(change, Some(memory)).await
}

fn settings_of(headers: &HeaderMap) -> Result<Option<Bytes>, Problem> {
    let Some(text) = headers.get(SETTINGS) else {
        return Ok(None);
    };
    let text = STANDARD.decode(text).map_err(|error| {
        let detail = format!("{SETTINGS} is not base64: {error}");
        Problem::new(StatusCode::BAD_REQUEST, detail).remedy("write it with `base64 -w0 NAME.toml`")
    })?;
    Ok(Some(text.into()))
}

/// Remove a service, or a labelled revision
///
/// Its files are taken out of the bay; what runs finishes.
#[utoipa::path(delete, path = "/v1/services/{name}", tag = "changes",
    params(
        ("name", description = "The service, or NAME@LABEL"),
        ("wait" = Option<bool>, Query, description = "`false`: answer at once, and go on"),
    ),
    responses(
        (status = 200, description = "It is gone", body = Outcome),
        (status = 404, description = "No such service", body = Problem),
    ))]
pub(super) async fn remove(call: Call) -> Answer {
    call.must_be_there()?;
    call.order(Change::Remove, None).await
}

/// Change the settings of a service
///
/// The body is the text of `NAME.toml`, at most 1 MiB.
#[utoipa::path(put, path = "/v1/services/{name}/settings", tag = "changes",
    params(
        ("name", description = "The service"),
        ("wait" = Option<bool>, Query, description = "`false`: answer at once, and go on"),
        ("if-match" = Option<String>, Header, description = "The `ETag` of the settings that these were made from, which must be those in the bay"),
        ("content-digest" = Option<String>, Header, description = "`sha-256=:BASE64:` of the body (RFC 9530), checked where it is given"),
    ),
    request_body(content = String, content_type = "application/toml"),
    responses(
        (status = 200, description = "They hold", body = Outcome),
        (status = 404, description = "No such service", body = Problem),
        (status = 413, description = "The body is too large", body = Problem),
        (status = 412, description = "The settings are others than `If-Match` names, and stay", body = Problem),
        (status = 409, description = "Somebody else changed its files meanwhile, which stay", body = Problem),
        (status = 422, description = "They will not do, and the bay is as it was", body = Problem),
    ))]
pub(super) async fn put_settings(call: Call, headers: HeaderMap, body: Body) -> Answer {
    settings_are_of(&call)?;
    let made_from = settings::made_from(&headers)?;
    let text = upload::settings(&headers, body).await?;
    call.order(Change::Settings { text: Some(text), made_from }, None).await
}

/// Take the settings of a service away: the defaults hold
#[utoipa::path(delete, path = "/v1/services/{name}/settings", tag = "changes",
    params(
        ("name", description = "The service"),
        ("wait" = Option<bool>, Query, description = "`false`: answer at once, and go on"),
        ("if-match" = Option<String>, Header, description = "The `ETag` of the settings that these were made from, which must be those in the bay"),
    ),
    responses(
        (status = 200, description = "The defaults hold", body = Outcome),
        (status = 404, description = "No such service", body = Problem),
        (status = 412, description = "The settings are others than `If-Match` names, and stay", body = Problem),
        (status = 409, description = "Somebody else changed its files meanwhile, which stay", body = Problem),
        (status = 422, description = "Without them it will not serve, and the bay is as it was", body = Problem),
    ))]
pub(super) async fn delete_settings(call: Call, headers: HeaderMap) -> Answer {
    settings_are_of(&call)?;
    let made_from = settings::made_from(&headers)?;
    call.order(Change::Settings { text: None, made_from }, None).await
}

fn settings_are_of(call: &Call) -> Result<(), Problem> {
    call.must_be_service("change the settings of its service, which are its own too")?;
    call.must_be_there()
}

/// Go back to an earlier revision
///
/// Its build and its settings are put back into the bay as they were.
#[utoipa::path(post, path = "/v1/services/{name}/rollback", tag = "changes",
    params(
        ("name", description = "The service, or NAME@LABEL"),
        ("wait" = Option<bool>, Query, description = "`false`: answer at once, and go on"),
    ),
    request_body(content = Option<Back>),
    responses(
        (status = 200, description = "It serves again", body = Outcome),
        (status = 404, description = "No such service or revision; `near` names some", body = Problem),
        (status = 409, description = "Somebody else changed its files meanwhile, which stay", body = Problem),
        (status = 422, description = "It does not serve any more, and the bay is as it was", body = Problem),
    ))]
pub(super) async fn rollback(call: Call, body: Result<Bytes, BytesRejection>) -> Answer {
    let Back { to } = json(body, "send nothing, or {\"to\": \"REVISION\"}")?.unwrap_or_default();
    // One that was removed can be gone back to.
    if call.must_be_there().is_err() {
        must_have_been(&call.admin, &call.name.to_string()).await?;
    }
    call.order(Change::Rollback { to }, None).await
}

/// Make a labelled revision the main one
#[utoipa::path(post, path = "/v1/services/{name}/promote", tag = "changes",
    params(
        ("name", description = "The service"),
        ("wait" = Option<bool>, Query, description = "`false`: answer at once, and go on"),
    ),
    request_body(content = Promoted),
    responses(
        (status = 200, description = "It is the main one", body = Outcome),
        (status = 404, description = "No such service or label; `near` names some", body = Problem),
        (status = 409, description = "Somebody else changed its files meanwhile, which stay", body = Problem),
        (status = 422, description = "It will not serve as the main one, and the bay is as it was", body = Problem),
    ))]
pub(super) async fn promote(call: Call, body: Result<Bytes, BytesRejection>) -> Answer {
    let usage = "send {\"label\": \"LABEL\"} to the service";
    call.must_be_service(usage)?;
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail).remedy(usage);
    let Promoted { label } = json(body, usage)?.ok_or_else(|| bad("the body names no label".to_owned()))?;
    let label = Label::parse(&label).map_err(|error| bad(error.to_string()))?;
    // A label may come before its main revision.
    let labelled = format!("{}@{label}", call.name);
    if call.admin.board.one(&labelled).is_none() {
        call.must_be_there()?;
    }
    call.order(Change::Promote { label }, None).await
}

/// Refuses a service that the history does not know.
pub(super) async fn must_have_been(admin: &Arc<Admin>, name: &str) -> Result<(), Problem> {
    let history = admin.history.clone();
    // A panic in it was logged.
    let past = tokio::task::spawn_blocking(move || history.names()).await.unwrap_or_default();
    if past.iter().any(|past| past == name) {
        return Ok(());
    }
    let mut names = admin.board.names();
    names.extend(past.into_iter().filter(|past| admin.board.one(past).is_none()));
    Err(Problem::unknown("service", name, names))
}

/// The body as JSON, if there is one.
pub(super) fn json<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>, usage: &str) -> Result<Option<T>, Problem> {
    let body = body.map_err(|error| Problem::new(error.status(), error.body_text()).remedy(usage))?;
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&body)
        .map(Some)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not understood: {error}")).remedy(usage))
}
