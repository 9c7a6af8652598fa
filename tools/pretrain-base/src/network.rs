//! ResNet34 (He et al. 2016) under torchvision's names, with auxiliary classifiers for training.

use tch::{
    Kind, Tensor,
    nn::{self, Module as _, ModuleT as _},
    no_grad_guard,
};

use crate::loader::Batch;

/// Name in the variable store of the part that is kept.
pub(crate) const BASE: &str = "base";
const CHANNELS: [i64; 4] = [64, 128, 256, 512];
const BLOCKS: [usize; 4] = [3, 4, 6, 3];

#[derive(Debug)]
struct Convolution {
    conv: nn::Conv2D,
    config: nn::ConvConfig,
    bn: nn::BatchNorm,
}

impl Convolution {
    fn new(
        path: &nn::Path<'_>,
        names: (&str, &str),
        channels: (i64, i64),
        side: i64,
        stride: i64,
    ) -> Self {
        let (inputs, outputs) = channels;
        let config = nn::ConvConfig {
            stride,
            padding: side / 2,
            bias: false,
            ws_init: nn::Init::Kaiming {
                dist: nn::init::NormalOrUniform::Normal,
                fan: nn::init::FanInOut::FanOut,
                non_linearity: nn::init::NonLinearity::ReLU,
            },
            ..nn::ConvConfig::default()
        };
        let one =
            nn::BatchNormConfig { ws_init: nn::Init::Const(1.0), ..nn::BatchNormConfig::default() };
        Self {
            conv: nn::conv2d(at(path, names.0), inputs, outputs, side, config),
            config,
            bn: nn::batch_norm2d(at(path, names.1), outputs, one),
        }
    }

    /// Computes in the kind of `x`; tch's autocast is for CUDA only.
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let (weight, config) = (self.conv.ws.to_kind(x.kind()), self.config);
        let no_bias: Option<Tensor> = None;
        let y = x.conv2d(&weight, no_bias, [config.stride; 2], [config.padding; 2], [1, 1], 1);
        self.bn.forward_t(&y, train)
    }

    /// Zeroes the initial scale, so that the output starts at zero.
    fn starting_at_zero(self) -> Self {
        if let Some(scale) = &self.bn.ws {
            let _guard = no_grad_guard();
            let _ = scale.shallow_clone().zero_();
        }
        self
    }
}

/// Returns the path of a dotted name.
fn at<'a>(path: &nn::Path<'a>, name: &str) -> nn::Path<'a> {
    name.split('.').fold(path.clone(), |path, part| path / part)
}

#[derive(Debug)]
struct BasicBlock {
    conv1: Convolution,
    conv2: Convolution,
    downsample: Option<Convolution>,
}

impl BasicBlock {
    /// Returns a block that, unless the first of its layer, starts as the identity.
    ///
    /// It can therefore join at any time.
    fn new(path: &nn::Path<'_>, first: bool, inputs: i64, outputs: i64) -> Self {
        // The map halves where the channels double; layer1 does neither.
        let stride = if inputs == outputs { 1 } else { 2 };
        let around = || {
            Convolution::new(path, ("downsample.0", "downsample.1"), (inputs, outputs), 1, stride)
        };
        let conv2 = Convolution::new(path, ("conv2", "bn2"), (outputs, outputs), 3, 1);
        Self {
            conv1: Convolution::new(path, ("conv1", "bn1"), (inputs, outputs), 3, stride),
            conv2: if first { conv2 } else { conv2.starting_at_zero() },
            downsample: (inputs != outputs).then(around),
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let inner = self.conv2.forward(&self.conv1.forward(x, train).relu(), train);
        match &self.downsample {
            Some(downsample) => (inner + downsample.forward(x, train)).relu(),
            None => (inner + x).relu(),
        }
    }
}

/// A linear probe: standardised features and a linear layer for each target.
#[derive(Debug)]
struct Probe {
    standardise: nn::BatchNorm,
    /// Scale of the standardised features.
    ///
    /// AdamW moves every weight by about the learning rate; unscaled, a step would move the logits
    /// in proportion to the number of features.
    scale: f64,
    recipe: nn::Linear,
    structure: nn::Linear,
}

impl Probe {
    fn new(path: &nn::Path<'_>, width: i64, recipes: i64, structures: i64) -> Self {
        let config = nn::BatchNormConfig { affine: false, ..nn::BatchNormConfig::default() };
        Self {
            standardise: nn::batch_norm1d(path / "standardise", width, config),
            scale: 2.0 / (width as f64).sqrt(),
            recipe: nn::linear(path / "recipe", width, recipes, nn::LinearConfig::default()),
            structure: nn::linear(
                path / "structure",
                width,
                structures,
                nn::LinearConfig::default(),
            ),
        }
    }

    fn forward(&self, features: &Tensor, train: bool) -> [Tensor; 2] {
        let standard = self.standardise.forward_t(features, train) * self.scale;
        [self.recipe.forward(&standard), self.structure.forward(&standard)]
    }
}

/// Logits of a batch of `N` pictures.
#[derive(Debug)]
pub(crate) struct Logits {
    /// From `gap` and from `pyramid`, each `[N, recipes]`.
    recipe: [Tensor; 2],
    /// From `gap` and from `pyramid`, each `[N, structures]`.
    structure: [Tensor; 2],
    /// `[N, structures, rows, columns]`: the structure in each cell, from the map of layer3.
    cells: Tensor,
}

#[derive(Debug)]
pub(crate) struct Network {
    stem: Convolution,
    layers: Vec<Vec<BasicBlock>>,
    gap: Probe,
    pyramid: Probe,
    cells: nn::Conv2D,
}

impl Network {
    pub(crate) fn new(root: &nn::Path<'_>, recipes: usize, structures: usize) -> Self {
        let (recipes, structures) = (recipes as i64, structures as i64);
        let base = root / BASE;
        let mut inputs = CHANNELS[0];
        let mut layers = Vec::new();
        for (index, (outputs, blocks)) in CHANNELS.into_iter().zip(BLOCKS).enumerate() {
            let layer = &base / format!("layer{}", index + 1);
            let block = |number: usize| {
                let inputs = if number == 0 { inputs } else { outputs };
                BasicBlock::new(&(&layer / number), number == 0, inputs, outputs)
            };
            layers.push((0..blocks).map(block).collect());
            inputs = outputs;
        }
        Self {
            stem: Convolution::new(&base, ("conv1", "bn1"), (3, CHANNELS[0]), 7, 2),
            layers,
            gap: Probe::new(&(root / "gap"), CHANNELS[3], recipes, structures),
            pyramid: Probe::new(
                &(root / "pyramid"),
                2 * CHANNELS.iter().sum::<i64>(),
                recipes,
                structures,
            ),
            cells: nn::conv2d(
                root / "cells",
                CHANNELS[2],
                structures,
                1,
                nn::ConvConfig::default(),
            ),
        }
    }

    /// Runs the first `depth` blocks of each layer on `pixels`, `[N, 3, side, side]`.
    ///
    /// Computes in the kind of `pixels`; logits are fp32.
    pub(crate) fn forward(&self, pixels: &Tensor, depth: usize, train: bool) -> Logits {
        let mut x = self.stem.forward(pixels, train).relu().max_pool2d(
            [3, 3],
            [2, 2],
            [1, 1],
            [1, 1],
            false,
        );
        let (mut pooled, mut maps) = (Vec::new(), Vec::new());
        for layer in &self.layers {
            for block in layer.iter().take(depth) {
                x = block.forward(&x, train);
            }
            pooled.push(x.mean_dim([2i64, 3].as_slice(), false, Kind::Float));
            pooled.push(x.amax([2, 3], false).to_kind(Kind::Float));
            maps.push(x.shallow_clone());
        }
        // The pyramid trains the early layers directly; its probe is what a head will be.
        let [recipe_of_gap, structure_of_gap] = self.gap.forward(&pooled[6], train);
        let [recipe_of_pyramid, structure_of_pyramid] =
            self.pyramid.forward(&Tensor::cat(&pooled, 1), train);
        Logits {
            recipe: [recipe_of_gap, recipe_of_pyramid],
            structure: [structure_of_gap, structure_of_pyramid],
            cells: self.cells.forward(&maps[2].to_kind(Kind::Float)),
        }
    }
}

impl Logits {
    /// Returns the sum of the mean cross-entropies in nats.
    pub(crate) fn loss(&self, batch: &Batch) -> Tensor {
        let sum = |logits: &[Tensor; 2], target: &Tensor| {
            logits[0].cross_entropy_for_logits(target) + logits[1].cross_entropy_for_logits(target)
        };
        let each_cell = self.cells.permute([0, 2, 3, 1]).flatten(0, 2);
        sum(&self.recipe, &batch.recipe)
            + sum(&self.structure, &batch.structure)
            + each_cell.cross_entropy_for_logits(&batch.cells.flatten(0, 2))
    }

    /// Counts correct pictures: recipe from gap, from pyramid; structure from gap, from pyramid.
    pub(crate) fn right(&self, batch: &Batch) -> [f64; 4] {
        let right = |logits: &Tensor, target: &Tensor| {
            logits.argmax(1, false).eq_tensor(target).sum(Kind::Double).double_value(&[])
        };
        [
            right(&self.recipe[0], &batch.recipe),
            right(&self.recipe[1], &batch.recipe),
            right(&self.structure[0], &batch.structure),
            right(&self.structure[1], &batch.structure),
        ]
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{loader::Order, recipe::Recipe};

    fn network_and_batch() -> (nn::VarStore, Network, Batch) {
        tch::manual_seed(0);
        let variables = nn::VarStore::new(Device::Cpu);
        let network = Network::new(&variables.root(), 3, 49);
        let order = Order { first_number: 0, count: 4, side: 32, difficulty: 0.0 };
        (variables, network, Batch::draw(&Recipe::draw_all(3, 0), 0, order))
    }

    #[test]
    fn joining_blocks_change_no_logits() {
        let (_variables, network, batch) = network_and_batch();
        let _guard = no_grad_guard();
        let [shallow, deep] = [1, 6].map(|depth| network.forward(&batch.pixels, depth, false));
        assert!(shallow.recipe[0].allclose(&deep.recipe[0], 1e-5, 1e-6, false));
        assert!(shallow.cells.allclose(&deep.cells, 1e-5, 1e-6, false));
    }

    #[test]
    fn bf16_is_close_to_fp32_in_loss_and_gradients() {
        let (variables, network, batch) = network_and_batch();
        let weight = &variables.variables()["base.layer2.0.conv1.weight"];
        let [fp32, bf16] = [Kind::Float, Kind::BFloat16].map(|kind| {
            let loss = network.forward(&batch.pixels.to_kind(kind), 1, false).loss(&batch);
            assert_eq!(loss.kind(), Kind::Float);
            let [gradient] =
                <[Tensor; 1]>::try_from(Tensor::run_backward(&[&loss], &[weight], false, false))
                    .unwrap();
            (loss.double_value(&[]), gradient)
        });
        assert!((bf16.0 / fp32.0 - 1.0).abs() < 0.02, "{} {}", bf16.0, fp32.0);
        let [one, other] = [bf16.1.flatten(0, -1), fp32.1.flatten(0, -1)];
        let alike = Tensor::cosine_similarity(&one, &other, 0, 1e-8).double_value(&[]);
        assert!(alike > 0.98, "{alike}");
    }
}
