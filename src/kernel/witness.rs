//! The witness: who cosigns another party's log, and only ever one history of it.
//!
//! A log's owner can sign two histories of the same length; whoever cosigns remembers the one it has seen and refuses the
//! other. What is asked is the `add-checkpoint` call of C2SP `tlog-witness`, so that others' logs and witnesses fit ours.
//! What is remembered is a row of the store, and [`judge()`] is decided in the commit that changes it: two questions at
//! once cannot roll it back.

mod judge;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::kernel::merkle;
use crate::kernel::types::{PartyName, Sha256, UnixMillis};

pub use judge::{Accepted, Told, Verdict, accepted, judge};

/// Lines of a consistency proof at most (C2SP tlog-witness, "add-checkpoint").
const PROOF_MAX: usize = 63;
/// Bytes of a request that are read at all: the longest proof and a checkpoint with its signatures have a quarter of it.
pub const ADD_CHECKPOINT_BYTES_MAX: usize = 16 * 1024;
/// Logs that one witness remembers. A row is made for whoever has a log here, so there is an end to them.
pub const LOGS_MAX: usize = 256;

/// The body of an `add-checkpoint` request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddCheckpoint {
    /// The size that the sender believes the witness to have cosigned last; 0: none.
    pub old_size: u64,
    /// RFC 9162, 2.1.4, from there to the checkpoint.
    pub proof: Vec<Sha256>,
    /// A signed note, as it is.
    pub checkpoint: String,
}

/// The bytes are no `add-checkpoint` request, or not the one writing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an add-checkpoint request is `old` and a size, the proof's lines, an empty line and a checkpoint")]
pub struct AddCheckpointRefused;

impl AddCheckpoint {
    pub fn compose(&self) -> String {
        let proof: String = self.proof.iter().map(|hash| STANDARD.encode(hash.0) + "\n").collect();
        format!("old {}\n{proof}\n{}", self.old_size, self.checkpoint)
    }

    /// Reads what [`Self::compose`] writes. The checkpoint is not looked at.
    ///
    /// # Errors
    /// [`AddCheckpointRefused`]
    pub fn parse(text: &str) -> Result<Self, AddCheckpointRefused> {
        if text.len() > ADD_CHECKPOINT_BYTES_MAX {
            return Err(AddCheckpointRefused);
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(AddCheckpointRefused)?;
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|line| line.strip_prefix("old ")?.parse().ok());
        let hash = |line| {
            let bytes = STANDARD.decode(line).map_err(|_| AddCheckpointRefused)?;
            bytes.try_into().map(Sha256).map_err(|_| AddCheckpointRefused)
        };
        let proof = lines.take(PROOF_MAX + 1).map(hash).collect::<Result<Vec<_>, _>>()?;
        let old_size = old_size.ok_or(AddCheckpointRefused)?;
        let request = Self { old_size, proof, checkpoint: checkpoint.to_owned() };
        // Refuses `+7` and `007`.
        if request.proof.len() > PROOF_MAX || request.compose() != text {
            return Err(AddCheckpointRefused);
        }
        Ok(request)
    }
}

/// Leaves of a log that is remembered, at most: what a store's column holds.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// How long a log is, and the root of its tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub size: u64,
    pub root: Sha256,
}

impl Head {
    /// Of a log without a leaf.
    pub fn empty() -> Self {
        Self { size: 0, root: merkle::root(&[]) }
    }
}

/// Why a log is not cosigned any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HaltCause {
    /// Two histories: the same size with another root, or a tree that does not go on from the one that was seen.
    #[serde(rename = "log_forked")]
    Forked,
    /// Its owner has less than was seen, and says that this is all.
    #[serde(rename = "log_rolled_back")]
    RolledBack,
    /// The witness itself remembers less than it has cosigned: its store was put back from an old copy.
    #[serde(rename = "witness_older_than_cosigned")]
    WitnessOlder,
}

impl HaltCause {
    pub const ALL: [Self; 3] = [Self::Forked, Self::RolledBack, Self::WitnessOlder];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forked => "log_forked",
            Self::RolledBack => "log_rolled_back",
            Self::WitnessOlder => "witness_older_than_cosigned",
        }
    }

    /// One sentence for a reader.
    pub fn message(self) -> &'static str {
        match self {
            Self::Forked => "the log has another history than the one that was cosigned",
            Self::RolledBack => "the log has lost leaves that were cosigned",
            Self::WitnessOlder => "the witness has cosigned more of the log than it remembers: its store is an old one",
        }
    }
}

/// A log is not cosigned until a person has looked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halt {
    pub cause: HaltCause,
    /// What its owner has signed instead; of [`HaltCause::WitnessOlder`] what the witness has.
    pub shown: Head,
    /// The signed note of it, as evidence. None: of before notes were kept.
    pub note: Option<String>,
    pub at: UnixMillis,
    /// Who has asked to go on from `shown`: a second person does it.
    pub accept_asked_by: Option<String>,
}

/// A log as its witness has seen it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessedLog {
    pub origin: String,
    /// Whose it is. None: anybody's who has the key that the configuration names.
    pub party: Option<PartyName>,
    /// The newest that was cosigned, or was to be: it is durable before the signature is made.
    pub head: Head,
    pub cosigned_at: UnixMillis,
    /// When the audit log here last said how far it is.
    pub told_at: UnixMillis,
    pub halt: Option<Halt>,
}

/// What a sender says of its log besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// More may be on its way: a smaller one may only be late.
    Nothing,
    /// This is all there is.
    NothingNewer,
}

/// A checkpoint that was handed in, its signature by the log verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submission {
    pub origin: String,
    /// Whose connection it came over. None: anybody's.
    pub party: Option<PartyName>,
    pub old_size: u64,
    pub proof: Vec<Sha256>,
    pub head: Head,
    /// The signed note of `head`.
    pub note: String,
    pub claim: Claim,
    /// The newest cosignature of this witness's own that the sender holds, verified.
    pub cosigned: Option<Shown>,
}

/// A head and the note that vouches for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    pub head: Head,
    pub note: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn another_writing_is_refused() {
        let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
        let table = [
            String::new(),
            "old 1".into(),
            "old 1\n".into(),
            "old 01\n\nc".into(),
            "old +1\n\nc".into(),
            "old -1\n\nc".into(),
            "old 18446744073709551616\n\nc".into(),
            "new 1\n\nc".into(),
            "old 1\nAAAA\n\nc".into(),
            "old 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n\nc".into(),
            format!("old 1\n{}\nc", hash.repeat(PROOF_MAX + 1)),
            format!("old 1\r\n{hash}\nc"),
            format!("old  1\n{hash}\nc"),
            format!("old 1\n{hash}\n{}", "c".repeat(ADD_CHECKPOINT_BYTES_MAX)),
        ];
        for text in table {
            assert_eq!(AddCheckpoint::parse(&text), Err(AddCheckpointRefused), "{text:?}");
        }
    }

    #[test]
    fn the_example_of_the_specification_reads_back() {
        // C2SP tlog-witness, "add-checkpoint".
        let text = "old 20852014\n\
            PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
            jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
            5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
            /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n\
            example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
            \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
        let read = AddCheckpoint::parse(text).unwrap();
        assert_eq!((read.old_size, read.proof.len()), (20_852_014, 4));
        assert!(read.checkpoint.starts_with("example.com/behind-the-sofa\n20852163\n"));
        assert_eq!(read.compose(), text);
    }

    #[test]
    fn causes_are_read_as_they_are_written() {
        for cause in HaltCause::ALL {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
        }
    }

    proptest! {
        #[test]
        fn what_is_composed_reads_back(
            old_size: u64,
            proof in proptest::collection::vec(any::<[u8; 32]>().prop_map(Sha256), 0..=PROOF_MAX),
        ) {
            let request = AddCheckpoint { old_size, proof, checkpoint: "a\n\nb\n".into() };
            prop_assert_eq!(AddCheckpoint::parse(&request.compose()), Ok(request));
        }

        #[test]
        fn whatever_is_read_is_the_one_writing_of_it(text in "(old [0-9]{0,3}\n?)?([A-Za-z0-9+/=]{0,44}\n){0,3}\n?.{0,20}") {
            if let Ok(read) = AddCheckpoint::parse(&text) {
                prop_assert_eq!(read.compose(), text);
            }
        }
    }
}
