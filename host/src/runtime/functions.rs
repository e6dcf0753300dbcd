//! The functions that a staying child has compiled, by what they were compiled from: of a build in which a line has changed most
//! are the same as before.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering},
    },
};
use wasmtime::CacheStore;

/// Bytes that are kept at most, and the part of the child's memory that they may take where that is less.
const KEPT_MAX: u64 = 512 << 20;
const PART_OF_MEMORY: u64 = 8;

/// Above the bound goes what was not used in the last so many builds, then in fewer.
const GENERATIONS: [u32; 4] = [16, 4, 1, 0];

/// They are the child's own, and end with it.
#[derive(Debug)]
pub(super) struct Functions {
    limit: u64,
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    functions: HashMap<Vec<u8>, Function>,
    /// Of keys and code together.
    bytes: u64,
    /// The build under way; counts from 0.
    build: u32,
}

#[derive(Debug)]
struct Function {
    code: Vec<u8>,
    /// The build that used it last.
    used: AtomicU32,
}

impl Function {
    fn size(&self, key: &[u8]) -> u64 {
        u64::try_from(self.code.len().saturating_add(key.len())).unwrap_or(u64::MAX)
    }
}

impl Functions {
    /// None yet, for a child of so many bytes of memory.
    pub(super) fn within(memory: u64) -> Self {
        Self { limit: KEPT_MAX.min(memory / PART_OF_MEMORY), kept: RwLock::default() }
    }

    /// What has not been used for long goes, where there is too much.
    pub(super) fn end_of_build(&self) {
        let mut kept = self.kept_mut();
        for generations in GENERATIONS {
            if kept.bytes <= self.limit {
                break;
            }
            let oldest = (kept.build + 1).saturating_sub(generations);
            kept.functions.retain(|_, function| function.used.load(Ordering::Relaxed) >= oldest);
            kept.bytes = kept.functions.iter().fold(0, |sum, (key, function)| sum.saturating_add(function.size(key)));
        }
        kept.build = kept.build.saturating_add(1);
    }

    fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_mut(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let kept = self.kept();
        let function = kept.functions.get(key)?;
        function.used.store(kept.build, Ordering::Relaxed);
        Some(Cow::Owned(function.code.clone()))
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        let mut kept = self.kept_mut();
        let function = Function { code, used: AtomicU32::new(kept.build) };
        let size = function.size(key);
        if kept.functions.insert(key.to_vec(), function).is_none() {
            kept.bytes = kept.bytes.saturating_add(size);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_long_goes_first() {
        let functions = Functions { limit: 25, kept: RwLock::default() };
        let has = |key: &[u8]| functions.kept().functions.contains_key(key);
        functions.insert(b"old", vec![0; 7]);
        for _ in 0..20 {
            functions.insert(b"often", vec![0; 5]);
            functions.end_of_build();
        }
        assert!(has(b"old"), "there is room");
        functions.insert(b"new", vec![0; 7]);
        functions.end_of_build();
        assert_eq!((has(b"old"), has(b"often"), has(b"new")), (false, true, true));
        assert_eq!(functions.get(b"new").as_deref(), Some(&[0; 7][..]));
        functions.insert(b"huge", vec![0; 30]);
        functions.end_of_build();
        assert_eq!((has(b"huge"), functions.kept().bytes), (false, 0), "one that is too large is not kept");
    }
}
