//! The private layers of a deep head, as part of the network they are copied from.

use super::{
    Architecture, BaseWeights, BranchError, BranchPoint, BranchTensor, BranchWeights,
    layers::{ConvSpec, Stage, Step},
};

impl Architecture {
    /// Returns the blocks from the branch point on, as one stage.
    pub(crate) fn branch_stage(self, branch: BranchPoint) -> Result<Stage<ConvSpec>, BranchError> {
        let stage = self.last_stage_of_blocks()?;
        if branch.first_block >= stage.steps.len() {
            let known = self.branches().iter().map(BranchPoint::to_string).collect();
            return Err(BranchError::NoSuchBranchPoint { architecture: self, branch, known });
        }
        Ok(Stage { steps: stage.steps[branch.first_block..].to_vec(), ..stage })
    }

    fn last_stage_of_blocks(self) -> Result<Stage<ConvSpec>, BranchError> {
        let are_blocks =
            |stage: &Stage<_>| stage.steps.iter().all(|step| matches!(step, Step::Residual { .. }));
        self.stages().pop().filter(are_blocks).ok_or(BranchError::NoBlocks { architecture: self })
    }

    /// Returns every branch point, earliest first; none for a network without blocks (VGG16).
    pub fn branches(self) -> Vec<BranchPoint> {
        let blocks = self.last_stage_of_blocks().map_or(0, |stage| stage.steps.len());
        (0..blocks).map(|first_block| BranchPoint { first_block }).collect()
    }

    /// Returns channels, height and width of the map that the branch reads, for this picture side.
    pub fn branch_map(self, branch: BranchPoint, side: u32) -> Result<[usize; 3], BranchError> {
        let stage = self.branch_stage(branch)?;
        let inputs = first_spec(&stage).map_or(0, |spec| spec.inputs);
        // Halved by the stem, its pooling, and the first block of each layer after layer1.
        let halvings = if branch.first_block == 0 { 4 } else { 5 };
        let side = (0..halvings).fold(side as usize, |side, _| side.div_ceil(2));
        Ok([inputs, side, side])
    }

    /// Returns the branch's share of the multiply-adds of a forward pass at 224 pixels.
    pub fn branch_share(self, branch: BranchPoint) -> Result<f64, BranchError> {
        let own = self.branch_stage(branch)?.steps.len();
        let mut side = 224;
        let cost = |step: &Step<ConvSpec>| {
            let cost = step.multiply_adds(side);
            side = step.side_after(side);
            cost
        };
        let costs: Vec<u64> =
            self.stages().iter().flat_map(|stage| &stage.steps).map(cost).collect();
        let (all, shared) =
            (costs.iter().sum::<u64>(), costs[..costs.len() - own].iter().sum::<u64>());
        Ok((all - shared) as f64 / all as f64)
    }

    /// Returns every tensor of the private layers with its shape.
    pub fn branch_parameters(
        self,
        branch: BranchPoint,
    ) -> Result<Vec<(String, Vec<usize>)>, BranchError> {
        Ok(self.branch_stage(branch)?.parameters())
    }
}

pub(crate) fn first_spec(stage: &Stage<ConvSpec>) -> Option<&ConvSpec> {
    stage.steps.first().and_then(|step| step.convolutions().first().copied())
}

impl BaseWeights {
    /// Copies the base's own layers from the branch point on: the start of a deep head's training.
    pub fn branch(&self, branch: BranchPoint) -> Result<BranchWeights, BranchError> {
        let parameters = self.architecture().branch_parameters(branch)?.into_iter();
        let tensors = parameters.map(|(name, shape)| {
            let values = self.tensor(&name).to_vec();
            (name, BranchTensor { shape, values })
        });
        Ok(BranchWeights { branch, tensors: tensors.collect() })
    }
}
