//! What goes to the device for a recorded pass, and what comes back.

use tch::{Kind, TchError, Tensor};

use super::graphs::write;
use crate::{
    image::PreparedImage,
    torch::{pooling::Pooled, values::float_values},
};

/// Passes of one shape do the same work in the same memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::torch) struct Shape {
    pub(in crate::torch) images: usize,
    pub(in crate::torch) side: u32,
}

/// What a recorded pass reads, in pinned memory: the device copies it by itself.
#[derive(Debug)]
pub(in crate::torch) struct Pixels {
    /// `[N, side, side, 3]`, bytes
    pub(in crate::torch) values: Tensor,
    /// `[N, 3, 1, 1]`
    pub(in crate::torch) mean: Tensor,
    /// `[N, 3, 1, 1]`
    pub(in crate::torch) std: Tensor,
}

/// What it leaves on the device for each place where features are taken.
#[derive(Debug)]
pub(in crate::torch) struct Reduced {
    pub(in crate::torch) channels: usize,
    /// `[N, channels]`
    pub(in crate::torch) average: Tensor,
    /// `[N, channels]`
    pub(in crate::torch) maximum: Tensor,
}

impl Pixels {
    /// Room for a batch of this shape, from which the device can copy.
    pub(super) fn pinned(shape: Shape, device: tch::Device) -> Result<Self, TchError> {
        let Self { values, mean, std } = Self::room(shape)?;
        let [values, mean, std] = [values, mean, std].map(|tensor| tensor.f_pin_memory(device));
        Ok(Self { values: values?, mean: mean?, std: std? })
    }

    /// Room for a batch of this shape.
    fn room(shape: Shape) -> Result<Self, TchError> {
        let (images, side) = (shape.images as i64, i64::from(shape.side));
        let zeros = |sides: [i64; 4], kind| Tensor::f_zeros(sides, (kind, tch::Device::Cpu));
        let a_channel = || zeros([images, 3, 1, 1], Kind::Float);
        Ok(Self {
            values: zeros([images, side, side, 3], Kind::Uint8)?,
            mean: a_channel()?,
            std: a_channel()?,
        })
    }

    /// A batch in ordinary memory.
    ///
    /// # Errors
    /// If the images have different sides.
    pub(in crate::torch) fn of(images: &[&PreparedImage]) -> Result<Self, TchError> {
        let side = images.first().map_or(0, |image| image.side);
        let mut pixels = Self::room(Shape { images: images.len(), side })?;
        pixels.fill(images)?;
        Ok(pixels)
    }

    /// Images of the side and number that there is room for.
    pub(super) fn fill(&mut self, images: &[&PreparedImage]) -> Result<(), TchError> {
        let of_one = self.values.numel() / images.len().max(1);
        for (number, image) in images.iter().enumerate() {
            if image.pixels.len() != of_one {
                let found =
                    format!("{} bytes of an image where {of_one} are due", image.pixels.len());
                return Err(TchError::Convert(found));
            }
            write(&mut self.values, number * image.pixels.len(), &image.pixels)?;
            write(&mut self.mean, number * image.mean.len(), &image.mean)?;
            write(&mut self.std, number * image.std.len(), &image.std)?;
        }
        Ok(())
    }
}

impl Reduced {
    /// Waits for the device.
    pub(in crate::torch) fn read(&self) -> Result<Pooled, TchError> {
        Ok(Pooled { average: float_values(&self.average)?, maximum: float_values(&self.maximum)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(side: u32, red: u8) -> PreparedImage {
        let pixels = (0..side * side).flat_map(|_| [red, 2, 3]).collect();
        PreparedImage { side, pixels, mean: [0.1, 0.2, f32::from(red)], std: [1.0, 2.0, 3.0] }
    }

    #[test]
    fn pixels_lie_image_after_image_each_with_its_own_normalisation() {
        let (first, second) = (image(32, 10), image(32, 20));
        let Pixels { values, mean, std } = Pixels::of(&[&first, &second]).unwrap();
        assert_eq!(values.size(), [2, 32, 32, 3]);
        let all = Vec::<u8>::try_from(values.view(-1)).unwrap();
        assert!(all == [first.pixels, second.pixels].concat());
        assert_eq!(Vec::<f32>::try_from(mean.view(-1)).unwrap(), [0.1, 0.2, 10.0, 0.1, 0.2, 20.0]);
        assert_eq!(Vec::<f32>::try_from(std.view(-1)).unwrap(), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn images_of_two_sides_are_no_batch() {
        assert!(Pixels::of(&[&image(32, 1), &image(64, 1)]).is_err());
    }
}
