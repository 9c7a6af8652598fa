use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::*;
use crate::{
    base::{
        Architecture, Base, BaseWeights, BatchNormStatistics, BranchPoint, Device, FeatureSet,
        Outputs, PrecisionChoice,
    },
    head::HeadContent,
    ids::Digest,
    image::PreparedImage,
    torch::Network,
    train::{
        Augment, EvaluateOptions, Event, Outcome, Part, Solver, TrainError, TrainOptions,
        evaluate_head, train,
        workshop::{Workshop, content},
    },
};

/// A [`Workshop`] with a real network of random weights, and two classes that any base separates.
struct DeepWorkshop {
    workshop: Workshop,
    weights: Arc<BaseWeights>,
    base: Network,
}

impl DeepWorkshop {
    fn new() -> Self {
        let weights = BaseWeights::random(Architecture::ResNet18, 2, BatchNormStatistics::Random);
        let base = Network::new(&weights, Device::Cpu, PrecisionChoice::default()).unwrap();
        let workshop = Workshop::empty();
        for number in 0..12 {
            let part = if number % 4 == 0 { "val" } else { "train" };
            workshop.picture(&format!("{part}/ok/{number}.png"), 150 + number * 8);
            workshop.picture(&format!("{part}/dent/{number}.png"), 20 + number * 8);
        }
        Self { workshop, weights: Arc::new(weights), base }
    }

    fn options(&self) -> TrainOptions {
        TrainOptions {
            strategy: Strategy::FineTune,
            // Only the last block: a third of the parameters to train, cache and write.
            unfreeze: Some(BranchPoint { first_block: 1 }),
            layers: Some(self.weights.clone()),
            fine_tune: FineTuneOptions { epochs: 3, batch_size: 8, ..FineTuneOptions::default() },
            ..self.workshop.options()
        }
    }

    fn train(&mut self, options: &TrainOptions) -> Result<Outcome, TrainError> {
        train(options, &mut self.base, &mut |_| {})
    }

    fn digest_with(&mut self, heads: &str, options: TrainOptions) -> Digest {
        let options = TrainOptions { heads: self.workshop.path(heads), ..options };
        self.train(&options).unwrap().published.digest
    }

    fn accuracy(&mut self, head: &HeadContent) -> f64 {
        let (data, cache) = (self.workshop.path("data"), None);
        let options =
            EvaluateOptions { head: head.clone(), data, part: Some(Part::Validation), cache };
        evaluate_head(&options, &mut self.base, &mut |_| {}).unwrap().accuracy
    }
}

#[test]
fn fine_tuning_trains_the_convolutions_and_leaves_the_base_unchanged() {
    let mut workshop = DeepWorkshop::new();
    let grey = PreparedImage {
        side: 64,
        pixels: vec![90; 64 * 64 * 3].into(),
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    let before = workshop.base.forward(&[&grey], Outputs::default()).unwrap();
    for (unfreeze, blocks) in [(None, "layer4"), (Some("layer4.1".parse().unwrap()), "layer4.1")] {
        let outcome = workshop.train(&TrainOptions { unfreeze, ..workshop.options() }).unwrap();
        assert_eq!(outcome.strategy.branch.as_deref(), Some(blocks));
        assert!(outcome.strategy.serving_cost.is_some_and(|cost| cost > 0.0));
        let head = content(&outcome);
        let (trained, start) = (
            head.branch.clone().unwrap(),
            workshop.weights.branch("layer4".parse().unwrap()).unwrap(),
        );
        for (name, tensor) in &trained.tensors {
            let is_convolution = tensor.shape.len() == 4;
            assert_eq!(
                *tensor != start.tensors[name],
                is_convolution,
                "{name}: convolutions change, BatchNorm does not"
            );
        }
        assert_eq!(
            workshop.accuracy(&head),
            outcome.evaluation.accuracy,
            "evaluated as it is served"
        );
    }
    assert_eq!(workshop.base.forward(&[&grey], Outputs::default()).unwrap(), before);
}

#[test]
fn layers_are_the_same_with_or_without_a_cache() {
    let mut workshop = DeepWorkshop::new();
    let options = TrainOptions { augment: Augment::Light, ..workshop.options() };
    let first = workshop.digest_with("a", options.clone());
    assert_eq!(workshop.digest_with("b", options.clone()), first, "from the cache");
    assert_eq!(
        workshop.digest_with("c", TrainOptions { cache: None, ..options }),
        first,
        "without a cache"
    );
}

#[test]
fn stopped_training_resumes_to_the_same_head() {
    let mut workshop = DeepWorkshop::new();
    let options = TrainOptions { features: Some(FeatureSet::Pyramid), ..workshop.options() };
    let expected = workshop.digest_with("straight", options.clone());
    let heads = workshop.workshop.path("stopped");
    let stopped = TrainOptions { heads: heads.clone(), ..options };
    let mut epochs = Vec::new();
    let run = catch_unwind(AssertUnwindSafe(|| {
        train(&stopped, &mut workshop.base, &mut |event| {
            if let Event::DeepEpoch(epoch) = event {
                epochs.push(epoch.epoch);
                // Stops before the checkpoint of this epoch is written.
                assert!(epoch.epoch < 3, "stopped here");
            }
        })
    }));
    assert!(run.is_err() && !heads.join("bracket-left/00000001.safetensors").exists());
    let outcome = train(&stopped, &mut workshop.base, &mut |event| {
        if let Event::DeepEpoch(epoch) = event {
            epochs.push(epoch.epoch);
        }
    });
    assert_eq!(epochs, [1, 2, 3, 3], "the second run resumes after the last complete epoch");
    assert_eq!(outcome.unwrap().published.digest, expected);
    let cache = walkdir::WalkDir::new(workshop.workshop.path("cache")).into_iter().flatten();
    let left =
        cache.filter(|entry| entry.file_name().to_string_lossy().starts_with("fine-tune-")).count();
    assert_eq!(left, 0, "checkpoints are removed");
}

#[test]
fn auto_chooses_a_linear_head_if_there_are_too_few_pictures() {
    let mut workshop = DeepWorkshop::new();
    let outcome =
        workshop.train(&TrainOptions { strategy: Strategy::Auto, ..workshop.options() }).unwrap();
    assert_eq!(outcome.strategy.branch, None);
    assert!(
        matches!(outcome.strategy.because, StrategyReason::TooFewPictures { .. }),
        "{}",
        outcome.strategy.because
    );
    assert!(content(&outcome).branch.is_none());
}

#[test]
fn impossible_fine_tuning_fails_with_its_reason_and_publishes_nothing() {
    let mut workshop = DeepWorkshop::new();
    let mut failure = |change: &dyn Fn(&mut TrainOptions)| {
        let mut options = workshop.options();
        change(&mut options);
        workshop.train(&options).unwrap_err().to_string()
    };
    let adam = failure(&|options| options.solver = Solver::Adam);
    assert!(adam.contains("linear heads only"), "{adam}");
    let no_layers = failure(&|options| options.layers = None);
    assert!(no_layers.contains("no layers to train"), "{no_layers}");
    let elsewhere = failure(&|options| options.unfreeze = Some("layer4.2".parse().unwrap()));
    assert!(elsewhere.contains("expected one of layer4, layer4.1"), "{elsewhere}");
    let no_room = failure(&|options| options.fine_tune.map_limit = 1000);
    assert!(no_room.contains("--map-limit"), "{no_room}");
    assert!(!workshop.workshop.path("heads/bracket-left/00000001.safetensors").exists());
}
