//! Verification elsewhere: the acceptance rule for whoever has nothing but two roots, a chain and perhaps lists.
//!
//! The verifier at the bank knows the issuing CAs and what is revoked. Here both come from the other side: issuing
//! CAs out of the chain, each believed only under its party's root, and what the lists say, each believed only under
//! its issuer's key.

use std::collections::BTreeMap;

use super::{Acceptance, PairRefusal, PartyAnchors, PeerChains, VerifiedAgent, accept};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::{ISSUING_MAX, authority_is_valid};
use crate::kernel::credential::crl::{self, CrlRefusal};
use crate::kernel::credential::oid::OidBase;
use crate::kernel::status::{CrlStatus, CustodyLevel, StatusSnapshot};
use crate::kernel::types::UnixMillis;

/// B, S and as many CAs of each party as a bank would keep, the roots too.
pub const CHAIN_MAX: usize = 2 + 2 * (ISSUING_MAX + 1);
/// Lists of every CA, twice.
pub const LISTS_MAX: usize = 4 * (ISSUING_MAX + 1);

/// What is asked about a pair. All certificates and lists are DER.
#[derive(Clone, Debug)]
pub struct PairQuestion<'a> {
    /// The bank's root, trusted as it is.
    pub bank_root: &'a [u8],
    /// The security company's root, trusted as it is.
    pub company_root: &'a [u8],
    /// B, then S; between or after them issuing CAs (and the roots) in any order. At most [`CHAIN_MAX`].
    pub chain: &'a [Vec<u8>],
    /// Revocation lists. With at least one, the status of both halves must be known; that of an issuing CA is asked
    /// of its root's list, where there is one. Lists of strangers say nothing. At most `LISTS_MAX`.
    pub lists: &'a [Vec<u8>],
    /// The moment in question; within its second both ends of a validity are inclusive.
    pub at: UnixMillis,
    pub trust_domain: &'a str,
    pub oid_base: OidBase,
    /// The least custody of the two halves.
    pub custody_min: CustodyLevel,
}

/// Why a pair was not accepted elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifyRefusal {
    /// A root is no certificate.
    AnchorInvalid,
    /// Both roots are over one key, or one issuing CA stands on both sides: then it is one organisation.
    PartiesNotDistinct,
    TooManyLists,
    /// A list of one of the four CAs is not acceptable.
    List(CrlRefusal),
    Pair(PairRefusal),
    /// Lists were given, none of them the bank's.
    BankStatusMissing,
}

impl VerifyRefusal {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::AnchorInvalid => "anchor_invalid",
            Self::PartiesNotDistinct => "parties_not_distinct",
            Self::TooManyLists => "too_many_lists",
            Self::List(refusal) => refusal.name(),
            Self::Pair(refusal) => refusal.name(),
            Self::BankStatusMissing => "bank_status_missing",
        }
    }

    /// The profile rule that is broken, for profile violations.
    pub fn detail(self) -> Option<&'static str> {
        match self {
            Self::Pair(refusal) => refusal.detail(),
            Self::AnchorInvalid
            | Self::PartiesNotDistinct
            | Self::TooManyLists
            | Self::List(_)
            | Self::BankStatusMissing => None,
        }
    }
}

impl std::fmt::Display for VerifyRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AnchorInvalid => f.write_str("a root is not a certificate in strict DER"),
            Self::PartiesNotDistinct => f.write_str("both halves lead to one organisation"),
            Self::TooManyLists => write!(f, "more than {LISTS_MAX} revocation lists were given"),
            Self::List(refusal) => refusal.fmt(f),
            Self::Pair(refusal) => refusal.fmt(f),
            Self::BankStatusMissing => f.write_str("no revocation list of the bank is known"),
        }
    }
}

/// Verifies a pair with two roots and nothing else: the acceptance rule without a daemon, clock or network.
///
/// ```
/// use countersign::kernel::credential::oid::OidBase;
/// use countersign::kernel::credential::pem::{self, Kind};
/// use countersign::kernel::status::CustodyLevel;
/// use countersign::kernel::types::UnixMillis;
/// use countersign::{PairQuestion, verify_pair};
///
/// let read = |text| pem::decode_all(Kind::Certificate, text).expect("PEM");
/// let example = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verifying/pair.pem"));
/// let bank = read(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verifying/bank-root.pem")));
/// let company = read(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verifying/company-root.pem")));
/// let chain = read(example);
/// let question = PairQuestion {
///     bank_root: &bank[0],
///     company_root: &company[0],
///     chain: &chain,
///     lists: &[],
///     at: UnixMillis(1_795_234_800_000), // 2026-11-21T04:20:00Z
///     trust_domain: "countersign.example",
///     oid_base: "1.3.6.1.4.1.32473".parse::<OidBase>()?,
///     custody_min: CustodyLevel::CustodyStated,
/// };
/// let agent = verify_pair(&question).expect("both organisations signed for it");
/// assert_eq!(agent.spiffe_id().to_string(), "spiffe://countersign.example/agent/purchaser/shopper");
///
/// let tomorrow = PairQuestion { at: UnixMillis(1_795_400_000_000), ..question };
/// assert_eq!(verify_pair(&tomorrow).unwrap_err().name(), "bank_expired");
/// # Ok::<(), countersign::kernel::types::Malformed>(())
/// ```
///
/// # Errors
/// The first [`VerifyRefusal`]: anchors, lists, the pair, its status.
pub fn verify_pair(question: &PairQuestion<'_>) -> Result<VerifiedAgent, VerifyRefusal> {
    let at = UnixMillis(question.at.seconds().saturating_mul(1000));
    let roots = [question.bank_root, question.company_root];
    let [bank, company] = roots.map(|root| Certificate::read(root).map_err(|_| VerifyRefusal::AnchorInvalid));
    if bank?.tbs.spki == company?.tbs.spki {
        return Err(VerifyRefusal::PartiesNotDistinct);
    }
    if question.lists.len() > LISTS_MAX {
        return Err(VerifyRefusal::TooManyLists);
    }
    if question.chain.len() > CHAIN_MAX {
        return Err(VerifyRefusal::Pair(PairRefusal::TooManyCertificates));
    }
    let sorted = sort(question, at);
    let acceptance = Acceptance {
        bank: PartyAnchors { root: question.bank_root.to_vec(), issuing: sorted.bank_issuing },
        company: PartyAnchors { root: question.company_root.to_vec(), issuing: sorted.company_issuing },
        trust_domain: question.trust_domain.to_owned(),
        oid_base: question.oid_base.clone(),
        custody_min: question.custody_min,
        company_crl_required: !question.lists.is_empty(),
    };
    let status = status_of(question.lists, &acceptance, at).map_err(VerifyRefusal::List)?;
    let agent =
        accept(&PeerChains { presented: sorted.presented }, &acceptance, &status, at).map_err(VerifyRefusal::Pair)?;
    let principal = agent.principal();
    if principal.bank_issuer == principal.company_issuer {
        return Err(VerifyRefusal::PartiesNotDistinct);
    }
    if !question.lists.is_empty() && !status.crls.contains_key(&principal.bank_issuer) {
        return Err(VerifyRefusal::BankStatusMissing);
    }
    Ok(agent)
}

/// The chain, taken apart.
struct Sorted {
    /// What is neither a root nor issued by one: B and S, and nothing else in an honest chain.
    presented: Vec<Vec<u8>>,
    bank_issuing: Vec<Vec<u8>>,
    company_issuing: Vec<Vec<u8>>,
}

fn sort(question: &PairQuestion<'_>, at: UnixMillis) -> Sorted {
    let mut sorted = Sorted { presented: Vec::new(), bank_issuing: Vec::new(), company_issuing: Vec::new() };
    for (place, der) in question.chain.iter().enumerate() {
        if place == 0 {
            sorted.presented.push(der.clone());
        } else if der == question.bank_root || der == question.company_root {
        } else if claims_issue(der, question.bank_root) {
            sorted.bank_issuing.push(der.clone());
        } else if claims_issue(der, question.company_root) {
            sorted.company_issuing.push(der.clone());
        } else {
            sorted.presented.push(der.clone());
        }
    }
    // The first with the right name and key identifier is taken: the valid ones come first.
    let sides = [(question.bank_root, &mut sorted.bank_issuing), (question.company_root, &mut sorted.company_issuing)];
    for (root, issuing) in sides {
        issuing.sort_by_key(|der| !authority_is_valid(der, root, at));
        issuing.truncate(ISSUING_MAX);
    }
    sorted
}

/// It says that this root issued it.
fn claims_issue(der: &[u8], root: &[u8]) -> bool {
    let (Ok(certificate), Ok(root)) = (Certificate::read(der), Certificate::read(root)) else {
        return false;
    };
    certificate.tbs.issuer == root.tbs.subject
        && certificate.tbs.authority_key_identifier() == root.tbs.subject_key_identifier()
}

/// What the lists of the four CAs say. Of several by one issuer each must be acceptable, and one of them in force.
fn status_of(lists: &[Vec<u8>], acceptance: &Acceptance, at: UnixMillis) -> Result<StatusSnapshot, CrlRefusal> {
    let mut status = StatusSnapshot::default();
    let mut stale = BTreeMap::new();
    let sides = [&acceptance.bank, &acceptance.company];
    let authorities: Vec<&[u8]> =
        sides.iter().flat_map(|side| side.issuing.iter().chain([&side.root])).map(Vec::as_slice).collect();
    for list in lists {
        let claimed = crl::claimed_issuer(list).ok_or(CrlRefusal::Malformed)?;
        let identifier =
            |der: &[u8]| Certificate::read(der).ok().and_then(|one| one.tbs.subject_key_identifier().map(hex::encode));
        let Some(issuer) = authorities.iter().find(|der| identifier(der).as_ref() == Some(&claimed)) else {
            continue;
        };
        match crl::verify(list, issuer, at) {
            Ok(verified) => {
                let serials = verified.serials().iter();
                status.certificates.extend(serials.map(|serial| (claimed.clone(), serial.clone())));
                let crl = CrlStatus {
                    number: verified.number(),
                    this_update: verified.this_update(),
                    next_update: verified.next_update(),
                };
                status.crls.insert(claimed, crl);
            }
            Err(refusal @ (CrlRefusal::Expired | CrlRefusal::NotYetValid)) => {
                stale.entry(claimed).or_insert(refusal);
            }
            Err(refusal) => return Err(refusal),
        }
    }
    match stale.into_iter().find(|(issuer, _)| !status.crls.contains_key(issuer)) {
        Some((_, refusal)) => Err(refusal),
        None => Ok(status),
    }
}
