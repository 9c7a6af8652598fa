//! Decodes TIFF: the directory is read by the `tiff` crate, strips and tiles are assembled here.
//!
//! The crate's own assembly panics or gives wrong pixels for some tiles, planes and extra channels.
//! Reference: TIFF 6.0 (Adobe, 1992), and libtiff where that is silent.

mod chunks;
mod layout;

use std::io::Cursor;

use tiff::{TiffError, decoder::Decoder, tags::Tag};

use super::{
    ImageError, ImageLimits,
    deep::{Decoded, DeepPicture},
    format::FileFormat,
    notes::FileNotes,
    source::Picture,
};
use layout::{Alpha, Colour, Layout};

type Directories<'a> = Decoder<Cursor<&'a [u8]>>;

/// Bits of the tag NewSubfileType.
const REDUCED_RESOLUTION: u32 = 1;
const TRANSPARENCY_MASK: u32 = 4;

/// Decodes the first picture that is neither a reduced copy of another nor a mask.
///
/// # Errors
/// If the file is damaged, over a limit, or of a kind that [`Layout::read`] refuses.
pub(super) fn decode(file: &[u8], limits: &ImageLimits) -> Result<Decoded, ImageError> {
    let mut directories = first_full_picture(file)?;
    let layout = Layout::read(&mut directories, file)?;
    // All samples take 16 bits, and so do the colours that a deep picture keeps of them.
    let kept = if layout.bits > 8 { layout.colour.channels() as u64 } else { 0 };
    let held = 2 * (u64::from(layout.samples) + kept);
    limits.check_decoded(layout.width, layout.height, held)?;
    let samples = chunks::read(file, &layout, limits)?;
    Ok(converted(&layout, samples))
}

/// Reads how many full pictures the file has, and how deep the one is that [`decode`] decodes.
pub(super) fn notes(file: &[u8]) -> FileNotes {
    let Ok(mut directories) = first_full_picture(file) else { return FileNotes::default() };
    let mut largest = |tag| {
        let values: Option<Vec<u16>> = directories.find_tag_unsigned_vec(tag).ok().flatten();
        values.and_then(|values| values.into_iter().max())
    };
    let bits = largest(Tag::BitsPerSample).unwrap_or(1);
    let depth = (9..16).contains(&bits).then(|| u16::MAX >> (16 - bits));
    let declared_max = largest(Tag::MaxSampleValue).filter(|&max| max < u16::MAX).or(depth);
    let is_deep = bits > 8;
    FileNotes {
        pages: pages(file),
        is_deep,
        declared_max: declared_max.filter(|_| is_deep),
        ..FileNotes::default()
    }
}

fn pages(file: &[u8]) -> usize {
    /// More are not worth counting.
    const MOST: usize = 10;
    let Ok(mut directories) = Decoder::new(Cursor::new(file)) else { return 0 };
    let mut pages = usize::from(is_full(&mut directories));
    while pages < MOST && directories.more_images() && directories.next_image().is_ok() {
        pages += usize::from(is_full(&mut directories));
    }
    pages
}

fn first_full_picture(file: &[u8]) -> Result<Directories<'_>, ImageError> {
    let open = || Decoder::new(Cursor::new(file)).map_err(refused);
    let mut directories = open()?;
    let mut has_sub_directories = false;
    while !is_full(&mut directories) {
        has_sub_directories |= matches!(directories.find_tag(Tag::SubIfd), Ok(Some(_)));
        if directories.more_images() {
            directories.next_image().map_err(refused)?;
        } else if has_sub_directories {
            let found = "it holds a reduced copy, and the full picture in a sub-directory (SubIFD)";
            return Err(ImageError::unsupported(FileFormat::Tiff, found));
        } else {
            // Every directory says that it is a part of another: the first must do.
            return open();
        }
    }
    Ok(directories)
}

fn is_full(directories: &mut Directories<'_>) -> bool {
    /// Of the older tag SubfileType.
    const OLD_REDUCED_RESOLUTION: u32 = 2;
    let mut tag = |tag| directories.find_tag_unsigned::<u32>(tag).ok().flatten();
    tag(Tag::NewSubfileType).unwrap_or(0) & (REDUCED_RESOLUTION | TRANSPARENCY_MASK) == 0
        && tag(Tag::SubfileType) != Some(OLD_REDUCED_RESOLUTION)
}

/// Makes RGB8 of interleaved samples, or leaves more than 8 bits to the head's levels.
fn converted(layout: &Layout, mut samples: Vec<u16>) -> Decoded {
    let &Layout { width, height, bits, ref colour, .. } = layout;
    let channels = usize::from(layout.samples);
    if layout.alpha == Alpha::Premultiplied {
        for pixel in samples.chunks_exact_mut(channels) {
            divide_by_alpha(pixel, colour.channels(), layout.full());
        }
    }
    let shown = samples.chunks_exact(channels);
    if bits > 8 {
        let samples: Vec<u16> = match colour {
            Colour::Grey { .. } | Colour::Palette(_) => shown.map(|pixel| pixel[0]).collect(),
            Colour::Rgb => shown.flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        };
        let (channels, white_is_zero) =
            (colour.channels(), *colour == Colour::Grey { white_is_zero: true });
        return Decoded::Deep(DeepPicture {
            width,
            height,
            channels,
            bits,
            white_is_zero,
            samples,
        });
    }
    let eight = |sample: u16| (u32::from(sample) * 255 / u32::from(layout.full())) as u8;
    let pixels: Vec<u8> = match colour {
        Colour::Grey { white_is_zero: false } => shown.flat_map(|s| [eight(s[0]); 3]).collect(),
        Colour::Grey { white_is_zero: true } => {
            shown.flat_map(|pixel| [eight(layout.full() - pixel[0]); 3]).collect()
        }
        Colour::Rgb => shown.flat_map(|s| [eight(s[0]), eight(s[1]), eight(s[2])]).collect(),
        Colour::Palette(colours) => shown.flat_map(|s| colours[usize::from(s[0])]).collect(),
    };
    Decoded::Rgb8(Picture { width, height, pixels: pixels.into() })
}

/// Undoes the multiplication by alpha, the sample after the colours; invisible pixels stay.
fn divide_by_alpha(pixel: &mut [u16], colours: usize, full: u16) {
    let alpha = u32::from(pixel[colours]);
    if alpha == 0 {
        return;
    }
    for sample in &mut pixel[..colours] {
        let straight = (u32::from(*sample) * u32::from(full) + alpha / 2) / alpha;
        *sample = straight.min(u32::from(full)) as u16;
    }
}

fn refused(error: TiffError) -> ImageError {
    match error {
        TiffError::UnsupportedError(what) => ImageError::unsupported(FileFormat::Tiff, what),
        error @ (TiffError::FormatError(_)
        | TiffError::IoError(_)
        | TiffError::LimitsExceeded
        | TiffError::IntSizeError
        | TiffError::UsageError(_)) => ImageError::undecodable(FileFormat::Tiff, error),
    }
}
