//! `fine-tune`: trains heads and publishes them for `turret serve`.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | success |
//! | 1 | failure; nothing was published, unless only the output could not be written |
//! | 2 | invalid settings |
//! | 3 | the head is worse than the serving one and was not published |

mod auto;
mod base;
mod evaluate;
mod import_export;
mod output;
mod remote;
mod report;
mod train;

use std::{
    io::{IsTerminal, stderr},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Arg, ArgMatches, Command, value_parser};
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};
use turret::{
    config::settings::{ConfigMistakes, with_settings},
    log::{LogFormat, subscriber},
    train::TrainError,
};
use turret_client::cli::printing::{exit_code, parse_command_line, print_error};

use self::{
    evaluate::EvaluateRun,
    import_export::{EXPORT_SETTINGS, ExportRun, IMPORT_SETTINGS, ImportRun},
    train::{SETTINGS, TrainRun},
};

/// The name that begins each error.
const PROGRAM: &str = "fine-tune";

const INVALID_SETTINGS: u8 = 2;
const WORSE_THAN_SERVING: u8 = 3;

fn command() -> Command {
    let path = |name: &'static str, value_name, help| {
        Arg::new(name)
            .value_name(value_name)
            .required(true)
            .value_parser(value_parser!(PathBuf))
            .help(help)
    };
    let data = || {
        path(
            "data",
            "DATA",
            "Pictures: DATA/<class>/*, DATA/{train,val,test}/<class>/*, MVTec's layout, or a \
             .csv, .tsv or .jsonl list",
        )
    };
    let head = || path("head", "HEAD", "Head file");
    let train = Command::new("train").about("Train a head and publish it").arg(data());
    let evaluate = Command::new("evaluate")
        .about("Evaluate a head on labelled pictures")
        .arg(head())
        .arg(data());
    let export = Command::new("export").about("Write a head's classifier for PyTorch").arg(head());
    let import = Command::new("import").about("Publish a classifier trained in PyTorch").arg(path(
        "file",
        "FILE",
        "Safetensors file with weight and bias of a torch.nn.Linear",
    ));
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Trains heads and publishes them for `turret serve`")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(train, SETTINGS))
        .subcommand(with_settings(evaluate, evaluate::SETTINGS))
        .subcommand(with_settings(export, EXPORT_SETTINGS).mut_arg("out", |out| out.short('o')))
        .subcommand(with_settings(import, IMPORT_SETTINGS))
}

fn main() -> ExitCode {
    let (warnings, colours) = (EnvFilter::new("warn"), stderr().is_terminal());
    // Fails only if the process has a log already.
    let _first = subscriber(stderr, warnings, LogFormat::Text, colours).try_init();
    let matches = match parse_command_line(command()) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    let Some((name, matches)) = matches.subcommand() else {
        return ExitCode::from(INVALID_SETTINGS);
    };
    let result = match run(name, matches) {
        Ok(result) => result,
        Err(mistakes) => {
            print_error(PROGRAM, &mistakes.into());
            return ExitCode::from(INVALID_SETTINGS);
        }
    };
    let worse = |error: &anyhow::Error| {
        matches!(error.downcast_ref(), Some(TrainError::WorseThanServing { .. }))
    };
    match result {
        Err(error) if worse(&error) => {
            print_error(PROGRAM, &error);
            ExitCode::from(WORSE_THAN_SERVING)
        }
        result => exit_code(PROGRAM, result.map(|()| ExitCode::SUCCESS)),
    }
}

/// Runs a subcommand; the outer error is for invalid settings.
fn run(name: &str, matches: &ArgMatches) -> Result<anyhow::Result<()>, ConfigMistakes> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned().unwrap_or_default();
    Ok(match name {
        "evaluate" => EvaluateRun::read(path("head"), path("data"), matches)?.execute(),
        "export" => ExportRun::read(path("head"), matches)?.execute(),
        "import" => ImportRun::read(path("file"), matches)?.execute(),
        _ => TrainRun::read(path("data"), matches)?.execute(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_valid_and_reads_its_defaults() {
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
        let run = TrainRun::read("pictures".into(), matches).unwrap();
        assert_eq!(
            (run.options.adam, run.options.good),
            (Default::default(), vec!["fine".to_owned()])
        );
        assert_eq!(run.options.command.get("data").map(String::as_str), Some("pictures"));
    }

    #[test]
    fn all_invalid_settings_are_reported_at_once() {
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
        let error = TrainRun::read("d".into(), matches).unwrap_err().to_string();
        for part in [
            "--task \"No Task\"",
            "--base: give either --base FILE or --server ADDRESS",
            "--heads DIR",
            "--epochs \"0\"",
            "\"all\"",
            "--threads",
        ] {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
    }
}
