//! What a directory says about how its picture is stored, and what of it is refused by name.

use tiff::tags::{ByteOrder, Tag};

use super::{Directories, refused};
use crate::image::{FileFormat, ImageError};

/// How the samples of a picture are stored.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Samples per pixel, with the extra ones.
    pub(super) samples: u16,
    /// Bits per sample: 1 to 16.
    pub(super) bits: u8,
    pub(super) colour: Colour,
    pub(super) alpha: Alpha,
    pub(super) compression: Compression,
    /// Each sample is stored as the difference from its left neighbour.
    pub(super) differences: bool,
    /// The samples of each channel lie together.
    pub(super) planar: bool,
    /// Bytes are stored with the lowest bit first (FillOrder 2).
    pub(super) lowest_bit_first: bool,
    pub(super) big_endian: bool,
    pub(super) chunks: Chunks,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Colour {
    Grey {
        white_is_zero: bool,
    },
    Rgb,
    /// The colour of each value.
    Palette(Vec<[u8; 3]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alpha {
    /// None, or one that is dropped.
    Dropped,
    Premultiplied,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Lzw,
    Deflate,
    PackBits,
}

/// Strips or tiles: rectangles of one size, from left to right, then down, then by plane.
#[derive(Debug)]
pub(super) struct Chunks {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Tiles are stored whole even where they reach over the edge; the last strip is not.
    pub(super) are_whole: bool,
    pub(super) offsets: Vec<u64>,
    /// Bytes of each as stored.
    pub(super) lengths: Vec<u64>,
}

impl Layout {
    /// Reads the current directory.
    ///
    /// # Errors
    /// If tags are missing or contradict each other, or name one of: a compression other than LZW,
    /// Deflate and PackBits; CMYK, YCbCr, Lab or another colour space; signed or floating-point
    /// samples; samples of different depths or of more than 16 bits.
    pub(super) fn read(directories: &mut Directories<'_>, file: &[u8]) -> Result<Self, ImageError> {
        let (width, height) = directories.dimensions().map_err(refused)?;
        let big_endian = matches!(directories.byte_order(), ByteOrder::BigEndian);
        let mut tags = Tags(directories);
        let samples = tags.number(Tag::SamplesPerPixel, 1)?;
        let bits = tags.depth()?;
        let compression = tags.compression()?;
        let differences = match tags.number(Tag::Predictor, 1)? {
            1 => false,
            2 if bits == 8 || bits == 16 => true,
            2 => return Err(unsupported(format!("it has a predictor over {bits}-bit samples"))),
            3 => return Err(unsupported("it has the floating-point predictor")),
            other => return Err(damaged(format!("its predictor is {other}"))),
        };
        let colour = tags.colour(bits)?;
        let colours = colour.channels() as u16;
        if samples < colours {
            return Err(damaged(format!("it has {samples} samples a pixel, expected {colours}")));
        }
        let planar = tags.number(Tag::PlanarConfiguration, 1)? == 2 && samples > 1;
        let alpha = match tags.numbers(Tag::ExtraSamples)?.first() {
            Some(1) if samples > colours => Alpha::Premultiplied,
            _ => Alpha::Dropped,
        };
        let lowest_bit_first = tags.number(Tag::FillOrder, 1)? == 2;
        let chunks = tags.chunks((width, height), if planar { samples } else { 1 })?;
        if compression == Compression::Lzw && chunks.any_starts_with_old_lzw(file, lowest_bit_first)
        {
            return Err(unsupported("it is compressed with LZW as before TIFF 5.0"));
        }
        Ok(Self {
            width,
            height,
            samples,
            bits,
            colour,
            alpha,
            compression,
            differences,
            planar,
            lowest_bit_first,
            big_endian,
            chunks,
        })
    }

    /// Returns the largest value of a sample.
    pub(super) fn full(&self) -> u16 {
        u16::MAX >> (16 - self.bits)
    }

    /// Returns the samples that a pixel has within one strip or tile.
    pub(super) fn samples_in_chunk(&self) -> usize {
        if self.planar { 1 } else { usize::from(self.samples) }
    }
}

impl Colour {
    /// Returns the samples per pixel that carry colour.
    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Grey { .. } | Self::Palette(_) => 1,
            Self::Rgb => 3,
        }
    }
}

impl Chunks {
    /// Returns the bytes of a strip or tile as stored, or `None` if they are not all there.
    pub(super) fn stored<'a>(&self, file: &'a [u8], chunk: usize) -> Option<&'a [u8]> {
        let start = usize::try_from(*self.offsets.get(chunk)?).ok()?;
        let length = usize::try_from(*self.lengths.get(chunk)?).ok()?;
        file.get(start..start.checked_add(length)?)
    }

    /// Writers before TIFF 5.0 packed LZW codes from the lowest bit, as libtiff recognises.
    fn any_starts_with_old_lzw(&self, file: &[u8], lowest_bit_first: bool) -> bool {
        (0..self.offsets.len()).any(|chunk| match self.stored(file, chunk) {
            Some(&[first, second, ..]) => {
                let second = if lowest_bit_first { second.reverse_bits() } else { second };
                first == 0 && second & 1 == 1
            }
            _ => false,
        })
    }
}

/// Reads tags, with TIFF's defaults.
struct Tags<'a, 'file>(&'a mut Directories<'file>);

impl Tags<'_, '_> {
    fn number(&mut self, tag: Tag, default: u16) -> Result<u16, ImageError> {
        Ok(self.0.find_tag_unsigned(tag).map_err(refused)?.unwrap_or(default))
    }

    fn numbers(&mut self, tag: Tag) -> Result<Vec<u16>, ImageError> {
        Ok(self.0.find_tag_unsigned_vec(tag).map_err(refused)?.unwrap_or_default())
    }

    fn large_number(&mut self, tag: Tag, default: u32) -> Result<u32, ImageError> {
        Ok(self.0.find_tag_unsigned(tag).map_err(refused)?.unwrap_or(default))
    }

    /// Returns the bits per sample.
    fn depth(&mut self) -> Result<u8, ImageError> {
        match self.numbers(Tag::SampleFormat)?.as_slice() {
            // 4: undefined, which libtiff reads as unsigned.
            formats if formats.iter().all(|format| matches!(format, 1 | 4)) => {}
            [2, ..] => return Err(unsupported("its samples are signed")),
            [3, ..] => return Err(unsupported("its samples are floating-point")),
            _ => return Err(unsupported("its samples are complex numbers or of mixed formats")),
        }
        let bits = self.numbers(Tag::BitsPerSample)?;
        let first = bits.first().copied().unwrap_or(1);
        if bits.iter().any(|&other| other != first) {
            return Err(unsupported("its channels have different depths"));
        }
        match u8::try_from(first) {
            Ok(bits @ 1..=16) => Ok(bits),
            _ => Err(unsupported(format!("its samples have {first} bits"))),
        }
    }

    fn compression(&mut self) -> Result<Compression, ImageError> {
        let name = match self.number(Tag::Compression, 1)? {
            1 => return Ok(Compression::None),
            5 => return Ok(Compression::Lzw),
            8 | 32_946 => return Ok(Compression::Deflate),
            32_773 => return Ok(Compression::PackBits),
            2..=4 => "for fax (CCITT)",
            6 | 7 => "with JPEG",
            34_661 => "with JBIG",
            34_712 => "with JPEG 2000",
            34_887 => "with LERC",
            34_925 => "with LZMA",
            34_933 => "with PNG",
            50_000 => "with Zstandard",
            50_001 => "with WebP",
            other => return Err(unsupported(format!("it has the unknown compression {other}"))),
        };
        Err(unsupported(format!("it is compressed {name}")))
    }

    fn colour(&mut self, bits: u8) -> Result<Colour, ImageError> {
        let name = match self.number(Tag::PhotometricInterpretation, u16::MAX)? {
            0 => return Ok(Colour::Grey { white_is_zero: true }),
            1 => return Ok(Colour::Grey { white_is_zero: false }),
            2 => return Ok(Colour::Rgb),
            3 if bits <= 8 => return Ok(Colour::Palette(self.palette(bits)?)),
            3 => return Err(unsupported(format!("it has a palette for {bits} bits"))),
            4 => "a mask",
            5 => "CMYK",
            6 => "YCbCr",
            8..=10 => "Lab",
            other => return Err(unsupported(format!("it uses the unknown colour space {other}"))),
        };
        Err(unsupported(format!("it uses {name} colour")))
    }

    fn palette(&mut self, bits: u8) -> Result<Vec<[u8; 3]>, ImageError> {
        let values = self.numbers(Tag::ColorMap)?;
        let count = 1 << bits;
        if values.len() != 3 * count {
            return Err(damaged(format!("its palette has {} values", values.len())));
        }
        // Some writers store 8 bits instead of 16, as libtiff recognises.
        let shift = if values.iter().all(|&value| value < 256) { 0 } else { 8 };
        let channel = |index: usize| (values[index] >> shift) as u8;
        Ok((0..count).map(|i| [channel(i), channel(count + i), channel(2 * count + i)]).collect())
    }

    fn chunks(&mut self, size: (u32, u32), planes: u16) -> Result<Chunks, ImageError> {
        let (width, height) = size;
        let tile_width = self.large_number(Tag::TileWidth, 0)?;
        let (sides, offsets, lengths) = if tile_width > 0 {
            let sides = (tile_width, self.large_number(Tag::TileLength, 0)?);
            (sides, Tag::TileOffsets, Tag::TileByteCounts)
        } else {
            let rows = self.large_number(Tag::RowsPerStrip, u32::MAX)?.min(height);
            ((width, rows), Tag::StripOffsets, Tag::StripByteCounts)
        };
        let mut list = |tag| -> Result<Vec<u64>, ImageError> {
            Ok(self.0.find_tag_unsigned_vec(tag).map_err(refused)?.unwrap_or_default())
        };
        let (offsets, lengths) = (list(offsets)?, list(lengths)?);
        if sides.0 == 0 || sides.1 == 0 {
            return Err(damaged("its strips or tiles have no size"));
        }
        let count = u64::from(width.div_ceil(sides.0))
            * u64::from(height.div_ceil(sides.1))
            * u64::from(planes);
        if offsets.len() as u64 != count || lengths.len() as u64 != count {
            let (offsets, lengths) = (offsets.len(), lengths.len());
            return Err(damaged(format!(
                "it lists {offsets} strips or tiles and {lengths} lengths, expected {count}"
            )));
        }
        let (chunk_width, chunk_height) = sides;
        Ok(Chunks {
            width: chunk_width,
            height: chunk_height,
            are_whole: tile_width > 0,
            offsets,
            lengths,
        })
    }
}

pub(super) fn damaged(detail: impl std::fmt::Display) -> ImageError {
    ImageError::undecodable(FileFormat::Tiff, detail)
}

fn unsupported(found: impl std::fmt::Display) -> ImageError {
    ImageError::unsupported(FileFormat::Tiff, found)
}
