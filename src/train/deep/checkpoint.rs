//! A fine-tuning that was stopped goes on where its last whole epoch ended.
//!
//! `<folder>/<epochs done, 6 digits>.safetensors`: every tensor that a step changes. The folder's name tells everything that
//! the result depends on, so a checkpoint is never of another training.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use tch::{Tensor, no_grad_guard};

use super::adam::State;
use crate::{
    tensor_file::{self, NewTensor, TensorFile},
    whole_file,
};

const SUFFIX: &str = ".safetensors";

#[derive(Debug)]
pub(super) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Copies the newest whole checkpoint into the tensors; gives the epochs that are done. One that cannot be believed is
    /// passed over.
    pub(super) fn resume(&self, state: &State) -> usize {
        let mut epochs = self.epochs();
        while let Some((epoch, path)) = epochs.pop_last() {
            if restore(&path, state).is_ok() {
                return epoch;
            }
        }
        0
    }

    /// Keeps the state after so many epochs and forgets the one before.
    ///
    /// # Errors
    /// If it cannot be written; the training can go on.
    pub(super) fn keep(&self, epochs_done: usize, state: &State) -> io::Result<()> {
        let before = self.epochs();
        let values: Vec<(Vec<usize>, Vec<f32>)> = state
            .iter()
            .map(|(_, tensor)| {
                let shape = tensor.size().into_iter().map(|side| side as usize).collect();
                let mut values = vec![0.0f32; tensor.numel()];
                tensor.f_detach()?.f_contiguous()?.f_copy_data(&mut values, tensor.numel())?;
                Ok((shape, values))
            })
            .collect::<Result<_, tch::TchError>>()
            .map_err(io::Error::other)?;
        let tensors: Vec<NewTensor<'_>> = state
            .iter()
            .zip(&values)
            .map(|((name, _), (shape, values))| NewTensor { name, shape, values })
            .collect();
        let bytes = tensor_file::to_bytes(&tensors, &BTreeMap::new()).map_err(io::Error::other)?;
        whole_file::put(&self.folder.join(format!("{epochs_done:06}{SUFFIX}")), &bytes)?;
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

/// Nothing is changed unless all is there.
fn restore(path: &Path, state: &State) -> io::Result<()> {
    let bytes = fs_err::read(path)?;
    let file = TensorFile::parse(&bytes).map_err(io::Error::other)?;
    let kept = state.iter().map(|(name, tensor)| {
        let shape: Vec<usize> = tensor.size().into_iter().map(|side| side as usize).collect();
        let values = file.values(name, &shape).map_err(io::Error::other)?;
        Tensor::f_from_slice(&values).and_then(|values| values.f_view_as(tensor)).map_err(io::Error::other)
    });
    let kept = kept.collect::<io::Result<Vec<Tensor>>>()?;
    let _guard = no_grad_guard();
    for ((_, tensor), kept) in state.iter().zip(kept) {
        tensor.shallow_clone().f_copy_(&kept).map_err(io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn state(value: f64) -> State {
        let tensor = |shape: &[i64]| Tensor::full(shape, value, (Kind::Float, Device::Cpu));
        vec![("a".to_owned(), tensor(&[2, 3])), ("b".to_owned(), tensor(&[4]))]
    }

    fn first(state: &State) -> f64 {
        state[1].1.double_value(&[0])
    }

    #[test]
    fn goes_on_from_the_newest_whole_one_and_keeps_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().join("run"));
        let fresh = state(0.0);
        assert_eq!(checkpoints.resume(&fresh), 0);
        checkpoints.keep(1, &state(1.0)).unwrap();
        checkpoints.keep(2, &state(2.0)).unwrap();
        assert_eq!(checkpoints.epochs().len(), 1);
        assert_eq!((checkpoints.resume(&fresh), first(&fresh)), (2, 2.0));
        // A truncated one, as no crash of ours leaves it, changes nothing.
        let path = checkpoints.epochs().pop_last().unwrap().1;
        let bytes = fs_err::read(&path).unwrap();
        fs_err::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let untouched = state(7.0);
        assert_eq!((checkpoints.resume(&untouched), first(&untouched)), (0, 7.0));
    }
}
