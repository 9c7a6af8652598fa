//! The final report of a run, for people.

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use turret::train::{
    Choice, Evaluation, Fitted, Gate, GateDecision, Outcome, Strategy, StrategyChoice, TrainOptions,
};
use turret_client::cli::printing::escaped;

pub(crate) fn text(options: &TrainOptions, outcome: &Outcome) -> String {
    let Outcome { published, choice, strategy, fitted, evaluation, gate, warnings: _ } = outcome;
    let heads = options.heads.display();
    [
        chosen(choice),
        strategy_taken(options, strategy),
        format!("\nOn the {} validation pictures:", evaluation.pictures),
        evaluated(evaluation),
        how_fitted(options, fitted),
        compared(gate),
        format!(
            "\nPublished {} version {}: {}",
            options.task,
            published.version,
            published.path.display()
        ),
        format!("Digest {}", published.digest),
        format!(
            "Serve it with `turret serve --base FILE --heads {heads}`; a running server installs \
             it by itself."
        ),
    ]
    .join("\n")
}

/// Returns the tables and the accuracy.
pub(crate) fn evaluated(evaluation: &Evaluation) -> String {
    let [low, high] = evaluation.accuracy_interval.map(|share| 100.0 * share);
    format!(
        "{}\n\nConfusion matrix, true class (down) by answered class (across):\n{}\n\n\
         Accuracy {:.1} % ({} of {}), 95 % interval {low:.1} to {high:.1} %.",
        class_table(evaluation),
        confusion_table(evaluation),
        100.0 * evaluation.accuracy,
        evaluation.right,
        evaluation.pictures
    )
}

/// Describes the result of the cross-validation.
fn chosen(choice: &Choice) -> String {
    let Choice { features, l2, folds, candidates } = choice;
    if candidates.is_empty() {
        return format!("\nFeatures {features}, L2 strength {l2}; no alternatives were tried.");
    }
    let header = ["features", "L2", "log-loss", "accuracy"].map(str::to_owned);
    let rows = candidates.iter().map(|candidate| {
        let score = candidate.score;
        let (loss, accuracy) = (format!("{:.4}", score.log_loss), percent(Some(score.accuracy)));
        vec![candidate.features.to_string(), format!("{:.2e}", score.l2), loss, accuracy]
    });
    format!(
        "\nCross-validation on the training pictures, {folds} folds:\n{}\nChosen: {features} with \
         L2 {l2:.2e}.",
        table(header.into(), rows)
    )
}

/// Describes the strategy, why it was chosen, and its cost in the server.
fn strategy_taken(options: &TrainOptions, choice: &StrategyChoice) -> String {
    let StrategyChoice { branch, because, gain, serving_cost } = choice;
    let tried = gain.map(|gain| {
        let [low, high] = gain.interval.map(|share| 100.0 * share);
        format!(
            "\nFine-tuning against feature extraction, cross-validated on {} pictures: right alone \
             on {}, wrong alone on {}; gain {:.1} points, 95 % interval {low:.1} to {high:.1}.",
            gain.pictures,
            gain.only_deep_right,
            gain.only_linear_right,
            100.0 * gain.gain
        )
    });
    let taken = match branch {
        Some(branch) => format!(
            "Strategy fine-tuning from {branch} on, because {because}. In the server, an image for \
             this head costs {:.0} % of a forward pass more where it shares a batch with other \
             heads.",
            100.0 * serving_cost.unwrap_or_default()
        ),
        None if options.strategy == Strategy::FeatureExtraction => {
            "Strategy feature extraction.".to_owned()
        }
        None => format!("Strategy feature extraction, because {because}."),
    };
    [tried.unwrap_or_default(), taken].join("\n").trim_start_matches('\n').to_owned()
}

fn how_fitted(options: &TrainOptions, fitted: &Fitted) -> String {
    match fitted {
        Fitted::Lbfgs { l2, iterations } => {
            format!("Fitted to the minimum for L2 {l2:.2e} in {iterations} iterations of L-BFGS.")
        }
        Fitted::FineTuned { branch, l2, epochs } => {
            format!(
                "Fitted to the minimum for L2 {l2:.2e}, then for {epochs} epochs together with the \
                 layers from {branch} on."
            )
        }
        Fitted::Adam { best_epoch, epochs } => {
            let still_better = best_epoch.epoch == options.adam.epochs;
            let more =
                if still_better { " It was still improving: try more --epochs." } else { "" };
            format!(
                "Fitted in {epochs} epochs of Adam; the best was epoch {}.{more}",
                best_epoch.epoch
            )
        }
    }
}

fn compared(gate: &Gate) -> String {
    let Some(found) = gate.comparison else {
        return "No head for this base serves the task yet: nothing to compare with.".to_owned();
    };
    let verdict = match gate.decision {
        GateDecision::NothingToCompare | GateDecision::Passed => {
            "not worse beyond chance".to_owned()
        }
        GateDecision::Refused => "worse beyond chance".to_owned(),
        GateDecision::Forced => {
            format!(
                "worse beyond chance, forced: {}",
                gate.forced_because.as_deref().unwrap_or_default()
            )
        }
    };
    format!(
        "Against version {} on the same pictures: right alone on {}, wrong alone on {} \
         (p = {:.2}): {verdict}.",
        found.version, found.only_new_right, found.only_serving_right, found.p_worse
    )
}

fn class_table(evaluation: &Evaluation) -> Table {
    let header = ["class", "pictures", "precision", "recall", "F1"].map(str::to_owned);
    let rows = evaluation.classes.iter().map(|class| {
        let shares = [class.precision, class.recall, class.f1].map(percent);
        [class.label.clone(), class.pictures.to_string()].into_iter().chain(shares).collect()
    });
    table(header.into(), rows)
}

fn confusion_table(evaluation: &Evaluation) -> Table {
    let labels = || evaluation.classes.iter().map(|class| class.label.clone());
    let header = [String::new()].into_iter().chain(labels()).collect();
    let rows = labels().zip(&evaluation.confusion).map(|(label, counts)| {
        [label].into_iter().chain(counts.iter().map(usize::to_string)).collect()
    });
    table(header, rows)
}

/// Returns a table whose columns except the first are numbers, aligned right.
fn table(header: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Table {
    // A label may hold what would break the table.
    let cells = |texts: Vec<String>| -> Vec<String> {
        texts.iter().map(|text| escaped(text).into_owned()).collect()
    };
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(cells(header));
    table.add_rows(rows.map(cells)).discover_columns();
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_with_a_line_break_does_not_break_the_tables() {
        let evaluation =
            Evaluation::new(&["ok\nfine", "\u{1b}[2Jrust"].map(str::to_owned), [(0, 1)]);
        for table in [class_table(&evaluation), confusion_table(&evaluation)] {
            let text = table.to_string();
            assert!(text.contains("ok\\nfine") && !text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn tables_have_a_row_per_class_and_a_dash_for_undefined_shares() {
        let labels = ["ok", "rust"].map(str::to_owned);
        let evaluation = Evaluation::new(&labels, [(0, 0), (0, 0), (1, 0)]);
        let rows =
            |table: Table| table.lines().map(|line| line.replace('│', " ")).collect::<Vec<_>>();
        let words = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let classes = rows(class_table(&evaluation));
        assert!(
            classes.iter().any(|row| words(row) == ["rust", "1", "-", "0.0", "%", "0.0", "%"]),
            "{classes:#?}"
        );
        let confusion = rows(confusion_table(&evaluation));
        assert!(confusion.iter().any(|row| words(row) == ["rust", "1", "0"]), "{confusion:#?}");
    }
}
