//! `turret classify`

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::transport::Channel;
use turret::grpc::proto::{self, classifier_client::ClassifierClient};

use crate::output::{OutputOptions, status_line, table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Pictures, or folders of pictures
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051", env = "TURRET_SERVER")]
    server: String,
    /// Task to ask; may be given several times
    #[arg(long = "task", value_name = "TASK", required = true, env = "TURRET_TASK", value_delimiter = ',')]
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
    /// Longest wait for an answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Take each picture's true label from its folder's name, show it and count the right answers
    #[arg(long)]
    truth: bool,
    /// Go round the pictures until interrupted, then tell how many requests were answered and by which versions
    #[arg(long)]
    repeat: bool,
    #[command(flatten)]
    output: OutputOptions,
}

/// One answer, or why there was none.
struct Outcome {
    file: PathBuf,
    answer: Result<proto::ClassifyResponse, String>,
    took: Duration,
}

#[tokio::main]
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    ensure!(options.concurrency > 0, "--concurrency must be 1 or more");
    let files = list_files(&options.files)?;
    let channel = Channel::from_shared(options.server.clone())
        .with_context(|| format!("--server {:?} is no address", options.server))?
        .connect()
        .await
        .with_context(|| format!("cannot reach {}", options.server))?;
    let client = ClassifierClient::new(channel);
    if options.repeat {
        return repeat(&options, &client, &files).await;
    }
    let mut outcomes = Vec::new();
    classify_all(&options, &client, files.iter().enumerate(), |index, outcome| {
        outcomes.push((index, outcome))
    })
    .await;
    outcomes.sort_by_key(|(index, _)| *index);
    let outcomes: Vec<Outcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    show(&options, &outcomes);
    let all_judged = outcomes.iter().all(|outcome| outcome.answer.is_ok());
    Ok(if all_judged { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks for every file, some at a time, and hands over each outcome as it comes.
async fn classify_all<'f>(
    options: &Options,
    client: &ClassifierClient<Channel>,
    files: impl Iterator<Item = (usize, &'f PathBuf)>,
    mut done: impl FnMut(usize, Outcome),
) {
    let room = Arc::new(Semaphore::new(options.concurrency));
    let mut in_flight = JoinSet::new();
    for (index, file) in files {
        // The semaphore is never closed.
        let permit = room.clone().acquire_owned().await;
        let (client, file) = (client.clone(), file.clone());
        let request = proto::ClassifyRequest {
            tasks: options.tasks.clone(),
            require_head: options.require_head.clone(),
            roi: options.roi,
            ..Default::default()
        };
        let timeout = options.timeout;
        in_flight.spawn(async move {
            let outcome = classify_one(client, request, file, timeout).await;
            drop(permit);
            (index, outcome)
        });
        while let Some(Ok((index, outcome))) = in_flight.try_join_next() {
            done(index, outcome);
        }
    }
    while let Some(Ok((index, outcome))) = in_flight.join_next().await {
        done(index, outcome);
    }
}

async fn classify_one(
    mut client: ClassifierClient<Channel>,
    mut request: proto::ClassifyRequest,
    file: PathBuf,
    timeout: Duration,
) -> Outcome {
    let bytes = match fs_err::read(&file) {
        Ok(bytes) => bytes,
        Err(error) => return Outcome { file, answer: Err(error.to_string()), took: Duration::ZERO },
    };
    request.image = Some(proto::Image { data: Some(proto::image::Data::Encoded(bytes.into())) });
    let mut request = tonic::Request::new(request);
    request.set_timeout(timeout);
    let begun = Instant::now();
    let answer = client.classify(request).await;
    let took = begun.elapsed();
    let answer = answer.map(tonic::Response::into_inner).map_err(|status| status_line(&status));
    Outcome { file, answer, took }
}

/// What happened over many rounds.
#[derive(Default)]
struct Counts {
    answered: u64,
    failed: u64,
    versions: BTreeMap<u64, u64>,
    first_failure: Option<String>,
}

async fn repeat(
    options: &Options,
    client: &ClassifierClient<Channel>,
    files: &[PathBuf],
) -> anyhow::Result<ExitCode> {
    let mut counts = Counts::default();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        // Nobody listens when the rounds are over.
        let _over = stop.send(true);
    });
    // Requests in flight when the stop comes are still waited for: each one counts.
    let rounds = files.iter().enumerate().cycle().take_while(|_| !*stopped.borrow());
    classify_all(options, client, rounds, |_, outcome| match outcome.answer {
        Ok(response) => {
            counts.answered += 1;
            for verdict in response.verdicts {
                *counts.versions.entry(verdict.head_version).or_default() += 1;
            }
        }
        Err(reason) => {
            counts.failed += 1;
            counts.first_failure.get_or_insert(reason);
        }
    })
    .await;
    if options.output.is_json() {
        let Counts { answered, failed, versions, first_failure } = &counts;
        println!(
            "{}",
            serde_json::json!({
                "answered": answered, "failed": failed, "versions": versions, "first_failure": first_failure
            })
        );
    } else {
        let versions: Vec<String> =
            counts.versions.iter().map(|(version, count)| format!("version {version}: {count}")).collect();
        println!("{} answered ({}), {} failed", counts.answered, versions.join(", "), counts.failed);
        if let Some(reason) = &counts.first_failure {
            println!("first failure: {reason}");
        }
    }
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(options: &Options, outcomes: &[Outcome]) {
    let truth = |file: &Path| if options.truth { folder_name(file) } else { String::new() };
    if options.output.is_json() {
        outcomes.iter().for_each(|outcome| println!("{}", json(outcome, options.truth)));
        return;
    }
    let mut shown =
        table(["file", "true label", "task", "decision", "label", "probability", "version", "ms"]);
    if !options.truth
        && let Some(column) = shown.column_mut(1)
    {
        column.set_constraint(comfy_table::ColumnConstraint::Hidden);
    }
    let (mut verdicts, mut right) = (0, 0);
    for outcome in outcomes {
        let (file, truth) = (outcome.file.display().to_string(), truth(&outcome.file));
        let ms = format!("{:.1}", outcome.took.as_secs_f64() * 1e3);
        match &outcome.answer {
            Ok(response) => {
                for verdict in &response.verdicts {
                    verdicts += 1;
                    right += usize::from(verdict.label == truth);
                    shown.add_row([
                        file.clone(),
                        truth.clone(),
                        verdict.task.clone(),
                        decision(verdict).to_owned(),
                        verdict.label.clone(),
                        format!("{:.3}", verdict.probability),
                        verdict.head_version.to_string(),
                        ms.clone(),
                    ]);
                }
            }
            Err(reason) => {
                let none = String::new;
                shown.add_row([file, truth, none(), "FAILED".to_owned(), reason.clone(), none(), none(), ms]);
            }
        }
    }
    println!("{shown}");
    let failed = outcomes.iter().filter(|outcome| outcome.answer.is_err()).count();
    if options.truth && verdicts > 0 {
        let share = 100.0 * right as f64 / verdicts as f64;
        println!("{right} of {verdicts} right ({share:.1} %), {failed} requests failed");
    } else {
        println!("{verdicts} verdicts, {failed} requests failed");
    }
}

fn json(outcome: &Outcome, truth: bool) -> serde_json::Value {
    let mut line = serde_json::json!({
        "file": outcome.file, "milliseconds": outcome.took.as_secs_f64() * 1e3
    });
    if truth {
        line["true_label"] = folder_name(&outcome.file).into();
    }
    match &outcome.answer {
        Ok(response) => {
            let verdicts: Vec<_> = response.verdicts.iter().map(verdict_json).collect();
            line["result_id"] = response.result_id.clone().into();
            line["verdicts"] = verdicts.into();
        }
        Err(reason) => line["error"] = reason.clone().into(),
    }
    line
}

fn verdict_json(verdict: &proto::Verdict) -> serde_json::Value {
    let scores: BTreeMap<&str, f32> =
        verdict.scores.iter().map(|score| (score.label.as_str(), score.probability)).collect();
    serde_json::json!({
        "task": verdict.task, "decision": decision(verdict), "label": verdict.label,
        "class_code": verdict.class_code, "probability": verdict.probability, "margin": verdict.margin,
        "head_version": verdict.head_version, "head_digest": verdict.head_digest, "scores": scores,
    })
}

fn decision(verdict: &proto::Verdict) -> &'static str {
    let decision = proto::Decision::try_from(verdict.decision).unwrap_or_default();
    decision.as_str_name().trim_start_matches("DECISION_")
}

fn folder_name(file: &Path) -> String {
    file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
}

/// The files themselves, and those in folders and their folders, in the order of their names.
fn list_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if fs_err::metadata(path)?.is_dir() {
            let mut inside = fs_err::read_dir(path)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()?;
            inside.retain(|path| {
                !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
            });
            inside.sort();
            files.extend(list_files(&inside)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn parse_roi(text: &str) -> anyhow::Result<proto::Roi> {
    let numbers = text.split(',').map(|part| part.trim().parse::<u32>()).collect::<Result<Vec<_>, _>>()?;
    let [x, y, width, height] = numbers[..] else { bail!("four numbers are wanted: X,Y,WIDTH,HEIGHT") };
    Ok(proto::Roi { x, y, width, height })
}
