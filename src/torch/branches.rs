//! The private layers of deep heads, run on maps from the shared trunk.
//!
//! They are copies of the network's last blocks with their own weights.

use std::collections::HashMap;

use tch::{Kind, TchError, Tensor};

use super::{
    folding::FoldedConvolution,
    kernels::{Convolution, Kernels},
    pooling::Pooled,
};
use crate::base::{
    Architecture, BaseError, BranchError, BranchId, BranchPoint, BranchWeights,
    branch_layers::first_spec, layers::Step,
};

/// Returns the name of the convolution whose output the branch reads.
pub(super) fn reads(
    architecture: Architecture,
    branch: BranchPoint,
) -> Result<String, BranchError> {
    let stage = architecture.branch_stage(branch)?;
    Ok(first_spec(&stage).map(|spec| spec.reads.clone()).unwrap_or_default())
}

/// Checks that names and shapes are exactly those of the architecture.
pub(super) fn check(
    architecture: Architecture,
    weights: &BranchWeights,
) -> Result<(), BranchError> {
    let expected: HashMap<String, Vec<usize>> =
        architecture.branch_parameters(weights.branch)?.into_iter().collect();
    if let Some(name) = weights.tensors.keys().find(|name| !expected.contains_key(*name)) {
        return Err(BranchError::Unexpected { name: name.clone() });
    }
    for (name, expected) in expected {
        let tensor = weights
            .tensors
            .get(&name)
            .ok_or_else(|| BranchError::Missing { name: name.clone() })?;
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
    /// Always float: no calibration covers what a head has learnt.
    kernels: Box<dyn Kernels>,
    loaded: HashMap<BranchId, LoadedSteps>,
    next: u64,
}

#[derive(Debug)]
struct LoadedSteps {
    branch: BranchPoint,
    steps: Vec<Step<Box<dyn Convolution>>>,
}

impl Branches {
    pub(super) fn new(kernels: Box<dyn Kernels>) -> Self {
        Self { kernels, loaded: HashMap::new(), next: 0 }
    }

    /// Lays out the weights and runs them once, on a map of zeros for a picture of `usual_side`.
    pub(super) fn load(
        &mut self,
        architecture: Architecture,
        weights: &BranchWeights,
        usual_side: u32,
    ) -> Result<BranchId, BaseError> {
        check(architecture, weights)?;
        let stage = architecture.branch_stage(weights.branch)?;
        let [channels, height, width] = architecture.branch_map(weights.branch, usual_side)?;
        let tensor =
            |name: &str| weights.tensors.get(name).map_or(&[][..], |tensor| &tensor.values);
        let mut side = height;
        let mut steps = Vec::with_capacity(stage.steps.len());
        for step in &stage.steps {
            steps.push(step.prepared(&mut side, &mut |spec, input_side| {
                self.kernels.convolution(&FoldedConvolution::new(spec, &tensor), input_side)
            })?);
        }
        let id = BranchId(self.next);
        self.next += 1;
        self.loaded.insert(id, LoadedSteps { branch: weights.branch, steps });
        let shape = [1, height as i64, width as i64, channels as i64];
        let map =
            Tensor::f_zeros(shape, (Kind::Float, tch::Device::Cpu))?.f_permute([0, 3, 1, 2])?;
        let map = self.kernels.map_from_floats(map)?;
        self.run(id, map).inspect_err(|_| self.unload(id)).map(|_| id)
    }

    pub(super) fn unload(&mut self, id: BranchId) {
        self.loaded.remove(&id);
    }

    /// Returns where the branch leaves the trunk.
    pub(super) fn branch_point(&self, id: BranchId) -> Result<BranchPoint, BaseError> {
        self.loaded(id).map(|loaded| loaded.branch)
    }

    fn loaded(&self, id: BranchId) -> Result<&LoadedSteps, BaseError> {
        self.loaded.get(&id).ok_or_else(|| BaseError::Device {
            detail: format!("branch {} is not loaded on the device", id.0),
        })
    }

    /// Pools the branch's last map; `map` holds its own copy of the trunk's rows, to overwrite.
    pub(super) fn run(&self, id: BranchId, map: Tensor) -> Result<Pooled, BaseError> {
        let mut x = map;
        for step in &self.loaded(id)?.steps {
            x = step.run(&x, self.kernels.as_ref())?;
        }
        Ok(self.kernels.pooled(&x, "")?)
    }
}

/// Copies some images' maps, keeping them channels last.
pub(super) fn rows_of(map: &Tensor, images: &[usize]) -> Result<Tensor, TchError> {
    let images: Vec<i64> = images.iter().map(|image| *image as i64).collect();
    let index = Tensor::f_from_slice(&images)?.f_to_device(map.device())?;
    map.f_permute([0, 2, 3, 1])?.f_index_select(0, &index)?.f_permute([0, 3, 1, 2])
}

#[cfg(test)]
mod tests;
