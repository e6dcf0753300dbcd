//! What was denied to the guests of one request: remembered where the host runs with `--dev`, for whoever tells its developer.

use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Denials of one request that are kept.
const KEPT_MAX: usize = 20;

/// One call of a guest that no grant allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// Who asked.
    pub service: String,
    /// What kind of thing was asked for: `http`, `calls`, `tcp`, `keyvalue`, `config`.
    pub capability: &'static str,
    /// What was asked for, as the log shows it.
    pub destination: String,
    /// Why it was denied.
    pub reason: String,
    /// The line of `[grants]` that would allow it beside what is granted, where one can.
    pub grant: Option<String>,
}

impl Denial {
    /// What allows it, as the log says it.
    pub(crate) fn remedy(&self) -> Option<String> {
        self.grant.as_ref().map(|grant| remedy(&self.service, grant))
    }
}

/// The denials of one request and of the calls that it led to.
#[derive(Debug, Clone, Default)]
pub struct Denials(Option<Arc<Mutex<Vec<Denial>>>>);

impl Denials {
    /// They are asked for. By default nobody asks, and nothing is kept.
    pub fn remembered() -> Self {
        Self(Some(Arc::default()))
    }

    /// One more. The same again says nothing new.
    pub(crate) fn add(&self, denial: impl FnOnce() -> Denial) {
        let Some(kept) = &self.0 else { return };
        let mut kept = locked(kept);
        if kept.len() < KEPT_MAX {
            let denial = denial();
            if !kept.contains(&denial) {
                kept.push(denial);
            }
        }
    }

    /// Those until now, the first first.
    pub fn all(&self) -> Vec<Denial> {
        self.0.as_ref().map(|kept| locked(kept).clone()).unwrap_or_default()
    }
}

/// Nothing that can panic runs under the lock.
fn locked(kept: &Mutex<Vec<Denial>>) -> MutexGuard<'_, Vec<Denial>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the line of a denial belongs, as the log says it.
pub(super) fn remedy(service: &str, grant: &str) -> String {
    format!("put {grant} below [grants] in {service}.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(destination: usize) -> Denial {
        Denial {
            service: "orders".to_owned(),
            capability: "http",
            destination: destination.to_string(),
            reason: "not granted".to_owned(),
            grant: None,
        }
    }

    #[test]
    fn a_guest_that_asks_in_a_loop_fills_nothing() {
        let denials = Denials::remembered();
        (0..100).for_each(|n| denials.clone().add(|| denial(n / 2)));
        let kept = denials.all();
        assert_eq!((kept.len(), kept.first(), kept.get(1)), (KEPT_MAX, Some(&denial(0)), Some(&denial(1))));
        let nobody = Denials::default();
        nobody.add(|| unreachable!("nobody asks"));
        assert!(nobody.all().is_empty());
    }
}
