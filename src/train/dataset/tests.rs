use super::*;

/// A black picture of one pixel.
const BMP: &str = "BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0\0\0\0\0\x04\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Files by path; the text is the content.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }
    folder
}

fn read(files: &[(&str, &str)]) -> (Result<Dataset, DatasetError>, Vec<String>) {
    let folder = folder(files);
    let mut warnings = Vec::new();
    let dataset = Dataset::read(folder.path(), &mut |warning| warnings.push(warning.to_string()));
    let root = format!("{}/", folder.path().display());
    (dataset, warnings.into_iter().map(|warning| warning.replace(&root, "")).collect())
}

fn refusal(files: &[(&str, &str)]) -> DatasetError {
    read(files).0.unwrap_err()
}

#[test]
fn a_class_is_a_folder_and_names_of_files_change_nothing() {
    let (dataset, warnings) = read(&[("ok/1", "a"), ("ok/2", "b"), ("dent/x.png", "c"), ("dent/y", "d")]);
    let dataset = dataset.unwrap();
    assert_eq!(
        (dataset.classes.as_slice(), warnings.len()),
        (["dent".to_owned(), "ok".to_owned()].as_slice(), 0)
    );
    let (renamed, _) = read(&[("ok/9", "a"), ("ok/0", "b"), ("dent/a", "c"), ("dent/b", "d")]);
    let contents = |dataset: &Dataset| {
        dataset.pictures.iter().map(|picture| (picture.class, picture.digest)).collect::<Vec<_>>()
    };
    assert_eq!(contents(&dataset), contents(&renamed.unwrap()));
}

#[test]
fn what_is_left_out_is_named_and_hidden_files_are_not_mentioned() {
    let (dataset, warnings) = read(&[
        ("ok/1", "a"),
        ("ok/2", "b"),
        ("ok/.part", "hidden"),
        ("ok/empty.png", ""),
        ("ok/again", "a"),
        ("ok/deeper/3", "c"),
        ("dent/1", "d"),
        ("dent/2", "e"),
        ("notes.txt", "stray"),
        (".git/config", "hidden"),
    ]);
    assert_eq!(dataset.unwrap().pictures.len(), 4);
    assert_eq!(
        warnings,
        [
            "notes.txt was left out: it lies outside the class folders",
            "ok/deeper was left out: folders inside a class folder are not looked into",
            "ok/again was left out: it is the same picture as ok/1",
            "ok/empty.png was left out: it has 0 bytes",
        ]
        .map(str::to_owned)
    );
}

#[test]
fn halves_given_by_folders_hold_and_a_picture_in_both_only_validates() {
    let (dataset, warnings) = read(&[
        ("train/ok/1", "a"),
        ("train/ok/2", "b"),
        ("train/dent/1", "c"),
        ("val/ok/9", "b"),
        ("val/dent/9", "d"),
    ]);
    let dataset = dataset.unwrap();
    let half_of = |content: &str| {
        let digest = Digest::of(content.as_bytes());
        dataset.pictures.iter().find(|picture| picture.digest == digest).unwrap().given_half
    };
    assert_eq!(
        ["a", "b", "c", "d"].map(half_of),
        [Some(Half::Train), Some(Half::Validation), Some(Half::Train), Some(Half::Validation)]
    );
    assert_eq!(warnings, ["train/ok/2 was left out: it is the same picture as val/ok/9".to_owned()]);
}

#[test]
fn a_train_folder_alone_is_split_and_a_class_may_be_named_train() {
    let (dataset, _) =
        read(&[("train/a/1", "1"), ("train/a/2", "2"), ("train/b/1", "3"), ("train/b/2", "4")]);
    assert!(dataset.unwrap().pictures.iter().all(|picture| picture.given_half.is_none()));
    let (dataset, _) = read(&[("train/1", "1"), ("train/2", "2"), ("bus/1", "3"), ("bus/2", "4")]);
    assert_eq!(dataset.unwrap().classes, ["bus", "train"]);
}

#[test]
fn every_refusal_says_which_folder_and_how_to_mend_it() {
    let missing = Dataset::read(Path::new("/nowhere/at/all"), &mut |_| {}).unwrap_err();
    let cases = [
        (missing, "one folder of pictures per class"),
        (refusal(&[(".hidden", "x")]), "put the pictures of each class into"),
        (refusal(&[("1.png", "a"), ("2.png", "b")]), "holds 2 files and no class folders; move"),
        (refusal(&[("ok/1", "a"), ("ok/2", "b")]), "only one class, \"ok\"; a head needs at least two"),
        (refusal(&[("ok/1", "a"), ("ok/2", "b"), ("dent/1", "c")]), "class \"dent\" has 1 readable"),
        (
            refusal(&[("ok/1", BMP), ("ok/2", "b"), ("dent/1", BMP), ("dent/2", "c")]),
            "in two classes; remove",
        ),
        (refusal(&[("ok/1", "a"), ("ok/2", "b"), ("dent/1", "c"), ("dent/2", "")]), "has 1 readable"),
        (
            refusal(&[("train/ok/1", "a"), ("train/dent/1", "b"), ("val/ok/1", "c"), ("val/rust/1", "d")]),
            "must have the same class folders",
        ),
        (
            refusal(&[
                ("train/ok/1", "a"),
                ("train/ok/2", "b"),
                ("val/ok/1", ""),
                ("train/d/1", "c"),
                ("val/d/1", "d"),
            ]),
            "class \"ok\" has no readable picture in the folder val",
        ),
    ];
    for (error, part) in cases {
        assert!(error.to_string().contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn the_same_picture_in_two_classes_names_both_files() {
    let error = refusal(&[("a/1", BMP), ("a/2", "x"), ("b/7", BMP), ("b/8", "y")]).to_string();
    assert!(error.contains("/a/1 and ") && error.contains("/b/7 are"), "{error}");
}

#[test]
fn the_same_file_in_two_classes_is_no_contradiction_if_it_is_no_picture() {
    let ini = "[.ShellClassInfo]";
    let (dataset, warnings) = read(&[
        ("a/1", "1"),
        ("a/2", "2"),
        ("a/desktop.ini", ini),
        ("b/1", "3"),
        ("b/2", "4"),
        ("b/desktop.ini", ini),
    ]);
    assert!(dataset.is_ok());
    assert!(
        matches!(warnings.as_slice(), [one] if one.starts_with("b/desktop.ini was left out")),
        "{warnings:?}"
    );
}
