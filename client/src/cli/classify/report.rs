//! Prints each outcome once all before it are printed: in the order of the files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use comfy_table::{ColumnConstraint, Table, Width, presets::NOTHING};

use super::{Failure, Options, Outcome, files::folder_name};
use crate::{
    cli::{
        output::{cells, counted},
        printing::{WriteError, print},
    },
    code_name,
    proto::Verdict,
};

const HEADER: [&str; 8] =
    ["file", "true label", "task", "decision", "probability", "version", "ms", "label"];
const TRUE_LABEL: usize = 1;

/// Prints JSON lines, or columns and a line of totals.
pub(super) struct Report {
    columns: Option<Columns>,
    truth: bool,
    /// Outcomes that came before that of an earlier file.
    early: BTreeMap<usize, Outcome>,
    printed: usize,
    verdicts: u64,
    right: u64,
    failed: u64,
}

impl Report {
    pub(super) fn begin(options: &Options, files: &[PathBuf]) -> Result<Self, WriteError> {
        let truth = options.truth;
        let columns =
            (!options.output.is_json()).then(|| Columns::new(files, &options.tasks, truth));
        if let Some(columns) = &columns {
            print(columns.line(HEADER.map(str::to_owned)))?;
        }
        let early = BTreeMap::new();
        Ok(Self { columns, truth, early, printed: 0, verdicts: 0, right: 0, failed: 0 })
    }

    /// Takes the outcome of the file with this index, and prints all whose turn it is.
    pub(super) fn add(&mut self, index: usize, outcome: Outcome) -> anyhow::Result<()> {
        self.early.insert(index, outcome);
        while let Some(outcome) = self.early.remove(&self.printed) {
            self.printed += 1;
            self.count(&outcome);
            match &self.columns {
                None => print(json(&outcome, self.truth))?,
                Some(columns) => columns.print(&outcome)?,
            }
        }
        Ok(())
    }

    /// Prints the totals and returns the number of failed requests.
    pub(super) fn end(self) -> Result<u64, WriteError> {
        let Self { verdicts, right, failed, .. } = self;
        let failures = format!("{} failed", counted(failed, "request"));
        if self.columns.is_none() {
            return Ok(failed);
        }
        if self.truth && verdicts > 0 {
            let share = 100.0 * right as f64 / verdicts as f64;
            print(format_args!("{right} of {verdicts} right ({share:.1} %), {failures}"))?;
        } else {
            print(format_args!("{}, {failures}", counted(verdicts, "verdict")))?;
        }
        Ok(failed)
    }

    fn count(&mut self, outcome: &Outcome) {
        match &outcome.answer {
            Ok(response) => {
                let truth = folder_name(&outcome.file);
                let right = response.verdicts.iter().filter(|verdict| verdict.label == truth);
                self.right += right.count() as u64;
                self.verdicts += response.verdicts.len() as u64;
            }
            Err(_) => self.failed += 1,
        }
    }
}

/// Columns whose widths are known before the first answer, so that lines can be printed as they
/// come. Labels and errors are last, because their widths are not.
struct Columns {
    widths: Vec<u16>,
    truth: bool,
}

impl Columns {
    fn new(files: &[PathBuf], tasks: &[String], truth: bool) -> Self {
        let mut known = Table::new();
        known.set_header(HEADER);
        let none = String::new;
        for file in files {
            let (file, truth) = (file.display().to_string(), true_label(file, truth));
            known.add_row(cells([file, truth]));
        }
        for task in tasks {
            let decision = "NOT_JUDGED".to_owned();
            known.add_row(cells([none(), none(), task.clone(), decision]));
        }
        Self { widths: known.column_max_content_widths(), truth }
    }

    fn line(&self, texts: [String; HEADER.len()]) -> String {
        let mut line = Table::new();
        line.load_style(NOTHING).add_row(cells(texts));
        line.set_constraints(
            self.widths.iter().map(|&width| ColumnConstraint::LowerBoundary(Width::Fixed(width))),
        );
        if !self.truth
            && let Some(column) = line.column_mut(TRUE_LABEL)
        {
            column.set_constraint(ColumnConstraint::Hidden);
        }
        line.trim_fmt()
    }

    fn print(&self, outcome: &Outcome) -> Result<(), WriteError> {
        let file = outcome.file.display().to_string();
        let truth = true_label(&outcome.file, self.truth);
        let ms = format!("{:.1}", outcome.took.as_secs_f64() * 1e3);
        match &outcome.answer {
            Ok(response) => response.verdicts.iter().try_for_each(|verdict| {
                print(self.line([
                    file.clone(),
                    truth.clone(),
                    verdict.task.clone(),
                    decision(verdict).to_owned(),
                    format!("{:.3}", verdict.probability),
                    verdict.head_version.to_string(),
                    ms.clone(),
                    verdict.label.clone(),
                ]))
            }),
            Err(failure) => {
                let (none, failed) = (String::new, "FAILED".to_owned());
                let why = failure.to_string();
                print(self.line([file, truth, none(), failed, none(), none(), ms, why]))
            }
        }
    }
}

fn true_label(file: &Path, truth: bool) -> String {
    if truth { folder_name(file) } else { String::new() }
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
        Err(failure) => {
            line["error"] = failure.to_string().into();
            if let Failure::Call(error) = failure {
                line["code"] = error.code().map(code_name).into();
                line["reason"] = error.reason().into();
            }
        }
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
