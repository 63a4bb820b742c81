//! A place for what a measurement makes.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::ops::clock;
use crate::ops::failure::Failure;

/// A directory that only this user can enter, gone when dropped.
pub struct Directory(PathBuf);

impl Directory {
    /// A new one inside `parent`.
    ///
    /// # Errors
    /// `bench_failed` when it cannot be made there.
    pub fn make(parent: &Path) -> Result<Self, Failure> {
        let path = parent.join(format!("countersign-bench-{}", hex::encode(clock::random::<8>())));
        private_directory(&path).map_err(|error| unusable(&path, &error))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, directory = %self.0.display(), "the temporary directory could not be removed");
        }
    }
}

pub fn private_directory(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

pub fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::fault("bench_failed", format!("{}: {error}", path.display()), "check the directory and its free space")
}
