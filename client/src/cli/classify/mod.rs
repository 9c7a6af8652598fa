//! `classify`: pictures in, verdicts out.

mod files;
mod repeat;
mod report;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use clap::Args;
use tokio::task::JoinSet;

use super::output::OutputOptions;
use crate::{Client, RetryPolicy, ServerUrl, proto};

#[derive(Debug, Args)]
pub struct Options {
    /// Pictures, or folders of pictures
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Address of the server: HOST:PORT, or HOST for port 50051
    #[arg(
        long,
        value_name = "URL",
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
    /// Requests in flight
    #[arg(long, value_name = "N", default_value_t = 8, env = "TURRET_CONCURRENCY")]
    concurrency: usize,
    /// Maximum wait for an answer
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        value_parser = humantime::parse_duration
    )]
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
    answer: Result<proto::ClassifyResponse, String>,
    /// Time from request to answer, without reading the file.
    took: Duration,
}

#[tokio::main]
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    ensure!(options.concurrency > 0, "--concurrency must be 1 or more");
    let files = files::list(&options.files)?;
    // Every failure is shown and counted: retries would hide the server's overload.
    let client = Client::builder(options.server.clone())
        .timeout(options.timeout)
        .retry(RetryPolicy::NEVER)
        .connect()
        .await?;
    let all_answered = if options.repeat {
        let counts = repeat::until_interrupted(&options, &client, &files).await?;
        counts.show(options.output)?;
        counts.failed == 0
    } else {
        let mut outcomes = Vec::with_capacity(files.len());
        classify_all(&options, &client, files.iter().enumerate(), |index, outcome| {
            outcomes.push((index, outcome));
        })
        .await?;
        outcomes.sort_by_key(|(index, _)| *index);
        let outcomes: Vec<Outcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
        report::show(options.output, options.truth, &outcomes)?;
        outcomes.iter().all(|outcome| outcome.answer.is_ok())
    };
    Ok(if all_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Classifies every file, several at a time, and passes on each outcome as it comes.
async fn classify_all<'f>(
    options: &Options,
    client: &Client,
    files: impl Iterator<Item = (usize, &'f PathBuf)>,
    mut done: impl FnMut(usize, Outcome),
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
            done(index, outcome);
        }
    }
    while let Some(outcome) = in_flight.join_next().await {
        let (index, outcome) = outcome?;
        done(index, outcome);
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
            return Outcome { file, answer: Err(error.to_string()), took: Duration::ZERO };
        }
    };
    request.image = Some(bytes.into());
    let started = Instant::now();
    let answer = client.classify(request).await;
    let took = started.elapsed();
    Outcome { file, answer: answer.map_err(|error| error.to_string()), took }
}

fn parse_roi(text: &str) -> anyhow::Result<proto::Roi> {
    let numbers =
        text.split(',').map(|part| part.trim().parse::<u32>()).collect::<Result<Vec<_>, _>>()?;
    let [x, y, width, height] = numbers[..] else {
        bail!("expected four numbers: X,Y,WIDTH,HEIGHT");
    };
    Ok(proto::Roi { x, y, width, height })
}
