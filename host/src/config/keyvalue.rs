//! `[keyvalue]`: where what services keep is kept, and how much of it.

use super::{ByteSize, units::not_zero};
use serde::Deserialize;

/// Bounds of `wasi:keyvalue`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyValueConfig {
    /// Bytes that one service may keep, in all of its buckets together. Each key counts with its value and 64 bytes.
    #[serde(deserialize_with = "not_zero")]
    pub size: ByteSize,
}

impl Default for KeyValueConfig {
    fn default() -> Self {
        Self { size: ByteSize::mib(64) }
    }
}
