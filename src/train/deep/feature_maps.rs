//! The trunk's feature maps on disk, one per view, so that the trunk runs only once.
//!
//! `<base's cache folder>/maps-<branch>/<first 2 digits>/<digest of the view>.safetensors`, in f16.

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

/// Where feature maps are kept, and how many bytes of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MapStorage<'a> {
    /// The cache of this base and preprocessing; `None` for a folder deleted after the training.
    pub(crate) folder: Option<&'a Path>,
    /// Maximum bytes of feature maps in the cache, over all bases and branches.
    pub(crate) limit: u64,
}

/// The feature maps of one branch point.
#[derive(Debug)]
pub(crate) struct FeatureMaps {
    folder: PathBuf,
    shape: [usize; 3],
    _temporary: Option<TempDir>,
}

impl FeatureMaps {
    /// Makes room for the feature maps that are missing, and computes them.
    ///
    /// # Errors
    /// Fails if they cannot be written, exceed the limit, or if the base fails.
    pub(crate) fn gather(
        context: &mut TrainContext<'_>,
        storage: MapStorage<'_>,
        (architecture, branch): (Architecture, BranchPoint),
        views: &[View<'_>],
    ) -> Result<Self, TrainError> {
        let TrainContext { options, base, observer } = context;
        let preprocess = &options.preprocess;
        let shape = architecture.branch_map(branch, preprocess.side()).map_err(BaseError::from)?;
        let temporary = storage.folder.is_none().then(tempfile::tempdir).transpose();
        let temporary = temporary
            .map_err(|source| TrainError::Maps { folder: std::env::temp_dir(), source })?;
        let folder = match (storage.folder, &temporary) {
            (Some(folder), _) => folder.join(format!("{PREFIX}{branch}")),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => PathBuf::new(),
        };
        let feature_maps = Self { folder, shape, _temporary: temporary };
        let missing: Vec<usize> = (0..views.len())
            .into_par_iter()
            .filter(|&index| feature_maps.read(views[index].digest()).is_err())
            .collect();
        let (total, cached) = (views.len(), views.len() - missing.len());
        let needed = views.len() as u64 * feature_maps.bytes_per_map();
        if needed > storage.limit {
            return Err(TrainError::MapsOverLimit {
                views: views.len(),
                needed,
                limit: storage.limit,
            });
        }
        if let Some(folder) = storage.folder {
            let in_use: Vec<PathBuf> =
                views.iter().map(|view| feature_maps.entry(view.digest())).collect();
            make_room(folder, storage.limit - needed, &in_use);
        }
        observer(Event::Maps { done: cached, total, cached });
        in_batches(views, &missing, preprocess, observer, |done, indices, images, observer| {
            if !images.is_empty() {
                let values = base.trunk_maps(images, branch)?;
                let length = feature_maps.shape.iter().product();
                let computed = indices.par_iter().zip(values.par_chunks_exact(length));
                computed
                    .try_for_each(|(&index, map)| feature_maps.write(views[index].digest(), map))
                    .map_err(|source| TrainError::Maps {
                        folder: feature_maps.folder.clone(),
                        source,
                    })?;
            }
            observer(Event::Maps { done: cached + done, total, cached });
            Ok(())
        })?;
        Ok(feature_maps)
    }

    /// Returns `[channels, height, width]`.
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn bytes_per_map(&self) -> u64 {
        2 * self.shape.iter().product::<usize>() as u64
    }

    fn entry(&self, view: Digest) -> PathBuf {
        let name = view.to_string();
        let prefix: String = name.chars().take(2).collect();
        self.folder.join(prefix).join(format!("{name}.safetensors"))
    }

    /// Returns the feature map of a view, `[channels, height, width]`.
    ///
    /// # Errors
    /// Fails if there is no valid entry.
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

/// Removes the oldest feature maps that are not in use until the rest take at most `limit` bytes.
///
/// Files that cannot be removed stay; the next training tries again.
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
    let mut occupied: u64 = others.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in others {
        if occupied <= limit {
            return;
        }
        if fs_err::remove_file(path).is_ok() {
            occupied -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn making_room_removes_only_the_oldest_unused_maps() {
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
        let left = [&features, &in_use, &oldest, &old, &new].map(|path| path.exists());
        assert_eq!(left, [true, true, false, false, true]);
    }
}
