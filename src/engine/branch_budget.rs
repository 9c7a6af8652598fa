//! The device memory of deep heads' private layers.

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

/// A budget in bytes, with every parameter counted as f32.
#[derive(Debug)]
pub(super) struct BranchBudget {
    budget: u64,
    used: Mutex<u64>,
    metrics: Arc<Metrics>,
}

/// Why a deep head's layers were not loaded onto the device.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadBranchError {
    #[error(
        "its private layers take {needed} bytes, but {used} of the {budget} for deep heads are in \
         use; withdraw a deep head or raise --deep-head-budget (until it is replaced, a deep head \
         needs room beside its successor)"
    )]
    OverBudget { needed: u64, used: u64, budget: u64 },
    #[error("its private layers cannot run here: {detail}")]
    Refused { detail: String },
    #[error("its private layers could not be loaded: {detail}")]
    Device { detail: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<BaseError> for LoadBranchError {
    fn from(error: BaseError) -> Self {
        let detail = error.to_string();
        match error {
            BaseError::Branch(_) => Self::Refused { detail },
            BaseError::Device { .. }
            | BaseError::MixedSides { .. }
            | BaseError::NothingRuns { .. } => Self::Device { detail },
        }
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

    fn reserve(&self, needed: u64) -> Result<(), LoadBranchError> {
        let mut used = lock(&self.used);
        if needed > self.budget.saturating_sub(*used) {
            return Err(LoadBranchError::OverBudget { needed, used: *used, budget: self.budget });
        }
        *used += needed;
        self.show(*used);
        Ok(())
    }

    fn release(&self, bytes: u64) {
        let mut used = lock(&self.used);
        *used = used.saturating_sub(bytes);
        self.show(*used);
    }

    fn show(&self, used: u64) {
        self.metrics.deep_head_bytes.set(used as f64);
    }

    /// Runs on the device thread, where layers dropped earlier are already released.
    fn load(
        &self,
        base: &mut dyn Base,
        weights: &BranchWeights,
    ) -> Result<BranchId, LoadBranchError> {
        let bytes = weights.bytes();
        self.reserve(bytes)?;
        Ok(base.load_branch(weights).inspect_err(|_| self.release(bytes))?)
    }
}

/// Loads the layers onto the device between two batches; dropping the result unloads them. Blocks.
pub(super) fn load(
    budget: &Arc<BranchBudget>,
    queue: &Arc<Queue>,
    weights: BranchWeights,
) -> Result<LoadedBranch, LoadBranchError> {
    let (branch, bytes) = (weights.branch, weights.bytes());
    let on_device = budget.clone();
    let (background, answer) = BackgroundJob::new(move |base| on_device.load(base, &weights));
    queue.push_background(background)?;
    let id = answer.wait()??;
    let (budget, queue) = (budget.clone(), queue.clone());
    Ok(LoadedBranch::new(branch, id, move || {
        let (background, _unused) = BackgroundJob::new(move |base| {
            base.unload_branch(id);
            budget.release(bytes);
        });
        // Once the queue is closed, no further batch needs the memory.
        let _closed = queue.push_background(background);
    }))
}
