//! The routes of the API, and the page that describes them: one list for both, so that they cannot part.

use super::{
    Admin, backup, changes, dashboard, events, figures, gate, graph, health, history, logs, metrics, problem::Problem, profile,
    services, settings, tickets,
};
use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    http::{Method, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
};
use std::sync::Arc;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        SecurityRequirement,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Bytes of a request body, where a route does not say otherwise.
const BODY_MAX: usize = 64 << 10;

#[derive(OpenApi)]
#[openapi(
    info(title = "Hotbay admin API", description = "Watch and steer the services of one host."),
    modifiers(&TokenNeeded)
)]
struct Page;

/// Every route needs the token, unless it says otherwise.
struct TokenNeeded;

impl Modify for TokenNeeded {
    fn modify(&self, page: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        page.components.get_or_insert_default().add_security_scheme("token", scheme);
        page.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    }
}

/// The whole API behind its gate.
pub(super) fn router(admin: Arc<Admin>) -> Router {
    let routes = OpenApiRouter::with_openapi(Page::openapi())
        .routes(routes!(dashboard::page))
        .route(dashboard::ROUTE, axum::routing::get(dashboard::file))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(figures::summary))
        .routes(routes!(figures::history))
        .routes(routes!(services::list))
        .routes(routes!(graph::graph))
        .routes(routes!(services::one, changes::deploy, changes::remove))
        .routes(routes!(settings::settings, changes::put_settings, changes::delete_settings))
        .routes(routes!(settings::traffic))
        .routes(routes!(changes::rollback))
        .routes(routes!(changes::promote))
        .routes(routes!(history::history))
        .routes(routes!(profile::profile))
        .routes(routes!(events::events))
        .routes(routes!(logs::logs))
        .routes(routes!(backup::backup))
        .routes(routes!(tickets::ticket))
        .routes(routes!(tickets::exchange))
        .routes(routes!(openapi));
    let (router, page) = routes.split_for_parts();
    // Text and numbers always become JSON.
    let page = Bytes::from(serde_json::to_vec(&page).unwrap_or_default());
    router
        .fallback(unknown)
        .method_not_allowed_fallback(other_method)
        .layer(axum::Extension(Description(page)))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(admin.clone(), gate::gate))
        .with_state(admin)
}

/// The description, written once.
#[derive(Clone)]
struct Description(Bytes);

/// This description
#[utoipa::path(get, path = "/v1/openapi.json", tag = "description", responses((status = 200, content_type = "application/json")))]
async fn openapi(axum::Extension(Description(page)): axum::Extension<Description>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], page)
}

async fn unknown(uri: Uri) -> Problem {
    let detail = format!("there is no `{}` here", uri.path().escape_debug());
    Problem::new(StatusCode::NOT_FOUND, detail).remedy("/v1/openapi.json lists what there is")
}

/// The router adds `Allow`.
async fn other_method(method: Method, uri: Uri) -> Response {
    let detail = format!("`{}` cannot be asked with {method}", uri.path().escape_debug());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).remedy("the Allow header names the methods").into_response()
}
