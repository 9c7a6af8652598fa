use rand::RngExt;

use super::*;

/// Returns one cloud of points per class; `spread` is the standard deviation.
fn clouds(classes: usize, each: usize, width: usize, spread: f32, seed: u64) -> Examples {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // The sum of twelve uniform numbers is nearly normal.
    let mut normal = || (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
    let mut examples = Examples { width, ..Examples::default() };
    for picture in 0..classes * each {
        let class = picture % classes;
        let centre = |i: usize| if i % classes == class { 3.0 } else { 1.0 };
        let row: Vec<f32> = (0..width).map(|i| centre(i) + spread * normal()).collect();
        examples.push(&row, class, 1.0);
    }
    examples
}

fn fitted(train: &Examples, validation: &Examples, options: &AdamOptions) -> AdamFit {
    fitted_with(train, validation, ClassWeight::Balanced, options)
}

fn fitted_with(
    train: &Examples,
    validation: &Examples,
    class_weight: ClassWeight,
    options: &AdamOptions,
) -> AdamFit {
    let classes = train.classes.iter().max().unwrap() + 1;
    fit_by_adam(train, validation, classes, class_weight, options, &mut |_| {}).unwrap()
}

/// Returns the share of the class's examples that the raw classifier gets right.
fn recall(fit: &AdamFit, examples: &Examples, class: usize) -> f64 {
    let linear = crate::head::Linear::new(
        fit.classifier.weight.clone(),
        fit.classifier.bias.clone(),
        examples.width,
    )
    .unwrap();
    let of_class: Vec<&[f32]> =
        examples.rows().filter(|row| row.class == class).map(|row| row.features).collect();
    let found = of_class
        .iter()
        .filter(|features| {
            let logits = linear.logits(features);
            logits.iter().all(|logit| *logit <= logits[class])
        })
        .count();
    found as f64 / of_class.len() as f64
}

#[test]
fn separable_clouds_are_classified_without_error() {
    let (train, validation) = (clouds(4, 25, 24, 0.3, 1), clouds(4, 10, 24, 0.3, 2));
    let fit = fitted(&train, &validation, &AdamOptions::default());
    assert_eq!(fit.best.validation_accuracy, 1.0);
    assert!(
        (0..4).all(|class| recall(&fit, &validation, class) == 1.0),
        "folding back changed the answers"
    );
}

#[test]
fn gradient_agrees_with_finite_differences() {
    let examples = clouds(3, 2, 5, 1.0, 3);
    let mut model = Softmax::new(3, 5);
    for (index, parameter) in model.parameters.iter_mut().enumerate() {
        *parameter = (index as f32 * 0.7).sin();
    }
    let loss = |model: &Softmax, gradient: &mut [f32]| -> f64 {
        examples.rows().map(|row| model.add_gradient(row.features, row.class, 0.25, gradient)).sum()
    };
    let mut gradient = vec![0.0; model.parameters.len()];
    loss(&model, &mut gradient);
    for (index, &derivative) in gradient.iter().enumerate() {
        let mut nudged = [model.clone(), model.clone()];
        nudged[0].parameters[index] -= 1e-2;
        nudged[1].parameters[index] += 1e-2;
        let [lower, upper] = nudged.map(|model| loss(&model, &mut vec![0.0; gradient.len()]));
        let slope = (upper - lower) / 2e-2;
        assert!((slope - f64::from(derivative)).abs() < 1e-3, "{index}: {slope} and {derivative}");
    }
}

/// With a constant feature the best probabilities are the class shares, a known solution.
#[test]
fn constant_feature_gives_the_class_shares() {
    let classes: Vec<usize> = [[0; 8].as_slice(), &[1; 2]].concat();
    let examples = Examples { features: vec![7.0; 10], classes, weights: vec![1.0; 10], width: 1 };
    let options = AdamOptions {
        learning_rate: 0.01,
        batch_size: 10,
        epochs: 3000,
        patience: 3000,
        ..AdamOptions::default()
    };
    let log_odds = |class_weight| {
        let fit = fitted_with(&examples, &examples, class_weight, &options);
        7.0 * (fit.classifier.weight[0] - fit.classifier.weight[1]) + fit.classifier.bias[0]
            - fit.classifier.bias[1]
    };
    assert!((log_odds(ClassWeight::None) - 4f32.ln()).abs() < 1e-2);
    assert!(log_odds(ClassWeight::Balanced).abs() < 1e-2);
}

#[test]
fn balanced_weights_raise_recall_of_a_rare_class() {
    let both = clouds(2, 200, 4, 2.0, 5);
    let mut train = Examples { width: 4, ..Examples::default() };
    for (number, Example { features, class, .. }) in both.rows().enumerate() {
        if class == 0 || number % 20 == 1 {
            train.push(features, class, 1.0);
        }
    }
    let recall_of_rare = |class_weight| {
        recall(&fitted_with(&train, &both, class_weight, &AdamOptions::default()), &both, 1)
    };
    let (balanced, none) =
        (recall_of_rare(ClassWeight::Balanced), recall_of_rare(ClassWeight::None));
    assert!(balanced > none + 0.1, "{balanced} with balanced weights, {none} without");
}

#[test]
fn fit_is_reproducible_and_depends_on_the_seed() {
    let (train, validation) = (clouds(3, 20, 8, 1.0, 1), clouds(3, 5, 8, 1.0, 2));
    let with_seed =
        |seed| fitted(&train, &validation, &AdamOptions { seed, ..AdamOptions::default() });
    assert_eq!(with_seed(1), with_seed(1));
    assert_ne!(with_seed(1).classifier.weight, with_seed(2).classifier.weight);
}

#[test]
fn keeps_the_best_epoch_and_stops_when_patience_ends() {
    // The labels contradict the training pictures, so validation gets worse from some epoch on.
    let train = clouds(2, 30, 4, 2.0, 1);
    let mut validation = clouds(2, 30, 4, 2.0, 2);
    validation.classes.rotate_left(1);
    let options = AdamOptions { patience: 3, ..AdamOptions::default() };
    let mut losses = Vec::new();
    let fit = fit_by_adam(&train, &validation, 2, ClassWeight::Balanced, &options, &mut |epoch| {
        losses.push(epoch.validation_loss)
    })
    .unwrap();
    assert_eq!(losses.len(), fit.epochs_run);
    assert_eq!(fit.epochs_run, fit.best.epoch + 3);
    assert!(losses.iter().all(|loss| *loss >= fit.best.validation_loss));
}

#[test]
fn constant_features_are_harmless() {
    let mut train = clouds(2, 20, 3, 0.2, 1);
    train.features.chunks_exact_mut(3).for_each(|row| row[2] = 1e6);
    let fit = fitted(&train, &train, &AdamOptions::default());
    assert!(
        fit.classifier.weight.iter().chain(&fit.classifier.bias).all(|value| value.is_finite())
    );
    assert_eq!(fit.best.validation_accuracy, 1.0);
}

#[test]
fn returns_none_if_no_epoch_has_a_finite_loss() {
    let train = clouds(2, 20, 3, 0.2, 1);
    let options = AdamOptions { learning_rate: f32::MAX, epochs: 3, ..AdamOptions::default() };
    assert_eq!(fit_by_adam(&train, &train, 2, ClassWeight::Balanced, &options, &mut |_| {}), None);
}
