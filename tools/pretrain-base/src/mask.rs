//! Masks of local structures: where in a picture, and how strong.

use crate::noise::smoothstep;

#[derive(Debug)]
pub(crate) struct Mask {
    pub(crate) side: usize,
    /// side x side, row by row: 0 outside, 1 inside, below 0 on a rim of the opposite polarity.
    pub(crate) coverage: Vec<f32>,
}

pub(crate) type Point = (f32, f32);

impl Mask {
    pub(crate) fn empty(side: usize) -> Self {
        Self { side, coverage: vec![0.0; side * side] }
    }

    /// Draws an antialiased straight stroke with round ends, or a disc if both ends coincide.
    pub(crate) fn stroke(&mut self, from: Point, to: Point, half_width: f32) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let square = (dx * dx + dy * dy).max(1e-6);
        let middle = (0.5 * (from.0 + to.0), 0.5 * (from.1 + to.1));
        let reach = (0.5 * dx.abs() + half_width + 1.0, 0.5 * dy.abs() + half_width + 1.0);
        self.fill(middle, reach, |x, y| {
            let (x, y) = (x + middle.0 - from.0, y + middle.1 - from.1);
            let t = ((x * dx + y * dy) / square).clamp(0.0, 1.0);
            let distance = (x - t * dx).hypot(y - t * dy);
            // A stroke narrower than a pixel is fainter instead.
            smoothstep(half_width + 0.5, half_width - 0.5, distance) * (2.0 * half_width).min(1.0)
        });
    }

    pub(crate) fn polyline(&mut self, points: &[Point], half_width: f32) {
        for ends in points.windows(2) {
            self.stroke(ends[0], ends[1], half_width);
        }
    }

    /// Adds a shape given by its coverage relative to the centre; the stronger coverage wins.
    pub(crate) fn fill(
        &mut self,
        centre: Point,
        reach: (f32, f32),
        shape: impl Fn(f32, f32) -> f32,
    ) {
        let span = |centre: f32, reach: f32| {
            let pixel = |edge: f32| edge.clamp(0.0, self.side as f32) as usize;
            pixel((centre - reach).floor())..pixel((centre + reach).ceil() + 1.0)
        };
        let columns = span(centre.0, reach.0);
        for row in span(centre.1, reach.1) {
            for column in columns.clone() {
                let coverage = shape(column as f32 + 0.5 - centre.0, row as f32 + 0.5 - centre.1);
                let pixel = &mut self.coverage[row * self.side + column];
                if coverage.abs() > pixel.abs() {
                    *pixel = coverage;
                }
            }
        }
    }

    /// Tells for each cell of `cell` x `cell` pixels, row by row, if the structure is visible.
    pub(crate) fn seen_in_cells(&self, cell: usize) -> Vec<bool> {
        let cells = self.side.div_ceil(cell);
        let mut covered = vec![0.0; cells * cells];
        for (index, coverage) in self.coverage.iter().enumerate() {
            covered[index / self.side / cell * cells + index % self.side / cell] += coverage.abs();
        }
        covered.into_iter().map(|pixels| pixels > 3.0).collect()
    }
}
