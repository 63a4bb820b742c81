//! What must hold for any bytes at all, one function a fuzz target. None of them may panic, and each names what else
//! must never happen. Shared with the test that replays the corpus.
#![allow(dead_code)]

use countersign::hsm::channel::Packet;
use countersign::hsm::label::KeyLabel;
use countersign::hsm::lint;
use countersign::hsm::messages::{self, FrontMessage, SupervisorMessage, WorkerOrders, WorkerReport};
use countersign::hsm::uri::SlotUri;
use countersign::hsm::wire::{self, FromWorker, ToWorker};
use countersign::hsm::{CustodyAttributes, KeyInfo, KeyState};
use countersign::kernel::export_note::{self, ExportNote};
use countersign::kernel::merkle;
use countersign::kernel::note::{Checkpoint, SignedNote, VerifierKey};
use countersign::kernel::sign::{DocumentTag, Purpose, SignInput, TlsSide};
use countersign::kernel::tile::{self, Tile};
use countersign::kernel::tlog_proof::TlogProof;
use countersign::kernel::types::{Sha256, UnixMillis};
use countersign::kernel::witness::{
    self, AddCheckpoint, Claim, Halt, HaltCause, Head, Submission, Verdict, WitnessedLog,
};
use countersign::kernel::{bundle, leaf_proof, receipt};

/// Frames of a front, as a worker reads them: what was read is written again and reads the same.
pub fn worker_frame(bytes: &[u8]) {
    frames::<ToWorker>(bytes);
}

/// Frames of a worker, as a front reads them.
pub fn front_frame(bytes: &[u8]) {
    frames::<FromWorker>(bytes);
}

fn frames<T: serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug>(mut bytes: &[u8]) {
    while let Ok(Some(frame)) = wire::read_frame::<T>(&mut bytes) {
        let mut written = Vec::new();
        wire::write_frame(&mut written, &frame).expect("what was read fits a frame");
        let again = wire::read_frame::<T>(&mut written.as_slice()).expect("it reads back");
        assert_eq!(format!("{again:?}"), format!("{:?}", Some(frame)));
    }
}

/// Packets between supervisor, workers and front.
pub fn supervisor_packet(bytes: &[u8]) {
    let packet = || Packet { bytes: bytes.to_vec().into(), descriptor: None };
    let _ = messages::parse::<FrontMessage>(packet());
    let _ = messages::parse::<SupervisorMessage>(packet());
    let _ = messages::parse::<WorkerReport>(packet());
    let _ = messages::parse::<WorkerOrders>(packet());
}

/// A label that is read is written as the same text: one key has one label.
pub fn key_label(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(label) = KeyLabel::parse(text) {
        assert_eq!(label.to_string(), text);
        assert!(label.version > 0);
        assert_eq!(label.agent.is_some(), label.purpose == Purpose::Agent);
    }
}

/// A URI that is taken selects something, and one that is refused does not show its query, which may be a PIN.
pub fn slot_uri(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match SlotUri::parse(text) {
        Ok(uri) => assert!(uri.token.is_some() || uri.serial.is_some() || uri.slot_id.is_some()),
        Err(failure) => {
            let query = text.split_once('?').map_or("", |(_, query)| query);
            assert!(query.len() < 24 || !failure.message.contains(query), "{}", failure.message);
        }
    }
}

/// 2026-11-21T04:20:00Z
const NOW: UnixMillis = UnixMillis(1_795_234_800_000);

/// The first byte chooses purpose and kind. What passes is permitted for the purpose and within the limits.
pub fn lint(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let body = rest.to_vec();
    let (first, second) = rest.split_at(rest.len() / 2);
    let kinds = [
        SignInput::Certificate { tbs: body.clone() },
        SignInput::Crl { tbs: body.clone() },
        SignInput::CertificationRequest { info: body.clone() },
        SignInput::RelatedCertRequest { cert_id: first.to_vec(), request_time: second.to_vec() },
        SignInput::TlsCertificateVerify { side: TlsSide::Client, transcript_hash: body.clone() },
        SignInput::TlsCertificateVerify { side: TlsSide::Server, transcript_hash: body.clone() },
        SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: body.clone() },
        SignInput::Document { tag: DocumentTag::CustodyStatement, canonical_json: body.clone() },
        SignInput::TreeHead { note: body.clone() },
        SignInput::Cosignature { message: body.clone() },
        SignInput::Jwt { signing_input: body.clone() },
        SignInput::AuditExport { note: body },
    ];
    let input = &kinds[usize::from(*choice) % kinds.len()];
    for purpose in Purpose::ALL {
        if lint::lint(&key_of(purpose), input, NOW).is_ok() {
            assert!(purpose.permits(input));
            assert!(lint::bytes(input) <= lint::bytes_max(input));
        }
    }
}

fn key_of(purpose: Purpose) -> KeyInfo {
    KeyInfo {
        id: Sha256([7; 32]),
        label: format!("bank-{}-v1", purpose.slug()),
        purpose,
        agent: None,
        version: 1,
        algorithm: purpose.default_algorithm(),
        spki: Vec::new(),
        custody: CustodyAttributes::WORST,
        state: KeyState::Active,
    }
}

// Evidence

/// The root of the bank whose evidence the corpus has.
const ROOT: &[u8] = include_bytes!("evidence/root.der");
const OID_BASE: &str = "1.3.6.1.4.1.32473";
/// What that bank has handed out: these bytes prove something, and no others do.
const RECEIPT: &[u8] = include_bytes!("corpus/receipt/seed-0");
const RECEIPT_TEXT: &[u8] = include_bytes!("corpus/receipt/text-0");
const PROOF: &[u8] = include_bytes!("corpus/proof/seed-0");
const BUNDLE: &[u8] = include_bytes!("corpus/bundle/seed-0");

/// A checkpoint that is read has one writing.
pub fn checkpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.text(), text);
    }
}

/// So has a signed note; one about an export is no checkpoint.
pub fn note(bytes: &[u8]) {
    let Ok(note) = SignedNote::parse(bytes) else {
        return;
    };
    assert_eq!(note.compose().as_bytes(), bytes);
    if let Some(export) = ExportNote::parse(&note.text) {
        assert_eq!(export.text(), note.text);
        assert!(Checkpoint::parse(&note.text).is_err());
        let _ = export_note::verify(bytes, (export.sha256, export.bytes), ROOT, OID_BASE);
    }
}

/// A proof has one writing, and only the one that was handed out proves anything.
pub fn proof(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(proof) = TlogProof::parse(text)
    {
        assert_eq!(proof.compose(), text);
    }
    assert!(leaf_proof::verify(bytes, ROOT, OID_BASE).is_err() || bytes == PROOF);
}

/// Only the receipt that was handed out proves anything, in either writing.
pub fn receipt(bytes: &[u8]) {
    assert!(receipt::verify(bytes, ROOT, OID_BASE).is_err() || bytes == RECEIPT || bytes == RECEIPT_TEXT);
}

/// The path of a tile, and a bundle of so many entries as the first byte says: each has one writing.
pub fn tile(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(tile) = Tile::parse(text)
    {
        assert_eq!(tile.to_string(), text);
        assert_eq!(tile.nodes().count(), usize::from(tile.width));
    }
    let Some((width, rest)) = bytes.split_first() else {
        return;
    };
    if let Ok(entries) = tile::unbundle(rest, u16::from(*width)) {
        assert_eq!(tile::bundle(entries.into_iter()).as_deref(), Some(rest));
    }
}

/// The verifier keys of a log, of either type; its heads are those of [`log_leaf`]s and no others.
const LOG_KEYS: &str = include_str!("evidence/log.keys");
/// Leaves that the log has.
pub const LOG_LEAVES: u8 = 40;

/// A leaf of that log.
pub fn log_leaf(number: u8) -> Sha256 {
    merkle::leaf_hash(&[number])
}

fn log_head(size: u64) -> Option<Head> {
    let leaves: Vec<Sha256> = (0..LOG_LEAVES).map(log_leaf).collect();
    let first = leaves.get(..usize::try_from(size).ok()?)?;
    Some(Head { size, root: merkle::root(first) })
}

/// What is handed to a witness has one writing. Only what the log has signed is taken for signed, and whatever is cosigned
/// goes on from what is remembered.
pub fn add_checkpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(request) = AddCheckpoint::parse(text) else {
        return;
    };
    assert_eq!(request.compose(), text);
    let Ok(note) = SignedNote::parse(request.checkpoint.as_bytes()) else {
        return;
    };
    let Ok(checkpoint) = Checkpoint::parse(&note.text) else {
        return;
    };
    let head = Head { size: checkpoint.size, root: checkpoint.root };
    for word in LOG_KEYS.lines() {
        let key = VerifierKey::parse(word).expect("a key of the log");
        assert!(note.verify(&key.name, &key.spki).is_err() || log_head(head.size) == Some(head));
    }
    for party in [None, Some("bank".parse().expect("a name"))] {
        for claim in [Claim::Nothing, Claim::NothingNewer] {
            let AddCheckpoint { old_size, ref proof, .. } = request;
            let origin = checkpoint.origin.clone();
            let submission = Submission {
                origin: origin.clone(),
                party: party.clone(),
                old_size,
                proof: proof.clone(),
                head,
                note: request.checkpoint.clone(),
                claim,
                cosigned: None,
            };
            for remembered in [0, 20].map(|size| log_head(size).expect("it has so many")) {
                let known = WitnessedLog {
                    origin: origin.clone(),
                    party: party.clone(),
                    head: remembered,
                    cosigned_at: NOW,
                    told_at: NOW,
                    halt: None,
                };
                if let Ok(Verdict::Cosign(next, _)) = witness::judge(std::slice::from_ref(&known), &submission, NOW) {
                    assert_eq!(next.head, head);
                    assert!(head.size > remembered.size || head == remembered, "one head for one size, and never back");
                }
                let halt =
                    Some(Halt { cause: HaltCause::Forked, shown: head, note: None, at: NOW, accept_asked_by: None });
                let halted = WitnessedLog { halt, ..known };
                assert!(matches!(witness::judge(&[halted], &submission, NOW), Ok(Verdict::Halted(..))));
            }
        }
    }
}

/// An archive has one writing, and only the bundle that was handed out proves anything.
pub fn bundle(bytes: &[u8]) {
    if let Ok(members) = bundle::tar::read(bytes) {
        assert_eq!(bundle::tar::write(&members).as_deref(), Ok(bytes));
    }
    assert!(bundle::verify(bytes, ROOT, OID_BASE).is_err() || bytes == BUNDLE);
}
