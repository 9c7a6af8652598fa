//! Resident memory of the server: at rest, after load, after many swaps.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Bench, Form, TASKS, swaps::INSTALLED};
use crate::{
    engine::progress,
    load::closed_loop,
    report::{Required, figures},
};

const CLIENTS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures memory over swaps and over a final load of length `soak`.
pub(super) async fn measure(
    bench: &mut Bench,
    at_rest: f64,
    after_load: f64,
    swaps: usize,
    soak: Duration,
) -> Result<()> {
    let before = bench.server.metric(INSTALLED)?;
    let begun = Instant::now();
    let mut swapped = 0;
    // Measured from the first thousand swaps on: until then tasks had their first versions only.
    let mut settled = f64::NAN;
    while swapped < swaps {
        progress(&format!("{swapped} of {swaps} swaps"));
        swapped += bench.heads.swap_all()?;
        wait_for(bench, before + swapped as f64)?;
        if settled.is_nan() {
            settled = bench.server.resident_mb()?;
        }
    }
    let swap_seconds = begun.elapsed().as_secs_f64();
    let after_swaps = bench.server.resident_mb()?;
    let requests = bench.requests(Form::Raw, 0..TASKS);
    progress("one more load");
    closed_loop(bench.server.grpc, CLIENTS, bench.time, &requests).await?;
    let after_load_again = bench.server.resident_mb()?;
    let start_up = bench.server.start_up.as_secs_f64();
    let mut row = vec![
        figures(start_up),
        figures(at_rest),
        figures(after_load),
        figures(settled),
        figures(after_swaps),
        figures(after_load_again),
    ];
    let swaps = format!("after {swapped} swaps ({:.0}/s)", swapped as f64 / swap_seconds);
    let soak_column = format!("after {:.0} s of full load", soak.as_secs_f64());
    let mut header = vec![
        "start to ready, s",
        "at rest, MB",
        "after the first loads",
        "after all loads and 1,000 swaps",
        &swaps,
        "after one more load",
    ];
    if !soak.is_zero() {
        progress("a long load");
        let long = closed_loop(bench.server.grpc, CLIENTS, soak, &requests).await?;
        let at_the_end = bench.server.resident_mb()?;
        let growth = at_the_end / after_load_again;
        bench.report.bar("memory after the long load to before", Required::AtMost(1.01), growth);
        bench.report.bar(
            "failed requests in the long load",
            Required::AtMost(0.0),
            long.failures() as f64,
        );
        row.push(figures(at_the_end));
        header.push(&soak_column);
    }
    bench.report.table("Start and resident memory, 1,000 heads of 10 classes", &header, vec![row]);
    bench.report.bar("start to ready, s", Required::AtMost(3.0), start_up);
    bench.report.bar("resident at rest, MB", Required::AtMost(450.0), at_rest);
    bench.report.bar(
        "memory after the swaps to before",
        Required::AtMost(1.01),
        after_swaps / settled,
    );
    Ok(())
}

/// Waits until the server has installed this many heads.
fn wait_for(bench: &Bench, installed: f64) -> Result<()> {
    let begun = Instant::now();
    while bench.server.metric(INSTALLED)? < installed {
        ensure!(begun.elapsed() < PATIENCE, "the server did not install the published heads");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
