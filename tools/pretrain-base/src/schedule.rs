//! Schedules of training as functions of the number of pictures seen, and of nothing else.
//!
//! A training can therefore be stopped, resumed and reproduced.

use std::f64::consts::PI;

/// The schedule of a training on `images` pictures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) images: u64,
}

/// Size of the network and its pictures while the progress is below `until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    until: f64,
    /// Number of blocks of each layer that take part.
    pub(crate) depth: usize,
    /// Side of the pictures in pixels.
    pub(crate) side: usize,
}

/// Number of blocks of the longest layer.
const FULL_DEPTH: usize = 6;

/// Phases from shallow and small to deep and large.
///
/// A picture of the first phase costs a tenth of one of the last; blocks join as identities (Chen
/// et al., "Net2Net", 2016). The last phase fits BatchNorm's statistics to larger maps.
const PHASES: [Phase; 4] = [
    Phase { until: 0.4, depth: 1, side: 64 },
    Phase { until: 0.65, depth: 2, side: 64 },
    Phase { until: 0.95, depth: FULL_DEPTH, side: 64 },
    Phase { until: 1.0, depth: FULL_DEPTH, side: 96 },
];

impl Schedule {
    /// Returns 0 before the first picture, 1 at the end.
    fn progress(self, seen: u64) -> f64 {
        (seen as f64 / self.images.max(1) as f64).min(1.0)
    }

    /// Returns linear warm-up to 1, then cosine decay to 0 (Loshchilov and Hutter, "SGDR", 2017).
    pub(crate) fn learning_rate_factor(self, seen: u64) -> f64 {
        const WARM_UP: f64 = 0.04;
        let progress = self.progress(seen);
        if progress < WARM_UP {
            (progress / WARM_UP).max(0.01)
        } else {
            0.5 * (1.0 + (PI * (progress - WARM_UP) / (1.0 - WARM_UP)).cos())
        }
    }

    pub(crate) fn phase(self, seen: u64) -> Phase {
        let [.., last] = PHASES;
        PHASES.into_iter().find(|phase| self.progress(seen) < phase.until).unwrap_or(last)
    }

    /// Rises over the first half, to what a training of an hour can still learn.
    pub(crate) fn difficulty(self, seen: u64) -> f32 {
        const MOST: f64 = 0.6;
        (MOST * (2.0 * self.progress(seen)).min(1.0)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule { images: 1000 };

    fn steps() -> impl Iterator<Item = (u64, u64)> {
        (0..1000).map(|seen| (seen, seen + 1))
    }

    #[test]
    fn learning_rate_rises_once_then_falls_to_zero() {
        let rate = |seen| SCHEDULE.learning_rate_factor(seen);
        let (highest, _) =
            steps().max_by(|(one, _), (other, _)| rate(*one).total_cmp(&rate(*other))).unwrap();
        assert!((0.999..=1.0).contains(&rate(highest)) && highest < 100);
        assert!(rate(0) > 0.0, "a first step of 0 would be wasted");
        for (before, after) in steps() {
            assert!(if after <= highest {
                rate(before) <= rate(after)
            } else {
                rate(before) > rate(after)
            });
        }
        assert!(rate(1000).abs() < 1e-12);
    }

    #[test]
    fn depth_side_and_difficulty_never_decrease() {
        for (before, after) in steps() {
            let (earlier, later) = (SCHEDULE.phase(before), SCHEDULE.phase(after));
            assert!(earlier.depth <= later.depth && earlier.side <= later.side);
            assert!(SCHEDULE.difficulty(before) <= SCHEDULE.difficulty(after));
        }
        assert_eq!(SCHEDULE.difficulty(0), 0.0);
        assert_eq!(SCHEDULE.phase(999).depth, FULL_DEPTH);
    }

    #[test]
    fn schedule_scales_with_the_number_of_pictures() {
        let longer = Schedule { images: 2000 };
        for (seen, _) in steps() {
            assert_eq!(longer.learning_rate_factor(2 * seen), SCHEDULE.learning_rate_factor(seen));
            assert_eq!(longer.phase(2 * seen).depth, SCHEDULE.phase(seen).depth);
        }
    }
}
