//! A store room. Other services call it by WIT (`wit/stock.wit`), people by HTTP.
//!
//! It shows an interface that is exported to other services beside HTTP, and a key-value store in which nothing is sold twice.
//!
//! ```text
//! $ curl -X PUT http://127.0.0.1:8080/stock/tea -H 'content-type: application/json' -d '{"level": 100}'
//! $ curl http://127.0.0.1:8080/stock/tea
//! {"sku":"tea","level":100}
//! ```
//!
//! # Its files
//!
//! - `lib.rs`: the routes, and what is exported by WIT
//! - `room.rs`: what is there and what is taken, which knows neither HTTP nor WIT

mod room;

use hotbay_sdk::{Json, Path, Problem, Router, RouterExt, http::StatusCode, routing::get};
use room::{Refusal, Room};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

hotbay_sdk::service!(router: app);
hotbay_sdk::bindings!(wit, path: "wit", world: "provider");

use wit::exports::shop::stock::stock;

struct Stock;
wit::export!(Stock with_types_in wit);

impl stock::Guest for Stock {
    fn level(sku: String) -> Result<u32, stock::Refusal> {
        Ok(Room::open()?.level(&sku)?)
    }

    fn take(order: u64, lines: Vec<stock::Line>) -> Result<(), stock::Refusal> {
        Ok(Room::open()?.take(order, &sums(&lines))?)
    }

    fn give_back(order: u64, lines: Vec<stock::Line>) -> Result<(), stock::Refusal> {
        Ok(Room::open()?.give_back(order, sums(&lines).keys().copied())?)
    }

    fn sold(order: u64, lines: Vec<stock::Line>) -> Result<(), stock::Refusal> {
        Ok(Room::open()?.sold(order, sums(&lines).keys().copied())?)
    }
}

/// How many of each: one thing may stand in several lines.
fn sums(lines: &[stock::Line]) -> BTreeMap<&str, u32> {
    let mut sums = BTreeMap::new();
    for line in lines {
        let sum: &mut u32 = sums.entry(line.sku.as_str()).or_default();
        *sum = sum.saturating_add(line.quantity);
    }
    sums
}

/// What a refusal is to whoever calls by WIT.
impl From<Refusal> for stock::Refusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(sku) => Self::Unknown(sku),
            Refusal::Short { sku, left } => Self::Short(stock::Shortage { sku, left }),
            Refusal::Closed(why) => Self::Closed(why),
        }
    }
}

/// What it is in HTTP.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(sku) => Self::not_found("the store room has no place for it").with("sku", sku),
            Refusal::Short { sku, left } => Self::conflict("there is less than that").with("sku", sku).with("left", left),
            Refusal::Closed(why) => Self::new(StatusCode::SERVICE_UNAVAILABLE).detail(why),
        }
    }
}

#[derive(Serialize)]
struct Level {
    sku: String,
    level: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    level: u32,
}

fn app() -> Router {
    Router::new().route("/{sku}", get(show).put(count)).problems()
}

async fn show(Path(sku): Path<String>) -> Result<Json<Level>, Problem> {
    let level = Room::open()?.level(&sku)?;
    Ok(Json(Level { sku, level }))
}

/// Somebody has counted: this many are there.
async fn count(Path(sku): Path<String>, Json(Count { level }): Json<Count>) -> Result<Json<Level>, Problem> {
    Room::open()?.count(&sku, level)?;
    hotbay_sdk::log::info!("{sku} was counted: {level}");
    Ok(Json(Level { sku, level }))
}

#[cfg(test)]
mod tests;
