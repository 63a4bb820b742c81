//! A token of software keys for unit tests of other modules. Never compiled into the product.

use std::sync::Mutex;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use super::{CustodyAttributes, HsmFault, KeyInfo, Op, Reply, Token, TokenInfo};
use crate::kernel::sign::{Algorithm, Purpose, spki_der};
use crate::kernel::types::Sha256;

#[derive(Debug)]
enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Keys in memory, guarded by one lock.
#[derive(Debug, Default)]
pub struct SoftwareToken {
    keys: Mutex<Vec<(KeyInfo, Pair)>>,
}

impl SoftwareToken {
    fn generate_pair(&self, party: &str, purpose: Purpose, agent: Option<String>) -> KeyInfo {
        let mut keys = self.keys.lock().unwrap();
        let (pair, spki) = match purpose.algorithm() {
            Algorithm::P256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
                let spki = spki_der(Algorithm::P256, pair.public_key().as_ref());
                (Pair::P256(pair), spki)
            }
            Algorithm::Ed25519 => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let spki = spki_der(Algorithm::Ed25519, pair.public_key().as_ref());
                (Pair::Ed25519(pair), spki)
            }
        };
        let same = |key: &KeyInfo| key.purpose == purpose && key.agent == agent;
        let version = 1 + u32::try_from(keys.iter().filter(|(key, _)| same(key)).count()).unwrap();
        let dotted = agent.as_ref().map(|name| format!(".{name}")).unwrap_or_default();
        let info = KeyInfo {
            id: Sha256::of(&[&spki]),
            label: format!("{party}-{}{dotted}-v{version}", purpose.slug()),
            purpose,
            agent,
            version,
            algorithm: purpose.algorithm(),
            spki,
            custody: CustodyAttributes {
                sensitive: true,
                always_sensitive: true,
                never_extractable: true,
                extractable: false,
                local: true,
            },
        };
        keys.push((info.clone(), pair));
        info
    }
}

impl Token for SoftwareToken {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        let refused = |name: &str| HsmFault::Refused { name: name.into(), message: name.into() };
        match op {
            Op::Describe => Ok(Reply::Token(TokenInfo {
                module: "software".into(),
                label: "software".into(),
                serial: "0".into(),
                manufacturer: "tests".into(),
                mechanisms: vec![],
                worker_pid: std::process::id(),
            })),
            Op::ListKeys => Ok(Reply::Keys(self.keys.lock().unwrap().iter().map(|(info, _)| info.clone()).collect())),
            Op::Generate { party, purpose, agent } => Ok(Reply::Key(self.generate_pair(&party, purpose, agent))),
            Op::Sign { key, input } => {
                let keys = self.keys.lock().unwrap();
                let (info, pair) = keys.iter().find(|(info, _)| info.id == key).ok_or(refused("unknown_key"))?;
                if !info.purpose.permits(&input) {
                    return Err(refused("wrong_purpose"));
                }
                Ok(Reply::Signature(match pair {
                    Pair::P256(pair) => pair.sign(&SystemRandom::new(), &input.message()).unwrap().as_ref().to_vec(),
                    Pair::Ed25519(pair) => pair.sign(&input.message()).as_ref().to_vec(),
                }))
            }
        }
    }
}
