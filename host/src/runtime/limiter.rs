//! The memory budget of one instance: all of its linear memories and tables together.

use crate::telemetry::InstanceMetrics;
use wasmtime::ResourceLimiter;

/// Bytes that one table element takes.
const ELEMENT: usize = size_of::<usize>();

/// Sums what an instance holds, since wasmtime's own `StoreLimits` bounds each memory by itself.
pub(crate) struct MemoryBudget {
    limit: usize,
    used: usize,
    refused: bool,
    metrics: InstanceMetrics,
}

impl MemoryBudget {
    pub(crate) fn new(limit: usize, metrics: InstanceMetrics) -> Self {
        Self { limit, used: 0, refused: false, metrics }
    }

    /// A new request begins: what was refused before is not its doing.
    pub(crate) fn begin(&mut self) {
        self.refused = false;
    }

    /// Whether the guest asked for more than it may have since the request began. One that traps after this ran out of memory.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// Bytes that are held now.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Whether half of what was left above `settled` is gone: memory of a guest never shrinks, so one that leaks comes past here
    /// before it comes to its limit, and one that only needs much does not.
    pub(crate) fn outgrew(&self, settled: usize) -> bool {
        self.used > settled && self.used - settled > self.limit.saturating_sub(settled) / 2
    }

    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        // Above its own maximum it does not grow, so there is nothing to count.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return true;
        }
        let wanted = self.used.saturating_add(desired.saturating_sub(current));
        if wanted > self.limit {
            self.refused = true;
            return false;
        }
        self.metrics.grew(wanted - self.used);
        self.used = wanted;
        true
    }
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(ELEMENT);
        Ok(self.grow(bytes(current), bytes(desired), maximum.map(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, RevisionMetrics, Vitals};
    use std::sync::Arc;

    fn revision() -> Arc<RevisionMetrics> {
        Arc::new(Metrics::new().unwrap()).revision("probe", "012345678901", Vitals::none())
    }

    fn budget(limit: usize) -> MemoryBudget {
        MemoryBudget::new(limit, revision().instance())
    }

    #[test]
    fn what_is_held_is_counted_until_the_instance_ends() {
        let revision = revision();
        let mut budget = MemoryBudget::new(1 << 20, revision.instance());
        budget.memory_growing(0, 1 << 19, None).unwrap();
        budget.table_growing(0, 10, None).unwrap();
        budget.memory_growing(1 << 19, 1 << 30, None).unwrap();
        assert_eq!((revision.instances(), revision.memory()), (1, (1 << 19) + 80), "what was refused is not held");
        drop(budget);
        assert_eq!((revision.instances(), revision.memory()), (0, 0));
    }

    #[test]
    fn one_that_leaks_is_told_from_one_that_needs_much() {
        let mut budget = budget(64);
        for (held, settled, outgrew) in [(60, 60, false), (30, 2, false), (34, 2, true), (62, 60, false), (63, 60, true)] {
            budget.used = held;
            assert_eq!(budget.outgrew(settled), outgrew, "{held} of 64, {settled} after the first request");
        }
    }

    #[test]
    fn memories_and_tables_share_one_budget() {
        let mut budget = budget(1 << 20);
        assert!(budget.memory_growing(0, 1 << 19, None).unwrap());
        assert!(budget.memory_growing(0, 1 << 18, None).unwrap());
        assert!(!budget.table_growing(0, (1 << 18) / ELEMENT + 1, None).unwrap());
        assert!(budget.refused());
        budget.begin();
        assert!(!budget.refused());
        assert!(budget.table_growing(0, (1 << 18) / ELEMENT, None).unwrap());
        assert!(!budget.memory_growing(1 << 19, (1 << 19) + 1, None).unwrap());
    }

    #[test]
    fn what_a_memory_cannot_grow_to_is_not_counted() {
        let mut budget = budget(1 << 20);
        for _ in 0..3 {
            budget.memory_growing(0, 1 << 20, Some(1 << 16)).unwrap();
        }
        assert!(budget.memory_growing(0, 1 << 20, None).unwrap());
    }
}
