//! One line of what `hotbay doctor` found.

use super::Need;
use serde::Serialize;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// There, and enough.
    Ok,
    /// Usable, and may be too little.
    Scarce,
    /// Not there.
    Missing,
}

/// What was looked at, what is there and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) standing: Standing,
    pub(crate) found: Option<String>,
    pub(crate) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), standing: Standing::Ok, found: Some(found.into()), remedy: None }
    }

    pub(super) fn scarce(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { standing: Standing::Scarce, remedy: Some(remedy.into()), ..Self::ok(what, found) }
    }

    pub(super) fn missing(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { standing: Standing::Missing, ..Self::scarce(what, found, remedy) }
    }
}

impl From<Need> for Finding {
    fn from(need: Need) -> Self {
        match need.found {
            Some(found) => Self::ok(need.what, found),
            None => Self { what: need.what.to_owned(), standing: Standing::Missing, found: None, remedy: Some(need.remedy) },
        }
    }
}
