//! What training leaves on disk: everything to go on from, and the base under torchvision's names.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tch::{Tensor, nn::VarStore, no_grad_guard};

use crate::network::BASE;

/// Where the training is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    pub(crate) images: u64,
    /// Over all starts.
    pub(crate) elapsed: Duration,
}

#[derive(Debug)]
pub(crate) struct Checkpoint {
    folder: PathBuf,
}

/// A tensor `[images, seconds]` beside the network's own.
const POSITION: &str = "position";

impl Checkpoint {
    pub(crate) fn in_folder(folder: PathBuf) -> Result<Self> {
        fs_err::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn training(&self) -> PathBuf {
        self.folder.join("training.safetensors")
    }

    /// Imports with `turret base import`.
    fn base(&self) -> PathBuf {
        self.folder.join("resnet34.safetensors")
    }

    /// Optimiser moments are not kept: they are a mean over the last few steps and come back as fast.
    pub(crate) fn write(&self, variables: &VarStore, position: Position) -> Result<()> {
        let mut named: Vec<(String, Tensor)> = variables.variables().into_iter().collect();
        named.sort_by(|(one, _), (other, _)| one.cmp(other));
        let prefix = format!("{BASE}.");
        let base: Vec<(&str, &Tensor)> =
            named.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?, tensor))).collect();
        write_whole(&base, &self.base())?;
        let position = Tensor::from_slice(&[position.images as f64, position.elapsed.as_secs_f64()]);
        let all: Vec<(&str, &Tensor)> = named
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .chain([(POSITION, &position)])
            .collect();
        write_whole(&all, &self.training())
    }

    /// Goes on where the folder's training stopped; from the start if there was none.
    pub(crate) fn resume(&self, variables: &VarStore) -> Result<Position> {
        let path = self.training();
        if !path.exists() {
            return Ok(Position::default());
        }
        let mut found: HashMap<String, Tensor> = Tensor::read_safetensors(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .into_iter()
            .collect();
        let position =
            found.remove(POSITION).with_context(|| format!("{} has no position", path.display()))?;
        let _guard = no_grad_guard();
        for (name, mut variable) in variables.variables() {
            let kept = found.get(&name).with_context(|| format!("{} lacks {name}", path.display()))?;
            ensure!(
                kept.size() == variable.size(),
                "{}: {name} has shape {:?}, expected {:?}; were --recipes others?",
                path.display(),
                kept.size(),
                variable.size()
            );
            variable.copy_(kept);
        }
        let elapsed = Duration::from_secs_f64(position.double_value(&[1]));
        Ok(Position { images: position.double_value(&[0]) as u64, elapsed })
    }
}

/// The file is whole at every moment, so that training can be stopped at any.
fn write_whole(tensors: &[(&str, &Tensor)], path: &Path) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    Tensor::write_safetensors(tensors, &unfinished)
        .with_context(|| format!("cannot write {}", unfinished.display()))?;
    Ok(fs_err::rename(&unfinished, path)?)
}
