//! The report at the end of a run, for people.

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use turret::train::{Evaluation, Outcome, TrainOptions};

pub(crate) fn text(options: &TrainOptions, outcome: &Outcome) -> String {
    let Outcome { published, evaluation, best, epochs_run, warnings: _ } = outcome;
    let [low, high] = evaluation.accuracy_interval.map(|share| 100.0 * share);
    let still_better = best.epoch == options.fit.epochs;
    let more_epochs = if still_better { " It was still getting better: try more --epochs." } else { "" };
    let heads = options.heads.display();
    [
        format!("\nOn the {} pictures kept back:", evaluation.pictures),
        class_table(evaluation).to_string(),
        "\nWhat was answered (across) for what was true (down):".to_owned(),
        confusion_table(evaluation).to_string(),
        format!(
            "\nAccuracy {:.1} % ({} of {}); with 95 % confidence from {low:.1} to {high:.1} %.",
            100.0 * evaluation.accuracy,
            evaluation.right,
            evaluation.pictures
        ),
        format!("Fitted in {epochs_run} epochs; the best was epoch {}.{more_epochs}", best.epoch),
        format!("\nPublished {} version {}: {}", options.task, published.version, published.path.display()),
        format!("Digest {}", published.digest),
        format!(
            "`turret serve --base FILE --heads {heads}` serves it; a server already running takes it over."
        ),
    ]
    .join("\n")
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
    let rows = labels()
        .zip(&evaluation.confusion)
        .map(|(label, counts)| [label].into_iter().chain(counts.iter().map(usize::to_string)).collect());
    table(header, rows)
}

/// All columns but the first stand to the right: they are numbers.
fn table(header: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header);
    table.add_rows(rows).discover_columns();
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
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
        let rows = |table: Table| table.lines().map(|line| line.replace('│', " ")).collect::<Vec<_>>();
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
