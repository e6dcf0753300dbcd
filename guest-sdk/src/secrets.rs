//! Secrets that the settings grant: `[grants] secrets`, by `wasi:config`. Needs the feature `config`.
//!
//! ```
//! use hotbay_sdk::secrets::{self, Secret};
//!
//! secrets::set_for_tests("db_password", "hush");
//! let password: Secret = secrets::get("db_password").unwrap();
//! assert_eq!(password.reveal(), "hush");
//! assert_eq!(format!("{password:?}"), "Secret(…)");
//! ```

use std::fmt;

/// A value that is not printed by mistake: it has no `Display`, and its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The secret of this name; none where the settings do not grant it. One that is granted is there: the host takes no revision
/// without its secrets.
pub fn get(name: &str) -> Option<Secret> {
    crate::config::get(name).map(Secret)
}

/// Natively: gives a secret its value, for this thread and so for this test.
#[cfg(not(target_family = "wasm"))]
pub fn set_for_tests(name: &str, value: &str) {
    crate::config::set_for_tests(name, value);
}
