//! FFI bindings to `graphs.cpp`: CUDA graphs and streams, which tch does not offer.
#![expect(
    unsafe_code,
    reason = "a shared object and its functions; each call states its safety condition"
)]

use std::{
    ffi::c_void,
    io,
    os::fd::AsRawFd as _,
    ptr::{self, NonNull},
    sync::OnceLock,
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::fs::{MemfdFlags, memfd_create};
use tch::{TchError, Tensor};

use crate::torch::ffi::{Failure, check};

/// `graphs.cpp` as compiled by `build.rs`; empty if it found no CUDA headers.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda_graphs.so"));

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum GraphsError {
    #[error("built without CUDA's headers")]
    NotBuilt,
    #[error("cannot open the shared object for CUDA graphs: {detail}")]
    Unopened { detail: String },
}

type Handle = *mut c_void;

/// The functions of `graphs.cpp`.
#[derive(Debug)]
pub(super) struct Functions {
    stream_new: unsafe extern "C" fn(i8, *mut Handle) -> Failure,
    stream_enter: unsafe extern "C" fn(Handle) -> Failure,
    stream_wait: unsafe extern "C" fn(Handle) -> Failure,
    stream_free: unsafe extern "C" fn(Handle),
    graph_begin: unsafe extern "C" fn(*mut Handle) -> Failure,
    graph_end: unsafe extern "C" fn(Handle) -> Failure,
    graph_replay: unsafe extern "C" fn(Handle) -> Failure,
    graph_free: unsafe extern "C" fn(Handle),
}

/// An in-order queue of work on the device; two of them overlap.
#[derive(Debug)]
pub(super) struct Stream {
    functions: &'static Functions,
    handle: NonNull<c_void>,
}

/// Work recorded on a stream, which one call launches again.
#[derive(Debug)]
pub(super) struct Graph {
    functions: &'static Functions,
    handle: NonNull<c_void>,
}

// SAFETY: both are plain objects of libtorch without ties to the thread that made them, and are
// used by one thread at a time: neither is Sync.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Send for Graph {}

impl Functions {
    /// Opens the shared object once.
    ///
    /// libtorch_cuda.so must already be open, with global symbols.
    pub(super) fn open() -> Result<&'static Self, GraphsError> {
        static OPENED: OnceLock<Result<Functions, GraphsError>> = OnceLock::new();
        OPENED.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, GraphsError> {
        if OBJECT.is_empty() {
            return Err(GraphsError::NotBuilt);
        }
        let file =
            memory_file().map_err(|error| GraphsError::Unopened { detail: error.to_string() })?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let unopened =
            |error: libloading::Error| GraphsError::Unopened { detail: error.to_string() };
        // SAFETY: it is this crate's `graphs.cpp`, which has no initialisers of its own. It is
        // never closed, so no function of it can dangle.
        let library =
            unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(unopened)?;
        // SAFETY: names and types are those of `graphs.cpp`, compiled together with this file.
        let functions = unsafe {
            Self {
                stream_new: *library.get(b"turret_stream_new\0").map_err(unopened)?,
                stream_enter: *library.get(b"turret_stream_enter\0").map_err(unopened)?,
                stream_wait: *library.get(b"turret_stream_wait\0").map_err(unopened)?,
                stream_free: *library.get(b"turret_stream_free\0").map_err(unopened)?,
                graph_begin: *library.get(b"turret_graph_begin\0").map_err(unopened)?,
                graph_end: *library.get(b"turret_graph_end\0").map_err(unopened)?,
                graph_replay: *library.get(b"turret_graph_replay\0").map_err(unopened)?,
                graph_free: *library.get(b"turret_graph_free\0").map_err(unopened)?,
            }
        };
        std::mem::forget(library);
        Ok(functions)
    }
}

/// Returns the object as a file in memory: a container's root is often read-only.
fn memory_file() -> io::Result<rustix::fd::OwnedFd> {
    let file = memfd_create("turret-cuda-graphs", MemfdFlags::CLOEXEC)?;
    let mut rest = OBJECT;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(file)
}

impl Stream {
    pub(super) fn new(functions: &'static Functions, device: usize) -> Result<Self, TchError> {
        let device = i8::try_from(device).map_err(|error| TchError::Convert(error.to_string()))?;
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is written on success.
        unsafe { check((functions.stream_new)(device, &raw mut handle)) }?;
        Ok(Self { functions, handle: non_null(handle)? })
    }

    /// Makes this the current stream of the calling thread.
    pub(super) fn enter(&self) -> Result<(), TchError> {
        // SAFETY: the handle is a stream until it is dropped; it is only read.
        unsafe { check((self.functions.stream_enter)(self.handle.as_ptr())) }
    }

    /// Waits until all work started here is done.
    pub(super) fn wait(&self) -> Result<(), TchError> {
        // SAFETY: as in `enter`.
        unsafe { check((self.functions.stream_wait)(self.handle.as_ptr())) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by `stream_new`, freed once. The stream itself belongs to libtorch's pool.
        unsafe { (self.functions.stream_free)(self.handle.as_ptr()) }
    }
}

impl Graph {
    /// Records what `work` launches on the current stream; nothing is computed yet.
    pub(super) fn record<T>(
        functions: &'static Functions,
        work: impl FnOnce() -> Result<T, TchError>,
    ) -> Result<(Self, T), TchError> {
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is written on success.
        unsafe { check((functions.graph_begin)(&raw mut handle)) }?;
        let graph = Self { functions, handle: non_null(handle)? };
        let worked = work();
        // SAFETY: the handle is the graph being recorded; recording ends even if the work failed.
        let ended = unsafe { check((functions.graph_end)(graph.handle.as_ptr())) };
        let result = worked?;
        ended?;
        Ok((graph, result))
    }

    /// Launches everything recorded, on the current stream.
    pub(super) fn replay(&self) -> Result<(), TchError> {
        // SAFETY: a graph whose recording has ended. The memory that it reads and writes is its
        // own or lives as long as the `Recording` that holds it.
        unsafe { check((self.functions.graph_replay)(self.handle.as_ptr())) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `graph_begin`, freed once.
        unsafe { (self.functions.graph_free)(self.handle.as_ptr()) }
    }
}

/// Writes values into a tensor in host memory from an offset on, without an intermediate copy.
///
/// # Errors
/// If the values do not fit, or the tensor is of another kind or not contiguous.
pub(super) fn write<T: tch::kind::Element>(
    tensor: &mut Tensor,
    from: usize,
    values: &[T],
) -> Result<(), TchError> {
    let fits = from.checked_add(values.len()).is_some_and(|end| end <= tensor.numel());
    let is_writable = tensor.device() == tch::Device::Cpu
        && tensor.is_contiguous()
        && tensor.f_kind()? == T::KIND;
    if !fits || !is_writable {
        let found = format!("{tensor:?} cannot take {} values at offset {from}", values.len());
        return Err(TchError::Convert(found));
    }
    // SAFETY: the tensor is contiguous in host memory and of this kind, and the range was checked
    // to lie within it. It is mutably borrowed, and no device reads it: its stream was waited for.
    unsafe {
        let to = tensor.data_ptr().cast::<T>().add(from);
        ptr::copy_nonoverlapping(values.as_ptr(), to, values.len());
    }
    Ok(())
}

fn non_null(handle: Handle) -> Result<NonNull<c_void>, TchError> {
    NonNull::new(handle)
        .ok_or_else(|| TchError::Torch("libtorch returned a null handle".to_owned()))
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::torch::cuda::library;

    /// On a machine with the full libtorch every function is found, with or without a GPU.
    #[test]
    fn opens_with_libtorchs_cuda_library_or_says_why_not() {
        match (library::open(), Functions::open()) {
            (Ok(()), Ok(_)) | (_, Err(GraphsError::NotBuilt)) => {}
            (Err(_), Err(error)) => {
                assert!(error.to_string().contains("undefined symbol"), "{error}")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn writes_only_within_a_tensor_of_its_kind() {
        let mut tensor = Tensor::zeros([2, 3], (Kind::Uint8, tch::Device::Cpu));
        write(&mut tensor, 2, &[1u8, 2, 3, 4]).unwrap();
        let values = Vec::<u8>::try_from(tensor.view(-1)).unwrap();
        assert_eq!(values, [0, 0, 1, 2, 3, 4]);
        assert!(write(&mut tensor, 3, &[1u8; 4]).is_err(), "beyond its end");
        assert!(write(&mut tensor, usize::MAX, &[1u8]).is_err(), "an end that overflows");
        assert!(write(&mut tensor, 0, &[1.0f32]).is_err(), "another kind");
        assert!(write(&mut tensor.transpose(0, 1), 0, &[1u8]).is_err(), "not contiguous");
    }
}
