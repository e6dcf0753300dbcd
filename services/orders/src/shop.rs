//! The other services of the shop: what is in stock (`stock`, by WIT), and what it costs (`pricing`, by HTTP).

use hotbay_sdk::http::{self, Response, SendError, StatusCode};
use hotbay_sdk::{Bytes, bindings};
use serde::Deserialize;
use serde_json::json;

use crate::order::{Line, Order, Refusal};

bindings!(wit, path: "../stock/wit", world: "dependent");

#[cfg(target_family = "wasm")]
use wit::shop::stock::stock;

#[cfg(not(target_family = "wasm"))]
pub(crate) use stand_in as stock;

use wit::shop::stock::stock::{Line as StockLine, Refusal as StockRefusal};

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        Self::Closed(format!("pricing: {error}"))
    }
}

impl From<StockRefusal> for Refusal {
    fn from(refusal: StockRefusal) -> Self {
        match refusal {
            StockRefusal::Unknown(sku) => Self::Invalid(vec![format!("{sku}: not in stock")]),
            StockRefusal::Short(shortage) => Self::Short { sku: shortage.sku, left: shortage.left },
            StockRefusal::Closed(why) => Self::Closed(format!("stock: {why}")),
        }
    }
}

/// Takes what the order needs out of the store room, or nothing. Like the two below, it can be done again.
pub(crate) fn take(order: &Order) -> Result<(), Refusal> {
    Ok(stock::take(order.id, &listed(order))?)
}

/// Puts back what it had.
pub(crate) fn give_back(order: &Order) -> Result<(), Refusal> {
    Ok(stock::give_back(order.id, &listed(order))?)
}

/// What it had is gone for good.
pub(crate) fn sold(order: &Order) -> Result<(), Refusal> {
    Ok(stock::sold(order.id, &listed(order))?)
}

fn listed(order: &Order) -> Vec<StockLine> {
    order.lines.iter().map(|line| StockLine { sku: line.sku.clone(), quantity: line.quantity }).collect()
}

/// All prices, as `pricing` lists them.
pub(crate) async fn prices() -> Result<Response<Bytes>, Refusal> {
    let response = http::get("http://pricing.internal/prices").await?;
    // What another service, or the host in its place, says of a failure is for the log.
    match response.status() {
        StatusCode::OK => Ok(response),
        status => Err(Refusal::Closed(format!("pricing: {status}"))),
    }
}

/// What these cost in all, in cents.
pub(crate) async fn quote(lines: &[Line]) -> Result<u64, Refusal> {
    #[derive(Deserialize)]
    struct Quote {
        total_cents: u64,
    }
    #[derive(Deserialize)]
    struct Refused {
        detail: String,
    }
    let response = http::post_json("http://pricing.internal/quote", &json!({"lines": lines})).await?;
    let unread = |error| Refusal::Closed(format!("pricing: an answer that is none: {error}"));
    match response.status() {
        StatusCode::OK => Ok(serde_json::from_slice::<Quote>(response.body()).map_err(unread)?.total_cents),
        StatusCode::UNPROCESSABLE_ENTITY => {
            Err(Refusal::Invalid(vec![serde_json::from_slice::<Refused>(response.body()).map_err(unread)?.detail]))
        }
        status => Err(Refusal::Closed(format!("pricing: {status}"))),
    }
}

/// A store room of one test.
#[cfg(not(target_family = "wasm"))]
#[cfg_attr(not(test), allow(dead_code, reason = "natively there are only tests"))]
pub(crate) mod stand_in {
    use super::{StockLine, StockRefusal};
    use std::{
        cell::{Cell, RefCell},
        collections::{BTreeMap, btree_map::Entry},
    };

    thread_local! {
        /// How many teas are there; of anything else there is nothing.
        pub(crate) static TEAS: Cell<u32> = const { Cell::new(100) };
        /// What orders have of them.
        static HELD: RefCell<BTreeMap<u64, u32>> = const { RefCell::new(BTreeMap::new()) };
        /// The store room cannot be reached.
        pub(crate) static CLOSED: Cell<bool> = const { Cell::new(false) };
    }

    fn reached() -> Result<(), StockRefusal> {
        if CLOSED.get() { Err(StockRefusal::Closed("not there".to_owned())) } else { Ok(()) }
    }

    pub(crate) fn take(order: u64, lines: &[StockLine]) -> Result<(), StockRefusal> {
        reached()?;
        let left = TEAS.get();
        if let Some(line) = lines.iter().find(|line| line.sku != "tea") {
            return Err(StockRefusal::Unknown(line.sku.clone()));
        }
        let wanted: u32 = lines.iter().map(|line| line.quantity).sum();
        let short = || StockRefusal::Short(super::wit::shop::stock::stock::Shortage { sku: "tea".to_owned(), left });
        HELD.with_borrow_mut(|held| {
            if let Entry::Vacant(place) = held.entry(order) {
                TEAS.set(left.checked_sub(wanted).ok_or_else(short)?);
                place.insert(wanted);
            }
            Ok(())
        })
    }

    pub(crate) fn give_back(order: u64, _: &[StockLine]) -> Result<(), StockRefusal> {
        reached()?;
        TEAS.set(TEAS.get() + HELD.with_borrow_mut(|held| held.remove(&order)).unwrap_or_default());
        Ok(())
    }

    pub(crate) fn sold(order: u64, _: &[StockLine]) -> Result<(), StockRefusal> {
        reached()?;
        HELD.with_borrow_mut(|held| held.remove(&order));
        Ok(())
    }
}
