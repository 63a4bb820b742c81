//! Evidence that was changed at random: whatever is done to a valid file, nothing else verifies.
//!
//! Seeded, so that a file that slips through can be made again from its number.

use std::time::Duration;

use countersign::audit::copy::Copy;
use countersign::audit::export::{ExportCall, Format};
use countersign::audit::prove::LeafChoice;
use countersign::audit::search::SearchQuery;
use countersign::kernel::note::SignedNote;
use countersign::kernel::sign::Algorithm;
use countersign::kernel::tile::{Tile, bundle as tile_bundle, unbundle};
use countersign::kernel::types::Sha256;
use countersign::kernel::{bundle, export_note, leaf_proof, receipt};

use super::parties::OID_BASE;
use super::payments::Bank;

/// xorshift64*: the same numbers on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap() % bound.max(1)
    }

    /// A file that was changed in one to three ways; parts of `other`, a valid file of the same kind, get into it.
    fn changed(&mut self, valid: &[u8], other: &[u8]) -> Vec<u8> {
        let mut file = valid.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(file.len());
            let length = self.below(40).min(file.len() - at);
            match self.below(9) {
                0 => file[at] ^= 1 << self.below(8),
                1 => file[at] = u8::try_from(self.below(256)).unwrap(),
                2 => drop(file.drain(at..at + length)),
                3 => {
                    let twice = file[at..at + length].to_vec();
                    file.splice(at..at, twice);
                }
                4 => file.truncate(at),
                5 => {
                    let from = self.below(other.len());
                    let part = &other[from..other.len().min(from + length)];
                    let end = at + part.len().min(file.len() - at);
                    file.splice(at..end, part.iter().copied());
                }
                6 => {
                    // The same place of the other file.
                    let end = (at + length).min(other.len());
                    if at < end {
                        file[at..end].copy_from_slice(&other[at..end]);
                    }
                }
                // A digit for a digit, a letter for a letter: what parses goes further.
                7 => {
                    let digits: Vec<usize> = (0..file.len()).filter(|at| file[*at].is_ascii_digit()).collect();
                    if let Some(at) = digits.get(self.below(digits.len())) {
                        file[*at] = b'0' + u8::try_from(self.below(10)).unwrap();
                    }
                }
                _ => {
                    let letters: Vec<usize> = (0..file.len()).filter(|at| file[*at].is_ascii_alphabetic()).collect();
                    if let Some(at) = letters.get(self.below(letters.len())) {
                        file[*at] ^= 0x20;
                    }
                }
            }
            if file.is_empty() {
                break;
            }
        }
        file
    }
}

/// So many files that are none of the valid ones; answers how many were tried.
fn tried(count: u64, seed: u64, valid: &[Vec<u8>], verifies: impl Fn(&[u8]) -> bool + Sync) {
    assert!(valid.iter().all(|file| verifies(file)), "the files themselves verify");
    // Two processors: two halves, each with dice of its own.
    let half = |seed: u64| {
        let mut dice = Dice(seed);
        let mut done = 0;
        while done < count / 2 {
            let (one, other) = (dice.below(valid.len()), dice.below(valid.len()));
            let file = dice.changed(&valid[one], &valid[other]);
            if valid.contains(&file) {
                continue;
            }
            assert!(!verifies(&file), "seed {seed}, file {done} verifies");
            done += 1;
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| half(seed));
        scope.spawn(|| half(seed + 1));
    });
}

#[test]
fn ten_thousand_changed_receipts_prove_nothing() {
    let (bank, paid) = Bank::with_payments();
    let receipts = [&paid.bought, &paid.approved].map(|id| bank.log.receipt(id, Duration::ZERO).unwrap());
    let written = receipts.each_ref().map(|receipt| receipt.to_bytes().unwrap());
    tried(10_000, 0x5eed_0001, &written, |file| receipt::verify(file, &bank.kit.root, OID_BASE).is_ok());
    let texts = receipts.map(|receipt| receipt.to_text().unwrap().into_bytes());
    tried(10_000, 0x5eed_0013, &texts, |file| receipt::verify(file, &bank.kit.root, OID_BASE).is_ok());
}

#[test]
fn ten_thousand_changed_receipts_under_p256_notes_prove_nothing() {
    let (bank, paid) = Bank::with_payments_noted(Algorithm::P256);
    let receipts: Vec<Vec<u8>> = [&paid.bought, &paid.approved]
        .map(|id| bank.log.receipt(id, Duration::ZERO).unwrap().to_bytes().unwrap())
        .into();
    tried(10_000, 0x5eed_000d, &receipts, |file| receipt::verify(file, &bank.kit.root, OID_BASE).is_ok());
    let proofs: Vec<Vec<u8>> =
        [0, 5, 11].map(|index| bank.log.prove(&LeafChoice::Index(index)).unwrap().into_bytes()).into();
    tried(2_000, 0x5eed_000f, &proofs, |file| leaf_proof::verify(file, &bank.kit.root, OID_BASE).is_ok());
    let bundles: Vec<Vec<u8>> =
        [&paid.bought, &paid.approved].map(|id| bank.log.bundle(id, Duration::ZERO).unwrap()).into();
    tried(1_000, 0x5eed_0011, &bundles, |file| bundle::verify(file, &bank.kit.root, OID_BASE).is_ok());
}

#[test]
fn four_thousand_changed_proofs_prove_nothing() {
    let (bank, _) = Bank::with_payments();
    let proofs: Vec<Vec<u8>> =
        [0, 5, 11].map(|index| bank.log.prove(&LeafChoice::Index(index)).unwrap().into_bytes()).into();
    tried(4_000, 0x5eed_0003, &proofs, |file| leaf_proof::verify(file, &bank.kit.root, OID_BASE).is_ok());
}

#[test]
fn two_thousand_changed_bundles_prove_nothing() {
    let (bank, paid) = Bank::with_payments();
    let bundles: Vec<Vec<u8>> =
        [&paid.bought, &paid.approved].map(|id| bank.log.bundle(id, Duration::ZERO).unwrap()).into();
    tried(2_000, 0x5eed_0005, &bundles, |file| bundle::verify(file, &bank.kit.root, OID_BASE).is_ok());
}

#[test]
fn four_thousand_changed_notes_are_signed_by_nobody() {
    let (bank, _) = Bank::with_payments();
    let head = bank.log.head(Duration::ZERO).unwrap();
    let spki = bank.log.roles().checkpoint.key.spki.clone();
    let note = |bytes: &[u8]| SignedNote::parse(bytes).is_ok_and(|note| note.verify(&head.origin, &spki).is_ok());
    tried(2_000, 0x5eed_0007, &[head.checkpoint.clone().into_bytes()], note);

    let export = ExportCall { query: SearchQuery::default(), format: Format::Jsonl, size: None, span: None };
    let page = bank.log.export(&export).unwrap();
    let file = (Sha256::of(&[page.text.as_bytes()]), page.text.len() as u64);
    let signed = bank.log.sign_export(&export, file.0, &mut |_| {}).unwrap().into_bytes();
    tried(2_000, 0x5eed_0009, &[signed], |bytes| export_note::verify(bytes, file, &bank.kit.root, OID_BASE).is_ok());
}

#[test]
fn a_thousand_changed_copies_are_none() {
    let (bank, _) = Bank::with_payments();
    let place = bank.directory().join("copy");
    let fetch = |tiles: &[Tile]| tiles.iter().map(|tile| bank.log.tile(*tile)).collect();
    let head = bank.log.head(Duration::ZERO).unwrap();
    Copy::at(&place).update(&head, OID_BASE, fetch, |_, _| {}).unwrap();
    let mut dice = Dice(0x5eed_000b);
    let names =
        [format!("tile/0/000.p/{}", head.size), format!("tile/entries/000.p/{}", head.size), "checkpoint".into()];
    for number in 0..1_000 {
        let path = place.join(&names[dice.below(names.len())]);
        let valid = std::fs::read(&path).unwrap();
        let other = dice.changed(&valid, &valid);
        if other == valid {
            continue;
        }
        std::fs::write(&path, &other).unwrap();
        assert!(Copy::at(&place).verify(&bank.kit.root, None, OID_BASE, |_, _| {}).is_err(), "copy {number}");
        std::fs::write(&path, &valid).unwrap();
        // What a changed bundle of entries says is told with the same bytes, or not at all.
        let width = u16::try_from(head.size).unwrap();
        if let Ok(entries) = unbundle(&other, width) {
            assert_eq!(tile_bundle(entries.into_iter()).unwrap(), other, "copy {number}");
        }
    }
}
