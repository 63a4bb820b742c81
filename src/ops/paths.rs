//! Where things are in a state directory.

use std::path::{Path, PathBuf};

/// A daemon's state directory. Relative paths of the configuration start here.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// root → `/var/lib/countersign`, anyone else → `$XDG_STATE_HOME/countersign` or `~/.local/state/countersign`.
    pub fn default_for_user() -> Self {
        if rustix::process::geteuid().is_root() {
            return Self::new("/var/lib/countersign");
        }
        let base = std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")))
            .unwrap_or_else(|| PathBuf::from("."));
        Self(base.join("countersign"))
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    /// `path` as it is when absolute, otherwise inside the state directory.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("countersign.toml")
    }

    pub fn lock(&self) -> PathBuf {
        self.0.join("daemon.lock")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.0.join("run/admin.sock")
    }

    pub fn agent_socket(&self) -> PathBuf {
        self.0.join("run/agent.sock")
    }

    pub fn ports(&self) -> PathBuf {
        self.0.join("run/ports.json")
    }

    /// The end of the last lease that was given to another party.
    pub fn leases(&self) -> PathBuf {
        self.root().join("run/leases.json")
    }

    pub fn anchors(&self) -> PathBuf {
        self.0.join("anchors")
    }

    pub fn certs(&self) -> PathBuf {
        self.0.join("certs")
    }

    pub fn receipts(&self) -> PathBuf {
        self.0.join("receipts")
    }
}
