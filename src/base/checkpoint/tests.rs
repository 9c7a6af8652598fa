use std::{os::unix::fs::FileExt, path::PathBuf};

use safetensors::{Dtype, tensor::TensorView};

use super::*;

/// One state dict in all that is read.
const FORMATS: [&str; 3] = ["zip.pth", "legacy.pth", "plain.safetensors"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints").join(name)
}

fn read_bytes(bytes: &[u8]) -> Result<BTreeMap<String, NamedTensor>, CheckpointError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    fs_err::write(&path, bytes).unwrap();
    read_checkpoint(&path)
}

/// A copy that the test may spoil.
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

/// The tensors of `tools/parity/write_golden.py`.
fn expected() -> BTreeMap<String, NamedTensor> {
    let weight = (0..24u8).map(|index| f32::from(index) / 8.0).collect();
    BTreeMap::from([
        ("conv1.weight".to_owned(), NamedTensor { shape: vec![2, 3, 2, 2], values: weight }),
        ("bn1.running_var".to_owned(), NamedTensor { shape: vec![2], values: vec![0.5, 1.5] }),
    ])
}

#[test]
fn every_format_gives_the_same_tensors_in_row_major_order() {
    for name in FORMATS {
        assert_eq!(read_checkpoint(&golden(name)).unwrap(), expected(), "{name}");
    }
}

#[test]
fn weights_are_found_in_a_training_state_and_freed_of_their_data_parallel_prefix() {
    assert_eq!(read_checkpoint(&golden("training.pth")).unwrap(), expected());
}

#[test]
fn the_format_is_told_from_the_content_and_not_from_the_name() {
    for name in FORMATS {
        assert_eq!(read_bytes(&fs_err::read(golden(name)).unwrap()).unwrap(), expected(), "{name}");
    }
}

#[test]
fn refuses_half_precision_and_names_the_tensor() {
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
fn refuses_numbers_that_are_not_finite_and_says_where() {
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
fn refuses_two_tensors_that_end_up_with_one_name() {
    let error = read_checkpoint(&golden("both_names.pth")).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Duplicate { tensor, .. } if tensor == "conv1.weight"),
        "{error}"
    );
}

#[test]
fn a_pickle_that_wants_to_run_a_command_is_data_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("executed");
    let pickle = format!("cos\nsystem\n(Vtouch {}\ntR.", marker.display());
    let error = error_of(pickle.as_bytes()).to_string();
    assert!(error.contains("os.system"), "{error}");
    let in_dictionary = format!("(dVconv1.weight\ncos\nsystem\n(Vtouch {}\ntRs.", marker.display());
    let error = error_of(in_dictionary.as_bytes());
    assert!(matches!(error, CheckpointError::NoTensors { .. }), "{error}");
    assert!(!marker.exists());

    // In a whole checkpoint the call is passed over and what is a tensor is read.
    let tensors = read_checkpoint(&golden("runs_a_command.pth")).unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["bn1.running_var"]);
    assert!(!Path::new("turret-executed-a-pickle").exists());
}

#[test]
fn every_truncated_file_is_an_error() {
    for name in FORMATS {
        let (_folder, path, file) = copy_of(name);
        for length in (0..file.metadata().unwrap().len()).rev() {
            file.set_len(length).unwrap();
            assert!(read_checkpoint(&path).is_err(), "{name} cut to {length} bytes");
        }
    }
}

#[test]
fn a_damaged_file_never_gives_a_shape_that_its_values_do_not_fill() {
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
fn files_that_are_no_checkpoint_are_named_for_what_they_are() {
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
fn refuses_a_file_that_would_fill_memory_before_reading_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.pth");
    File::create(&path).unwrap().set_len(MAX_CHECKPOINT_BYTES + 1).unwrap();
    assert!(matches!(read_checkpoint(&path), Err(CheckpointError::TooLarge { found, .. })
        if found == MAX_CHECKPOINT_BYTES + 1));
}

#[test]
fn refuses_a_small_file_whose_tensor_claims_to_be_huge() {
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
