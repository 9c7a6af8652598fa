//! Counts a request once, however it ends.

use std::{sync::Arc, time::Instant};

use super::{request::ClassifyError, status::code_name};
use crate::{
    engine::Answer,
    error::{ErrorKind, Problem},
    head::{Decision, Head},
    metrics::Metrics,
};

/// Lives as long as its request; if it is dropped unfinished, the caller went away.
#[derive(Debug)]
pub(super) struct Observed {
    metrics: Arc<Metrics>,
    rpc: &'static str,
    begun: Instant,
    /// The heads that were asked; empty while none is known, so that no request can invent a label.
    heads: Vec<Arc<Head>>,
    code: &'static str,
}

impl Observed {
    pub(super) fn new(metrics: Arc<Metrics>, rpc: &'static str, begun: Instant) -> Self {
        let code = code_name(ErrorKind::Cancelled);
        Self { metrics, rpc, begun, heads: Vec::new(), code }
    }

    pub(super) fn heads_found(&mut self, heads: &[Arc<Head>]) {
        self.heads = heads.to_vec();
    }

    /// Without verdicts to count.
    pub(super) fn answered(mut self) {
        self.code = "OK";
    }

    pub(super) fn judged(mut self, answer: &Answer) {
        self.code = "OK";
        for (head, judgement) in self.heads.iter().zip(&answer.judgements) {
            let decision = match judgement.decision {
                Decision::Pass => "PASS",
                Decision::Reject => "REJECT",
                Decision::Review => "REVIEW",
            };
            let label = &head.classes[judgement.winner].label;
            self.metrics.verdicts(head.task.as_str(), decision, label).inc();
        }
    }

    pub(super) fn failed(mut self, error: &ClassifyError) {
        self.code = code_name(error.kind());
        if let ClassifyError::Engine(error) = error
            && let Some(reason) = error.rejection()
        {
            self.metrics.rejected.with_label_values(&[reason]).inc();
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let (metrics, rpc, code) = (&self.metrics, self.rpc, self.code);
        if self.heads.is_empty() {
            metrics.requests(rpc, "", code).inc();
        }
        for head in &self.heads {
            metrics.requests(rpc, head.task.as_str(), code).inc();
        }
        metrics.request_duration.with_label_values(&[rpc]).observe(self.begun.elapsed().as_secs_f64());
    }
}
