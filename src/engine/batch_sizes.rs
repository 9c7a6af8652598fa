//! The numbers of images that a forward pass may have.

/// The sizes of forward passes, ascending from 1; each is warmed up, and no pass has another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSizes(Box<[usize]>);

impl BatchSizes {
    /// Returns 1, 2, 4, 8 ... and `largest` itself, which counts as at least 1.
    pub fn up_to(largest: usize) -> Self {
        let largest = largest.max(1);
        let powers = std::iter::successors(Some(1), |size: &usize| size.checked_mul(2));
        Self(powers.take_while(|size| *size < largest).chain([largest]).collect())
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = usize> {
        self.0.iter().copied()
    }

    pub fn smallest(&self) -> usize {
        self.0[0]
    }

    pub fn largest(&self) -> usize {
        self.0[self.0.len() - 1]
    }

    /// Returns the largest size that is at most `images`; for 0 images the smallest.
    pub fn fitting(&self, images: usize) -> usize {
        self.iter().rev().find(|size| *size <= images).unwrap_or(self.smallest())
    }

    /// Splits `images` into sizes, the largest first: 11 is 8, 2 and 1.
    pub fn parts(&self, images: usize) -> impl Iterator<Item = usize> {
        let mut rest = images;
        std::iter::from_fn(move || {
            let part = (rest > 0).then(|| self.fitting(rest))?;
            rest -= part;
            Some(part)
        })
    }

    pub(super) fn position(&self, size: usize) -> Option<usize> {
        self.0.binary_search(&size).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(largest: usize) -> Vec<usize> {
        BatchSizes::up_to(largest).iter().collect()
    }

    #[test]
    fn sizes_double_up_to_the_largest() {
        assert_eq!(sizes(8), [1, 2, 4, 8]);
        assert_eq!(sizes(12), [1, 2, 4, 8, 12]);
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(0), [1]);
    }

    #[test]
    fn fitting_size_is_at_most_the_images() {
        let sizes = BatchSizes::up_to(12);
        for (images, size) in [(0, 1), (1, 1), (3, 2), (8, 8), (11, 8), (12, 12), (99, 12)] {
            assert_eq!(sizes.fitting(images), size, "{images} images");
        }
    }

    #[test]
    fn parts_of_any_number_are_known_sizes() {
        let sizes = BatchSizes::up_to(12);
        for images in 0..100 {
            let parts: Vec<usize> = sizes.parts(images).collect();
            assert_eq!(parts.iter().sum::<usize>(), images);
            assert!(parts.iter().all(|part| sizes.position(*part).is_some()), "{parts:?}");
            assert!(parts.is_sorted_by(|a, b| a >= b), "{parts:?}");
        }
        assert_eq!(sizes.parts(11).collect::<Vec<_>>(), [8, 2, 1]);
    }
}
