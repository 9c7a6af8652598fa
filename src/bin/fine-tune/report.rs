//! The report at the end of a run, for people.

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use turret::train::{
    Choice, Evaluation, Fitted, Gate, GateDecision, Outcome, Strategy, StrategyChoice, TrainOptions,
};

pub(crate) fn text(options: &TrainOptions, outcome: &Outcome) -> String {
    let Outcome { published, choice, strategy, fitted, evaluation, gate, warnings: _ } = outcome;
    let heads = options.heads.display();
    [
        chosen(choice),
        strategy_taken(options, strategy),
        format!("\nOn the {} pictures kept back:", evaluation.pictures),
        evaluated(evaluation),
        how_fitted(options, fitted),
        compared(gate),
        format!("\nPublished {} version {}: {}", options.task, published.version, published.path.display()),
        format!("Digest {}", published.digest),
        format!(
            "`turret serve --base FILE --heads {heads}` serves it; a server already running takes it over."
        ),
    ]
    .join("\n")
}

/// The tables and the accuracy.
pub(crate) fn evaluated(evaluation: &Evaluation) -> String {
    let [low, high] = evaluation.accuracy_interval.map(|share| 100.0 * share);
    format!(
        "{}\n\nWhat was answered (across) for what was true (down):\n{}\n\nAccuracy {:.1} % ({} of {}); with 95 % \
         confidence from {low:.1} to {high:.1} %.",
        class_table(evaluation),
        confusion_table(evaluation),
        100.0 * evaluation.accuracy,
        evaluation.right,
        evaluation.pictures
    )
}

/// What the cross-validation found.
fn chosen(choice: &Choice) -> String {
    let Choice { features, l2, folds, candidates } = choice;
    if candidates.is_empty() {
        return format!("\nFeatures {features}, L2 strength {l2}; nothing was tried.");
    }
    let header = ["features", "L2", "log-loss", "right"].map(str::to_owned);
    let rows = candidates.iter().map(|candidate| {
        let score = candidate.score;
        let (loss, right) = (format!("{:.4}", score.log_loss), percent(Some(score.accuracy)));
        vec![candidate.features.to_string(), format!("{:.2e}", score.l2), loss, right]
    });
    format!(
        "\nCross-validation in {folds} parts of the other pictures:\n{}\nChosen: {features} with L2 {l2:.2e}.",
        table(header.into(), rows)
    )
}

/// Feature extraction or fine-tuning, why, and at which cost.
fn strategy_taken(options: &TrainOptions, choice: &StrategyChoice) -> String {
    let StrategyChoice { branch, because, gain, serving_cost } = choice;
    let tried = gain.map(|gain| {
        let [low, high] = gain.interval.map(|share| 100.0 * share);
        format!(
            "\nFine-tuning beside feature extraction, in cross-validation on {} pictures: right alone on {}, wrong alone on {}; \
             a gain of {:.1} points, with 95 % confidence from {low:.1} to {high:.1}.",
            gain.pictures, gain.only_deep_right, gain.only_linear_right, 100.0 * gain.gain
        )
    });
    let taken = match branch {
        Some(branch) => format!(
            "Strategy fine-tuning from {branch} on, because {because}. In the server a picture costs {:.0} % of a forward pass \
             more for this head where it shares a batch with others.",
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
                "Fitted to the minimum for L2 {l2:.2e}, then together with the layers from {branch} on in {epochs} epochs."
            )
        }
        Fitted::Adam { best_epoch, epochs } => {
            let still_better = best_epoch.epoch == options.adam.epochs;
            let more =
                if still_better { " It was still getting better: try more --epochs." } else { "" };
            format!(
                "Fitted in {epochs} epochs of Adam; the best was epoch {}.{more}",
                best_epoch.epoch
            )
        }
    }
}

fn compared(gate: &Gate) -> String {
    let Some(found) = gate.comparison else {
        return "No head of this base serves the task yet, so there is nothing to compare with."
            .to_owned();
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
        "Against version {} on the same pictures: right alone on {}, wrong alone on {} (p = {:.2}): {verdict}.",
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

/// All columns but the first stand to the right: they are numbers.
fn table(header: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header);
    table.add_rows(rows).discover_columns();
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
    fn tables_have_a_row_a_class_and_a_dash_where_nothing_was_answered() {
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
