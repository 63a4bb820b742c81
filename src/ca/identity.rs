//! What the rest of the daemon takes from here: conditions of acceptance, and keys with their certificates.

use std::sync::Arc;

use crate::ca::authority::Authority;
use crate::ca::files;
use crate::ca::settings::PartyKind;
use crate::hsm::{CertifiedKey, KeyInfo};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::{PartyAnchors, verify_leaf};
use crate::kernel::credential::pair::Acceptance;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::profile::Profile;
use crate::kernel::sign::Purpose;
use crate::kernel::types::{AgentName, PartyName, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::CertificatesOf;
use crate::tls::{self, ClientIdentity, SignedChain};

/// The bank towards its core banking system: the newest tls-client key and its certificate, leaf and issuing CA.
impl ClientIdentity for Authority {
    fn current(&self) -> Option<SignedChain> {
        match self.signing_role(Purpose::TlsClient) {
            Ok(mut role) => {
                role.chain.truncate(2);
                Some((role.chain, tls::signer(Arc::clone(&self.token), role.key.id)))
            }
            Err(failure) => {
                let (name, message, next_step) = (&failure.name, &failure.message, &failure.next_step);
                tracing::error!(%name, %message, %next_step, "the core asks for a certificate, and there is none");
                None
            }
        }
    }
}

impl Authority {
    /// Under which conditions this party accepts an agent's pair.
    ///
    /// # Errors
    /// `party_not_initialised`, `anchors_missing`, `not_this_party` (an agent host accepts nobody).
    pub fn acceptance(&self) -> Result<Arc<Acceptance>, Failure> {
        let (bank, company) = self.sides()?;
        Ok(Arc::new(self.acceptance_of(bank, company)))
    }

    pub(super) fn acceptance_of(&self, bank: PartyAnchors, company: PartyAnchors) -> Acceptance {
        Acceptance {
            bank,
            company,
            trust_domain: self.pki.trust_domain.clone(),
            oid_base: self.base.clone(),
            custody_min: self.pki.custody_min,
            company_crl_required: self.pki.company_crl_required,
        }
    }

    /// Our root and every issuing CA under it.
    ///
    /// # Errors
    /// `party_not_initialised`, the store's.
    pub(super) fn own_anchors(&self) -> Result<PartyAnchors, Failure> {
        let all = self.own_authorities()?;
        let root = all.first().map(|(_, root)| root.der.clone()).ok_or_else(|| self.no_authority())?;
        let issuing = all.into_iter().filter(|(_, its_root)| its_root.der == root);
        Ok(PartyAnchors { issuing: issuing.map(|(issuing, _)| issuing.der).collect(), root })
    }

    /// The bank's and the security company's anchors.
    pub(super) fn sides(&self) -> Result<(PartyAnchors, PartyAnchors), Failure> {
        self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
        let own = self.own_anchors()?;
        // The first other party is the other side: there are two so far.
        let other = self.known_anchors()?.into_values().next().ok_or_else(|| {
            Failure::refused(
                "anchors_missing",
                "the other party's root and issuing CA are not known here",
                "run `countersign trust add` with the other party's certificates",
            )
        })?;
        Ok(if self.kind == PartyKind::Bank { (own, other) } else { (other, own) })
    }

    /// Whether a peer listener has a certificate to serve with and somebody to serve.
    pub fn meets_peers(&self) -> bool {
        self.tls_identity().is_ok() && self.known_anchors().is_ok_and(|known| !known.is_empty())
    }

    /// Which other party's daemon presents this: a TLS client certificate, with or without its issuing CA.
    ///
    /// # Errors
    /// `peer_unknown`
    pub fn peer_of(&self, presented: &[Vec<u8>]) -> Result<PartyName, Failure> {
        let unknown = || {
            Failure::refused(
                "peer_unknown",
                "the certificate is not a TLS client certificate of a party that is trusted here",
                "run `countersign trust add` with the other party's certificates",
            )
        };
        let ([leaf] | [leaf, _]) = presented else {
            return Err(unknown());
        };
        let (now, status) = (clock::now(), self.store.status()?);
        for (party, anchors) in self.known_anchors()? {
            let Ok(verified) = verify_leaf(leaf, Profile::TlsClient, &anchors, &self.base, now) else {
                continue;
            };
            let facts = verified.facts;
            let revoked = status.certificates.contains(&(facts.issuer_identifier, facts.serial));
            if !revoked && !status.keys.contains(&facts.key) {
                return Ok(party);
            }
        }
        Err(unknown())
    }

    /// The TLS server's key and chain: leaf, issuing CA.
    ///
    /// # Errors
    /// As [`Self::signing_role`].
    pub fn tls_identity(&self) -> Result<CertifiedKey, Failure> {
        let mut identity = self.signing_role(Purpose::TlsServer)?;
        identity.chain.truncate(2);
        Ok(identity)
    }

    /// A role's key and chain: leaf, issuing CA, root. An agent host's checkpoint key has no certificate: its
    /// chain is empty. The newest active key that has a certificate: while a rotation is under way, or after it was
    /// cut off, that is the one before.
    ///
    /// # Errors
    /// `party_not_initialised`; `role_certificate_expired` when set-up has to be run again; the token's.
    pub fn signing_role(&self, purpose: Purpose) -> Result<CertifiedKey, Failure> {
        let missing = || {
            Failure::refused(
                "party_not_initialised",
                format!("{} has no {} key yet", self.party, purpose.slug()),
                "run `countersign init` for this state directory first",
            )
        };
        let keys = self.active_keys(purpose, None)?;
        let newest = keys.first().cloned().ok_or_else(missing)?;
        if !self.kind.certifies() {
            return Ok(CertifiedKey { key: newest, chain: Vec::new() });
        }
        let now = clock::now();
        self.certified(keys)?.into_iter().find(|(_, not_after)| *not_after > now).map(|(role, _)| role).ok_or_else(
            || {
                Failure::refused(
                    "role_certificate_expired",
                    format!("the certificate of {} has expired or was never finished", newest.label),
                    "run `countersign init` again: it renews what has expired",
                )
            },
        )
    }

    /// Every key that a role ever had, with each certificate that it had: what it signed must be provable. An agent
    /// host's have none.
    ///
    /// # Errors
    /// The token's, the store's.
    pub fn role_history(&self, purpose: Purpose) -> Result<Vec<CertifiedKey>, Failure> {
        let mut keys = self.token.keys()?;
        keys.retain(|key| key.purpose == purpose && key.agent.is_none());
        if !self.kind.certifies() {
            return Ok(keys.into_iter().map(|key| CertifiedKey { key, chain: Vec::new() }).collect());
        }
        Ok(self.certified(keys)?.into_iter().map(|(role, _)| role).collect())
    }

    /// Every certificate of these keys under our issuing CAs, with its end: key by key, the longest-lived first.
    fn certified(&self, keys: Vec<KeyInfo>) -> Result<Vec<(CertifiedKey, UnixMillis)>, Failure> {
        let authorities = self.own_authorities()?;
        let mut all = Vec::new();
        for key in keys {
            let Some(profile) = Profile::of_purpose(key.purpose) else {
                continue;
            };
            let records = self.store.certificates_of(&CertificatesOf::Key(key.id), UnixMillis(i64::MIN))?;
            let mut of_key = Vec::new();
            for (issuing, root) in &authorities {
                let own = records
                    .iter()
                    .filter(|record| record.profile == profile.name() && record.issuer == issuing.identifier);
                // Of two that end together, the newer one first; of two issuers, the one that issues.
                of_key.extend(own.rev().filter_map(|record| {
                    let chain = vec![record.der.clone()?, issuing.der.clone(), root.der.clone()];
                    Some((CertifiedKey { key: key.clone(), chain }, record.not_after))
                }));
            }
            of_key.sort_by_key(|(_, not_after)| std::cmp::Reverse(*not_after));
            all.extend(of_key);
        }
        Ok(all)
    }

    /// An agent's key and pair: B, S.
    ///
    /// # Errors
    /// `agent_not_installed`, `agent_key_missing`, the token's.
    pub fn agent_identity(&self, name: &AgentName) -> Result<CertifiedKey, Failure> {
        let [bank, endorsement] = self.installed_pair(name)?.ok_or_else(|| {
            Failure::refused(
                "agent_not_installed",
                format!("{name} has no certificate pair here"),
                "see `countersign cert request` and `countersign cert install`",
            )
        })?;
        let id = Certificate::read(&bank).map(|certificate| certificate.tbs.key());
        let keys = self.token.keys()?.into_iter();
        let key = keys.filter(|key| key.purpose == Purpose::Agent).find(|key| Ok(key.id) == id);
        let key = key.ok_or_else(|| {
            Failure::refused(
                "agent_key_missing",
                format!("the key of {name}'s certificates is not in the token"),
                "use the token that made the request, or enrol the agent anew",
            )
        })?;
        Ok(CertifiedKey { key, chain: vec![bank, endorsement] })
    }

    /// The installed B and S of an agent (DER).
    pub(super) fn installed_pair(&self, name: &AgentName) -> Result<Option<[Vec<u8>; 2]>, Failure> {
        let directory = self.state.certs().join("agents").join(name.as_str());
        if let Some(text) = files::read_optional(&directory.join("pair.pem"))? {
            let pair = pem::decode_all(Kind::Certificate, &text).ok().and_then(|pair| <[_; 2]>::try_from(pair).ok());
            return pair.map(Some).ok_or_else(|| {
                Failure::fault(
                    "certificate_unreadable",
                    format!("certs/agents/{name}/pair.pem is not B and S"),
                    "install the pair again with `countersign cert install`",
                )
            });
        }
        // As it was installed before both were one file.
        let read = |file: &str| -> Result<Option<Vec<u8>>, Failure> {
            let Some(text) = files::read_optional(&directory.join(file))? else {
                return Ok(None);
            };
            pem::decode_one(Kind::Certificate, &text).map(Some).map_err(|error| {
                Failure::fault(
                    "certificate_unreadable",
                    format!("certs/agents/{name}/{file}: {error}"),
                    "install the pair again with `countersign cert install`",
                )
            })
        };
        Ok(read("bank.pem")?.zip(read("endorsement.pem")?).map(<[_; 2]>::from))
    }
}
