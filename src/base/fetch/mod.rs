//! Fetches torchvision's published weights: resumable, checked, and whole or not at all.

mod download;
mod error;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use download::{Download, Network};
pub use error::FetchError;

use crate::ids::Digest;

/// A file of pretrained weights that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownWeights {
    /// The architecture and, after it, torchvision's name for the set of weights.
    pub name: &'static str,
    pub file: &'static str,
    pub url: &'static str,
    /// First hexadecimal digits of the file's SHA-256, with which torchvision ends the name.
    pub sha256_prefix: &'static str,
    /// The architecture that the file fits.
    pub architecture_name: &'static str,
}

/// torchvision's `IMAGENET1K_V1` of `ResNet34_Weights`, `ResNet18_Weights` and `VGG16_Weights`.
pub const KNOWN: &[KnownWeights] = &[
    KnownWeights {
        name: "resnet34-imagenet1k-v1",
        file: "resnet34-b627a593.pth",
        url: "https://download.pytorch.org/models/resnet34-b627a593.pth",
        sha256_prefix: "b627a593",
        architecture_name: "resnet34",
    },
    KnownWeights {
        name: "resnet18-imagenet1k-v1",
        file: "resnet18-f37072fd.pth",
        url: "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        sha256_prefix: "f37072fd",
        architecture_name: "resnet18",
    },
    KnownWeights {
        name: "vgg16-imagenet1k-v1",
        file: "vgg16-397923af.pth",
        url: "https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256_prefix: "397923af",
        architecture_name: "vgg16",
    },
];

impl KnownWeights {
    /// Finds known weights by name.
    ///
    /// # Errors
    /// [`FetchError::UnknownName`], which lists the known names.
    pub fn named(name: &str) -> Result<&'static Self, FetchError> {
        KNOWN.iter().find(|weights| weights.name == name).ok_or_else(|| FetchError::UnknownName {
            found: name.to_owned(),
            expected: KNOWN.iter().map(|weights| weights.name).collect::<Vec<_>>().join(", "),
        })
    }

    fn is_digest_right(&self, digest: Digest) -> bool {
        digest.to_string().starts_with(self.sha256_prefix)
    }
}

/// Bytes received so far, earlier runs included, and the total if the server states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub received: u64,
    pub total: Option<u64>,
}

/// One file to fetch into a folder.
#[derive(Debug, Clone)]
pub struct Fetch<'a> {
    pub weights: &'a KnownWeights,
    /// Where to fetch from instead, e.g. a mirror inside the factory.
    pub url_override: Option<String>,
    pub directory: &'a Path,
}

impl Fetch<'_> {
    /// Returns the path of the complete, checked file; fetches nothing if it already exists.
    ///
    /// Data stays in `<file>.part` until complete, so a later call resumes where this one stopped.
    /// The proxy comes from `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY`, exceptions from `NO_PROXY`.
    ///
    /// # Errors
    /// [`FetchError`]; the part is deleted after [`FetchError::Digest`] and kept after any other.
    pub fn fetch(&self, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
        self.fetch_over(&Network::from_env(), progress)
    }

    fn fetch_over(
        &self,
        network: &Network,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, FetchError> {
        let target = self.directory.join(self.weights.file);
        let part_path = self.directory.join(format!("{}.part", self.weights.file));
        fs::create_dir_all(self.directory).map_err(file_error(self.directory))?;
        if self.is_complete(&target)? {
            return Ok(target);
        }
        let mut part = open_locked(&part_path)?;
        let url = self.url_override.as_deref().unwrap_or(self.weights.url);
        let mut download = Download {
            url,
            file_name: self.weights.file,
            part: &mut part,
            part_path: &part_path,
            progress,
        };
        download.run(network)?;
        part.sync_all().map_err(file_error(&part_path))?;
        let found = digest_of(&mut part).map_err(file_error(&part_path))?;
        if !self.weights.is_digest_right(found) {
            fs::remove_file(&part_path).map_err(file_error(&part_path))?;
            let (url, expected) = (url.to_owned(), self.weights.sha256_prefix);
            return Err(FetchError::Digest { url, expected, found });
        }
        fs::rename(&part_path, &target).map_err(file_error(&target))?;
        let directory = File::open(self.directory).map_err(file_error(self.directory))?;
        directory.sync_all().map_err(file_error(self.directory))?;
        Ok(target)
    }

    /// Returns whether the target is complete; other content counts as damaged and is replaced.
    fn is_complete(&self, target: &Path) -> Result<bool, FetchError> {
        match File::open(target) {
            Ok(mut file) => digest_of(&mut file)
                .map(|d| self.weights.is_digest_right(d))
                .map_err(file_error(target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(file_error(target)(error)),
        }
    }
}

/// Opens and locks the part: two processes appending to it would fail only at the digest.
fn open_locked(part_path: &Path) -> Result<File, FetchError> {
    let part = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(part_path)
        .map_err(file_error(part_path))?;
    match part.try_lock() {
        // Some network file systems lack locks; there the digest is the only guard.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(part),
        Err(TryLockError::WouldBlock) => Err(FetchError::Busy { path: part_path.to_owned() }),
    }
}

fn digest_of(file: &mut File) -> io::Result<Digest> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            length => hasher.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    |source| FetchError::File { path: path.to_owned(), source }
}
