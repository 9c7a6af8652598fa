//! A small training that the tests share: generated pictures, and a base that they control.

use std::{collections::BTreeMap, path::PathBuf};

use fs_err as fs;

use super::*;
use crate::{
    base::{Base, BaseError, BaseIdentity, FeatureBatch, FeatureSet, FeatureWidths, Outputs},
    head::{HeadContent, REFERENCE_SIDE},
    ids::Digest,
    image::{PreparedImage, Preprocess},
};

pub(crate) const WIDTHS: FeatureWidths = FeatureWidths { gap: 3, pyramid: 6 };

/// A base whose `gap` is the mean colour and `pyramid` the mean colour twice; counts its images.
pub(crate) struct MeanColour {
    pub(crate) identity: BaseIdentity,
    pub(crate) images_seen: usize,
    pub(crate) broken: bool,
}

impl MeanColour {
    pub(crate) fn new() -> Self {
        let identity = BaseIdentity {
            architecture: "resnet18".to_owned(),
            digest: Digest::of(b"mean colour"),
        };
        Self { identity, images_seen: 0, broken: false }
    }
}

fn mean_colour(image: &PreparedImage) -> [f32; 3] {
    let (pixels, _) = image.pixels.as_chunks::<3>();
    [0, 1, 2].map(|channel| {
        pixels.iter().map(|p| f32::from(p[channel])).sum::<f32>() / pixels.len() as f32
    })
}

impl Base for MeanColour {
    fn arithmetic(&self) -> &str {
        "exact"
    }

    fn identity(&self) -> &BaseIdentity {
        &self.identity
    }

    fn widths(&self) -> FeatureWidths {
        WIDTHS
    }

    fn forward(
        &mut self,
        images: &[&PreparedImage],
        outputs: Outputs,
    ) -> Result<FeatureBatch, BaseError> {
        // Small images are references, which are computed every time.
        self.images_seen += images.iter().filter(|image| image.side > REFERENCE_SIDE).count();
        if self.broken {
            return Err(BaseError::Device { detail: "unplugged".to_owned() });
        }
        let colours: Vec<[f32; 3]> = images.iter().map(|image| mean_colour(image)).collect();
        let pyramid = colours.iter().flat_map(|colour| [*colour, *colour].concat());
        Ok(FeatureBatch {
            gap: colours.concat(),
            pyramid: if outputs.pyramid { pyramid.collect() } else { Vec::new() },
            map: Vec::new(),
        })
    }
}

/// A folder with `data`, `heads` and `cache`, and a base.
pub(crate) struct Workshop {
    folder: tempfile::TempDir,
    pub(crate) base: MeanColour,
}

impl Workshop {
    pub(crate) fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Self { folder, base: MeanColour::new() }
    }

    /// Creates twelve light pictures labelled ok and twelve dark ones labelled dent.
    pub(crate) fn with_two_classes() -> Self {
        let workshop = Self::empty();
        for number in 0..12 {
            workshop.picture(&format!("ok/{number}.png"), 150 + number * 8);
            workshop.picture(&format!("dent/{number}.png"), 20 + number * 8);
        }
        workshop
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path("data").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn picture(&self, path: &str, grey: u8) {
        let pixels =
            ::image::RgbImage::from_fn(20, 16, |x, _| ::image::Rgb([grey, grey, grey ^ x as u8]));
        let mut png = std::io::Cursor::new(Vec::new());
        pixels.write_to(&mut png, ::image::ImageFormat::Png).unwrap();
        self.write(path, png.get_ref());
    }

    pub(crate) fn options(&self) -> TrainOptions {
        TrainOptions {
            data: self.path("data"),
            group_by: GroupBy::Auto,
            task: "bracket-left".parse().unwrap(),
            heads: self.path("heads"),
            strategy: Strategy::Auto,
            unfreeze: None,
            layers: None,
            fine_tune: FineTuneOptions::default(),
            features: Some(FeatureSet::Gap),
            levels: LevelsChoice::Auto,
            preprocess: Preprocess {
                resize: "letterbox:64".parse().unwrap(),
                ..Preprocess::default()
            },
            augment: Augment::None,
            good: Vec::new(),
            threshold: 0.5,
            validation_share: 0.25,
            seed: 1,
            solver: Solver::Lbfgs,
            l2: None,
            class_weight: ClassWeight::Balanced,
            adam: AdamOptions { learning_rate: 0.05, ..AdamOptions::default() },
            force_because: None,
            cache: Some(self.path("cache")),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            base_origin: Some("a test".to_owned()),
            command: BTreeMap::from([("task".to_owned(), "bracket-left".to_owned())]),
        }
    }

    pub(crate) fn train(&mut self, options: &TrainOptions) -> Result<Outcome, TrainError> {
        train(options, &mut self.base, &mut |_| {})
    }

    pub(crate) fn published_files(&self) -> usize {
        let folder = self.path("heads/bracket-left");
        if folder.exists() { fs::read_dir(folder).unwrap().count() } else { 0 }
    }
}

pub(crate) fn content(outcome: &Outcome) -> HeadContent {
    HeadContent::from_bytes(&fs::read(&outcome.published.path).unwrap()).unwrap()
}
