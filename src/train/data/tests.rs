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
    let dataset = Dataset::read(folder.path(), &GroupBy::Auto, &mut |warning| {
        warnings.push(warning.to_string())
    });
    let dataset = dataset.and_then(|dataset| dataset.check(&dataset.pictures).map(|()| dataset));
    let root = format!("{}/", folder.path().display());
    (dataset, warnings.into_iter().map(|warning| warning.replace(&root, "")).collect())
}

fn refusal(files: &[(&str, &str)]) -> DatasetError {
    read(files).0.unwrap_err()
}

#[test]
fn a_class_is_a_folder_and_names_of_files_change_nothing() {
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
        dataset.pictures.iter().find(|picture| picture.digest == digest).unwrap().given
    };
    assert_eq!(
        ["a", "b", "c", "d"].map(half_of),
        [Some(Part::Train), Some(Part::Validation), Some(Part::Train), Some(Part::Validation)]
    );
    assert_eq!(
        warnings,
        ["train/ok/2 was left out: it is the same picture as val/ok/9".to_owned()]
    );
}

#[test]
fn a_train_folder_alone_is_split_and_a_class_may_be_named_train() {
    let (dataset, _) =
        read(&[("train/a/1", "1"), ("train/a/2", "2"), ("train/b/1", "3"), ("train/b/2", "4")]);
    assert!(dataset.unwrap().pictures.iter().all(|picture| picture.given.is_none()));
    let (dataset, _) = read(&[("train/1", "1"), ("train/2", "2"), ("bus/1", "3"), ("bus/2", "4")]);
    assert_eq!(dataset.unwrap().classes, ["bus", "train"]);
}

#[test]
fn every_refusal_says_which_folder_and_how_to_mend_it() {
    let missing =
        Dataset::read(Path::new("/nowhere/at/all"), &GroupBy::Auto, &mut |_| {}).unwrap_err();
    let cases = [
        (missing, "one folder of pictures per class"),
        (refusal(&[(".hidden", "x")]), "put the pictures of each class into"),
        (refusal(&[("1.png", "a"), ("2.png", "b")]), "holds 2 files and no class folders; move"),
        (
            refusal(&[("ok/1", "a"), ("ok/2", "b")]),
            "only one class, \"ok\"; a head needs at least two",
        ),
        (
            refusal(&[("ok/1", "a"), ("ok/2", "b"), ("dent/1", "c")]),
            "class \"dent\" has 1 readable",
        ),
        (
            refusal(&[("ok/1", BMP), ("ok/2", "b"), ("dent/1", BMP), ("dent/2", "c")]),
            "in two classes; remove",
        ),
        (
            refusal(&[("ok/1", "a"), ("ok/2", "b"), ("dent/1", "c"), ("dent/2", "")]),
            "has 1 readable",
        ),
        (
            refusal(&[
                ("train/ok/1", "a"),
                ("train/dent/1", "b"),
                ("val/ok/1", "c"),
                ("val/rust/1", "d"),
            ]),
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
            "class \"ok\" has no readable picture in val",
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

#[test]
fn mvtec_folders_are_one_data_set_with_the_good_ones_as_a_class() {
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
    assert_eq!(warnings, ["license.txt was left out: it lies outside the class folders"]);
}

#[test]
fn a_test_folder_beside_train_is_for_evaluation_alone() {
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
    let unknown = refusal(&[files.as_slice(), &[("test/c/1", "6")]].concat());
    assert!(unknown.to_string().contains("class \"c\""), "{unknown}");
}

/// Reads `list.<extension>` beside pictures 1 to 6.
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
fn csv_and_json_lines_say_the_same() {
    let csv = listed(
        "csv",
        "\u{feff}label;path;weight;group;split\nok;1;;p1;train\nok;2;0.5;;val\nrust;3;2;p1;train\nrust;4;;;validation\n",
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
fn a_group_may_come_from_any_column_or_from_the_name() {
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
fn all_mistakes_of_a_list_are_told_with_their_lines() {
    let told =
        |extension, list, group_by| listed(extension, list, &group_by).unwrap_err().to_string();
    let csv = told(
        "csv",
        "path,label,split,weight\n1,ok,,\nmissing.png,ok,,\n2,,,\n3,ok,training,\n4,ok,,-1\n5,ok\n",
        GroupBy::Auto,
    );
    for part in [
        "line 3: there is no file",
        "line 4: the column label is missing or empty",
        "line 5: split \"training\" is none of train, val, test",
        "line 6: weight \"-1\" is not a number above 0",
        "line 7: ",
    ] {
        assert!(csv.contains(part), "{part:?} is not in {csv}");
    }
    assert!(!csv.contains("line 2:"), "{csv}");
    let json = told(
        "jsonl",
        "{\"path\": \"1\", \"label\": \"ok\"}\n{\"path\": \"2\"\n[1]\n",
        GroupBy::Auto,
    );
    assert!(
        json.contains("line 2: no JSON object") && json.contains("line 3: no JSON object"),
        "{json}"
    );
    let header = told("csv", "file,label\n1,ok\n", GroupBy::Auto);
    assert!(
        header.contains("line 1: the header has no column path; it has file, label"),
        "{header}"
    );
    let group = told("csv", "path,label\n1,ok\n", GroupBy::Column("lot".to_owned()));
    assert!(group.contains("\"lot\""), "{group}");
}

#[test]
fn a_list_that_divides_a_group_is_refused() {
    let list = "path,label,split,group\n1,a,train,p\n2,a,val,p\n3,b,train,\n4,b,val,\n";
    let dataset = listed("csv", list, &GroupBy::Auto).unwrap();
    let error = dataset.check(&dataset.pictures).unwrap_err();
    assert!(matches!(&error, DatasetError::DividedGroup { group, .. } if group == "p"), "{error}");
}
