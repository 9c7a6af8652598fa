//! What a network computes, step by step, independent of device and precision.

/// Name of the network's input among the names of convolutions.
pub(crate) const IMAGE: &str = "image";

/// A convolution: the names of its tensors, its shape, and which others it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConvSpec {
    /// Its weight is `<name>.weight`.
    pub(crate) name: String,
    /// Its BatchNorm, with tensors `<norm>.weight` and so on; without one it has `<name>.bias`.
    pub(crate) norm: Option<String>,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// Side of the square kernel; the padding is half of it.
    pub(crate) side: usize,
    pub(crate) stride: usize,
    /// The convolution whose output it reads, or [`IMAGE`]; pooling in between changes no range.
    pub(crate) reads: String,
    /// The convolution whose output is added before the last ReLU, if any.
    pub(crate) adds: Option<String>,
}

impl ConvSpec {
    pub(crate) fn weight_shape(&self) -> [usize; 4] {
        [self.outputs, self.inputs, self.side, self.side]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxPool {
    pub(crate) side: i64,
    pub(crate) stride: i64,
    pub(crate) padding: i64,
}

/// One step, where `C` is a convolution as a spec, a weight or something that runs.
#[derive(Debug, Clone)]
pub(crate) enum Step<C> {
    /// A convolution and a ReLU.
    Convolution(C),
    MaxPool(MaxPool),
    /// `relu(conv2(relu(conv1(x))) + shortcut(x))`, a basic block (He et al. 2016).
    Residual {
        conv1: C,
        conv2: C,
        /// A 1x1 convolution where the shape changes, otherwise the identity.
        shortcut: Option<C>,
    },
}

/// The steps between two points where features are taken.
#[derive(Debug, Clone)]
pub(crate) struct Stage<C> {
    pub(crate) steps: Vec<Step<C>>,
    /// Channels of its last map.
    pub(crate) channels: usize,
    /// The convolution whose output is its last map.
    #[cfg_attr(not(feature = "torch"), expect(dead_code, reason = "only execution reads it"))]
    pub(crate) output: String,
    /// Whether `pyramid` contains its averages and maxima.
    pub(crate) in_pyramid: bool,
}

impl Stage<ConvSpec> {
    /// Returns every tensor of the stage with its shape.
    pub(crate) fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = Vec::new();
        for spec in self.steps.iter().flat_map(Step::convolutions) {
            all.push((format!("{}.weight", spec.name), spec.weight_shape().to_vec()));
            let vectors = match &spec.norm {
                Some(norm) => ["weight", "bias", "running_mean", "running_var"]
                    .map(|part| format!("{norm}.{part}"))
                    .to_vec(),
                None => vec![format!("{}.bias", spec.name)],
            };
            all.extend(vectors.into_iter().map(|name| (name, vec![spec.outputs])));
        }
        all
    }
}

impl Step<ConvSpec> {
    /// Counts the multiply-adds for an input of this side.
    pub(crate) fn multiply_adds(&self, side: usize) -> u64 {
        let after = self.side_after(side);
        let of_spec = |spec: &ConvSpec| {
            (spec.weight_shape().iter().product::<usize>() * after * after) as u64
        };
        self.convolutions().into_iter().map(of_spec).sum()
    }

    /// Returns the side of the output for an input of this side.
    pub(crate) fn side_after(&self, side: usize) -> usize {
        match self {
            Self::MaxPool(pool) => {
                (side + 2 * pool.padding as usize - pool.side as usize) / pool.stride as usize + 1
            }
            Self::Convolution(spec) | Self::Residual { conv1: spec, .. } => {
                side.div_ceil(spec.stride)
            }
        }
    }
}

impl<C> Step<C> {
    pub(crate) fn convolutions(&self) -> Vec<&C> {
        match self {
            Self::Convolution(convolution) => vec![convolution],
            Self::MaxPool(_) => vec![],
            Self::Residual { conv1, conv2, shortcut } => {
                [conv1, conv2].into_iter().chain(shortcut).collect()
            }
        }
    }
}

/// Returns ResNet18 or ResNet34 (He et al. 2016): a stem, then four layers of basic blocks.
pub(crate) fn resnet(blocks_per_layer: [usize; 4]) -> Vec<Stage<ConvSpec>> {
    const CHANNELS: [usize; 4] = [64, 128, 256, 512];
    let stem = spec("conv1", Some("bn1"), [CHANNELS[0], 3, 7], 2, IMAGE);
    let mut last = stem.name.clone();
    let pool = MaxPool { side: 3, stride: 2, padding: 1 };
    let steps = vec![Step::Convolution(stem), Step::MaxPool(pool)];
    let mut stages =
        vec![Stage { steps, channels: CHANNELS[0], output: last.clone(), in_pyramid: false }];
    let mut inputs = CHANNELS[0];
    for (index, (outputs, count)) in CHANNELS.into_iter().zip(blocks_per_layer).enumerate() {
        let mut steps = Vec::with_capacity(count);
        for block in 0..count {
            let name = format!("layer{}.{block}", index + 1);
            // The map halves where the channels double; layer1 does neither.
            let stride = if inputs == outputs { 1 } else { 2 };
            let part = |part: &str| format!("{name}.{part}");
            let conv1 =
                spec(&part("conv1"), Some(&part("bn1")), [outputs, inputs, 3], stride, &last);
            let shortcut = (inputs != outputs).then(|| {
                let (conv, norm) = (part("downsample.0"), part("downsample.1"));
                spec(&conv, Some(&norm), [outputs, inputs, 1], stride, &last)
            });
            let added = shortcut.as_ref().map_or(&last, |shortcut| &shortcut.name).clone();
            let conv2 = ConvSpec {
                adds: Some(added),
                ..spec(&part("conv2"), Some(&part("bn2")), [outputs, outputs, 3], 1, &conv1.name)
            };
            last.clone_from(&conv2.name);
            inputs = outputs;
            steps.push(Step::Residual { conv1, conv2, shortcut });
        }
        stages.push(Stage { steps, channels: outputs, output: last.clone(), in_pyramid: true });
    }
    stages
}

/// Returns VGG16 without BatchNorm (Simonyan and Zisserman 2015, configuration D).
///
/// Each of its five stages ends in a pooling, which counts in torchvision's numbered names.
pub(crate) fn vgg16() -> Vec<Stage<ConvSpec>> {
    let (mut number, mut inputs, mut last) = (0, 3, IMAGE.to_owned());
    let mut stages = Vec::new();
    for (outputs, count) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)] {
        let mut steps = Vec::with_capacity(count + 1);
        for _ in 0..count {
            let convolution =
                spec(&format!("features.{number}"), None, [outputs, inputs, 3], 1, &last);
            last.clone_from(&convolution.name);
            steps.push(Step::Convolution(convolution));
            inputs = outputs;
            number += 2; // the ReLU counts too
        }
        steps.push(Step::MaxPool(MaxPool { side: 2, stride: 2, padding: 0 }));
        number += 1;
        stages.push(Stage { steps, channels: outputs, output: last.clone(), in_pyramid: true });
    }
    stages
}

fn spec(
    name: &str,
    norm: Option<&str>,
    [outputs, inputs, side]: [usize; 3],
    stride: usize,
    reads: &str,
) -> ConvSpec {
    let (name, norm, reads) = (name.to_owned(), norm.map(str::to_owned), reads.to_owned());
    ConvSpec { name, norm, outputs, inputs, side, stride, reads, adds: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(stages: &[Stage<ConvSpec>]) -> Vec<&ConvSpec> {
        stages.iter().flat_map(|stage| &stage.steps).flat_map(Step::convolutions).collect()
    }

    #[test]
    fn strides_only_at_the_start_of_layers_two_to_four() {
        let stages = resnet([3, 4, 6, 3]);
        let shortcuts: Vec<_> = specs(&stages)
            .into_iter()
            .filter(|spec| spec.side == 1)
            .map(|spec| (spec.name.clone(), spec.stride))
            .collect();
        let expected = [2, 3, 4].map(|layer| (format!("layer{layer}.0.downsample.0"), 2));
        assert_eq!(shortcuts, expected);
    }

    #[test]
    fn convolutions_read_and_add_only_earlier_outputs() {
        for stages in [resnet([2, 2, 2, 2]), vgg16()] {
            let mut known = vec![(IMAGE.to_owned(), 3)];
            for step in stages.iter().flat_map(|stage| &stage.steps) {
                // The shortcut is computed before the convolution that adds it.
                let mut specs = step.convolutions();
                specs.sort_by_key(|spec| spec.adds.is_some());
                for spec in specs {
                    assert!(known.contains(&(spec.reads.clone(), spec.inputs)), "{}", spec.name);
                    let added =
                        spec.adds.iter().all(|name| known.contains(&(name.clone(), spec.outputs)));
                    assert!(added, "{}", spec.name);
                    known.push((spec.name.clone(), spec.outputs));
                }
            }
        }
    }

    #[test]
    fn vgg16_has_torchvisions_names() {
        let stages = vgg16();
        let names: Vec<_> = specs(&stages).into_iter().map(|spec| spec.name.as_str()).collect();
        let numbers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
        assert_eq!(names, numbers.map(|number| format!("features.{number}")));
    }
}
