//! A bank of software keys: root, issuing CA, a transaction and a checkpoint key under the product's profile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign::hsm::{CertifiedKey, CustodyAttributes, HsmFault, KeyInfo, KeyState, Op, Reply, Token};
use countersign::kernel::note::{Checkpoint, NoteSignature, cosignature_message};
use countersign::kernel::sign::{Algorithm, Purpose, SignInput};
use countersign::kernel::types::Sha256;
use countersign::store::Cosignature;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SigningKey, date_time_ymd,
};

pub const OID_BASE: &str = "1.3.6.1.4.1.32473";

/// Keys in memory behind the trait that the product knows, with a plug to pull.
pub struct Keys {
    keys: Vec<(KeyInfo, KeyPair)>,
    down: AtomicBool,
    /// Every checkpoint note that was signed.
    notes: Mutex<Vec<Vec<u8>>>,
}

impl Keys {
    pub fn pull_the_plug(&self) {
        self.down.store(true, Ordering::SeqCst);
    }

    pub fn plug_in(&self) {
        self.down.store(false, Ordering::SeqCst);
    }

    pub fn notes(&self) -> Vec<Vec<u8>> {
        self.notes.lock().unwrap().clone()
    }

    pub fn key(&self, purpose: Purpose) -> (&KeyInfo, &KeyPair) {
        self.keys.iter().find(|(info, _)| info.purpose == purpose).map(|(info, pair)| (info, pair)).unwrap()
    }
}

impl Token for Keys {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        if self.down.load(Ordering::SeqCst) {
            let name = "worker_gone".to_owned();
            return Err(HsmFault::Unavailable { name, message: "no worker".into(), maybe_signed: true });
        }
        let Op::Sign { key, input } = op else {
            return Err(HsmFault::Refused { name: "unsupported".into(), message: "signs only".into() });
        };
        let (info, pair) = self.keys.iter().find(|(info, _)| info.id == key).expect("a key of this bank");
        assert!(info.purpose.permits(&input), "{} asked for {}", info.label, input.kind());
        if let SignInput::TreeHead { note } = &input {
            self.notes.lock().unwrap().push(note.clone());
        }
        Ok(Reply::Signature(pair.sign(&input.message()).unwrap()))
    }
}

pub struct Bank {
    pub root: Vec<u8>,
    pub issuing: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    root_issuer: Issuer<'static, KeyPair>,
    pub keys: std::sync::Arc<Keys>,
}

impl Bank {
    pub fn new() -> Self {
        Self::with_notes(Algorithm::Ed25519)
    }

    /// With keys of this algorithm for checkpoints and cosignatures.
    pub fn with_notes(notes: Algorithm) -> Self {
        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let issuing_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let root_params = ca_params("bank root", 1);
        let root = root_params.self_signed(&root_key).unwrap().der().to_vec();
        let root_issuer = Issuer::new(root_params, root_key);
        let issuing_params = ca_params("bank issuing", 0);
        let issuing = issuing_params.signed_by(&issuing_key, &root_issuer).unwrap().der().to_vec();
        let issuer = Issuer::new(issuing_params, issuing_key);
        // The last one as its own witness's, where a test takes another of these for the security company.
        let keys = [Purpose::Transaction, Purpose::Checkpoint, Purpose::Witness].map(|purpose| {
            let algorithm = if purpose == Purpose::Transaction { Algorithm::P256 } else { notes };
            let kind = if algorithm == Algorithm::P256 { &PKCS_ECDSA_P256_SHA256 } else { &PKCS_ED25519 };
            let pair = KeyPair::generate_for(kind).unwrap();
            (info(purpose, algorithm, pair.subject_public_key_info()), pair)
        });
        let keys = Keys { keys: keys.into(), down: AtomicBool::new(false), notes: Mutex::default() };
        Self { root, issuing, issuer, root_issuer, keys: std::sync::Arc::new(keys) }
    }

    /// A signing role's key with its regular chain.
    pub fn certified(&self, purpose: Purpose) -> CertifiedKey {
        let (info, _) = self.keys.key(purpose);
        CertifiedKey { key: info.clone(), chain: self.chain(purpose, |_| {}) }
    }

    /// The chain of a signing role whose own certificate was changed before it was signed.
    pub fn chain(&self, purpose: Purpose, change: impl FnOnce(&mut CertificateParams)) -> Vec<Vec<u8>> {
        self.chain_of_key(purpose, self.keys.key(purpose).1, change)
    }

    /// The same for another key.
    pub fn chain_of_key(
        &self,
        purpose: Purpose,
        key: &impl PublicKeyData,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<Vec<u8>> {
        let mut params = role_params(purpose);
        change(&mut params);
        let own = params.signed_by(key, &self.issuer).unwrap().der().to_vec();
        vec![own, self.issuing.clone(), self.root.clone()]
    }

    /// The chain of a signing role under an issuing certificate that was changed before the root signed it.
    pub fn chain_under(&self, purpose: Purpose, change: impl FnOnce(&mut CertificateParams)) -> Vec<Vec<u8>> {
        let mut params = ca_params("bank issuing", 0);
        change(&mut params);
        let issuing = params.signed_by(self.issuer.key(), &self.root_issuer).unwrap().der().to_vec();
        let mut chain = self.chain(purpose, |_| {});
        chain[1] = issuing;
        chain
    }

    /// A cosignature of this party's witness key over a checkpoint, at 2026-11-21T04:20:40Z.
    pub fn cosign(&self, checkpoint: &Checkpoint) -> Cosignature {
        let seconds = 1_795_234_840;
        let message = cosignature_message(seconds, &checkpoint.text()).into_bytes();
        let signature = self.sign(Purpose::Witness, SignInput::Cosignature { message });
        let spki = &self.keys.key(Purpose::Witness).0.spki;
        let line = NoteSignature::cosignature("secco.example/witness", spki, seconds, &signature).unwrap();
        Cosignature { line: line.to_string(), chain: self.chain(Purpose::Witness, |_| {}) }
    }

    /// The token's signature, as a service would ask for it.
    pub fn sign(&self, purpose: Purpose, input: SignInput) -> Vec<u8> {
        let token: &dyn Token = &*self.keys;
        token.sign(self.keys.key(purpose).0.id, input).unwrap()
    }
}

/// The private extended key usage of a role.
pub fn usage(arc: u64) -> ExtendedKeyUsagePurpose {
    ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 32473, 2, arc])
}

fn ca_params(name: &str, below: u8) -> CertificateParams {
    let mut params = dated_params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn role_params(purpose: Purpose) -> CertificateParams {
    let mut params = dated_params(&format!("bank {}", purpose.slug()));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage(if purpose == Purpose::Transaction { 3 } else { 2 })];
    params.use_authority_key_identifier_extension = true;
    params
}

fn dated_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn info(purpose: Purpose, algorithm: Algorithm, spki: Vec<u8>) -> KeyInfo {
    KeyInfo {
        id: Sha256::of(&[&spki]),
        label: format!("bank-{}-v1", purpose.slug()),
        purpose,
        agent: None,
        version: 1,
        algorithm,
        spki,
        custody: CustodyAttributes::SOUND,
        state: KeyState::Active,
    }
}
