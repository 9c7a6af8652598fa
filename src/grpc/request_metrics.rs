//! The metrics of one request, counted once however it ends.

use std::{sync::Arc, time::Instant};

use super::{request::RequestError, status::metrics_code};
use crate::{
    engine::Answer,
    error::ServiceError,
    head::{Decision, Head},
    metrics::{Code, DecisionLabel, Metrics, Rpc},
};

/// Counts its request when dropped: as cancelled unless an outcome was set.
#[derive(Debug)]
pub(super) struct RequestMetrics {
    metrics: Arc<Metrics>,
    rpc: Rpc,
    started: Instant,
    /// Empty until the heads are found, so that no request can invent a label.
    heads: Vec<Arc<Head>>,
    code: Code,
}

impl RequestMetrics {
    pub(super) fn new(metrics: Arc<Metrics>, rpc: Rpc, started: Instant) -> Self {
        Self { metrics, rpc, started, heads: Vec::new(), code: Code::Cancelled }
    }

    pub(super) fn heads_found(&mut self, heads: &[Arc<Head>]) {
        self.heads = heads.to_vec();
    }

    /// Records success without verdicts.
    pub(super) fn answered(&mut self) {
        self.code = Code::Ok;
    }

    pub(super) fn judged(&mut self, answer: &Answer) {
        self.code = Code::Ok;
        for (head, judgement) in self.heads.iter().zip(&answer.judgements) {
            let decision = match judgement.decision {
                Decision::Pass => DecisionLabel::Pass,
                Decision::Reject => DecisionLabel::Reject,
                Decision::Review => DecisionLabel::Review,
            };
            self.metrics.count_verdict(head.counters(), judgement.winner, decision);
        }
    }

    pub(super) fn failed(&mut self, error: &RequestError) {
        self.code = metrics_code(error.kind());
        if let RequestError::Engine(error) = error
            && let Some(reason) = error.rejection()
        {
            self.metrics.count_rejection(reason);
        }
    }
}

impl Drop for RequestMetrics {
    fn drop(&mut self) {
        let (metrics, rpc, code) = (&self.metrics, self.rpc, self.code);
        if self.heads.is_empty() {
            metrics.count_request(rpc, None, code);
        }
        for head in &self.heads {
            metrics.count_request(rpc, Some(head.counters()), code);
        }
        metrics.observe_request(rpc, self.started.elapsed());
    }
}
