//! What can be wrong with a checkpoint.

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
        "{path} takes {found} bytes, more than the {expected} that a checkpoint may; \
         save the weights of the network alone"
    )]
    TooLarge { path: PathBuf, expected: u64, found: u64 },
    #[error(
        "{path} is a web page, not a checkpoint; the server sent a message instead: \
         read it in a browser and download the file again"
    )]
    WebPage { path: PathBuf },
    #[error(
        "{path} cannot be read as a PyTorch checkpoint ({source}); it is cut short, damaged or something else: \
         get it again, or save it anew with `torch.save(model.state_dict(), ...)`"
    )]
    Pytorch { path: PathBuf, source: Box<PytorchError> },
    #[error(
        "{path} cannot be read as safetensors ({source}); it is cut short or damaged: \
         get it again, or save it anew with `safetensors.torch.save_file(model.state_dict(), ...)`"
    )]
    Safetensors { path: PathBuf, source: SafeTensorError },
    #[error(
        "tensor {tensor} of {path} cannot be read ({source}); the file is damaged: get it again"
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
         take a checkpoint from before the training diverged"
    )]
    NotFinite { path: PathBuf, tensor: String, index: usize, found: f32 },
    #[error(
        "{path} has two tensors named {tensor} once the prefix `module.` is dropped; save only one of them"
    )]
    Duplicate { path: PathBuf, tensor: String },
}
