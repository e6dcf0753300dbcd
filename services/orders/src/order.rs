//! An order and its rules.

use std::fmt;

use serde::{Deserialize, Serialize};

const MAX_LINES: usize = 20;
const MAX_QUANTITY: u32 = 1_000;
const MAX_CUSTOMER: usize = 100;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It has a number, and what it needs may or may not have been taken. Seen only where something broke off; it can be deleted.
    Pending,
    Open,
    Paid,
    Shipped,
    /// What it had may or may not have been put back. Seen only where something broke off; cancelling or deleting it again goes on.
    Cancelling,
    Cancelled,
}

impl Status {
    /// What it becomes on its way to `next`, if it can go there. Saying again what is so already is fine: a client may not have seen the
    /// answer.
    pub(crate) fn towards(self, next: Self) -> Option<Self> {
        use Status::{Cancelled, Cancelling, Open, Paid, Pending, Shipped};
        match (self, next) {
            (now, next) if now == next => Some(now),
            (Cancelled, Cancelling) => Some(Cancelled),
            (Pending, Open) | (Open, Paid) | (Paid, Shipped) | (Pending | Open | Paid, Cancelling) | (Cancelling, Cancelled) => {
                Some(next)
            }
            _ => None,
        }
    }

    /// The same for an order that is to be deleted.
    pub(crate) fn given_up(self) -> Option<Self> {
        if self == Self::Paid { None } else { self.towards(Self::Cancelling) }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Open => "open",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Cancelling => "cancelling",
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
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
    /// There is less in stock.
    Short { sku: String, left: u32 },
    /// The orders, or another service, cannot be reached. For the log, not for clients.
    Closed(String),
}

impl Draft {
    /// All that is wrong with it, as far as that can be said without asking anybody.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let mut errors = Vec::new();
        if self.customer.trim().is_empty() {
            errors.push("customer: must not be empty".to_owned());
        }
        if self.customer.chars().count() > MAX_CUSTOMER {
            errors.push(format!("customer: at most {MAX_CUSTOMER} characters"));
        }
        if self.lines.is_empty() || self.lines.len() > MAX_LINES {
            errors.push(format!("lines: from 1 to {MAX_LINES}"));
        }
        for (i, line) in self.lines.iter().enumerate().take(MAX_LINES) {
            if !(1..=MAX_QUANTITY).contains(&line.quantity) {
                errors.push(format!("lines[{i}].quantity: from 1 to {MAX_QUANTITY}"));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Refusal::Invalid(errors)) }
    }
}
