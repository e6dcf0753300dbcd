//! The memory budget of one instance: all of its linear memories and tables together with what the host keeps for its handles, within
//! what the host has for all.

use super::budget::InstanceClaim;
use crate::{
    capabilities::HandleMemory,
    telemetry::{InstanceMetrics, Limit},
};
use std::sync::Arc;
use wasmtime::ResourceLimiter;

/// Bytes that one table element takes.
const ELEMENT: usize = size_of::<usize>();

/// Sums what an instance holds, since wasmtime's own `StoreLimits` bounds each memory by itself.
pub(crate) struct MemoryBudget {
    limit: usize,
    used: usize,
    refused: Option<Refused>,
    claim: InstanceClaim,
    metrics: InstanceMetrics,
}

/// Who had no more memory for the guest. One that traps after this ran out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// `limits.memory` of its own settings.
    Own,
    /// The host, which has no room for more of this service.
    Host(Limit),
}

impl MemoryBudget {
    pub(super) fn new(limit: usize, claim: InstanceClaim, metrics: InstanceMetrics) -> Self {
        Self { limit, used: 0, refused: None, claim, metrics }
    }

    /// A new request begins: what was refused before is not its doing.
    pub(crate) fn begin(&mut self) {
        self.refused = None;
    }

    /// Whether, and by whom, the guest was refused more since the request began.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Whose the instance is.
    pub(super) fn account(&self) -> &Arc<super::budget::Account> {
        self.claim.account()
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
            self.refused = Some(Refused::Own);
            return false;
        }
        let more = wanted - self.used;
        if let Err(limit) = self.claim.grow(u64::try_from(more).unwrap_or(u64::MAX)) {
            self.refused = Some(Refused::Host(limit));
            return false;
        }
        self.metrics.grew(more);
        self.used = wanted;
        true
    }
}

impl HandleMemory for MemoryBudget {
    fn take(&mut self, bytes: usize) -> bool {
        self.grow(0, bytes, None)
    }

    fn give(&mut self, bytes: usize) {
        let bytes = bytes.min(self.used);
        self.used -= bytes;
        self.claim.shrink(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.metrics.shrank(bytes);
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
    use crate::{
        config::{BudgetConfig, ByteSize, PoolConfig},
        runtime::budget::Budgets,
        telemetry::{Metrics, RevisionMetrics, Vitals},
    };

    /// A host with so much memory for all.
    fn host(memory: ByteSize) -> (Budgets, Arc<RevisionMetrics>) {
        let metrics = Arc::new(Metrics::new().unwrap());
        let config = BudgetConfig { memory, ..BudgetConfig::default() };
        let budgets = Budgets::without_threads(&config, &PoolConfig::default(), &metrics);
        (budgets, metrics.revision("probe", "012345678901", Vitals::none()))
    }

    fn budget(limit: usize, host: &(Budgets, Arc<RevisionMetrics>)) -> MemoryBudget {
        MemoryBudget::new(limit, host.0.account("probe").instance(1).unwrap(), host.1.instance())
    }

    #[test]
    fn what_is_held_is_counted_until_the_instance_ends() {
        let host = host(ByteSize::mib(64));
        let mut budget = budget(1 << 20, &host);
        budget.memory_growing(0, 1 << 19, None).unwrap();
        budget.table_growing(0, 10, None).unwrap();
        budget.memory_growing(1 << 19, 1 << 30, None).unwrap();
        assert_eq!((host.1.instances(), host.1.memory()), (1, (1 << 19) + 80), "what was refused is not held");
        drop(budget);
        assert_eq!((host.1.instances(), host.1.memory()), (0, 0));
    }

    #[test]
    fn what_the_host_keeps_for_handles_is_counted_and_given_back() {
        let host = host(ByteSize::mib(1));
        let (mut budget, mut other) = (budget(1 << 20, &host), budget(1 << 20, &host));
        assert!(budget.memory_growing(0, 1 << 19, None).unwrap() && budget.take(1 << 19));
        assert!(!budget.take(1) && !other.take(1), "neither its own limit nor the host has more");
        budget.give(1 << 19);
        assert_eq!((budget.used(), host.1.memory()), (1 << 19, 1 << 19));
        assert!(other.take(1 << 19));
        drop((budget, other));
        assert_eq!(host.1.memory(), 0);
    }

    #[test]
    fn one_that_leaks_is_told_from_one_that_needs_much() {
        let host = host(ByteSize::mib(64));
        let mut budget = budget(64, &host);
        for (held, settled, outgrew) in [(60, 60, false), (30, 2, false), (34, 2, true), (62, 60, false), (63, 60, true)] {
            budget.used = held;
            assert_eq!(budget.outgrew(settled), outgrew, "{held} of 64, {settled} after the first request");
        }
    }

    #[test]
    fn memories_and_tables_share_one_budget() {
        let host = host(ByteSize::mib(64));
        let mut budget = budget(1 << 20, &host);
        assert!(budget.memory_growing(0, 1 << 19, None).unwrap());
        assert!(budget.memory_growing(0, 1 << 18, None).unwrap());
        assert!(!budget.table_growing(0, (1 << 18) / ELEMENT + 1, None).unwrap());
        assert_eq!(budget.refused(), Some(Refused::Own));
        budget.begin();
        assert_eq!(budget.refused(), None);
        assert!(budget.table_growing(0, (1 << 18) / ELEMENT, None).unwrap());
        assert!(!budget.memory_growing(1 << 19, (1 << 19) + 1, None).unwrap());
    }

    #[test]
    fn what_a_memory_cannot_grow_to_is_not_counted() {
        let host = host(ByteSize::mib(64));
        let mut budget = budget(1 << 20, &host);
        for _ in 0..3 {
            budget.memory_growing(0, 1 << 20, Some(1 << 16)).unwrap();
        }
        assert!(budget.memory_growing(0, 1 << 20, None).unwrap());
    }

    #[test]
    fn the_host_has_so_much_for_all_and_gets_it_back() {
        let host = host(ByteSize::mib(1));
        for _ in 0..3 {
            let mut first = budget(1 << 20, &host);
            assert!(first.memory_growing(0, 1 << 20, None).unwrap());
            let mut second = budget(1 << 20, &host);
            assert!(!second.memory_growing(0, 1, None).unwrap());
            assert_eq!(second.refused(), Some(Refused::Host(Limit::Memory)));
        }
    }
}
