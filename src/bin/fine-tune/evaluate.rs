//! `fine-tune evaluate`: evaluates a head on labelled pictures.

use std::path::PathBuf;

use anyhow::Context;
use clap::ArgMatches;
use turret::{
    config::settings::{ConfigMistakes, Setting, SettingsReader},
    head::HeadContent,
    train::{EvaluateOptions, Part, evaluate_head},
};

use crate::{
    auto::Auto,
    base::{BASE, BaseRun, CACHE, DEVICE, LoadedBase, NO_CACHE, PRECISION, SERVER, THREADS, cache},
    output::{Output, OutputKind},
    report,
};

pub(crate) const SETTINGS: &[Setting] = &[
    BASE,
    SERVER,
    Setting::new(
        "split",
        "PART",
        "Evaluate only on this part of the pictures: train, val or test; auto: all",
    )
    .default("auto"),
    CACHE,
    NO_CACHE,
    DEVICE,
    PRECISION,
    THREADS,
    Setting::switch("json", "Print one JSON object"),
];

pub(crate) struct EvaluateRun {
    head: PathBuf,
    data: PathBuf,
    part: Option<Part>,
    cache: Option<PathBuf>,
    base: BaseRun,
    json: bool,
}

impl EvaluateRun {
    pub(crate) fn read(
        head: PathBuf,
        data: PathBuf,
        matches: &ArgMatches,
    ) -> Result<Self, ConfigMistakes> {
        let mut reader = SettingsReader::gather(SETTINGS, matches);
        let base = BaseRun::read(&mut reader);
        let part = reader.get::<Auto<Part>>("split");
        let cache = cache(&mut reader);
        let json = reader.switch("json");
        let build = || Some(Self { head, data, part: part?.0, cache, base: base?, json });
        let run = build();
        reader.finish(run)
    }

    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let head = read_head(&self.head)?;
        let LoadedBase { mut base, .. } = self.base.load()?;
        let options = EvaluateOptions { head, data: self.data, part: self.part, cache: self.cache };
        let mut output = Output::new(if self.json { OutputKind::Quiet } else { OutputKind::Text });
        let evaluation = evaluate_head(&options, base.as_mut(), &mut |event| output.event(&event));
        output.end_bars();
        let evaluation = evaluation?;
        let text = if self.json {
            serde_json::to_string(&evaluation)?
        } else {
            let (task, version) = (&options.head.task, options.head.version);
            format!(
                "\n{task} version {version} on {} pictures:\n{}",
                evaluation.pictures,
                report::evaluated(&evaluation)
            )
        };
        output.print(&text);
        Ok(output.end()?)
    }
}

/// Reads and validates a head file.
pub(crate) fn read_head(path: &PathBuf) -> anyhow::Result<HeadContent> {
    let bytes = fs_err::read(path)?;
    HeadContent::from_bytes(&bytes).with_context(|| format!("{} is not a head", path.display()))
}
