//! `fine-tune export` and `fine-tune import`: classifiers to and from PyTorch.

use std::{path::PathBuf, time::SystemTime};

use anyhow::Context;
use clap::ArgMatches;
use serde_json::json;
use turret::{
    atomic_file,
    base::{BaseWeights, FeatureSet},
    config::settings::{ConfigMistakes, Setting, SettingsReader},
    head::{DecisionRule, ReferenceSet},
    ids::{Digest, TaskName},
    image::{Preprocess, Resize},
    store::{HeadDraft, HeadStore},
    train::{LevelsChoice, from_torch_linear, to_torch_linear},
};
use turret_client::cli::printing::{escaped, print};

use crate::{base::BASE, evaluate::read_head};

pub(crate) const EXPORT_SETTINGS: &[Setting] = &[Setting::new(
    "out",
    "FILE",
    "Safetensors file to write, with weight and bias of a torch.nn.Linear",
)];

pub(crate) const IMPORT_SETTINGS: &[Setting] = &[
    Setting::new("task", "NAME", "Task of the head"),
    BASE,
    Setting::new("heads", "DIR", "Folder of heads to publish into"),
    Setting::new("labels", "LABEL", "Label of each row of the weight, in order").repeatable(),
    Setting::new("features", "SET", "Features it was trained on: gap or pyramid"),
    Setting::new(
        "preprocess",
        "WAY",
        "How its pictures were made square: letterbox, centre_crop or stretch",
    ),
    Setting::new(
        "levels",
        "BLACK:WHITE",
        "Samples that became black and white in pictures with more than 8 bits, such as 0:4095; \
         full: the full range",
    )
    .default("full"),
    Setting::new("good", "LABEL", "Label that may pass").repeatable(),
    Setting::new("threshold", "P", "Probability below which a person should review the picture")
        .default("0.5"),
];

pub(crate) struct ExportRun {
    head: PathBuf,
    out: PathBuf,
}

impl ExportRun {
    pub(crate) fn read(head: PathBuf, matches: &ArgMatches) -> Result<Self, ConfigMistakes> {
        let mut reader = SettingsReader::gather(EXPORT_SETTINGS, matches);
        let out = reader.get("out");
        reader.finish(out.map(|out| Self { head, out }))
    }

    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let bytes = to_torch_linear(&read_head(&self.head)?)?;
        let out = self.out.display().to_string();
        atomic_file::write_new(&self.out, &bytes).with_context(|| format!("cannot write {out}"))?;
        Ok(print(format_args!("wrote {}", escaped(&out)))?)
    }
}

pub(crate) struct ImportRun {
    file: PathBuf,
    task: TaskName,
    base: PathBuf,
    heads: PathBuf,
    labels: Vec<String>,
    features: FeatureSet,
    preprocess: Preprocess,
    good: Vec<String>,
    threshold: f32,
}

impl ImportRun {
    pub(crate) fn read(file: PathBuf, matches: &ArgMatches) -> Result<Self, ConfigMistakes> {
        let mut reader = SettingsReader::gather(IMPORT_SETTINGS, matches);
        let task = reader.get("task");
        let base = reader.get("base");
        let heads = reader.get("heads");
        let labels: Vec<String> = reader.list("labels");
        if labels.len() < 2 {
            reader.refuse("labels", "expected at least two, one for each row of the weight");
        }
        let features = reader.get("features");
        let resize = reader.get::<Resize>("preprocess");
        let levels = reader.get_where(
            "levels",
            "full or BLACK:WHITE, such as 0:4095",
            |levels: &LevelsChoice| *levels != LevelsChoice::Auto,
        );
        let good: Vec<String> = reader.list("good");
        if let Some(unknown) = good.iter().find(|good| !labels.contains(good)) {
            reader.refuse("good", format!("unknown label {unknown:?}, expected one of --labels"));
        }
        let in_unit = |value: &f32| (0.0..=1.0).contains(value);
        let threshold =
            reader.get_where("threshold", "a probability from 0 to 1, such as 0.5", in_unit);
        let build = || {
            let (task, base, heads) = (task?, base?, heads?);
            let (features, threshold) = (features?, threshold?);
            let levels = match levels? {
                LevelsChoice::Fixed(levels) => Some(levels),
                LevelsChoice::Full | LevelsChoice::Auto => None,
            };
            let preprocess = Preprocess { resize: resize?, levels, ..Preprocess::default() };
            Some(Self { file, task, base, heads, labels, features, preprocess, good, threshold })
        };
        let run = build();
        reader.finish(run)
    }

    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let weights = BaseWeights::load(&self.base)?;
        let bytes = fs_err::read(&self.file)?;
        let width = weights.architecture().widths().of(self.features);
        let linear = from_torch_linear(&bytes, self.labels.len(), width)
            .with_context(|| format!("cannot import {}", self.file.display()))?;
        let draft = HeadDraft {
            task: self.task,
            created_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            base: weights.identity(),
            features: self.features,
            preprocess: self.preprocess,
            decision: DecisionRule::uniform(self.threshold, self.labels.len()),
            classes: self
                .labels
                .iter()
                .map(|label| (label.clone(), self.good.contains(label)))
                .collect(),
            // Trained elsewhere, so nothing was measured here.
            evidence: json!({}),
            provenance: json!({
                "program": concat!("fine-tune ", env!("CARGO_PKG_VERSION")),
                "strategy": "imported",
                "imported_digest": Digest::of(&bytes),
                "base_origin": weights.origin(),
            }),
            linear,
            branch: None,
            // PyTorch's; without reference pictures it cannot be verified.
            arithmetic: "fp32".to_owned(),
            reference: ReferenceSet::default(),
        };
        let published = HeadStore::new(&self.heads).publish(&draft)?;
        let path = published.path.display().to_string();
        let (task, version) = (draft.task, published.version);
        Ok(print(format_args!("published {task} version {version}: {}", escaped(&path)))?)
    }
}
