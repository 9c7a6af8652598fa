//! `classify`: pictures in, verdicts out.

mod files;
mod repeat;
mod report;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::task::JoinSet;

use super::output::OutputOptions;
use crate::{Client, RetryPolicy, ServerUrl, proto};
use report::Report;

#[derive(Debug, Args)]
pub struct Options {
    /// Pictures, or folders of pictures
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Address of the server: HOST:PORT, HOST for port 50051, or :PORT on this computer
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "http://127.0.0.1:50051",
        env = "TURRET_SERVER"
    )]
    server: ServerUrl,
    /// Task to classify for; repeatable
    #[arg(
        long = "task",
        value_name = "TASK",
        required = true,
        env = "TURRET_TASK",
        value_delimiter = ','
    )]
    tasks: Vec<String>,
    /// Version or digest that must serve
    #[arg(long, value_name = "HEAD", default_value = "")]
    require_head: String,
    /// Region of interest in pixels of the picture: X,Y,WIDTH,HEIGHT
    #[arg(long, value_name = "X,Y,W,H", value_parser = parse_roi)]
    roi: Option<proto::Roi>,
    /// Requests in flight, 1 to 1024
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8,
        env = "TURRET_CONCURRENCY",
        value_parser = parse_concurrency,
        allow_negative_numbers = true
    )]
    concurrency: usize,
    /// Maximum wait for an answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_timeout)]
    timeout: Duration,
    /// Take each picture's true label from its folder's name, show it and count correct answers
    #[arg(long)]
    truth: bool,
    /// Repeat the pictures until interrupted, then show how many requests were answered and by
    /// which versions
    #[arg(long)]
    repeat: bool,
    #[command(flatten)]
    output: OutputOptions,
}

/// The answer for one file, or why there is none.
struct Outcome {
    file: PathBuf,
    answer: Result<proto::ClassifyResponse, Failure>,
    /// Time from request to answer, without reading the file.
    took: Duration,
}

/// A picture that could not be read, or the error of its request.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    File(#[from] std::io::Error),
    #[error(transparent)]
    Call(#[from] crate::Error),
}

#[tokio::main]
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let files = files::list(&options.files)?;
    // Every failure is shown and counted: retries would hide the server's overload.
    let client = Client::builder(options.server.clone())
        .timeout(options.timeout)
        .retry(RetryPolicy::NEVER)
        .connect()
        .await?;
    let failed = if options.repeat {
        let counts = repeat::until_interrupted(&options, &client, &files).await?;
        counts.show(options.output)?;
        counts.failed
    } else {
        let mut report = Report::begin(&options, &files)?;
        classify_all(&options, &client, files.iter().enumerate(), |index, outcome| {
            report.add(index, outcome)
        })
        .await?;
        report.end()?
    };
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Classifies every file, several at a time, and passes on each outcome as it comes.
///
/// # Errors
/// The first error of `done`, which ends the requests in flight.
async fn classify_all<'f>(
    options: &Options,
    client: &Client,
    files: impl Iterator<Item = (usize, &'f PathBuf)>,
    mut done: impl FnMut(usize, Outcome) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut in_flight = JoinSet::new();
    for (index, file) in files {
        let (client, file) = (client.clone(), file.clone());
        let request = proto::ClassifyRequest {
            tasks: options.tasks.clone(),
            require_head: options.require_head.clone(),
            roi: options.roi,
            ..Default::default()
        };
        in_flight.spawn(async move { (index, classify_one(&client, request, file).await) });
        // Waits before taking the next file, so that `files` can end as late as possible.
        if in_flight.len() >= options.concurrency
            && let Some(outcome) = in_flight.join_next().await
        {
            let (index, outcome) = outcome?;
            done(index, outcome)?;
        }
    }
    while let Some(outcome) = in_flight.join_next().await {
        let (index, outcome) = outcome?;
        done(index, outcome)?;
    }
    Ok(())
}

async fn classify_one(
    client: &Client,
    mut request: proto::ClassifyRequest,
    file: PathBuf,
) -> Outcome {
    let bytes = match fs_err::read(&file) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Outcome { file, answer: Err(error.into()), took: Duration::ZERO };
        }
    };
    request.image = Some(bytes.into());
    let started = Instant::now();
    let answer = client.classify(request).await;
    let took = started.elapsed();
    Outcome { file, answer: answer.map_err(Failure::from), took }
}

fn parse_roi(text: &str) -> Result<proto::Roi, &'static str> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[x, y, width, height]) => Ok(proto::Roi { x, y, width, height }),
        Ok(_) | Err(_) => {
            Err("expected four whole numbers X,Y,WIDTH,HEIGHT, such as 20,40,200,100")
        }
    }
}

fn parse_concurrency(text: &str) -> Result<usize, &'static str> {
    let number = text.parse().ok().filter(|number| (1..=1024).contains(number));
    number.ok_or("expected a whole number from 1 to 1024, such as 8")
}

fn parse_timeout(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "expected a time, such as 500ms or 30s")
}
