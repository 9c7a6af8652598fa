//! Reads checkpoints of any origin as plain numbers. Pickles are parsed as data, never executed.

mod containers;
mod error;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

pub use error::CheckpointError;

/// Largest file, and largest total of its tensors, in bytes. ResNet34 takes 87 MB, VGG16 553 MB.
pub const MAX_CHECKPOINT_BYTES: u64 = 2 << 30;

/// Keys under which training scripts keep the weights, beside the optimizer's state and the like.
const WEIGHTS_KEYS: [&str; 2] = ["state_dict.", "model."];

/// Prefix that `torch.nn.DataParallel` adds to every name.
const DATA_PARALLEL_PREFIX: &str = "module.";

/// BatchNorm's count of training steps: the one integer of a state dict, useless once frozen.
const STEP_COUNTER: &str = ".num_batches_tracked";

/// A tensor of finite f32 values in row-major order, as many as its shape says.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// A tensor in the file, not yet read.
struct StoredTensor<'file> {
    name: String,
    /// As safetensors writes it, e.g. `F32`, `BF16`, `I64`.
    element_type: String,
    shape: Vec<usize>,
    length_bytes: u64,
    /// Reads its bytes, row-major and little-endian.
    read: Box<dyn FnOnce() -> io::Result<Vec<u8>> + 'file>,
}

/// Reads every tensor of a checkpoint, by name.
///
/// Accepts `torch.save` files of PyTorch 1.6 and later (zip) and earlier (pickle stream), and
/// safetensors (timm's too), told apart by content. Of a dictionary with the key `state_dict` or
/// `model` only what lies under it is read. DataParallel's prefix `module.` is dropped, and so are
/// BatchNorm's step counters.
///
/// # Errors
/// [`CheckpointError`] if the file is of another kind or damaged, or if a tensor is not f32, not
/// finite or present twice.
pub fn read_checkpoint(path: &Path) -> Result<BTreeMap<String, NamedTensor>, CheckpointError> {
    let start = checked_start(path)?;
    let file_bytes;
    let stored = if containers::starts_like_safetensors(&start) {
        file_bytes = fs_err::read(path)
            .map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
        containers::safetensors(path, &file_bytes)?
    } else if starts_like_web_page(&start) {
        return Err(CheckpointError::WebPage { path: path.to_owned() });
    } else {
        containers::pytorch(path)?
    };
    let stored = weights_of_model(stored);
    if stored.is_empty() {
        return Err(CheckpointError::NoTensors { path: path.to_owned() });
    }
    check_size(path, stored.iter().map(|tensor| tensor.length_bytes).fold(0, u64::saturating_add))?;
    let mut tensors = BTreeMap::new();
    for tensor in stored {
        let name = tensor.name.clone();
        let values = read_finite_f32(path, tensor)?;
        if tensors.insert(name.clone(), values).is_some() {
            return Err(CheckpointError::Duplicate { path: path.to_owned(), tensor: name });
        }
    }
    Ok(tensors)
}

/// Returns the file's first bytes after checking that it is a file of readable size.
fn checked_start(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let read = |source| CheckpointError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(CheckpointError::NotAFile { path: path.to_owned() });
    }
    check_size(path, metadata.len())?;
    let mut start = Vec::new();
    file.take(512).read_to_end(&mut start).map_err(read)?;
    if start.is_empty() {
        return Err(CheckpointError::Empty { path: path.to_owned() });
    }
    Ok(start)
}

fn check_size(path: &Path, found: u64) -> Result<(), CheckpointError> {
    if found > MAX_CHECKPOINT_BYTES {
        return Err(CheckpointError::TooLarge {
            path: path.to_owned(),
            expected: MAX_CHECKPOINT_BYTES,
            found,
        });
    }
    Ok(())
}

fn starts_like_web_page(start: &[u8]) -> bool {
    start.trim_ascii_start().starts_with(b"<")
}

/// Keeps only the model's weights and strips prefixes from their names.
fn weights_of_model(mut stored: Vec<StoredTensor<'_>>) -> Vec<StoredTensor<'_>> {
    for key in WEIGHTS_KEYS {
        if stored.iter().any(|tensor| tensor.name.starts_with(key)) {
            stored.retain_mut(|tensor| strip_prefix(&mut tensor.name, key));
        }
    }
    for tensor in &mut stored {
        strip_prefix(&mut tensor.name, DATA_PARALLEL_PREFIX);
    }
    stored.retain(|tensor| {
        !(tensor.name.ends_with(STEP_COUNTER) && tensor.element_type.starts_with('I'))
    });
    // The libraries hash the names; sorting makes the reported error the same every time.
    stored.sort_by(|one, other| one.name.cmp(&other.name));
    stored
}

/// Strips the prefix; returns whether the name had it.
fn strip_prefix(name: &mut String, prefix: &str) -> bool {
    let has_prefix = name.starts_with(prefix);
    if has_prefix {
        name.drain(..prefix.len());
    }
    has_prefix
}

fn read_finite_f32(path: &Path, tensor: StoredTensor<'_>) -> Result<NamedTensor, CheckpointError> {
    let StoredTensor { name, element_type, shape, read, .. } = tensor;
    if element_type != "F32" {
        return Err(CheckpointError::ElementType {
            path: path.to_owned(),
            tensor: name,
            expected: "F32",
            found: element_type,
        });
    }
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(source) => {
            return Err(CheckpointError::Tensor { path: path.to_owned(), tensor: name, source });
        }
    };
    let values: Vec<f32> = bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((index, &found)) => {
            Err(CheckpointError::NotFinite { path: path.to_owned(), tensor: name, index, found })
        }
        None => Ok(NamedTensor { shape, values }),
    }
}
