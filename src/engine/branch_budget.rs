//! The memory of deep heads' private layers on the device.

use std::sync::{Arc, Mutex};

use super::{
    EngineError,
    background::BackgroundJob,
    queue::{Queue, lock},
};
use crate::{
    base::{Base, BaseError, BranchId, BranchWeights, LoadedBranch},
    metrics::Metrics,
};

/// Counted as the numbers in f32.
#[derive(Debug)]
pub(super) struct BranchBudget {
    budget: u64,
    used: Mutex<u64>,
    metrics: Arc<Metrics>,
}

/// Why a deep head's layers did not come onto the device.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadBranchError {
    #[error(
        "its private layers take {needed} bytes, and {used} of the {budget} for deep heads are in use; withdraw a deep \
         head or raise --deep-head-budget. To be replaced, a deep head needs room for its successor too"
    )]
    OverBudget { needed: u64, used: u64, budget: u64 },
    #[error("its private layers cannot run here: {detail}")]
    Refused { detail: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<BaseError> for LoadBranchError {
    fn from(error: BaseError) -> Self {
        Self::Refused { detail: error.to_string() }
    }
}

impl BranchBudget {
    pub(super) fn new(budget: u64, metrics: Arc<Metrics>) -> Self {
        metrics.deep_head_budget_bytes.set(budget as f64);
        Self { budget, used: Mutex::default(), metrics }
    }

    pub(super) fn free(&self) -> u64 {
        self.budget.saturating_sub(*lock(&self.used))
    }

    fn take(&self, needed: u64) -> Result<(), LoadBranchError> {
        let mut used = lock(&self.used);
        if needed > self.budget.saturating_sub(*used) {
            return Err(LoadBranchError::OverBudget { needed, used: *used, budget: self.budget });
        }
        *used += needed;
        self.show(*used);
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        let mut used = lock(&self.used);
        *used = used.saturating_sub(bytes);
        self.show(*used);
    }

    fn show(&self, used: u64) {
        self.metrics.deep_head_bytes.set(used as f64);
    }

    /// Runs on the device's thread: what was dropped before is counted as free by then.
    fn load(
        &self,
        base: &mut dyn Base,
        weights: &BranchWeights,
    ) -> Result<BranchId, LoadBranchError> {
        let bytes = weights.bytes();
        self.take(bytes)?;
        Ok(base.load_branch(weights).inspect_err(|_| self.give_back(bytes))?)
    }
}

/// Brings the layers onto the device between two batches; they leave it when what is given back is dropped. Blocks.
pub(super) fn load(
    memory: &Arc<BranchBudget>,
    queue: &Arc<Queue>,
    weights: BranchWeights,
) -> Result<LoadedBranch, LoadBranchError> {
    let (branch, bytes) = (weights.branch, weights.bytes());
    let of_device = memory.clone();
    let (background, answer) = BackgroundJob::new(move |base| of_device.load(base, &weights));
    queue.push_background(background)?;
    let id = answer.wait()??;
    let (memory, queue) = (memory.clone(), queue.clone());
    Ok(LoadedBranch::new(branch, id, move || {
        let (background, _unasked) = BackgroundJob::new(move |base| {
            base.unload_branch(id);
            memory.give_back(bytes);
        });
        // A queue that is closed will see no batch either.
        let _closed = queue.push_background(background);
    }))
}
