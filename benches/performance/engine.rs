//! `make bench-engine`: the bare forward pass against other engines on the same weights, pictures
//! and threads.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use turret::{base::BaseWeights, config::processors};

use crate::{
    base::{self, PRECISIONS, has_native_bf16},
    pictures,
    report::{Report, Required, figures, median, median_ratio},
    worker::Worker,
};

const BATCHES: [usize; 3] = [1, 8, 32];
/// Number of pictures whose features are compared.
const COMPARED: usize = 32;
/// Seconds of a batch of one above which an engine's larger batches are skipped.
const BEARABLE: f64 = 2.0;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Base file with activation ranges
    #[arg(long, default_value = base::FILE)]
    base: PathBuf,
    #[arg(long, default_value = pictures::FOLDER)]
    pictures: PathBuf,
    /// Python interpreter with torch, ONNX Runtime and OpenVINO
    #[arg(long, default_value = ".bench/venv/bin/python")]
    python: PathBuf,
    /// Threads of every engine
    #[arg(long, default_value_t = processors())]
    threads: usize,
    /// Rounds, in each of which every engine runs every batch size once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of a turn; at least one batch is computed
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Trial run: one round of a tenth of a second per turn
    #[arg(long)]
    quick: bool,
}

impl Arguments {
    /// Returns the number of rounds and the length of a turn.
    fn rounds_and_turn(&self) -> (usize, Duration) {
        let (rounds, seconds) = if self.quick { (1, 0.1) } else { (self.rounds, self.seconds) };
        (rounds, Duration::from_secs_f64(seconds))
    }
}

/// One engine in one precision.
#[derive(Debug)]
struct Contestant {
    engine: &'static str,
    precision: &'static str,
    worker: Worker,
    /// Images a second in each round, for each of [`BATCHES`].
    speeds: [Vec<f64>; BATCHES.len()],
    /// `|features - reference| / |reference|` over all compared pictures.
    error: f64,
    bearable: bool,
    /// Row in the table.
    number: usize,
}

/// Pause in which the previous engine's threads stop spinning.
const BETWEEN_TURNS: Duration = Duration::from_millis(200);

const EAGER: (&str, &str) = ("PyTorch eager", "fp32");

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut contestants = start_all(arguments)?;
    let (rounds, turn) = arguments.rounds_and_turn();
    for round in 0..rounds {
        progress(&format!("round {} of {rounds}", round + 1));
        for (position, batch) in BATCHES.into_iter().enumerate() {
            // Rotates, so that no engine always follows the same other one.
            contestants.rotate_left(1);
            for contestant in contestants.iter_mut().filter(|it| it.bearable || batch == 1) {
                std::thread::sleep(BETWEEN_TURNS);
                let speed = contestant.worker.run(batch, turn)?;
                contestant.speeds[position].push(speed);
            }
        }
    }
    contestants.sort_by_key(|contestant| contestant.number);
    report(&contestants, arguments)
}

fn start_all(arguments: &Arguments) -> Result<Vec<Contestant>> {
    let folder = Path::new(".bench/engine");
    fs_err::create_dir_all(folder)?;
    let (pixels, weights) = (folder.join("pixels.rgb"), folder.join("weights.safetensors"));
    pictures::write_pixels(&pictures::load(&arguments.pictures, pictures::SIDE)?, &pixels)?;
    if weights.exists() {
        fs_err::remove_file(&weights)?;
    }
    // Saves the f32 values that Turret computes with, however the base file stores them.
    BaseWeights::load(&arguments.base)?.save(&weights)?;

    let mut contestants: Vec<Contestant> = Vec::new();
    let mut reference = Vec::new();
    let mut enter =
        |engine: &'static str, precision: &'static str, mut command: Command| -> Result<()> {
            progress(&format!("starting {engine} {precision}"));
            let mut worker = match Worker::start(&mut command) {
                Ok(worker) => worker,
                Err(error) if engine == "Turret" => {
                    progress(&format!("skipped: {error:#}"));
                    return Ok(());
                }
                Err(error) => bail!("{engine} {precision}: {error:#}"),
            };
            let features = worker.features(COMPARED)?;
            if reference.is_empty() {
                reference.clone_from(&features);
            }
            let bearable = 1.0 / worker.run(1, Duration::ZERO)? <= BEARABLE;
            let error = relative_error(&features, &reference);
            let number = contestants.len();
            contestants.push(Contestant {
                engine,
                precision,
                worker,
                speeds: Default::default(),
                error,
                bearable,
                number,
            });
            Ok(())
        };
    let python = |engine: &str, precision: &str| {
        let mut command = Command::new(&arguments.python);
        command.args(["-B", "tools/bench/worker.py", "--engine", engine, "--precision", precision]);
        command.args(["--threads", &arguments.threads.to_string()]);
        command
            .arg("--weights")
            .arg(&weights)
            .arg("--pixels")
            .arg(&pixels)
            .arg("--folder")
            .arg(folder);
        command
    };
    // Eager PyTorch comes first, because its features are the reference.
    enter(EAGER.0, EAGER.1, python("eager", "fp32"))?;
    enter("ONNX Runtime", "fp32", python("onnxruntime", "fp32"))?;
    for precision in PRECISIONS {
        if precision != "bf16" || has_native_bf16() {
            enter("OpenVINO", precision, python("openvino", precision))?;
        }
        enter(
            "Turret",
            precision,
            own_worker(&arguments.base, precision, arguments.threads, &arguments.pictures)?,
        )?;
    }
    Ok(contestants)
}

/// Returns a command that runs this program as a worker with Turret's engine.
pub(crate) fn own_worker(
    base: &Path,
    precision: &str,
    threads: usize,
    pictures: &Path,
) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["engine-worker", "--precision", precision, "--threads", &threads.to_string()]);
    command.arg("--base").arg(base).arg("--pictures").arg(pictures);
    Ok(command)
}

fn relative_error(features: &[f32], reference: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| {
        values.map(|value| value * value).sum::<f64>().sqrt()
    };
    let difference =
        norm(&mut features.iter().zip(reference).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut reference.iter().map(|value| f64::from(*value)))
}

fn report(contestants: &[Contestant], arguments: &Arguments) -> Result<()> {
    let find = |engine: &str, precision: &str| {
        contestants.iter().find(|it| it.engine == engine && it.precision == precision)
    };
    let eager = find(EAGER.0, EAGER.1).context("eager PyTorch always runs")?;
    let ratio = |of: &Contestant, to: Option<&Contestant>, position: usize| {
        let ratio = to.map(|to| median_ratio(&of.speeds[position], &to.speeds[position]));
        ratio.filter(|ratio| ratio.is_finite())
    };
    let mut report = Report::new("engine");
    let rows = contestants.iter().map(|it| {
        let mut row = vec![it.engine.to_owned(), it.precision.to_owned()];
        row.extend(it.speeds.iter().map(|speeds| match speeds.iter().copied().reduce(f64::max) {
            Some(best) => format!("{} ({})", figures(median(speeds)), figures(best)),
            None => "too slow".to_owned(),
        }));
        let cell = |ratio: Option<f64>| {
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
        };
        let cells = |to: Option<&Contestant>| {
            [0, 1, 2].map(|position| cell(ratio(it, to, position))).join(" / ")
        };
        row.push(cells(find("OpenVINO", it.precision)));
        row.push(cells(Some(eager)));
        row.push(format!("{:.3} %", 100.0 * it.error));
        row
    });
    let title = format!(
        "Images a second: median of {} rounds (best), {} threads; ratios are medians over the rounds",
        arguments.rounds_and_turn().0,
        arguments.threads
    );
    let header = [
        "engine",
        "precision",
        "batch 1",
        "batch 8",
        "batch 32",
        "to OpenVINO",
        "to eager",
        "features off by",
    ];
    report.table(&title, &header, rows.collect());
    for precision in PRECISIONS {
        let Some(turret) = find("Turret", precision) else { continue };
        for (position, batch) in BATCHES.into_iter().enumerate() {
            if let Some(found) = ratio(turret, find("OpenVINO", precision), position) {
                let name = format!("Turret {precision} to OpenVINO {precision}, batch {batch}");
                report.bar(name, Required::AtLeast(0.97), found);
            }
        }
    }
    if let Some(turret) = find("Turret", "int8") {
        for (position, least) in [(0, 5.0), (1, 3.5)] {
            if let Some(found) = ratio(turret, Some(eager), position) {
                let name = format!("Turret int8 to eager fp32, batch {}", BATCHES[position]);
                report.bar(name, Required::AtLeast(least), found);
            }
        }
    }
    report.finish()
}

/// Prints progress to standard error.
#[expect(clippy::print_stderr, reason = "standard output holds the tables")]
pub(crate) fn progress(line: &str) {
    eprintln!("{line}");
}
