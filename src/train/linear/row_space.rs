//! Few pictures with many features: the same problem in as many coordinates as there are pictures.
//!
//! The weights that minimise a loss with an L2 penalty are a combination of the pictures' features, so nothing is lost
//! where all is expressed in an orthonormal basis of the space that those span, and angles and lengths stay.

use rayon::prelude::*;

use super::lbfgs::{add_scaled, dot};

/// A picture whose distance from the span of those before it is below this share of the longest is inside the span.
const LEAST_PIVOT: f64 = 1e-10;

/// Rows of features `X [rows, width]` as `L Q`, with `L [rows, rank]` and orthonormal rows in `Q [rank, width]`.
#[derive(Debug)]
pub(crate) struct RowSpace {
    /// `L`, row by row.
    coordinates: Vec<f64>,
    rank: usize,
    /// The rows of `X` that span the space, in the order in which they were taken. `None`: `Q` is the identity.
    pivots: Option<Vec<usize>>,
}

impl RowSpace {
    /// Where there are fewer rows than columns, the Cholesky factor of `X Xᵀ` with complete pivoting (Higham 2002,
    /// section 10.3); else `X` itself.
    pub(crate) fn of(features: &[f64], width: usize) -> Self {
        let rows = features.len() / width.max(1);
        if rows >= width {
            return Self { coordinates: features.to_vec(), rank: width, pivots: None };
        }
        let row = |index: usize| &features[index * width..(index + 1) * width];
        let gram: Vec<Vec<f64>> = (0..rows)
            .into_par_iter()
            .map(|i| (0..=i).map(|j| dot(row(i), row(j))).collect())
            .collect();
        let product = |i: usize, j: usize| if i >= j { gram[i][j] } else { gram[j][i] };
        // What of each row's squared length lies outside the span of the pivots.
        let mut left: Vec<f64> = (0..rows).map(|i| product(i, i)).collect();
        let longest = left.iter().copied().fold(0.0, f64::max);
        let mut factor: Vec<Vec<f64>> = vec![Vec::with_capacity(rows); rows];
        let mut pivots = Vec::new();
        while let Some(pivot) =
            (0..rows).max_by(|&a, &b| left[a].total_cmp(&left[b]).then(b.cmp(&a)))
        {
            if left[pivot] <= LEAST_PIVOT * longest {
                break;
            }
            let length = left[pivot].sqrt();
            let of_pivot = factor[pivot].clone();
            for (i, (row, left)) in factor.iter_mut().zip(&mut left).enumerate() {
                let value = (product(i, pivot) - dot(row, &of_pivot)) / length;
                // Zero but for rounding where the row is a pivot already.
                let value = if *left == f64::NEG_INFINITY { 0.0 } else { value };
                row.push(value);
                *left -= value * value;
            }
            factor[pivot][pivots.len()] = length;
            left[pivot] = f64::NEG_INFINITY;
            pivots.push(pivot);
        }
        Self { coordinates: factor.concat(), rank: pivots.len(), pivots: Some(pivots) }
    }

    /// `[rows, rank]`
    pub(crate) fn coordinates(&self) -> &[f64] {
        &self.coordinates
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// `W Q [classes, width]` for `weight [classes, rank]`. `features` are those that the space was made of.
    pub(crate) fn expand(
        &self,
        weight: &[f64],
        classes: usize,
        features: &[f64],
        width: usize,
    ) -> Vec<f64> {
        let Some(pivots) = &self.pivots else { return weight.to_vec() };
        let mut expanded = vec![0.0; classes * width];
        for (class, row) in expanded.chunks_exact_mut(width).enumerate() {
            // The pivots' rows are X_p = L_p Q with a lower triangle L_p: w Q = a X_p where a L_p = w.
            let mut shares = weight[class * self.rank..(class + 1) * self.rank].to_vec();
            for (column, pivot) in pivots.iter().enumerate().rev() {
                let of_pivot = &self.coordinates[pivot * self.rank..=pivot * self.rank + column];
                let share = shares[column] / of_pivot[column];
                add_scaled(&mut shares[..column], -share, &of_pivot[..column]);
                shares[column] = share;
            }
            for (share, pivot) in shares.iter().zip(pivots) {
                add_scaled(row, *share, &features[pivot * width..(pivot + 1) * width]);
            }
        }
        expanded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seven rows of nine numbers of which the last two are combinations of others.
    fn features() -> Vec<f64> {
        let mut rows: Vec<Vec<f64>> = (0..5)
            .map(|i| {
                (0..9)
                    .map(|j| ((7 * i * i + 5 * i * j + 3 * j * j) as f64).sin() * (i + 1) as f64)
                    .collect()
            })
            .collect();
        rows.push(rows[1].iter().zip(&rows[4]).map(|(a, b)| 2.0 * a - b).collect());
        rows.push(rows[0].clone());
        rows.concat()
    }

    #[test]
    fn keeps_the_products_of_all_rows_in_as_many_coordinates_as_they_span() {
        let features = features();
        let space = RowSpace::of(&features, 9);
        assert_eq!(space.rank(), 5);
        for a in 0..7 {
            for b in 0..7 {
                let full = dot(&features[a * 9..(a + 1) * 9], &features[b * 9..(b + 1) * 9]);
                let [a, b] = [a, b].map(|row| &space.coordinates()[row * 5..(row + 1) * 5]);
                assert!((full - dot(a, b)).abs() < 1e-9, "{full} and {}", dot(a, b));
            }
        }
    }

    #[test]
    fn expanded_weights_give_every_row_the_same_answer_and_have_the_same_length() {
        let features = features();
        let space = RowSpace::of(&features, 9);
        let weight = [1.0, -2.0, 0.5, 3.0, -1.0];
        let expanded = space.expand(&weight, 1, &features, 9);
        for (coordinates, row) in space.coordinates().chunks_exact(5).zip(features.chunks_exact(9))
        {
            assert!((dot(&weight, coordinates) - dot(&expanded, row)).abs() < 1e-9);
        }
        assert!((dot(&weight, &weight) - dot(&expanded, &expanded)).abs() < 1e-9);
    }

    #[test]
    fn many_rows_of_few_features_stay_as_they_are() {
        let features = features();
        let space = RowSpace::of(&features, 3);
        assert_eq!((space.coordinates(), space.rank()), (features.as_slice(), 3));
        assert_eq!(space.expand(&[1.0, 2.0, 3.0], 1, &features, 3), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn rows_of_nothing_span_nothing() {
        let space = RowSpace::of(&[0.0; 6], 3);
        assert_eq!(space.rank(), 0);
        assert_eq!(space.expand(&[], 2, &[0.0; 6], 3), [0.0; 6]);
    }
}
