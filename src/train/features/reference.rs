//! Reference pictures, by which a server checks that its base is the one a head was trained on.

use rayon::prelude::*;

use super::extract::{FeatureReader, View, prepare};
use crate::{
    base::{FeatureSet, Outputs},
    head::{Linear, MAX_REFERENCES, REFERENCE_SIDE, ReferenceSet},
    image::Preprocess,
    train::{data::PictureFile, error::TrainError},
};

/// Number of pictures considered, spread evenly over all of them.
const CANDIDATES: usize = 4 * MAX_REFERENCES;

/// Chooses the candidates with the clearest verdicts, which a difference in rounding cannot change.
pub(crate) fn choose(
    pictures: &[&PictureFile],
    set: FeatureSet,
    preprocess: &Preprocess,
    linear: &Linear,
    reader: &mut FeatureReader<'_>,
) -> Result<ReferenceSet, TrainError> {
    let small = preprocess.at_side(REFERENCE_SIDE);
    let step = pictures.len().div_ceil(CANDIDATES).max(1);
    let candidates: Vec<&PictureFile> = pictures.iter().copied().step_by(step).collect();
    // A picture that vanished after its features were computed is skipped: any other one will do.
    let prepared: Vec<_> = candidates
        .par_iter()
        .filter_map(|picture| prepare(&View::unchanged(picture), &small).ok())
        .collect();
    if prepared.is_empty() {
        return Ok(ReferenceSet::default());
    }
    let batch = reader.forward(&prepared.iter().collect::<Vec<_>>(), Outputs::for_sets([set]))?;
    let widths = reader.base.widths();
    let row = |image| batch.row(set, image, widths).ok_or(TrainError::FeaturesMissing);
    let mut ranking = Vec::with_capacity(prepared.len());
    for image in 0..prepared.len() {
        ranking.push((margin(&linear.logits(row(image)?)), image));
    }
    ranking.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    ranking.truncate(MAX_REFERENCES);
    // Back in the order of the pictures.
    ranking.sort_by_key(|(_, image)| *image);
    let mut reference = ReferenceSet::default();
    for (_, image) in ranking {
        reference.pixels.extend_from_slice(&prepared[image].pixels);
        reference.features.extend_from_slice(row(image)?);
    }
    Ok(reference)
}

/// Returns the gap between the two largest logits, as a share of the range of all logits.
fn margin(logits: &[f32]) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|one, other| other.total_cmp(one));
    match sorted[..] {
        [first, second, ..] => {
            (first - second) / (first - sorted[sorted.len() - 1]).max(f32::MIN_POSITIVE)
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margin_does_not_depend_on_scale() {
        assert_eq!(margin(&[1.0, 3.0, 2.0]), margin(&[10.0, 30.0, 20.0]));
        assert!(margin(&[5.0, 0.0, 0.0]) > margin(&[5.0, 4.0, 0.0]));
    }
}
