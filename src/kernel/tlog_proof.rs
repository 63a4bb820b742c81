//! The text of an inclusion proof that is verified offline: C2SP `tlog-proof@v1`.
//!
//! Parsing is strict: what is read composes back to the same bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::kernel::types::Sha256;

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// A tree of `u64` leaves has no longer path.
const PATH_MAX: usize = 64;

/// A proof: where the entry is, the way to the root, and the checkpoint that has the root. What the entry is has to be
/// known from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlogProof {
    /// For whoever reads it; nothing vouches for it.
    pub extra: Option<Vec<u8>>,
    pub index: u64,
    /// From the leaf's sibling to the root's child.
    pub path: Vec<Sha256>,
    /// A signed note, as it is.
    pub checkpoint: String,
}

/// The text is no `tlog-proof@v1`, or not the one writing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a tlog-proof is its header, `extra` if there is any, `index`, the path, an empty line and a checkpoint")]
pub struct TlogProofRefused;

impl TlogProof {
    pub fn compose(&self) -> String {
        let extra = self.extra.as_ref().map(|extra| format!("extra {}\n", STANDARD.encode(extra))).unwrap_or_default();
        let path: String = self.path.iter().map(|hash| STANDARD.encode(hash.0) + "\n").collect();
        format!("{HEADER}{extra}index {}\n{path}\n{}", self.index, self.checkpoint)
    }

    /// Reads what [`Self::compose`] writes. The checkpoint is not looked at.
    ///
    /// # Errors
    /// [`TlogProofRefused`]
    pub fn parse(text: &str) -> Result<Self, TlogProofRefused> {
        let rest = text.strip_prefix(HEADER).ok_or(TlogProofRefused)?;
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(TlogProofRefused)?;
        let mut lines = head.split('\n').peekable();
        let bytes = |encoded: &str| STANDARD.decode(encoded).map_err(|_| TlogProofRefused);
        let extra = lines.next_if(|line| line.starts_with("extra ")).map(|line| bytes(&line["extra ".len()..]));
        let index = lines.next().and_then(|line| line.strip_prefix("index ")?.parse().ok()).ok_or(TlogProofRefused)?;
        let hash = |line| bytes(line)?.try_into().map(Sha256).map_err(|_| TlogProofRefused);
        let path = lines.take(PATH_MAX + 1).map(hash).collect::<Result<Vec<_>, _>>()?;
        let proof = Self { extra: extra.transpose()?, index, path, checkpoint: checkpoint.to_owned() };
        // Refuses `+7`, `007` and an `extra` that says nothing.
        if proof.path.len() > PATH_MAX || proof.compose() != text {
            return Err(TlogProofRefused);
        }
        Ok(proof)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHECKPOINT: &str =
        "bank.example/log\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\u{2014} bank.example/log AAAAAAAA\n";

    #[test]
    fn a_proof_is_the_lines_of_the_document() {
        let proof = TlogProof {
            extra: Some(b"abc".to_vec()),
            index: 6,
            path: vec![Sha256([0; 32])],
            checkpoint: CHECKPOINT.into(),
        };
        let text = format!(
            "c2sp.org/tlog-proof@v1\nextra YWJj\nindex 6\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n{CHECKPOINT}"
        );
        assert_eq!(proof.compose(), text);
        assert_eq!(TlogProof::parse(&text), Ok(proof));
        let alone = format!("c2sp.org/tlog-proof@v1\nindex 0\n\n{CHECKPOINT}");
        assert_eq!(TlogProof::parse(&alone).unwrap().path, []);
    }

    #[test]
    fn another_writing_is_refused() {
        let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
        for (what, text) in [
            ("nothing", String::new()),
            ("another version", format!("c2sp.org/tlog-proof@v2\nindex 0\n\n{CHECKPOINT}")),
            ("no index", format!("c2sp.org/tlog-proof@v1\n\n{CHECKPOINT}")),
            ("an index with a zero", format!("c2sp.org/tlog-proof@v1\nindex 00\n\n{CHECKPOINT}")),
            ("an index with a sign", format!("c2sp.org/tlog-proof@v1\nindex +1\n\n{CHECKPOINT}")),
            ("an index that is none", format!("c2sp.org/tlog-proof@v1\nindex 18446744073709551616\n\n{CHECKPOINT}")),
            ("extra twice", format!("c2sp.org/tlog-proof@v1\nextra YQ==\nextra YQ==\nindex 0\n\n{CHECKPOINT}")),
            ("extra behind", format!("c2sp.org/tlog-proof@v1\nindex 0\nextra YQ==\n\n{CHECKPOINT}")),
            ("extra that is no base64", format!("c2sp.org/tlog-proof@v1\nextra YQ\nindex 0\n\n{CHECKPOINT}")),
            ("a hash too short", format!("c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n{CHECKPOINT}")),
            ("a hash with spaces", format!("c2sp.org/tlog-proof@v1\nindex 0\n {hash}\n{CHECKPOINT}")),
            ("a path without end", format!("c2sp.org/tlog-proof@v1\nindex 0\n{}\n{CHECKPOINT}", hash.repeat(65))),
            ("carriage returns", format!("c2sp.org/tlog-proof@v1\r\nindex 0\r\n\r\n{CHECKPOINT}")),
            ("no checkpoint", "c2sp.org/tlog-proof@v1\nindex 0\n".into()),
        ] {
            assert_eq!(TlogProof::parse(&text), Err(TlogProofRefused), "{what}");
        }
    }

    proptest! {
        #[test]
        fn what_is_composed_reads_back(
            extra in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
            index: u64,
            path in proptest::collection::vec(any::<[u8; 32]>().prop_map(Sha256), 0..=64),
        ) {
            let proof = TlogProof { extra, index, path, checkpoint: CHECKPOINT.into() };
            prop_assert_eq!(TlogProof::parse(&proof.compose()), Ok(proof));
        }
    }
}
