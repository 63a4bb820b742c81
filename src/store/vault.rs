//! The vault's rows as they are listed: everything about a version but its value, which is sealed.

use crate::kernel::types::{CredentialName, KeyId, OperatorName, UnixMillis};
use crate::kernel::vault::{CredentialHead, SealedCredential, Terms, Way};

/// The most rows that one read answers, whatever was asked.
pub(super) const LINES_MAX: u32 = 10_000;

/// One version without its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialLine {
    pub name: CredentialName,
    pub version: u64,
    pub terms: Terms,
    pub made: UnixMillis,
    pub by: OperatorName,
    pub key: KeyId,
    pub way: Way,
}

/// What is known of a name, and its newest version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownCredential {
    pub head: CredentialHead,
    /// None: it was removed, or its row cannot be read as what was put there.
    pub newest: Option<SealedCredential>,
}

/// A place between two versions, in the order of names and numbers: as it stands in the store, which others may have
/// written to.
pub type CredentialPlace = (String, i64);

/// A row as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VaultRow<T> {
    pub place: CredentialPlace,
    /// None: it cannot be read as what was put there.
    pub row: Option<T>,
}

impl<T> VaultRow<T> {
    /// The name for people: one that is none is escaped.
    pub fn shown_name(&self) -> String {
        match self.place.0.parse::<CredentialName>() {
            Ok(name) => name.to_string(),
            Err(_) => self.place.0.escape_debug().to_string(),
        }
    }
}
