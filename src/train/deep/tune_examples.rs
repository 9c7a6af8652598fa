//! The training pictures in the form that fine-tuning takes.

use std::path::PathBuf;

use super::tuner::{TuneExample, TuneView};
use crate::{
    base::{Base, BranchPoint, FeatureSet, FeatureWidths},
    ids::Digest,
    train::{
        data::split,
        features::{cache::FeatureCache, extract::View},
        linear::ConvexProblem,
        options::TrainOptions,
        training_set::{TrainingPicture, TrainingSet},
    },
};

impl TrainingSet<'_> {
    /// Returns the class of each training picture.
    pub(crate) fn train_classes(&self) -> Vec<usize> {
        self.train.iter().map(|picture| picture.file.class).collect()
    }

    /// Returns the number of training pictures of each class.
    pub(crate) fn train_class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.train.iter().for_each(|picture| counts[picture.file.class] += 1);
        counts
    }

    /// Returns each picture's fold and the number of folds; `None` if a class has too few groups.
    pub(crate) fn folds_of_pictures(&self, most: usize, seed: u64) -> Option<(Vec<usize>, usize)> {
        let pictures: Vec<_> = self.train.iter().map(|picture| picture.file.clone()).collect();
        split::folds(&pictures, most, seed)
    }

    /// Returns the picture of each row of the convex problem.
    pub(crate) fn example_of_row(&self) -> Vec<usize> {
        let rows =
            |(example, picture): (usize, &TrainingPicture)| vec![example; picture.views.len()];
        self.train.iter().enumerate().flat_map(rows).collect()
    }

    /// Returns for each picture the row of the convex problem that is its unchanged view.
    pub(crate) fn first_rows(&self) -> Vec<usize> {
        let mut next = 0;
        let row = |picture: &TrainingPicture| {
            next += picture.views.len();
            next - picture.views.len()
        };
        self.train.iter().map(row).collect()
    }

    /// Returns every view of every training picture.
    pub(crate) fn train_views(&self) -> Vec<View<'_>> {
        let views = self.train.iter().flat_map(|TrainingPicture { file, numbers, .. }| {
            numbers.iter().map(move |number| View { picture: file, number: *number })
        });
        views.collect()
    }

    /// Returns the examples, weighted as in the convex problem, and the example of each row.
    pub(crate) fn tune_examples(
        &self,
        set: FeatureSet,
        problem: &ConvexProblem,
        widths: FeatureWidths,
    ) -> (Vec<TuneExample>, Vec<usize>) {
        let example_of_row = self.example_of_row();
        let mut weights = vec![0.0; self.train.len()];
        example_of_row
            .iter()
            .zip(&problem.row_weights)
            .for_each(|(&example, weight)| weights[example] += weight);
        // The private layers compute the average and the maximum of the last layer anew.
        let from_trunk = match set {
            FeatureSet::Gap => 0,
            FeatureSet::Pyramid => widths.pyramid.saturating_sub(2 * widths.gap),
        };
        let examples = self.train.iter().zip(weights).map(|(picture, weight)| {
            let numbered = picture.numbers.iter().zip(&picture.views);
            let views = numbered.map(|(&number, features)| TuneView {
                digest: View { picture: &picture.file, number }.digest(),
                from_trunk: features.of(set)[..from_trunk].to_vec(),
            });
            TuneExample { class: picture.file.class, weight, views: views.collect() }
        });
        (examples.collect(), example_of_row)
    }

    /// Returns the cache folder of this base and preprocessing, if features are cached.
    pub(crate) fn cache_folder(&self, options: &TrainOptions, base: &dyn Base) -> Option<PathBuf> {
        let root = options.cache.as_deref()?;
        let cache = FeatureCache::new(
            root,
            base.identity(),
            base.arithmetic(),
            base.widths(),
            &options.preprocess,
        );
        Some(cache.folder().to_owned())
    }

    /// Returns the checkpoint folder, named by a digest of all that the private layers depend on.
    pub(crate) fn checkpoints(
        &self,
        options: &TrainOptions,
        (features, l2): (FeatureSet, f64),
        branch: BranchPoint,
        base: &dyn Base,
    ) -> Option<PathBuf> {
        let mut everything = format!(
            "{branch} {features} {l2} {} {:?} {:?}",
            options.seed, options.fine_tune, options.class_weight
        );
        for TrainingPicture { file, numbers, .. } in &self.train {
            everything += &format!(" {} {} {} {numbers:?}", file.digest, file.class, file.weight);
        }
        let run = Digest::of(everything.as_bytes());
        Some(self.cache_folder(options, base)?.join(format!("fine-tune-{}", run.short())))
    }
}
