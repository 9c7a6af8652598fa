//! Features on disk, by content: one forward pass per picture, base and preprocessing.
//!
//! Path of an entry, with the digits of SHA-256 digests in hexadecimal:
//! `<root>/<base, 12 digits>-<arithmetic>-<preprocessing, 12 digits>-<pipeline>/<first 2 digits>/`
//! `<digest of the picture's file>.safetensors`

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::pipeline::PIPELINE;
use crate::{
    atomic_file,
    base::{BaseIdentity, FeatureSet, FeatureWidths},
    ids::Digest,
    image::Preprocess,
    tensor_file::{self, NewTensor, TensorFile},
};

/// Both feature sets of one picture, from the same forward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureFeatures {
    pub gap: Vec<f32>,
    pub pyramid: Vec<f32>,
}

impl PictureFeatures {
    pub fn of(&self, set: FeatureSet) -> &[f32] {
        match set {
            FeatureSet::Gap => &self.gap,
            FeatureSet::Pyramid => &self.pyramid,
        }
    }
}

/// The cache for one base, in one arithmetic, with one preprocessing.
#[derive(Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    widths: FeatureWidths,
}

impl FeatureCache {
    pub fn new(
        root: &Path,
        base: &BaseIdentity,
        arithmetic: &str,
        widths: FeatureWidths,
        preprocess: &Preprocess,
    ) -> Self {
        let preprocess: String = preprocess.digest().chars().take(12).collect();
        let folder = format!("{}-{arithmetic}-{preprocess}-{PIPELINE}", base.digest.short());
        Self { folder: root.join(folder), widths }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn entry(&self, picture: Digest) -> PathBuf {
        let name = picture.to_string();
        let prefix: String = name.chars().take(2).collect();
        self.folder.join(prefix).join(format!("{name}.safetensors"))
    }

    /// Returns a picture's features, or `None` if there is no valid entry.
    pub fn get(&self, picture: Digest) -> Option<PictureFeatures> {
        let bytes = fs_err::read(self.entry(picture)).ok()?;
        let file = TensorFile::parse(&bytes).ok()?;
        let values = |set: FeatureSet| file.values(set.name(), &[self.widths.of(set)]).ok();
        Some(PictureFeatures {
            gap: values(FeatureSet::Gap)?,
            pyramid: values(FeatureSet::Pyramid)?,
        })
    }

    /// Stores a picture's features.
    ///
    /// Replaces an existing entry: it is either invalid to [`get`](Self::get) or was written by a
    /// concurrent run with the same content.
    pub fn put(&self, picture: Digest, features: &PictureFeatures) -> io::Result<()> {
        let PictureFeatures { gap, pyramid } = features;
        let tensors =
            [(FeatureSet::Gap, gap, [gap.len()]), (FeatureSet::Pyramid, pyramid, [pyramid.len()])];
        let tensors = tensors.each_ref().map(|(set, values, shape)| NewTensor {
            name: set.name(),
            shape,
            values,
        });
        let bytes = tensor_file::to_bytes(&tensors, &BTreeMap::new()).map_err(io::Error::other)?;
        atomic_file::replace(&self.entry(picture), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTHS: FeatureWidths = FeatureWidths { gap: 2, pyramid: 3 };

    fn cache(root: &Path, base: &[u8], preprocess: &Preprocess) -> FeatureCache {
        let base = BaseIdentity { architecture: "resnet18".to_owned(), digest: Digest::of(base) };
        FeatureCache::new(root, &base, "exact", WIDTHS, preprocess)
    }

    fn features() -> PictureFeatures {
        PictureFeatures { gap: vec![1.0, 2.0], pyramid: vec![3.0, 4.0, 5.0] }
    }

    #[test]
    fn entry_is_found_only_for_its_base_and_preprocessing() {
        let root = tempfile::tempdir().unwrap();
        let picture = Digest::of(b"picture");
        let preprocess = Preprocess::default();
        let first = cache(root.path(), b"base", &preprocess);
        assert_eq!(first.get(picture), None);
        first.put(picture, &features()).unwrap();
        assert_eq!(first.get(picture), Some(features()));
        assert_eq!(first.get(Digest::of(b"other picture")), None);
        assert_eq!(cache(root.path(), b"other base", &preprocess).get(picture), None);
        let stretch = Preprocess { resize: "stretch".parse().unwrap(), ..preprocess };
        assert_eq!(cache(root.path(), b"base", &stretch).get(picture), None);
    }

    #[test]
    fn damaged_entry_is_ignored_and_replaced() {
        let root = tempfile::tempdir().unwrap();
        let picture = Digest::of(b"picture");
        let cache = cache(root.path(), b"base", &Preprocess::default());
        cache.put(picture, &features()).unwrap();
        let whole = fs_err::read(cache.entry(picture)).unwrap();
        fs_err::write(cache.entry(picture), &whole[..whole.len() - 1]).unwrap();
        assert_eq!(cache.get(picture), None);
        cache.put(picture, &features()).unwrap();
        assert_eq!(cache.get(picture), Some(features()));
    }

    #[test]
    fn entry_of_another_width_or_not_finite_is_ignored() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path(), b"base", &Preprocess::default());
        for (name, gap) in [("narrow", vec![1.0]), ("not a number", vec![1.0, f32::NAN])] {
            let picture = Digest::of(name.as_bytes());
            cache.put(picture, &PictureFeatures { gap, ..features() }).unwrap();
            assert_eq!(cache.get(picture), None, "{name}");
        }
    }
}
