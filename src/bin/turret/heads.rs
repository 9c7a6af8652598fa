//! `turret heads`

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use turret::grpc::proto::{self, heads_client::HeadsClient};

use crate::output::{OutputOptions, status_line, table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051", env = "TURRET_SERVER")]
    server: String,
    /// Only this task
    #[arg(long, value_name = "TASK", default_value = "", env = "TURRET_TASK")]
    task: String,
    /// Go on showing every change as it happens
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: OutputOptions,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let cannot = || format!("cannot reach {}", options.server);
    let mut client = HeadsClient::connect(options.server.clone()).await.with_context(cannot)?;
    if options.watch {
        return watch(&options, &mut client).await;
    }
    let request = proto::ListHeadsRequest { task: options.task.clone() };
    let response =
        client.list_heads(request).await.map_err(|status| anyhow::anyhow!(status_line(&status)))?;
    let heads = response.into_inner().heads;
    if options.output.is_json() {
        heads.iter().for_each(|head| println!("{}", json(head)));
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = table(["task", "version", "state", "classes", "branch", "bytes", "digest", "reason"]);
    for head in &heads {
        let classes: Vec<&str> = head.classes.iter().map(|class| class.label.as_str()).collect();
        shown.add_row([
            head.task.clone(),
            head.version.to_string(),
            state(head).to_owned(),
            classes.join(" "),
            head.branch.clone(),
            head.size_bytes.to_string(),
            head.digest.chars().take(12).collect(),
            head.reason.clone(),
        ]);
    }
    println!("{shown}");
    Ok(ExitCode::SUCCESS)
}

async fn watch(
    options: &Options,
    client: &mut HeadsClient<tonic::transport::Channel>,
) -> anyhow::Result<ExitCode> {
    let failed = |status: tonic::Status| anyhow::anyhow!(status_line(&status));
    let mut events = client.watch_heads(proto::WatchHeadsRequest {}).await.map_err(failed)?.into_inner();
    while let Some(event) = events.message().await.map_err(failed)? {
        let Some(head) = event.head else { continue };
        if !options.task.is_empty() && head.task != options.task {
            continue;
        }
        if options.output.is_json() {
            println!("{}", json(&head));
        } else {
            let digest: String = head.digest.chars().take(12).collect();
            println!("{:<10} {} version {} {digest} {}", state(&head), head.task, head.version, head.reason);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn state(head: &proto::Head) -> &'static str {
    let state = proto::HeadState::try_from(head.state).unwrap_or_default();
    state.as_str_name().trim_start_matches("HEAD_STATE_")
}

fn json(head: &proto::Head) -> serde_json::Value {
    let classes = head.classes.iter();
    let classes: Vec<_> = classes
        .map(|class| serde_json::json!({ "label": class.label, "code": class.code, "good": class.good }))
        .collect();
    serde_json::json!({
        "task": head.task, "version": head.version, "state": state(head), "reason": head.reason,
        "digest": head.digest, "size_bytes": head.size_bytes, "since_unix_ms": head.since_unix_ms,
        "classes": classes, "branch": head.branch,
    })
}
