//! Identifiers: a task, a version of its head, the digest of a file.

use std::{fmt, str::FromStr, sync::Arc};

/// Longest task name, in bytes.
pub const MAX_TASK_NAME: usize = 63;

/// A task's name, `[a-z0-9][a-z0-9._-]{0,62}`: safe as a folder name, file name and metric label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskName(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid task name {name:?}, expected 1 to {MAX_TASK_NAME} of the characters a-z 0-9 . _ -, \
     the first a letter or digit"
)]
pub struct InvalidTaskName {
    pub name: String,
}

impl TaskName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name under which pictures of `Embed` wait; no task can have it.
    pub fn of_embed() -> Self {
        Self("(Embed)".into())
    }
}

impl FromStr for TaskName {
    type Err = InvalidTaskName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let first_is_valid =
            name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rest_is_valid = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        if first_is_valid && rest_is_valid && name.len() <= MAX_TASK_NAME {
            Ok(Self(name.into()))
        } else {
            // A name from the network may be megabytes long: quote only its start.
            Err(InvalidTaskName { name: name.chars().take(MAX_TASK_NAME + 1).collect() })
        }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl serde::Serialize for TaskName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for TaskName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// A head's version within its task, counted from 1.
pub type Version = u64;

/// The SHA-256 of a file or of tensors, written in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid SHA-256 digest {text:?}, expected 64 hexadecimal digits")]
pub struct InvalidDigest {
    pub text: String,
}

impl Digest {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first twelve digits, enough to tell files apart by eye.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| InvalidDigest { text: text.chars().take(65).collect() })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_name_accepts_what_is_safe_as_folder_and_label() {
        for name in ["a", "0", "bracket-left", "line_3.cam.2", &"x".repeat(63)] {
            assert_eq!(name.parse::<TaskName>().map(|t| t.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn task_name_rejects_what_could_leave_or_hide_in_its_folder() {
        for name in
            ["", ".", "..", ".hidden", "-flag", "Upper", "a/b", "a b", "ä", "a\0", &"x".repeat(64)]
        {
            assert!(name.parse::<TaskName>().is_err(), "{name:?} was accepted");
        }
    }

    #[test]
    fn digest_round_trips_through_text() {
        let digest = Digest::of(b"turret");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("abc".parse::<Digest>().is_err());
    }
}
