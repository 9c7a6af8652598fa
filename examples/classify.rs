//! Classifies one picture on a running server: `cargo run --example classify -- TASK PICTURE`.

use std::io::{Write, stdout};

use anyhow::Context;
use turret_client::{Client, proto::ClassifyRequest};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().context("expected TASK PICTURE")?;
    let picture = fs_err::read(arguments.next().context("expected TASK PICTURE")?)?;
    let client = Client::connect("http://127.0.0.1:50051").await?;
    let response = client.classify(ClassifyRequest::new(picture, [task])).await?;
    for verdict in response.verdicts {
        let decision = verdict.decision().as_str_name();
        writeln!(stdout(), "{decision} {} {:.3}", verdict.label, verdict.probability)?;
    }
    Ok(())
}
