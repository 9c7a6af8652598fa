//! The rows that a classifier is fitted to: features, classes and weights.

use crate::error::ParseNameError;

/// How classes are weighted that have unequal numbers of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClassWeight {
    /// Pictures of class c weigh `N / (C n_c)`, so that all classes have the same total weight.
    #[default]
    Balanced,
    /// Every picture weighs one.
    None,
}

impl std::str::FromStr for ClassWeight {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "balanced" => Ok(Self::Balanced),
            "none" => Ok(Self::None),
            _ => Err(ParseNameError::new("class weight", text, &["balanced", "none"])),
        }
    }
}

/// Features, classes and weights of pictures, one row each.
#[derive(Debug, Clone, Default)]
pub struct Examples {
    /// `[pictures, width]`
    pub features: Vec<f32>,
    /// `[pictures]`
    pub classes: Vec<usize>,
    /// `[pictures]`: the weight of each picture, above 0.
    pub weights: Vec<f32>,
    pub width: usize,
}

/// One picture of [`Examples`].
#[derive(Debug, Clone, Copy)]
pub struct Example<'a> {
    pub features: &'a [f32],
    pub class: usize,
    pub weight: f32,
}

impl Examples {
    /// Adds a picture; the first one sets the number of features.
    pub fn push(&mut self, features: &[f32], class: usize, weight: f32) {
        if self.is_empty() {
            self.width = features.len();
        }
        self.features.extend_from_slice(features);
        self.classes.push(class);
        self.weights.push(weight);
    }

    pub fn len(&self) -> usize {
        self.classes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    pub fn rows(&self) -> impl Iterator<Item = Example<'_>> {
        let features = self.features.chunks_exact(self.width.max(1));
        features
            .zip(&self.classes)
            .zip(&self.weights)
            .map(|((features, &class), &weight)| Example { features, class, weight })
    }

    /// Returns the weight of each class; `Balanced` takes the pictures' weights into account.
    pub(crate) fn class_weights(&self, classes: usize, class_weight: ClassWeight) -> Vec<f64> {
        let mut sums = vec![0.0f64; classes];
        self.rows().for_each(|row| sums[row.class] += f64::from(row.weight));
        let total: f64 = sums.iter().sum();
        let weight = |sum: f64| match class_weight {
            ClassWeight::Balanced if sum > 0.0 => total / (classes as f64 * sum),
            ClassWeight::Balanced | ClassWeight::None => 1.0,
        };
        sums.into_iter().map(weight).collect()
    }
}
