//! Keys of synthetic agents, in memory: SoftHSM reads all files of its token for each new key, so that thousands of
//! keys would take longer than everything that is measured. Everything else of the host is its token's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde::{Deserialize, Serialize};

use super::served::{Served, authority, failed};
use crate::ca::Authority;
use crate::config::Config;
use crate::hsm::{CertifiedKey, CustodyAttributes, HsmFault, KeyInfo, KeyOrder, KeyState, Op, Reply, Token};
use crate::kernel::sign::{Algorithm, Purpose, SignInput, spki_der};
use crate::kernel::types::{KeyId, Sha256};
use crate::ops::failure::Failure;

/// A key in memory with its certificates, for whoever signs with it: this process, or one that is told.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct OpenKey {
    info: KeyInfo,
    /// DER, the key's own certificate first.
    pub(super) chain: Vec<Vec<u8>>,
    /// The private key (RFC 5208), DER.
    pub(super) pkcs8: Vec<u8>,
}

impl OpenKey {
    /// # Errors
    /// `bench_failed` when the bytes are no such key.
    pub(super) fn new(purpose: Purpose, chain: Vec<Vec<u8>>, pkcs8: Vec<u8>) -> Result<Self, Failure> {
        let pair = pair_of(&pkcs8)?;
        Ok(Self { info: about(&pair, "bench", purpose, None), chain, pkcs8 })
    }

    /// As the product names it.
    pub(super) fn certified(&self) -> CertifiedKey {
        CertifiedKey { key: self.info.clone(), chain: self.chain.clone() }
    }

    /// A token that does nothing but sign with it.
    ///
    /// # Errors
    /// `bench_failed` when the bytes are no such key.
    pub(super) fn token(&self) -> Result<Arc<dyn Token>, Failure> {
        Ok(Arc::new(Signing { key: self.info.id, pair: pair_of(&self.pkcs8)? }))
    }
}

fn pair_of(pkcs8: &[u8]) -> Result<EcdsaKeyPair, Failure> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).map_err(|error| failed(&error))
}

struct Signing {
    key: KeyId,
    pair: EcdsaKeyPair,
}

impl Token for Signing {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        match op {
            Op::Sign { key, input } if key == self.key => signed(&self.pair, &input),
            _ => Err(unable("this key does nothing but sign")),
        }
    }
}

/// A host's token, and keys of agents that are in none.
pub(super) struct SyntheticAgents {
    token: Arc<dyn Token>,
    /// The token's own: nothing changes them here.
    known: Vec<KeyInfo>,
    /// The lock guards the map only.
    keys: Mutex<BTreeMap<KeyId, (KeyInfo, Arc<EcdsaKeyPair>)>>,
}

/// The host, with agents whose keys are made in no time, and the token that has them.
///
/// # Errors
/// Whatever keeps it from opening.
pub(super) fn host_of(host: &Served) -> Result<(Arc<Authority>, Arc<SyntheticAgents>), Failure> {
    let token: Arc<dyn Token> = host.token.pool();
    let known = token.keys()?;
    let agents = Arc::new(SyntheticAgents { token, known, keys: Mutex::default() });
    let token = Arc::clone(&agents) as Arc<dyn Token>;
    let authority = authority(&Config::load(&host.state)?, &host.state, token, Arc::clone(&host.store))?;
    Ok((authority, agents))
}

impl SyntheticAgents {
    fn generate(&self, order: KeyOrder) -> Result<KeyInfo, HsmFault> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| unable("no key was made"))?;
        let info = about(&pair, &order.party, order.purpose, order.agent);
        self.lock().insert(info.id, (info.clone(), Arc::new(pair)));
        Ok(info)
    }

    /// An agent's key with what was issued for it.
    ///
    /// # Errors
    /// `bench_failed` for a key that is not one of these.
    pub(super) fn opened(&self, identity: &CertifiedKey) -> Result<OpenKey, Failure> {
        let (info, pair) = self.lock().get(&identity.key.id).cloned().ok_or_else(|| failed(&"no such agent"))?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|error| failed(&error))?.as_ref().to_vec();
        Ok(OpenKey { info, chain: identity.chain.clone(), pkcs8 })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyId, (KeyInfo, Arc<EcdsaKeyPair>)>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn about(pair: &EcdsaKeyPair, party: &str, purpose: Purpose, agent: Option<String>) -> KeyInfo {
    let spki = spki_der(Algorithm::P256, pair.public_key().as_ref());
    let named = agent.iter().map(|agent| format!(".{agent}")).collect::<String>();
    KeyInfo {
        id: Sha256::of(&[&spki]),
        label: format!("{party}-{}{named}-v1", purpose.slug()),
        purpose,
        agent,
        version: 1,
        algorithm: Algorithm::P256,
        spki,
        // As a token would say it of such a key: what is measured does not end at the first refusal.
        custody: CustodyAttributes::SOUND,
        state: KeyState::Active,
    }
}

fn signed(pair: &EcdsaKeyPair, input: &SignInput) -> Result<Reply, HsmFault> {
    let signature = pair.sign(&SystemRandom::new(), &input.message()).map_err(|_| unable("nothing was signed"))?;
    Ok(Reply::Signature(signature.as_ref().to_vec()))
}

impl Token for SyntheticAgents {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        match op {
            Op::Generate(order) if order.purpose == Purpose::Agent => self.generate(order).map(Reply::Key),
            Op::ListKeys => {
                let all = self.lock();
                let agents = all.values().map(|(info, _)| info.clone());
                Ok(Reply::Keys(self.known.iter().cloned().chain(agents).collect()))
            }
            Op::Sign { key, input } => {
                let pair = self.lock().get(&key).map(|(_, pair)| Arc::clone(pair));
                match pair {
                    Some(pair) => signed(&pair, &input),
                    None => self.token.call(Op::Sign { key, input }),
                }
            }
            other => self.token.call(other),
        }
    }
}

fn unable(message: &str) -> HsmFault {
    HsmFault::Unavailable { name: "bench_failed".into(), message: failed(&message).message, maybe_signed: false }
}
