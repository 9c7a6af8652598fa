//! Errors while reading a checkpoint.

use std::{io, path::PathBuf};

use pytorch_reader::PytorchError;
use safetensors::SafeTensorError;

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a file; name the checkpoint itself")]
    NotAFile { path: PathBuf },
    #[error("{path} is empty; download or copy it again")]
    Empty { path: PathBuf },
    #[error(
        "{path} takes {found} bytes, more than the {expected} allowed for a checkpoint; \
         save only the weights of the network"
    )]
    TooLarge { path: PathBuf, expected: u64, found: u64 },
    #[error(
        "{path} is a web page, not a checkpoint; the server sent a message instead: \
         read it in a browser, then download the file again"
    )]
    WebPage { path: PathBuf },
    #[error(
        "cannot read {path} as a PyTorch checkpoint ({source}); \
         it is truncated, damaged or another kind of file: \
         download it again, or save it again with `torch.save(model.state_dict(), ...)`"
    )]
    Pytorch { path: PathBuf, source: Box<PytorchError> },
    #[error(
        "cannot read {path} as safetensors ({source}); it is truncated or damaged: \
         download it again, or save it again with \
         `safetensors.torch.save_file(model.state_dict(), ...)`"
    )]
    Safetensors { path: PathBuf, source: SafeTensorError },
    #[error(
        "cannot read tensor {tensor} of {path} ({source}); the file is damaged: download it again"
    )]
    Tensor { path: PathBuf, tensor: String, source: io::Error },
    #[error("{path} holds no tensors; save it with `torch.save(model.state_dict(), ...)`")]
    NoTensors { path: PathBuf },
    #[error(
        "tensor {tensor} of {path} holds {found}, expected {expected}; \
         convert the network with `model.float()` before saving it"
    )]
    ElementType { path: PathBuf, tensor: String, expected: &'static str, found: String },
    #[error(
        "tensor {tensor} of {path} is not finite: element {index} is {found}; \
         use a checkpoint from before training diverged"
    )]
    NotFinite { path: PathBuf, tensor: String, index: usize, found: f32 },
}
