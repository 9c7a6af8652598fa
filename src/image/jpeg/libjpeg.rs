//! libjpeg-turbo through `libjpeg.c`, which catches its errors.
#![expect(unsafe_code, reason = "FFI; each call states its safety condition")]

use std::{ffi::c_char, marker::PhantomData, ptr::NonNull};

/// An opened file whose header is read.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    pub(super) header: Header,
    raw: NonNull<Raw>,
    /// The library reads from the file until it is closed.
    file: PhantomData<&'a [u8]>,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: i32,
    colour: i32,
    arithmetic: i32,
    several_scans: i32,
}

/// How the samples are meant, as the markers and component ids tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Grey,
    /// RGB or YCbCr.
    Rgb,
    /// CMYK or YCCK.
    Cmyk,
    Other,
}

/// Why a file is not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Holds the library's message.
    Damaged(String),
    Truncated,
    /// Holds the marker of an unknown coding process, SOF0 being 0xC0.
    Process(u8),
    /// Holds the bits per sample.
    Precision(i32),
    /// The sides of the components are no multiples of each other.
    Sampling,
    /// The header has no height; the data would bring it (DNL).
    NoHeight,
    TooManyScans,
    OutOfMemory,
}

/// The library's state, owned by C.
#[repr(C)]
struct Raw {
    opaque: [u8; 0],
}

/// `JMSG_LENGTH_MAX` of jpeglib.h.
const MESSAGE_BYTES: usize = 200;

#[repr(C)]
struct RawFailure {
    kind: i32,
    detail: i32,
    message: [c_char; MESSAGE_BYTES],
}

unsafe extern "C" {
    fn turret_jpeg_open(
        file: *const u8,
        length: usize,
        max_scans: i32,
        header: *mut Header,
        failure: *mut RawFailure,
    ) -> *mut Raw;
    fn turret_jpeg_read(
        jpeg: *mut Raw,
        pixels: *mut u8,
        length: usize,
        failure: *mut RawFailure,
    ) -> i32;
    fn turret_jpeg_close(jpeg: *mut Raw);
}

impl<'a> Decoder<'a> {
    /// Reads the header; decoding will fail after `max_scans` scans.
    pub(super) fn open(file: &'a [u8], max_scans: i32) -> Result<Self, Failure> {
        let (mut header, mut failure) = (Header::default(), RawFailure::new());
        // SAFETY: the file outlives the decoder, by its lifetime; the header and the failure are
        // written during the call only, and are laid out as in libjpeg.c.
        let raw = unsafe {
            turret_jpeg_open(file.as_ptr(), file.len(), max_scans, &mut header, &mut failure)
        };
        let raw = NonNull::new(raw).ok_or_else(|| Failure::from(failure))?;
        Ok(Self { header, raw, file: PhantomData })
    }

    /// Decodes into RGB8; `pixels` has `width * height * 3` bytes.
    pub(super) fn read(self, pixels: &mut [u8]) -> Result<(), Failure> {
        let mut failure = RawFailure::new();
        // SAFETY: `raw` is open, and no other thread has it. C compares the length with the size of
        // the picture before it writes.
        let done = unsafe {
            turret_jpeg_read(self.raw.as_ptr(), pixels.as_mut_ptr(), pixels.len(), &mut failure)
        };
        if done == 0 { Ok(()) } else { Err(failure.into()) }
    }
}

impl Drop for Decoder<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` is open and closed only here.
        unsafe { turret_jpeg_close(self.raw.as_ptr()) }
    }
}

impl Header {
    pub(super) fn colour(&self) -> Colour {
        match self.colour {
            0 => Colour::Grey,
            1 => Colour::Rgb,
            2 => Colour::Cmyk,
            _ => Colour::Other,
        }
    }

    pub(super) fn is_arithmetic(&self) -> bool {
        self.arithmetic != 0
    }

    /// Returns whether all coefficients are held before the first row is decoded.
    pub(super) fn has_several_scans(&self) -> bool {
        self.several_scans != 0
    }
}

impl RawFailure {
    fn new() -> Self {
        Self { kind: 0, detail: 0, message: [0; MESSAGE_BYTES] }
    }

    fn message(&self) -> String {
        let bytes: Vec<u8> =
            self.message.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl From<RawFailure> for Failure {
    fn from(failure: RawFailure) -> Self {
        match failure.kind {
            1 => Self::Truncated,
            2 => Self::Process(failure.detail as u8),
            3 => Self::Precision(failure.detail),
            4 => Self::Sampling,
            5 => Self::NoHeight,
            6 => Self::TooManyScans,
            7 => Self::OutOfMemory,
            _ => Self::Damaged(failure.message()),
        }
    }
}
