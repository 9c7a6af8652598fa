//! Turret's features against torchvision's, by the files that `make golden` wrote with it.

use std::path::{Path, PathBuf};

use turret::{
    base::{
        Architecture, Base, BaseWeights, BatchNormStatistics, Device, Outputs, Precision,
        PrecisionChoice, SplitMix64,
    },
    image::{ImageLimits, ImageSource, PreparedImage, Preprocess, decode},
    tensor_file::TensorFile,
    torch::Network,
    train::features::pipeline::PIPELINE,
};

const SEED: u64 = 1;
const SIDE: usize = 224;
/// Channels of each stage, averaged and then maximised; VGG16 has one stage more than a ResNet.
///
/// Compared block by block: an error in the first would not show beside the last, the largest.
const PYRAMID_BLOCKS: [usize; 10] = [64, 64, 128, 128, 256, 256, 512, 512, 512, 512];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Returns bytes of the stream `image/0`, as `tools/parity/seeded.py` draws them.
fn seeded_bytes(count: usize) -> Vec<u8> {
    let mut stream = SplitMix64::new(SEED, "image/0");
    std::iter::repeat_with(|| (stream.next_u64() >> 56) as u8).take(count).collect()
}

fn prepared(pixels: Vec<u8>) -> PreparedImage {
    let Preprocess { mean, std, .. } = Preprocess::default();
    PreparedImage { side: SIDE as u32, pixels: pixels.into(), mean, std }
}

fn noise() -> PreparedImage {
    prepared(seeded_bytes(SIDE * SIDE * 3))
}

/// Returns 14x14 pixels, each enlarged to 16x16.
fn smooth() -> PreparedImage {
    let small = seeded_bytes(14 * 14 * 3);
    let pixel = |x: usize, y: usize| &small[(y / 16 * 14 + x / 16) * 3..][..3];
    prepared(
        (0..SIDE).flat_map(|y| (0..SIDE).flat_map(move |x| pixel(x, y).iter().copied())).collect(),
    )
}

/// Returns the largest difference relative to the largest expected value.
fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let difference =
        found.iter().zip(expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    difference / largest
}

#[test]
fn features_equal_torchvisions() {
    for architecture in Architecture::ALL {
        let bytes = fs_err::read(golden(&format!("{architecture}.safetensors"))).unwrap();
        let expected = TensorFile::parse(&bytes).unwrap();
        let weights = BaseWeights::random(architecture, SEED, BatchNormStatistics::Random);
        let mut base =
            Network::new(&weights, Device::Cpu, PrecisionChoice(Some(Precision::Fp32))).unwrap();
        let widths = base.widths();
        let images = [noise(), smooth()];
        let outputs = Outputs { pyramid: true, map: true };
        // One batch of both: rows must not mix.
        let batch = base.forward(&[&images[0], &images[1]], outputs).unwrap();
        for (row, name) in ["noise", "smooth"].into_iter().enumerate() {
            let gap = &batch.gap[row * widths.gap..][..widths.gap];
            let error = relative_error(
                gap,
                &expected.values(&format!("{name}.gap"), &[widths.gap]).unwrap(),
            );
            assert!(error <= 1e-4, "{architecture} {name}.gap: {error}");
            let mut pyramid = &batch.pyramid[row * widths.pyramid..][..widths.pyramid];
            let golden = expected.values(&format!("{name}.pyramid"), &[widths.pyramid]).unwrap();
            let mut golden = golden.as_slice();
            for (block, width) in PYRAMID_BLOCKS.into_iter().enumerate() {
                if pyramid.is_empty() {
                    break;
                }
                let (found, rest) = pyramid.split_at(width);
                let (expected, golden_rest) = golden.split_at(width);
                let error = relative_error(found, expected);
                assert!(error <= 1e-4, "{architecture} {name}.pyramid block {block}: {error}");
                (pyramid, golden) = (rest, golden_rest);
            }
            // `gap` is the map's average.
            let map = &batch.map[row * widths.gap * 49..][..widths.gap * 49];
            let averages: Vec<f32> =
                map.chunks(49).map(|cells| cells.iter().sum::<f32>() / 49.0).collect();
            assert!(relative_error(&averages, gap) <= 1e-5, "{architecture} {name}: the 7x7 map");
        }
    }
}

#[test]
fn features_of_a_file_are_the_golden_ones_of_this_pipeline() {
    let file = fs_err::read(golden("preprocess/camera.jpg")).unwrap();
    let image = decode(&ImageSource::Encoded(file.into()), &ImageLimits::default()).unwrap();
    let prepared = Preprocess::default().apply(&image, None).unwrap();
    let weights = BaseWeights::random(Architecture::ResNet18, SEED, BatchNormStatistics::Random);
    let mut base =
        Network::new(&weights, Device::Cpu, PrecisionChoice(Some(Precision::Fp32))).unwrap();
    let batch = base.forward(&[&prepared], Outputs { pyramid: true, map: false }).unwrap();
    let found = [&batch.gap[..4], &batch.pyramid[..4], &batch.pyramid[64..68]].concat();
    // If this fails and the new features are right, raise PIPELINE with the numbers.
    let golden = [
        22.131575, 9.135201, 1.1307787, 5.7040787, 0.10228508, 0.0006586, 2.2419834, 1.9548888,
        4.387561, 0.39736006, 8.9373455, 7.3773327,
    ];
    assert_eq!(PIPELINE, 2);
    assert!(relative_error(&found, &golden) <= 1e-3, "{found:?}");
}

#[test]
fn forward_pass_never_changes_the_base() {
    let weights = BaseWeights::random(Architecture::ResNet18, SEED, BatchNormStatistics::Random);
    let mut base =
        Network::new(&weights, Device::Cpu, PrecisionChoice(Some(Precision::Fp32))).unwrap();
    let image = smooth();
    let first = base.forward(&[&image], Outputs { pyramid: true, map: false }).unwrap();
    for _ in 0..3 {
        base.forward(&[&image, &noise()], Outputs::default()).unwrap();
    }
    let last = base.forward(&[&image], Outputs { pyramid: true, map: false }).unwrap();
    assert_eq!(first, last);
}
