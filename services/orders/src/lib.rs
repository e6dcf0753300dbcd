//! A JSON API: orders that are made, listed, paid, shipped, cancelled and deleted.
//!
//! It shows path parameters, a query string, JSON in and out, validation, errors as problem documents, several routes
//! through a settings file (`orders.toml`), the optional `lifecycle` export, and what a service needs of others: `stock` is called by
//! WIT, `pricing` by HTTP, and the orders are kept in a key-value store, where they outlive swaps and restarts.
//!
//! ```text
//! $ curl -X PUT http://127.0.0.1:8080/stock/tea -H 'content-type: application/json' -d '{"level": 100}'
//! $ curl http://127.0.0.1:8080/orders -H 'content-type: application/json' \
//!        -d '{"customer": "ada", "lines": [{"sku": "tea", "quantity": 2}]}'
//! {"id":1,"customer":"ada","lines":[{"sku":"tea","quantity":2}],"total_cents":980,"status":"open"}
//! $ curl http://127.0.0.1:8080/orders?status=open
//! $ curl -X PATCH http://127.0.0.1:8080/orders/1 -H 'content-type: application/json' -d '{"status": "paid"}'
//! $ curl -X DELETE http://127.0.0.1:8080/orders/1
//! {"title":"Conflict","status":409,"detail":"an order that is paid cannot be deleted","order":1}
//! ```
//!
//! # Its files
//!
//! - `lib.rs`: the routes and handlers, HTTP and nothing else
//! - `order.rs`: an order and its rules, which know nothing of HTTP
//! - `store.rs`: where the orders are kept
//! - `shop.rs`: the other services: what is in stock, and what it costs

mod order;
mod shop;
mod store;

use hotbay_sdk::http::{StatusCode, header::LOCATION};
use hotbay_sdk::{Bytes, IntoResponse, Json, Path, Problem, Query, Router, RouterExt, http, routing::get};
use serde::{Deserialize, Serialize};

use crate::order::{Draft, Order, Refusal, Status};
use crate::store::Store;

hotbay_sdk::service!(router: app);
hotbay_sdk::lifecycle!(start = start);

/// A build that cannot get at the orders is rejected before it serves anyone; the one before it stays.
async fn start() -> Result<(), String> {
    Store::open().map(drop).map_err(|refusal| format!("{refusal:?}"))
}

fn app() -> Router {
    Router::new()
        .route("/catalogue", get(catalogue))
        .route("/orders", get(list).post(create))
        .route("/orders/{id}", get(show).patch(change).delete(remove))
        .problems()
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
    /// How many of them there are in all, whatever the limit.
    count: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    status: Wanted,
}

/// Where a client can send an order.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Paid,
    Shipped,
    Cancelled,
}

/// What `pricing` says, as it says it.
async fn catalogue() -> Result<http::Response<hotbay_sdk::Body>, Problem> {
    Ok(shop::prices().await?.map(|body: Bytes| hotbay_sdk::Body::from(body)))
}

async fn list(Query(filter): Query<Filter>) -> Result<Json<Page>, Problem> {
    let (orders, count) = Store::open()?.list(filter.status, filter.limit.min(MAX_PAGE))?;
    Ok(Json(Page { orders, count }))
}

/// The order is kept before anything is taken for it: whatever breaks off, its number says what belongs to it.
async fn create(Json(draft): Json<Draft>) -> Result<impl IntoResponse, Problem> {
    draft.check()?;
    let store = Store::open()?;
    let total_cents = shop::quote(&draft.lines).await?;
    let order = store.create(draft, total_cents)?;
    if let Err(refusal) = shop::take(&order) {
        // How a call ended that failed is not known, so that what it may have taken is put back.
        if let Err(left) = shop::give_back(&order).and_then(|()| store.remove(order.id)) {
            hotbay_sdk::log::error!("order {} stays pending ({left:?}); delete it once the store room is open", order.id);
        }
        return Err(refusal.into());
    }
    let order = moved(&store, order.id, Status::Open)?;
    let location = format!("/orders/{}", order.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(order)))
}

async fn show(Path(id): Path<u64>) -> Result<Json<Order>, Problem> {
    Ok(Json(Store::open()?.get(id)?))
}

async fn change(Path(id): Path<u64>, Json(change): Json<Change>) -> Result<Json<Order>, Problem> {
    let store = Store::open()?;
    let order = match change.status {
        Wanted::Paid => moved(&store, id, Status::Paid)?,
        Wanted::Shipped => {
            let order = moved(&store, id, Status::Shipped)?;
            if let Err(refusal) = shop::sold(&order) {
                hotbay_sdk::log::warn!("the store room still holds what order {id} had ({refusal:?}); ship it again");
            }
            order
        }
        Wanted::Cancelled => {
            // Whoever is first claims it; each puts back, which happens once.
            let order = moved(&store, id, Status::Cancelling)?;
            shop::give_back(&order)?;
            moved(&store, id, Status::Cancelled)?
        }
    };
    Ok(Json(order))
}

async fn remove(Path(id): Path<u64>) -> Result<StatusCode, Problem> {
    let store = Store::open()?;
    let order = store.change(id, |status| status.given_up().ok_or(Refusal::InUse { id, status }))?;
    shop::give_back(&order)?;
    store.remove(id)?;
    Ok(StatusCode::NO_CONTENT)
}

fn moved(store: &Store, id: u64, to: Status) -> Result<Order, Refusal> {
    store.change(id, |from| from.towards(to).ok_or(Refusal::Transition { id, from, to }))
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
            Refusal::Short { sku, left } => Self::conflict("there is less than that").with("sku", sku).with("left", left),
            Refusal::Closed(why) => {
                hotbay_sdk::log::warn!("{why}");
                Self::new(StatusCode::SERVICE_UNAVAILABLE).detail("the shop is closed for a moment")
            }
        }
    }
}

#[cfg(test)]
mod tests;
