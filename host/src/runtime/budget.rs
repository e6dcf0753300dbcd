//! What all services of the host share, and what each of them has of it: memory, instances, requests, turns on the
//! lane, and the log; and where it is looked at for a profile.
//!
//! Half of a budget is split evenly between the services that there are: within its part a service is never refused. The other
//! half, and what is its own part anyway, is for whoever comes first, so that one that needs more gets more as long as others do
//! not. Once that is taken, those that have more than their part are refused, and they alone. So one that takes all it can get
//! keeps nobody else from their part, and all of it together never exceeds the budget.

use super::{
    lane::{Lane, Line},
    log_share::LogShare,
    profile::Sampler,
    ticks::Ticks,
};
use crate::{
    config::{BudgetConfig, PoolConfig},
    telemetry::{Budgeted, Limit, Metrics, ServiceMetrics},
};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tracing::warn;

/// Between two log lines that say that a budget is used up.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// The budgets of one host.
pub(crate) struct Budgets {
    lane: Arc<Lane>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

struct Shared {
    memory: Budget,
    instances: Budget,
    requests: Budget,
    accounts: Mutex<BTreeMap<String, Weak<Account>>>,
}

/// So much of one thing for all services together.
struct Budget {
    limit: Limit,
    used: Arc<Budgeted>,
    /// Up to this everybody is served.
    open: AtomicU64,
    /// What each service has for itself.
    part: AtomicU64,
    told: Mutex<Told>,
}

/// What the log was told of refusals, and when.
#[derive(Default)]
struct Told {
    last: Option<Instant>,
    since: u64,
}

/// What one service has of the budgets.
pub(crate) struct Account {
    shared: Arc<Shared>,
    metrics: Arc<ServiceMetrics>,
    line: Arc<Line>,
    log: Arc<LogShare>,
    ticks: Arc<Ticks>,
    sampler: Sampler,
    memory: AtomicU64,
    instances: AtomicU64,
    requests: AtomicU64,
}

impl Budgets {
    /// Starts the lane.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(crate) fn new(config: &BudgetConfig, pool: &PoolConfig, metrics: &Arc<Metrics>) -> io::Result<Self> {
        Ok(Self::on(Lane::start()?, config, pool, metrics))
    }

    fn on(lane: Lane, config: &BudgetConfig, pool: &PoolConfig, metrics: &Arc<Metrics>) -> Self {
        let budget = |limit, amount| Budget::new(limit, metrics.budget(limit.as_str(), amount));
        let shared = Shared {
            memory: budget(Limit::Memory, config.memory.0),
            instances: budget(Limit::Pool, pool.instances.0.into()),
            requests: budget(Limit::Requests, config.requests.0.into()),
            accounts: Mutex::default(),
        };
        Self { lane: Arc::new(lane), shared: Arc::new(shared), metrics: metrics.clone() }
    }

    /// The lane, whose clock is the engines'.
    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// The account of a service, one for all of its revisions. It is closed when the last of them has ended.
    pub(crate) fn account(&self, service: &str) -> Arc<Account> {
        let mut accounts = self.shared.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = accounts.get(service).and_then(Weak::upgrade) {
            return open;
        }
        let account = Arc::new(Account {
            shared: self.shared.clone(),
            metrics: self.metrics.service(service),
            line: self.lane.line(),
            log: Arc::new(LogShare::new()),
            ticks: self.lane.ticks().clone(),
            sampler: Sampler::default(),
            memory: AtomicU64::new(0),
            instances: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        });
        accounts.insert(service.to_owned(), Arc::downgrade(&account));
        self.shared.share_out(accounts.len());
        account
    }
}

impl Shared {
    fn share_out(&self, services: usize) {
        for budget in [&self.memory, &self.instances, &self.requests] {
            budget.share_out(u64::try_from(services.max(1)).unwrap_or(u64::MAX));
        }
    }
}

impl Budget {
    fn new(limit: Limit, used: Arc<Budgeted>) -> Self {
        let budget = Self { limit, used, open: AtomicU64::new(0), part: AtomicU64::new(0), told: Mutex::default() };
        budget.share_out(1);
        budget
    }

    fn share_out(&self, services: u64) {
        let whole = self.used.limit();
        let part = (whole / 2 / services).max(1);
        // All parts but one: that of the service which takes what is open is in it.
        let kept = part.saturating_mul(services.saturating_sub(1));
        self.part.store(part, Relaxed);
        self.open.store(whole.saturating_sub(kept).max(1), Relaxed);
    }

    /// Takes `amount` for the service that has `mine` of it. Up to `least` it may have where its part is less than that.
    fn take(&self, mine: &AtomicU64, amount: u64, least: u64) -> bool {
        let all = self.used.add(amount);
        let own = mine.fetch_add(amount, Relaxed).saturating_add(amount);
        if all <= self.open.load(Relaxed) || own <= self.part.load(Relaxed).max(least) {
            return true;
        }
        self.give(mine, amount);
        false
    }

    fn give(&self, mine: &AtomicU64, amount: u64) {
        mine.fetch_sub(amount, Relaxed);
        self.used.sub(amount);
    }

    /// Tells the log, but not more often than it is worth.
    fn tell(&self, service: &str, own: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.since = told.since.saturating_add(1);
        if told.last.is_some_and(|last| last.elapsed() < TOLD_EVERY) {
            return;
        }
        let refused = std::mem::take(&mut told.since);
        told.last = Some(Instant::now());
        drop(told);
        let (limit, used, whole) = (self.limit.setting(), self.used.used(), self.used.limit());
        warn!(
            target: "hotbay::budget", service, limit, used, whole, own, refused,
            "the host is at its limit; a service that has more than its part of it was refused"
        );
    }
}

impl Account {
    /// Its place on the lane.
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Its share of the log.
    pub(super) fn log(&self) -> &Arc<LogShare> {
        &self.log
    }

    /// The clock that interrupts its guests.
    pub(super) fn ticks(&self) -> &Arc<Ticks> {
        &self.ticks
    }

    /// Where its guests are looked at for a profile.
    pub(super) fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// A request from its admission on, with the time in which it waits for a permit.
    ///
    /// # Errors
    /// Where the host has no room for more of this service.
    pub(crate) fn request(self: &Arc<Self>) -> Result<RequestClaim, Limit> {
        self.take(&self.shared.requests, &self.requests, 1)?;
        Ok(RequestClaim(self.clone()))
    }

    /// An instance that takes so many places of the pool, and has no memory yet.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(super) fn instance(self: &Arc<Self>, slots: u64) -> Result<InstanceClaim, Limit> {
        // The smallest of pools has room for one of the largest kind.
        let slots = slots.min(self.shared.instances.used.limit() / 2).max(1);
        if !self.shared.instances.take(&self.instances, slots, slots) {
            self.refused(Limit::Pool);
            return Err(Limit::Pool);
        }
        Ok(InstanceClaim { account: self.clone(), slots, memory: 0 })
    }

    /// So many bytes of memory, for what the host holds for it beside its instances.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(super) fn memory(self: &Arc<Self>, bytes: u64) -> Result<MemoryClaim, Limit> {
        self.take(&self.shared.memory, &self.memory, bytes)?;
        Ok(MemoryClaim { account: self.clone(), bytes })
    }

    /// Counts and tells that the host had no room.
    pub(super) fn refused(&self, limit: Limit) {
        let (budget, own) = match limit {
            Limit::Memory => (&self.shared.memory, &self.memory),
            Limit::Pool => (&self.shared.instances, &self.instances),
            _ => (&self.shared.requests, &self.requests),
        };
        self.metrics.refused(limit);
        budget.tell(self.metrics.name(), own.load(Relaxed));
    }

    fn take(&self, budget: &Budget, own: &AtomicU64, amount: u64) -> Result<(), Limit> {
        if budget.take(own, amount, 0) {
            return Ok(());
        }
        self.refused(budget.limit);
        Err(budget.limit)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut accounts = self.shared.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was opened meanwhile under the same name stays.
        if accounts.get(self.metrics.name()).is_some_and(|one| one.strong_count() == 0) {
            accounts.remove(self.metrics.name());
        }
        self.shared.share_out(accounts.len());
    }
}

/// A request that the host has room for. Given back when it is dropped.
pub(crate) struct RequestClaim(Arc<Account>);

impl Drop for RequestClaim {
    fn drop(&mut self) {
        self.0.shared.requests.give(&self.0.requests, 1);
    }
}

/// Memory beside that of instances. Given back when it is dropped.
pub(super) struct MemoryClaim {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for MemoryClaim {
    fn drop(&mut self) {
        self.account.shared.memory.give(&self.account.memory, self.bytes);
    }
}

/// An instance and its memory. Given back when it is dropped.
pub(super) struct InstanceClaim {
    account: Arc<Account>,
    slots: u64,
    memory: u64,
}

impl InstanceClaim {
    /// So many bytes more.
    ///
    /// # Errors
    /// As [`Account::request`].
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), Limit> {
        self.account.take(&self.account.shared.memory, &self.account.memory, bytes)?;
        self.memory = self.memory.saturating_add(bytes);
        Ok(())
    }

    /// So many bytes less, of those that it has.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.memory);
        self.account.shared.memory.give(&self.account.memory, bytes);
        self.memory -= bytes;
    }

    /// Whose it is.
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Drop for InstanceClaim {
    fn drop(&mut self) {
        let Account { shared, memory, instances, .. } = &*self.account;
        shared.memory.give(memory, self.memory);
        shared.instances.give(instances, self.slots);
    }
}

#[cfg(test)]
impl Budgets {
    /// Those of a host that runs no guest.
    pub(super) fn without_threads(config: &BudgetConfig, pool: &PoolConfig, metrics: &Arc<Metrics>) -> Self {
        Self::on(Lane::without_threads(1), config, pool, metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(whole: u64, services: u64) -> Budget {
        let budget = Budget::new(Limit::Requests, Arc::new(Metrics::new().unwrap()).budget("budget_requests", whole));
        budget.share_out(services);
        budget
    }

    fn take_all(budget: &Budget, mine: &AtomicU64) -> u64 {
        while budget.take(mine, 1, 0) {}
        mine.load(Relaxed)
    }

    #[test]
    fn alone_it_may_have_everything() {
        assert_eq!(take_all(&budget(100, 1), &AtomicU64::new(0)), 100);
    }

    #[test]
    fn who_takes_all_keeps_nobody_from_their_part() {
        let (budget, greedy) = (budget(100, 5), AtomicU64::new(0));
        assert_eq!(take_all(&budget, &greedy), 60, "all but the parts of four");
        for _ in 0..4 {
            assert_eq!(take_all(&budget, &AtomicU64::new(0)), 10);
        }
        assert_eq!(budget.used.used(), 100);
        budget.give(&greedy, 55);
        assert!(budget.take(&greedy, 1, 0), "what is given back is there again");
        assert!(!budget.take(&greedy, 20, 0));
    }

    #[test]
    fn what_takes_several_places_has_room_for_one_whatever_others_take() {
        let budget = budget(100, 50);
        take_all(&budget, &AtomicU64::new(0));
        let large = AtomicU64::new(0);
        assert!(budget.take(&large, 4, 4), "its part is one place");
        assert!(!budget.take(&large, 4, 4));
        assert_eq!(large.load(Relaxed), 4);
    }

    #[test]
    fn memory_beside_instances_is_given_back() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let config = BudgetConfig { memory: crate::config::ByteSize::mib(64), ..BudgetConfig::default() };
        let account = Budgets::without_threads(&config, &PoolConfig::default(), &metrics).account("one");
        let held = account.memory(40 << 20).unwrap();
        assert_eq!(account.memory(40 << 20).err(), Some(Limit::Memory));
        drop(held);
        assert!(account.memory(40 << 20).is_ok());
    }

    #[test]
    fn many_services_on_a_small_budget_have_one_each() {
        let budget = budget(3, 50);
        for _ in 0..50 {
            assert_eq!(take_all(&budget, &AtomicU64::new(0)), 1);
        }
    }
}
