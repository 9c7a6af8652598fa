//! What a data set becomes: pictures with features, halves and folds, ready to learn from.

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
    progress::Event,
};
use crate::{
    base::{BranchWeights, FeatureSet},
    head::{HeadContent, Linear},
    image::Preprocess,
};

/// Most folds of the cross-validation.
const MOST_FOLDS: usize = 5;

/// A picture with its features and those of its augmented views.
pub(crate) struct Learned {
    pub(crate) picture: PictureFile,
    /// The picture itself first.
    pub(crate) views: Vec<PictureFeatures>,
    /// Of each view.
    pub(crate) numbers: Vec<u32>,
}

/// Pictures that are learned and pictures that judge.
pub(crate) struct TrainingSet<'a> {
    pub(crate) classes: &'a [String],
    pub(crate) train: Vec<Learned>,
    validation: Vec<(PictureFile, PictureFeatures)>,
}

impl<'a> TrainingSet<'a> {
    /// Computes what the cache does not have. Files that turn out to be no pictures are left out with a warning.
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
                Part::Train => train.push(Learned { picture, views: vec![row], numbers: vec![0] }),
                Part::Validation | Part::Test => validation.push((picture, row)),
            }
        }
        let mut training_set = Self { classes: &dataset.classes, train, validation };
        training_set.augment(context)?;
        Ok(training_set)
    }

    fn augment(&mut self, context: &mut TrainContext<'_>) -> Result<(), TrainError> {
        let options = context.options;
        let numbers = 1..=options.augment.views();
        if numbers.is_empty() {
            return Ok(());
        }
        let pictures = self.train.iter().map(|learned| &learned.picture);
        let views: Vec<View<'_>> = pictures
            .flat_map(|picture| numbers.clone().map(move |number| View { picture, number }))
            .collect();
        let mut rows = compute(context, &views, &options.preprocess)?.into_iter();
        for learned in &mut self.train {
            for (number, row) in numbers.clone().zip(rows.by_ref()) {
                if let Some(features) = row {
                    learned.views.push(features);
                    learned.numbers.push(number);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn classes(&self) -> &[String] {
        self.classes
    }

    /// All pictures used.
    pub(crate) fn pictures(&self) -> impl Iterator<Item = &PictureFile> {
        self.train
            .iter()
            .map(|learned| &learned.picture)
            .chain(self.validation.iter().map(|(picture, _)| picture))
    }

    /// `{"<label>": {"train": n, "val": n}, ...}`
    pub(crate) fn pictures_per_class(&self, labels: &[String]) -> serde_json::Value {
        let per_class = labels.iter().enumerate().map(|(class, label)| {
            let train = self.train.iter().filter(|learned| learned.picture.class == class).count();
            let validation =
                self.validation.iter().filter(|(picture, _)| picture.class == class).count();
            (label.clone(), json!({ "train": train, "val": validation }))
        });
        per_class.collect::<serde_json::Map<_, _>>().into()
    }

    /// Chooses on the pictures that are learned; the problem is that of the features that won.
    pub(crate) fn choose(&self, options: &TrainOptions) -> Option<(Choice, ConvexProblem)> {
        let sets = options.features.map_or(FeatureSet::ALL.to_vec(), |set| vec![set]);
        let (count, way) = (self.classes.len(), options.class_weight);
        let problem = |set| (set, ConvexProblem::new(&self.examples(set), count, way));
        let mut problems: Vec<(FeatureSet, ConvexProblem)> =
            sets.into_iter().map(problem).collect();
        let choice = choose(&problems, self.folds(options.seed).as_ref(), options.l2)?;
        let chosen = problems.iter().position(|(set, _)| *set == choice.features)?;
        Some((choice, problems.swap_remove(chosen).1))
    }

    /// Fits by Adam, which stops early by the pictures kept back.
    pub(crate) fn fit_by_adam(
        &self,
        context: &mut TrainContext<'_>,
        set: FeatureSet,
    ) -> Option<AdamFit> {
        let options = context.options;
        let mut judges = Examples::default();
        for (picture, features) in &self.validation {
            judges.push(features.of(set), picture.class, 1.0);
        }
        let train = self.examples(set);
        fit_by_adam(
            &train,
            &judges,
            self.classes.len(),
            options.class_weight,
            &options.adam,
            &mut |epoch| context.observe(Event::Epoch(epoch)),
        )
    }

    /// True and answered class of each picture kept back, by a head with or without layers of its own.
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

    /// What another head of this base answers for each picture kept back; `None` where its preprocessing cannot take it.
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

    /// One row a view; the views of a picture together weigh what the picture weighs.
    fn examples(&self, set: FeatureSet) -> Examples {
        let mut examples = Examples::default();
        for Learned { picture, views, .. } in &self.train {
            for view in views {
                examples.push(view.of(set), picture.class, picture.weight / views.len() as f32);
            }
        }
        examples
    }

    /// The views of a picture stand with it, and only the picture itself judges.
    fn folds(&self, seed: u64) -> Option<Folds> {
        let pictures: Vec<PictureFile> =
            self.train.iter().map(|learned| learned.picture.clone()).collect();
        let (of_pictures, count) = split::folds(&pictures, MOST_FOLDS, seed)?;
        let (mut of_rows, mut judges) = (Vec::new(), Vec::new());
        for (learned, fold) in self.train.iter().zip(of_pictures) {
            for view in 0..learned.views.len() {
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
