//! The layout of the supported networks, under torchvision's names.

use std::{fmt, str::FromStr};

use crate::features::FeatureWidths;

/// ResNets of basic blocks (He et al. 2016), as torchvision builds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    ResNet18,
    ResNet34,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an architecture that Turret knows: resnet18 or resnet34 is wanted")]
pub struct UnknownArchitecture {
    pub text: String,
}

/// Channels of layer1..layer4.
pub(super) const CHANNELS: [usize; 4] = [64, 128, 256, 512];

/// One basic block: two 3x3 convolutions and the way around them.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// `layer2.0`, say.
    pub(super) name: String,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) stride: i64,
}

impl Block {
    /// The way around needs a 1x1 convolution where the shape changes.
    pub(super) fn has_downsample(&self) -> bool {
        self.stride != 1 || self.inputs != self.outputs
    }
}

impl Architecture {
    pub const ALL: [Self; 2] = [Self::ResNet18, Self::ResNet34];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
        }
    }

    const fn blocks_per_layer(self) -> [usize; 4] {
        match self {
            Self::ResNet18 => [2, 2, 2, 2],
            Self::ResNet34 => [3, 4, 6, 3],
        }
    }

    pub fn widths(self) -> FeatureWidths {
        FeatureWidths { gap: CHANNELS[3], pyramid: 2 * CHANNELS.iter().sum::<usize>() }
    }

    /// The blocks of layer1..layer4, each layer in order.
    pub(super) fn layers(self) -> [Vec<Block>; 4] {
        let mut inputs = CHANNELS[0];
        let mut number = 0;
        self.blocks_per_layer().map(|count| {
            let outputs = CHANNELS[number];
            number += 1;
            let blocks = (0..count).map(|index| {
                let stride = if index == 0 && number > 1 { 2 } else { 1 };
                let name = format!("layer{number}.{index}");
                Block { name, inputs: std::mem::replace(&mut inputs, outputs), outputs, stride }
            });
            blocks.collect()
        })
    }

    /// Every parameter and statistic with its shape, `fc` left out.
    pub fn parameters(self) -> Vec<(String, Vec<usize>)> {
        let mut all = Vec::new();
        let mut conv_bn = |conv: &str, bn: &str, outputs: usize, inputs: usize, side: usize| {
            all.push((format!("{conv}.weight"), vec![outputs, inputs, side, side]));
            for part in ["weight", "bias", "running_mean", "running_var"] {
                all.push((format!("{bn}.{part}"), vec![outputs]));
            }
        };
        conv_bn("conv1", "bn1", CHANNELS[0], 3, 7);
        for block in self.layers().iter().flatten() {
            let Block { name, inputs, outputs, .. } = block;
            conv_bn(&format!("{name}.conv1"), &format!("{name}.bn1"), *outputs, *inputs, 3);
            conv_bn(&format!("{name}.conv2"), &format!("{name}.bn2"), *outputs, *outputs, 3);
            if block.has_downsample() {
                let (conv, bn) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
                conv_bn(&conv, &bn, *outputs, *inputs, 1);
            }
        }
        all
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.name() == text)
            .ok_or_else(|| UnknownArchitecture { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torchvision's own counts without `fc`: parameters plus BatchNorm statistics.
    #[test]
    fn has_as_many_numbers_as_torchvision() {
        for (architecture, parameters, statistics) in
            [(Architecture::ResNet18, 11_176_512, 9_600), (Architecture::ResNet34, 21_284_672, 17_024)]
        {
            let total: usize =
                architecture.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert_eq!(total, parameters + statistics, "{architecture}");
        }
    }

    #[test]
    fn strides_only_at_the_start_of_layers_two_to_four() {
        let layers = Architecture::ResNet34.layers();
        let strided: Vec<_> =
            layers.iter().flatten().filter(|b| b.has_downsample()).map(|b| b.name.as_str()).collect();
        assert_eq!(strided, ["layer2.0", "layer3.0", "layer4.0"]);
    }
}
