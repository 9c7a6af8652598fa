//! Cancelled requests cost no forward pass, unless it has begun.

use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tonic::Code;

use super::{Bench, Form, TASKS};
use crate::{engine::progress, load::Connections, report::Required};

/// Number of requests that wait for their answers, sent before those to cancel.
const KEPT: usize = 8;
const CANCELLED: usize = 120;
/// The default of `turret serve --max-batch` on the CPU.
const MAX_BATCH: f64 = 8.0;

pub(super) async fn measure(bench: &mut Bench, capacity: f64) -> Result<()> {
    progress("cancelled requests");
    let requests = bench.requests(Form::Jpeg, 0..TASKS);
    let connections = Connections::open(bench.server.grpc).await?;
    let (mut wasted, mut most_wasted) = (0.0, 0.0f64);
    for _ in 0..bench.rounds {
        let before = bench.server.metric("turret_batch_images_sum")?;
        let (mut kept, mut cancelled) = (JoinSet::new(), JoinSet::new());
        for number in 0..KEPT + CANCELLED {
            let calls = if number < KEPT { &mut kept } else { &mut cancelled };
            let (connection, payload) = (connections.get(number).clone(), requests(number as u64));
            calls.spawn(async move { connection.call(&payload, None).await });
        }
        // Sleeps for as long as a few images take: all have arrived and few are computed.
        tokio::time::sleep(Duration::from_secs_f64(4.0 / capacity)).await;
        let mut verdicts = 0;
        while let Some(answer) = cancelled.try_join_next() {
            verdicts += usize::from(answer??.0 == Code::Ok);
        }
        cancelled.shutdown().await;
        while let Some(answer) = kept.join_next().await {
            verdicts += usize::from(answer??.0 == Code::Ok);
        }
        // Waits for the end of the pass that ran when the requests were cancelled.
        connections.get(0).call(&requests(0), None).await?;
        let computed = bench.server.metric("turret_batch_images_sum")? - before;
        let more = computed - verdicts as f64 - 1.0;
        wasted += more;
        most_wasted = most_wasted.max(more);
    }
    let total = CANCELLED * bench.rounds;
    let rows = vec![vec![total.to_string(), wasted.to_string(), most_wasted.to_string()]];
    let header = ["cancelled", "computed nevertheless", "most at once"];
    bench.report.table("Cancelled requests", &header, rows);
    let name = "cancelled images computed, beyond the pass that was running";
    bench.report.bar(name, Required::AtMost(0.0), (most_wasted - MAX_BATCH).max(0.0));
    Ok(())
}
