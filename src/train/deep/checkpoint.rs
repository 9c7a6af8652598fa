//! Checkpoints, from which a stopped fine-tuning resumes after its last complete epoch.
//!
//! `<folder>/<epochs done, 6 digits>.safetensors` holds every tensor that a step changes. The
//! folder's name covers everything that the result depends on, so trainings never mix.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use crate::{
    atomic_file,
    base::{BaseError, BranchTensor},
    tensor_file::{self, NewTensor, TensorFile},
    torch::TrainableHead,
};

/// The tensors of a [`TrainableHead`] by name.
type State = BTreeMap<String, BranchTensor>;

const SUFFIX: &str = ".safetensors";

/// The checkpoints of one training, on one fold or all of them.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Restores the head from its newest valid checkpoint and returns the number of epochs done.
    ///
    /// A checkpoint that is unreadable or of another shape is ignored.
    ///
    /// # Errors
    /// Fails if the head's own state cannot be read.
    pub(crate) fn resume(&self, head: &mut TrainableHead) -> Result<usize, BaseError> {
        let current = head.state()?;
        let mut epochs = self.epochs();
        while let Some((epoch, path)) = epochs.pop_last() {
            if read(&path, &current).is_ok_and(|state| head.restore(&state).is_ok()) {
                return Ok(epoch);
            }
        }
        Ok(0)
    }

    /// Writes the state after `epochs_done` epochs and removes all others.
    ///
    /// # Errors
    /// Fails if it cannot be written; the training can continue.
    pub(crate) fn save(&self, epochs_done: usize, state: &State) -> io::Result<()> {
        let others = self.epochs();
        let tensors: Vec<NewTensor<'_>> = state
            .iter()
            .map(|(name, BranchTensor { shape, values })| NewTensor { name, shape, values })
            .collect();
        let bytes = tensor_file::to_bytes(&tensors, &BTreeMap::new()).map_err(io::Error::other)?;
        atomic_file::replace(&self.folder.join(format!("{epochs_done:06}{SUFFIX}")), &bytes)?;
        others
            .into_iter()
            .filter(|(epoch, _)| *epoch != epochs_done)
            .try_for_each(|(_, path)| fs_err::remove_file(path))
    }

    fn epochs(&self) -> BTreeMap<usize, PathBuf> {
        let entries = fs_err::read_dir(&self.folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter_map(|path| Some((epoch_of(&path)?, path))).collect()
    }
}

fn epoch_of(path: &Path) -> Option<usize> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

/// Reads every tensor of `expected`, in its shape.
fn read(path: &Path, expected: &State) -> io::Result<State> {
    let bytes = fs_err::read(path)?;
    let file = TensorFile::parse(&bytes).map_err(io::Error::other)?;
    let tensors = expected.iter().map(|(name, BranchTensor { shape, .. })| {
        let values = file.values(name, shape).map_err(io::Error::other)?;
        Ok((name.clone(), BranchTensor { shape: shape.clone(), values }))
    });
    tensors.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(value: f32) -> State {
        let tensor = |shape: &[usize]| {
            let values = vec![value; shape.iter().product()];
            BranchTensor { shape: shape.to_vec(), values }
        };
        [("a".to_owned(), tensor(&[2, 3])), ("b".to_owned(), tensor(&[4]))].into()
    }

    #[test]
    fn only_the_newest_state_is_kept_and_must_be_whole() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().join("run"));
        assert!(checkpoints.epochs().is_empty());
        checkpoints.save(1, &state(1.0)).unwrap();
        checkpoints.save(2, &state(2.0)).unwrap();
        assert_eq!(checkpoints.epochs().keys().copied().collect::<Vec<_>>(), [2]);
        let path = checkpoints.epochs().pop_last().unwrap().1;
        assert_eq!(read(&path, &state(0.0)).unwrap(), state(2.0));
        let mut other_shape = state(0.0);
        other_shape.get_mut("a").unwrap().shape = vec![3, 2];
        assert!(read(&path, &other_shape).is_err());
        let bytes = fs_err::read(&path).unwrap();
        fs_err::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(read(&path, &state(0.0)).is_err(), "a truncated file");
    }
}
