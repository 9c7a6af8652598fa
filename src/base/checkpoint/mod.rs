//! Reads checkpoints of any origin as plain numbers. Pickles are parsed as data, never executed.

mod containers;
mod error;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

pub use error::CheckpointError;

/// Largest file, and largest total of its tensors, in bytes. ResNet34 takes 87 MB, VGG16 553 MB.
pub const MAX_CHECKPOINT_BYTES: u64 = 2 << 30;

/// BatchNorm's count of training steps: the one integer of a state dict, useless once frozen.
const STEP_COUNTER: &str = ".num_batches_tracked";

/// A tensor of finite f32 values in row-major order, as many as its shape says.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// A tensor in the file, not yet read.
struct StoredTensor {
    name: String,
    /// As safetensors writes it, e.g. `F32`, `BF16`, `I64`.
    element_type: String,
    shape: Vec<usize>,
    length_bytes: u64,
    /// Reads its bytes, row-major and little-endian.
    read: Box<dyn FnOnce() -> io::Result<Vec<u8>>>,
}

/// A checkpoint whose tensors are listed and not yet read.
pub struct Checkpoint {
    path: PathBuf,
    /// Sorted by name.
    stored: Vec<StoredTensor>,
}

impl Checkpoint {
    /// Lists the tensors of a checkpoint.
    ///
    /// Accepts `torch.save` files of PyTorch 1.6 and later (zip) and earlier (pickle stream), and
    /// safetensors (timm's too), told apart by content. In nested dictionaries, the keys on the way
    /// to a tensor are its name, with dots between. BatchNorm's step counters are left out.
    ///
    /// # Errors
    /// [`CheckpointError`] if the file is of another kind or damaged, or holds no tensors.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let start = checked_start(path)?;
        let mut stored = if containers::starts_like_safetensors(&start) {
            let bytes = fs_err::read(path)
                .map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
            containers::safetensors(path, bytes)?
        } else if starts_like_web_page(&start) {
            return Err(CheckpointError::WebPage { path: path.to_owned() });
        } else {
            containers::pytorch(path)?
        };
        stored.retain(|tensor| {
            !(tensor.name.ends_with(STEP_COUNTER) && tensor.element_type.starts_with('I'))
        });
        if stored.is_empty() {
            return Err(CheckpointError::NoTensors { path: path.to_owned() });
        }
        // The libraries hash the names; sorting makes the reported error the same every time.
        stored.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { path: path.to_owned(), stored })
    }

    /// Returns name and shape of every tensor, sorted by name.
    pub fn tensors(&self) -> Vec<(&str, &[usize])> {
        self.stored.iter().map(|tensor| (tensor.name.as_str(), &tensor.shape[..])).collect()
    }

    /// Reads those tensors under the prefix that `keep` accepts; both names are without it.
    ///
    /// # Errors
    /// [`CheckpointError`] if the tensors are too large together, or one is not f32 or not finite.
    pub fn read_under(
        self,
        prefix: &str,
        keep: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, NamedTensor>, CheckpointError> {
        let Self { path, stored } = self;
        let kept: Vec<(String, StoredTensor)> = stored
            .into_iter()
            .filter_map(|tensor| Some((tensor.name.strip_prefix(prefix)?.to_owned(), tensor)))
            .filter(|(name, _)| keep(name))
            .collect();
        let lengths = kept.iter().map(|(_, tensor)| tensor.length_bytes);
        check_size(&path, lengths.fold(0, u64::saturating_add))?;
        kept.into_iter().map(|(name, tensor)| Ok((name, read_finite_f32(&path, tensor)?))).collect()
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint").field("path", &self.path).finish_non_exhaustive()
    }
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

fn read_finite_f32(path: &Path, tensor: StoredTensor) -> Result<NamedTensor, CheckpointError> {
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
