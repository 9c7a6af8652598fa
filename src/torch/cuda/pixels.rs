//! The input that a pass copies to the device, and the output that comes back.

use tch::{Kind, TchError, Tensor};

use super::graphs::write;
use crate::{
    image::PreparedImage,
    torch::{pooling::Pooled, values::float_values},
};

/// The shape of a batch; passes of one shape do the same work in the same memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::torch) struct Shape {
    pub(in crate::torch) images: usize,
    pub(in crate::torch) side: u32,
}

/// The input of a pass; a recorded one has it in pinned memory, which the device copies by itself.
#[derive(Debug)]
pub(in crate::torch) struct Pixels {
    /// `[N, side, side, 3]`, bytes
    pub(in crate::torch) values: Tensor,
    /// `[N, 3, 1, 1]`
    pub(in crate::torch) mean: Tensor,
    /// `[N, 3, 1, 1]`
    pub(in crate::torch) std: Tensor,
}

/// The pooled features of one stage, left on the device.
#[derive(Debug)]
pub(in crate::torch) struct Reduced {
    pub(in crate::torch) channels: usize,
    /// `[N, channels]`
    pub(in crate::torch) average: Tensor,
    /// `[N, channels]`
    pub(in crate::torch) maximum: Tensor,
}

impl Pixels {
    /// Allocates pinned memory for a batch of this shape.
    pub(super) fn pinned(shape: Shape, device: tch::Device) -> Result<Self, TchError> {
        let Self { values, mean, std } = Self::allocate(shape)?;
        let [values, mean, std] = [values, mean, std].map(|tensor| tensor.f_pin_memory(device));
        Ok(Self { values: values?, mean: mean?, std: std? })
    }

    /// Allocates host memory for a batch of this shape.
    fn allocate(shape: Shape) -> Result<Self, TchError> {
        let (images, side) = (shape.images as i64, i64::from(shape.side));
        let zeros = |sides: [i64; 4], kind| Tensor::f_zeros(sides, (kind, tch::Device::Cpu));
        let a_channel = || zeros([images, 3, 1, 1], Kind::Float);
        Ok(Self {
            values: zeros([images, side, side, 3], Kind::Uint8)?,
            mean: a_channel()?,
            std: a_channel()?,
        })
    }

    /// Copies a batch into host memory.
    ///
    /// # Errors
    /// If the images have different sides.
    pub(in crate::torch) fn of(images: &[&PreparedImage]) -> Result<Self, TchError> {
        let side = images.first().map_or(0, |image| image.side);
        let mut pixels = Self::allocate(Shape { images: images.len(), side })?;
        pixels.fill(images)?;
        Ok(pixels)
    }

    /// Copies images in; their number and side must match the allocated shape.
    pub(super) fn fill(&mut self, images: &[&PreparedImage]) -> Result<(), TchError> {
        let per_image = self.values.numel() / images.len().max(1);
        for (number, image) in images.iter().enumerate() {
            if image.pixels.len() != per_image {
                let found =
                    format!("an image has {} bytes, expected {per_image}", image.pixels.len());
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
    /// Waits for the device and returns the features.
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
    fn images_are_stored_in_order_with_their_own_normalisation() {
        let (first, second) = (image(32, 10), image(32, 20));
        let Pixels { values, mean, std } = Pixels::of(&[&first, &second]).unwrap();
        assert_eq!(values.size(), [2, 32, 32, 3]);
        let all = Vec::<u8>::try_from(values.view(-1)).unwrap();
        assert!(all == [first.pixels, second.pixels].concat());
        assert_eq!(Vec::<f32>::try_from(mean.view(-1)).unwrap(), [0.1, 0.2, 10.0, 0.1, 0.2, 20.0]);
        assert_eq!(Vec::<f32>::try_from(std.view(-1)).unwrap(), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn rejects_images_of_two_sides() {
        assert!(Pixels::of(&[&image(32, 1), &image(64, 1)]).is_err());
    }
}
