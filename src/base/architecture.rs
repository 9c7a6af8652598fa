//! The supported networks, ResNet18, ResNet34 and VGG16, under torchvision's names.

use std::{fmt, str::FromStr};

use super::FeatureWidths;
use super::layers::{self, ConvSpec, Stage};
use crate::error::ParseNameError;

/// A torchvision network; the base is all of it except the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// He et al. 2016.
    ResNet18,
    /// He et al. 2016.
    ResNet34,
    /// Simonyan and Zisserman 2015.
    ///
    /// Its `gap` averages the last map, which torchvision's own classifier does not do.
    Vgg16,
}

impl Architecture {
    pub const ALL: [Self; 3] = [Self::ResNet18, Self::ResNet34, Self::Vgg16];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::Vgg16 => "vgg16",
        }
    }

    /// Lists all names for messages.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    pub(crate) fn stages(self) -> Vec<Stage<ConvSpec>> {
        match self {
            Self::ResNet18 => layers::resnet([2, 2, 2, 2]),
            Self::ResNet34 => layers::resnet([3, 4, 6, 3]),
            Self::Vgg16 => layers::vgg16(),
        }
    }

    pub fn widths(self) -> FeatureWidths {
        let stages = self.stages();
        let pyramid: usize =
            stages.iter().filter(|stage| stage.in_pyramid).map(|stage| stage.channels).sum();
        FeatureWidths { gap: stages.last().map_or(0, |stage| stage.channels), pyramid: 2 * pyramid }
    }

    /// Returns every parameter and statistic with its shape, the classifier left out.
    pub fn parameters(self) -> Vec<(String, Vec<usize>)> {
        self.stages().iter().flat_map(Stage::parameters).collect()
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Architecture {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.name() == text)
            .ok_or_else(|| ParseNameError::new("architecture", text, &Self::ALL.map(Self::name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torchvision's counts without the classifier: parameters plus BatchNorm statistics.
    #[test]
    fn parameter_counts_match_torchvision() {
        for (architecture, parameters, statistics) in [
            (Architecture::ResNet18, 11_176_512, 9_600),
            (Architecture::ResNet34, 21_284_672, 17_024),
            (Architecture::Vgg16, 14_714_688, 0),
        ] {
            let total: usize = architecture
                .parameters()
                .iter()
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum();
            assert_eq!(total, parameters + statistics, "{architecture}");
        }
    }

    #[test]
    fn widths_follow_the_last_map_and_the_pyramid_stages() {
        let widths = |architecture: Architecture| {
            let FeatureWidths { gap, pyramid } = architecture.widths();
            (gap, pyramid)
        };
        assert_eq!(widths(Architecture::ResNet34), (512, 1_920));
        assert_eq!(widths(Architecture::Vgg16), (512, 2_944));
    }
}
