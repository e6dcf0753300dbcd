//! What is counted of the calls of one service to another. Looked up once a revision of the caller, so that a call only adds.

use super::{
    labels::CallResult,
    metrics::{Metrics, count},
    revision_metrics::CLASSES,
};
use prometheus::IntCounter;
use std::{fmt, sync::Arc};

/// The calls of one service to another: those by HTTP by the class of the status that the caller got, those of functions by how
/// they ended. Whoever holds it keeps its series.
pub struct CallMetrics {
    host: Arc<Metrics>,
    /// The caller and the callee.
    labels: (String, String),
    by_class: [IntCounter; CLASSES.len()],
    by_result: ByResult,
}

type ByResult = [(CallResult, IntCounter); CallResult::ALL.len()];

impl CallMetrics {
    pub(super) fn new(
        host: Arc<Metrics>,
        labels: &(String, String),
        by_class: [IntCounter; CLASSES.len()],
        by_result: ByResult,
    ) -> Self {
        Self { host, labels: labels.clone(), by_class, by_result }
    }

    /// Counts a call by HTTP; `status` is absent where its caller got no response.
    pub fn called(&self, status: Option<u16>) {
        let class = usize::from(status.unwrap_or_default() / 100);
        let [.., last] = &self.by_class;
        self.by_class.get(class).unwrap_or(last).inc();
    }

    /// Counts a call of a function.
    pub fn ended(&self, result: CallResult) {
        count(&self.by_result, result);
    }

    /// The service that calls.
    pub fn caller(&self) -> &str {
        &self.labels.0
    }

    /// The service that is called.
    pub fn callee(&self) -> &str {
        &self.labels.1
    }

    /// Calls by HTTP so far.
    pub fn calls(&self) -> u64 {
        self.by_class.iter().map(IntCounter::get).sum()
    }

    /// Those of them that got no response, or a status of 500 or more.
    pub fn failed(&self) -> u64 {
        let [none, .., server_errors] = &self.by_class;
        none.get() + server_errors.get()
    }

    /// Calls of functions so far.
    pub fn typed(&self) -> u64 {
        self.by_result.iter().map(|(_, counter)| counter.get()).sum()
    }

    /// Those of them that did not return.
    pub fn typed_failed(&self) -> u64 {
        self.by_result.iter().filter(|(result, _)| *result != CallResult::Answered).map(|(_, counter)| counter.get()).sum()
    }
}

impl fmt::Debug for CallMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallMetrics").field(&self.labels).finish()
    }
}

impl Drop for CallMetrics {
    fn drop(&mut self) {
        self.host.calls_ended(&self.labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_pair_and_end_with_the_last_who_counts() {
        let host = Arc::new(Metrics::new().unwrap());
        let orders = host.service("orders");
        let stock = orders.calls_to("stock");
        for status in [Some(200), Some(404), Some(503), None] {
            stock.called(status);
        }
        stock.ended(CallResult::Answered);
        stock.ended(CallResult::Refused);
        assert_eq!((stock.calls(), stock.failed(), stock.typed(), stock.typed_failed()), (4, 2, 2, 1));
        let series = "hotbay_calls_total{callee=\"stock\",caller=\"orders\",code_class=\"none\"} 1";
        let again = orders.calls_to("stock");
        drop(stock);
        assert!(host.text().contains(series) && host.text().contains(series) && host.calls().len() == 1);
        drop(again);
        assert!(host.text().contains(series) && !host.text().contains("callee=\"stock\""), "told once more and then forgotten");
    }
}
