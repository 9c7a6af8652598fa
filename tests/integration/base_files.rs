//! Base files: imported from checkpoints, checked when loaded.

use std::path::Path;

use turret::base::{Architecture, BaseWeights, BatchNormStatistics, WeightsError};

fn random_base() -> BaseWeights {
    BaseWeights::random(Architecture::ResNet18, 3, BatchNormStatistics::Random)
}

/// Maps a tensor's name and shape to its new shape; `None` leaves the tensor out.
type Change = dyn Fn(&str, Vec<usize>) -> Option<Vec<usize>>;

/// Writes a ResNet18 checkpoint of zeros with some tensors changed.
fn checkpoint(folder: &Path, change: &Change) -> std::path::PathBuf {
    let path = folder.join("checkpoint.safetensors");
    let parameters = Architecture::ResNet18.parameters();
    let shapes = parameters
        .into_iter()
        .filter_map(|(name, shape)| Some((change(&name, shape.clone())?, name)));
    let shapes: Vec<_> = shapes.collect();
    let data: Vec<Vec<u8>> =
        shapes.iter().map(|(shape, _)| vec![0; shape.iter().product::<usize>() * 4]).collect();
    let views = shapes.iter().zip(&data).map(|((shape, name), data)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data)
                .unwrap();
        (name.clone(), view)
    });
    fs_err::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
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
