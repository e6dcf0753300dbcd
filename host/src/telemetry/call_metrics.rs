//! What is counted of the calls of one service to another. Looked up once a revision of the caller, so that a call only adds.

use super::{metrics::Metrics, revision_metrics::CLASSES};
use prometheus::IntCounter;
use std::{fmt, sync::Arc};

/// The calls of one service to another, by the class of the status that the caller got. Whoever holds it keeps its series.
pub struct CallMetrics {
    host: Arc<Metrics>,
    /// The caller and the callee.
    labels: (String, String),
    by_class: [IntCounter; CLASSES.len()],
}

impl CallMetrics {
    pub(super) fn new(host: Arc<Metrics>, labels: &(String, String), by_class: [IntCounter; CLASSES.len()]) -> Self {
        Self { host, labels: labels.clone(), by_class }
    }

    /// Counts a call; `status` is absent where its caller got no response.
    pub fn called(&self, status: Option<u16>) {
        let class = usize::from(status.unwrap_or_default() / 100);
        let [.., last] = &self.by_class;
        self.by_class.get(class).unwrap_or(last).inc();
    }

    /// The service that calls.
    pub fn caller(&self) -> &str {
        &self.labels.0
    }

    /// The service that is called.
    pub fn callee(&self) -> &str {
        &self.labels.1
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.by_class.iter().map(IntCounter::get).sum()
    }

    /// Those of them that got no response, or a status of 500 or more.
    pub fn failed(&self) -> u64 {
        let [none, .., server_errors] = &self.by_class;
        none.get() + server_errors.get()
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
        assert_eq!((stock.calls(), stock.failed()), (4, 2));
        let series = "hotbay_calls_total{callee=\"stock\",caller=\"orders\",code_class=\"none\"} 1";
        let again = orders.calls_to("stock");
        drop(stock);
        assert!(host.text().contains(series) && host.text().contains(series) && host.calls().len() == 1);
        drop(again);
        assert!(
            host.text().contains(series) && !host.text().contains("hotbay_calls_total{"),
            "told once more and then forgotten"
        );
    }
}
