//! Credentials of the systems behind us, as the vault keeps them: sealed under a key of the HSM, version by version.
//!
//! What a row says besides its value is sealed with it: [`SealedCredential::context`] is the associated data of
//! AES-256-GCM (NIST SP 800-38D), so that a row that was renamed, exchanged with another one, given other readers or a
//! later end, or brought here from another party's store does not open.

mod way;

pub use way::{Oaep, Way};

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kernel::command::Actor;
use crate::kernel::types::{
    CredentialName, KeyId, Malformed, OperatorName, PartyName, ServiceName, Sha256, UnixMillis,
};

/// The most bytes of one value: keys and passwords, and the certificate chains that some systems want beside them.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The most versions of one credential that are kept at a time.
pub const VERSIONS_MAX: u32 = 100;
/// The most credentials of one vault.
pub const CREDENTIALS_MAX: u32 = 10_000;
/// The most names that it ever had: what was removed leaves its number behind, so that none is given twice.
pub const NAMES_MAX: u32 = 100_000;
/// The most readers of one version.
pub const READERS_MAX: usize = 32;
/// The longest description, bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 256;

/// Who may read a credential. Nobody is a reader by being an administrator.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Reader {
    /// One person of the party.
    Operator(OperatorName),
    /// Everybody who has this role.
    Role(ReaderRole),
    /// A part of the daemon itself.
    Service(ServiceName),
}

/// A role of people that may be named as reader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ReaderRole {
    Administrator,
    Approver,
    Auditor,
    Officer,
}

impl ReaderRole {
    const ALL: [Self; 4] = [Self::Administrator, Self::Approver, Self::Auditor, Self::Officer];

    fn name(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
            Self::Officer => "officer",
        }
    }
}

impl Reader {
    fn is(&self, actor: &Actor) -> bool {
        match (self, actor) {
            (Self::Operator(name), Actor::Operator(operator)) => *name == operator.name,
            (Self::Role(role), Actor::Operator(operator)) => operator.roles.iter().any(|own| own == role.name()),
            (Self::Service(service), Actor::System { component }) => service.as_str() == component,
            (Self::Operator(_) | Self::Role(_), Actor::Agent(_) | Actor::Program(_) | Actor::System { .. })
            | (Self::Service(_), Actor::Agent(_) | Actor::Program(_) | Actor::Operator(_)) => false,
        }
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Role(role) => write!(f, "role:{}", role.name()),
            Self::Service(service) => write!(f, "service:{service}"),
        }
    }
}

impl FromStr for Reader {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed {
            what: "reader",
            expected: "operator:<name>, service:<name> or role:<administrator, approver, auditor or officer>",
        };
        match text.split_once(':') {
            Some(("operator", name)) => name.parse().map(Self::Operator).map_err(|_| malformed),
            Some(("service", name)) => name.parse().map(Self::Service).map_err(|_| malformed),
            Some(("role", role)) => {
                ReaderRole::ALL.into_iter().find(|known| known.name() == role).map(Self::Role).ok_or(malformed)
            }

            Some(_) | None => Err(malformed),
        }
    }
}

impl From<Reader> for String {
    fn from(reader: Reader) -> Self {
        reader.to_string()
    }
}

impl TryFrom<String> for Reader {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

/// What is laid down about a version: for what it is, for whom, until when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    pub description: String,
    pub readers: BTreeSet<Reader>,
    /// Not read at or after it. None: until it is removed.
    pub expires: Option<UnixMillis>,
}

impl Terms {
    /// What is wrong with them, in words.
    ///
    /// # Errors
    /// The first rule that they break.
    pub fn check(&self) -> Result<(), Malformed> {
        let plain = self.description.len() <= DESCRIPTION_BYTES_MAX && !self.description.chars().any(char::is_control);
        if !plain {
            return Err(Malformed { what: "description", expected: "one line of at most 256 bytes" });
        }
        if !(1..=READERS_MAX).contains(&self.readers.len()) {
            return Err(Malformed {
                what: "readers",
                expected: "1 to 32: a credential that nobody reads is of no use",
            });
        }
        Ok(())
    }

    /// Whether one of the readers is this actor.
    pub fn let_read(&self, actor: &Actor) -> bool {
        self.readers.iter().any(|reader| reader.is(actor))
    }

    pub fn is_over(&self, now: UnixMillis) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }
}

/// Whose vault it is: what is sealed in one opens in no other, even under the same key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VaultPlace {
    pub trust_domain: String,
    pub party: PartyName,
}

/// One version of a credential, as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedCredential {
    pub name: CredentialName,
    /// 1, 2, …: never given twice for one name.
    pub version: u64,
    pub terms: Terms,
    pub made: UnixMillis,
    /// The operator who gave the value.
    pub by: OperatorName,
    /// The wrapping key under which it is sealed.
    pub key: KeyId,
    /// As the HSM answered it: opaque here.
    pub sealed: Vec<u8>,
}

/// The tag of what is authenticated with a value.
const CONTEXT: &[u8] = b"countersign/credential/v1\0";

impl SealedCredential {
    /// What is authenticated with the value: everything that the row says but for the key, which the HSM knows.
    ///
    /// The tag, then trust domain, party, name and who made it, each after its length (two bytes, big-endian); then
    /// version, time and end (eight bytes each; the end after a byte that says whether there is one); then the SHA-256
    /// of the description, and that of the readers' sorted texts, each followed by a line feed.
    pub fn context(&self, place: &VaultPlace) -> Vec<u8> {
        let mut context = CONTEXT.to_vec();
        for text in [&place.trust_domain, place.party.as_str(), self.name.as_str(), self.by.as_str()] {
            // Names are far shorter; a trust domain that is not is cut for nobody: the length stands before it.
            context.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            context.extend_from_slice(text.as_bytes());
        }
        context.extend_from_slice(&self.version.to_be_bytes());
        context.extend_from_slice(&self.made.0.to_be_bytes());
        context.push(u8::from(self.terms.expires.is_some()));
        context.extend_from_slice(&self.terms.expires.map_or(0, |end| end.0).to_be_bytes());
        context.extend_from_slice(&Sha256::of(&[self.terms.description.as_bytes()]).0);
        let mut readers: Vec<String> = self.terms.readers.iter().map(|reader| format!("{reader}\n")).collect();
        readers.sort();
        context.extend_from_slice(&Sha256::of(&[readers.concat().as_bytes()]).0);
        context
    }

    /// How the value is sealed, as what is sealed says.
    pub fn way(&self) -> Way {
        Way::of(&self.sealed)
    }

    /// What leaves say of the sealed value.
    pub fn sealed_sha256(&self) -> Sha256 {
        Sha256::of(&[&self.sealed])
    }
}

/// What is known of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CredentialHead {
    /// The last version that was given, kept or removed.
    pub newest: u64,
    /// How many versions are kept. None: it was removed, and its numbers go on should it come back.
    pub versions: u32,
}

/// How full the vault is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CredentialCount {
    /// Names that have a version.
    pub kept: u32,
    /// Those and the ones that had.
    pub names: u32,
}

/// What a version that is kept is to its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// The first of a name that is not there.
    New,
    /// The next one.
    Next,
}

/// Whether a value and its terms are what the same person gave before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Given {
    Anew,
    /// The newest version is the same: a command that was repeated.
    Before,
}

/// What is asked of the vault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VaultAct {
    /// Keeps a version that was sealed before. Its number is the next one, else somebody was faster.
    Keep { credential: Box<SealedCredential>, how: Keep, given: Given },
    /// Lets whoever asks have a value, or says no. None: the newest version.
    Read { name: CredentialName, version: Option<u64> },
    /// Removes one version but the newest, or (none) all of them.
    Remove { name: CredentialName, version: Option<u64> },
    /// Replaces a sealed value by the same one under a newer key.
    Rewrap {
        name: CredentialName,
        version: u64,
        /// SHA-256 of what is replaced.
        before: Sha256,
        key: KeyId,
        sealed: Vec<u8>,
    },
}

impl VaultAct {
    /// As leaves call it.
    pub fn act(&self) -> &'static str {
        match self {
            Self::Keep { how: Keep::New, .. } => "vault_put",
            Self::Keep { how: Keep::Next, .. } => "vault_rotate",
            Self::Read { .. } => "vault_get",
            Self::Remove { .. } => "vault_rm",
            Self::Rewrap { .. } => "vault_rewrap",
        }
    }
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VaultEffect {
    /// `changed` is false when it was the same already.
    Kept {
        version: u64,
        changed: bool,
    },
    /// The value may be opened for whoever asked.
    Released(Box<SealedCredential>),
    Removed {
        versions: u32,
    },
    /// `changed` is false when the version is gone or was sealed anew already.
    Rewrapped {
        changed: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> SealedCredential {
        SealedCredential {
            name: "notify/mail".parse().unwrap(),
            version: 3,
            terms: Terms {
                description: "the relay's password".into(),
                readers: ["service:notify.mail", "role:officer"].map(|reader| reader.parse().unwrap()).into(),
                expires: Some(UnixMillis(1_900_000_000_000)),
            },
            made: UnixMillis(1_800_000_000_000),
            by: "host-admin".parse().unwrap(),
            key: Sha256([7; 32]),
            sealed: vec![1, 2, 3],
        }
    }

    fn place() -> VaultPlace {
        VaultPlace { trust_domain: "countersign.example".into(), party: "bank".parse().unwrap() }
    }

    /// A row with something else in it.
    type Other = fn(&mut SealedCredential, &mut VaultPlace);

    #[test]
    fn everything_that_a_row_says_is_in_the_context_and_it_fits_the_hsm() {
        let table: [(&str, Other); 12] = [
            ("trust domain", |_, place| place.trust_domain = "other.example".into()),
            ("party", |_, place| place.party = "secco".parse().unwrap()),
            ("name", |row, _| row.name = "notify/mali".parse().unwrap()),
            ("version", |row, _| row.version = 2),
            ("description", |row, _| row.terms.description.push('.')),
            ("one reader more", |row, _| row.terms.readers.extend(["operator:eve".parse().unwrap()])),
            ("one reader less", |row, _| row.terms.readers.retain(|reader| !matches!(reader, Reader::Role(_)))),
            ("a later end", |row, _| row.terms.expires = Some(UnixMillis(1_900_000_000_001))),
            ("no end", |row, _| row.terms.expires = None),
            ("an end at the beginning of time", |row, _| row.terms.expires = Some(UnixMillis(0))),
            ("made", |row, _| row.made = UnixMillis(1_800_000_000_001)),
            ("by", |row, _| row.by = "host-admim".parse().unwrap()),
        ];
        let mut seen = BTreeSet::from([credential().context(&place())]);
        for (what, change) in table {
            let (mut row, mut place) = (credential(), place());
            change(&mut row, &mut place);
            assert!(seen.insert(row.context(&place)), "{what}");
        }
        // Letters that move from one field to the next make another context.
        let (mut row, mut moved) = (credential(), place());
        moved.trust_domain.push('b');
        moved.party = "ank".parse().unwrap();
        assert!(seen.insert(row.context(&moved)));
        row.name = "a".repeat(128).parse().unwrap();
        row.by = "b".repeat(63).parse().unwrap();
        moved = VaultPlace { trust_domain: "d".repeat(253), party: "p".repeat(63).parse().unwrap() };
        // What an HSM worker takes at most.
        assert!(row.context(&moved).len() <= 1024);
    }

    #[test]
    fn names_and_readers_that_are_none_are_refused() {
        let long = "a".repeat(129);
        for name in ["", "-a", ".a", "/a", "A", "a b", "a:b", "ä", "a\n", "a\0", &long] {
            assert!(name.parse::<CredentialName>().is_err(), "{name:?}");
        }
        for name in ["a", "0", "notify/mail", "a.b_c-d/e", &long[..128]] {
            assert_eq!(name.parse::<CredentialName>().unwrap().as_str(), name);
        }
        for reader in
            ["", "alice", "operator:", "operator:A", "role:", "role:owner", "role:root", "service:a/b", "agent:a"]
        {
            assert!(reader.parse::<Reader>().is_err(), "{reader:?}");
        }
        for reader in ["operator:alice", "role:auditor", "service:notify.mail"] {
            assert_eq!(reader.parse::<Reader>().unwrap().to_string(), reader);
        }
    }

    #[test]
    fn terms_have_a_line_and_readers() {
        let with = |change: fn(&mut Terms)| {
            let mut terms = credential().terms;
            change(&mut terms);
            terms.check().map_err(|malformed| malformed.what)
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|terms| terms.description = "d".repeat(257)), Err("description"));
        assert_eq!(with(|terms| terms.description = "a\nb".into()), Err("description"));
        assert_eq!(with(|terms| terms.readers.clear()), Err("readers"));
        let crowd = |terms: &mut Terms| {
            terms.readers = (0..33).map(|number| format!("operator:o{number}").parse().unwrap()).collect();
        };
        assert_eq!(with(crowd), Err("readers"));
    }
}
