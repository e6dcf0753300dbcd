//! The orders and their rules.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalogue::Catalogue;

/// More would not fit into the memory that the settings give; see `orders.toml`.
const MAX_ORDERS: usize = 10_000;
const MAX_LINES: usize = 20;
const MAX_QUANTITY: u32 = 1_000;
const MAX_CUSTOMER: usize = 100;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Open,
    Paid,
    Shipped,
    Cancelled,
}

impl Status {
    fn can_become(self, next: Self) -> bool {
        matches!((self, next), (Self::Open, Self::Paid | Self::Cancelled) | (Self::Paid, Self::Shipped | Self::Cancelled))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
        })
    }
}

/// So many of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) sku: String,
    pub(crate) quantity: u32,
}

/// An order as a client asks for it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    pub(crate) customer: String,
    pub(crate) lines: Vec<Line>,
}

/// An order as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) customer: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) total_cents: u64,
    pub(crate) status: Status,
}

/// Why something was not done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No order has this number.
    Unknown(u64),
    /// What is wrong with a draft: all of it, so that a client need not try again for each.
    Invalid(Vec<String>),
    /// An order cannot go from here to there.
    Transition { id: u64, from: Status, to: Status },
    /// An order that is under way cannot be deleted.
    InUse { id: u64, status: Status },
    /// There are [`MAX_ORDERS`].
    Full,
}

/// All orders, by number.
#[derive(Debug, Default)]
pub(crate) struct Store {
    orders: BTreeMap<u64, Order>,
    /// The number given last; one that was deleted does not come again.
    last: u64,
}

impl Store {
    pub(crate) fn list(&self, status: Option<Status>) -> impl Iterator<Item = &Order> {
        self.orders.values().filter(move |order| status.is_none_or(|status| order.status == status))
    }

    pub(crate) fn get(&self, id: u64) -> Result<&Order, Refusal> {
        self.orders.get(&id).ok_or(Refusal::Unknown(id))
    }

    pub(crate) fn create(&mut self, draft: Draft, catalogue: &Catalogue) -> Result<Order, Refusal> {
        let total_cents = check(&draft, catalogue)?;
        if self.orders.len() >= MAX_ORDERS {
            return Err(Refusal::Full);
        }
        self.last += 1;
        let Draft { customer, lines } = draft;
        let order = Order { id: self.last, customer, lines, total_cents, status: Status::Open };
        self.orders.insert(order.id, order.clone());
        Ok(order)
    }

    pub(crate) fn change(&mut self, id: u64, to: Status) -> Result<Order, Refusal> {
        let order = self.orders.get_mut(&id).ok_or(Refusal::Unknown(id))?;
        // Saying again what is so already is fine: a client may not have seen the answer.
        if order.status != to && !order.status.can_become(to) {
            return Err(Refusal::Transition { id, from: order.status, to });
        }
        order.status = to;
        Ok(order.clone())
    }

    pub(crate) fn remove(&mut self, id: u64) -> Result<(), Refusal> {
        let status = self.get(id)?.status;
        if matches!(status, Status::Paid | Status::Shipped) {
            return Err(Refusal::InUse { id, status });
        }
        self.orders.remove(&id);
        Ok(())
    }
}

/// What a draft costs in all, or all that is wrong with it.
fn check(draft: &Draft, catalogue: &Catalogue) -> Result<u64, Refusal> {
    let mut errors = Vec::new();
    let mut total = 0;
    if draft.customer.trim().is_empty() {
        errors.push("customer: must not be empty".to_owned());
    }
    if draft.customer.chars().count() > MAX_CUSTOMER {
        errors.push(format!("customer: at most {MAX_CUSTOMER} characters"));
    }
    if draft.lines.is_empty() || draft.lines.len() > MAX_LINES {
        errors.push(format!("lines: from 1 to {MAX_LINES}"));
    }
    for (i, line) in draft.lines.iter().enumerate().take(MAX_LINES) {
        if !(1..=MAX_QUANTITY).contains(&line.quantity) {
            errors.push(format!("lines[{i}].quantity: from 1 to {MAX_QUANTITY}"));
        }
        match catalogue.find(&line.sku) {
            Some(item) => total += item.price_cents * u64::from(line.quantity),
            None => errors.push(format!("lines[{i}].sku: not in the catalogue")),
        }
    }
    if errors.is_empty() { Ok(total) } else { Err(Refusal::Invalid(errors)) }
}
