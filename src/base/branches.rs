//! The private layers of deep heads: copies of the network's last blocks with weights of their own, run on maps that the
//! shared trunk has computed.

use std::collections::HashMap;

use tch::{Kind, TchError, Tensor};

use super::{
    Architecture, BaseError, BaseWeights, FeatureBatch, Wanted,
    folding::FoldedConvolution,
    kernels::{Convolution, Kernels},
    layout::{ConvolutionPlan, Stage, Step},
    pooling::Pooled,
};
use crate::branch::{Branch, BranchId, BranchTensor, BranchWeights};

/// Images of a batch that go through a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRows {
    pub branch: BranchId,
    /// Positions in the batch.
    pub images: Vec<usize>,
}

/// What a forward pass of a mixed batch is to bring.
#[derive(Debug, Clone, Copy)]
pub struct Split<'a> {
    pub wanted: Wanted,
    /// Whether the base's own features are wanted: without them the trunk ends where the last branch begins.
    pub own: bool,
    pub branches: &'a [BranchRows],
}

/// The features of a mixed batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BranchedFeatures {
    /// Those of the base itself, a row for every image; empty unless wanted.
    pub own: FeatureBatch,
    /// One for each of the [`BranchRows`], a row for each of its images.
    pub branches: Vec<FeatureBatch>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BranchError {
    #[error("{architecture} has no {branch} to branch off at; {} are there", .known.join(", "))]
    NoSuchPlace { architecture: Architecture, branch: Branch, known: Vec<String> },
    #[error(
        "{architecture} has no blocks that a head could have for itself; take a ResNet, or strategy feature-extraction"
    )]
    NoBlocks { architecture: Architecture },
    #[error("its private layers lack tensor {name}")]
    Missing { name: String },
    #[error("tensor {name} belongs to none of its private layers")]
    Unexpected { name: String },
    #[error("tensor {name} of its private layers has shape {found:?}, expected {expected:?}")]
    Shape { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error(
        "heads with layers of their own cannot run on this base; with --server, give the base file by --base instead"
    )]
    NotHere,
}

impl Architecture {
    /// The blocks from the branch on, as one stage.
    pub(super) fn branch_stage(self, branch: Branch) -> Result<Stage<ConvolutionPlan>, BranchError> {
        let stage = self.last_stage_of_blocks()?;
        if branch.first_block >= stage.steps.len() {
            let known = self.branches().iter().map(Branch::to_string).collect();
            return Err(BranchError::NoSuchPlace { architecture: self, branch, known });
        }
        Ok(Stage { steps: stage.steps[branch.first_block..].to_vec(), ..stage })
    }

    fn last_stage_of_blocks(self) -> Result<Stage<ConvolutionPlan>, BranchError> {
        let are_blocks =
            |stage: &Stage<_>| stage.steps.iter().all(|step| matches!(step, Step::Residual { .. }));
        self.stages().pop().filter(are_blocks).ok_or(BranchError::NoBlocks { architecture: self })
    }

    /// Every place where a head may branch off, the earliest first; none where there are no blocks.
    pub fn branches(self) -> Vec<Branch> {
        let blocks = self.last_stage_of_blocks().map_or(0, |stage| stage.steps.len());
        (0..blocks).map(|first_block| Branch { first_block }).collect()
    }

    /// Channels, height and width of the map that the branch reads, for a picture of this side.
    pub fn branch_map(self, branch: Branch, side: u32) -> Result<[usize; 3], BranchError> {
        let stage = self.branch_stage(branch)?;
        let inputs = first_plan(&stage).map_or(0, |plan| plan.inputs);
        // Halved by the stem, its pooling, and the first block of each layer behind the first.
        let halvings = if branch.first_block == 0 { 4 } else { 5 };
        let side = (0..halvings).fold(side as usize, |side, _| side.div_ceil(2));
        Ok([inputs, side, side])
    }

    /// The convolution whose result the branch reads.
    pub(super) fn branch_reads(self, branch: Branch) -> Result<String, BranchError> {
        let stage = self.branch_stage(branch)?;
        Ok(first_plan(&stage).map(|plan| plan.reads.clone()).unwrap_or_default())
    }

    /// Multiply-adds from the branch on, as a share of a whole forward pass of a picture of 224 pixels.
    pub fn branch_share(self, branch: Branch) -> Result<f64, BranchError> {
        let own = self.branch_stage(branch)?.steps.len();
        let mut side = 224;
        let cost = |step: &Step<ConvolutionPlan>| {
            let cost = step.multiply_adds(side);
            side = step.side_after(side);
            cost
        };
        let costs: Vec<u64> = self.stages().iter().flat_map(|stage| &stage.steps).map(cost).collect();
        let (all, shared) = (costs.iter().sum::<u64>(), costs[..costs.len() - own].iter().sum::<u64>());
        Ok((all - shared) as f64 / all as f64)
    }

    /// Every tensor of the private layers with its shape.
    pub fn branch_parameters(self, branch: Branch) -> Result<Vec<(String, Vec<usize>)>, BranchError> {
        Ok(self.branch_stage(branch)?.parameters())
    }
}

fn first_plan(stage: &Stage<ConvolutionPlan>) -> Option<&ConvolutionPlan> {
    stage.steps.first().and_then(|step| step.convolutions().first().copied())
}

impl BaseWeights {
    /// The base's own layers from the branch on: where a deep head's training starts.
    pub fn branch(&self, branch: Branch) -> Result<BranchWeights, BranchError> {
        let parameters = self.architecture().branch_parameters(branch)?.into_iter();
        let tensors = parameters.map(|(name, shape)| {
            let values = self.tensor(&name).to_vec();
            (name, BranchTensor { shape, values })
        });
        Ok(BranchWeights { branch, tensors: tensors.collect() })
    }
}

/// Names and shapes must be exactly those of the architecture.
pub(super) fn check(architecture: Architecture, weights: &BranchWeights) -> Result<(), BranchError> {
    let expected: HashMap<String, Vec<usize>> =
        architecture.branch_parameters(weights.branch)?.into_iter().collect();
    if let Some(name) = weights.tensors.keys().find(|name| !expected.contains_key(*name)) {
        return Err(BranchError::Unexpected { name: name.clone() });
    }
    for (name, expected) in expected {
        let tensor = weights.tensors.get(&name).ok_or_else(|| BranchError::Missing { name: name.clone() })?;
        let holds: usize = tensor.shape.iter().product();
        if tensor.shape != expected || tensor.values.len() != holds {
            return Err(BranchError::Shape { name, expected, found: tensor.shape.clone() });
        }
    }
    Ok(())
}

/// The branches that a network holds.
#[derive(Debug)]
pub(super) struct Branches {
    /// Always of floats: what a head has learnt is in no calibration.
    kernels: Box<dyn Kernels>,
    loaded: HashMap<BranchId, LoadedSteps>,
    next: u64,
}

#[derive(Debug)]
struct LoadedSteps {
    branch: Branch,
    steps: Vec<Step<Box<dyn Convolution>>>,
}

impl Branches {
    pub(super) fn new(kernels: Box<dyn Kernels>) -> Self {
        Self { kernels, loaded: HashMap::new(), next: 0 }
    }

    /// Lays the weights out and runs them once on a map of zeros for a picture of `usual_side`.
    pub(super) fn load(
        &mut self,
        architecture: Architecture,
        weights: &BranchWeights,
        usual_side: u32,
    ) -> Result<BranchId, BaseError> {
        check(architecture, weights)?;
        let stage = architecture.branch_stage(weights.branch)?;
        let [channels, height, width] = architecture.branch_map(weights.branch, usual_side)?;
        let tensor = |name: &str| weights.tensors.get(name).map_or(&[][..], |tensor| &tensor.values);
        let mut side = height;
        let mut steps = Vec::with_capacity(stage.steps.len());
        for step in &stage.steps {
            steps.push(step.prepared(&mut side, &mut |plan, input_side| {
                self.kernels.convolution(&FoldedConvolution::new(plan, &tensor), input_side)
            })?);
        }
        let id = BranchId(self.next);
        self.next += 1;
        self.loaded.insert(id, LoadedSteps { branch: weights.branch, steps });
        let shape = [1, height as i64, width as i64, channels as i64];
        let map = Tensor::f_zeros(shape, (Kind::Float, tch::Device::Cpu))?.f_permute([0, 3, 1, 2])?;
        let map = self.kernels.of_floats(map)?;
        self.run(id, map).inspect_err(|_| self.unload(id)).map(|_| id)
    }

    pub(super) fn unload(&mut self, id: BranchId) {
        self.loaded.remove(&id);
    }

    /// Where the branch leaves the trunk.
    pub(super) fn place(&self, id: BranchId) -> Result<Branch, BaseError> {
        self.loaded(id).map(|loaded| loaded.branch)
    }

    fn loaded(&self, id: BranchId) -> Result<&LoadedSteps, BaseError> {
        self.loaded
            .get(&id)
            .ok_or_else(|| BaseError::Device { detail: format!("branch {} is not on the device", id.0) })
    }

    /// The last map, from those rows of the trunk's map that are the branch's own to write over.
    pub(super) fn run(&self, id: BranchId, map: Tensor) -> Result<Pooled, BaseError> {
        let mut x = map;
        for step in &self.loaded(id)?.steps {
            x = step.run(&x, self.kernels.as_ref())?;
        }
        Ok(self.kernels.pooled(&x, "")?)
    }
}

/// A copy of some images' maps, channels last as they came.
pub(super) fn rows_of(map: &Tensor, images: &[usize]) -> Result<Tensor, TchError> {
    let images: Vec<i64> = images.iter().map(|image| *image as i64).collect();
    let index = Tensor::f_from_slice(&images)?.f_to_device(map.device())?;
    map.f_permute([0, 2, 3, 1])?.f_index_select(0, &index)?.f_permute([0, 3, 1, 2])
}

#[cfg(test)]
mod tests;
