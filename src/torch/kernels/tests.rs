//! Every kernel gives the same results as the eager ones.

use super::*;
use crate::{
    base::{
        Architecture, Base, BaseWeights, BatchNormStatistics, FeatureBatch, Outputs, SplitMix64,
    },
    torch::{Network, calibrate},
};

/// Returns smooth pictures: pure noise has no structure for a network to get wrong.
pub(in crate::torch) fn pictures(count: usize, side: u32) -> Vec<PreparedImage> {
    let picture = |number: usize| {
        let mut stream = SplitMix64::new(number as u64, "picture");
        let waves: [(f32, f32, f32); 4] = std::array::from_fn(|_| {
            (0.3 * stream.next_unit(), 0.3 * stream.next_unit(), 6.3 * stream.next_unit())
        });
        let pixels = (0..side * side * 3).map(|index| {
            let (x, y) = ((index / 3 % side) as f32, (index / 3 / side) as f32);
            let wave = |(kx, ky, phase): &(f32, f32, f32)| {
                (kx * x + ky * y + phase + (index % 3) as f32).sin()
            };
            (127.5 + 30.0 * waves.iter().map(wave).sum::<f32>()).clamp(0.0, 255.0) as u8
        });
        PreparedImage {
            side,
            pixels: pixels.collect(),
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    };
    (0..count).map(picture).collect()
}

fn run(weights: &BaseWeights, kernels: Box<dyn Kernels>, images: &[PreparedImage]) -> FeatureBatch {
    let mut network =
        Network::with_kernels(weights, kernels, Precision::Fp32, DeviceId::Cpu).unwrap();
    let images: Vec<&PreparedImage> = images.iter().collect();
    network.forward(&images, Outputs { pyramid: true, map: true }).unwrap()
}

pub(in crate::torch) fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let square = |sum: f32, value: f32| sum + value * value;
    let difference = found.iter().zip(expected).map(|(a, b)| a - b).fold(0.0, square);
    (difference / expected.iter().copied().fold(0.0, square)).sqrt()
}

pub(in crate::torch) fn resnet18() -> BaseWeights {
    BaseWeights::random(Architecture::ResNet18, 2, BatchNormStatistics::Random)
}

#[test]
fn fused_convolutions_match_eager_ones_at_any_batch_and_side() {
    assert!(
        has_fused_convolutions(),
        "the libtorch that Turret is built with has them on every processor"
    );
    let weights = resnet18();
    for (count, side) in [(1, 224), (3, 96), (5, 33)] {
        let images = pictures(count, side);
        let eager = run(&weights, Box::new(eager::Eager), &images);
        let fused = run(&weights, Box::new(onednn::OneDnn::new(Kind::Float)), &images);
        assert!(error(&fused.gap, &eager.gap) < 1e-5);
        assert!(error(&fused.pyramid, &eager.pyramid) < 1e-5);
        assert!(error(&fused.map, &eager.map) < 1e-5);
    }
}

#[test]
fn batch_rows_match_single_images() {
    let weights = resnet18();
    let images = pictures(4, 64);
    let together = run(&weights, Box::new(onednn::OneDnn::new(Kind::Float)), &images);
    for (row, image) in images.iter().enumerate() {
        let alone =
            run(&weights, Box::new(onednn::OneDnn::new(Kind::Float)), std::slice::from_ref(image));
        let width = alone.pyramid.len();
        assert!(
            error(&together.pyramid[row * width..][..width], &alone.pyramid) < 1e-5,
            "row {row}"
        );
    }
}

#[test]
fn calibrated_int8_is_near_fp32_and_keeps_its_ranges() {
    let weights = resnet18();
    let (ranges, errors) = calibrate(&weights, &pictures(8, 64), &mut |_, _| {}).unwrap();
    assert_eq!((ranges.images, errors.len()), (4, 4));
    let images = pictures(10, 64).split_off(8);
    let fp32 = run(&weights, Box::new(onednn::OneDnn::new(Kind::Float)), &images);
    let int8 = run(&weights, Box::new(int8::Int8::new(ranges.clone())), &images);
    for (found, expected) in
        [(&int8.gap, &fp32.gap), (&int8.pyramid, &fp32.pyramid), (&int8.map, &fp32.map)]
    {
        let error = error(found, expected);
        assert!(error > 0.0 && error < 0.1, "int8 is {error} off");
    }

    let folder = tempfile::tempdir().unwrap();
    let (uncalibrated, calibrated) =
        (folder.path().join("uncalibrated"), folder.path().join("calibrated"));
    weights.save(&uncalibrated).unwrap();
    BaseWeights::save_with_ranges(&uncalibrated, &ranges, &calibrated).unwrap();
    let read = BaseWeights::load(&calibrated).unwrap();
    assert_eq!(read.activation_ranges(), Some(&ranges));
    assert_eq!(read.identity(), weights.identity(), "heads fit both files");
    assert!(BaseWeights::load(&uncalibrated).unwrap().activation_ranges().is_none());
}

#[test]
fn int8_without_ranges_is_rejected() {
    assert!(matches!(
        kernels(DeviceId::Cpu, Precision::Int8, None),
        Err(PrecisionError::NotCalibrated)
    ));
}

#[test]
fn forward_rejects_pictures_of_two_sides() {
    let (small, large) = (pictures(1, 32), pictures(1, 64));
    let kernels = Box::new(onednn::OneDnn::new(Kind::Float));
    let mut network =
        Network::with_kernels(&resnet18(), kernels, Precision::Fp32, DeviceId::Cpu).unwrap();
    let result = network.forward(&[&small[0], &large[0]], Outputs::default());
    assert!(matches!(result, Err(crate::base::BaseError::MixedSides { first: 32, other: 64 })));
}
