//! `heads`: lists or watches the heads of a server.

use std::process::ExitCode;

use clap::Args;
use tokio_stream::StreamExt;

use super::{
    output::{OutputOptions, cells, table},
    printing::{escaped, print},
};
use crate::{Client, RetryPolicy, ServerUrl, proto};

#[derive(Debug, Args)]
pub struct Options {
    /// Address of the server: HOST:PORT, HOST for port 50051, or :PORT on this computer
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "http://127.0.0.1:50051",
        env = "TURRET_SERVER"
    )]
    server: ServerUrl,
    /// Only this task
    #[arg(long, value_name = "TASK", default_value = "", env = "TURRET_TASK")]
    task: String,
    /// Keep showing every change as it happens
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: OutputOptions,
}

#[tokio::main(flavor = "current_thread")]
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let client =
        Client::builder(options.server.clone()).retry(RetryPolicy::NEVER).connect().await?;
    if options.watch {
        watch(&options, &client).await?;
    } else {
        list(&options, &client).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(options: &Options, client: &Client) -> anyhow::Result<()> {
    let heads = client.heads(Some(&options.task)).await?.heads;
    if options.output.is_json() {
        for head in &heads {
            print(json(head))?;
        }
        return Ok(());
    }
    let mut shown =
        table(["task", "version", "state", "classes", "branch", "bytes", "digest", "reason"]);
    for head in &heads {
        let classes: Vec<&str> = head.classes.iter().map(|class| class.label.as_str()).collect();
        shown.add_row(cells([
            head.task.clone(),
            head.version.to_string(),
            state(head).to_owned(),
            classes.join(" "),
            head.branch.clone(),
            head.size_bytes.to_string(),
            short_digest(head),
            head.reason.clone(),
        ]));
    }
    print(shown)?;
    Ok(())
}

async fn watch(options: &Options, client: &Client) -> anyhow::Result<()> {
    let mut events = client.watch().await?;
    while let Some(event) = events.try_next().await? {
        let Some(head) = event.head else { continue };
        if !options.task.is_empty() && head.task != options.task {
            continue;
        }
        if options.output.is_json() {
            print(json(&head))?;
        } else {
            let (state, digest) = (state(&head), short_digest(&head));
            let proto::Head { task, version, reason, .. } = head;
            let line = format!("{state:<10} {task} version {version} {digest} {reason}");
            print(escaped(&line))?;
        }
    }
    Ok(())
}

fn state(head: &proto::Head) -> &'static str {
    head.state().as_str_name().trim_start_matches("HEAD_STATE_")
}

fn short_digest(head: &proto::Head) -> String {
    head.digest.chars().take(12).collect()
}

fn json(head: &proto::Head) -> serde_json::Value {
    let classes = head.classes.iter();
    let classes: Vec<_> = classes
        .map(|class| {
            serde_json::json!({ "label": class.label, "code": class.code, "good": class.good })
        })
        .collect();
    serde_json::json!({
        "task": head.task, "version": head.version, "state": state(head), "reason": head.reason,
        "digest": head.digest, "size_bytes": head.size_bytes,
        "since_unix_ms": head.since_unix_ms, "classes": classes, "branch": head.branch,
    })
}
