//! `dev`: what the host does for whoever writes the services, and for nobody else.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::fmt;

/// `dev = true`, or `[dev]` with more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevConfig {
    /// Errors tell the client what the log tells; `--dev`.
    pub on: bool,
    /// With `on`, pages in the browser load themselves again when their service is swapped.
    pub reload: bool,
    /// With `on`, a trap leaves a core dump in the state folder; `--coredump`.
    pub coredump: bool,
}

impl Default for DevConfig {
    fn default() -> Self {
        Self { on: false, reload: true, coredump: false }
    }
}

impl<'de> Deserialize<'de> for DevConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    on: bool,
    reload: bool,
    coredump: bool,
}

impl Default for Table {
    fn default() -> Self {
        let DevConfig { on, reload, coredump } = DevConfig::default();
        Self { on, reload, coredump }
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = DevConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a table [dev]")
    }

    fn visit_bool<E>(self, on: bool) -> Result<DevConfig, E> {
        Ok(DevConfig { on, ..DevConfig::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DevConfig, A::Error> {
        let Table { on, reload, coredump } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(DevConfig { on, reload, coredump })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostConfig;

    fn dev(text: &str) -> (bool, bool) {
        let DevConfig { on, reload, .. } = HostConfig::parse(text).unwrap().dev;
        (on, reload)
    }

    #[test]
    fn it_is_a_word_or_a_table() {
        assert_eq!([dev(""), dev("dev = true"), dev("dev = false")], [(false, true), (true, true), (false, true)]);
        assert_eq!([dev("[dev]\nreload = false"), dev("[dev]\non = true")], [(false, false), (true, true)]);
        let unknown = HostConfig::parse("[dev]\nrelaod = false").unwrap_err();
        assert!(unknown.line == Some(2) && unknown.remedy.contains("`reload`"), "{unknown:?}");
        let wrong = HostConfig::parse("dev = \"yes\"").unwrap_err();
        assert!(wrong.reason.contains("true, false or a table"), "{wrong:?}");
    }
}
