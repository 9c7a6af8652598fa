//! A frozen network, ready to run on a device in one precision.

use tch::{TchError, Tensor, no_grad_guard};

use super::{
    branches::{self, Branches},
    cuda::{GraphStreams, Pixels, Reduced, Shape},
    folding::FoldedConvolution,
    kernels::{self, Convolution, Cudnn, Kernels},
    pooling::Pooled,
};
use crate::{
    base::{
        Architecture, Base, BaseError, BaseIdentity, BaseWeights, BranchId, BranchPoint,
        BranchWeights, Device, DeviceError, DeviceId, FeatureBatch, FeatureWidths, ForwardOutput,
        ForwardRequest, Outputs, PassStatus, Precision, PrecisionChoice, PrecisionError,
        layers::Stage,
    },
    image::PreparedImage,
};

/// Side of the pictures that weights are laid out for; other sides give the same results.
const USUAL_SIDE: u32 = 224;

/// A base of any architecture, its BatchNorms folded into the convolutions.
#[derive(Debug)]
pub struct Network {
    architecture: Architecture,
    identity: BaseIdentity,
    widths: FeatureWidths,
    device: DeviceId,
    precision: Precision,
    arithmetic: String,
    kernels: Box<dyn Kernels>,
    branches: Branches,
    /// Empty unless on a CUDA device.
    graph_streams: GraphStreams,
    stages: Vec<Stage<Box<dyn Convolution>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    #[error("libtorch rejected the weights: {0}")]
    Torch(#[from] TchError),
    #[error(transparent)]
    Forward(#[from] BaseError),
    #[error("calibration needs at least 2 pictures, found {found}; a few hundred are better")]
    TooFewPictures { found: usize },
}

impl Network {
    pub fn new(
        weights: &BaseWeights,
        device: Device,
        precision: PrecisionChoice,
    ) -> Result<Self, BuildError> {
        let device = device.resolve()?;
        let precision = precision.resolve(device)?;
        let kernels = kernels::kernels(device, precision, weights.activation_ranges())?;
        Ok(Self::with_kernels(weights, kernels, precision, device)?)
    }

    pub(super) fn with_kernels(
        weights: &BaseWeights,
        kernels: Box<dyn Kernels>,
        precision: Precision,
        device: DeviceId,
    ) -> Result<Self, TchError> {
        let architecture = weights.architecture();
        let mut stages = Vec::new();
        let mut side = USUAL_SIDE as usize;
        for stage in architecture.stages() {
            let mut steps = Vec::with_capacity(stage.steps.len());
            for step in &stage.steps {
                steps.push(step.prepared(&mut side, &mut |spec, input_side| {
                    kernels.convolution(
                        &FoldedConvolution::new(spec, &|name| weights.tensor(name)),
                        input_side,
                    )
                })?);
            }
            let Stage { channels, output, in_pyramid, .. } = stage;
            stages.push(Stage { steps, channels, output, in_pyramid });
        }
        let (identity, widths) = (weights.identity(), architecture.widths());
        let arithmetic = kernels.arithmetic();
        let branches = Branches::new(kernels::float_kernels(device, precision));
        let graph_streams = GraphStreams::open(device);
        Ok(Self {
            architecture,
            identity,
            widths,
            device,
            precision,
            arithmetic,
            kernels,
            branches,
            graph_streams,
            stages,
        })
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub fn device(&self) -> DeviceId {
        self.device
    }
}

impl Base for Network {
    fn identity(&self) -> &BaseIdentity {
        &self.identity
    }

    fn widths(&self) -> FeatureWidths {
        self.widths
    }

    fn arithmetic(&self) -> &str {
        &self.arithmetic
    }

    fn forward(
        &mut self,
        images: &[&PreparedImage],
        outputs: Outputs,
    ) -> Result<FeatureBatch, BaseError> {
        let request = ForwardRequest { outputs, own: true, branches: &[] };
        Ok(self.forward_branches(images, request)?.own)
    }

    fn forward_branches(
        &mut self,
        images: &[&PreparedImage],
        request: ForwardRequest<'_>,
    ) -> Result<ForwardOutput, BaseError> {
        let stream = match self.begin(images, request)? {
            PassStatus::Done(features) => return Ok(features),
            PassStatus::Running(stream) => stream,
        };
        let mut features = self.finish(stream)?;
        if !request.outputs.pyramid {
            features.own.pyramid.clear();
        }
        Ok(features)
    }

    fn begin(
        &mut self,
        images: &[&PreparedImage],
        request: ForwardRequest<'_>,
    ) -> Result<PassStatus, BaseError> {
        let _no_grad = no_grad_guard();
        check_sides(images)?;
        if let Some(cudnn) = self.kernels.recordable()
            && request.own
            && !request.outputs.map
            && request.branches.is_empty()
        {
            let pass = |pixels: &Pixels| whole_pass(cudnn, &self.stages, pixels);
            if let Some(stream) = self.graph_streams.begin(images, pass)? {
                return Ok(PassStatus::Running(stream));
            }
        }
        Ok(PassStatus::Done(self.compute(images, request)?))
    }

    fn finish(&mut self, stream: usize) -> Result<ForwardOutput, BaseError> {
        let found = self.graph_streams.finish(stream)?.ok_or(BaseError::NothingRuns { stream })?;
        let (Shape { images, .. }, mut pooled) = found;
        let (channels, last) = pooled.pop().ok_or(BaseError::NothingRuns { stream })?;
        let images: Vec<usize> = (0..images).collect();
        let own = gathered(Outputs { pyramid: true, map: false }, &pooled, channels, last, &images);
        Ok(ForwardOutput { own, branches: Vec::new() })
    }

    fn in_flight(&self) -> usize {
        self.graph_streams.in_flight()
    }

    fn trunk_maps(
        &mut self,
        images: &[&PreparedImage],
        branch: BranchPoint,
    ) -> Result<Vec<f32>, BaseError> {
        let _no_grad = no_grad_guard();
        check_sides(images)?;
        let reads = self.read_by(branch)?;
        let Some((last, stages)) = self.stages.split_last() else { return Ok(Vec::new()) };
        let mut x = self.kernels.input(images)?;
        for stage in stages {
            x = stage.run(x, self.kernels.as_ref())?;
        }
        for step in last.steps.iter().take(branch.first_block) {
            x = step.run(&x, self.kernels.as_ref())?;
        }
        Ok(self.kernels.values(&x, &reads)?)
    }

    fn load_branch(&mut self, weights: &BranchWeights) -> Result<BranchId, BaseError> {
        let _no_grad = no_grad_guard();
        self.branches.load(self.architecture, weights, USUAL_SIDE)
    }

    fn unload_branch(&mut self, id: BranchId) {
        self.branches.unload(id);
    }
}

impl Network {
    /// Computes a forward pass from start to end.
    fn compute(
        &self,
        images: &[&PreparedImage],
        request: ForwardRequest<'_>,
    ) -> Result<ForwardOutput, BaseError> {
        let outputs = request.outputs;
        let points = request.branches.iter().map(|rows| self.branches.branch_point(rows.branch));
        let points = points.collect::<Result<Vec<BranchPoint>, _>>()?;
        let Some((last, stages)) = self.stages.split_last() else {
            return Ok(ForwardOutput::default());
        };
        let mut x = self.kernels.input(images)?;
        let mut trunk = Vec::new();
        for stage in stages {
            x = stage.run(x, self.kernels.as_ref())?;
            if outputs.pyramid && stage.in_pyramid {
                trunk.push((stage.channels, self.kernels.pooled(&x, &stage.output)?));
            }
        }
        let mut features = ForwardOutput {
            branches: vec![FeatureBatch::default(); points.len()],
            ..Default::default()
        };
        let last_point = points.iter().map(|point| point.first_block).max();
        for (number, step) in last.steps.iter().enumerate() {
            // Before the step, which may overwrite its input.
            for (index, rows) in request.branches.iter().enumerate() {
                if points[index].first_block == number {
                    let map =
                        branches::rows_of(&self.branch_input(&x, points[index])?, &rows.images)?;
                    let pooled = self.branches.run(rows.branch, map)?;
                    features.branches[index] =
                        gathered(outputs, &trunk, last.channels, pooled, &rows.images);
                }
            }
            if !request.own && last_point.is_none_or(|point| point <= number) {
                return Ok(features);
            }
            x = step.run(&x, self.kernels.as_ref())?;
        }
        let pooled = self.kernels.pooled(&x, &last.output)?;
        let all: Vec<usize> = (0..images.len()).collect();
        features.own = gathered(outputs, &trunk, last.channels, pooled, &all);
        if outputs.map {
            features.own.map = self.kernels.values(&x, &last.output)?;
        }
        Ok(features)
    }

    /// Converts the trunk's map before the branch's first block to the floats that branches use.
    fn branch_input(&self, map: &Tensor, branch: BranchPoint) -> Result<Tensor, BaseError> {
        Ok(self.kernels.branch_input(map, &self.read_by(branch)?)?)
    }

    /// Returns the name of the convolution whose output the branch reads.
    fn read_by(&self, branch: BranchPoint) -> Result<String, BaseError> {
        Ok(branches::reads(self.architecture, branch)?)
    }
}

/// Checks that all images have the same side.
fn check_sides(images: &[&PreparedImage]) -> Result<(), BaseError> {
    let first = images.first().map_or(0, |image| image.side);
    match images.iter().find(|image| image.side != first) {
        Some(image) => Err(BaseError::MixedSides { first, other: image.side }),
        None => Ok(()),
    }
}

/// Starts the work of a forward pass without waiting, so that a CUDA graph can record it.
///
/// Always includes `pyramid`, which costs next to nothing, so that each shape needs one recording.
fn whole_pass(
    cudnn: &Cudnn,
    stages: &[Stage<Box<dyn Convolution>>],
    pixels: &Pixels,
) -> Result<Vec<Reduced>, TchError> {
    let mut x = cudnn.normalised(pixels)?;
    let mut reduced = Vec::new();
    for (number, stage) in stages.iter().enumerate() {
        x = stage.run(x, cudnn)?;
        let is_last = number + 1 == stages.len();
        if is_last || stage.in_pyramid {
            reduced.push(cudnn.reduced(&x, stage.channels)?);
        }
    }
    Ok(reduced)
}

/// Gathers the features of `images`: their rows of the trunk's stages, then `last`, a row for each.
fn gathered(
    outputs: Outputs,
    trunk: &[(usize, Pooled)],
    channels: usize,
    last: Pooled,
    images: &[usize],
) -> FeatureBatch {
    let mut batch = FeatureBatch::default();
    if outputs.pyramid {
        for (own, &image) in images.iter().enumerate() {
            let of_trunk = trunk.iter().map(|(channels, pooled)| (*channels, pooled, image));
            for (channels, Pooled { average, maximum }, image) in
                of_trunk.chain([(channels, &last, own)])
            {
                let of_image = image * channels..(image + 1) * channels;
                batch.pyramid.extend_from_slice(average.get(of_image.clone()).unwrap_or_default());
                batch.pyramid.extend_from_slice(maximum.get(of_image).unwrap_or_default());
            }
        }
    }
    batch.gap = last.average;
    batch
}
