//! Reads strips and tiles into interleaved samples.

use std::io::Read;

use flate2::read::ZlibDecoder;
use weezl::{BitOrder, LzwStatus, decode::Decoder};

use super::layout::{Compression, Layout, damaged};
use crate::image::{ImageError, ImageLimits};

/// Returns `width * height * samples` values of 0 to [`Layout::full`], interleaved.
pub(super) fn read(
    file: &[u8],
    layout: &Layout,
    limits: &ImageLimits,
) -> Result<Vec<u16>, ImageError> {
    let &Layout { width, height, ref chunks, .. } = layout;
    let (width, height) = (width as usize, height as usize);
    let (chunk_width, chunk_height) = (chunks.width as usize, chunks.height as usize);
    let (samples, in_chunk) = (usize::from(layout.samples), layout.samples_in_chunk());
    let row_samples = chunk_width.saturating_mul(in_chunk);
    let row_bytes = row_samples.saturating_mul(usize::from(layout.bits)).div_ceil(8);
    let chunk_bytes = row_bytes.saturating_mul(chunk_height);
    // Every tile is decompressed, to its last column and row.
    let decompressed = (chunk_bytes as u64).saturating_mul(chunks.offsets.len() as u64);
    if decompressed > limits.max_decoded_bytes {
        return Err(damaged(format!("its strips or tiles take {decompressed} bytes")));
    }
    let (across, down) = (width.div_ceil(chunk_width), height.div_ceil(chunk_height));
    let mut picture = vec![0; width * height * samples];
    let (mut bytes, mut row) = (vec![0; chunk_bytes], vec![0; row_samples]);
    for number in 0..chunks.offsets.len() {
        let (plane, place) = (number / (across * down), number % (across * down));
        let (left, top) = (place % across * chunk_width, place / across * chunk_height);
        let rows = chunk_height.min(height - top);
        let columns = chunk_width.min(width - left);
        let stored = chunks.stored(file, number).ok_or_else(|| {
            damaged(format!("it is truncated: strip or tile {number} is not all there"))
        })?;
        let stored_rows = if chunks.are_whole { chunk_height } else { rows };
        let bytes = &mut bytes[..row_bytes * stored_rows];
        decompress(layout, stored, bytes)
            .map_err(|detail| damaged(format!("strip or tile {number}: {detail}")))?;
        for (y, stored_row) in bytes.chunks_exact(row_bytes).take(rows).enumerate() {
            unpack(layout, stored_row, &mut row);
            if layout.differences {
                add_left_neighbours(&mut row, in_chunk, layout.full());
            }
            let start = ((top + y) * width + left) * samples;
            let target = &mut picture[start..][..columns * samples];
            if layout.planar {
                for (pixel, &sample) in target.chunks_exact_mut(samples).zip(&row) {
                    pixel[plane] = sample;
                }
            } else {
                target.copy_from_slice(&row[..columns * samples]);
            }
        }
    }
    Ok(picture)
}

/// Fills `bytes` from a strip or tile; more data than that is left unread, as by libtiff.
fn decompress(layout: &Layout, stored: &[u8], bytes: &mut [u8]) -> Result<(), String> {
    let reversed: Vec<u8>;
    let stored = if layout.lowest_bit_first {
        reversed = stored.iter().map(|byte| byte.reverse_bits()).collect();
        &reversed
    } else {
        stored
    };
    let expected = bytes.len();
    let too_short = |found| format!("it has {found} bytes, expected {expected}");
    match layout.compression {
        Compression::None => {
            bytes.copy_from_slice(stored.get(..expected).ok_or_else(|| too_short(stored.len()))?);
            Ok(())
        }
        Compression::Deflate => {
            ZlibDecoder::new(stored).read_exact(bytes).map_err(|error| error.to_string())
        }
        Compression::Lzw => match unpack_lzw(stored, bytes)? {
            found if found < expected => Err(too_short(found)),
            _ => Ok(()),
        },
        Compression::PackBits => match unpack_pack_bits(stored, bytes) {
            found if found < expected => Err(too_short(found)),
            _ => Ok(()),
        },
    }
}

/// Returns how many bytes it wrote.
fn unpack_lzw(mut stored: &[u8], bytes: &mut [u8]) -> Result<usize, String> {
    let mut decoder = Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let mut written = 0;
    while written < bytes.len() {
        let step = decoder.decode_bytes(stored, &mut bytes[written..]);
        written += step.consumed_out;
        stored = &stored[step.consumed_in..];
        match step.status.map_err(|error| error.to_string())? {
            LzwStatus::Ok => {}
            LzwStatus::NoProgress | LzwStatus::Done => break,
        }
    }
    Ok(written)
}

/// Unpacks runs and literals (TIFF 6.0, section 9); returns how many bytes it wrote.
fn unpack_pack_bits(mut stored: &[u8], bytes: &mut [u8]) -> usize {
    let mut written = 0;
    while let Some((&header, rest)) = stored.split_first() {
        let left = bytes.len() - written;
        let header = header as i8;
        if header >= 0 {
            let count = (header as usize + 1).min(rest.len());
            let used = count.min(left);
            bytes[written..][..used].copy_from_slice(&rest[..used]);
            written += used;
            stored = &rest[count..];
        } else if header == i8::MIN {
            stored = rest;
        } else {
            let Some((&value, rest)) = rest.split_first() else { break };
            let used = (1 + usize::from(header.unsigned_abs())).min(left);
            bytes[written..][..used].fill(value);
            written += used;
            stored = rest;
        }
        if written == bytes.len() {
            break;
        }
    }
    written
}

/// Unpacks samples of 1 to 16 bits, of which those of 8 and 16 start at whole bytes.
fn unpack(layout: &Layout, bytes: &[u8], samples: &mut [u16]) {
    match layout.bits {
        8 => samples.iter_mut().zip(bytes).for_each(|(sample, &byte)| *sample = byte.into()),
        16 => {
            let wide: fn([u8; 2]) -> u16 =
                if layout.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
            for (sample, &pair) in samples.iter_mut().zip(bytes.as_chunks().0) {
                *sample = wide(pair);
            }
        }
        bits => {
            let (mut held, mut count, mut bytes) = (0_u32, 0, bytes.iter());
            for sample in samples {
                while count < bits {
                    held = held << 8 | u32::from(bytes.next().copied().unwrap_or(0));
                    count += 8;
                }
                count -= bits;
                *sample = (held >> count) as u16 & layout.full();
            }
        }
    }
}

/// Undoes the horizontal predictor (TIFF 6.0, section 14): sums modulo the depth.
fn add_left_neighbours(row: &mut [u16], samples: usize, full: u16) {
    for index in samples..row.len() {
        row[index] = row[index].wrapping_add(row[index - samples]) & full;
    }
}
