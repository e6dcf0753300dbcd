//! Where the orders are kept: one key for each, in the order of their numbers.

use hotbay_sdk::kv::{Bucket, Error};

use crate::order::{Draft, Order, Refusal, Status};

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
                // One that cannot be read must not hide the others.
                let Ok(order) = read(&value).inspect_err(|refusal| hotbay_sdk::log::error!("{refusal:?}")) else { continue };
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

    /// Keeps a new order, for which nothing has been taken yet. A number that was given does not come again.
    pub(crate) fn create(&self, draft: Draft, total_cents: u64) -> Result<Order, Refusal> {
        let last = self.0.increment("last", 1)?;
        let id = u64::try_from(last).map_err(|_| Refusal::Closed(format!("the last number is {last}")))?;
        let Draft { customer, lines } = draft;
        let order = Order { id, customer, lines, total_cents, status: Status::Pending };
        self.0.set(&key(id), write(&order))?;
        Ok(order)
    }

    /// The order with the status that `rule` gives it for the one that it has: one change, however many do it at once.
    pub(crate) fn change(&self, id: u64, rule: impl Fn(Status) -> Result<Status, Refusal>) -> Result<Order, Refusal> {
        let mut outcome = Err(Refusal::Unknown(id));
        self.0.update(&key(id), |old| {
            let changed = |old: Vec<u8>| {
                let order = read(&old)?;
                Ok(Order { status: rule(order.status)?, ..order })
            };
            outcome = old.map_or(Err(Refusal::Unknown(id)), changed);
            outcome.as_ref().ok().map(write)
        })?;
        outcome
    }

    pub(crate) fn remove(&self, id: u64) -> Result<(), Refusal> {
        Ok(self.0.delete(&key(id))?)
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
