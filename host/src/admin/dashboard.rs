//! `GET /`: the dashboard, a page for people. The page and its files hold no secret and need no token; all that they show they ask the
//! API for, with the token.

use super::problem::Problem;
use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// Below this lie the files of the page.
const FOLDER: &str = "/dashboard/";
/// Their route.
pub(super) const ROUTE: &str = "/dashboard/{*file}";

/// Nothing but the page's own files runs, styles it or is asked; no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

/// Headers of every file.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // The files of another version of the host are not taken for this one's: they are asked for each time.
    (header::CACHE_CONTROL, "no-cache"),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file of the page, as it lies in the binary.
struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
    /// Changes with the text.
    tag: String,
}

macro_rules! files {
    ($($name:literal $kind:ident),* $(,)?) => {
        vec![$(File::new($name, $kind, include_str!(concat!("dashboard/", $name)))),*]
    };
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    files![
        "index.html" HTML,
        "icon.svg" IMAGE,
        "style/base.css" STYLE,
        "style/page.css" STYLE,
        "style/parts.css" STYLE,
        "main.js" SCRIPT,
        "api.js" SCRIPT,
        "app.js" SCRIPT,
        "charts.js" SCRIPT,
        "deploy.js" SCRIPT,
        "dialogs.js" SCRIPT,
        "format.js" SCRIPT,
        "graph.js" SCRIPT,
        "html.js" SCRIPT,
        "layout.js" SCRIPT,
        "link.js" SCRIPT,
        "login.js" SCRIPT,
        "logs.js" SCRIPT,
        "parts.js" SCRIPT,
        "service.js" SCRIPT,
        "services.js" SCRIPT,
        "settings.js" SCRIPT,
        "store.js" SCRIPT,
        "swaps.js" SCRIPT,
        "theme.js" SCRIPT,
        "weights.js" SCRIPT,
        "vendor/hooks.js" SCRIPT,
        "vendor/htm.js" SCRIPT,
        "vendor/preact.js" SCRIPT,
        "vendor/uplot.css" STYLE,
        "vendor/uplot.js" SCRIPT,
    ]
});

impl File {
    fn new(name: &'static str, kind: &'static str, text: &'static str) -> Self {
        let digest = hex::encode(Sha256::digest(text));
        let short = digest.get(..16).unwrap_or(&digest);
        Self { name, kind, text, tag: format!("\"{short}\"") }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        let is_known = known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == self.tag);
        let tag = [(header::ETAG, self.tag.as_str())];
        let headers = HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
        match is_known {
            true => (StatusCode::NOT_MODIFIED, tag, headers).into_response(),
            false => (tag, headers, [(header::CONTENT_TYPE, self.kind)], self.text).into_response(),
        }
    }
}

/// Whether `path` is one of the page: then the token is not asked for.
pub(super) fn is_of_page(path: &str) -> bool {
    path == "/" || path.starts_with(FOLDER)
}

/// The dashboard
///
/// A page for people. It asks for the token, or takes it from the fragment of its address as `hotbay dashboard` opens it.
#[utoipa::path(get, path = "/", tag = "dashboard", security(), responses((status = 200, content_type = "text/html", body = String)))]
pub(super) async fn page(headers: HeaderMap) -> Response {
    of_name("index.html", &headers)
}

/// A file of the page. The description of the API leaves these out: they are the page's own business.
pub(super) async fn file(name: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Result<Response, Problem> {
    let Path(name) = name?;
    Ok(of_name(&name, &headers))
}

fn of_name(name: &str, asked: &HeaderMap) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => file.answer(asked),
        None => {
            Problem::new(StatusCode::NOT_FOUND, format!("the dashboard has no file `{}`", name.escape_debug())).into_response()
        }
    }
}
