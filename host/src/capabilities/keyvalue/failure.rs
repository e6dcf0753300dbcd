//! Why a key could not be read or written: what the guest is told, and what the log is.

use std::fmt;

/// Why a call of `wasi:keyvalue` failed. It is shown to the guest, and so holds no paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A limit: what the guest wants cannot be done.
    Limit(String),
    /// The store cannot be used now. The log has said why.
    Unusable,
}

impl Failure {
    pub(super) fn limit(words: impl Into<String>) -> Self {
        Self::Limit(words.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(words) => f.write_str(words),
            Self::Unusable => f.write_str("the key-value store cannot be used now; the log of the host says why"),
        }
    }
}

impl std::error::Error for Failure {}
