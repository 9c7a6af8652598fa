//! `--repeat`: classifies the pictures over and over, and counts.

use std::{collections::BTreeMap, path::PathBuf};

use tokio::signal::unix::{SignalKind, signal};

use super::{Options, classify_all};
use crate::{
    Client,
    cli::{
        output::OutputOptions,
        printing::{WriteError, escaped, print},
    },
};

/// The counts over all rounds.
#[derive(Default)]
pub(super) struct Counts {
    answered: u64,
    pub(super) failed: u64,
    versions: BTreeMap<u64, u64>,
    first_failure: Option<String>,
}

/// Repeats the files until SIGINT or SIGTERM, then waits for the requests in flight.
pub(super) async fn until_interrupted(
    options: &Options,
    client: &Client,
    files: &[PathBuf],
) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Fails if the rounds are over.
        let _over = stop.send(true);
    });
    let rounds = files.iter().enumerate().cycle().take_while(|_| !*stopped.borrow());
    classify_all(options, client, rounds, |_, outcome| {
        match outcome.answer {
            Ok(response) => {
                counts.answered += 1;
                for verdict in response.verdicts {
                    *counts.versions.entry(verdict.head_version).or_default() += 1;
                }
            }
            Err(failure) => {
                counts.failed += 1;
                counts.first_failure.get_or_insert_with(|| failure.to_string());
            }
        }
        Ok(())
    })
    .await?;
    Ok(counts)
}

impl Counts {
    pub(super) fn show(&self, output: OutputOptions) -> Result<(), WriteError> {
        let Self { answered, failed, versions, first_failure } = self;
        if output.is_json() {
            return print(serde_json::json!({
                "answered": answered, "failed": failed, "versions": versions,
                "first_failure": first_failure,
            }));
        }
        let versions: Vec<String> =
            versions.iter().map(|(version, count)| format!("version {version}: {count}")).collect();
        print(format_args!("{answered} answered ({}), {failed} failed", versions.join(", ")))?;
        match first_failure {
            Some(reason) => print(format_args!("first failure: {}", escaped(reason))),
            None => Ok(()),
        }
    }
}
