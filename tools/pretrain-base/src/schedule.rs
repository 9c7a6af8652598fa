//! What changes while the network learns, as a function of the number of pictures that it has seen and of nothing else, so
//! that a training can be stopped, gone on with and made again.

use std::f64::consts::PI;

/// Of a training on so many pictures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) images: u64,
}

/// What the network and its pictures are while the progress is below `until`.
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
    Phase { until: 0.4, depth: 1, side: 64 },
    Phase { until: 0.65, depth: 2, side: 64 },
    Phase { until: 0.95, depth: FULL_DEPTH, side: 64 },
    Phase { until: 1.0, depth: FULL_DEPTH, side: 96 },
];

impl Schedule {
    /// 0 before the first picture, 1 at the end.
    fn progress(self, seen: u64) -> f64 {
        (seen as f64 / self.images.max(1) as f64).min(1.0)
    }

    /// One cycle: a short rise to 1, then half a cosine down to 0 (Loshchilov and Hutter, "SGDR", 2017).
    pub(crate) fn learning_rate_factor(self, seen: u64) -> f64 {
        const RISE: f64 = 0.04;
        let progress = self.progress(seen);
        if progress < RISE {
            (progress / RISE).max(0.01)
        } else {
            0.5 * (1.0 + (PI * (progress - RISE) / (1.0 - RISE)).cos())
        }
    }

    pub(crate) fn phase(self, seen: u64) -> Phase {
        let [.., last] = PHASES;
        PHASES.into_iter().find(|phase| self.progress(seen) < phase.until).unwrap_or(last)
    }

    /// Structures become smaller and fainter over the first half, up to what a training of an hour can still learn.
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
    fn the_learning_rate_rises_once_and_then_falls_to_zero() {
        let rate = |seen| SCHEDULE.learning_rate_factor(seen);
        let (highest, _) =
            steps().max_by(|(one, _), (other, _)| rate(*one).total_cmp(&rate(*other))).unwrap();
        assert!((0.999..=1.0).contains(&rate(highest)) && highest < 100);
        assert!(rate(0) > 0.0, "a first step of 0 would be lost");
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
    fn depth_side_and_difficulty_never_go_back() {
        for (before, after) in steps() {
            let (earlier, later) = (SCHEDULE.phase(before), SCHEDULE.phase(after));
            assert!(earlier.depth <= later.depth && earlier.side <= later.side);
            assert!(SCHEDULE.difficulty(before) <= SCHEDULE.difficulty(after));
        }
        assert_eq!(SCHEDULE.difficulty(0), 0.0);
        assert_eq!(SCHEDULE.phase(999).depth, FULL_DEPTH);
    }

    #[test]
    fn a_training_of_twice_the_pictures_is_where_the_other_is_after_twice_as_many() {
        let longer = Schedule { images: 2000 };
        for (seen, _) in steps() {
            assert_eq!(longer.learning_rate_factor(2 * seen), SCHEDULE.learning_rate_factor(seen));
            assert_eq!(longer.phase(2 * seen).depth, SCHEDULE.phase(seen).depth);
        }
    }
}
