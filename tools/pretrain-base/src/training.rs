//! The training loop.

use std::{
    io::{Write as _, stderr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tch::{Tensor, nn, no_grad_guard};

use crate::{
    adamw::AdamW,
    checkpoint::{Checkpoint, Position, Settings},
    loader::{Batch, Loader, Order},
    network::Network,
    recipe::Recipe,
    schedule::Schedule,
    structure::Structure,
};

/// Interval between checkpoints, each with a score on held-out pictures.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
const HELD_OUT_IMAGES: u64 = 320;
const HELD_OUT_SIDE: usize = 96;
/// First number of held-out pictures, far beyond any training.
const FIRST_HELD_OUT: u64 = 1 << 40;
const WEIGHT_DECAY: f64 = 0.02;

#[derive(Debug)]
pub(crate) struct Training {
    settings: Settings,
    schedule: Schedule,
    recipes: Arc<[Recipe]>,
    device: tch::Device,
    variables: nn::VarStore,
    network: Network,
    optimiser: AdamW,
    checkpoint: Checkpoint,
    position: Position,
}

impl Training {
    /// Starts a training, or resumes the one in the folder `out`.
    pub(crate) fn start(settings: Settings, out: PathBuf, device: tch::Device) -> Result<Self> {
        ensure!(
            settings.batch > 1 && settings.recipes > 1,
            "--batch and --recipes must be above 1"
        );
        tch::manual_seed(settings.seed.cast_signed());
        let variables = nn::VarStore::new(device);
        let network =
            Network::new(&variables.root(), settings.recipes as usize, Structure::CLASSES);
        let optimiser = AdamW::new(&variables, WEIGHT_DECAY);
        let mut training = Self {
            schedule: Schedule { images: settings.images },
            recipes: Recipe::draw_all(settings.recipes, settings.seed).into(),
            checkpoint: Checkpoint::in_folder(out)?,
            position: Position::default(),
            settings,
            device,
            variables,
            network,
            optimiser,
        };
        training.position = training.checkpoint.resume(&training.state(), &training.settings)?;
        Ok(training)
    }

    /// Trains to the end.
    pub(crate) fn run(mut self) -> Result<()> {
        let held_out = self.draw_held_out();
        let bar = ProgressBar::new(self.settings.images)
            .with_style(ProgressStyle::with_template("{wide_bar} {percent} % {msg}, {eta} left")?);
        // The estimate of the time left ignores earlier runs.
        bar.set_position(self.position.images);
        bar.reset_eta();
        let before = self.position.images;
        let (begun, mut last_checkpoint) = (Instant::now(), Instant::now());
        let mut mean_loss = MovingMean::default();
        let mut line = String::new();
        self.train_until(self.settings.images, |training, loss| {
            mean_loss.add(loss);
            let rate = (training.position.images - before) as f64 / begun.elapsed().as_secs_f64();
            line = format!(
                "{} images, {rate:.0} images/s, loss {:.3}",
                training.position.images, mean_loss.value
            );
            bar.set_position(training.position.images);
            bar.set_message(line.clone());
            if last_checkpoint.elapsed() > CHECKPOINT_INTERVAL {
                training.keep(&bar, &line, &held_out)?;
                last_checkpoint = Instant::now();
            }
            Ok(())
        })?;
        self.keep(&bar, &line, &held_out)
    }

    /// Trains up to `images` pictures; `after_step` receives the loss of each step.
    fn train_until(
        &mut self,
        images: u64,
        mut after_step: impl FnMut(&Self, f64) -> Result<()>,
    ) -> Result<()> {
        let (schedule, count) = (self.schedule, self.settings.batch);
        let mut loader = Loader::start(self.recipes.clone(), self.settings.seed);
        let mut ordered = self.position.images;
        let (begun, before) = (Instant::now(), self.position.elapsed);
        while self.position.images < images {
            let batch = loader.next(|| {
                let first_number = ordered;
                ordered += count as u64;
                let (side, difficulty) =
                    (schedule.phase(first_number).side, schedule.difficulty(first_number));
                Order { first_number, count, side, difficulty }
            })?;
            let loss = self.step(&batch.to_device(self.device));
            self.position.images += count as u64;
            self.position.elapsed = before + begun.elapsed();
            after_step(self, loss)?;
        }
        Ok(())
    }

    /// Takes one optimiser step and returns the loss before it.
    fn step(&mut self, batch: &Batch) -> f64 {
        let seen = batch.order.first_number;
        let depth = self.schedule.phase(seen).depth;
        let pixels = batch.pixels.to_kind(self.settings.precision.kind());
        let loss = self.network.forward(&pixels, depth, true).loss(batch);
        self.optimiser
            .step(&loss, self.settings.learning_rate * self.schedule.learning_rate_factor(seen));
        loss.double_value(&[])
    }

    /// Returns all that a step changes, sorted by name, as the training's own tensors.
    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state: Vec<(String, Tensor)> = self.variables.variables().into_iter().collect();
        state.extend(self.optimiser.state());
        state.sort_by(|(one, _), (other, _)| one.cmp(other));
        state
    }

    /// Writes a checkpoint and prints its score on a separate line, with or without a terminal.
    fn keep(&self, bar: &ProgressBar, line: &str, held_out: &[Batch]) -> Result<()> {
        self.checkpoint.write(&self.state(), &self.settings, self.position)?;
        let (minutes, score) = (self.position.elapsed.as_secs_f64() / 60.0, self.score(held_out));
        // A training is worth finishing even if nobody can be told of it.
        let _told = bar.suspend(|| writeln!(stderr(), "{minutes:.1} min: {line}, {score}"));
        Ok(())
    }

    fn draw_held_out(&self) -> Vec<Batch> {
        (0..HELD_OUT_IMAGES / 64)
            .map(|index| {
                let first_number = FIRST_HELD_OUT + 64 * index;
                let order = Order { first_number, count: 64, side: HELD_OUT_SIDE, difficulty: 1.0 };
                Batch::draw(&self.recipes, self.settings.seed, order)
            })
            .collect()
    }

    /// Describes the accuracy on held-out pictures at full difficulty.
    fn score(&self, held_out: &[Batch]) -> String {
        let depth = self.schedule.phase(self.position.images).depth;
        let _guard = no_grad_guard();
        let mut right = [0.0; 4];
        for batch in held_out {
            let batch = batch.to_device(self.device);
            let of_batch = self.network.forward(&batch.pixels, depth, false).right(&batch);
            right.iter_mut().zip(of_batch).for_each(|(sum, count)| *sum += count);
        }
        let [recipe_gap, recipe_pyramid, structure_gap, structure_pyramid] =
            right.map(|count| 100.0 * count / HELD_OUT_IMAGES as f64);
        format!(
            "held out: recipe {recipe_gap:.1} % gap {recipe_pyramid:.1} % pyramid, \
             structure {structure_gap:.1} % gap {structure_pyramid:.1} % pyramid"
        )
    }
}

/// A mean over about the last hundred values.
#[derive(Debug, Default)]
struct MovingMean {
    value: f64,
    count: u32,
}

impl MovingMean {
    fn add(&mut self, value: f64) {
        self.count = (self.count + 1).min(100);
        self.value += (value - self.value) / f64::from(self.count);
    }
}

#[cfg(test)]
mod tests {
    use turret::base::{Architecture, BaseWeights};

    use super::*;
    use crate::precision::Precision;

    /// Settings of five steps, at least one in each phase of the schedule.
    const SETTINGS: Settings = Settings {
        images: 20,
        seed: 0,
        recipes: 3,
        batch: 4,
        learning_rate: 1e-3,
        precision: Precision::Fp32,
    };

    fn start(folder: &std::path::Path) -> Training {
        Training::start(SETTINGS, folder.to_owned(), tch::Device::Cpu).unwrap()
    }

    fn keep(training: &Training) {
        training
            .checkpoint
            .write(&training.state(), &training.settings, training.position)
            .unwrap();
    }

    #[test]
    fn resumed_training_ends_where_an_uninterrupted_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut straight = start(folder.path());
        // Tests share libtorch's generator, so the first weights are copied to be equal.
        keep(&straight);
        let mut stopped = start(folder.path());
        straight.train_until(20, |_, _| Ok(())).unwrap();
        stopped.train_until(12, |_, _| Ok(())).unwrap();
        keep(&stopped);
        drop(stopped);
        let mut resumed = start(folder.path());
        assert_eq!(resumed.position.images, 12);
        resumed.train_until(20, |_, _| Ok(())).unwrap();
        for ((name, one), (_, other)) in straight.state().iter().zip(&resumed.state()) {
            assert!(one.allclose(other, 1e-4, 1e-6, false), "{name} differs");
        }
    }

    #[test]
    fn result_imports_as_a_base() {
        let folder = tempfile::tempdir().unwrap();
        let training = start(folder.path());
        keep(&training);
        let base = BaseWeights::import(&training.checkpoint.base()).unwrap();
        assert_eq!(base.architecture(), Architecture::ResNet34);
    }
}
