//! A frozen network, ready to run on a device in one precision.

use tch::{TchError, Tensor, no_grad_guard};

use super::{
    Base, BaseError, BaseWeights, Device, DeviceError, FeatureBatch, Precision, PrecisionChoice,
    PrecisionError, Wanted,
    folding::FoldedConvolution,
    kernels::{self, Convolution, Kernels},
    layout::{ConvolutionPlan, Stage, Step},
    pooling::Pooled,
};
use crate::{
    features::{BaseIdentity, FeatureWidths},
    image::PreparedImage,
};

/// Side of the pictures for which weights are laid out; others give the same answers.
const USUAL_SIDE: usize = 224;

/// Any of the architectures, its BatchNorms folded into the convolutions.
#[derive(Debug)]
pub struct Network {
    identity: BaseIdentity,
    widths: FeatureWidths,
    device: tch::Device,
    precision: Precision,
    arithmetic: String,
    kernels: Box<dyn Kernels>,
    stages: Vec<Stage<Box<dyn Convolution>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    #[error("libtorch refused the weights: {0}")]
    Torch(#[from] TchError),
    #[error(transparent)]
    Forward(#[from] BaseError),
    #[error("a calibration needs at least 2 pictures, found {found}; some hundred are better")]
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
        device: tch::Device,
    ) -> Result<Self, TchError> {
        let architecture = weights.architecture();
        let mut stages = Vec::new();
        let mut side = USUAL_SIDE;
        for stage in architecture.stages() {
            let mut steps = Vec::with_capacity(stage.steps.len());
            for step in &stage.steps {
                let before = side;
                side = side_after(step, before);
                steps.push(step.try_map(&mut |plan: &ConvolutionPlan| {
                    // A residual's second convolution reads what the first has made smaller.
                    let input_side = if plan.adds.is_some() { side } else { before };
                    kernels.convolution(&FoldedConvolution::new(plan, weights), input_side)
                })?);
            }
            let Stage { channels, output, in_pyramid, .. } = stage;
            stages.push(Stage { steps, channels, output, in_pyramid });
        }
        let (identity, widths) = (weights.identity(), architecture.widths());
        let arithmetic = kernels.arithmetic();
        Ok(Self { identity, widths, device, precision, arithmetic, kernels, stages })
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// `cpu` or `cuda:N`.
    pub fn device_name(&self) -> String {
        match self.device {
            tch::Device::Cuda(number) => format!("cuda:{number}"),
            tch::Device::Cpu | tch::Device::Mps | tch::Device::Vulkan => "cpu".to_owned(),
        }
    }
}

fn side_after(step: &Step<ConvolutionPlan>, side: usize) -> usize {
    match step {
        Step::MaxPool(pool) => {
            (side + 2 * pool.padding as usize - pool.side as usize) / pool.stride as usize + 1
        }
        Step::Convolution(plan) | Step::Residual { conv1: plan, .. } => side.div_ceil(plan.stride),
    }
}

impl Step<Box<dyn Convolution>> {
    fn run(&self, x: &Tensor, kernels: &dyn Kernels) -> Result<Tensor, TchError> {
        match self {
            Self::Convolution(convolution) => convolution.relu(x),
            Self::MaxPool(pool) => kernels.max_pool(x, *pool),
            Self::Residual { conv1, conv2, around } => {
                let inner = conv1.relu(x)?;
                let other = match around {
                    Some(around) => around.linear(x)?,
                    // Written over: nobody reads the block's input after this.
                    None => x.shallow_clone(),
                };
                conv2.add_relu(&inner, other)
            }
        }
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

    fn forward(&mut self, images: &[&PreparedImage], wanted: Wanted) -> Result<FeatureBatch, BaseError> {
        let first = images.first().map_or(0, |image| image.side);
        if let Some(image) = images.iter().find(|image| image.side != first) {
            return Err(BaseError::MixedSides { first, other: image.side });
        }
        let _no_grad = no_grad_guard();
        let kernels = self.kernels.as_ref();
        let mut x = kernels.input(images)?;
        let mut stages = self.stages.iter().peekable();
        let mut pooled = Vec::new();
        let mut batch = FeatureBatch::default();
        while let Some(stage) = stages.next() {
            for step in &stage.steps {
                x = step.run(&x, kernels)?;
            }
            let last = stages.peek().is_none();
            if last || (wanted.pyramid && stage.in_pyramid) {
                pooled.push((stage.channels, kernels.pooled(&x, &stage.output)?));
            }
            if last && wanted.map {
                batch.map = kernels.values(&x, &stage.output)?;
            }
        }
        if wanted.pyramid {
            batch.pyramid = pyramid(&pooled, images.len());
        }
        batch.gap = pooled.pop().map(|(_, last)| last.average).unwrap_or_default();
        Ok(batch)
    }
}

/// `[images, 2 * channels of all stages]`: averages, then maxima, stage by stage.
fn pyramid(stages: &[(usize, Pooled)], images: usize) -> Vec<f32> {
    let mut rows = Vec::new();
    for image in 0..images {
        for (channels, Pooled { average, maximum }) in stages {
            let of_image = image * channels..(image + 1) * channels;
            rows.extend_from_slice(average.get(of_image.clone()).unwrap_or_default());
            rows.extend_from_slice(maximum.get(of_image).unwrap_or_default());
        }
    }
    rows
}
