//! What can be ordered, and for how much. A file that the build carries: a new catalogue is a new build.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One line of the catalogue.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) price_cents: u64,
}

/// All that can be ordered.
#[derive(Debug)]
pub(crate) struct Catalogue(Vec<Item>);

/// What is wrong with the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "catalogue.json: {}", self.0)
    }
}

impl Error for Broken {}

impl Catalogue {
    /// The catalogue of this build.
    pub(crate) fn load() -> Result<Self, Broken> {
        Self::parse(include_str!("catalogue.json"))
    }

    fn parse(text: &str) -> Result<Self, Broken> {
        let items: Vec<Item> = serde_json::from_str(text).map_err(|error| Broken(error.to_string()))?;
        let mut seen = BTreeSet::new();
        if let Some(item) = items.iter().find(|item| !seen.insert(&item.sku)) {
            return Err(Broken(format!("{} is there twice", item.sku)));
        }
        Ok(Self(items))
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.0
    }

    pub(crate) fn find(&self, sku: &str) -> Option<&Item> {
        self.0.iter().find(|item| item.sku == sku)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_of_this_build_loads() {
        assert!(Catalogue::load().unwrap().find("tea").is_some());
    }

    #[test]
    fn a_broken_one_says_what_is_wrong() {
        let twice = r#"[{"sku": "a", "name": "A", "price_cents": 1}, {"sku": "a", "name": "B", "price_cents": 2}]"#;
        assert_eq!(Catalogue::parse(twice).unwrap_err().to_string(), "catalogue.json: a is there twice");
        assert!(Catalogue::parse("[{}]").unwrap_err().to_string().contains("missing field `sku`"));
    }
}
