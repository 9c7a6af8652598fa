//! safetensors files with text metadata, validated on reading and deterministic on writing.
//!
//! Reading checks what the format leaves open: exact names, shapes and element types, and finite
//! numbers.

use std::collections::{BTreeMap, HashMap};

use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorFileError {
    #[error("not a whole safetensors file: {detail}")]
    NotSafetensors { detail: String },
    #[error("tensor {name} is missing")]
    Missing { name: String },
    #[error("unexpected tensor {name}")]
    Unexpected { name: String },
    #[error("tensor {name} holds {found}, expected {expected}")]
    ElementType { name: String, expected: String, found: String },
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("tensor {name} is not finite: element {index} is {value}")]
    NotFinite { name: String, index: usize, value: f32 },
}

/// A parsed file; the tensors borrow its bytes.
#[derive(Debug)]
pub struct TensorFile<'bytes> {
    pub metadata: HashMap<String, String>,
    tensors: SafeTensors<'bytes>,
}

impl<'bytes> TensorFile<'bytes> {
    pub fn parse(bytes: &'bytes [u8]) -> Result<Self, TensorFileError> {
        let broken = |error: safetensors::SafeTensorError| TensorFileError::NotSafetensors {
            detail: error.to_string(),
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
        Ok(Self { metadata: header.metadata().clone().unwrap_or_default(), tensors })
    }

    /// Returns the tensor's shape, or `None` if the file lacks it.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.tensor(name).ok().map(|tensor| tensor.shape().to_vec())
    }

    /// Returns the values of an f32 tensor of exactly this shape, all of them finite.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TensorFileError> {
        let data = self.data(name, Dtype::F32, shape)?;
        let values: Vec<f32> =
            data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        finite(name, values)
    }

    /// Returns the values of an f16 tensor of exactly this shape, all of them finite, as f32.
    pub fn halves(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TensorFileError> {
        let data = self.data(name, Dtype::F16, shape)?;
        let values: Vec<f32> = data
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
            .collect();
        finite(name, values)
    }

    /// Returns the values of an i8 tensor of exactly this shape.
    pub fn codes(&self, name: &str, shape: &[usize]) -> Result<Vec<i8>, TensorFileError> {
        let data = self.data(name, Dtype::I8, shape)?;
        Ok(data.iter().map(|byte| byte.cast_signed()).collect())
    }

    /// Returns the values of a u8 tensor of exactly this shape.
    pub fn bytes(&self, name: &str, shape: &[usize]) -> Result<&'bytes [u8], TensorFileError> {
        self.data(name, Dtype::U8, shape)
    }

    fn data(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<&'bytes [u8], TensorFileError> {
        let name = || name.to_owned();
        let tensor =
            self.tensors.tensor(&name()).map_err(|_| TensorFileError::Missing { name: name() })?;
        if tensor.dtype() != dtype {
            let (expected, found) = (format!("{dtype:?}"), format!("{:?}", tensor.dtype()));
            return Err(TensorFileError::ElementType { name: name(), expected, found });
        }
        if tensor.shape() != shape {
            let (expected, found) = (shape.to_vec(), tensor.shape().to_vec());
            return Err(TensorFileError::Shape { name: name(), expected, found });
        }
        Ok(tensor.data())
    }

    /// Returns the names of the tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.tensors.names().into_iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    /// Fails on the first tensor, by name, that `expected` does not accept.
    pub fn refuse_others(&self, expected: impl Fn(&str) -> bool) -> Result<(), TensorFileError> {
        match self.tensors.names().into_iter().filter(|name| !expected(name)).min() {
            Some(name) => Err(TensorFileError::Unexpected { name: name.to_string() }),
            None => Ok(()),
        }
    }
}

fn finite(name: &str, values: Vec<f32>) -> Result<Vec<f32>, TensorFileError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => {
            Err(TensorFileError::NotFinite { name: name.to_owned(), index, value: values[index] })
        }
        None => Ok(values),
    }
}

/// An f32 tensor to be written, its values in row-major order.
#[derive(Debug, Clone, Copy)]
pub struct NewTensor<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub values: &'a [f32],
}

/// A tensor of 8-bit or 16-bit numbers to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewCodes<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub codes: Codes<'a>,
}

/// Signed or unsigned 8-bit integers, or 16-bit floats.
#[derive(Debug, Clone, Copy)]
pub enum Codes<'a> {
    Signed(&'a [i8]),
    Unsigned(&'a [u8]),
    Halves(&'a [f16]),
}

/// Serialises the tensors; the same content always gives the same bytes.
///
/// The library itself writes the metadata in the random order of a hash map.
///
/// # Errors
/// [`TensorFileError::NotSafetensors`] if a shape does not fit its values.
pub fn to_bytes(
    tensors: &[NewTensor<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, TensorFileError> {
    to_bytes_with_codes(tensors, &[], metadata)
}

/// Serialises like [`to_bytes`], and tensors of 8-bit and 16-bit numbers too.
///
/// # Errors
/// As [`to_bytes`].
pub fn to_bytes_with_codes(
    tensors: &[NewTensor<'_>],
    codes: &[NewCodes<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, TensorFileError> {
    let broken = |detail: String| TensorFileError::NotSafetensors { detail };
    let of_tensor = |tensor: &NewTensor<'_>| -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 * tensor.values.len());
        tensor.values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        bytes
    };
    let of_codes = |codes: Codes<'_>| match codes {
        Codes::Signed(codes) => {
            (Dtype::I8, codes.iter().map(|code| code.cast_unsigned()).collect())
        }
        Codes::Unsigned(codes) => (Dtype::U8, codes.to_vec()),
        Codes::Halves(values) => {
            (Dtype::F16, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
    };
    let tensors =
        tensors.iter().map(|tensor| (tensor.name, Dtype::F32, tensor.shape, of_tensor(tensor)));
    let codes = codes.iter().map(|tensor| {
        let (dtype, bytes) = of_codes(tensor.codes);
        (tensor.name, dtype, tensor.shape, bytes)
    });
    let data: Vec<(&str, Dtype, &[usize], Vec<u8>)> = tensors.chain(codes).collect();
    let views = data
        .iter()
        .map(|(name, dtype, shape, data)| {
            let view = TensorView::new(*dtype, shape.to_vec(), data);
            view.map(|view| (*name, view)).map_err(|error| broken(format!("{name}: {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let bytes = safetensors::serialize(
        views,
        Some(metadata.clone().into_iter().collect::<HashMap<_, _>>()),
    )
    .map_err(|error| broken(error.to_string()))?;
    with_sorted_header(&bytes).map_err(|error| broken(error.to_string()))
}

/// Adds or replaces one metadata key; the tensors stay byte for byte.
///
/// # Errors
/// [`TensorFileError::NotSafetensors`] if `bytes` is not a safetensors file.
pub fn with_metadata(bytes: &[u8], key: &str, value: &str) -> Result<Vec<u8>, TensorFileError> {
    let mut metadata = TensorFile::parse(bytes)?.metadata;
    metadata.insert(key.to_owned(), value.to_owned());
    let broken = |error: &dyn std::fmt::Display| TensorFileError::NotSafetensors {
        detail: error.to_string(),
    };
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?.tensors();
    let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|error| broken(&error))?;
    with_sorted_header(&bytes).map_err(|error| broken(&error))
}

/// Rewrites the header in a fixed order: this map and serde_json's own are sorted by key.
fn with_sorted_header(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("no header")?;
    let (header, data) =
        rest.split_at_checked(u64::from_le_bytes(*length).try_into()?).ok_or("truncated header")?;
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header)?;
    let mut header = serde_json::to_vec(&header)?;
    // The format requires the data aligned to 8 bytes and allows trailing spaces in the header.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes(), header.as_slice(), data].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(values: &[f32]) -> Vec<u8> {
        let metadata = ["b", "a", "z", "k"].map(|key| (key.to_owned(), key.repeat(2))).into();
        to_bytes(&[NewTensor { name: "w", shape: &[1, values.len()], values }], &metadata).unwrap()
    }

    #[test]
    fn file_round_trips_and_is_deterministic() {
        let bytes = file(&[1.0, -2.5]);
        assert_eq!(bytes, file(&[1.0, -2.5]));
        let parsed = TensorFile::parse(&bytes).unwrap();
        assert_eq!(parsed.values("w", &[1, 2]), Ok(vec![1.0, -2.5]));
        assert_eq!(parsed.metadata["k"], "kk");
    }

    #[test]
    fn adding_a_metadata_key_changes_no_tensor() {
        let with_key = with_metadata(&file(&[1.0, -2.5]), "new", "value").unwrap();
        let parsed = TensorFile::parse(&with_key).unwrap();
        assert_eq!(parsed.values("w", &[1, 2]), Ok(vec![1.0, -2.5]));
        assert_eq!(
            (parsed.metadata["new"].as_str(), parsed.metadata["k"].as_str()),
            ("value", "kk")
        );
    }

    #[test]
    fn wrong_shapes_types_names_and_values_are_rejected() {
        let bytes = file(&[1.0, f32::NAN]);
        let parsed = TensorFile::parse(&bytes).unwrap();
        assert!(matches!(parsed.values("w", &[2]), Err(TensorFileError::Shape { .. })));
        assert!(matches!(
            parsed.values("w", &[1, 2]),
            Err(TensorFileError::NotFinite { index: 1, .. })
        ));
        assert!(matches!(parsed.values("v", &[1, 2]), Err(TensorFileError::Missing { .. })));
        assert!(matches!(parsed.codes("w", &[1, 2]), Err(TensorFileError::ElementType { .. })));
        assert!(parsed.refuse_others(|name| name == "w").is_ok());
        assert!(parsed.refuse_others(|name| name == "v").is_err());
    }

    #[test]
    fn file_truncated_at_any_byte_is_rejected() {
        let bytes = file(&[1.0, 2.0, 3.0]);
        for length in 0..bytes.len() {
            assert!(
                TensorFile::parse(&bytes[..length]).is_err(),
                "a file truncated at {length} was accepted"
            );
        }
    }
}
