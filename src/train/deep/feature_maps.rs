//! Maps of the trunk on disk, one for each picture and view: what lies below the private layers is computed once.
//!
//! `<cache folder of the base>/maps-<branch>/<first 2 digits>/<name of the view>.safetensors`, in f16.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use half::f16;
use rayon::prelude::*;
use tempfile::TempDir;

use crate::{
    atomic_file,
    base::{Architecture, BaseError, BranchPoint},
    ids::Digest,
    tensor_file::{self, Codes, NewCodes, TensorFile},
    train::{
        context::TrainContext,
        error::TrainError,
        features::extract::{View, in_batches},
        progress::Event,
    },
};

const PREFIX: &str = "maps-";
const MAP: &str = "map";

/// Where maps are kept, and how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MapStorage<'a> {
    /// The cache of this base and preprocessing; `None`: only while this training runs.
    pub(crate) folder: Option<&'a Path>,
    /// Most bytes of maps, of all bases and branches, in the cache.
    pub(crate) limit: u64,
}

/// The maps of one branch.
#[derive(Debug)]
pub(crate) struct FeatureMaps {
    folder: PathBuf,
    shape: [usize; 3],
    _temporary: Option<TempDir>,
}

impl FeatureMaps {
    /// Computes the maps that are not there yet, and first makes room for them.
    ///
    /// # Errors
    /// If they cannot be written, do not fit the limit, or the base fails.
    pub(crate) fn gather(
        context: &mut TrainContext<'_>,
        place: MapStorage<'_>,
        (architecture, branch): (Architecture, BranchPoint),
        views: &[View<'_>],
    ) -> Result<Self, TrainError> {
        let TrainContext { options, base, observer } = context;
        let preprocess = &options.preprocess;
        let shape = architecture.branch_map(branch, preprocess.side()).map_err(BaseError::from)?;
        let temporary = place.folder.is_none().then(tempfile::tempdir).transpose();
        let temporary = temporary
            .map_err(|source| TrainError::Maps { folder: std::env::temp_dir(), source })?;
        let folder = match (place.folder, &temporary) {
            (Some(folder), _) => folder.join(format!("{PREFIX}{branch}")),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => PathBuf::new(),
        };
        let maps = Self { folder, shape, _temporary: temporary };
        let missing: Vec<usize> = (0..views.len())
            .into_par_iter()
            .filter(|&index| maps.read(views[index].digest()).is_err())
            .collect();
        let (total, cached) = (views.len(), views.len() - missing.len());
        let needed = views.len() as u64 * maps.bytes_of_one();
        if needed > place.limit {
            return Err(TrainError::MapsOverLimit {
                views: views.len(),
                needed,
                limit: place.limit,
            });
        }
        if let Some(folder) = place.folder {
            let in_use: Vec<PathBuf> = views.iter().map(|view| maps.entry(view.digest())).collect();
            make_room(folder, place.limit - needed, &in_use);
        }
        observer(Event::Maps { done: cached, total, cached });
        in_batches(views, &missing, preprocess, observer, |done, indices, images, observer| {
            if !images.is_empty() {
                let values = base.trunk_maps(images, branch)?;
                let numbers = maps.shape.iter().product();
                let kept = indices.par_iter().zip(values.par_chunks_exact(numbers));
                kept.try_for_each(|(&index, map)| maps.write(views[index].digest(), map))
                    .map_err(|source| TrainError::Maps { folder: maps.folder.clone(), source })?;
            }
            observer(Event::Maps { done: cached + done, total, cached });
            Ok(())
        })?;
        Ok(maps)
    }

    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn bytes_of_one(&self) -> u64 {
        2 * self.shape.iter().product::<usize>() as u64
    }

    fn entry(&self, view: Digest) -> PathBuf {
        let name = view.to_string();
        let shelf: String = name.chars().take(2).collect();
        self.folder.join(shelf).join(format!("{name}.safetensors"))
    }

    /// `[channels, height, width]`
    ///
    /// # Errors
    /// If it is not there, or cannot be believed.
    pub(crate) fn read(&self, view: Digest) -> Result<Vec<f32>, TrainError> {
        let path = self.entry(view);
        let read = || -> io::Result<Vec<f32>> {
            let bytes = fs_err::read(&path)?;
            let file = TensorFile::parse(&bytes).map_err(io::Error::other)?;
            file.halves(MAP, &self.shape).map_err(io::Error::other)
        };
        read().map_err(|source| TrainError::Maps { folder: self.folder.clone(), source })
    }

    fn write(&self, view: Digest, map: &[f32]) -> io::Result<()> {
        let largest = f16::MAX.to_f32();
        let halves: Vec<f16> =
            map.iter().map(|value| f16::from_f32(value.clamp(-largest, largest))).collect();
        let codes = [NewCodes { name: MAP, shape: &self.shape, codes: Codes::Halves(&halves) }];
        let bytes = tensor_file::to_bytes_with_codes(&[], &codes, &BTreeMap::new())
            .map_err(io::Error::other)?;
        atomic_file::replace(&self.entry(view), &bytes)
    }
}

/// Removes the maps that were written longest ago, those in use left out, until the others take no more than `limit`.
/// What cannot be removed stays: the next training tries again.
fn make_room(cache_of_base: &Path, limit: u64, in_use: &[PathBuf]) {
    let Some(root) = cache_of_base.parent() else { return };
    let is_map = |path: &Path| {
        let mut folders = path.strip_prefix(root).into_iter().flat_map(Path::components);
        folders
            .nth(1)
            .is_some_and(|folder| folder.as_os_str().to_string_lossy().starts_with(PREFIX))
    };
    let files = walkdir::WalkDir::new(root)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file());
    let mut others: Vec<(SystemTime, u64, PathBuf)> = files
        .filter(|entry| is_map(entry.path()) && !in_use.iter().any(|path| path == entry.path()))
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len(), entry.into_path()))
        })
        .collect();
    others.sort();
    let mut taken: u64 = others.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in others {
        if taken <= limit {
            return;
        }
        if fs_err::remove_file(path).is_ok() {
            taken -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_maps_make_room_and_nothing_else_does() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("base");
        let put = |name: &str, age: u64| {
            let path = root.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, [0; 100]).unwrap();
            let file = fs_err::File::options().write(true).open(&path).unwrap();
            file.file()
                .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age))
                .unwrap();
            path
        };
        let features = put("base/aa/features.safetensors", 100);
        let in_use = put("base/maps-layer4/aa/used", 90);
        let oldest = put("other/maps-layer4.2/aa/oldest", 80);
        let old = put("base/maps-layer4.2/bb/old", 70);
        let new = put("base/maps-layer4/cc/new", 60);
        make_room(&base, 150, std::slice::from_ref(&in_use));
        let there = [&features, &in_use, &oldest, &old, &new].map(|path| path.exists());
        assert_eq!(there, [true, true, false, false, true]);
    }
}
