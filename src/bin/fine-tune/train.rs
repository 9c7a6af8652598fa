//! `fine-tune train`: trains a head and publishes it.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use bytesize::ByteSize;
use clap::ArgMatches;
use turret::{
    base::{BranchPoint, FeatureSet},
    config::settings::{ConfigMistakes, Setting, SettingsReader},
    image::{Preprocess, Resize},
    train::{AdamOptions, FineTuneOptions, TrainOptions, train},
};

use crate::{
    auto::Auto,
    base::{BASE, BaseRun, CACHE, DEVICE, LoadedBase, NO_CACHE, PRECISION, SERVER, THREADS, cache},
    output::{Output, OutputKind},
};

pub(crate) const SETTINGS: &[Setting] = &[
    Setting::new("task", "NAME", "Task of the head"),
    BASE,
    SERVER,
    Setting::new("heads", "DIR", "Folder of heads to publish into"),
    Setting::new(
        "strategy",
        "WAY",
        "What is trained; feature-extraction: a linear head on the frozen base; fine-tune: its last \
         layers too, privately; auto: the better one in cross-validation",
    )
    .default("auto"),
    Setting::new(
        "unfreeze",
        "LAYERS",
        "With fine-tuning: first layers to train, such as layer4 or layer4.2; auto: layer4",
    )
    .default("auto"),
    Setting::new("fine-tune-epochs", "N", "With fine-tuning: passes over the training pictures")
        .default("10"),
    Setting::new(
        "fine-tune-rate",
        "RATE",
        "With fine-tuning: initial step size of the layers, decaying to 0",
    )
    .default("0.0003"),
    Setting::new(
        "map-limit",
        "SIZE",
        "With fine-tuning: maximum bytes of trunk feature maps in the cache; the oldest are \
         removed",
    )
    .default("8GiB"),
    Setting::new(
        "features",
        "SET",
        "Features that the head reads: gap, pyramid, or auto: the better one in cross-validation",
    )
    .default("auto"),
    Setting::new(
        "preprocess",
        "WAY",
        "How pictures are made square: letterbox, centre_crop or stretch",
    )
    .default("letterbox"),
    Setting::new(
        "levels",
        "BLACK:WHITE",
        "Samples that become black and white in pictures with more than 8 bits, such as 0:4095; \
         full: the full range; auto: what the pictures tell",
    )
    .default("auto"),
    Setting::new(
        "group",
        "BY",
        "Pictures of one group stay on one side of the split: stem (of the file name) or a column \
         name; auto: the column group",
    )
    .default("auto"),
    Setting::new(
        "augment",
        "WAY",
        "Also train on slightly changed views of each picture: none or light",
    )
    .default("none"),
    Setting::new("good", "CLASS", "Class that may pass; if absent, those named ok or good")
        .repeatable(),
    Setting::new("threshold", "P", "Probability below which a person should review the picture")
        .default("0.5"),
    Setting::new("val-share", "SHARE", "Share of the pictures used for validation").default("0.2"),
    Setting::new("seed", "N", "Seed of the split, the folds and the order of training")
        .default("0"),
    Setting::new(
        "solver",
        "WAY",
        "How the head is fitted; lbfgs: minimum of a convex loss; adam: mini-batches with early \
         stopping",
    )
    .default("lbfgs"),
    Setting::new(
        "l2",
        "STRENGTH",
        "Penalty on the weights, above 0; auto: the best one in cross-validation",
    )
    .default("auto"),
    Setting::new("epochs", "N", "With adam: maximum passes over the training pictures")
        .default("300"),
    Setting::new(
        "patience",
        "N",
        "With adam: epochs without a lower validation loss after which training stops",
    )
    .default("20"),
    Setting::new("batch-size", "N", "With adam: pictures per step").default("32"),
    Setting::new("learning-rate", "RATE", "With adam: step size").default("0.001"),
    Setting::new(
        "class-weight",
        "WAY",
        "What weighs the same; balanced: all classes; none: all pictures",
    )
    .default("balanced"),
    Setting::switch(
        "force",
        "Publish the head even if it is worse than the serving one; requires --reason",
    ),
    Setting::new("reason", "TEXT", "Why publishing is forced, for the head's evidence"),
    CACHE,
    NO_CACHE,
    DEVICE,
    PRECISION,
    THREADS,
    Setting::new("output", "WAY", "Form of the output: text, json, or auto: text on a terminal").default("auto"),
];

/// The settings of a training, validated.
#[derive(Debug)]
pub(crate) struct TrainRun {
    pub(crate) options: TrainOptions,
    pub(crate) base: BaseRun,
    pub(crate) output: OutputKind,
}

impl TrainRun {
    pub(crate) fn read(data: PathBuf, matches: &ArgMatches) -> Result<Self, ConfigMistakes> {
        let mut reader = SettingsReader::gather(SETTINGS, matches);
        let mut command = reader.in_force();
        command.insert("data", data.display().to_string());
        let in_unit = |value: &f32| (0.0..=1.0).contains(value);
        let inside_unit = |value: &f64| *value > 0.0 && *value < 1.0;
        let at_least_one = |value: &usize| *value >= 1;

        let task = reader.get("task");
        let base = BaseRun::read(&mut reader);
        let heads = reader.get("heads");
        let strategy = reader.get("strategy");
        let unfreeze = reader.get::<Auto<BranchPoint>>("unfreeze");
        let fine_tune_epochs =
            reader.get_where("fine-tune-epochs", "1 or more, such as 10", at_least_one);
        let fine_tune_rate =
            reader.get_where("fine-tune-rate", "a number above 0, such as 0.0003", |rate: &f64| {
                rate.is_finite() && *rate > 0.0
            });
        let map_limit = reader.get_expecting::<ByteSize>("map-limit", "a size, such as 8GiB");
        let features = reader.get::<Auto<FeatureSet>>("features");
        let resize = reader.get::<Resize>("preprocess");
        let levels = reader.get("levels");
        let group_by = reader.get("group");
        let augment = reader.get("augment");
        let good = reader.list("good");
        let threshold =
            reader.get_where("threshold", "a probability from 0 to 1, such as 0.5", in_unit);
        let validation_share =
            reader.get_where("val-share", "a share above 0 and below 1, such as 0.2", inside_unit);
        let seed = reader.get_expecting("seed", "a whole number of 0 or more, such as 42");
        let solver = reader.get("solver");
        let is_strength = |l2: &Auto<f64>| l2.0.is_none_or(|l2| l2.is_finite() && l2 > 0.0);
        let l2 = reader.get_where("l2", "auto, or a number above 0, such as 0.01", is_strength);
        let epochs = reader.get_where("epochs", "1 or more, such as 10", at_least_one);
        let patience = reader.get_where("patience", "1 or more, such as 10", at_least_one);
        let batch_size = reader.get_where("batch-size", "1 or more, such as 10", at_least_one);
        let rate = |value: &f32| value.is_finite() && *value > 0.0;
        let learning_rate =
            reader.get_where("learning-rate", "a number above 0, such as 0.001", rate);
        let class_weight = reader.get("class-weight");
        let reason = reader.optional::<String>("reason");
        let force = reader.switch("force");
        if force != reason.is_some() {
            reader.refuse("force", "give --force and --reason TEXT together");
        }
        let cache = cache(&mut reader);
        let output = reader.get("output");

        let build = || {
            let adam = AdamOptions {
                epochs: epochs?,
                patience: patience?,
                batch_size: batch_size?,
                learning_rate: learning_rate?,
                seed: seed?,
            };
            let options = TrainOptions {
                data,
                group_by: group_by?,
                task: task?,
                heads: heads?,
                strategy: strategy?,
                unfreeze: unfreeze?.0,
                layers: None,
                fine_tune: FineTuneOptions {
                    epochs: fine_tune_epochs?,
                    rate: fine_tune_rate?,
                    map_limit: map_limit?.as_u64(),
                    ..FineTuneOptions::default()
                },
                features: features?.0,
                preprocess: Preprocess { resize: resize?, ..Preprocess::default() },
                levels: levels?,
                augment: augment?,
                good,
                threshold: threshold?,
                validation_share: validation_share?,
                seed: seed?,
                solver: solver?,
                l2: l2?.0,
                class_weight: class_weight?,
                adam,
                force_because: reason,
                cache,
                created_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
                base_origin: None,
                command: command
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
            };
            Some(Self { options, base: base?, output: output? })
        };
        reader.finish(build())
    }

    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let Self { mut options, base, output } = self;
        let LoadedBase { mut base, weights, origin } = base.load()?;
        options.base_origin = Some(origin);
        options.layers = weights.map(Arc::new);
        let mut output = Output::new(output);
        let result = train(&options, base.as_mut(), &mut |event| output.event(&event));
        output.end_bars();
        output.report(&options, &result?);
        Ok(output.end()?)
    }
}
