//! Our OCSP responder (RFC 6960): what a certificate of one of our issuing CAs is worth now.
//!
//! Answers without a nonce are signed once and kept for as long as they stay true; a nonce costs a signature each time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ca::authority::Authority;
use crate::hsm::CertifiedKey;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::ocsp::{self, CertId, NameHash, NoAnswer, OcspRequest, Standing};
use crate::kernel::credential::reason::RevocationReason;
use crate::kernel::sign::{Purpose, SignInput, raw_public_key};
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{Serial, Sha256, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};
use crate::ops::registry::LiveStatus;
use crate::store::CertificateLine;

/// How long an answer is valid; never past its signer's certificate.
const ANSWER_LIFE_MS: i64 = 3_600_000;
/// Answers that are kept: some 40 MiB. Then the older half goes.
const ANSWERS_KEPT_MAX: usize = 20_000;
/// Signers are looked up anew after this time, so that a renewed certificate is noticed.
const SIGNERS_LIFE_MS: i64 = 60_000;

/// The responder of one party.
pub struct Responder {
    authority: Arc<Authority>,
    live: Arc<LiveStatus>,
    /// By issuer. The locks guard the maps only and are held for no call.
    signers: Mutex<Option<Signers>>,
    kept: Mutex<BTreeMap<Vec<u8>, Kept>>,
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// `OCSPResponse`, DER, and until when anybody may keep it.
#[derive(Clone, Debug)]
pub struct OcspAnswer {
    pub der: Arc<[u8]>,
    /// None: an answer to this request alone, or none at all.
    pub validity: Option<Validity>,
}

/// From when until when an answer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    pub this_update: UnixMillis,
    pub next_update: UnixMillis,
    /// SHA-256 of the answer.
    pub fingerprint: Sha256,
}

#[derive(Clone)]
struct Signers {
    by_issuer: BTreeMap<String, Arc<Signer>>,
    found_at: UnixMillis,
}

/// Who signs for one issuer.
struct Signer {
    role: CertifiedKey,
    algorithm: &'static [u8],
    /// How the answer names its signer.
    hash: Vec<u8>,
    not_after: UnixMillis,
    issuer: String,
    /// SHA-1 and SHA-256 of the issuer's name, and of its key.
    issuer_hashes: [(NameHash, Vec<u8>, Vec<u8>); 2],
}

struct Kept {
    answer: OcspAnswer,
    serial: Serial,
    /// What makes it untrue: another mark.
    marks: Marks,
    renew_at: UnixMillis,
}

/// The marks that decide about a certificate, as this node knows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Marks {
    certificate: bool,
    issuer: bool,
    everyone: bool,
}

impl Marks {
    fn of(status: &StatusSnapshot, issuer: &str, serial: &Serial) -> Self {
        Self {
            certificate: status.certificates.contains(&(issuer.to_owned(), serial.clone())),
            issuer: status.issuers.contains(issuer),
            everyone: status.everyone,
        }
    }
}

impl Responder {
    pub fn new(authority: Arc<Authority>, live: Arc<LiveStatus>) -> Self {
        Self { authority, live, signers: Mutex::default(), kept: Mutex::default() }
    }

    /// Keys or certificates may have changed.
    pub fn forget_signers(&self) {
        *self.signers.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// An answer that is signed already and still true. Never waits.
    pub fn kept(&self, issuer: &str, request: &[u8]) -> Option<OcspAnswer> {
        let request = ocsp::read_request(request).ok()?;
        let one = single_of(&request)?;
        let status = self.live.current();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(&key(issuer, one))?;
        let holds = clock::now() < found.renew_at && found.marks == Marks::of(&status, issuer, &found.serial);
        holds.then(|| found.answer.clone())
    }

    /// Answers a request (DER) to this issuer's responder. Blocking: reads the store, signs.
    pub fn answer(&self, issuer: &str, request: &[u8]) -> OcspAnswer {
        let Ok(request) = ocsp::read_request(request) else {
            return refusal(NoAnswer::MalformedRequest);
        };
        self.signed(issuer, &request).unwrap_or_else(|failure| {
            tracing::warn!(name = %failure.name, "no OCSP answer could be signed");
            match failure.kind {
                Kind::Busy | Kind::Unknown => refusal(NoAnswer::TryLater),
                Kind::Fault | Kind::Usage | Kind::Refused => refusal(NoAnswer::InternalError),
            }
        })
    }

    fn signed(&self, issuer: &str, request: &OcspRequest<'_>) -> Result<OcspAnswer, Failure> {
        let Some(signer) = self.signer(issuer)? else {
            return Ok(refusal(NoAnswer::Unauthorized));
        };
        // The marks are taken before the store is read: an answer that is older than a change is not kept.
        let status = self.live.current();
        let now = clock::now();
        let next_update = now.plus_ms(ANSWER_LIFE_MS).min(signer.not_after);
        let mut singles = vec![];
        let mut to_keep = None;
        for asked in &request.certificates {
            let standing = self.standing(&signer, asked, &status, now)?;
            singles.push(ocsp::single(asked.raw, standing, now, next_update));
            to_keep = asked.serial.clone().filter(|_| standing != Standing::Unknown);
        }
        let data = ocsp::response_data(&signer.hash, now, &singles, request.nonce);
        let input = SignInput::Ocsp { data: data.clone() };
        let signature = self.authority.token.sign(signer.role.key.id, input)?;
        let certificate = signer.role.chain.first().map(Vec::as_slice).unwrap_or_default();
        let der = ocsp::response(&data, signer.algorithm, &signature, certificate);
        let fingerprint = Sha256::of(&[&der]);
        let mut answer = OcspAnswer { der: der.into(), validity: None };
        if let Some((one, serial)) = single_of(request).zip(to_keep) {
            answer.validity = Some(Validity { this_update: now, next_update, fingerprint });
            let marks = Marks::of(&status, issuer, &serial);
            let renew_at = now.plus_ms((next_update.0 - now.0) / 2);
            self.keep(key(issuer, one), Kept { answer: answer.clone(), serial, marks, renew_at });
        }
        Ok(answer)
    }

    fn keep(&self, key: Vec<u8>, new: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= ANSWERS_KEPT_MAX {
            let mut ends: Vec<UnixMillis> = kept.values().map(|kept| kept.renew_at).collect();
            ends.sort_unstable();
            let middle = ends[ends.len() / 2];
            kept.retain(|_, kept| kept.renew_at > middle);
        }
        kept.insert(key, new);
    }

    fn standing(
        &self,
        signer: &Signer,
        asked: &CertId<'_>,
        status: &StatusSnapshot,
        now: UnixMillis,
    ) -> Result<Standing, Failure> {
        let is_ours = signer
            .issuer_hashes
            .iter()
            .any(|(hash, name, key)| asked.hash == Some(*hash) && asked.issuer_name == name && asked.issuer_key == key);
        let Some(serial) = asked.serial.as_ref().filter(|_| is_ours) else {
            return Ok(Standing::Unknown);
        };
        let Some(found) = self.authority.store.certificate_status(&signer.issuer, serial)? else {
            return Ok(Standing::Unknown);
        };
        Ok(match found.revoked {
            Some(entry) => Standing::Revoked { at: entry.at, reason: RevocationReason::written(&entry.reason) },
            None if is_covered(&found.line, &signer.issuer, status) => Standing::Revoked { at: now, reason: None },
            None => Standing::Good,
        })
    }

    fn signer(&self, issuer: &str) -> Result<Option<Arc<Signer>>, Failure> {
        let now = clock::now();
        let known = self.signers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fresh = known.filter(|known| now < known.found_at.plus_ms(SIGNERS_LIFE_MS));
        let signers = match fresh {
            Some(signers) => signers,
            None => {
                let found = Signers { by_issuer: self.find_signers(now)?, found_at: now };
                *self.signers.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
                found
            }
        };
        Ok(signers.by_issuer.get(issuer).filter(|signer| signer.not_after > now).cloned())
    }

    fn find_signers(&self, now: UnixMillis) -> Result<BTreeMap<String, Arc<Signer>>, Failure> {
        let mut by_issuer: BTreeMap<String, Arc<Signer>> = BTreeMap::new();
        for role in self.authority.role_history(Purpose::OcspResponder)? {
            let Some(signer) = Signer::of(role).filter(|signer| signer.not_after > now) else {
                continue;
            };
            let known = by_issuer.get(&signer.issuer);
            if known.is_none_or(|known| known.not_after < signer.not_after) {
                by_issuer.insert(signer.issuer.clone(), Arc::new(signer));
            }
        }
        Ok(by_issuer)
    }
}

impl Signer {
    fn of(role: CertifiedKey) -> Option<Self> {
        if role.key.state != crate::hsm::KeyState::Active {
            return None;
        }
        let [certificate, issuing, ..] = role.chain.as_slice() else {
            return None;
        };
        let certificate = Certificate::read(certificate).ok()?;
        let issuing = Certificate::read(issuing).ok()?;
        let hashed = |hash: NameHash| {
            let (name, key) = hash.of_issuer(issuing.tbs.subject, issuing.tbs.spki)?;
            Some((hash, name, key))
        };
        Some(Self {
            algorithm: raw_public_key(&role.key.spki)?.0.signature_identifier()?,
            hash: ocsp::responder_hash(&role.key.spki)?,
            not_after: certificate.tbs.not_after.at,
            issuer: hex::encode(issuing.tbs.subject_key_identifier()?),
            issuer_hashes: [hashed(NameHash::Sha1)?, hashed(NameHash::Sha256)?],
            role,
        })
    }
}

/// What stands for a certificate that has no mark of its own: its issuer's, or everyone's.
fn is_covered(line: &CertificateLine, issuer: &str, status: &StatusSnapshot) -> bool {
    status.issuers.contains(issuer) || (status.everyone && line.subject.starts_with("spiffe://"))
}

/// The one certificate of a question whose answer others may have too.
fn single_of<'a, 'r>(request: &'r OcspRequest<'a>) -> Option<&'r CertId<'a>> {
    match request.certificates.as_slice() {
        [one] if request.nonce.is_none() => Some(one),
        _ => None,
    }
}

fn key(issuer: &str, asked: &CertId<'_>) -> Vec<u8> {
    [issuer.as_bytes(), asked.raw].concat()
}

fn refusal(why: NoAnswer) -> OcspAnswer {
    OcspAnswer { der: why.encode().into(), validity: None }
}
