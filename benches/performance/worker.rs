//! An engine in its own process that computes on request only, so that engines can take turns.
//!
//! One line asks, one line answers: `run BATCH SECONDS` -> `IMAGES SECONDS`; `features COUNT` ->
//! a JSON list of `COUNT * width` numbers. A worker first writes `ready`. `tools/bench/worker.py`
//! implements the same protocol for other engines.
#![expect(clippy::print_stdout, reason = "the worker answers on standard output")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use turret::{
    base::{Base, Outputs},
    image::PreparedImage,
};

/// The parent's side of a worker.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a worker and waits until its engine is loaded.
    ///
    /// # Errors
    /// If it ends instead; its messages are on standard error.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let questions = child.stdin.take().context("standard input is piped")?;
        let answers = BufReader::new(child.stdout.take().context("standard output is piped")?);
        let mut worker = Self { child, questions, answers };
        let first = worker.read_line()?;
        ensure!(first == "ready", "the worker said {first:?} instead of \"ready\"");
        Ok(worker)
    }

    /// Runs batches of this size for at least this long, and returns images a second.
    pub(crate) fn run(&mut self, batch: usize, time: Duration) -> Result<f64> {
        let answer = self.ask(&format!("run {batch} {}", time.as_secs_f64()))?;
        let (images, seconds) = answer.split_once(' ').context("the answer is not two numbers")?;
        Ok(images.parse::<f64>()? / seconds.parse::<f64>()?)
    }

    /// Returns the features of the first pictures, concatenated.
    pub(crate) fn features(&mut self, count: usize) -> Result<Vec<f32>> {
        Ok(serde_json::from_str(&self.ask(&format!("features {count}"))?)?)
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.questions, "{question}")?;
        self.questions.flush()?;
        self.read_line()
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the worker ended with {}", self.child.wait()?);
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself; either way it must not outlive this value.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Runs the worker's side with Turret's engine until standard input ends.
pub(crate) fn answer_questions(base: &mut dyn Base, pictures: &[PreparedImage]) -> Result<()> {
    base.forward(&[&pictures[0]], Outputs::default())?;
    answer("ready")?;
    for line in std::io::stdin().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["run", batch, seconds] => {
                let time = Duration::from_secs_f64(seconds.parse()?);
                let (images, taken) = run(base, pictures, batch.parse()?, time)?;
                answer(&format!("{images} {}", taken.as_secs_f64()))?;
            }
            ["features", count] => {
                answer(&serde_json::to_string(&features(base, &pictures[..count.parse()?])?)?)?;
            }
            _ => bail!("unknown question {line:?}, expected \"run\" or \"features\""),
        }
    }
    Ok(())
}

fn answer(line: &str) -> Result<()> {
    println!("{line}");
    Ok(std::io::stdout().flush()?)
}

fn run(
    base: &mut dyn Base,
    pictures: &[PreparedImage],
    batch: usize,
    time: Duration,
) -> Result<(usize, Duration)> {
    let mut upcoming = pictures.iter().cycle();
    let (begun, mut images) = (Instant::now(), 0);
    loop {
        let batch: Vec<&PreparedImage> = upcoming.by_ref().take(batch).collect();
        base.forward(&batch, Outputs::default())?;
        images += batch.len();
        if begun.elapsed() >= time {
            return Ok((images, begun.elapsed()));
        }
    }
}

fn features(base: &mut dyn Base, pictures: &[PreparedImage]) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for batch in pictures.chunks(8) {
        all.extend(base.forward(&batch.iter().collect::<Vec<_>>(), Outputs::default())?.gap);
    }
    Ok(all)
}
