//! In which range each map of a network lies: what int8 needs to know beside the weights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The values of a map, but for a few that are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub least: f32,
    pub largest: f32,
}

/// A range for the network's input and for the result of each convolution, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationRanges {
    /// Per cent of the values that lie below a range's upper end.
    pub percentile: f64,
    /// Pictures on which they were measured.
    pub images: usize,
    pub ranges: BTreeMap<String, Range>,
}

impl ActivationRanges {
    pub(crate) fn of(&self, name: &str) -> Option<Range> {
        self.ranges.get(name).copied()
    }
}
