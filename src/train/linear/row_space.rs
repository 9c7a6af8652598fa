//! Dimension reduction for few pictures with many features: one coordinate per picture at most.
//!
//! Weights that minimise a loss with an L2 penalty are a combination of the rows of features
//! (representer theorem). So an orthonormal basis of the rows' span loses nothing: it keeps scalar
//! products and lengths.

use rayon::prelude::*;

use super::lbfgs::{add_scaled, dot};

/// A row's squared distance from the pivots' span counts as zero up to this share of the largest.
const LEAST_PIVOT: f64 = 1e-10;

/// Features `X [rows, width]` as `L [rows, rank]` times `Q [rank, width]` with orthonormal rows.
#[derive(Debug)]
pub(crate) struct RowSpace {
    /// `L`, row by row.
    coordinates: Vec<f64>,
    rank: usize,
    /// The rows of `X` that span the space, in pivoting order; `None` if `Q` is the identity.
    pivots: Option<Vec<usize>>,
}

impl RowSpace {
    /// Factors `X [rows, width]`.
    ///
    /// `L` is the Cholesky factor of `X Xᵀ` with complete pivoting (Higham 2002, section 10.3) if
    /// there are fewer rows than columns, otherwise `X` itself.
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
        // The squared distance of each row from the span of the pivots.
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
                // Rows that are already pivots have zero here, except for rounding.
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

    /// Returns `W Q [classes, width]` for `weight [classes, rank]`; `features` is the factored `X`.
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
            // The pivots' rows are X_p = L_p Q, L_p lower triangular: w Q = a X_p for a L_p = w.
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

    /// Seven rows of nine numbers; the last two are combinations of others.
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
    fn coordinates_keep_scalar_products_and_have_the_rows_rank() {
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
    fn expanded_weights_keep_answers_and_length() {
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
    fn more_rows_than_features_stay_unchanged() {
        let features = features();
        let space = RowSpace::of(&features, 3);
        assert_eq!((space.coordinates(), space.rank()), (features.as_slice(), 3));
        assert_eq!(space.expand(&[1.0, 2.0, 3.0], 1, &features, 3), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn zero_rows_have_rank_zero() {
        let space = RowSpace::of(&[0.0; 6], 3);
        assert_eq!(space.rank(), 0);
        assert_eq!(space.expand(&[], 2, &[0.0; 6], 3), [0.0; 6]);
    }
}
