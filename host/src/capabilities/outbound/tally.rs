//! Counts one outbound request, once, however it ends.

use crate::telemetry::{OutboundResult, ServiceMetrics};
use std::sync::Arc;

/// One request under way; counted when it is dropped.
pub(super) struct Tally {
    metrics: Arc<ServiceMetrics>,
    result: OutboundResult,
}

impl Tally {
    /// Ended before there was an answer, until something else is known.
    pub(super) fn new(metrics: Arc<ServiceMetrics>) -> Self {
        Self { metrics, result: OutboundResult::Abandoned }
    }

    /// How it stands now.
    pub(super) fn is(&mut self, result: OutboundResult) {
        self.result = result;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.metrics.asked(self.result);
    }
}
