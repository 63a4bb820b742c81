//! Keys of synthetic agents, in memory: SoftHSM reads all files of its token for each new key, so that thousands of
//! keys would take longer than everything that is measured. Everything else of the host is its token's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::served::{Served, authority, failed};
use crate::ca::Authority;
use crate::config::Config;
use crate::hsm::{CustodyAttributes, HsmFault, KeyInfo, KeyOrder, KeyState, Op, Reply, Token};
use crate::kernel::sign::{Algorithm, Purpose, spki_der};
use crate::kernel::types::{KeyId, Sha256};
use crate::ops::failure::Failure;

/// A host's token, and keys of agents that are in none.
struct SyntheticAgents {
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
pub(super) fn host_of(host: &Served) -> Result<(Arc<Authority>, Arc<dyn Token>), Failure> {
    let token: Arc<dyn Token> = host.token.pool();
    let known = token.keys()?;
    let token: Arc<dyn Token> = Arc::new(SyntheticAgents { token, known, keys: Mutex::default() });
    let authority = authority(&Config::load(&host.state)?, &host.state, Arc::clone(&token), Arc::clone(&host.store))?;
    Ok((authority, token))
}

impl SyntheticAgents {
    fn generate(&self, order: KeyOrder) -> Result<KeyInfo, HsmFault> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| unable("no key was made"))?;
        let spki = spki_der(Algorithm::P256, pair.public_key().as_ref());
        let agent = order.agent.unwrap_or_default();
        let info = KeyInfo {
            id: Sha256::of(&[&spki]),
            label: format!("{}-{}.{agent}-v1", order.party, order.purpose.slug()),
            purpose: order.purpose,
            agent: Some(agent),
            version: 1,
            algorithm: Algorithm::P256,
            spki,
            // As a token would say it of such a key: what is measured does not end at the first refusal.
            custody: CustodyAttributes::SOUND,
            state: KeyState::Active,
        };
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(info.id, (info.clone(), Arc::new(pair)));
        Ok(info)
    }
}

impl Token for SyntheticAgents {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        let keys = || self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match op {
            Op::Generate(order) if order.purpose == Purpose::Agent => self.generate(order).map(Reply::Key),
            Op::ListKeys => {
                let all = keys();
                let agents = all.values().map(|(info, _)| info.clone());
                Ok(Reply::Keys(self.known.iter().cloned().chain(agents).collect()))
            }
            Op::Sign { key, input } => {
                let pair = keys().get(&key).map(|(_, pair)| Arc::clone(pair));
                let Some(pair) = pair else {
                    return self.token.call(Op::Sign { key, input });
                };
                let signed = pair.sign(&SystemRandom::new(), &input.message());
                signed
                    .map(|signature| Reply::Signature(signature.as_ref().to_vec()))
                    .map_err(|_| unable("nothing was signed"))
            }
            other => self.token.call(other),
        }
    }
}

fn unable(message: &str) -> HsmFault {
    HsmFault::Unavailable { name: "bench_failed".into(), message: failed(&message).message, maybe_signed: false }
}
