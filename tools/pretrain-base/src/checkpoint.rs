//! Training's files: the state to resume from, and the base under torchvision's names.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad_guard};

use crate::{network::BASE, precision::Precision};

/// Settings that identify a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) images: u64,
    pub(crate) seed: u64,
    pub(crate) recipes: u32,
    pub(crate) batch: usize,
    pub(crate) learning_rate: f64,
    pub(crate) precision: Precision,
}

/// Progress of a training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) images: u64,
    /// Total over all runs.
    pub(crate) elapsed: Duration,
}

#[derive(Debug)]
pub(crate) struct Checkpoint {
    folder: PathBuf,
}

/// Name of the tensor with the JSON of [`Settings`] and [`Position`].
const TRAINING: &str = "training";

impl Checkpoint {
    pub(crate) fn in_folder(folder: PathBuf) -> Result<Self> {
        fs_err::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn training(&self) -> PathBuf {
        self.folder.join("training.safetensors")
    }

    /// Returns the path of the file that `turret base import` reads.
    pub(crate) fn base(&self) -> PathBuf {
        self.folder.join("resnet34.safetensors")
    }

    /// Writes `state`, all that the training changes, by name.
    pub(crate) fn write(
        &self,
        state: &[(String, Tensor)],
        settings: &Settings,
        position: Position,
    ) -> Result<()> {
        let prefix = format!("{BASE}.");
        let base: Vec<(&str, &Tensor)> = state
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?, tensor)))
            .collect();
        write_whole(&base, &self.base())?;
        let training = Tensor::from_slice(&serde_json::to_vec(&(settings, position))?);
        let named = state.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let all: Vec<(&str, &Tensor)> = named.chain([(TRAINING, &training)]).collect();
        write_whole(&all, &self.training())
    }

    /// Restores the state of the folder's training; leaves it unchanged if there is none.
    pub(crate) fn resume(
        &self,
        state: &[(String, Tensor)],
        settings: &Settings,
    ) -> Result<Position> {
        let path = self.training();
        if !path.exists() {
            return Ok(Position::default());
        }
        let shown = path.display();
        let mut kept: HashMap<String, Tensor> = Tensor::read_safetensors(&path)
            .with_context(|| format!("cannot read {shown}"))?
            .into_iter()
            .collect();
        let of_training =
            kept.remove(TRAINING).filter(|tensor| tensor.kind() == Kind::Uint8).with_context(
                || format!("{shown} is not a checkpoint of this program: choose another --out"),
            )?;
        let bytes = Vec::<u8>::try_from(of_training.flatten(0, -1))?;
        let (found, position): (Settings, Position) = serde_json::from_slice(&bytes)
            .with_context(|| format!("cannot read {TRAINING} in {shown}"))?;
        ensure!(
            found == *settings,
            "{shown} is of another training, {found:?}, expected {settings:?}: choose another --out or its options"
        );
        let _guard = no_grad_guard();
        for (name, tensor) in state {
            let kept = kept.get(name).with_context(|| format!("{shown} lacks {name}"))?;
            ensure!(
                kept.size() == tensor.size(),
                "{shown}: {name} has shape {:?}, expected {:?}",
                kept.size(),
                tensor.size()
            );
            tensor.shallow_clone().copy_(kept);
        }
        Ok(position)
    }
}

/// Writes atomically, so that training can be stopped at any moment.
fn write_whole(tensors: &[(&str, &Tensor)], path: &Path) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    Tensor::write_safetensors(tensors, &unfinished)
        .with_context(|| format!("cannot write {}", unfinished.display()))?;
    Ok(fs_err::rename(&unfinished, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        images: 100,
        seed: u64::MAX,
        recipes: 3,
        batch: 4,
        learning_rate: 1.5e-3,
        precision: Precision::Fp32,
    };

    fn state(values: [f32; 2]) -> Vec<(String, Tensor)> {
        vec![
            ("base.conv1.weight".to_owned(), Tensor::from_slice(&values)),
            ("steps".to_owned(), Tensor::from(7i64)),
        ]
    }

    fn written() -> (tempfile::TempDir, Checkpoint) {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_folder(folder.path().to_owned()).unwrap();
        let position = Position { images: 40, elapsed: Duration::from_millis(1500) };
        checkpoint.write(&state([1.0, -2.5]), &SETTINGS, position).unwrap();
        (folder, checkpoint)
    }

    #[test]
    fn empty_folder_starts_from_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_folder(folder.path().join("new")).unwrap();
        assert_eq!(checkpoint.resume(&state([3.0; 2]), &SETTINGS).unwrap(), Position::default());
    }

    #[test]
    fn resume_restores_what_was_written() {
        let (_folder, checkpoint) = written();
        let state = state([0.0; 2]);
        let position = checkpoint.resume(&state, &SETTINGS).unwrap();
        assert_eq!(position, Position { images: 40, elapsed: Duration::from_millis(1500) });
        assert!(state[0].1.equal(&Tensor::from_slice(&[1.0f32, -2.5])));
        let base = Tensor::read_safetensors(checkpoint.base()).unwrap();
        assert_eq!(
            base.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["conv1.weight"]
        );
    }

    #[test]
    fn checkpoint_of_another_training_is_refused() {
        let (_folder, checkpoint) = written();
        let refusal = |state: &[(String, Tensor)], settings: &Settings| {
            checkpoint.resume(state, settings).unwrap_err().to_string()
        };
        let other = Settings { images: 200, ..SETTINGS };
        assert!(refusal(&state([0.0; 2]), &other).contains("another training"));
        let mut more = state([0.0; 2]);
        more.push(("more".to_owned(), Tensor::from(0i64)));
        assert!(refusal(&more, &SETTINGS).contains("lacks more"));
        let wider = vec![("steps".to_owned(), Tensor::from_slice(&[0i64, 0]))];
        assert!(refusal(&wider, &SETTINGS).contains("steps has shape [], expected [2]"));
    }

    #[test]
    fn other_file_is_refused() {
        let (_folder, checkpoint) = written();
        fs_err::copy(checkpoint.base(), checkpoint.training()).unwrap();
        let refusal = checkpoint.resume(&state([0.0; 2]), &SETTINGS).unwrap_err().to_string();
        assert!(refusal.contains("not a checkpoint of this program"), "{refusal}");
    }
}
