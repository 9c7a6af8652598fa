//! ResNet18 and ResNet34 without `fc`, BatchNorm folded into the convolutions, in single precision.

use tch::{Kind, Tensor, no_grad_guard};

use super::{
    Base, BaseError, BaseWeights, Device, DeviceError, FeatureBatch, Wanted,
    architecture::{Block, CHANNELS},
};
use crate::{
    features::{BaseIdentity, FeatureWidths},
    image::PreparedImage,
};

/// torch.nn.BatchNorm2d's default, which torchvision's ResNets keep.
const BATCH_NORM_EPSILON: f64 = 1e-5;

/// A frozen ResNet on a device.
#[derive(Debug)]
pub struct ResNet {
    identity: BaseIdentity,
    widths: FeatureWidths,
    device: tch::Device,
    stem: Convolution,
    layers: [Vec<BasicBlock>; 4],
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("libtorch refused the weights: {0}")]
    Torch(#[from] tch::TchError),
}

/// A convolution with its BatchNorm folded in: `gamma (W x - mean) / sqrt(var + eps) + beta` is a convolution again.
#[derive(Debug)]
struct Convolution {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

#[derive(Debug)]
struct BasicBlock {
    conv1: Convolution,
    conv2: Convolution,
    downsample: Option<Convolution>,
}

impl ResNet {
    pub fn new(weights: &BaseWeights, device: Device) -> Result<Self, BuildError> {
        let device = device.resolve()?;
        let fold = |conv: &str, bn: &str, shape: [usize; 4], stride: i64| {
            Convolution::folded(weights, conv, bn, shape, stride, device)
        };
        let block = |block: &Block| -> Result<BasicBlock, tch::TchError> {
            let Block { name, inputs, outputs, stride } = block;
            let (inputs, outputs, stride) = (*inputs, *outputs, *stride);
            let conv = |number: u8, inputs, stride| {
                let (conv, bn) = (format!("{name}.conv{number}"), format!("{name}.bn{number}"));
                fold(&conv, &bn, [outputs, inputs, 3, 3], stride)
            };
            let around = |name: &str| {
                let (conv, bn) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
                fold(&conv, &bn, [outputs, inputs, 1, 1], stride)
            };
            Ok(BasicBlock {
                conv1: conv(1, inputs, stride)?,
                conv2: conv(2, outputs, 1)?,
                downsample: block.has_downsample().then(|| around(name)).transpose()?,
            })
        };
        let architecture = weights.architecture();
        let [layer1, layer2, layer3, layer4] = architecture
            .layers()
            .map(|blocks| blocks.iter().map(block).collect::<Result<Vec<_>, tch::TchError>>());
        Ok(Self {
            identity: weights.identity(),
            widths: architecture.widths(),
            device,
            stem: fold("conv1", "bn1", [CHANNELS[0], 3, 7, 7], 2)?,
            layers: [layer1?, layer2?, layer3?, layer4?],
        })
    }
}

impl ResNet {
    /// `cpu` or `cuda:N`.
    pub fn device_name(&self) -> String {
        match self.device {
            tch::Device::Cuda(number) => format!("cuda:{number}"),
            tch::Device::Cpu | tch::Device::Mps | tch::Device::Vulkan => "cpu".to_owned(),
        }
    }
}

impl Convolution {
    fn folded(
        weights: &BaseWeights,
        conv: &str,
        bn: &str,
        shape: [usize; 4],
        stride: i64,
        device: tch::Device,
    ) -> Result<Self, tch::TchError> {
        let [outputs, inputs, side, _] = shape;
        let part = |name: &str| weights.tensor(&format!("{bn}.{name}"));
        let (gamma, beta, mean, var) =
            (part("weight"), part("bias"), part("running_mean"), part("running_var"));
        let filters = weights.tensor(&format!("{conv}.weight")).chunks_exact(inputs * side * side);
        let mut weight = Vec::with_capacity(outputs * inputs * side * side);
        let mut bias = Vec::with_capacity(outputs);
        for ((((filter, gamma), beta), mean), var) in filters.zip(gamma).zip(beta).zip(mean).zip(var) {
            let scale = f64::from(*gamma) / (f64::from(*var) + BATCH_NORM_EPSILON).sqrt();
            weight.extend(filter.iter().map(|value| (f64::from(*value) * scale) as f32));
            bias.push((f64::from(*beta) - f64::from(*mean) * scale) as f32);
        }
        let tensor =
            |values: &[f32], shape: &[i64]| Tensor::f_from_slice(values)?.f_view(shape)?.f_to_device(device);
        Ok(Self {
            weight: tensor(&weight, &shape.map(|side| side as i64))?,
            bias: tensor(&bias, &[outputs as i64])?,
            stride,
            padding: side as i64 / 2,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, tch::TchError> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        x.f_conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], 1)
    }
}

impl BasicBlock {
    fn forward(&self, x: &Tensor) -> Result<Tensor, tch::TchError> {
        let inner = self.conv1.forward(x)?.f_relu_()?;
        let mut sum = self.conv2.forward(&inner)?;
        match &self.downsample {
            Some(downsample) => sum.f_add_(&downsample.forward(x)?)?.f_relu_(),
            None => sum.f_add_(x)?.f_relu_(),
        }
    }
}

impl Base for ResNet {
    fn identity(&self) -> &BaseIdentity {
        &self.identity
    }

    fn widths(&self) -> FeatureWidths {
        self.widths
    }

    fn forward(&mut self, images: &[&PreparedImage], wanted: Wanted) -> Result<FeatureBatch, BaseError> {
        let _no_grad = no_grad_guard();
        let mut x = self.stem.forward(&stack(images)?.f_to_device(self.device)?)?.f_relu_()?;
        x = x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        let mut pooled = Vec::new();
        for layer in &self.layers {
            for block in layer {
                x = block.forward(&x)?;
            }
            if wanted.pyramid {
                pooled.push(average(&x)?);
                pooled.push(x.f_amax([2, 3], false)?);
            }
        }
        Ok(FeatureBatch {
            gap: to_vec(&average(&x)?)?,
            pyramid: if wanted.pyramid { to_vec(&Tensor::f_cat(&pooled, 1)?)? } else { Vec::new() },
            map: if wanted.map { to_vec(&x)? } else { Vec::new() },
        })
    }
}

/// `[N, 3, side, side]`, normalised as torchvision does: `(pixel / 255 - mean) / std`.
fn stack(images: &[&PreparedImage]) -> Result<Tensor, BaseError> {
    let side = images.first().map_or(0, |image| image.side);
    let area = (side * side) as usize;
    let mut planes = vec![0.0f32; images.len() * 3 * area];
    for (image, planes) in images.iter().zip(planes.chunks_exact_mut((3 * area).max(1))) {
        if image.side != side {
            return Err(BaseError::MixedSides { first: side, other: image.side });
        }
        let (pixels, _) = image.pixels.as_chunks::<3>();
        for (channel, plane) in planes.chunks_exact_mut(area).enumerate() {
            let (mean, std) = (image.mean[channel], image.std[channel]);
            let normalised: [f32; 256] = std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
            for (out, pixel) in plane.iter_mut().zip(pixels) {
                *out = normalised[usize::from(pixel[channel])];
            }
        }
    }
    let side = i64::from(side);
    Ok(Tensor::f_from_slice(&planes)?.f_view([images.len() as i64, 3, side, side])?)
}

/// `[N, C, H, W] -> [N, C]`
fn average(map: &Tensor) -> Result<Tensor, tch::TchError> {
    map.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f32>, tch::TchError> {
    let tensor = tensor.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    let count = tensor.numel();
    let mut values = vec![0.0f32; count];
    tensor.f_copy_data(&mut values, count)?;
    Ok(values)
}
