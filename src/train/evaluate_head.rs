//! Evaluation of any head on any labelled pictures.

use std::path::PathBuf;

use super::{
    data::{Dataset, GroupBy, Part, PictureFile},
    error::TrainError,
    evaluate::Evaluation,
    features::{
        cache::FeatureCache,
        extract::{FeatureReader, View, features_of},
    },
    gate::winner,
    progress::Event,
};
use crate::{base::Base, head::HeadContent};

/// Which head is evaluated, and on which pictures.
#[derive(Debug, Clone)]
pub struct EvaluateOptions {
    pub head: HeadContent,
    /// Folder of pictures, or a CSV or JSONL file that lists them.
    pub data: PathBuf,
    /// Only the pictures of this part, or all of them.
    pub part: Option<Part>,
    /// Folder of the feature cache, if features are kept.
    pub cache: Option<PathBuf>,
}

/// Classifies each picture with the head and counts the answers.
///
/// # Errors
/// Fails if the data set cannot be read or has no such pictures, has a label that the head does
/// not know, if the base is not the head's, or if the base fails.
pub fn evaluate_head(
    options: &EvaluateOptions,
    base: &mut dyn Base,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<Evaluation, TrainError> {
    let EvaluateOptions { head, data, part, cache } = options;
    if head.base != *base.identity() {
        let (trained_on, given) = (head.base.clone(), base.identity().clone());
        return Err(TrainError::OtherBase { trained_on, given });
    }
    let mut dataset =
        Dataset::read(data, &GroupBy::Auto, &mut |warning| observer(Event::Warning(warning)))?;
    dataset.pictures.retain(|picture| part.is_none() || picture.given == *part);
    if dataset.pictures.is_empty() {
        return Err(TrainError::NothingToJudge { data: data.clone(), part: part.map(Part::name) });
    }
    let known: Vec<String> = head.classes.iter().map(|class| class.label.to_string()).collect();
    let class_of = |picture: &PictureFile| {
        let label = &dataset.classes[picture.class];
        let unknown = || TrainError::UnknownLabel { label: label.clone(), known: known.clone() };
        known.iter().position(|known| known == label).ok_or_else(unknown)
    };
    let truths = dataset.pictures.iter().map(class_of).collect::<Result<Vec<usize>, _>>()?;
    observer(Event::Dataset { classes: &dataset.classes, pictures: dataset.pictures.len() });
    let views: Vec<View<'_>> = dataset.pictures.iter().map(View::unchanged).collect();
    // The cache holds features of the shared base only.
    let cache = cache.as_deref().filter(|_| head.branch.is_none()).map(|root| {
        FeatureCache::new(root, base.identity(), base.arithmetic(), base.widths(), &head.preprocess)
    });
    let mut reader = FeatureReader::of_head(base, head.branch.as_ref())?;
    let rows = features_of(&views, &head.preprocess, cache.as_ref(), &mut reader, observer)?;
    let answers = truths.into_iter().zip(rows).filter_map(|(truth, features)| {
        Some((truth, winner(&head.linear.logits(features?.of(head.features)))))
    });
    Ok(Evaluation::new(&known, answers))
}
