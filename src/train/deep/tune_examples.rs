//! The pictures that are learned, as fine-tuning wants them.

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
        training_set::{Learned, TrainingSet},
    },
};

impl TrainingSet<'_> {
    pub(crate) fn learned_classes(&self) -> Vec<usize> {
        self.train.iter().map(|learned| learned.picture.class).collect()
    }

    /// Pictures of each class.
    pub(crate) fn learned_of_classes(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.train.iter().for_each(|learned| counts[learned.picture.class] += 1);
        counts
    }

    /// The fold of each picture and their number; `None` where the classes have too few groups.
    pub(crate) fn folds_of_pictures(&self, most: usize, seed: u64) -> Option<(Vec<usize>, usize)> {
        let pictures: Vec<_> = self.train.iter().map(|learned| learned.picture.clone()).collect();
        split::folds(&pictures, most, seed)
    }

    /// For each row of the convex problem its picture.
    pub(crate) fn example_of_row(&self) -> Vec<usize> {
        let of_picture = |(example, learned): (usize, &Learned)| vec![example; learned.views.len()];
        self.train.iter().enumerate().flat_map(of_picture).collect()
    }

    /// For each picture the row of the convex problem that is the picture itself.
    pub(crate) fn first_rows(&self) -> Vec<usize> {
        let mut next = 0;
        let row = |learned: &Learned| {
            next += learned.views.len();
            next - learned.views.len()
        };
        self.train.iter().map(row).collect()
    }

    /// Every view that is learned.
    pub(crate) fn train_views(&self) -> Vec<View<'_>> {
        let views = self.train.iter().flat_map(|Learned { picture, numbers, .. }| {
            numbers.iter().map(move |number| View { picture, number: *number })
        });
        views.collect()
    }

    /// Every picture that is learned, weighted as in the convex problem.
    pub(crate) fn examples(
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
        // The branch gives the average and the maximum of the last layer anew.
        let from_trunk = match set {
            FeatureSet::Gap => 0,
            FeatureSet::Pyramid => widths.pyramid.saturating_sub(2 * widths.gap),
        };
        let examples = self.train.iter().zip(weights).map(|(learned, weight)| {
            let numbered = learned.numbers.iter().zip(&learned.views);
            let views = numbered.map(|(&number, features)| TuneView {
                name: View { picture: &learned.picture, number }.digest(),
                from_trunk: features.of(set)[..from_trunk].to_vec(),
            });
            TuneExample { class: learned.picture.class, weight, views: views.collect() }
        });
        (examples.collect(), example_of_row)
    }

    /// The cache of this base and preprocessing.
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

    /// A folder whose name tells everything that the private layers will depend on.
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
        for Learned { picture, numbers, .. } in &self.train {
            everything +=
                &format!(" {} {} {} {numbers:?}", picture.digest, picture.class, picture.weight);
        }
        let run = Digest::of(everything.as_bytes());
        Some(self.cache_folder(options, base)?.join(format!("fine-tune-{}", run.short())))
    }
}
