//! How good a head is on the pictures that it did not learn.

use serde::Serialize;

/// The normal distribution's 97.5 % point: an interval that misses in 1 of 20 cases.
const Z: f64 = 1.959_963_984_540_054;

/// Counts and shares over the validation pictures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    pub pictures: usize,
    pub right: usize,
    /// `right / pictures`
    pub accuracy: f64,
    /// 95 % Wilson score interval of the accuracy (Wilson 1927): wide where there are few pictures.
    pub accuracy_interval: [f64; 2],
    pub classes: Vec<ClassEvaluation>,
    /// `[true class][answered class]`, in the order of `classes`.
    pub confusion: Vec<Vec<usize>>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassEvaluation {
    pub label: String,
    /// Validation pictures of this class.
    pub pictures: usize,
    /// Share of the answers of this class that are right; `None` if it was never answered.
    pub precision: Option<f64>,
    /// Share of this class's pictures that were found; `None` if there are none.
    pub recall: Option<f64>,
    /// Harmonic mean of both.
    pub f1: Option<f64>,
}

impl Evaluation {
    /// From pairs of true and answered class, both indices into `labels`.
    pub fn new(labels: &[String], answers: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut confusion = vec![vec![0; labels.len()]; labels.len()];
        for (truth, answer) in answers {
            confusion[truth][answer] += 1;
        }
        let pictures = confusion.iter().flatten().sum();
        let right = (0..labels.len()).map(|class| confusion[class][class]).sum();
        let classes = labels.iter().enumerate().map(|(class, label)| {
            let of_class = confusion[class].iter().sum();
            let answered = confusion.iter().map(|row| row[class]).sum();
            let found = confusion[class][class];
            ClassEvaluation {
                label: label.clone(),
                pictures: of_class,
                precision: share(found, answered),
                recall: share(found, of_class),
                f1: share(2 * found, of_class + answered),
            }
        });
        Self {
            pictures,
            right,
            accuracy: share(right, pictures).unwrap_or(0.0),
            accuracy_interval: wilson_interval(right, pictures),
            classes: classes.collect(),
            confusion,
        }
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Returns the lower end of the interval of a share that was 1 in this many pictures.
pub(crate) fn all_right_may_mean(pictures: usize) -> f64 {
    wilson_interval(pictures, pictures)[0]
}

fn wilson_interval(right: usize, pictures: usize) -> [f64; 2] {
    let Some(accuracy) = share(right, pictures) else { return [0.0, 1.0] };
    let n = pictures as f64;
    let shrink = 1.0 + Z * Z / n;
    let centre = (accuracy + Z * Z / (2.0 * n)) / shrink;
    let reach = Z / shrink * (accuracy * (1.0 - accuracy) / n + Z * Z / (4.0 * n * n)).sqrt();
    [(centre - reach).max(0.0), (centre + reach).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_was_answered_for_what_was_true() {
        let labels = ["dent", "ok", "rust"].map(str::to_owned);
        let evaluation = Evaluation::new(&labels, [(0, 0), (0, 1), (1, 1), (1, 1)]);
        assert_eq!(evaluation.confusion, [[1, 1, 0], [0, 2, 0], [0, 0, 0]]);
        assert_eq!((evaluation.right, evaluation.pictures, evaluation.accuracy), (3, 4, 0.75));
        let [dent, ok, rust] = evaluation.classes.as_slice() else { panic!("not three classes") };
        assert_eq!((dent.precision, dent.recall, dent.f1), (Some(1.0), Some(0.5), Some(2.0 / 3.0)));
        assert_eq!((ok.precision, ok.recall), (Some(2.0 / 3.0), Some(1.0)));
        assert_eq!((rust.precision, rust.recall, rust.f1), (None, None, None));
    }

    /// The values are those of `statsmodels.stats.proportion.proportion_confint(method="wilson")`.
    #[test]
    fn interval_is_wilsons_and_stays_between_zero_and_one() {
        for (right, pictures, expected) in
            [(81, 100, [0.722_21, 0.874_85]), (10, 10, [0.722_5, 1.0]), (0, 5, [0.0, 0.434_5])]
        {
            let found = wilson_interval(right, pictures);
            assert!(
                found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-4),
                "{found:?} and {expected:?}"
            );
        }
    }
}
