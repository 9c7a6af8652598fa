//! `fine-tune`: trains heads and publishes them for `turret serve`.
//!
//! Exit code 0: published; 1: failed, nothing was published; 2: the settings must be mended.

mod output;
mod report;
mod settings;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Arg, Command, value_parser};
use turret::{
    base::{BaseWeights, Device, Network, PrecisionChoice, set_cpu_threads},
    config::settings::with_settings,
    train::train,
};

use self::{
    output::Output,
    settings::{Run, SETTINGS},
};

const SETTINGS_MISTAKEN: u8 = 2;

fn command() -> Command {
    let data = Arg::new("data")
        .value_name("DATA")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("folder of pictures: DATA/<class>/*, or DATA/train/<class>/* and DATA/val/<class>/*");
    let train =
        Command::new("train").about("Train a linear head from class folders and publish it").arg(data);
    Command::new("fine-tune")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Trains heads and publishes them for `turret serve`")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(train, SETTINGS))
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    let matches = command().get_matches();
    let Some(("train", matches)) = matches.subcommand() else { return ExitCode::from(SETTINGS_MISTAKEN) };
    let data = matches.get_one::<PathBuf>("data").cloned().unwrap_or_default();
    let run = match Run::read(data, matches) {
        Ok(run) => run,
        Err(mistakes) => {
            eprintln!("error: {mistakes}");
            return ExitCode::from(SETTINGS_MISTAKEN);
        }
    };
    match execute(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(run: Run) -> anyhow::Result<()> {
    let Run { mut options, base, device, precision, threads, output } = run;
    set_cpu_threads(threads);
    let (mut base, origin) = load_base(&base, device, precision)?;
    options.base_origin = Some(origin);
    let mut output = Output::new(output);
    let result = train(&options, &mut base, &mut |event| output.event(&event));
    output.end();
    output.report(&options, &result?);
    Ok(())
}

/// The base, ready to run, and where its weights came from.
fn load_base(path: &Path, device: Device, precision: PrecisionChoice) -> anyhow::Result<(Network, String)> {
    let weights = BaseWeights::load(path)?;
    let base = Network::new(&weights, device, precision)
        .with_context(|| format!("cannot run {} here", path.display()))?;
    Ok((base, weights.origin().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_whole_and_reads_its_defaults() {
        command().debug_assert();
        let arguments = [
            "fine-tune",
            "train",
            "pictures",
            "--task",
            "t",
            "--base",
            "b",
            "--heads",
            "h",
            "--good",
            "fine",
        ];
        let matches = command().try_get_matches_from(arguments).unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        let run = Run::read("pictures".into(), matches).unwrap();
        assert_eq!((run.options.adam, run.options.good), (Default::default(), vec!["fine".to_owned()]));
        assert_eq!(run.options.command.get("data").map(String::as_str), Some("pictures"));
    }

    #[test]
    fn every_mistake_of_the_settings_is_told_at_once() {
        let arguments = [
            "fine-tune",
            "train",
            "d",
            "--task",
            "No Task",
            "--epochs",
            "0",
            "--features",
            "all",
            "--threads",
            "0",
        ];
        let matches = command().try_get_matches_from(arguments).unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        let told = Run::read("d".into(), matches).unwrap_err().to_string();
        for part in [
            "--task \"No Task\"",
            "--base FILE is missing",
            "--heads DIR",
            "--epochs \"0\"",
            "\"all\"",
            "--threads",
        ] {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
    }
}
