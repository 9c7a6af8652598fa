//! What changes while the network learns, as a function of the share of the training that is done.

use std::{f64::consts::PI, time::Duration};

/// When the training ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    Images(u64),
    Time(Duration),
}

impl Budget {
    /// 0 at the start, 1 at the end.
    pub(crate) fn progress(self, images: u64, elapsed: Duration) -> f64 {
        let done = match self {
            Self::Images(all) => images as f64 / all.max(1) as f64,
            Self::Time(all) => elapsed.as_secs_f64() / all.as_secs_f64().max(1.0),
        };
        done.min(1.0)
    }
}

/// One cycle: a short rise to 1, then half a cosine down to 0 (Loshchilov and Hutter, "SGDR", 2017).
pub(crate) fn learning_rate_factor(progress: f64) -> f64 {
    const RISE: f64 = 0.04;
    if progress < RISE {
        (progress / RISE).max(0.01)
    } else {
        0.5 * (1.0 + (PI * (progress - RISE) / (1.0 - RISE)).cos())
    }
}

/// What the network is while the progress is below `until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    until: f64,
    /// Blocks of each layer that take part.
    pub(crate) depth: usize,
    /// Of the pictures, in pixels.
    pub(crate) side: usize,
}

/// As many blocks as the longest layer has.
const FULL_DEPTH: usize = 6;

/// Shallow and small first: a picture of the first phase costs a tenth of one of the last, and blocks join as identities
/// (Chen et al., "Net2Net", 2016). The last phase fits the statistics of BatchNorm to larger maps.
const PHASES: [Phase; 4] = [
    Phase { until: 0.35, depth: 1, side: 64 },
    Phase { until: 0.6, depth: 2, side: 64 },
    Phase { until: 0.85, depth: FULL_DEPTH, side: 64 },
    Phase { until: 1.0, depth: FULL_DEPTH, side: 96 },
];

pub(crate) fn phase(progress: f64) -> Phase {
    let [.., last] = PHASES;
    PHASES.into_iter().find(|phase| progress < phase.until).unwrap_or(last)
}

/// Structures become smaller and fainter over the first half, up to what a training of an hour can still learn.
pub(crate) fn difficulty(progress: f64) -> f32 {
    const MOST: f64 = 0.6;
    (MOST * (2.0 * progress).min(1.0)) as f32
}
