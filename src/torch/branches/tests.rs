use super::*;
use crate::{
    base::{
        Base, BaseWeights, BranchError, BranchRows, Device, DeviceId, FeatureBatch, ForwardRequest,
        Outputs, Precision, PrecisionChoice, SplitMix64,
    },
    image::PreparedImage,
    torch::{
        Network, calibrate,
        kernels::{
            kernels,
            tests::{error, pictures, resnet18},
        },
        trainable_branch::TrainableBranch,
    },
};

const LAST: BranchPoint = BranchPoint { first_block: 1 };
const ALL: BranchPoint = BranchPoint { first_block: 0 };
const OUTPUTS: Outputs = Outputs { pyramid: true, map: false };

fn network(weights: &BaseWeights, precision: &str) -> Network {
    let precision: PrecisionChoice = precision.parse().unwrap();
    Network::new(weights, Device::Cpu, precision).unwrap()
}

/// Returns weights as training leaves them: every convolution slightly changed.
fn trained(weights: &BaseWeights, branch: BranchPoint) -> BranchWeights {
    let mut weights = weights.branch(branch).unwrap();
    let mut stream = SplitMix64::new(7, "training");
    for (name, tensor) in &mut weights.tensors {
        if name.contains("conv") {
            tensor.values.iter_mut().for_each(|value| *value *= 0.8 + 0.4 * stream.next_unit());
        }
    }
    weights
}

/// Returns features of these images, each through its own branch or through none.
fn mixed(
    network: &mut Network,
    images: &[&PreparedImage],
    of: &[Option<BranchId>],
) -> Vec<(Vec<f32>, Vec<f32>)> {
    let mut ids: Vec<BranchId> = of.iter().flatten().copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let rows_of =
        |id: BranchId| (0..of.len()).filter(|image| of[*image] == Some(id)).collect::<Vec<_>>();
    let branches: Vec<BranchRows> =
        ids.iter().map(|id| BranchRows { branch: *id, images: rows_of(*id) }).collect();
    let own = of.contains(&None);
    let features = network
        .forward_branches(images, ForwardRequest { outputs: OUTPUTS, own, branches: &branches })
        .unwrap();
    let widths = network.widths();
    let row = |batch: &FeatureBatch, row: usize| {
        let of = |values: &[f32], width: usize| values[row * width..(row + 1) * width].to_vec();
        (of(&batch.gap, widths.gap), of(&batch.pyramid, widths.pyramid))
    };
    let of_image = |image: usize| match of[image] {
        None => row(&features.own, image),
        Some(id) => {
            let branch = ids.binary_search(&id).unwrap();
            let position =
                branches[branch].images.iter().position(|other| *other == image).unwrap();
            row(&features.branches[branch], position)
        }
    };
    (0..of.len()).map(of_image).collect()
}

#[test]
fn branch_points_are_the_blocks_of_the_last_layer() {
    let names = |architecture: Architecture| {
        architecture.branches().iter().map(BranchPoint::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(Architecture::ResNet34), ["layer4", "layer4.1", "layer4.2"]);
    assert_eq!(names(Architecture::ResNet18), ["layer4", "layer4.1"]);
    assert!(names(Architecture::Vgg16).is_empty());
    assert!(matches!(Architecture::Vgg16.branch_stage(ALL), Err(BranchError::NoBlocks { .. })));
    let too_deep = Architecture::ResNet18.branch_stage(BranchPoint { first_block: 2 }).unwrap_err();
    assert!(too_deep.to_string().contains("expected one of layer4, layer4.1"), "{too_deep}");
    assert_eq!(Architecture::ResNet34.branch_map(ALL, 224), Ok([256, 14, 14]));
    assert_eq!(
        Architecture::ResNet34.branch_map(BranchPoint { first_block: 2 }, 224),
        Ok([512, 7, 7])
    );
    assert_eq!(Architecture::ResNet34.branch_map(ALL, 33), Ok([256, 3, 3]));
    // 3.664 billion multiply-adds in total, 115.6 million per convolution of 512 by 512 channels.
    let share = |branch| Architecture::ResNet34.branch_share(branch).unwrap();
    assert!(
        (share(BranchPoint { first_block: 2 }) - 0.0631).abs() < 5e-4
            && (share(ALL) - 0.175).abs() < 5e-3
    );
}

#[test]
fn branch_with_the_bases_weights_matches_the_base() {
    let weights = resnet18();
    let images = pictures(3, 96);
    let images: Vec<&PreparedImage> = images.iter().collect();
    for branch in [ALL, LAST] {
        let mut network = network(&weights, "fp32");
        let id = network.load_branch(&weights.branch(branch).unwrap()).unwrap();
        let own = mixed(&mut network, &images, &[None; 3]);
        let branched = mixed(&mut network, &images, &[Some(id); 3]);
        for (own, branched) in own.iter().zip(&branched) {
            assert!(
                error(&branched.0, &own.0) < 1e-5 && error(&branched.1, &own.1) < 1e-5,
                "{branch}"
            );
        }
    }
}

#[test]
fn mixed_batch_matches_each_image_alone() {
    let weights = resnet18();
    let mut network = network(&weights, "fp32");
    let [all, last] =
        [ALL, LAST].map(|branch| network.load_branch(&trained(&weights, branch)).unwrap());
    let other = network.load_branch(&weights.branch(LAST).unwrap()).unwrap();
    let images = pictures(6, 64);
    let images: Vec<&PreparedImage> = images.iter().collect();
    let of = [Some(last), None, Some(all), Some(last), Some(other), None];
    let together = mixed(&mut network, &images, &of);
    for (image, (gap, pyramid)) in together.iter().enumerate() {
        let alone = mixed(&mut network, &[images[image]], &[of[image]]);
        assert!(
            error(gap, &alone[0].0) < 1e-5 && error(pyramid, &alone[0].1) < 1e-5,
            "image {image}"
        );
    }
    // The branches differ.
    let own = mixed(&mut network, &images, &[None; 6]);
    assert!(error(&together[0].0, &own[0].0) > 0.01 && error(&together[2].0, &own[2].0) > 0.01);
    assert!(error(&together[4].0, &own[4].0) < 1e-5);
}

#[test]
fn branch_continues_an_int8_trunk_in_floats() {
    let pictures = pictures(8, 96);
    let images: Vec<&PreparedImage> = pictures.iter().collect();
    let weights = resnet18();
    let mut exact = network(&weights, "fp32");
    let (ranges, _) = calibrate(&weights, &pictures, &mut |_, _| {}).unwrap();
    let kernels = kernels(DeviceId::Cpu, Precision::Int8, Some(&ranges)).unwrap();
    let mut network =
        Network::with_kernels(&weights, kernels, Precision::Int8, DeviceId::Cpu).unwrap();
    let id = network.load_branch(&weights.branch(LAST).unwrap()).unwrap();
    let branched = mixed(&mut network, &images, &[Some(id); 8]);
    let expected = mixed(&mut exact, &images, &[None; 8]);
    for (branched, expected) in branched.iter().zip(&expected) {
        let error = error(&branched.0, &expected.0);
        assert!(error < 0.1, "{error}");
    }
}

#[test]
fn trainable_branch_computes_what_is_served() {
    let weights = resnet18();
    let images = pictures(3, 64);
    let images: Vec<&PreparedImage> = images.iter().collect();
    for branch in [ALL, LAST] {
        let trained = trained(&weights, branch);
        let mut network = network(&weights, "fp32");
        let id = network.load_branch(&trained).unwrap();
        let served = mixed(&mut network, &images, &[Some(id); 3]);
        let [channels, height, width] = Architecture::ResNet18.branch_map(branch, 64).unwrap();
        let maps = network.trunk_maps(&images, branch).unwrap();
        let shape = [3, channels, height, width].map(|side| side as i64);
        let maps = Tensor::from_slice(&maps).view(shape);
        let learning = TrainableBranch::new(Architecture::ResNet18, &trained).unwrap();
        let (average, maximum) = learning.pooled(&maps).unwrap();
        for (image, (gap, pyramid)) in served.iter().enumerate() {
            let row =
                |values: &Tensor| Vec::<f32>::try_from(values.get(image as i64).detach()).unwrap();
            assert!(error(&row(&average), gap) < 1e-5, "{branch}");
            let of_pyramid = &pyramid[pyramid.len() - 512..];
            assert!(error(&row(&maximum), of_pyramid) < 1e-5, "{branch}");
        }
        assert_eq!(learning.weights().unwrap(), trained, "nothing has been learnt yet");
    }
}

#[test]
fn gradients_reach_every_convolution_of_the_branch() {
    let weights = resnet18();
    let branch =
        TrainableBranch::new(Architecture::ResNet18, &weights.branch(ALL).unwrap()).unwrap();
    let names: Vec<String> =
        branch.parameters().iter().map(|(name, _)| (*name).to_owned()).collect();
    let of = |block: usize, part: &str| format!("layer4.{block}.{part}.weight");
    let expected =
        [of(0, "conv1"), of(0, "conv2"), of(0, "downsample.0"), of(1, "conv1"), of(1, "conv2")];
    assert_eq!(names, expected);
    let maps = Tensor::rand([2, 256, 4, 4], (Kind::Float, tch::Device::Cpu));
    let (average, _) = branch.pooled(&maps).unwrap();
    average.square().sum(Kind::Float).backward();
    for (name, parameter) in branch.parameters() {
        assert!(parameter.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0, "{name}");
    }
}

#[test]
fn load_rejects_mismatched_layers_by_name() {
    let weights = resnet18();
    let mut network = network(&weights, "fp32");
    let whole = weights.branch(LAST).unwrap();
    let mut rejection = |change: &dyn Fn(&mut BranchWeights)| {
        let mut weights = whole.clone();
        change(&mut weights);
        network.load_branch(&weights).unwrap_err().to_string()
    };
    let missing = rejection(&|weights| drop(weights.tensors.remove("layer4.1.bn2.bias")));
    assert!(missing.contains("lack tensor layer4.1.bn2.bias"), "{missing}");
    let tensor = whole.tensors["layer4.1.bn2.bias"].clone();
    let surplus =
        rejection(&|weights| drop(weights.tensors.insert("layer4.0.x".to_owned(), tensor.clone())));
    assert!(surplus.contains("layer4.0.x belongs to none"), "{surplus}");
    let shape = rejection(&|weights| {
        weights.tensors.get_mut("layer4.1.bn1.weight").unwrap().shape = vec![256]
    });
    assert!(shape.contains("[256], expected [512]"), "{shape}");
    let elsewhere = rejection(&|weights| weights.branch = BranchPoint { first_block: 2 });
    assert!(elsewhere.contains("has no branch point layer4.2"), "{elsewhere}");
}

#[test]
fn unloaded_branch_is_gone_and_its_id_not_reused() {
    let weights = resnet18();
    let mut network = network(&weights, "fp32");
    let own = weights.branch(LAST).unwrap();
    let first = network.load_branch(&own).unwrap();
    network.unload_branch(first);
    assert_ne!(network.load_branch(&own).unwrap(), first);
    let image = &pictures(1, 32)[0];
    let rows = [BranchRows { branch: first, images: vec![0] }];
    let request = ForwardRequest { outputs: OUTPUTS, own: false, branches: &rows };
    assert!(network.forward_branches(&[image], request).is_err());
}
