use fs_err as fs;
use serde_json::json;

use super::{
    features::cache::FeatureCache,
    workshop::{WIDTHS, Workshop, content},
    *,
};
use crate::{
    base::{Base, FeatureSet, Outputs},
    head::{Decision, Head, HeadContent, MAX_REFERENCES},
    ids::Digest,
    image::Preprocess,
};

#[test]
fn trained_head_classifies_as_its_folders_and_carries_references() {
    let mut workshop = Workshop::with_two_classes();
    let options = workshop.options();
    let outcome = workshop.train(&options).unwrap();
    assert_eq!((outcome.published.version, outcome.evaluation.accuracy), (1, 1.0));
    let bytes = fs::read(&outcome.published.path).unwrap();
    let (head, to_install) =
        Head::load(&bytes, &options.task, 1, &workshop.base.identity, WIDTHS).unwrap();
    assert_eq!(head.judge(&[220.0; 3]).decision, Decision::Pass);
    assert_eq!(head.judge(&[30.0; 3]).decision, Decision::Reject);
    // The head carries reference pictures, and the same base reproduces their features.
    let reference = to_install.reference;
    assert!(!reference.is_empty() && reference.len() <= MAX_REFERENCES);
    let pictures = reference.pictures(&head.preprocess);
    let batch =
        workshop.base.forward(&pictures.iter().collect::<Vec<_>>(), Outputs::default()).unwrap();
    assert_eq!(head.check_references(&reference, &batch.gap, "exact"), Ok(()));
    assert!(head.check_references(&reference, &vec![0.0; batch.gap.len()], "exact").is_err());
}

#[test]
fn second_run_computes_nothing_and_publishes_the_next_version() {
    let mut workshop = Workshop::with_two_classes();
    let options = workshop.options();
    let first = workshop.train(&options).unwrap();
    assert_eq!(workshop.base.images_seen, 24);
    let second = workshop.train(&options).unwrap();
    let pyramid = TrainOptions { features: Some(FeatureSet::Pyramid), ..options };
    assert_eq!(content(&workshop.train(&pyramid).unwrap()).linear.width(), WIDTHS.pyramid);
    assert_eq!(workshop.base.images_seen, 24);
    let (first, second) = (content(&first), content(&second));
    let evidence = second.evidence.clone();
    assert_eq!(second, HeadContent { version: 2, evidence, ..first });
}

#[test]
fn head_depends_on_the_pictures_and_not_on_file_names() {
    let mut workshop = Workshop::with_two_classes();
    let options = workshop.options();
    let first = workshop.train(&options).unwrap();
    fs::rename(workshop.path("data/ok/0.png"), workshop.path("data/ok/zero")).unwrap();
    let elsewhere = TrainOptions { heads: workshop.path("other"), cache: None, ..options.clone() };
    let second = workshop.train(&elsewhere).unwrap();
    assert_eq!(first.published.digest, second.published.digest);
    workshop.picture("ok/new.png", 255);
    let third = workshop.train(&TrainOptions { heads: workshop.path("third"), ..options }).unwrap();
    assert_ne!(first.published.digest, third.published.digest);
}

#[test]
fn files_that_are_not_pictures_are_skipped_with_a_warning() {
    let mut workshop = Workshop::with_two_classes();
    workshop.write("ok/notes.txt", b"shift 3, camera cleaned");
    let png = fs::read(workshop.path("data/ok/1.png")).unwrap();
    workshop.write("dent/cut.png", &png[..png.len() / 2]);
    let options = workshop.options();
    let outcome = workshop.train(&options).unwrap();
    let skipped: Vec<_> = outcome
        .warnings
        .iter()
        .filter_map(|warning| match warning {
            Warning::NoPicture { path, .. } => path.file_name(),
            Warning::Unreadable { .. }
            | Warning::Repeated { .. }
            | Warning::OutsideClasses { .. }
            | Warning::NestedFolder { .. }
            | Warning::CaseTwins { .. }
            | Warning::FewPictures { .. }
            | Warning::LeftForTest { .. }
            | Warning::CacheNotWritten { .. }
            | Warning::NoCheckpoint { .. }
            | Warning::NothingPasses { .. }
            | Warning::Oriented { .. }
            | Warning::SeveralPages { .. }
            | Warning::LevelsUnknown { .. } => None,
        })
        .collect();
    assert_eq!(skipped, ["cut.png", "notes.txt"]);
    assert_eq!(content(&outcome).evidence["pictures"]["ok"].as_object().unwrap().len(), 2);
    assert_eq!(outcome.warnings.len(), 2);
}

/// Writes 12 bits in 16, as many cameras do.
fn twelve_bits_in_sixteen(grey: u16) -> Vec<u8> {
    let pixels = image::ImageBuffer::from_fn(20, 16, |x, _| image::Luma([grey + x as u16]));
    let mut png = std::io::Cursor::new(Vec::new());
    pixels.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}

#[test]
fn twelve_bits_in_sixteen_give_the_head_their_levels() {
    let mut workshop = Workshop::empty();
    for number in 0..12 {
        workshop.write(&format!("ok/{number}.png"), &twelve_bits_in_sixteen(3_000 + number * 90));
        workshop.write(&format!("dent/{number}.png"), &twelve_bits_in_sixteen(number * 90));
    }
    let options = workshop.options();
    let outcome = workshop.train(&options).unwrap();
    assert_eq!(outcome.warnings, []);
    assert_eq!(outcome.evaluation.accuracy, 1.0);
    let levels = |outcome: &Outcome| content(outcome).preprocess.levels.map(|it| it.to_string());
    assert_eq!(levels(&outcome).as_deref(), Some("0:4095"));
    for (choice, expected) in [("full", None), ("100:4000", Some("100:4000"))] {
        let options = TrainOptions { levels: choice.parse().unwrap(), ..options.clone() };
        assert_eq!(levels(&workshop.train(&options).unwrap()).as_deref(), expected, "{choice}");
    }
    // A twilight that fits no depth is told, and the full range is used.
    for number in 0..12 {
        workshop.write(&format!("ok/{number}.png"), &twelve_bits_in_sixteen(1_500 + number * 9));
    }
    let outcome = workshop.train(&options).unwrap();
    assert_eq!(outcome.warnings, [Warning::LevelsUnknown { pictures: 24, max: 1_618 }]);
    assert_eq!(levels(&outcome), None);
}

#[test]
fn orientation_and_pages_are_told_once_with_their_count() {
    let mut workshop = Workshop::with_two_classes();
    let segment =
        b"\xFF\xE1\0\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let upright = include_bytes!("../../tests/data/baseline.jpg");
    workshop.write("ok/a.jpg", &[&upright[..2], segment, &upright[2..]].concat());
    let mut pages = std::io::Cursor::new(Vec::new());
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut pages).unwrap();
    for page in 0..2 {
        encoder.write_image::<tiff::encoder::colortype::Gray8>(8, 8, &[page; 64]).unwrap();
    }
    workshop.write("dent/pages.tif", pages.get_ref());
    let options = workshop.options();
    let warnings = workshop.train(&options).unwrap().warnings;
    let (first, paged) = (workshop.path("data/ok/a.jpg"), workshop.path("data/dent/pages.tif"));
    assert_eq!(
        warnings,
        [
            Warning::Oriented { pictures: 1, first },
            Warning::SeveralPages { pictures: 1, first: paged },
        ]
    );
}

#[test]
fn class_with_too_few_real_pictures_fails_and_publishes_nothing() {
    let mut workshop = Workshop::with_two_classes();
    workshop.picture("rust/1.png", 99);
    workshop.write("rust/2.png", b"not a picture");
    let options = workshop.options();
    let error = workshop.train(&options).unwrap_err().to_string();
    assert!(
        error.contains("class \"rust\" has 1 readable picture (1 file is not a picture: "),
        "{error}"
    );
    assert_eq!(workshop.published_files(), 0);
}

#[test]
fn unwritable_heads_folder_fails_before_anything_is_computed() {
    let mut workshop = Workshop::with_two_classes();
    fs::write(workshop.path("heads"), b"a file where the folder should be").unwrap();
    let options = workshop.options();
    assert!(matches!(workshop.train(&options), Err(TrainError::HeadsFolder { .. })));
    assert_eq!(workshop.base.images_seen, 0);
}

#[test]
fn unwritable_cache_causes_one_warning_and_no_failure() {
    let mut workshop = Workshop::with_two_classes();
    fs::write(workshop.path("cache"), b"a file where the folder should be").unwrap();
    let options = workshop.options();
    let outcome = workshop.train(&options).unwrap();
    assert!(
        matches!(outcome.warnings.as_slice(), [Warning::CacheNotWritten { .. }]),
        "{:?}",
        outcome.warnings
    );
}

#[test]
fn damaged_cache_entry_is_computed_again_and_replaced() {
    let mut workshop = Workshop::with_two_classes();
    let options = workshop.options();
    let first = workshop.train(&options).unwrap();
    let digest = Digest::of(&fs::read(workshop.path("data/ok/3.png")).unwrap()).to_string();
    let cache = FeatureCache::new(
        &workshop.path("cache"),
        &workshop.base.identity,
        "exact",
        WIDTHS,
        &options.preprocess,
    );
    let entry = cache.folder().join(&digest[..2]).join(format!("{digest}.safetensors"));
    fs::write(entry, b"damaged").unwrap();
    let second = workshop.train(&options).unwrap();
    assert_eq!(workshop.base.images_seen, 25);
    assert_eq!(content(&second).linear, content(&first).linear);
    workshop.train(&options).unwrap();
    assert_eq!(workshop.base.images_seen, 25, "the damaged entry was not replaced");
}

#[test]
fn failing_base_publishes_nothing() {
    let mut workshop = Workshop::with_two_classes();
    workshop.base.broken = true;
    let options = workshop.options();
    assert!(matches!(workshop.train(&options), Err(TrainError::Base(_))));
    assert_eq!(workshop.published_files(), 0);
}

#[test]
fn good_classes_are_those_named_or_else_ok_and_good() {
    let mut workshop = Workshop::empty();
    for number in 0..3 {
        workshop.picture(&format!("OK/{number}.png"), 200 + number);
        workshop.picture(&format!("scratch/{number}.png"), 10 + number);
    }
    let options = workshop.options();
    let mut good = |names: &[&str]| {
        let good = names.iter().map(|name| (*name).to_owned()).collect();
        let outcome = workshop.train(&TrainOptions { good, ..options.clone() })?;
        Ok::<_, TrainError>(
            content(&outcome).classes.iter().map(|class| class.good).collect::<Vec<_>>(),
        )
    };
    assert_eq!(good(&[]).unwrap(), [true, false]);
    assert_eq!(good(&["scratch"]).unwrap(), [false, true]);
    let error = good(&["ok"]).unwrap_err().to_string();
    assert!(error.contains("\"ok\"") && error.contains(": OK, scratch"), "{error}");
}

#[test]
fn warns_if_no_class_is_good() {
    let mut workshop = Workshop::empty();
    for number in 0..10 {
        workshop.picture(&format!("rust/{number}.png"), 200 + number);
        workshop.picture(&format!("scratch/{number}.png"), 10 + number);
    }
    let options = workshop.options();
    let warnings = workshop.train(&options).unwrap().warnings;
    assert!(matches!(warnings.as_slice(), [Warning::NothingPasses { .. }]), "{warnings:?}");
}

#[test]
fn head_of_two_pictures_per_class_is_published_with_a_warning() {
    let mut workshop = Workshop::empty();
    for number in 0..2 {
        workshop.picture(&format!("ok/{number}.png"), 200 + number);
        workshop.picture(&format!("dent/{number}.png"), 10 + number);
    }
    let options = workshop.options();
    let warnings = workshop.train(&options).unwrap().warnings;
    let class = "dent".to_owned();
    assert_eq!(warnings, [Warning::FewPictures { class, pictures: 2, validation: 1 }]);
    let told = warnings[0].to_string();
    assert!(told.contains("1 of them for validation") && told.contains("only 21 %"), "{told}");
}

#[test]
fn unknown_label_that_looks_like_a_known_one_is_spelled_out() {
    let told = |label: &str| {
        let known = vec!["caf\u{e9}".to_owned(), "ok".to_owned()];
        TrainError::UnknownLabel { label: label.to_owned(), known }.to_string()
    };
    let twin = told("cafe\u{301}");
    assert!(twin.ends_with(r#"; "cafe\u{301}" and "caf\u{e9}" only look the same"#), "{twin}");
    assert!(!told("dent").contains("look the same"));
}

#[test]
fn head_file_carries_evidence_and_provenance() {
    let mut workshop = Workshop::empty();
    for number in 0..8 {
        let half = if number < 5 { "train" } else { "val" };
        workshop.picture(&format!("{half}/ok/{number}.png"), 200 + number);
        workshop.picture(&format!("{half}/dent/{number}.png"), 10 + number);
    }
    let options = workshop.options();
    let head = content(&workshop.train(&options).unwrap());
    assert_eq!(
        head.evidence["pictures"],
        json!({"dent": {"train": 5, "val": 3}, "ok": {"train": 5, "val": 3}})
    );
    assert_eq!(head.evidence["validation"]["confusion"], json!([[3, 0], [0, 3]]));
    assert_eq!(head.evidence["validation"]["accuracy"], json!(1.0));
    assert_eq!(head.provenance["command"]["task"], "bracket-left");
    assert_eq!(
        (&head.provenance["seed"], &head.provenance["base_origin"]),
        (&json!(1), &json!("a test"))
    );
    assert!(head.provenance["dataset_digest"].as_str().unwrap().parse::<Digest>().is_ok());
}

#[test]
fn events_serialise_as_documented_and_progress_completes() {
    let mut workshop = Workshop::with_two_classes();
    let mut lines = Vec::new();
    let options = workshop.options();
    train(&options, &mut workshop.base, &mut |event| {
        lines.push(serde_json::to_value(event).unwrap())
    })
    .unwrap();
    let named = |name: &str| lines.iter().filter(|line| line["event"] == name).collect::<Vec<_>>();
    assert_eq!(
        *named("features")[0],
        json!({"event": "features", "done": 0, "total": 24, "cached": 0})
    );
    assert_eq!(named("features").last().unwrap()["done"], 24);
    assert_eq!(named("good")[0]["classes"], json!(["ok"]));
    assert_eq!(named("choice")[0]["candidates"].as_array().unwrap().len(), 1);
    assert_eq!(named("gate")[0]["decision"], "nothing_to_compare");
    let published = lines.last().unwrap();
    assert_eq!((&published["event"], &published["version"]), (&json!("published"), &json!(1)));
    assert!(
        published["digest"].is_string()
            && published["path"].is_string()
            && published["accuracy"] == 1.0
    );
}

#[test]
fn adam_reports_every_epoch() {
    let mut workshop = Workshop::with_two_classes();
    let options = TrainOptions { solver: Solver::Adam, ..workshop.options() };
    let mut epochs = 0;
    let outcome = train(&options, &mut workshop.base, &mut |event| {
        epochs += usize::from(matches!(event, Event::Epoch(_)));
    });
    let Fitted::Adam { best_epoch, epochs: run } = outcome.unwrap().fitted else {
        panic!("not Adam")
    };
    assert_eq!(epochs, run);
    assert!(best_epoch.epoch <= run && best_epoch.validation_accuracy == 1.0, "{best_epoch:?}");
}

#[test]
fn both_feature_sets_are_tried_with_and_without_fixed_l2() {
    let mut workshop = Workshop::with_two_classes();
    let options = TrainOptions { features: None, ..workshop.options() };
    let outcome = workshop.train(&options).unwrap();
    let tried: Vec<FeatureSet> =
        outcome.choice.candidates.iter().map(|candidate| candidate.features).collect();
    assert_eq!(tried, FeatureSet::ALL);
    assert_eq!(content(&outcome).features, outcome.choice.features);
    assert_eq!(content(&outcome).evidence["choice"]["candidates"].as_array().unwrap().len(), 2);
    let fixed = TrainOptions { features: None, l2: Some(0.5), ..workshop.options() };
    let outcome = workshop.train(&fixed).unwrap();
    assert!(outcome.choice.candidates.iter().all(|candidate| candidate.score.l2 == 0.5));
}

#[test]
fn too_few_pictures_to_cross_validate_still_make_a_head() {
    let mut workshop = Workshop::empty();
    for (path, grey) in
        [("ok/1.png", 200), ("ok/2.png", 210), ("dent/1.png", 10), ("dent/2.png", 20)]
    {
        workshop.picture(path, grey);
    }
    let options = TrainOptions { features: None, ..workshop.options() };
    let outcome = workshop.train(&options).unwrap();
    assert_eq!((outcome.choice.folds, outcome.choice.l2), (0, L2_UNTRIED));
    assert_eq!(outcome.evaluation.accuracy, 1.0);
}

#[test]
fn group_is_never_in_both_train_and_validation() {
    let mut workshop = Workshop::empty();
    for part in 0..12u8 {
        for shot in 0..3 {
            workshop.picture(&format!("ok/part{part}_{shot}.png"), 150 + part * 6 + shot);
            workshop.picture(&format!("dent/part{part}_{shot}.png"), 20 + part * 6 + shot);
        }
    }
    let options = TrainOptions { group_by: GroupBy::Stem, ..workshop.options() };
    let counts = content(&workshop.train(&options).unwrap()).evidence["pictures"].clone();
    for label in ["ok", "dent"] {
        let [train, val] = ["train", "val"].map(|half| counts[label][half].as_u64().unwrap());
        assert!(train % 3 == 0 && val % 3 == 0 && val > 0, "{counts}");
    }
}

#[test]
fn augmented_views_are_cached_and_used_only_for_training() {
    let mut workshop = Workshop::with_two_classes();
    let options = TrainOptions { augment: Augment::Light, ..workshop.options() };
    let first = workshop.train(&options).unwrap();
    let training = 24 - first.evaluation.pictures;
    let computed = 24 + training * Augment::Light.views() as usize;
    assert_eq!(workshop.base.images_seen, computed);
    let second = workshop.train(&options).unwrap();
    assert_eq!(workshop.base.images_seen, computed);
    assert_eq!(content(&first).linear, content(&second).linear);
    assert_eq!(first.evaluation.accuracy, 1.0);
    let plain = workshop.train(&workshop.options()).unwrap();
    assert_ne!(content(&plain).linear, content(&first).linear);
}

#[test]
fn head_worse_than_the_serving_one_is_published_only_if_forced() {
    let mut workshop = Workshop::empty();
    for number in 0..40 {
        let half = if number % 2 == 0 { "train" } else { "val" };
        workshop.picture(&format!("{half}/ok/{number}.png"), 150 + number * 2);
        workshop.picture(&format!("{half}/dent/{number}.png"), 20 + number * 2);
    }
    let options = workshop.options();
    assert_eq!(workshop.train(&options).unwrap().gate.decision, GateDecision::NothingToCompare);
    assert_eq!(workshop.train(&options).unwrap().gate.decision, GateDecision::Passed);
    // The training pictures swap their classes, so everything the head learns is wrong.
    for number in (0..40).step_by(2) {
        workshop.picture(&format!("train/ok/{number}.png"), 20 + number * 2);
        workshop.picture(&format!("train/dent/{number}.png"), 150 + number * 2);
    }
    let error = workshop.train(&options).unwrap_err();
    assert!(matches!(error, TrainError::WorseThanServing { .. }), "{error}");
    assert!(
        error.to_string().contains("worse than version 2") && error.to_string().contains("--force"),
        "{error}"
    );
    assert_eq!(workshop.published_files(), 2);
    let forced = TrainOptions { force_because: Some("a new product".to_owned()), ..options };
    let evidence = content(&workshop.train(&forced).unwrap()).evidence;
    assert_eq!(evidence["gate"]["decision"], "forced");
    assert_eq!(evidence["gate"]["forced_because"], "a new product");
    assert_eq!(evidence["gate"]["comparison"]["only_serving_right"], 40);
}

#[test]
fn serving_head_is_compared_with_its_own_preprocessing() {
    let mut workshop = Workshop::with_two_classes();
    let options = workshop.options();
    workshop.train(&options).unwrap();
    let stretch = Preprocess { resize: "stretch:64".parse().unwrap(), ..Preprocess::default() };
    let outcome = workshop.train(&TrainOptions { preprocess: stretch, ..options }).unwrap();
    let comparison = outcome.gate.comparison.unwrap();
    assert_eq!((comparison.only_new_right, comparison.only_serving_right), (0, 0));
    assert_eq!(workshop.base.images_seen, 24 + 24, "validation pictures are already in the cache");
}

#[test]
fn list_of_pictures_assigns_labels_splits_and_weights() {
    let mut workshop = Workshop::with_two_classes();
    let mut list = "path,label,split,group,weight,comment\n".to_owned();
    for number in 0..12 {
        let split = if number < 8 {
            "train"
        } else if number < 11 {
            "val"
        } else {
            "test"
        };
        list += &format!(
            "ok/{number}.png,fine,{split},,2.5,night shift\ndent/{number}.png,dent,{split},,,\n"
        );
    }
    workshop.write("list.csv", list.as_bytes());
    let data = workshop.path("data/list.csv");
    let options = TrainOptions { data, good: vec!["fine".to_owned()], ..workshop.options() };
    let outcome = workshop.train(&options).unwrap();
    assert_eq!(outcome.warnings, [Warning::LeftForTest { pictures: 2 }]);
    let evidence = content(&outcome).evidence;
    assert_eq!(
        evidence["pictures"],
        json!({"dent": {"train": 8, "val": 3}, "fine": {"train": 8, "val": 3}})
    );
    assert_eq!(outcome.evaluation.accuracy, 1.0);
}
