use std::{os::unix::fs::FileExt, path::PathBuf};

use safetensors::{Dtype, tensor::TensorView};

use super::*;

/// The same state dict in every supported format.
const FORMATS: [&str; 3] = ["zip.pth", "legacy.pth", "plain.safetensors"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints").join(name)
}

/// Reads every tensor under its own name.
fn read_checkpoint(path: &Path) -> Result<BTreeMap<String, NamedTensor>, CheckpointError> {
    Checkpoint::open(path)?.read_under("", |_| true)
}

fn read_bytes(bytes: &[u8]) -> Result<BTreeMap<String, NamedTensor>, CheckpointError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    fs_err::write(&path, bytes).unwrap();
    read_checkpoint(&path)
}

/// Returns a copy that the test may corrupt.
fn copy_of(name: &str) -> (tempfile::TempDir, PathBuf, File) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    std::fs::copy(golden(name), &path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    (folder, path, file)
}

fn error_of(bytes: &[u8]) -> CheckpointError {
    read_bytes(bytes).unwrap_err()
}

/// Returns the tensors that `tools/parity/write_golden.py` writes.
fn expected() -> BTreeMap<String, NamedTensor> {
    let weight = (0..24u8).map(|index| f32::from(index) / 8.0).collect();
    BTreeMap::from([
        ("conv1.weight".to_owned(), NamedTensor { shape: vec![2, 3, 2, 2], values: weight }),
        ("bn1.running_var".to_owned(), NamedTensor { shape: vec![2], values: vec![0.5, 1.5] }),
    ])
}

#[test]
fn formats_yield_the_same_row_major_tensors() {
    for name in FORMATS {
        assert_eq!(read_checkpoint(&golden(name)).unwrap(), expected(), "{name}");
    }
}

#[test]
fn prefix_selects_the_weights_among_the_training_state() {
    let training = || Checkpoint::open(&golden("training.pth")).unwrap();
    let weights = training().read_under("state_dict.module.", |_| true).unwrap();
    assert_eq!(weights, expected());
    let one = training().read_under("state_dict.module.", |name| name == "conv1.weight").unwrap();
    assert_eq!(one.keys().collect::<Vec<_>>(), ["conv1.weight"]);
}

#[test]
fn names_are_those_of_the_file() {
    let checkpoint = Checkpoint::open(&golden("both_names.pth")).unwrap();
    let names: Vec<&str> = checkpoint.tensors().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["bn1.running_var", "conv1.weight", "module.conv1.weight"]);
}

#[test]
fn format_is_detected_from_content_not_name() {
    for name in FORMATS {
        assert_eq!(read_bytes(&fs_err::read(golden(name)).unwrap()).unwrap(), expected(), "{name}");
    }
}

#[test]
fn rejects_other_element_types_and_names_the_tensor() {
    let error = read_checkpoint(&golden("half.pth")).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::ElementType { tensor, expected: "F32", found, .. }
            if found == "F16" && tensor == "bn1.running_var"),
        "{error}"
    );
    assert!(error.to_string().contains("model.float()"), "{error}");
    for (dtype, width) in [(Dtype::F64, 8), (Dtype::BF16, 2), (Dtype::I64, 8)] {
        let error = error_of(&safetensors_file("conv1.weight", dtype, 2, &vec![0; 2 * width]));
        assert!(matches!(&error, CheckpointError::ElementType { found, tensor, .. }
            if *found == format!("{dtype:?}") && tensor == "conv1.weight"));
    }
}

#[test]
fn rejects_non_finite_values_and_says_where() {
    let error = read_checkpoint(&golden("not_a_number.pth")).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::NotFinite { tensor, index: 1, found, .. }
            if tensor == "bn1.running_var" && found.is_nan()),
        "{error}"
    );
    let infinite: Vec<u8> =
        [1.0, f32::INFINITY].iter().flat_map(|value| value.to_le_bytes()).collect();
    let error = error_of(&safetensors_file("bn1.bias", Dtype::F32, 2, &infinite));
    assert!(matches!(error, CheckpointError::NotFinite { index: 1, .. }), "{error}");
}

#[test]
fn pickle_with_a_command_executes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("executed");
    let pickle = format!("cos\nsystem\n(Vtouch {}\ntR.", marker.display());
    let error = error_of(pickle.as_bytes()).to_string();
    assert!(error.contains("os.system"), "{error}");
    let in_dictionary = format!("(dVconv1.weight\ncos\nsystem\n(Vtouch {}\ntRs.", marker.display());
    let error = error_of(in_dictionary.as_bytes());
    assert!(matches!(error, CheckpointError::NoTensors { .. }), "{error}");
    assert!(!marker.exists());

    // In a complete checkpoint the call is skipped and the tensors are read.
    let tensors = read_checkpoint(&golden("runs_a_command.pth")).unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["bn1.running_var"]);
    assert!(!Path::new("turret-executed-a-pickle").exists());
}

#[test]
fn truncated_file_is_always_an_error() {
    for name in FORMATS {
        let (_folder, path, file) = copy_of(name);
        for length in (0..file.metadata().unwrap().len()).rev() {
            file.set_len(length).unwrap();
            assert!(read_checkpoint(&path).is_err(), "{name} cut to {length} bytes");
        }
    }
}

#[test]
fn damaged_file_never_yields_a_shape_without_its_values() {
    for name in FORMATS {
        let (_folder, path, file) = copy_of(name);
        for (offset, byte) in (0u64..).zip(fs_err::read(&path).unwrap()) {
            file.write_all_at(&[byte ^ (1 << (offset % 8))], offset).unwrap();
            for tensor in read_checkpoint(&path).unwrap_or_default().values() {
                assert_eq!(
                    tensor.values.len(),
                    tensor.shape.iter().product::<usize>(),
                    "{name} at {offset}"
                );
            }
            file.write_all_at(&[byte], offset).unwrap();
        }
    }
}

#[test]
fn error_says_what_a_non_checkpoint_is() {
    assert!(matches!(error_of(b""), CheckpointError::Empty { .. }));
    assert!(matches!(
        error_of(b"\n<!DOCTYPE html><html>Not found</html>"),
        CheckpointError::WebPage { .. }
    ));
    for text in
        ["conv1.weight 0.5 0.25\n", "version https://git-lfs.github.com/spec/v1\n", "(a list)"]
    {
        let error = error_of(text.as_bytes());
        assert!(matches!(error, CheckpointError::Pytorch { .. }), "{text}: {error}");
    }
    // The end record of a zip archive without entries.
    let empty_archive = [b"PK\x05\x06".as_slice(), &[0; 18]].concat();
    let error = error_of(&empty_archive).to_string();
    assert!(error.contains("data.pkl") && error.contains("torch.save"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(read_checkpoint(folder.path()), Err(CheckpointError::NotAFile { .. })));
    let missing = folder.path().join("missing.pth");
    let error = read_checkpoint(&missing).unwrap_err().to_string();
    assert!(error.contains("missing.pth"), "{error}");
    assert!(matches!(error_of(&empty_safetensors()), CheckpointError::NoTensors { .. }));
}

#[test]
fn rejects_a_huge_file_before_reading_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.pth");
    File::create(&path).unwrap().set_len(MAX_CHECKPOINT_BYTES + 1).unwrap();
    assert!(matches!(read_checkpoint(&path), Err(CheckpointError::TooLarge { found, .. })
        if found == MAX_CHECKPOINT_BYTES + 1));
}

#[test]
fn rejects_a_small_file_with_a_huge_tensor() {
    let error = read_checkpoint(&golden("expanded.pth")).unwrap_err();
    assert!(
        matches!(error, CheckpointError::TooLarge { found, .. } if found == 4 << 30),
        "{error}"
    );
}

fn safetensors_file(name: &str, dtype: Dtype, length: usize, bytes: &[u8]) -> Vec<u8> {
    let view = TensorView::new(dtype, vec![length], bytes).unwrap();
    safetensors::serialize([(name, view)], None).unwrap()
}

fn empty_safetensors() -> Vec<u8> {
    let none: [(&str, TensorView<'_>); 0] = [];
    safetensors::serialize(none, None).unwrap()
}
