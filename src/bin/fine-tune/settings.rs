//! What `fine-tune train` can be told, and how it becomes options.

use std::{path::PathBuf, time::SystemTime};

use clap::ArgMatches;
use turret::{
    base::{Device, PrecisionChoice},
    config::{
        Count,
        settings::{ConfigMistakes, Reader, Setting},
    },
    image::{Preprocess, Resize},
    train::{FitOptions, TrainOptions},
};

use crate::output::OutputKind;

pub(crate) const SETTINGS: &[Setting] = &[
    Setting::new("task", "NAME", "task that the head answers"),
    Setting::new("base", "FILE", "base file, as `turret base import` writes it"),
    Setting::new("heads", "DIR", "folder of heads to publish into"),
    Setting::new("features", "SET", "what the head reads: gap, or pyramid for small defects").default("gap"),
    Setting::new("preprocess", "WAY", "how pictures become squares: letterbox, centre_crop or stretch")
        .default("letterbox"),
    Setting::new("good", "CLASS", "class that may pass; without any, those named ok or good").repeatable(),
    Setting::new("threshold", "P", "probability below which a person should look").default("0.5"),
    Setting::new("val-share", "SHARE", "share of the pictures kept back to judge the head").default("0.2"),
    Setting::new("seed", "N", "seed of the split and of the order of training").default("0"),
    Setting::new("epochs", "N", "most passes over the training pictures").default("300"),
    Setting::new("patience", "N", "stop after so many epochs without a lower validation loss").default("20"),
    Setting::new("batch-size", "N", "pictures in one step of the fit").default("32"),
    Setting::new("learning-rate", "RATE", "step size of Adam").default("0.001"),
    Setting::new("class-weight", "WAY", "balanced: all classes weigh the same; none: all pictures do")
        .default("balanced"),
    Setting::new("cache", "DIR", "folder of the feature cache [default: turret in the user's cache folder]"),
    Setting::switch("no-cache", "keep no features between runs"),
    Setting::new("device", "DEVICE", "where the base runs: auto, cpu or cuda:N").default("auto"),
    Setting::new(
        "precision",
        "NAME",
        "arithmetic of the base, best the server's: auto, fp32, bf16, fp16 or int8",
    )
    .default("auto"),
    Setting::new("threads", "N", "threads of the base on the CPU; auto: one a processor").default("auto"),
    Setting::new("output", "WAY", "text, json, or auto: text on a terminal").default("auto"),
];

/// Everything that a run needs.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) options: TrainOptions,
    pub(crate) base: PathBuf,
    pub(crate) device: Device,
    pub(crate) precision: PrecisionChoice,
    pub(crate) threads: usize,
    pub(crate) output: OutputKind,
}

impl Run {
    pub(crate) fn read(data: PathBuf, matches: &ArgMatches) -> Result<Self, ConfigMistakes> {
        let mut reader = Reader::gather(SETTINGS, matches);
        let mut command = reader.in_force();
        command.insert("data", data.display().to_string());
        let in_unit = |value: &f32| (0.0..=1.0).contains(value);
        let inside_unit = |value: &f64| *value > 0.0 && *value < 1.0;
        let at_least_one = |value: &usize| *value >= 1;

        let task = reader.get("task");
        let base = reader.get("base");
        let heads = reader.get("heads");
        let features = reader.get("features");
        let resize = reader.get::<Resize>("preprocess");
        let good = reader.list("good");
        let threshold = reader.get_where("threshold", "a probability from 0 to 1", in_unit);
        let validation_share = reader.get_where("val-share", "a share above 0 and below 1", inside_unit);
        let seed = reader.get("seed");
        let epochs = reader.get_where("epochs", "1 or more", at_least_one);
        let patience = reader.get_where("patience", "1 or more", at_least_one);
        let batch_size = reader.get_where("batch-size", "1 or more", at_least_one);
        let rate = |value: &f32| value.is_finite() && *value > 0.0;
        let learning_rate = reader.get_where("learning-rate", "a number above 0", rate);
        let class_weight = reader.get("class-weight");
        let cache = reader.optional("cache").or_else(default_cache);
        let cache = if reader.switch("no-cache") { None } else { cache };
        let device = reader.get("device");
        let precision = reader.get("precision");
        let threads = reader.get::<Count>("threads");
        let output = reader.get("output");

        let build = || {
            let fit = FitOptions {
                epochs: epochs?,
                patience: patience?,
                batch_size: batch_size?,
                learning_rate: learning_rate?,
                class_weight: class_weight?,
                seed: seed?,
            };
            let options = TrainOptions {
                data,
                task: task?,
                heads: heads?,
                features: features?,
                preprocess: Preprocess { resize: resize?, ..Preprocess::default() },
                good,
                threshold: threshold?,
                validation_share: validation_share?,
                seed: seed?,
                fit,
                cache,
                created_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
                base_origin: None,
                command: command.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            };
            Some(Self {
                options,
                base: base?,
                device: device?,
                precision: precision?,
                threads: threads?.0,
                output: output?,
            })
        };
        reader.finish(build())
    }
}

/// `$XDG_CACHE_HOME/turret`, else `~/.cache/turret` (XDG Base Directory Specification); `None` without a home.
fn default_cache() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let at_home = || Some(std::env::home_dir()?.join(".cache"));
    named.or_else(at_home).map(|folder| folder.join("turret"))
}
