use turret_client::cli::printing::error_text;

use super::*;
use crate::train::TrainError;

/// A black picture of one pixel, as a BMP file.
const BMP: &str = "BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\
    \x01\0\x18\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Creates a folder of files, given as (path, content).
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
    let (dataset, warnings) = read_only(files);
    (dataset.and_then(|dataset| dataset.check(&dataset.pictures).map(|()| dataset)), warnings)
}

/// Reads without checking that the pictures suffice for training.
fn read_only(files: &[(&str, &str)]) -> (Result<Dataset, DatasetError>, Vec<String>) {
    let folder = folder(files);
    let mut warnings = Vec::new();
    let dataset = Dataset::read(folder.path(), &GroupBy::Auto, &mut |warning| {
        warnings.push(warning.to_string())
    });
    let root = format!("{}/", folder.path().display());
    (dataset, warnings.into_iter().map(|warning| warning.replace(&root, "")).collect())
}

fn read_error(files: &[(&str, &str)]) -> DatasetError {
    read(files).0.unwrap_err()
}

#[test]
fn folders_are_classes_and_file_names_have_no_influence() {
    let (dataset, warnings) =
        read(&[("ok/1", "a"), ("ok/2", "b"), ("dent/x.png", "c"), ("dent/y", "d")]);
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
fn skipped_files_cause_warnings_except_hidden_ones() {
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
            "skipped notes.txt: outside the class folders",
            "skipped ok/deeper: folders inside a class folder are not read, and 1 files lie there",
            "skipped ok/again: same picture as ok/1",
            "skipped ok/empty.png: file has 0 bytes",
        ]
        .map(str::to_owned)
    );
}

#[test]
fn split_folders_are_kept_and_a_picture_in_both_only_validates() {
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
        dataset.pictures.iter().find(|picture| picture.digest == digest).unwrap().given
    };
    assert_eq!(
        ["a", "b", "c", "d"].map(half_of),
        [Some(Part::Train), Some(Part::Validation), Some(Part::Train), Some(Part::Validation)]
    );
    assert_eq!(warnings, ["skipped train/ok/2: same picture as val/ok/9".to_owned()]);
}

#[test]
fn class_folder_without_pictures_is_refused() {
    let ok = [("ok/1", "a"), ("ok/2", "b")];
    for (files, told) in [
        (
            vec![("dent/cam1/1.png", "c"), ("dent/cam2/deep/2.png", "d"), ("dent/.x", "e")],
            vec!["class \"dent\"", "2 files lie in sub-folders such as", "/dent/cam1,", "move"],
        ),
        (vec![("dent/.x", "e")], vec!["class \"dent\"", "only 1 hidden files", "rename them"]),
        (vec![("dent/cam1/.x", "e")], vec!["class \"dent\"", "; add pictures, or remove"]),
        (
            vec![
                ("train/ok/1", "1"),
                ("train/dent/1", "2"),
                ("val/ok/3", "3"),
                ("val/dent/x/4", "4"),
            ],
            vec!["class \"dent\" has no picture in its folder", "/val/dent:", "/val/dent/x,"],
        ),
        (
            vec![("train/ok/1", "1"), ("train/dent/2", "2"), ("Test/dent/x/4", "4")],
            vec!["class \"dent\"", "/Test/dent:"],
        ),
    ] {
        let error = read_error(&[&files[..], &ok].concat()).to_string();
        for part in told {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
    }
}

#[test]
fn empty_class_folder_is_refused() {
    let folder = folder(&[("ok/1", "a"), ("ok/2", "b"), ("rust/1", "c"), ("rust/2", "d")]);
    fs_err::create_dir(folder.path().join("dent")).unwrap();
    let error = Dataset::read(folder.path(), &GroupBy::Auto, &mut |_| {}).unwrap_err();
    assert!(matches!(&error, DatasetError::EmptyClass { class, .. } if class == "dent"), "{error}");
}

#[test]
fn broken_link_in_place_of_a_folder_is_refused() {
    let classes = [("ok/1", "a"), ("ok/2", "b"), ("bad/1", "c"), ("bad/2", "d")];
    let parts = [("train/ok/1", "a"), ("train/bad/1", "b"), ("val/ok/1", "c"), ("val/bad/1", "d")];
    for (files, place) in [(classes, "dent"), (parts, "val/dent"), (parts, "test")] {
        let folder = folder(&files);
        let link = folder.path().join(place);
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let error = Dataset::read(folder.path(), &GroupBy::Auto, &mut |_| {}).unwrap_err();
        let told = format!("{} is a link to nowhere, which is not there;", link.display());
        assert!(error.to_string().starts_with(&told), "{error}");
    }
}

#[test]
fn only_real_pictures_of_a_small_class_are_counted() {
    let ok = [("ok/1", "a"), ("ok/2", "b")];
    for (dent, told) in [
        (("dent/Thumbs.db", "c"), "has 0 readable pictures (1 file is not a picture: "),
        (("dent/1.bmp", BMP), "has 1 readable picture, expected at least 2;"),
        (("dent/empty.png", ""), "has 0 readable pictures, expected at least 2;"),
    ] {
        let folder = folder(&[&ok[..], &[dent]].concat());
        let dataset = Dataset::read(folder.path(), &GroupBy::Auto, &mut |_| {}).unwrap();
        let error = dataset.check(&dataset.pictures).unwrap_err().to_string();
        assert!(error.contains(&format!("class \"dent\" {told}")), "{error}");
    }
}

#[test]
fn mistakes_of_a_list_have_a_line_each_whatever_is_in_its_values() {
    let folder = folder(&[("li\nst.csv", "path,label\na\u{7}.png,ok\n,ok\n")]);
    let path = folder.path().join("li\nst.csv");
    let error = Dataset::read(&path, &GroupBy::Auto, &mut |_| {}).unwrap_err();
    let text = error_text("p", &TrainError::from(error).into());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].ends_with("li\\nst.csv:") && lines[1].contains("a\\u0007.png"), "{text}");
}

#[test]
fn part_folders_are_known_by_each_of_their_names() {
    for train in ["train", "Train", "TRAIN"] {
        for validation in ["val", "valid", "validation", "Valid", "VAL"] {
            for test in ["test", "Test"] {
                let path = |part: &str, class: &str| format!("{part}/{class}/1");
                let names = [
                    path(train, "ok"),
                    path(train, "dent"),
                    path(validation, "ok"),
                    path(validation, "dent"),
                    path(test, "ok"),
                ];
                let files = names.each_ref().map(|name| (name.as_str(), name.as_str()));
                let (dataset, warnings) = read_only(&files);
                let dataset = dataset.unwrap();
                assert_eq!((dataset.classes.len(), warnings.len()), (2, 0), "{names:?}");
                let count = |part| {
                    dataset.pictures.iter().filter(|picture| picture.given == Some(part)).count()
                };
                assert_eq!(Part::ALL.map(count), [2, 2, 1], "{names:?}");
            }
        }
    }
}

#[test]
fn two_folders_of_one_part_are_refused() {
    let train = [("train/ok/1", "1"), ("train/dent/2", "2")];
    for (first, second) in [("val", "valid"), ("Validation", "validation"), ("val", "VAL")] {
        let (one, other) = (format!("{first}/ok/3"), format!("{second}/ok/4"));
        let files = [&train[..], &[(one.as_str(), "3"), (other.as_str(), "4")]].concat();
        let error = read_error(&files).to_string();
        let named = error.contains(&format!("/{first} ")) && error.contains(&format!("/{second} "));
        assert!(named && error.contains("both folders of val pictures; move"), "{error}");
    }
}

#[test]
fn part_folder_without_class_folders_is_never_passed_over() {
    let train = [("train/ok/1", "1"), ("train/ok/2", "2"), ("train/d/3", "3"), ("train/d/4", "4")];
    let flat_validation = read_error(&[&train[..], &[("valid/5.png", "5")]].concat());
    assert!(flat_validation.to_string().contains("/valid holds 1 files and no class folders"));
    let (dataset, warnings) = read(&[&train[..], &[("test/5.png", "5")]].concat());
    assert_eq!(dataset.unwrap().pictures.len(), 4);
    assert_eq!(warnings, ["skipped test: outside the class folders"]);
}

#[test]
fn twin_class_names_are_refused_across_parts_too() {
    for files in [
        [("caf\u{e9}/1", "1"), ("caf\u{e9}/2", "2"), ("cafe\u{301}/1", "3"), ("ok/4", "4")],
        [("ok/1", "1"), ("ok/2", "2"), ("ok\u{a0}/1", "3"), ("ok /2", "4")],
        [("train/\u{e9}/1", "1"), ("train/ok/2", "2"), ("val/e\u{301}/1", "3"), ("val/ok/2", "4")],
    ] {
        let error = read_error(&files);
        assert!(matches!(error, DatasetError::TwinClasses { .. }), "{error}");
    }
    let files = [("OK/1", "1"), ("OK/2", "2"), ("ok/1", "3"), ("ok/2", "4")];
    let (dataset, warnings) = read(&files);
    assert_eq!(dataset.unwrap().classes.len(), 2);
    assert!(warnings[0].contains("differ only in upper and lower case"), "{warnings:?}");
}

#[test]
fn train_folder_alone_is_split_and_train_may_be_a_class() {
    let (dataset, _) =
        read(&[("train/a/1", "1"), ("train/a/2", "2"), ("train/b/1", "3"), ("train/b/2", "4")]);
    assert!(dataset.unwrap().pictures.iter().all(|picture| picture.given.is_none()));
    let (dataset, _) = read(&[("train/1", "1"), ("train/2", "2"), ("bus/1", "3"), ("bus/2", "4")]);
    assert_eq!(dataset.unwrap().classes, ["bus", "train"]);
}

#[test]
fn errors_name_the_folder_or_class_and_the_fix() {
    let missing =
        Dataset::read(Path::new("/nowhere/at/all"), &GroupBy::Auto, &mut |_| {}).unwrap_err();
    let cases = [
        (missing, "one folder of pictures per class"),
        (read_error(&[(".hidden", "x")]), "put the pictures of each class into"),
        (read_error(&[("1.png", "a"), ("2.png", "b")]), "holds 2 files and no class folders; move"),
        (
            read_error(&[("ok/1", "a"), ("ok/2", "b")]),
            "only one class, \"ok\"; a head needs at least two",
        ),
        (
            read_error(&[("ok/1", "a"), ("ok/2", "b"), ("dent/1", "c")]),
            "class \"dent\" has 0 readable",
        ),
        (
            read_error(&[("ok/1", BMP), ("ok/2", "b"), ("dent/1", BMP), ("dent/2", "c")]),
            "in two classes; remove",
        ),
        (
            read_error(&[("ok/1", "a"), ("ok/2", "b"), ("dent/1", "c"), ("dent/2", "")]),
            "has 0 readable",
        ),
        (
            read_error(&[
                ("train/ok/1", "a"),
                ("train/dent/1", "b"),
                ("val/ok/1", "c"),
                ("val/rust/1", "d"),
            ]),
            "must have the same class folders",
        ),
        (
            read_error(&[
                ("train/ok/1", "a"),
                ("train/ok/2", "b"),
                ("val/ok/1", ""),
                ("train/d/1", "c"),
                ("val/d/1", "d"),
            ]),
            "class \"ok\" has no readable picture in val",
        ),
    ];
    for (error, part) in cases {
        assert!(error.to_string().contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn picture_in_two_classes_fails_and_names_both_files() {
    let error = read_error(&[("a/1", BMP), ("a/2", "x"), ("b/7", BMP), ("b/8", "y")]).to_string();
    assert!(error.contains("/a/1 and ") && error.contains("/b/7 are"), "{error}");
}

#[test]
fn file_in_two_classes_is_skipped_if_not_a_picture() {
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
        matches!(warnings.as_slice(), [one] if one.starts_with("skipped b/desktop.ini: ")),
        "{warnings:?}"
    );
}

#[test]
fn mvtec_layout_is_one_unsplit_data_set() {
    let (dataset, warnings) = read(&[
        ("train/good/1", "a"),
        ("train/good/2", "b"),
        ("test/good/1", "c"),
        ("test/crack/1", "d"),
        ("test/crack/2", "e"),
        ("ground_truth/crack/1", "mask"),
        ("license.txt", "text"),
    ]);
    let dataset = dataset.unwrap();
    assert_eq!(dataset.classes, ["crack", "good"]);
    assert_eq!(dataset.pictures.len(), 5);
    assert!(dataset.pictures.iter().all(|picture| picture.given.is_none()));
    assert_eq!(warnings, ["skipped license.txt: outside the class folders"]);
}

#[test]
fn test_folder_beside_train_is_only_for_evaluation() {
    let files = [
        ("train/a/1", "1"),
        ("train/a/2", "2"),
        ("train/b/1", "3"),
        ("train/b/2", "4"),
        ("test/a/1", "5"),
    ];
    let dataset = read(&files).0.unwrap();
    let given: Vec<_> = dataset.pictures.iter().filter_map(|picture| picture.given).collect();
    assert_eq!(given, [Part::Test]);
    let unknown = read_error(&[files.as_slice(), &[("test/c/1", "6")]].concat());
    assert!(unknown.to_string().contains("class \"c\""), "{unknown}");
}

/// Reads `list.<extension>` in a folder with pictures 1 to 6.
fn listed(extension: &str, list: &str, group_by: &GroupBy) -> Result<Dataset, DatasetError> {
    let numbers = ["1", "2", "3", "4", "5", "6"];
    let folder = folder(&numbers.map(|number| (number, number)));
    let path = folder.path().join(format!("list.{extension}"));
    fs_err::write(&path, list).unwrap();
    Dataset::read(&path, group_by, &mut |warning| panic!("{warning}"))
}

fn groups(dataset: &Dataset) -> Vec<&str> {
    let mut groups: Vec<&str> =
        dataset.pictures.iter().map(|picture| picture.group.as_deref().unwrap_or("-")).collect();
    groups.sort_unstable();
    groups
}

#[test]
fn csv_and_json_lines_read_the_same() {
    let csv = listed(
        "csv",
        "\u{feff}label;path;weight;group;split\nok;1;;p1;train\nok;2;0.5;;val\nrust;3;2;p1;train\n\
         rust;4;;;validation\n",
        &GroupBy::Auto,
    )
    .unwrap();
    let json = listed(
        "jsonl",
        r#"{"path": "1", "label": "ok", "group": "p1", "split": "train", "notes": ["x"]}
           {"path": "2", "label": "ok", "weight": 0.5, "split": "val"}

           {"path": "3", "label": "rust", "group": "p1", "weight": 2, "split": "train"}
           {"path": "4", "label": "rust", "weight": null, "split": "validation"}"#,
        &GroupBy::Auto,
    )
    .unwrap();
    let picture = |picture: &PictureFile| {
        (picture.class, picture.digest, picture.given, picture.group.clone(), picture.weight)
    };
    let all = |dataset: &Dataset| dataset.pictures.iter().map(picture).collect::<Vec<_>>();
    assert_eq!((&csv.classes, all(&csv)), (&json.classes, all(&json)));
    let weights: f32 = csv.pictures.iter().map(|picture| picture.weight).sum();
    assert_eq!((weights, groups(&csv)), (4.5, vec!["-", "-", "p1", "p1"]));
}

#[test]
fn groups_come_from_any_column_or_the_file_name() {
    let list = "path,label,lot\n1,a,x\n2,a,y\n3,b,x\n4,b,y\n";
    let by_lot = listed("csv", list, &GroupBy::Column("lot".to_owned())).unwrap();
    assert_eq!(groups(&by_lot), ["x", "x", "y", "y"]);
    assert_eq!(groups(&listed("csv", list, &GroupBy::Auto).unwrap()), ["-"; 4]);
    assert_eq!(groups(&listed("csv", list, &GroupBy::Stem).unwrap()), ["1", "2", "3", "4"]);
    let folder = folder(&[("a/1", "1")]);
    let column = Dataset::read(folder.path(), &GroupBy::Column("lot".to_owned()), &mut |_| {});
    assert!(column.unwrap_err().to_string().contains("--group \"lot\" names a column"));
}

#[test]
fn all_mistakes_in_a_list_are_reported_with_line_numbers() {
    let error =
        |extension, list, group_by| listed(extension, list, &group_by).unwrap_err().to_string();
    let csv = error(
        "csv",
        "path,label,split,weight\n1,ok,,\nmissing.png,ok,,\n2,,,\n3,ok,training,\n4,ok,,-1\n5,ok\n",
        GroupBy::Auto,
    );
    for part in [
        "line 3: no such file",
        "line 4: column \"label\" is missing or empty",
        "line 5: unknown split \"training\", expected \"train\", \"val\" or \"test\"",
        "line 6: invalid weight \"-1\", expected a number above 0",
        "line 7: ",
    ] {
        assert!(csv.contains(part), "{part:?} is not in {csv}");
    }
    assert!(!csv.contains("line 2:"), "{csv}");
    let json = error(
        "jsonl",
        "{\"path\": \"1\", \"label\": \"ok\"}\n{\"path\": \"2\"\n[1]\n",
        GroupBy::Auto,
    );
    assert!(
        json.contains("line 2: not a JSON object") && json.contains("line 3: not a JSON object"),
        "{json}"
    );
    let header = error("csv", "file,label\n1,ok\n", GroupBy::Auto);
    assert!(header.contains("line 1: header has no column \"path\", only file, label"), "{header}");
    let group = error("csv", "path,label\n1,ok\n", GroupBy::Column("lot".to_owned()));
    assert!(group.contains("\"lot\""), "{group}");
}

#[test]
fn missing_file_is_on_the_same_line_however_lines_end() {
    let list = "path,label\n1,ok\nmissing.png,ok\n\n2,rust\ngone.png,rust\n";
    for (extension, list) in [
        ("csv", list.to_owned()),
        ("csv", list.replace('\n', "\r\n")),
        ("tsv", list.replace(',', "\t")),
        ("csv", format!("\u{feff}{}", list.replace(',', ";"))),
    ] {
        let error = listed(extension, &list, &GroupBy::Auto).unwrap_err().to_string();
        let (first, second) = (error.find("line 3: no such file: "), error.find("line 6: no such"));
        assert!(first.is_some() && second.is_some(), "{error}");
    }
}

#[test]
fn list_that_splits_a_group_fails() {
    let list = "path,label,split,group\n1,a,train,p\n2,a,val,p\n3,b,train,\n4,b,val,\n";
    let dataset = listed("csv", list, &GroupBy::Auto).unwrap();
    let error = dataset.check(&dataset.pictures).unwrap_err();
    assert!(matches!(&error, DatasetError::DividedGroup { group, .. } if group == "p"), "{error}");
}
