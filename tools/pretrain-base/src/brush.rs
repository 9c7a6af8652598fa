//! Drawing of local structures.

use std::f32::consts::TAU;

use rand::{Rng, RngExt as _};

use crate::{
    mask::{Mask, Point},
    noise::{Noise, log_uniform, smoothstep},
    shape::Shape,
};

/// Draws shapes around a centre into a mask; lengths are in pixels.
#[derive(Debug)]
pub(crate) struct Brush<'a, R> {
    pub(crate) mask: &'a mut Mask,
    pub(crate) centre: Point,
    /// Radius of a disc with the area that the shape should take.
    pub(crate) radius: f32,
    pub(crate) rng: &'a mut R,
}

impl<R: Rng> Brush<'_, R> {
    pub(crate) fn paint(&mut self, shape: Shape) {
        let angle = self.rng.random_range(0.0..TAU);
        let half_width = log_uniform(self.rng, 0.45, 1.8);
        let radius = self.radius;
        match shape {
            Shape::Line => {
                let length = radius * self.rng.random_range(1.5..4.0);
                let (from, to) = (self.polar(-length, angle), self.polar(length, angle));
                self.mask.stroke(from, to, half_width);
            }
            Shape::Arc => {
                let bow = log_uniform(self.rng, 0.8, 4.0);
                self.arc(1.6 * radius, angle, angle + bow, 1.0, half_width);
            }
            Shape::Ring => {
                let squeeze = self.rng.random_range(0.7..1.0);
                self.arc(radius, 0.0, TAU, squeeze, half_width);
            }
            Shape::Spiral => {
                let turns = self.rng.random_range(1.2..2.5) * TAU;
                let points: Vec<Point> = (0..=40)
                    .map(|i| i as f32 / 40.0)
                    .map(|t| self.polar(1.3 * radius * t, angle + t * turns))
                    .collect();
                self.mask.polyline(&points, half_width);
            }
            Shape::Walk => {
                let length = radius * self.rng.random_range(2.0..5.0);
                self.walk(self.centre, angle, length, 0.6, half_width);
            }
            Shape::Branches => {
                let stem =
                    self.walk(self.polar(-radius, angle), angle, 3.0 * radius, 0.35, half_width);
                for _ in 0..self.rng.random_range(2..5) {
                    let fork = stem[self.rng.random_range(2..stem.len() - 2)];
                    let turn = if self.rng.random() { 0.8 } else { -0.8 };
                    self.walk(fork, angle + turn, 1.4 * radius, 0.35, 0.8 * half_width);
                }
            }
            Shape::Zigzag => {
                let teeth = self.rng.random_range(4..10);
                let height = radius * self.rng.random_range(0.2..0.6);
                let points: Vec<Point> = (0..=teeth)
                    .map(|i| {
                        let along =
                            self.polar(3.0 * radius * (i as f32 / teeth as f32 - 0.5), angle);
                        let up = if i % 2 == 0 { height } else { -height };
                        (along.0 - up * angle.sin(), along.1 + up * angle.cos())
                    })
                    .collect();
                self.mask.polyline(&points, half_width);
            }
            Shape::Star => {
                let rays = self.rng.random_range(3..9);
                for ray in 0..rays {
                    let length = radius * self.rng.random_range(0.8..1.7);
                    let tip = self.polar(length, angle + TAU * ray as f32 / rays as f32);
                    self.mask.stroke(self.centre, tip, half_width);
                }
            }
            Shape::Parallels => {
                let gap = half_width * self.rng.random_range(3.0..6.0);
                let count = self.rng.random_range(3..8);
                for line in 0..count {
                    let away = gap * (line as f32 - 0.5 * (count - 1) as f32);
                    let (dx, dy) = (-away * angle.sin(), away * angle.cos());
                    let lengths =
                        [-1.0f32, 1.0].map(|end| end * radius * self.rng.random_range(1.0..2.0));
                    let [from, to] = lengths.map(|length| {
                        let (x, y) = self.polar(length, angle);
                        (x + dx, y + dy)
                    });
                    self.mask.stroke(from, to, half_width);
                }
            }
            Shape::Spot => {
                self.mask.fill(self.centre, (2.0 * radius, 2.0 * radius), |x, y| {
                    (-2.0 * (x * x + y * y) / (radius * radius)).exp()
                });
            }
            Shape::Disc => self.mask.stroke(self.centre, self.centre, 0.9 * radius),
            Shape::Rectangle => {
                let aspect = log_uniform(self.rng, 1.0, 2.5);
                let (sin, cos) = angle.sin_cos();
                self.mask.fill(self.centre, (2.0 * radius, 2.0 * radius), |x, y| {
                    let (along, across) = (x * cos + y * sin, y * cos - x * sin);
                    let beyond = (along.abs() - 0.9 * radius * aspect.sqrt())
                        .max(across.abs() - 0.9 * radius / aspect.sqrt());
                    smoothstep(0.5, -0.5, beyond)
                });
            }
            Shape::Stain | Shape::Grain | Shape::Focus => {
                self.island(|height| smoothstep(0.0, 0.12, height))
            }
            Shape::Outline => self.island(|height| smoothstep(0.14, 0.05, height.abs())),
            Shape::Specks => {
                let count = self.rng.random_range(12..50);
                self.scatter(count, 0.5..1.5);
            }
            Shape::Drops => {
                let count = self.rng.random_range(3..9);
                self.scatter(count, 1.6..4.5);
            }
            Shape::Flakes => {
                for _ in 0..self.rng.random_range(5..18) {
                    let middle = self.near();
                    let length = log_uniform(self.rng, 2.0, 9.0);
                    let turn = angle + self.rng.random_range(-0.25..0.25f32);
                    let end = (middle.0 + length * turn.cos(), middle.1 + length * turn.sin());
                    let width = self.rng.random_range(0.8..2.2);
                    self.mask.stroke(middle, end, width);
                }
            }
            Shape::Net => {
                let cells = Noise::random(self.rng);
                let pitch = log_uniform(self.rng, 5.0, 16.0);
                let reach = 1.5 * radius.max(8.0);
                self.mask.fill(self.centre, (reach, reach), |x, y| {
                    let border = pitch * cells.cell(x / pitch, y / pitch).to_border;
                    smoothstep(2.6, 1.0, border) * smoothstep(reach, 0.7 * reach, x.hypot(y))
                });
            }
            Shape::Dent => {
                let (sin, cos) = angle.sin_cos();
                self.mask.fill(self.centre, (2.0 * radius, 2.0 * radius), |x, y| {
                    let distance = x.hypot(y) / radius;
                    let core = (-3.0 * distance * distance).exp();
                    let rim = (-8.0 * (distance - 1.1).powi(2)).exp()
                        * (0.5 + 0.5 * (x * cos + y * sin) / (1.5 * radius));
                    core - rim
                });
            }
            Shape::Smear => {
                let (sin, cos) = angle.sin_cos();
                let aspect = self.rng.random_range(3.0..8.0);
                let reach = 3.0 * radius;
                self.mask.fill(self.centre, (reach, reach), |x, y| {
                    let (along, across) = (x * cos + y * sin, y * cos - x * sin);
                    (-2.0
                        * ((along / (1.3 * radius)).powi(2)
                            + (aspect * across / (1.3 * radius)).powi(2)))
                    .exp()
                });
            }
            Shape::Band => {
                let far = 2.0 * self.mask.side as f32;
                let (from, to) = (self.polar(-far, angle), self.polar(far, angle));
                self.mask.stroke(from, to, 0.3 * radius + 1.0);
            }
            Shape::Step => {
                let far = 2.0 * self.mask.side as f32;
                let (sin, cos) = angle.sin_cos();
                self.mask
                    .fill(self.centre, (far, far), |x, y| smoothstep(-0.7, 0.7, x * cos + y * sin));
            }
        }
    }

    fn polar(&self, distance: f32, angle: f32) -> Point {
        (self.centre.0 + distance * angle.cos(), self.centre.1 + distance * angle.sin())
    }

    fn near(&mut self) -> Point {
        let distance = 1.3 * self.radius.max(6.0) * self.rng.random_range(0.0f32..1.0).sqrt();
        let angle = self.rng.random_range(0.0..TAU);
        self.polar(distance, angle)
    }

    fn arc(&mut self, radius: f32, from: f32, to: f32, squeeze: f32, half_width: f32) {
        let (x, y) = self.centre;
        let points: Vec<Point> = (0..=24)
            .map(|i| from + (to - from) * i as f32 / 24.0)
            .map(|angle| (x + radius * angle.cos(), y + radius * squeeze * angle.sin()))
            .collect();
        self.mask.polyline(&points, half_width);
    }

    /// Draws a crooked line and returns its corners.
    fn walk(
        &mut self,
        start: Point,
        angle: f32,
        length: f32,
        crookedness: f32,
        half_width: f32,
    ) -> Vec<Point> {
        let steps = 12;
        let mut points = vec![start];
        let (mut place, mut heading) = (start, angle);
        for _ in 0..steps {
            let turn = angle + crookedness * self.rng.random_range(-1.8..1.8);
            heading += 0.7 * (turn - heading);
            place = (
                place.0 + length / steps as f32 * heading.cos(),
                place.1 + length / steps as f32 * heading.sin(),
            );
            points.push(place);
        }
        self.mask.polyline(&points, half_width);
        points
    }

    fn scatter(&mut self, count: u32, radii: std::ops::Range<f32>) {
        for _ in 0..count {
            let (place, radius) = (self.near(), log_uniform(self.rng, radii.start, radii.end));
            self.mask.stroke(place, place, radius);
        }
    }

    /// Draws an irregular area; `profile` maps height, 0 on the outline and rising inwards, to
    /// coverage.
    fn island(&mut self, profile: impl Fn(f32) -> f32) {
        let coast = Noise::random(self.rng);
        let (radius, roughness) = (self.radius, self.rng.random_range(0.3..0.9));
        self.mask.fill(self.centre, (2.0 * radius, 2.0 * radius), |x, y| {
            let (x, y) = (x / radius, y / radius);
            profile(1.0 - x.hypot(y) + roughness * coast.fractal(1.3 * x, 1.3 * y, 3, 0.6))
        });
    }
}
