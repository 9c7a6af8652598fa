//! Prints the outcomes, picture by picture.

use std::{collections::BTreeMap, path::Path};

use comfy_table::ColumnConstraint;

use super::{Outcome, files::folder_name};
use crate::{
    cli::output::{OutputOptions, WriteError, print, table},
    proto::Verdict,
};

/// Prints JSON lines, or a table and a line of totals.
pub(super) fn show(
    output: OutputOptions,
    truth: bool,
    outcomes: &[Outcome],
) -> Result<(), WriteError> {
    if output.is_json() {
        outcomes.iter().try_for_each(|outcome| print(json(outcome, truth)))
    } else {
        show_table(truth, outcomes)
    }
}

fn show_table(truth: bool, outcomes: &[Outcome]) -> Result<(), WriteError> {
    let true_label = |file: &Path| if truth { folder_name(file) } else { String::new() };
    let mut shown =
        table(["file", "true label", "task", "decision", "label", "probability", "version", "ms"]);
    if !truth && let Some(column) = shown.column_mut(1) {
        column.set_constraint(ColumnConstraint::Hidden);
    }
    let (mut verdicts, mut right) = (0, 0);
    for outcome in outcomes {
        let (file, truth) = (outcome.file.display().to_string(), true_label(&outcome.file));
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
                let failed = "FAILED".to_owned();
                shown.add_row([file, truth, none(), failed, reason.clone(), none(), none(), ms]);
            }
        }
    }
    print(shown)?;
    let failed = outcomes.iter().filter(|outcome| outcome.answer.is_err()).count();
    if truth && verdicts > 0 {
        let share = 100.0 * right as f64 / verdicts as f64;
        print(format_args!("{right} of {verdicts} right ({share:.1} %), {failed} requests failed"))
    } else {
        print(format_args!("{verdicts} verdicts, {failed} requests failed"))
    }
}

fn json(outcome: &Outcome, truth: bool) -> serde_json::Value {
    let mut line = serde_json::json!({
        // JSON has no bytes: whatever is not UTF-8 in a name is replaced.
        "file": outcome.file.to_string_lossy(),
        "milliseconds": outcome.took.as_secs_f64() * 1e3,
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

fn verdict_json(verdict: &Verdict) -> serde_json::Value {
    let scores: BTreeMap<&str, f32> =
        verdict.scores.iter().map(|score| (score.label.as_str(), score.probability)).collect();
    serde_json::json!({
        "task": verdict.task, "decision": decision(verdict), "label": verdict.label,
        "class_code": verdict.class_code, "probability": verdict.probability,
        "margin": verdict.margin, "head_version": verdict.head_version,
        "head_digest": verdict.head_digest, "scores": scores,
    })
}

fn decision(verdict: &Verdict) -> &'static str {
    verdict.decision().as_str_name().trim_start_matches("DECISION_")
}
