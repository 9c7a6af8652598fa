//! How long a forward pass takes: measured at the warm-up for each size, kept up to date by each
//! batch. Pure.
//!
//! Two answers: the least that passes take, for what is certain, and what they take in all
//! likelihood, for what is promised to those who would have to wait.

use std::time::{Duration, Instant};

use super::BatchSizes;

/// A slower pass raises the estimate by this part of it at most, so that one hiccup is nearly
/// forgotten and a machine that has become slower is known after a few dozen passes.
const RISE: u32 = 16;

/// Mean and mean deviation are learnt, and put together, as TCP does with round trips (Jacobson
/// 1988, RFC 6298).
const MEAN_LEARNS: u32 = 8;
const DEVIATION_LEARNS: u32 = 4;
const DEVIATIONS: u32 = 4;

/// The deviation is taken for at least this part of the mean: a queue waits for many passes, and a
/// machine that was even for a while can become slower for all of them. What caution costs is the
/// end of a queue that only overload fills.
const LEAST_DEVIATION: u32 = 16;

/// A pass that took so many times the mean counts as that long: a hiccup must not close the door
/// for seconds.
const LONGEST_LESSON: u32 = 2;

/// A larger batch is worth the wait of those in it if it saves this part of the time of an image.
const WORTHWHILE_GAIN: f64 = 0.03;

/// What was measured longer ago says nothing about now. Without it, an estimate taken in a slow
/// moment would refuse the very requests that could correct it.
const STALE_AFTER: Duration = Duration::from_secs(20);

/// The times of forward passes, by size.
#[derive(Debug, Clone)]
pub struct BatchTimes {
    sizes: BatchSizes,
    passes: Box<[PassTiming]>,
}

#[derive(Debug, Clone, Copy)]
struct PassTiming {
    /// A lower envelope.
    takes: Duration,
    mean: Duration,
    deviation: Duration,
    measured_at: Instant,
}

impl PassTiming {
    fn first(takes: Duration, measured_at: Instant) -> Self {
        Self { takes, mean: takes, deviation: Duration::ZERO, measured_at }
    }

    fn learn(&mut self, took: Duration, now: Instant) {
        self.takes = took.min(self.takes.saturating_add(self.takes / RISE));
        let lesson = took.min(self.mean.saturating_mul(LONGEST_LESSON));
        self.deviation -= self.deviation / DEVIATION_LEARNS;
        self.deviation += lesson.abs_diff(self.mean) / DEVIATION_LEARNS;
        self.mean -= self.mean / MEAN_LEARNS;
        self.mean += lesson / MEAN_LEARNS;
        self.measured_at = now;
    }

    /// What it takes with some caution.
    fn conservative(&self) -> Duration {
        self.mean.saturating_add(self.deviation.max(self.mean / LEAST_DEVIATION) * DEVIATIONS)
    }

    fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.measured_at) > STALE_AFTER
    }
}

impl BatchTimes {
    /// Measures every size.
    ///
    /// # Errors
    /// The first of `measure`.
    pub fn measured<E>(
        sizes: BatchSizes,
        measure: impl FnMut(usize) -> Result<Duration, E>,
    ) -> Result<Self, E> {
        let times = sizes.iter().map(measure).collect::<Result<Vec<Duration>, E>>()?;
        let measured_at = Instant::now();
        let passes = times.into_iter().map(|takes| PassTiming::first(takes, measured_at)).collect();
        Ok(Self { sizes, passes })
    }

    pub fn sizes(&self) -> &BatchSizes {
        &self.sizes
    }

    /// Learns from a pass of one of the sizes. For the least, a faster one counts at once, a slower
    /// one little by little.
    pub fn observe(&mut self, size: usize, took: Duration, now: Instant) {
        if let Some(pass) =
            self.sizes.position(size).and_then(|position| self.passes.get_mut(position))
        {
            pass.learn(took, now);
        }
    }

    /// What the passes for so many images take, one size after another; zero if nothing is known
    /// any more.
    pub fn of(&self, images: usize, now: Instant) -> Duration {
        if self.knows_nothing(now) {
            return Duration::ZERO;
        }
        let times = self.sizes.parts(images).filter_map(|part| self.sizes.position(part));
        times.map(|position| self.passes[position].takes).sum()
    }

    /// The least that so many images can take in whatever batches, also together with others; zero
    /// if nothing is known any more.
    pub fn lower_bound(&self, images: usize, now: Instant) -> Duration {
        if self.knows_nothing(now) {
            return Duration::ZERO;
        }
        let quickest_pass = self.passes.iter().map(|pass| pass.takes).min().unwrap_or_default();
        let best_rate = self.seconds_an_image().fold(f64::INFINITY, f64::min);
        quickest_pass
            .max(Duration::try_from_secs_f64(best_rate * images as f64).unwrap_or_default())
    }

    /// A conservative time of the passes for so many images when many more wait, in batches of
    /// the best rate; zero if nothing is known any more.
    pub fn conservative(&self, images: usize, now: Instant) -> Duration {
        let fresh = self.sizes.iter().zip(&self.passes).filter(|(_, pass)| !pass.is_stale(now));
        let rates = fresh.map(|(size, pass)| pass.conservative().as_secs_f64() / size as f64);
        let best_rate = rates.reduce(f64::min).unwrap_or_default();
        Duration::try_from_secs_f64(best_rate * images as f64).unwrap_or_default()
    }

    /// The size of the next batch when so many images wait: the smallest that computes as many
    /// images a second as the largest of those that can be filled, or nearly. Where larger batches
    /// gain nothing, as on most CPUs, those in front need not wait for those behind. A size that
    /// was not tried for long is tried again.
    pub fn best_size(&self, images: usize, now: Instant) -> usize {
        let fitting = self.sizes.fitting(images);
        let rates = || {
            let known = self.passes.iter().zip(self.seconds_an_image());
            let rates = known.map(|(pass, seconds)| if pass.is_stale(now) { 0.0 } else { seconds });
            self.sizes.iter().zip(rates).take_while(|(size, _)| *size <= fitting)
        };
        let best = rates().map(|(_, seconds)| seconds).fold(f64::INFINITY, f64::min);
        let mut good = rates().filter(|(_, seconds)| *seconds * (1.0 - WORTHWHILE_GAIN) <= best);
        good.next().map_or(fitting, |(size, _)| size)
    }

    fn seconds_an_image(&self) -> impl Iterator<Item = f64> {
        self.sizes
            .iter()
            .zip(&self.passes)
            .map(|(size, pass)| pass.takes.as_secs_f64() / size as f64)
    }

    fn knows_nothing(&self, now: Instant) -> bool {
        self.passes.iter().all(|pass| pass.is_stale(now))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn times(milliseconds: [u32; 4]) -> BatchTimes {
        let mut measured = milliseconds.into_iter();
        let measure = |_| Ok::<_, Infallible>(measured.next().unwrap() * MS);
        let Ok(times) = BatchTimes::measured(BatchSizes::up_to(8), measure);
        times
    }

    #[test]
    fn a_faster_pass_counts_at_once_and_a_slower_one_little_by_little() {
        let now = Instant::now();
        let mut times = times([32, 64, 128, 256]);
        times.observe(1, 16 * MS, now);
        assert_eq!(times.of(1, now), 16 * MS);
        times.observe(1, 100_000 * MS, now);
        assert_eq!(times.of(1, now), 17 * MS, "one hiccup");
        for _ in 0..100 {
            times.observe(1, 40 * MS, now);
        }
        assert_eq!(times.of(1, now), 40 * MS, "it has become slower");
        assert_eq!(times.of(2, now), 64 * MS, "other sizes are other passes");
    }

    #[test]
    fn what_waits_is_foreseen_with_the_deviation_of_passes_and_without_hiccups() {
        let now = Instant::now();
        let mut times = times([40, 80, 160, 320]);
        let close = |found: Duration, expected: u32| {
            assert!(found.abs_diff(expected * MS) < MS / 10, "{found:?}, expected {expected} ms");
        };
        close(times.conservative(8, now), 400);
        times.observe(1, 10_000 * MS, now);
        assert!(times.conservative(8, now) < 8 * 100 * MS, "one hiccup");
        for (least, most) in [(40, 40), (30, 50)] {
            for _ in 0..100 {
                for size in [1, 2, 4, 8] {
                    times.observe(size, size as u32 * least * MS, now);
                    times.observe(size, size as u32 * most * MS, now);
                }
            }
            let (caution, found) = (10.max(2 * (most - least)), times.conservative(10, now));
            assert!(
                found.abs_diff(10 * (40 + caution) * MS) < 50 * MS,
                "{found:?} with {caution} of caution"
            );
        }
    }

    #[test]
    fn images_beyond_the_largest_size_take_several_passes() {
        let now = Instant::now();
        assert_eq!(times([10, 15, 20, 30]).of(19, now), (30 + 30 + 15 + 10) * MS);
    }

    #[test]
    fn the_least_time_is_that_of_the_best_rate_and_of_one_pass() {
        let now = Instant::now();
        let times = times([10, 12, 16, 24]);
        assert_eq!(times.lower_bound(1, now), 10 * MS, "no pass is quicker");
        assert_eq!(times.lower_bound(100, now), 300 * MS, "eight images in 24 ms");
    }

    #[test]
    fn the_smallest_size_that_keeps_up_is_best() {
        let now = Instant::now();
        let flat = times([45, 90, 179, 355]);
        let steep = times([10, 11, 12, 14]);
        let in_between = times([10, 16, 32, 64]);
        for (images, of_flat, of_steep, of_in_between) in
            [(1, 1, 1, 1), (2, 1, 2, 2), (7, 1, 4, 2), (100, 1, 8, 2)]
        {
            assert_eq!(flat.best_size(images, now), of_flat, "{images} images");
            assert_eq!(steep.best_size(images, now), of_steep, "{images} images");
            assert_eq!(in_between.best_size(images, now), of_in_between, "{images} images");
        }
    }

    #[test]
    fn what_was_not_measured_for_long_binds_nobody_and_is_tried_again() {
        let now = Instant::now();
        let mut times = times([45, 90, 180, 360]);
        let later = now + STALE_AFTER + MS + Duration::from_secs(60);
        assert_eq!(
            (times.of(1, later), times.lower_bound(9, later)),
            (Duration::ZERO, Duration::ZERO)
        );
        assert_eq!(times.conservative(9, later), Duration::ZERO);
        times.observe(1, 40 * MS, later);
        assert_eq!(
            times.lower_bound(2, later),
            80 * MS,
            "one fresh size is enough to know the device"
        );
        assert_eq!(times.best_size(1, later), 1);
        assert_eq!(times.best_size(2, later), 2, "not tried for long");
        for size in [2, 4, 8] {
            times.observe(size, 40 * MS * size as u32, later);
        }
        assert_eq!(times.best_size(8, later), 1);
    }
}
