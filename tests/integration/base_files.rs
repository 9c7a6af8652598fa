//! Base files: imported from checkpoints, checked when loaded.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, tensor::TensorView};
use turret::base::{Architecture, BaseWeights, BatchNormStatistics, WeightsError};

fn random_base() -> BaseWeights {
    BaseWeights::random(Architecture::ResNet18, 3, BatchNormStatistics::Random)
}

/// Maps a tensor's name and shape to its new shape; `None` leaves the tensor out.
type Change = dyn Fn(&str, Vec<usize>) -> Option<Vec<usize>>;

/// Writes a ResNet18 checkpoint of zeros with some tensors changed.
fn checkpoint(folder: &Path, change: &Change) -> PathBuf {
    let parameters = Architecture::ResNet18.parameters();
    let changed = parameters
        .into_iter()
        .filter_map(|(name, shape)| Some((change(&name, shape.clone())?, name)));
    zeros(folder, changed.map(|(shape, name)| (name, Dtype::F32, shape)).collect())
}

/// Writes a checkpoint of zeros.
fn zeros(folder: &Path, tensors: Vec<(String, Dtype, Vec<usize>)>) -> PathBuf {
    let path = folder.join("checkpoint.safetensors");
    let length =
        |dtype: Dtype, shape: &[usize]| shape.iter().product::<usize>() * dtype.bitsize() / 8;
    let data: Vec<Vec<u8>> =
        tensors.iter().map(|(_, dtype, shape)| vec![0; length(*dtype, shape)]).collect();
    let views = tensors.iter().zip(&data).map(|((name, dtype, shape), data)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    fs_err::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
}

/// Returns the network's tensors with this prefix.
fn network(prefix: &str, architecture: Architecture) -> Vec<(String, Dtype, Vec<usize>)> {
    let parameters = architecture.parameters().into_iter();
    parameters.map(|(name, shape)| (format!("{prefix}{name}"), Dtype::F32, shape)).collect()
}

#[test]
fn base_file_round_trips_and_imports_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.safetensors");
    random_base().save(&path).unwrap();
    let loaded = BaseWeights::load(&path).unwrap();
    assert_eq!(loaded.identity(), random_base().identity());
    assert_eq!(BaseWeights::import(&path).unwrap().identity(), random_base().identity());
    assert!(matches!(random_base().save(&path), Err(WeightsError::Exists { .. })));
}

#[test]
fn damaged_base_file_is_told_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.safetensors");
    random_base().save(&path).unwrap();
    let mut bytes = fs_err::read(&path).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs_err::write(&path, &bytes).unwrap();
    assert!(matches!(BaseWeights::load(&path), Err(WeightsError::Damaged { .. })));
    fs_err::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(BaseWeights::load(&path), Err(WeightsError::NotABase { .. })));
}

#[test]
fn import_names_a_missing_or_misshapen_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let import = |change: &Change| {
        BaseWeights::import(&checkpoint(folder.path(), change))
            .map(|weights| weights.architecture())
    };
    assert_eq!(import(&|_, shape| Some(shape)).unwrap(), Architecture::ResNet18);
    let missing =
        import(&|name, shape| (name != "layer2.0.bn1.running_var").then_some(shape)).unwrap_err();
    assert!(
        missing.to_string().contains("tensor layer2.0.bn1.running_var is missing"),
        "{missing}"
    );
    let stem_only = import(&|name, shape| (name == "conv1.weight").then_some(shape)).unwrap_err();
    let told = "the nearest is resnet18: 99 of 100 tensors are missing, such as bn1.bias";
    assert!(stem_only.to_string().contains(told), "{stem_only}");
    let other =
        import(&|name, shape| Some(if name == "bn1.bias" { vec![1] } else { shape })).unwrap_err();
    assert!(other.to_string().contains("bn1.bias has shape [1], expected [64]"), "{other}");
    let not_a_base = BaseWeights::load(&folder.path().join("checkpoint.safetensors")).unwrap_err();
    assert!(not_a_base.to_string().contains("turret base import"), "{not_a_base}");
}

#[test]
fn bundled_base_is_a_resnet34_of_at_most_24_mib() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/base-textures.safetensors");
    assert_eq!(BaseWeights::load(&path).unwrap().architecture(), Architecture::ResNet34);
    assert!(fs_err::metadata(&path).unwrap().len() <= 24 << 20);
}

#[test]
fn network_is_imported_from_under_a_prefix_and_beside_anything() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = network("state_dict.module.encoder_q.", Architecture::ResNet18);
    tensors.extend(
        [
            // A head of another size and type, and a training state.
            ("state_dict.module.encoder_q.fc.weight", Dtype::F16, vec![3, 512]),
            ("state_dict.module.encoder_q.bn1.num_batches_tracked", Dtype::I64, vec![]),
            ("state_dict.module.queue", Dtype::F64, vec![128, 4]),
            ("optimizer.state.0.exp_avg", Dtype::F64, vec![2]),
        ]
        .map(|(name, dtype, shape)| (name.to_owned(), dtype, shape)),
    );
    let weights = BaseWeights::import(&zeros(folder.path(), tensors)).unwrap();
    assert_eq!(weights.architecture(), Architecture::ResNet18);
    let origin = weights.origin();
    assert!(origin.ends_with("under the prefix state_dict.module.encoder_q."), "{origin}");
}
