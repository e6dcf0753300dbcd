//! Where the orders are kept: one key for each, in the order of their numbers.

use hotbay_sdk::kv::{Bucket, Error};

use crate::order::{Draft, Line, Order, Refusal, Status};

/// So many are read at once.
const BATCH: usize = 100;

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Closed(format!("the orders cannot be reached: {error}"))
    }
}

pub(crate) struct Store(Bucket);

impl Store {
    pub(crate) fn open() -> Result<Self, Refusal> {
        Ok(Self(Bucket::open("default")?))
    }

    /// The first `limit` orders of a status, and how many there are in all.
    pub(crate) fn list(&self, status: Option<Status>, limit: usize) -> Result<(Vec<Order>, usize), Refusal> {
        let keys: Vec<String> = self.0.keys().collect::<Result<_, _>>()?;
        let keys: Vec<String> = keys.into_iter().filter(|key| key.starts_with(PREFIX)).collect();
        let (mut orders, mut count) = (Vec::new(), 0);
        for keys in keys.chunks(BATCH) {
            for value in self.0.get_many(keys)?.into_iter().filter_map(|(_, value)| value) {
                let order = read(&value)?;
                if status.is_none_or(|status| order.status == status) {
                    count += 1;
                    if orders.len() < limit {
                        orders.push(order);
                    }
                }
            }
        }
        Ok((orders, count))
    }

    pub(crate) fn get(&self, id: u64) -> Result<Order, Refusal> {
        read(&self.0.get(&key(id))?.ok_or(Refusal::Unknown(id))?)
    }

    /// Keeps a new order. A number that was given does not come again. The error gives the lines back.
    pub(crate) fn create(&self, draft: Draft, total_cents: u64) -> Result<Order, (Vec<Line>, Refusal)> {
        let Draft { customer, lines } = draft;
        let kept = || {
            let last = self.0.increment("last", 1)?;
            let id = u64::try_from(last).map_err(|_| Refusal::Closed(format!("the last number is {last}")))?;
            let order = Order { id, customer, lines: lines.clone(), total_cents, status: Status::Open };
            self.0.set(&key(id), write(&order))?;
            Ok(order)
        };
        kept().map_err(|refusal| (lines, refusal))
    }

    /// The order as it is now, and what it was before.
    pub(crate) fn change(&self, id: u64, to: Status) -> Result<(Order, Status), Refusal> {
        let mut outcome = Err(Refusal::Unknown(id));
        self.get(id)?;
        self.0.update(&key(id), |old| {
            let old = old.unwrap_or_default();
            outcome = read(&old).and_then(|order| {
                let from = order.status;
                if from.can_become(to) {
                    Ok((Order { status: to, ..order }, from))
                } else {
                    Err(Refusal::Transition { id, from, to })
                }
            });
            outcome.as_ref().map_or(old, |(order, _)| write(order))
        })?;
        outcome
    }

    /// The order that is gone now.
    pub(crate) fn remove(&self, id: u64) -> Result<Order, Refusal> {
        let order = self.get(id)?;
        if matches!(order.status, Status::Paid | Status::Shipped) {
            return Err(Refusal::InUse { id, status: order.status });
        }
        self.0.delete(&key(id))?;
        Ok(order)
    }
}

const PREFIX: &str = "order:";

/// With zeros in front, so that keys are in the order of the numbers.
fn key(id: u64) -> String {
    format!("{PREFIX}{id:020}")
}

fn write(order: &Order) -> Vec<u8> {
    // A struct of text and numbers can always be written.
    serde_json::to_vec(order).unwrap_or_default()
}

fn read(value: &[u8]) -> Result<Order, Refusal> {
    serde_json::from_slice(value).map_err(|error| Refusal::Closed(format!("an order cannot be read: {error}")))
}
