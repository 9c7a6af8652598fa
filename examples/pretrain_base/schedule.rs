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

/// Small pictures first: three of them cost as much as one of the last phase, which fits the statistics of
/// BatchNorm to maps as large as those of real pictures.
pub(crate) fn side(progress: f64) -> usize {
    match progress {
        ..0.5 => 64,
        ..0.88 => 96,
        _ => 128,
    }
}

/// Structures become small and faint over the first half.
pub(crate) fn difficulty(progress: f64) -> f32 {
    (2.0 * progress).min(1.0) as f32
}
