//! A copy of a log in a directory, as C2SP `tlog-tiles` lays it out: tiles that are written once, and a checkpoint.
//!
//! Whoever keeps one is a witness of their own: what was copied once must still be there, byte for byte, and the tree
//! that was signed then must be the beginning of the one that is signed now.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::kernel::cosignature::Cosigner;
use crate::kernel::leaf_proof::{self, VerifiedHead};
use crate::kernel::merkle::{Frontier, NodeId, leaf_hash, node_hash, root};
use crate::kernel::note::{Checkpoint, SignatureType, SignedNote};
use crate::kernel::receipt::Base64;
use crate::kernel::tile::{TILE_HEIGHT, TILE_WIDTH, Tile, TileKind, grown, grown_count, unbundle};
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;

use super::prove::SignedHead;

/// The signed note.
const CHECKPOINT: &str = "checkpoint";
/// The checkpoint key's certificate, issuing CA, root, as base64 of DER, a line each.
const CERTIFICATES: &str = "checkpoint.certificates";
/// The chains of the keys of witnesses that have cosigned, in the order of their lines, with an empty line between two.
const WITNESSES: &str = "witness.certificates";
/// In place of these three, in a directory that was fetched over HTTPS: all of it in one reading.
const HEAD: &str = "head.json";
/// Bytes of a file that are read at all: more than a full bundle of entries has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where an update puts what it fetches until all of it fits.
const FRESH: &str = ".fresh";
/// Below here every file is written once.
const TILES: &str = "tile/";

/// A directory with a copy.
#[derive(Clone, Debug)]
pub struct Copy(PathBuf);

/// What a directory says about its head. Nothing of it is verified.
struct Signed {
    /// The file that has the checkpoint.
    name: &'static str,
    note: String,
    chain: Vec<Vec<u8>>,
    witnesses: Vec<Vec<Vec<u8>>>,
}

/// What [`Copy::verify`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedCopy {
    pub checkpoint: Checkpoint,
    /// Subject of the certificate that signed the checkpoint.
    pub signer: String,
    /// How it is signed.
    pub checkpoint_type: SignatureType,
    /// Witnesses that have cosigned it.
    pub cosigners: Vec<Cosigner>,
    /// Tiles that were compared.
    pub tiles: u64,
}

impl Copy {
    pub fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// The head that was copied last; none in a directory without a copy.
    ///
    /// # Errors
    /// `copy_unreadable`, `copy_damaged`.
    pub fn head(&self) -> Result<Option<Checkpoint>, Failure> {
        let Some(bytes) = self.read(CHECKPOINT)? else {
            return Ok(None);
        };
        let note = SignedNote::parse(&bytes).and_then(|note| Checkpoint::parse(&note.text));
        note.map(Some).map_err(|refused| self.damaged(CHECKPOINT, &refused.to_string()))
    }

    /// Brings the copy up to `head`, whose signature must lead to the root of the head that was copied first, with the
    /// tiles that `fetch` answers, as many at a time as it likes; `progress` hears how many of how many are there. Answers
    /// how many were written. Repeated after a crash it begins anew.
    ///
    /// # Errors
    /// `log_rolled_back` when the copy has more than the log; `log_forked` when what was copied is not what the log has
    /// now, and the copy stays as it was; so it does when the head is not signed by the party that the copy is of, by the
    /// names of [`leaf_proof::LeafProofRefusal`]. `copy_unreadable`, `copy_unwritable`, `copy_damaged`; those of `fetch`.
    pub fn update(
        &self,
        head: &SignedHead,
        oid_base: &str,
        mut fetch: impl FnMut(&[Tile]) -> Result<Vec<Vec<u8>>, Failure>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<u64, Failure> {
        let before = self.head()?;
        let old_size = before.as_ref().map_or(0, |checkpoint| checkpoint.size);
        if let Some(known) = &before
            && known.origin != head.origin
        {
            return Err(Failure::usage(
                "copy_of_another_log",
                format!("the copy is of the log {}, this is {}", known.origin, head.origin),
                "name the directory of this log's own copy, or an empty one",
            ));
        }
        if old_size > head.size {
            return Err(Failure::refused(
                "log_rolled_back",
                format!("the copy has {old_size} leaves, the log's newest signed checkpoint {}", head.size),
                "keep the copy as evidence: the log has lost what was signed",
            ));
        }
        let now = SignedNote::parse(head.checkpoint.as_bytes()).and_then(|note| Checkpoint::parse(&note.text));
        let now = now.map_err(|refused| forked(format!("the log's checkpoint is none: {refused}")))?;
        if now.size != head.size || now.origin != head.origin {
            return Err(forked("the log's checkpoint is of another tree than its tiles".into()));
        }
        self.signed_by_its_party(head, oid_base)?;
        // One page at a time: whatever size a head names, no more is held than what came for it.
        let total = grown_count(old_size, head.size);
        self.begin_anew()?;
        let mut tiles = grown(old_size, head.size);
        for done in (0_u64..).step_by(Self::PAGE) {
            let page: Vec<Tile> = tiles.by_ref().take(Self::PAGE).collect();
            if page.is_empty() {
                break;
            }
            let bytes = fetch(&page)?;
            if bytes.len() != page.len() {
                return Err(Failure::fault(
                    "answer_unreadable",
                    "the daemon answered another number of tiles than it was asked for",
                    "check that CLI and daemon are the same version",
                ));
            }
            for (tile, bytes) in page.iter().zip(&bytes) {
                self.put(*tile, bytes)?;
            }
            progress(done + page.len() as u64, total);
        }
        // Both trees from the tiles of now: the one that is signed now, and the one that was signed then.
        for known in before.iter().chain([&now]).filter(|known| known.size > 0) {
            if self.root_of(known.size, head.size)? != known.root {
                return Err(forked(format!("the first {} leaves are not those that were signed", known.size)));
            }
        }
        for tile in grown(old_size, head.size) {
            let path = tile.to_string();
            self.settle(&path)?;
        }
        let certificates = lines_of(head.chain.iter().map(|one| one.0.as_slice()));
        let chains: Vec<String> =
            head.witnesses.iter().map(|chain| lines_of(chain.iter().map(|one| one.0.as_slice()))).collect();
        let witnesses = chains.join("\n");
        if !witnesses.is_empty() || self.read(WITNESSES)?.is_some() {
            self.write(WITNESSES, witnesses.as_bytes())?;
            self.settle(WITNESSES)?;
        }
        for (name, bytes) in [(CERTIFICATES, certificates.as_bytes()), (CHECKPOINT, head.checkpoint.as_bytes())] {
            // The checkpoint last: what it covers is there.
            self.write(name, bytes)?;
            self.settle(name)?;
        }
        self.begin_anew()?;
        Ok(total)
    }

    /// The copy keeps its own head, which is evidence, until the next one has proven itself under the same root. The first
    /// one brings the root: whether it is the party's is asked when the copy is verified.
    fn signed_by_its_party(&self, head: &SignedHead, oid_base: &str) -> Result<(), Failure> {
        let known = match self.read(CERTIFICATES)? {
            Some(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| self.damaged(CERTIFICATES, "it is not text"))?;
                self.chain(CERTIFICATES, &text)?.pop()
            }
            None => None,
        };
        let chain: Vec<&[u8]> = head.chain.iter().map(|one| one.0.as_slice()).collect();
        let root = known.as_deref().or_else(|| chain.last().copied()).unwrap_or_default();
        let witnesses: Vec<Vec<&[u8]>> =
            head.witnesses.iter().map(|chain| chain.iter().map(|one| one.0.as_slice()).collect()).collect();
        let verified = leaf_proof::verify_checkpoint(&head.checkpoint, &chain, &witnesses, (root, None), oid_base);
        verified.map(drop).map_err(|refusal| {
            Failure::refused(
                refusal.name(),
                format!("the log's checkpoint is not signed by the party that this copy is of: {refusal}"),
                "keep the copy, which stays as it was; ask whose checkpoint this is, and make another copy elsewhere",
            )
        })
    }

    /// Tiles of one call.
    const PAGE: usize = 32;

    /// Rebuilds the tree from the entries and compares every tile with it, then the checkpoint, whose signature must lead
    /// to this root. A reader who also has the root of a witness asks that it has cosigned.
    ///
    /// # Errors
    /// `copy_damaged` names the first file that differs; `copy_missing`, `copy_unfinished`, `copy_unreadable`; the names of
    /// [`leaf_proof::LeafProofRefusal`].
    pub fn verify(
        &self,
        root_der: &[u8],
        witness_root_der: Option<&[u8]>,
        oid_base: &str,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<VerifiedCopy, Failure> {
        if self.0.join(FRESH).exists() {
            return Err(Failure::usage(
                "copy_unfinished",
                format!("an update of {} did not come to its end", self.0.display()),
                "run `countersign audit export` again",
            ));
        }
        let Signed { name, note, chain, witnesses } = self.signed()?;
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        let witnesses: Vec<Vec<&[u8]>> =
            witnesses.iter().map(|chain| chain.iter().map(Vec::as_slice).collect()).collect();
        let roots = (root_der, witness_root_der);
        let VerifiedHead { checkpoint, signer, checkpoint_type, cosigners } =
            leaf_proof::verify_checkpoint(&note, &chain, &witnesses, roots, oid_base).map_err(|refusal| {
                Failure::refused(
                    refusal.name(),
                    format!("{} is not a checkpoint of this party: {refusal}", self.0.join(name).display()),
                    "do not rely on the copy; check that --root is the party's own, and --witness-root the witness's",
                )
            })?;
        let size = checkpoint.size;
        let mut frontier = Frontier::empty();
        let total = grown_count(0, size);
        let mut compared = 0;
        for tile in grown(0, size).filter(|tile| tile.kind == TileKind::Entries) {
            let path = tile.to_string();
            let bytes = self.read(&path)?.ok_or_else(|| self.missing(&path))?;
            let entries = unbundle(&bytes, tile.width).map_err(|refused| self.damaged(&path, &refused.to_string()))?;
            let hashes: Vec<Sha256> = entries.into_iter().map(leaf_hash).collect();
            self.compare(Tile { kind: TileKind::Hashes { level: 0 }, ..tile }, &hashes)?;
            hashes.into_iter().for_each(|hash| frontier.append(hash, |_, _, _| {}));
            compared += 2;
            progress(compared, total);
        }
        if frontier.root() != checkpoint.root {
            return Err(self.damaged(name, "the entries do not give the root that it signs"));
        }
        for tile in grown(0, size) {
            let TileKind::Hashes { level: level @ 1.. } = tile.kind else { continue };
            let below =
                |offset: u64| Tile { kind: TileKind::Hashes { level: level - 1 }, index: offset, width: TILE_WIDTH };
            let hashes: Result<Vec<Sha256>, Failure> =
                tile.nodes().map(|node| Ok(root(&self.hashes(below(node.index))?))).collect();
            self.compare(tile, &hashes?)?;
            compared += 1;
            progress(compared, total);
        }
        Ok(VerifiedCopy { checkpoint, signer, checkpoint_type, cosigners, tiles: compared })
    }

    /// The checkpoint and the chains: three files as an export has them, or else one.
    fn signed(&self) -> Result<Signed, Failure> {
        if self.read(CHECKPOINT)?.is_none()
            && let Some(bytes) = self.read(HEAD)?
        {
            let head = SignedHead::from_bytes(&bytes);
            let head = head.ok_or_else(|| self.damaged(HEAD, "it is not the canonical JSON of a head"))?;
            let bytes = |chain: Vec<Base64>| chain.into_iter().map(|one| one.0).collect::<Vec<_>>();
            let said = SignedNote::parse(head.checkpoint.as_bytes()).and_then(|note| Checkpoint::parse(&note.text));
            if !said.is_ok_and(|said| said.origin == head.origin && said.size == head.size) {
                return Err(self.damaged(HEAD, "its checkpoint is of another log or size than it says"));
            }
            let witnesses = head.witnesses.into_iter().map(bytes).collect();
            return Ok(Signed { name: HEAD, note: head.checkpoint, chain: bytes(head.chain), witnesses });
        }
        let note = self.text(CHECKPOINT)?;
        let chain = self.chain(CERTIFICATES, &self.text(CERTIFICATES)?)?;
        let witnesses = match self.read(WITNESSES)? {
            Some(bytes) if !bytes.is_empty() => {
                let text = String::from_utf8(bytes).map_err(|_| self.damaged(WITNESSES, "it is not text"))?;
                // An empty line stands between two, and every line has its end.
                let chains = text.split("\n\n").map(|chain| format!("{}\n", chain.trim_end_matches('\n')));
                let chains: Vec<String> = chains.collect();
                if chains.join("\n") != text {
                    return Err(self.damaged(WITNESSES, "it is not base64, a line each"));
                }
                chains.iter().map(|chain| self.chain(WITNESSES, chain)).collect::<Result<Vec<_>, _>>()?
            }
            Some(_) | None => vec![],
        };
        Ok(Signed { name: CHECKPOINT, note, chain, witnesses })
    }

    /// Certificates, a line of base64 each.
    fn chain(&self, name: &str, text: &str) -> Result<Vec<Vec<u8>>, Failure> {
        let chain: Option<Vec<Vec<u8>>> = text.lines().map(bytes_of).collect();
        let chain = chain.filter(|chain| lines_of(chain.iter().map(Vec::as_slice)) == text);
        chain.ok_or_else(|| self.damaged(name, "it is not base64, a line each"))
    }

    fn compare(&self, tile: Tile, expected: &[Sha256]) -> Result<(), Failure> {
        if self.hashes(tile)? == expected {
            return Ok(());
        }
        Err(self.damaged(&tile.to_string(), "its hashes are not those of the entries"))
    }

    fn hashes(&self, tile: Tile) -> Result<Vec<Sha256>, Failure> {
        let path = tile.to_string();
        let bytes = self.read(&path)?.ok_or_else(|| self.missing(&path))?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() != usize::from(tile.width) {
            return Err(self.damaged(&path, "its length is not that of its hashes"));
        }
        Ok(hashes.iter().copied().map(Sha256).collect())
    }

    /// The root of the first `size` leaves, from the tiles of a log of `now`.
    fn root_of(&self, size: u64, now: u64) -> Result<Sha256, Failure> {
        Frontier::load(size, |node| self.node(node, now)).map(|frontier| frontier.root())
    }

    /// A complete subtree, from the tile that holds it or the leaves of it.
    fn node(&self, node: NodeId, size: u64) -> Result<Sha256, Failure> {
        let (level, within) = (node.level / TILE_HEIGHT, node.level % TILE_HEIGHT);
        let width = u64::from(TILE_WIDTH);
        let first = node.index << within;
        let index = first / width;
        let there = size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0) - index * width;
        let tile = Tile {
            kind: TileKind::Hashes { level },
            index,
            width: u16::try_from(there.min(width)).unwrap_or(TILE_WIDTH),
        };
        let hashes = self.hashes(tile)?;
        let from = usize::try_from(first % width).unwrap_or_default();
        let part = hashes.get(from..from + (1 << within)).unwrap_or_default();
        let mut row: Vec<Sha256> = part.to_vec();
        while row.len() > 1 {
            row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        row.pop().ok_or_else(|| self.damaged(&tile.to_string(), "it is shorter than the checkpoint needs"))
    }

    /// What is full is never another; what was partial begins as it did.
    fn put(&self, tile: Tile, bytes: &[u8]) -> Result<(), Failure> {
        let path = tile.to_string();
        match self.read(&path)? {
            Some(known) if known == bytes => Ok(()),
            Some(_) => Err(forked(format!("{path} was copied before and is another one now"))),
            None => self.write(&path, bytes),
        }
    }

    fn text(&self, name: &str) -> Result<String, Failure> {
        let bytes = self.read(name)?.ok_or_else(|| self.missing(name))?;
        String::from_utf8(bytes).map_err(|_| self.damaged(name, "it is not text"))
    }

    /// What an update has fetched, or else what is there.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self.read_at(&self.0.join(FRESH).join(name), name)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.read_at(&self.0.join(name), name),
        }
    }

    fn read_at(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let unreadable = |error: std::io::Error| {
            let next = "check the directory's permissions";
            Failure::usage("copy_unreadable", format!("{}: {error}", path.display()), next)
        };
        match std::fs::metadata(path) {
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                return Err(self.damaged(name, "it is longer than any file of a copy"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        }
        std::fs::read(path).map(Some).map_err(unreadable)
    }

    /// Synced, among what is fresh.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.0.join(FRESH).join(name);
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&self.0))?;
            let mut file = std::fs::File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error: std::io::Error| unwritable(&path, &error))
    }

    /// From what is fresh to its place: a reader sees the old one or the whole new one.
    fn settle(&self, name: &str) -> Result<(), Failure> {
        let (from, to) = (self.0.join(FRESH).join(name), self.0.join(name));
        let directory = to.parent().unwrap_or(&self.0);
        let settle = || {
            if !from.exists() {
                return Ok(());
            }
            std::fs::create_dir_all(directory)?;
            if name.starts_with(TILES) {
                // Written once: from here on for reading, by its owner too.
                std::fs::set_permissions(&from, std::fs::Permissions::from_mode(0o444))?;
            }
            std::fs::rename(&from, &to)?;
            std::fs::File::open(directory)?.sync_all()
        };
        settle().map_err(|error: std::io::Error| unwritable(&to, &error))
    }

    /// Without what an update left that did not come to its end.
    fn begin_anew(&self) -> Result<(), Failure> {
        let fresh = self.0.join(FRESH);
        match std::fs::remove_dir_all(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(unwritable(&fresh, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn damaged(&self, name: &str, why: &str) -> Failure {
        Failure::refused(
            "copy_damaged",
            format!("{}: {why}", self.0.join(name).display()),
            "keep it as evidence, and make a copy anew in another directory",
        )
    }

    fn missing(&self, name: &str) -> Failure {
        Failure::usage(
            "copy_missing",
            format!("{} is not there", self.0.join(name).display()),
            "name a directory that `countersign audit export` has written",
        )
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(
        "copy_unwritable",
        format!("{} was not written: {error}", path.display()),
        "choose a directory that you may write to and that has room",
    )
}

fn forked(message: String) -> Failure {
    Failure::refused(
        "log_forked",
        message,
        "keep the copy, and make another one elsewhere: the two are proof that the log was rewritten",
    )
}

pub(super) fn lines_of<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> String {
    certificates.map(|der| STANDARD.encode(der) + "\n").collect()
}

pub(super) fn bytes_of(line: &str) -> Option<Vec<u8>> {
    STANDARD.decode(line).ok()
}
