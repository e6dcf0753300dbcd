//! A JSON API: orders that are made, listed, paid, shipped, cancelled and deleted.
//!
//! It shows path parameters, a query string, JSON in and out, validation, errors as problem documents, several routes
//! through a settings file (`orders.toml`), and the optional `lifecycle` export.
//!
//! ```text
//! $ curl http://127.0.0.1:8080/catalogue
//! $ curl http://127.0.0.1:8080/orders -H 'content-type: application/json' \
//!        -d '{"customer": "ada", "lines": [{"sku": "tea", "quantity": 2}]}'
//! {"id":1,"customer":"ada","lines":[{"sku":"tea","quantity":2}],"total_cents":980,"status":"open"}
//! $ curl http://127.0.0.1:8080/orders?status=open
//! $ curl -X PATCH http://127.0.0.1:8080/orders/1 -H 'content-type: application/json' -d '{"status": "paid"}'
//! $ curl -X DELETE http://127.0.0.1:8080/orders/1
//! {"title":"Conflict","status":409,"detail":"an order that is paid cannot be deleted","order":1}
//! ```
//!
//! # Where the orders are
//!
//! In the memory of one instance. The settings keep it (`policy = "reuse"`) and see to it that there is only one
//! (`concurrency = 1`). They are gone when that instance ends: at a swap, when the host stops, after a trap or a missed
//! deadline, after 65,536 requests, and when it was idle for a day. That is fine for an example and for a cache, and
//! wrong for anything that must last.
//!
//! # Its files
//!
//! - `lib.rs`: the routes and handlers, HTTP and nothing else
//! - `store.rs`: the orders and their rules, which know nothing of HTTP
//! - `catalogue.rs`: what can be ordered, from a file that the build carries

mod catalogue;
mod store;

use std::sync::{Arc, Mutex, PoisonError};

use hotbay_sdk::http::{StatusCode, header::LOCATION};
use hotbay_sdk::{IntoResponse, Json, Path, Problem, Query, Router, RouterExt, State, routing::get};
use serde::{Deserialize, Serialize};

use crate::catalogue::{Broken, Catalogue, Item};
use crate::store::{Draft, Order, Refusal, Status, Store};

hotbay_sdk::service!(router: app);
hotbay_sdk::lifecycle!(start = start);

/// A build with a broken catalogue is rejected before it serves anyone; the one before it stays.
async fn start() -> Result<(), Broken> {
    Catalogue::load().map(drop)
}

fn app() -> Router {
    Router::new()
        .route("/catalogue", get(catalogue))
        .route("/orders", get(list).post(create))
        .route("/orders/{id}", get(show).patch(change).delete(remove))
        .with_state(Shared::default())
        .problems()
}

/// The orders. A guest has one thread and a mutex costs nothing there; axum asks for it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Store>>);

impl Shared {
    fn with<T>(&self, f: impl FnOnce(&mut Store) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A response is made in memory, so that it has to end somewhere.
const MAX_PAGE: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    status: Option<Status>,
    #[serde(default = "Filter::default_limit")]
    limit: usize,
}

impl Filter {
    fn default_limit() -> usize {
        50
    }
}

#[derive(Serialize)]
struct Page {
    orders: Vec<Order>,
    /// How many there are in all, whatever the limit.
    count: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    status: Status,
}

async fn catalogue() -> Result<Json<Vec<Item>>, Problem> {
    // `start` has seen that it loads; should it not, `?` makes that a 500 and a line in the log.
    Ok(Json(Catalogue::load()?.items().to_vec()))
}

async fn list(State(store): State<Shared>, Query(filter): Query<Filter>) -> Json<Page> {
    store.with(|store| {
        let orders = store.list(filter.status).take(filter.limit.min(MAX_PAGE)).cloned().collect();
        Json(Page { orders, count: store.list(filter.status).count() })
    })
}

async fn create(State(store): State<Shared>, Json(draft): Json<Draft>) -> Result<impl IntoResponse, Problem> {
    let catalogue = Catalogue::load()?;
    let order = store.with(|store| store.create(draft, &catalogue))?;
    let location = format!("/orders/{}", order.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(order)))
}

async fn show(State(store): State<Shared>, Path(id): Path<u64>) -> Result<Json<Order>, Problem> {
    Ok(Json(store.with(|store| store.get(id).cloned())?))
}

async fn change(State(store): State<Shared>, Path(id): Path<u64>, Json(change): Json<Change>) -> Result<Json<Order>, Problem> {
    Ok(Json(store.with(|store| store.change(id, change.status))?))
}

async fn remove(State(store): State<Shared>, Path(id): Path<u64>) -> Result<StatusCode, Problem> {
    store.with(|store| store.remove(id))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a refusal is in HTTP.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(id) => Self::not_found("there is no such order").with("order", id),
            Refusal::Invalid(errors) => Self::unprocessable("the order is not valid").with("errors", errors),
            Refusal::Transition { id, from, to } => {
                Self::conflict(format!("an order that is {from} cannot become {to}")).with("order", id)
            }
            Refusal::InUse { id, status } => {
                Self::conflict(format!("an order that is {status} cannot be deleted")).with("order", id)
            }
            Refusal::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE).detail("there is no room for more orders"),
        }
    }
}

#[cfg(test)]
mod tests;
