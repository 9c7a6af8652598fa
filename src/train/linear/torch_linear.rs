//! Import and export of a head's classifier as a PyTorch `torch.nn.Linear` in a safetensors file.

use std::collections::BTreeMap;

use crate::{
    head::{HeadContent, Linear},
    tensor_file::{self, NewTensor, TensorFile, TensorFileError},
};

/// Names in the `state_dict` of a `torch.nn.Linear`.
const WEIGHT: &str = "weight";
const BIAS: &str = "bias";

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ImportError {
    #[error(
        "not a torch.nn.Linear with {classes} labels and {width} features: {source}; write it with \
         safetensors.torch.save_file(linear.float().state_dict(), path)"
    )]
    Tensors { classes: usize, width: usize, source: TensorFileError },
    #[error("not a valid linear classifier: {detail}")]
    Shape { detail: String },
}

/// Exports `weight [classes, features]` and `bias [classes]`, bit for bit.
///
/// The metadata holds the labels and whatever else the tensors need to be understood. The private
/// layers of a deep head are included under torchvision's names.
///
/// # Errors
/// [`TensorFileError`] if the head's tensors do not match their shapes.
pub fn to_torch_linear(head: &HeadContent) -> Result<Vec<u8>, TensorFileError> {
    let labels: Vec<&str> = head.classes.iter().map(|class| &*class.label).collect();
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("task".to_owned(), head.task.to_string()),
        ("version".to_owned(), head.version.to_string()),
        ("labels".to_owned(), serde_json::json!(labels).to_string()),
        ("base".to_owned(), serde_json::json!(head.base).to_string()),
        ("features".to_owned(), head.features.to_string()),
        ("preprocess".to_owned(), serde_json::json!(head.preprocess).to_string()),
    ]);
    let (classes, width) = (head.linear.classes(), head.linear.width());
    let (weight_shape, bias_shape) = ([classes, width], [classes]);
    let mut tensors = vec![
        NewTensor { name: WEIGHT, shape: &weight_shape, values: head.linear.weight() },
        NewTensor { name: BIAS, shape: &bias_shape, values: head.linear.bias() },
    ];
    tensors.extend(
        head.branch.iter().flat_map(|weights| &weights.tensors).map(|(name, tensor)| NewTensor {
            name,
            shape: &tensor.shape,
            values: &tensor.values,
        }),
    );
    tensor_file::to_bytes(&tensors, &metadata)
}

/// Reads the classifier in such a file; its metadata is ignored.
///
/// # Errors
/// [`ImportError`] if the tensors are not exactly `weight [classes, width]` and `bias [classes]`,
/// or if they are not f32 or not finite.
pub fn from_torch_linear(
    bytes: &[u8],
    classes: usize,
    width: usize,
) -> Result<Linear, ImportError> {
    let read = || {
        let file = TensorFile::parse(bytes)?;
        file.refuse_others(|name| name == WEIGHT || name == BIAS)?;
        Ok((file.values(WEIGHT, &[classes, width])?, file.values(BIAS, &[classes])?))
    };
    let (weight, bias) =
        read().map_err(|source| ImportError::Tensors { classes, width, source })?;
    Linear::new(weight, bias, width)
        .map_err(|error| ImportError::Shape { detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_rejects_what_is_not_a_linear_of_that_shape() {
        let file = |name: &str, shape: &[usize], values: &[f32]| {
            let tensors = [
                NewTensor { name, shape, values },
                NewTensor { name: BIAS, shape: &[2], values: &[0.5, -0.5] },
            ];
            tensor_file::to_bytes(&tensors, &BTreeMap::new()).unwrap()
        };
        let whole = file(WEIGHT, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let linear = from_torch_linear(&whole, 2, 3).unwrap();
        assert_eq!(
            (linear.logits(&[1.0, 0.0, 0.0]), linear.bias()),
            (vec![1.5, 3.5], [0.5, -0.5].as_slice())
        );
        for (bytes, classes, width) in [
            (whole.clone(), 3, 3),
            (whole.clone(), 2, 4),
            (file("fc.weight", &[2, 3], &[0.0; 6]), 2, 3),
            (file(WEIGHT, &[2, 3], &[f32::NAN; 6]), 2, 3),
            (whole[..whole.len() - 1].to_vec(), 2, 3),
        ] {
            let error = from_torch_linear(&bytes, classes, width).unwrap_err().to_string();
            assert!(error.contains(&format!("{classes} labels and {width} features")), "{error}");
        }
    }
}
