//! A data set with its features, split into training and validation pictures.

use serde_json::json;

use super::{
    context::TrainContext,
    data::{Dataset, Part, PictureFile, split},
    error::TrainError,
    features::{
        cache::{FeatureCache, PictureFeatures},
        extract::{FeatureReader, View, features_of},
    },
    gate::winner,
    linear::{AdamFit, Choice, ConvexProblem, Examples, Folds, choose, fit_by_adam},
    options::TrainOptions,
    progress::{Event, Warning},
};
use crate::{
    base::{BranchWeights, FeatureSet},
    head::{HeadContent, Linear},
    image::Preprocess,
};

/// Maximum number of cross-validation folds.
const MAX_FOLDS: usize = 5;

/// A class with fewer pictures causes a warning.
const FEW_PICTURES: usize = 10;

/// A training picture with the features of its views.
pub(crate) struct TrainingPicture {
    pub(crate) file: PictureFile,
    /// The features of each view; the unchanged picture comes first.
    pub(crate) views: Vec<PictureFeatures>,
    /// The number of each view, as in [`View::number`].
    pub(crate) numbers: Vec<u32>,
}

/// Training and validation pictures with their features.
pub(crate) struct TrainingSet<'a> {
    pub(crate) classes: &'a [String],
    pub(crate) train: Vec<TrainingPicture>,
    validation: Vec<(PictureFile, PictureFeatures)>,
}

impl<'a> TrainingSet<'a> {
    /// Splits the data set and computes the features that the cache does not have.
    ///
    /// Files that turn out not to be pictures are skipped with a warning.
    pub(crate) fn gather(
        context: &mut TrainContext<'_>,
        dataset: &'a Dataset,
    ) -> Result<Self, TrainError> {
        let options = context.options;
        let views: Vec<View<'_>> = dataset.pictures.iter().map(View::unchanged).collect();
        let rows = compute(context, &views, &options.preprocess)?;
        let (pictures, rows): (Vec<PictureFile>, Vec<PictureFeatures>) = dataset
            .pictures
            .iter()
            .cloned()
            .zip(rows)
            .filter_map(|(picture, row)| Some((picture, row?)))
            .unzip();
        dataset.check(&pictures)?;
        let parts =
            split::split(&pictures, &dataset.classes, options.validation_share, options.seed)?;
        let (mut train, mut validation) = (Vec::new(), Vec::new());
        for ((picture, row), part) in pictures.into_iter().zip(rows).zip(parts) {
            match part {
                Part::Train => {
                    train.push(TrainingPicture {
                        file: picture,
                        views: vec![row],
                        numbers: vec![0],
                    });
                }
                Part::Validation | Part::Test => validation.push((picture, row)),
            }
        }
        let mut training_set = Self { classes: &dataset.classes, train, validation };
        training_set.warn_of_few(context);
        training_set.augment(context)?;
        Ok(training_set)
    }

    /// Warns of the smallest class if it has so few pictures that the evaluation says little.
    fn warn_of_few(&self, context: &mut TrainContext<'_>) {
        let count = |class| self.pictures().filter(|picture| picture.class == class).count();
        let smallest = (0..self.classes.len()).map(|class| (count(class), class)).min();
        let Some((pictures, class)) = smallest.filter(|(count, _)| *count < FEW_PICTURES) else {
            return;
        };
        let of_class = |(picture, _): &&(PictureFile, _)| picture.class == class;
        let validation = self.validation.iter().filter(of_class).count();
        let class = self.classes[class].clone();
        context.observe(Event::Warning(Warning::FewPictures { class, pictures, validation }));
    }

    fn augment(&mut self, context: &mut TrainContext<'_>) -> Result<(), TrainError> {
        let options = context.options;
        let numbers = 1..=options.augment.views();
        if numbers.is_empty() {
            return Ok(());
        }
        let files = self.train.iter().map(|picture| &picture.file);
        let views: Vec<View<'_>> = files
            .flat_map(|picture| numbers.clone().map(move |number| View { picture, number }))
            .collect();
        let mut rows = compute(context, &views, &options.preprocess)?.into_iter();
        for picture in &mut self.train {
            for (number, row) in numbers.clone().zip(rows.by_ref()) {
                if let Some(features) = row {
                    picture.views.push(features);
                    picture.numbers.push(number);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn classes(&self) -> &[String] {
        self.classes
    }

    /// Returns the training pictures, then the validation pictures.
    pub(crate) fn pictures(&self) -> impl Iterator<Item = &PictureFile> {
        self.train
            .iter()
            .map(|picture| &picture.file)
            .chain(self.validation.iter().map(|(picture, _)| picture))
    }

    /// `{"<label>": {"train": n, "val": n}, ...}`
    pub(crate) fn pictures_per_class(&self, labels: &[String]) -> serde_json::Value {
        let per_class = labels.iter().enumerate().map(|(class, label)| {
            let train = self.train.iter().filter(|picture| picture.file.class == class).count();
            let validation =
                self.validation.iter().filter(|(picture, _)| picture.class == class).count();
            (label.clone(), json!({ "train": train, "val": validation }))
        });
        per_class.collect::<serde_json::Map<_, _>>().into()
    }

    /// Chooses features and L2 on the training pictures; returns the chosen features' problem.
    pub(crate) fn choose(&self, options: &TrainOptions) -> Option<(Choice, ConvexProblem)> {
        let sets = options.features.map_or(FeatureSet::ALL.to_vec(), |set| vec![set]);
        let (count, class_weight) = (self.classes.len(), options.class_weight);
        let problem = |set| (set, ConvexProblem::new(&self.rows(set), count, class_weight));
        let mut problems: Vec<(FeatureSet, ConvexProblem)> =
            sets.into_iter().map(problem).collect();
        let choice = choose(&problems, self.folds(options.seed).as_ref(), options.l2)?;
        let chosen = problems.iter().position(|(set, _)| *set == choice.features)?;
        Some((choice, problems.swap_remove(chosen).1))
    }

    /// Fits by Adam, with early stopping on the validation pictures.
    pub(crate) fn fit_by_adam(
        &self,
        context: &mut TrainContext<'_>,
        set: FeatureSet,
    ) -> Option<AdamFit> {
        let options = context.options;
        let mut validation = Examples::default();
        for (picture, features) in &self.validation {
            validation.push(features.of(set), picture.class, 1.0);
        }
        let train = self.rows(set);
        fit_by_adam(
            &train,
            &validation,
            self.classes.len(),
            options.class_weight,
            &options.adam,
            &mut |epoch| context.observe(Event::Epoch(epoch)),
        )
    }

    /// Returns the true and the answered class of each validation picture.
    ///
    /// With `branch`, the head's private layers compute the features anew.
    pub(crate) fn answers(
        &self,
        context: &mut TrainContext<'_>,
        branch: Option<&BranchWeights>,
        linear: &Linear,
        set: FeatureSet,
    ) -> Result<Vec<(usize, usize)>, TrainError> {
        let answer = |features: &PictureFeatures| winner(&linear.logits(features.of(set)));
        let pictures = self.validation.iter();
        if branch.is_none() {
            return Ok(pictures
                .map(|(picture, features)| (picture.class, answer(features)))
                .collect());
        }
        let TrainContext { options, base, observer } = context;
        let mut reader = FeatureReader::of_head(*base, branch)?;
        let rows = features_of(
            &self.validation_views(),
            &options.preprocess,
            None,
            &mut reader,
            *observer,
        )?;
        let answers = pictures.zip(rows).map(|((picture, _), features)| {
            Ok((picture.class, answer(&features.ok_or(TrainError::FeaturesMissing)?)))
        });
        answers.collect()
    }

    fn validation_views(&self) -> Vec<View<'_>> {
        self.validation.iter().map(|(picture, _)| View::unchanged(picture)).collect()
    }

    /// Returns the label that another head of this base gives each validation picture.
    ///
    /// `None` where that head's preprocessing cannot take the picture.
    pub(crate) fn answered_labels(
        &self,
        context: &mut TrainContext<'_>,
        head: &HeadContent,
    ) -> Result<Vec<Option<String>>, TrainError> {
        let label = |features: &PictureFeatures| {
            head.classes[winner(&head.linear.logits(features.of(head.features)))].label.to_string()
        };
        if head.branch.is_none() && head.preprocess == context.options.preprocess {
            return Ok(self.validation.iter().map(|(_, features)| Some(label(features))).collect());
        }
        let views = self.validation_views();
        let rows = match &head.branch {
            None => compute(context, &views, &head.preprocess)?,
            Some(weights) => {
                let mut reader = FeatureReader::of_head(context.base, Some(weights))?;
                features_of(&views, &head.preprocess, None, &mut reader, context.observer)?
            }
        };
        Ok(rows.iter().map(|features| features.as_ref().map(label)).collect())
    }

    /// Returns one row per view; the views of a picture share its weight.
    fn rows(&self, set: FeatureSet) -> Examples {
        let mut rows = Examples::default();
        for TrainingPicture { file, views, .. } in &self.train {
            for view in views {
                rows.push(view.of(set), file.class, file.weight / views.len() as f32);
            }
        }
        rows
    }

    /// Returns the folds of the rows: views follow their picture, and only the picture is scored.
    fn folds(&self, seed: u64) -> Option<Folds> {
        let pictures: Vec<PictureFile> =
            self.train.iter().map(|picture| picture.file.clone()).collect();
        let (of_pictures, count) = split::folds(&pictures, MAX_FOLDS, seed)?;
        let (mut of_rows, mut judges) = (Vec::new(), Vec::new());
        for (picture, fold) in self.train.iter().zip(of_pictures) {
            for view in 0..picture.views.len() {
                of_rows.push(fold);
                judges.push(view == 0);
            }
        }
        Some(Folds { of_rows, judges, count })
    }
}

fn compute(
    context: &mut TrainContext<'_>,
    views: &[View<'_>],
    preprocess: &Preprocess,
) -> Result<Vec<Option<PictureFeatures>>, TrainError> {
    let TrainContext { options, base, observer } = context;
    let cache = options.cache.as_deref();
    let cache = cache.map(|root| {
        FeatureCache::new(root, base.identity(), base.arithmetic(), base.widths(), preprocess)
    });
    features_of(views, preprocess, cache.as_ref(), &mut FeatureReader::of_base(*base), *observer)
}
