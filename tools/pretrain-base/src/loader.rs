//! Draws batches on a separate thread while the network trains on earlier ones.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use anyhow::{Context as _, Result};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use crate::{
    picture::{CELL, Picture},
    recipe::Recipe,
};

/// Number of batches ordered ahead of training.
const BATCHES_AHEAD: usize = 4;

/// The pictures of a batch. Each depends only on the seed, its number and these values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) first_number: u64,
    pub(crate) count: usize,
    /// Side in pixels, a multiple of 32.
    pub(crate) side: usize,
    /// From 0 to 1; see [`Picture::draw`].
    pub(crate) difficulty: f32,
}

#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) order: Order,
    /// `[N, 3, side, side]`, channels last in memory: a tenth faster on a CPU.
    pub(crate) pixels: Tensor,
    /// `[N]`
    pub(crate) recipe: Tensor,
    /// `[N]`
    pub(crate) structure: Tensor,
    /// `[N, side / 16, side / 16]`
    pub(crate) cells: Tensor,
}

impl Batch {
    pub(crate) fn draw(recipes: &[Recipe], seed: u64, order: Order) -> Self {
        let (mut pixels, mut recipe, mut structure, mut cells) = (vec![], vec![], vec![], vec![]);
        for number in order.first_number..order.first_number + order.count as u64 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            // Streams of a seed never overlap, so a picture does not depend on those drawn before.
            rng.set_stream(number);
            let picture = Picture::draw(recipes, order.side, order.difficulty, &mut rng);
            pixels.extend_from_slice(&picture.pixels);
            recipe.push(picture.recipe as i64);
            structure.push(picture.structure as i64);
            cells.extend(picture.cells.into_iter().map(|class| class as i64));
        }
        let (count, side, cell) = (order.count as i64, order.side as i64, CELL as i64);
        let planar = Tensor::from_slice(&pixels).view([count, 3, side, side]);
        Self {
            order,
            pixels: planar.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]),
            recipe: Tensor::from_slice(&recipe),
            structure: Tensor::from_slice(&structure),
            cells: Tensor::from_slice(&cells).view([count, side / cell, side / cell]),
        }
    }

    pub(crate) fn to_device(&self, device: Device) -> Self {
        let moved = |tensor: &Tensor| tensor.to_device(device);
        Self {
            order: self.order,
            pixels: moved(&self.pixels),
            recipe: moved(&self.recipe),
            structure: moved(&self.structure),
            cells: moved(&self.cells),
        }
    }
}

/// A thread that draws batches in the order of their orders.
#[derive(Debug)]
pub(crate) struct Loader {
    orders: Sender<Order>,
    batches: Receiver<Batch>,
    waiting: usize,
}

impl Loader {
    pub(crate) fn start(recipes: Arc<[Recipe]>, seed: u64) -> Self {
        let (orders, ordered) = channel();
        let (drawn, batches) = channel();
        thread::spawn(move || {
            for order in ordered {
                if drawn.send(Batch::draw(&recipes, seed, order)).is_err() {
                    return;
                }
            }
        });
        Self { orders, batches, waiting: 0 }
    }

    /// Returns the next batch, after taking orders from `next_order` to keep the thread busy.
    pub(crate) fn next(&mut self, mut next_order: impl FnMut() -> Order) -> Result<Batch> {
        while self.waiting < BATCHES_AHEAD {
            self.orders.send(next_order()).context("the drawing thread ended")?;
            self.waiting += 1;
        }
        self.waiting -= 1;
        self.batches.recv().context("the drawing thread ended")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(first_number: u64, count: usize) -> Order {
        Order { first_number, count, side: 32, difficulty: 0.5 }
    }

    #[test]
    fn picture_depends_on_its_number_not_its_batch() {
        let recipes = Recipe::draw_all(3, 0);
        let batch = Batch::draw(&recipes, 0, order(10, 4));
        let rest = Batch::draw(&recipes, 0, order(12, 2));
        assert!(batch.pixels.narrow(0, 2, 2).equal(&rest.pixels));
        assert!(batch.structure.narrow(0, 2, 2).equal(&rest.structure));
        assert!(
            !batch.pixels.equal(&Batch::draw(&recipes, 1, order(10, 4)).pixels),
            "another seed gives another picture"
        );
    }

    #[test]
    fn batches_come_in_the_order_requested() {
        let mut loader = Loader::start(Recipe::draw_all(2, 0).into(), 0);
        let mut next = 0;
        for first_number in 0..2 * BATCHES_AHEAD as u64 {
            let batch = loader.next(|| {
                next += 1;
                order(next - 1, 1)
            });
            assert_eq!(batch.unwrap().order.first_number, first_number);
        }
    }
}
