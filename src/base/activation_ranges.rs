//! The ranges of a network's maps, which int8 needs besides the weights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The range of a map's values, with a few outliers cut off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub least: f32,
    pub largest: f32,
}

/// The ranges of the network's input and of each convolution's output, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationRanges {
    /// Percentage of the values that lie below a range's upper end.
    pub percentile: f64,
    /// Number of pictures measured.
    pub images: usize,
    pub ranges: BTreeMap<String, Range>,
}

impl ActivationRanges {
    pub(crate) fn of(&self, name: &str) -> Option<Range> {
        self.ranges.get(name).copied()
    }
}
