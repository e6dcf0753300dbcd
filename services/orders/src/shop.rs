//! The other services of the shop: what is in stock (`stock`, by WIT), and what it costs (`pricing`, by HTTP).

use hotbay_sdk::http::{self, Response, SendError, StatusCode};
use hotbay_sdk::{Bytes, bindings};
use serde::Deserialize;
use serde_json::json;

use crate::order::{Line, Refusal};

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

/// Takes these out of the store room, or nothing.
pub(crate) fn take(lines: &[Line]) -> Result<(), Refusal> {
    Ok(stock::take(&listed(lines))?)
}

/// Puts them back.
pub(crate) fn give_back(lines: &[Line]) -> Result<(), Refusal> {
    Ok(stock::give_back(&listed(lines))?)
}

fn listed(lines: &[Line]) -> Vec<StockLine> {
    lines.iter().map(|line| StockLine { sku: line.sku.clone(), quantity: line.quantity }).collect()
}

/// All prices, as `pricing` lists them.
pub(crate) async fn prices() -> Result<Response<Bytes>, Refusal> {
    Ok(http::get("http://pricing.internal/prices").await?)
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
    use std::cell::Cell;

    thread_local! {
        /// How many teas are there; of anything else there is nothing.
        pub(crate) static TEAS: Cell<u32> = const { Cell::new(100) };
    }

    pub(crate) fn take(lines: &[StockLine]) -> Result<(), StockRefusal> {
        let left = TEAS.get();
        if let Some(line) = lines.iter().find(|line| line.sku != "tea") {
            return Err(StockRefusal::Unknown(line.sku.clone()));
        }
        let wanted: u32 = lines.iter().map(|line| line.quantity).sum();
        let short = || StockRefusal::Short(super::wit::shop::stock::stock::Shortage { sku: "tea".to_owned(), left });
        TEAS.set(left.checked_sub(wanted).ok_or_else(short)?);
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, reason = "as the interface has it")]
    pub(crate) fn give_back(lines: &[StockLine]) -> Result<(), StockRefusal> {
        TEAS.set(TEAS.get() + lines.iter().map(|line| line.quantity).sum::<u32>());
        Ok(())
    }
}
