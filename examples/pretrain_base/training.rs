//! The training loop.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tch::{
    nn::{self, OptimizerConfig as _},
    no_grad_guard,
};
use turret::base::Device;

use crate::{
    checkpoint::{Checkpoint, Position},
    loader::{Batch, Loader, Order},
    network::Network,
    recipe::Recipe,
    schedule::{self, Budget},
    structure::Structure,
};

/// Between two checkpoints, each with a score on held-out pictures.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(150);
const HELD_OUT_IMAGES: u64 = 768;
const HELD_OUT_SIDE: usize = 96;
/// Numbers of held-out pictures start here, far beyond any training.
const FIRST_HELD_OUT: u64 = 1 << 40;
const PROGRESS_STEPS: u64 = 10_000;
const WEIGHT_DECAY: f64 = 0.02;

#[derive(Debug)]
pub(crate) struct TrainingOptions {
    pub(crate) out: PathBuf,
    pub(crate) budget: Budget,
    pub(crate) seed: u64,
    pub(crate) batch: usize,
    pub(crate) learning_rate: f64,
}

#[derive(Debug)]
pub(crate) struct Training {
    options: TrainingOptions,
    recipes: Arc<[Recipe]>,
    device: tch::Device,
    variables: nn::VarStore,
    network: Network,
    checkpoint: Checkpoint,
    position: Position,
}

impl Training {
    pub(crate) fn start(options: TrainingOptions, recipes: Vec<Recipe>, device: Device) -> Result<Self> {
        ensure!(options.batch > 1 && recipes.len() > 1, "--batch and --recipes must be above 1");
        let device = device.resolve()?;
        tch::manual_seed(options.seed.cast_signed());
        let variables = nn::VarStore::new(device);
        let network = Network::new(&variables.root(), recipes.len(), Structure::CLASSES);
        let checkpoint = Checkpoint::in_folder(options.out.clone())?;
        let position = checkpoint.resume(&variables)?;
        Ok(Self { options, recipes: recipes.into(), device, variables, network, checkpoint, position })
    }

    pub(crate) fn run(mut self) -> Result<()> {
        let mut optimiser =
            nn::AdamW::default().wd(WEIGHT_DECAY).build(&self.variables, self.options.learning_rate)?;
        let mut loader = Loader::start(self.recipes.clone(), self.options.seed);
        let held_out = self.draw_held_out();
        let (begun, before) = (Instant::now(), self.position);
        let mut ordered = self.position.images;
        let mut last_checkpoint = Instant::now();
        let mut mean_loss = MovingMean::default();
        let bar = self.progress_bar()?;
        let mut rate = 0.0;
        while self.progress() < 1.0 {
            let (progress, count) = (self.progress(), self.options.batch);
            let (side, difficulty) = (schedule::phase(progress).side, schedule::difficulty(progress));
            let batch = loader.next(|| {
                let first_number = ordered;
                ordered += count as u64;
                Order { first_number, count, side, difficulty }
            })?;
            mean_loss.add(self.step(&mut optimiser, &batch.to_device(self.device), progress));
            self.position.images += count as u64;
            self.position.elapsed = before.elapsed + begun.elapsed();
            bar.set_position((PROGRESS_STEPS as f64 * self.progress()) as u64);
            rate = (self.position.images - before.images) as f64 / begun.elapsed().as_secs_f64();
            bar.set_message(self.line(&mean_loss, rate));
            if last_checkpoint.elapsed() > CHECKPOINT_INTERVAL {
                self.keep(&bar, &self.line(&mean_loss, rate), &held_out)?;
                last_checkpoint = Instant::now();
            }
        }
        self.keep(&bar, &self.line(&mean_loss, rate), &held_out)
    }

    /// One step of the optimiser; gives the loss before it.
    fn step(&self, optimiser: &mut nn::Optimizer, batch: &Batch, progress: f64) -> f64 {
        optimiser.set_lr(self.options.learning_rate * schedule::learning_rate_factor(progress));
        let logits = self.network.forward(&batch.pixels, schedule::phase(progress).depth, true);
        let loss = logits.loss(batch);
        optimiser.backward_step(&loss);
        loss.double_value(&[])
    }

    /// Writes a checkpoint and says how good it is, on a line of its own, also where there is no terminal.
    fn keep(&self, bar: &ProgressBar, line: &str, held_out: &[Batch]) -> Result<()> {
        self.checkpoint.write(&self.variables, self.position)?;
        let (minutes, score) = (self.position.elapsed.as_secs_f64() / 60.0, self.score(held_out));
        bar.suspend(|| eprintln!("{minutes:.1} min: {line}, {score}"));
        Ok(())
    }

    fn progress(&self) -> f64 {
        self.options.budget.progress(self.position.images, self.position.elapsed)
    }

    fn draw_held_out(&self) -> Vec<Batch> {
        (0..HELD_OUT_IMAGES / 64)
            .map(|index| {
                let first_number = FIRST_HELD_OUT + 64 * index;
                let order = Order { first_number, count: 64, side: HELD_OUT_SIDE, difficulty: 1.0 };
                Batch::draw(&self.recipes, self.options.seed, order)
            })
            .collect()
    }

    /// The share of held-out pictures that is right, at full difficulty.
    fn score(&self, held_out: &[Batch]) -> String {
        let depth = schedule::phase(self.progress()).depth;
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

    fn line(&self, mean_loss: &MovingMean, rate: f64) -> String {
        format!("{} images, {rate:.0} images/s, loss {:.3}", self.position.images, mean_loss.value)
    }

    fn progress_bar(&self) -> Result<ProgressBar> {
        let style = ProgressStyle::with_template("{wide_bar} {percent} % {msg}, {eta} left")?;
        // Counted from here, so that the time left does not count what an earlier start did.
        let bar = ProgressBar::new(PROGRESS_STEPS).with_style(style);
        bar.set_position((PROGRESS_STEPS as f64 * self.progress()) as u64);
        bar.reset_eta();
        Ok(bar)
    }
}

/// Over about the last hundred values.
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
