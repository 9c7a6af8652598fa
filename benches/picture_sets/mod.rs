//! Pictures that no pretraining here has seen, and their features, for the benchmarks of training.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use turret::{
    base::{Base, FeatureSet, Outputs},
    image::{Decoded, ImageLimits, ImageSource, PreparedImage, Preprocess, Roi, decode},
    train::{Classifier, Examples, Folds},
};

const BATCH_IMAGES: usize = 16;

/// Pictures of one class, ready for the base.
#[derive(Debug, Default)]
pub(crate) struct ClassPictures {
    train: Vec<PreparedImage>,
    test: Vec<PreparedImage>,
}

/// A classification problem to measure features with.
#[derive(Debug)]
pub(crate) struct PictureSet {
    pub(crate) name: &'static str,
    pub(crate) classes: Vec<ClassPictures>,
    /// Numbers of training pictures a class, one row of the table each.
    pub(crate) sizes: &'static [usize],
}

/// Features of a class's pictures.
#[derive(Debug)]
pub(crate) struct ClassFeatures {
    train: Vec<PictureFeatures>,
    test: Vec<PictureFeatures>,
}

#[derive(Debug)]
pub(crate) struct PictureFeatures {
    gap: Vec<f32>,
    pyramid: Vec<f32>,
}

impl PictureFeatures {
    pub(crate) fn of(&self, set: FeatureSet) -> &[f32] {
        match set {
            FeatureSet::Gap => &self.gap,
            FeatureSet::Pyramid => &self.pyramid,
        }
    }
}

/// Returns a training set of `size` pictures a class, drawn by the seed, and all test pictures.
pub(crate) fn examples(
    classes: &[ClassFeatures],
    set: FeatureSet,
    size: usize,
    seed: u64,
) -> (Examples, Examples) {
    let (mut train, mut test) = (Examples::default(), Examples::default());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for (label, class) in classes.iter().enumerate() {
        let mut chosen: Vec<&PictureFeatures> = class.train.iter().collect();
        chosen.shuffle(&mut random);
        chosen.into_iter().take(size).for_each(|picture| train.push(picture.of(set), label, 1.0));
        class.test.iter().for_each(|picture| test.push(picture.of(set), label, 1.0));
    }
    (train, test)
}

/// Returns folds of a training set of [`examples`], with every class spread evenly over them.
pub(crate) fn folds(train: &Examples, size: usize) -> Folds {
    let count = size.min(5);
    Folds {
        of_rows: (0..train.len()).map(|row| row % size % count).collect(),
        judges: vec![true; train.len()],
        count,
    }
}

/// Returns the share of pictures that are classified correctly.
pub(crate) fn accuracy(classifier: &Classifier, examples: &Examples) -> f64 {
    let rows = || classifier.weight.chunks_exact(examples.width).zip(&classifier.bias);
    let right = examples.rows().filter(|picture| {
        let logit = |(row, bias): (&[f32], &f32)| {
            bias + row.iter().zip(picture.features).map(|(w, x)| w * x).sum::<f32>()
        };
        let logits: Vec<f32> = rows().map(logit).collect();
        logits.iter().all(|other| *other <= logits[picture.class])
    });
    right.count() as f64 / examples.len() as f64
}

/// Loads the demo's classes; see `tools/surfaces`.
pub(crate) fn surfaces(folder: &Path) -> Result<PictureSet> {
    let all = |half: &str, class: &Path| -> Result<Vec<PreparedImage>> {
        let folder = folder.join(half).join(class);
        entries(&folder)?.iter().map(|path| prepare(&picture(path)?, None)).collect()
    };
    let classes = entries(&folder.join("train"))?
        .iter()
        .map(|path| {
            let class = Path::new(path.file_name().context("a class has a name")?);
            Ok(ClassPictures { train: all("train", class)?, test: all("test", class)? })
        })
        .collect::<Result<_>>()?;
    Ok(PictureSet { name: "demo surfaces", classes, sizes: &[5, 20, 100] })
}

/// Crops each photograph at random places: the left for training, the right for testing.
pub(crate) fn textures(folder: &Path) -> Result<PictureSet> {
    const CROP: u32 = 96;
    const TRAIN: usize = 80;
    const TEST: usize = 60;
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut crops = |picture: &Decoded, left: u32, right: u32, count: usize| {
        let mut crop = || {
            let (x, y) = (
                random.random_range(left..=right - CROP),
                random.random_range(0..=picture.height() - CROP),
            );
            prepare(picture, Some(Roi { x, y, width: CROP, height: CROP }))
        };
        (0..count).map(|_| crop()).collect::<Result<Vec<_>>>()
    };
    let classes = entries(folder)?
        .iter()
        .map(|path| {
            let photograph = picture(path)?;
            let (width, middle) = (photograph.width(), photograph.width() / 2);
            ensure!(
                middle >= CROP && photograph.height() >= CROP,
                "{} is too small",
                path.display()
            );
            let train = crops(&photograph, 0, middle, TRAIN)?;
            Ok(ClassPictures { train, test: crops(&photograph, middle, width, TEST)? })
        })
        .collect::<Result<_>>()?;
    Ok(PictureSet { name: "real textures", classes, sizes: &[5, 20, 60] })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs_err::read_dir(folder)
        .context("run this with `make`, which makes the pictures")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn picture(path: &Path) -> Result<Decoded> {
    decode(&ImageSource::Encoded(fs_err::read(path)?.into()), &ImageLimits::default())
        .with_context(|| path.display().to_string())
}

fn prepare(picture: &Decoded, region: Option<Roi>) -> Result<PreparedImage> {
    Ok(Preprocess::default().apply(picture, region)?)
}

pub(crate) fn features_of(network: &mut dyn Base, class: &ClassPictures) -> Result<ClassFeatures> {
    let widths = network.widths();
    let mut features = |pictures: &[PreparedImage]| {
        let mut all = Vec::new();
        for batch in pictures.chunks(BATCH_IMAGES) {
            let batch: Vec<&PreparedImage> = batch.iter().collect();
            let features = network.forward(&batch, Outputs { pyramid: true, map: false })?;
            for picture in 0..batch.len() {
                let row = |set| features.row(set, picture, widths).map(<[f32]>::to_vec);
                let (gap, pyramid) =
                    row(FeatureSet::Gap).zip(row(FeatureSet::Pyramid)).context("features")?;
                all.push(PictureFeatures { gap, pyramid });
            }
        }
        Ok::<_, anyhow::Error>(all)
    };
    Ok(ClassFeatures { train: features(&class.train)?, test: features(&class.test)? })
}
