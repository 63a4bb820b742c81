//! A token of software keys for unit tests of other modules. Never compiled into the product.

use std::sync::Mutex;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};

use super::{
    CustodyAttributes, HsmFault, KeyInfo, KeyOrder, KeyState, LibraryInfo, Op, PinState, Reply, Token, TokenInfo,
};
use crate::kernel::sign::{Algorithm, spki_der};
use crate::kernel::types::{KeyId, Sha256};

#[derive(Debug)]
enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// Keys in memory, guarded by one lock.
#[derive(Debug, Default)]
pub struct SoftwareToken {
    keys: Mutex<Vec<(KeyInfo, Pair)>>,
}

impl SoftwareToken {
    fn generate_pair(&self, order: KeyOrder) -> Result<KeyInfo, HsmFault> {
        let KeyOrder { party, purpose, agent, algorithm } = order;
        let mut keys = self.keys.lock().unwrap();
        let (pair, public) = match algorithm {
            Algorithm::P256 | Algorithm::P384 => {
                let scheme = if algorithm == Algorithm::P256 {
                    &ECDSA_P256_SHA256_ASN1_SIGNING
                } else {
                    &ECDSA_P384_SHA384_ASN1_SIGNING
                };
                let pair = EcdsaKeyPair::generate(scheme).unwrap();
                let public = pair.public_key().as_ref().to_vec();
                (Pair::Ecdsa(pair), public)
            }
            Algorithm::Ed25519 => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let public = pair.public_key().as_ref().to_vec();
                (Pair::Ed25519(pair), public)
            }
            Algorithm::Rsa3072 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa3072).unwrap();
                let public = pair.public_key().as_ref().to_vec();
                (Pair::Rsa(Box::new(pair)), public)
            }
            Algorithm::Aes256 => return Err(refused("mechanism_missing")),
        };
        let spki = spki_der(algorithm, &public);
        let same = |key: &KeyInfo| key.purpose == purpose && key.agent == agent;
        let version = 1 + u32::try_from(keys.iter().filter(|(key, _)| same(key)).count()).unwrap();
        let dotted = agent.as_ref().map(|name| format!(".{name}")).unwrap_or_default();
        let info = KeyInfo {
            id: Sha256::of(&[&spki]),
            label: format!("{party}-{}{dotted}-v{version}", purpose.slug()),
            purpose,
            agent,
            version,
            algorithm,
            spki,
            custody: CustodyAttributes::SOUND,
            state: KeyState::Active,
        };
        keys.push((info.clone(), pair));
        Ok(info)
    }

    /// Moves a key down its states.
    fn change(&self, id: KeyId, to: KeyState) -> Result<KeyInfo, HsmFault> {
        let mut keys = self.keys.lock().unwrap();
        let (info, _) = keys.iter_mut().find(|(info, _)| info.id == id).ok_or(refused("unknown_key"))?;
        if to == KeyState::Destroyed && info.state == KeyState::Active {
            return Err(refused("key_still_active"));
        }
        info.state = info.state.max(to);
        Ok(info.clone())
    }
}

fn refused(name: &str) -> HsmFault {
    HsmFault::Refused { name: name.into(), message: name.into() }
}

impl Token for SoftwareToken {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        match op {
            Op::Describe => Ok(Reply::Token(TokenInfo {
                module: "software".into(),
                library: LibraryInfo {
                    path: "software".into(),
                    description: "software".into(),
                    version: "0".into(),
                    sha256: None,
                },
                label: "software".into(),
                serial: "0".into(),
                manufacturer: "tests".into(),
                mechanisms: vec![],
                pin: PinState::Sound,
                worker_pid: std::process::id(),
            })),
            Op::ListKeys => Ok(Reply::Keys(self.keys.lock().unwrap().iter().map(|(info, _)| info.clone()).collect())),
            Op::Generate(order) => self.generate_pair(order).map(Reply::Key),
            Op::Retire { key } => self.change(key, KeyState::VerifyOnly).map(Reply::Key),
            Op::Destroy { key } => self.change(key, KeyState::Destroyed).map(Reply::Key),
            Op::Seal { .. } | Op::Unseal { .. } => Err(refused("wrong_purpose")),
            Op::Sign { key, input } => {
                let keys = self.keys.lock().unwrap();
                let (info, pair) = keys.iter().find(|(info, _)| info.id == key).ok_or(refused("unknown_key"))?;
                if !info.purpose.permits(&input) {
                    return Err(refused("wrong_purpose"));
                }
                if info.state != KeyState::Active {
                    return Err(refused("key_verify_only"));
                }
                let message = input.message();
                Ok(Reply::Signature(match pair {
                    Pair::Ecdsa(pair) => pair.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec(),
                    Pair::Ed25519(pair) => pair.sign(&message).as_ref().to_vec(),
                    Pair::Rsa(pair) => {
                        let mut signature = vec![0; pair.public_modulus_len()];
                        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature).unwrap();
                        signature
                    }
                }))
            }
        }
    }
}
