//! Builds requests without the nesting of the generated types.

use bytes::Bytes;

use crate::proto::{ClassifyRequest, Image, RawFrame, image::Data};

impl ClassifyRequest {
    /// Returns a request to classify one image for one or more tasks, with defaults for all else.
    ///
    /// The image is the bytes of a picture file, or a [`RawFrame`].
    pub fn new<T: Into<String>>(
        image: impl Into<Image>,
        tasks: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            tasks: tasks.into_iter().map(Into::into).collect(),
            image: Some(image.into()),
            ..Self::default()
        }
    }
}

/// The bytes of a JPEG, PNG, BMP, TIFF or WebP file.
impl From<Bytes> for Image {
    fn from(file: Bytes) -> Self {
        Self { data: Some(Data::Encoded(file)) }
    }
}

/// The bytes of a JPEG, PNG, BMP, TIFF or WebP file.
impl From<Vec<u8>> for Image {
    fn from(file: Vec<u8>) -> Self {
        Bytes::from(file).into()
    }
}

/// A frame straight from a camera.
impl From<RawFrame> for Image {
    fn from(frame: RawFrame) -> Self {
        Self { data: Some(Data::Raw(frame)) }
    }
}
