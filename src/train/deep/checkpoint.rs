//! A fine-tuning that was stopped goes on where its last whole epoch ended.
//!
//! `<folder>/<epochs done, 6 digits>.safetensors`: every tensor that a step changes. The folder's name tells everything that
//! the result depends on, so a checkpoint is never of another training.

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

#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Brings the head back to its newest whole checkpoint; gives the epochs that are done. One that cannot be read or is of
    /// another shape is passed over.
    ///
    /// # Errors
    /// If the head's own state cannot be read.
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

    /// Keeps the state after so many epochs and forgets the one before.
    ///
    /// # Errors
    /// If it cannot be written; the training can go on.
    pub(crate) fn keep(&self, epochs_done: usize, state: &State) -> io::Result<()> {
        let before = self.epochs();
        let tensors: Vec<NewTensor<'_>> = state
            .iter()
            .map(|(name, BranchTensor { shape, values })| NewTensor { name, shape, values })
            .collect();
        let bytes = tensor_file::to_bytes(&tensors, &BTreeMap::new()).map_err(io::Error::other)?;
        atomic_file::replace(&self.folder.join(format!("{epochs_done:06}{SUFFIX}")), &bytes)?;
        before
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

/// Every tensor of `expected`, in its shape.
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
    fn keeps_the_newest_state_whole_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().join("run"));
        assert!(checkpoints.epochs().is_empty());
        checkpoints.keep(1, &state(1.0)).unwrap();
        checkpoints.keep(2, &state(2.0)).unwrap();
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
