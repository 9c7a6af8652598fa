//! The file formats of checkpoints, each read as a list of stored tensors.

use std::path::Path;

use bytes::Bytes;
use pytorch_reader::PytorchReader;
use safetensors::SafeTensors;

use super::{CheckpointError, StoredTensor};

/// Longest header that the safetensors format allows, in bytes.
const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;

/// Detects safetensors: the header's length as a little-endian u64, the header as JSON, the values.
pub(super) fn starts_like_safetensors(start: &[u8]) -> bool {
    start.split_first_chunk().is_some_and(|(length, rest)| {
        u64::from_le_bytes(*length) <= MAX_SAFETENSORS_HEADER && rest.starts_with(b"{")
    })
}

pub(super) fn safetensors(
    path: &Path,
    file_bytes: Vec<u8>,
) -> Result<Vec<StoredTensor>, CheckpointError> {
    let file_bytes = Bytes::from(file_bytes);
    let file = SafeTensors::deserialize(&file_bytes)
        .map_err(|source| CheckpointError::Safetensors { path: path.to_owned(), source })?;
    let stored = file.tensors().into_iter().map(|(name, view)| {
        let bytes = file_bytes.slice_ref(view.data());
        StoredTensor {
            name,
            element_type: format!("{:?}", view.dtype()),
            shape: view.shape().to_vec(),
            length_bytes: bytes.len() as u64,
            read: Box::new(move || Ok(bytes.to_vec())),
        }
    });
    Ok(stored.collect())
}

/// Reads both `torch.save` formats; the reader tells them apart and resolves no name in a pickle.
pub(super) fn pytorch(path: &Path) -> Result<Vec<StoredTensor>, CheckpointError> {
    let file = PytorchReader::new(path).map_err(|source| CheckpointError::Pytorch {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let stored = file.into_tensors().into_values().map(|tensor| StoredTensor {
        name: tensor.name.clone(),
        element_type: format!("{:?}", tensor.dtype()),
        shape: tensor.shape().to_vec(),
        length_bytes: tensor.byte_len() as u64,
        read: Box::new(move || tensor.read()),
    });
    Ok(stored.collect())
}
