//! Average and maximum of each channel of a channels-last map, in one pass over it.

/// Pooled features, one row per image.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pooled {
    /// `[images, channels]`
    pub(super) average: Vec<f32>,
    /// `[images, channels]`
    pub(super) maximum: Vec<f32>,
}

/// Pixels summed in f32 before they enter the f64 sum: few enough to lose nothing.
const PIXELS_PER_PARTIAL_SUM: usize = 64;

/// Pools a map `[images, pixels, channels]`.
pub(super) fn pool(map: &[f32], pixels: usize, channels: usize) -> Pooled {
    let mut pooled = Pooled::default();
    for image in map.chunks_exact((pixels * channels).max(1)) {
        let mut sum = vec![0.0f64; channels];
        let mut maximum = vec![f32::NEG_INFINITY; channels];
        for part in image.chunks(PIXELS_PER_PARTIAL_SUM * channels) {
            let mut partial = vec![0.0f32; channels];
            for pixel in part.chunks_exact(channels) {
                for ((partial, maximum), value) in partial.iter_mut().zip(&mut maximum).zip(pixel) {
                    *partial += value;
                    *maximum = if *value > *maximum { *value } else { *maximum };
                }
            }
            sum.iter_mut().zip(&partial).for_each(|(sum, partial)| *sum += f64::from(*partial));
        }
        pooled.average.extend(sum.iter().map(|sum| (sum / pixels as f64) as f32));
        pooled.maximum.append(&mut maximum);
    }
    pooled
}

/// Pools as [`pool`] does, from codes that stand for `code * scale`.
pub(super) fn pool_codes(map: &[u8], pixels: usize, channels: usize, scale: f32) -> Pooled {
    let mut pooled = Pooled::default();
    for image in map.chunks_exact((pixels * channels).max(1)) {
        let mut sum = vec![0u32; channels];
        let mut maximum = vec![0u8; channels];
        for pixel in image.chunks_exact(channels) {
            for ((sum, maximum), code) in sum.iter_mut().zip(&mut maximum).zip(pixel) {
                *sum += u32::from(*code);
                *maximum = (*maximum).max(*code);
            }
        }
        pooled
            .average
            .extend(sum.iter().map(|sum| (f64::from(*sum) / pixels as f64) as f32 * scale));
        pooled.maximum.extend(maximum.iter().map(|code| f32::from(*code) * scale));
    }
    pooled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_keeps_images_and_channels_apart() {
        // Two images of two pixels of two channels.
        let map = [1.0, -4.0, 3.0, -2.0, 10.0, 0.0, 20.0, 5.0];
        let pooled = pool(&map, 2, 2);
        assert_eq!(pooled.average, [2.0, -3.0, 15.0, 2.5]);
        assert_eq!(pooled.maximum, [3.0, -2.0, 20.0, 5.0]);
    }

    #[test]
    fn codes_pool_like_the_values_they_stand_for() {
        let codes: Vec<u8> = (0..4 * 130 * 8).map(|index| (index * 37 % 251) as u8).collect();
        let numbers: Vec<f32> = codes.iter().map(|code| f32::from(*code) * 0.5).collect();
        let (of_codes, of_numbers) = (pool_codes(&codes, 130, 8, 0.5), pool(&numbers, 130, 8));
        assert_eq!(of_codes.maximum, of_numbers.maximum);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
        assert!(of_codes.average.iter().zip(&of_numbers.average).all(near));
    }
}
