//! Settings of the service by name: `[grants] config`, by `wasi:config`. Needs the feature `config`.
//!
//! ```
//! use hotbay_sdk::config;
//!
//! fn page_size() -> usize {
//!     config::get("page_size").and_then(|size| size.parse().ok()).unwrap_or(50)
//! }
//!
//! assert_eq!(page_size(), 50);
//! config::set_for_tests("page_size", "20");
//! assert_eq!(page_size(), 20);
//! ```

#[cfg(target_family = "wasm")]
use crate::wasi::config as backend;

/// The setting of this name; none where the settings of the service have none.
pub fn get(name: &str) -> Option<String> {
    backend::get(name)
}

/// All settings, by name. Secrets are among them: do not print it.
pub fn all() -> Vec<(String, String)> {
    backend::all()
}

/// Natively: gives a setting its value, for this thread and so for this test.
#[cfg(not(target_family = "wasm"))]
pub fn set_for_tests(name: &str, value: &str) {
    backend::VALUES.with_borrow_mut(|values| values.insert(name.to_owned(), value.to_owned()));
}

/// In memory, for each thread its own.
#[cfg(not(target_family = "wasm"))]
mod backend {
    use std::{cell::RefCell, collections::BTreeMap};

    thread_local! {
        pub(super) static VALUES: RefCell<BTreeMap<String, String>> = RefCell::default();
    }

    pub(super) fn get(name: &str) -> Option<String> {
        VALUES.with_borrow(|values| values.get(name).cloned())
    }

    pub(super) fn all() -> Vec<(String, String)> {
        VALUES.with_borrow(|values| values.clone().into_iter().collect())
    }
}
