//! Weights from a seed, to test against torchvision and to try Turret without pretrained files.
//!
//! `tools/parity/seeded.py` implements the same generator: one seed gives both the same network.

use std::collections::BTreeMap;

use super::{Architecture, BaseWeights};

/// A SplitMix64 stream (Steele et al. 2014), one per name.
#[derive(Debug, Clone)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Offsets the seed by the name's FNV-1a hash, so that two names have unrelated streams.
    pub fn new(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { state: seed.wrapping_add(hash) }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns the next value in `[0, 1)`, with 24 bits and so exact in f32.
    pub fn next_unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / 16_777_216.0)
    }
}

/// The values of the BatchNorms in a random network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchNormStatistics {
    /// torchvision's initial values, which change nothing.
    Identity,
    /// Random values, so that a mistake in folding them shows.
    Random,
}

impl BaseWeights {
    /// Draws Kaiming-uniform convolutions (He et al. 2015): `(2u - 1) sqrt(6 / fan_in)`.
    pub fn random(architecture: Architecture, seed: u64, statistics: BatchNormStatistics) -> Self {
        let tensors: BTreeMap<String, Vec<f32>> = architecture
            .parameters()
            .into_iter()
            .map(|(name, shape)| {
                let values = random_tensor(&name, &shape, seed, statistics);
                (name, values)
            })
            .collect();
        let origin = format!("random weights from seed {seed}; not pretrained");
        Self::new(architecture, tensors, origin)
    }
}

fn random_tensor(
    name: &str,
    shape: &[usize],
    seed: u64,
    statistics: BatchNormStatistics,
) -> Vec<f32> {
    let mut stream = SplitMix64::new(seed, name);
    let count = shape.iter().product();
    let part = name.rsplit('.').next().unwrap_or(name);
    if let [_, inputs, height, width] = *shape {
        let bound = (6.0 / (inputs * height * width) as f64).sqrt();
        let draw = || (f64::from(2.0 * stream.next_unit() - 1.0) * bound) as f32;
        return std::iter::repeat_with(draw).take(count).collect();
    }
    let is_scale = matches!(part, "weight" | "running_var");
    match statistics {
        BatchNormStatistics::Identity => vec![if is_scale { 1.0 } else { 0.0 }; count],
        BatchNormStatistics::Random => {
            let offset = if is_scale { 0.5 } else { -0.5 };
            std::iter::repeat_with(|| stream.next_unit() + offset).take(count).collect()
        }
    }
}
