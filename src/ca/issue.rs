//! Two-phase issuance: journal the bytes, sign the bytes, verify, release. Recovery is the same function.

use crate::ca::authority::{Authority, refused, unexpected_effect};
use crate::ca::build::{self, AgentPlan, CertificatePlan, OperatorPlan};
use crate::kernel::command::{Act, Actor, CertificateRecord, Effect};
use crate::kernel::credential::certificate::{Certificate, Tbs};
use crate::kernel::credential::profile::{self, BACKDATE_MS, IssuedBy, Profile};
use crate::kernel::refusal::Refusal;
use crate::kernel::sign::SignInput;
use crate::kernel::types::{KeyId, Serial, Sha256, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::CertificatesOf;

/// A wish for a certificate: everything but serial number and times.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub profile: Profile,
    /// Agent's SPIFFE ID, or the common name: what the record is found under.
    pub subject: String,
    pub organization: Option<String>,
    pub common_name: String,
    pub spki: Vec<u8>,
    pub life_ms: i64,
    pub agent: Option<AgentPlan>,
    pub operator: Option<OperatorPlan>,
    pub server_names: Vec<String>,
    /// The issuing certificate (DER); `None` for a self-signed root.
    pub issuer: Option<Vec<u8>>,
}

/// One of our own CA certificates: what it takes to sign under it.
#[derive(Clone, Debug)]
pub(super) struct OwnCa {
    pub der: Vec<u8>,
    pub key: KeyId,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// Subject key identifier, hexadecimal.
    pub identifier: String,
    pub not_after: UnixMillis,
}

impl Authority {
    /// The certificate that fulfils the wish: one that is there already and has a quarter of its life left (an agent's: half) and
    /// satisfies `fits`, one whose journal was left unfinished, or a new one.
    pub(super) fn certificate_for(
        &self,
        actor: &Actor,
        wish: &Wish,
        fits: impl Fn(&Tbs<'_>) -> bool,
    ) -> Result<CertificateRecord, Failure> {
        self.certificate_with(actor, wish, None, fits)
    }

    /// As [`Self::certificate_for`], with a leaf about whoever lets it be made: in the commit that journals it, so before
    /// anything is signed; in one of its own when that was done before.
    pub(super) fn certificate_with(
        &self,
        actor: &Actor,
        wish: &Wish,
        leaf: Option<Act>,
        fits: impl Fn(&Tbs<'_>) -> bool,
    ) -> Result<CertificateRecord, Failure> {
        let now = clock::now();
        let key = Sha256::of(&[&wish.spki]);
        let issuer = match &wish.issuer {
            Some(der) => OwnCa::of(der)?,
            None => OwnCa {
                der: Vec::new(),
                key,
                spki: wish.spki.clone(),
                identifier: hex::encode(profile::key_identifier(key)),
                not_after: UnixMillis(i64::MAX),
            },
        };
        let revoked = self.store.status()?.certificates;
        // Agents renew at two thirds of their life: a certificate with less than half of it left is not found again.
        let lasting = now.plus_ms(wish.life_ms / if wish.profile.is_agent() { 2 } else { 4 });
        let mut found: Vec<CertificateRecord> = self.store.certificates_of(&CertificatesOf::Key(key), lasting)?;
        found.retain(|record| {
            record.profile == wish.profile.name()
                && record.subject == wish.subject
                && record.issuer == issuer.identifier
                && !revoked.contains(&(record.issuer.clone(), record.serial.clone()))
                && Tbs::read(&record.tbs).is_ok_and(|tbs| fits(&tbs))
        });
        // Finished ones first, then the longest-lived.
        found.sort_by_key(|record| (record.der.is_none(), std::cmp::Reverse(record.not_after)));
        let Some(record) = found.into_iter().next() else {
            let journalled = self.journal(actor, wish, &issuer, leaf, now)?;
            return self.sign_and_release(actor, journalled, wish.profile, &issuer);
        };
        leaf.map(|leaf| self.apply(actor, leaf)).transpose()?;
        if record.der.is_some() { Ok(record) } else { self.sign_and_release(actor, record, wish.profile, &issuer) }
    }

    /// Phase one: the bytes, durable. A serial number that the issuer has given before is replaced by a fresh one.
    fn journal(
        &self,
        actor: &Actor,
        wish: &Wish,
        issuer: &OwnCa,
        leaf: Option<Act>,
        now: UnixMillis,
    ) -> Result<CertificateRecord, Failure> {
        for _ in 1..SERIAL_ATTEMPTS_MAX {
            match self.journal_once(actor, wish, issuer, leaf.as_ref(), now) {
                Err(failure) if failure.name == Refusal::SerialTaken.name() => {}
                decided => return decided,
            }
        }
        self.journal_once(actor, wish, issuer, leaf.as_ref(), now)
    }

    fn journal_once(
        &self,
        actor: &Actor,
        wish: &Wish,
        issuer: &OwnCa,
        leaf: Option<&Act>,
        now: UnixMillis,
    ) -> Result<CertificateRecord, Failure> {
        let not_after = now.plus_ms(wish.life_ms).min(issuer.not_after);
        let plan = CertificatePlan {
            profile: wish.profile,
            organization: wish.organization.clone(),
            common_name: wish.common_name.clone(),
            spki: wish.spki.clone(),
            serial: fresh_serial(),
            not_before: now.plus_ms(-BACKDATE_MS),
            // Whole seconds, as in the certificate.
            not_after: UnixMillis(not_after.seconds() * 1000),
            agent: wish.agent.clone(),
            operator: wish.operator.clone(),
            server_names: wish.server_names.clone(),
        };
        let tbs = build::certificate(&plan, wish.issuer.as_deref(), &self.pki.base_url, &self.base)?;
        let record = CertificateRecord {
            id: clock::fresh_id("crt_"),
            profile: wish.profile.name().to_owned(),
            subject: wish.subject.clone(),
            issuer: issuer.identifier.clone(),
            serial: plan.serial,
            key: Sha256::of(&[&wish.spki]),
            not_after: plan.not_after,
            tbs,
            der: None,
        };
        let journal = Act::JournalCertificate { record: record.clone() };
        let effects = self.apply_all(actor, std::iter::once(journal).chain(leaf.cloned()).collect())?;
        match effects.into_iter().next() {
            Some(Effect::Certificate(journalled)) => Ok(journalled),
            Some(Effect::Done { .. }) => Ok(record),
            Some(_) | None => Err(unexpected_effect("no journalled certificate")),
        }
    }

    /// Phase two: signs the journalled bytes, whatever builds certificates today; the first signature stands.
    fn sign_and_release(
        &self,
        actor: &Actor,
        record: CertificateRecord,
        profile: Profile,
        issuer: &OwnCa,
    ) -> Result<CertificateRecord, Failure> {
        let signature = self.token.sign(issuer.key, SignInput::Certificate { tbs: record.tbs.clone() })?;
        let der = build::assemble(&record.tbs, &issuer.spki, &signature)?;
        self.verify_before_release(&der, profile, issuer)?;
        if let Effect::Certificate(released) = self.apply(actor, Act::ReleaseCertificate { id: record.id, der })?
            && released.der.is_some()
        {
            return Ok(released);
        }
        Err(unexpected_effect("no released certificate"))
    }

    fn verify_before_release(&self, der: &[u8], profile: Profile, issuer: &OwnCa) -> Result<(), Failure> {
        let unsound = |why: String| {
            Failure::fault(
                "certificate_unsound",
                format!("a certificate that was just signed does not verify: {why}; it was not released"),
                "report this as a defect; nothing was handed out",
            )
        };
        let certificate = Certificate::read(der).map_err(|error| unsound(error.to_string()))?;
        profile.check_certificate(&certificate, &self.base).map_err(|rule| unsound(rule.to_string()))?;
        let issuer_spki = match profile.table().issuer {
            IssuedBy::Itself => certificate.tbs.spki.to_vec(),
            IssuedBy::Root | IssuedBy::Issuing => {
                let issuer = Certificate::read(&issuer.der).map_err(|error| unsound(error.to_string()))?;
                if certificate.tbs.issuer != issuer.tbs.subject {
                    return Err(unsound("its issuer has another name".into()));
                }
                issuer.tbs.spki.to_vec()
            }
        };
        if certificate.is_signed_by(&issuer_spki) {
            Ok(())
        } else {
            Err(unsound("its signature is not by its issuer's key".into()))
        }
    }

    /// Our issuing CAs and their roots: the one that issues first (the newest that has issued anything), then the others,
    /// newest first.
    pub(super) fn own_authorities(&self) -> Result<Vec<(OwnCa, OwnCa)>, Failure> {
        let now = clock::now();
        let records = self.store.authorities()?;
        // As they were journalled: two of one second have the same dates.
        let released = |wanted: Profile| -> Vec<OwnCa> {
            let fitting = records.iter().rev();
            let fitting = fitting.filter(|record| record.profile == wanted.name() && record.not_after > now);
            fitting.filter_map(|record| OwnCa::of(record.der.as_deref()?).ok()).collect()
        };
        let roots = released(Profile::Root);
        let pairs = released(Profile::Issuing).into_iter().filter_map(|issuing| {
            let certificate = Certificate::read(&issuing.der).ok()?;
            let authority = hex::encode(certificate.tbs.authority_key_identifier()?);
            let root = roots.iter().find(|root| root.identifier == authority)?.clone();
            Some((issuing, root))
        });
        let mut pairs: Vec<(OwnCa, OwnCa)> = pairs.collect();
        for (place, (issuing, _)) in pairs.iter().enumerate() {
            if self.store.last_end(&issuing.identifier)?.is_some() {
                pairs[..=place].rotate_right(1);
                break;
            }
        }
        Ok(pairs)
    }

    /// The issuing CA that issues, and its root.
    ///
    /// # Errors
    /// `party_not_initialised`
    pub(super) fn own_authority(&self) -> Result<(OwnCa, OwnCa), Failure> {
        self.own_authorities()?.into_iter().next().ok_or_else(|| self.no_authority())
    }

    pub(super) fn no_authority(&self) -> Failure {
        Failure::refused(
            "party_not_initialised",
            format!("{} has no certificate authority yet", self.party),
            "run `countersign init` for this state directory first",
        )
    }

    /// Neither the agent nor the key is revoked here, and no other key has this name.
    pub(super) fn may_certify(&self, profile: Profile, subject: &str, key: KeyId) -> Result<(), Failure> {
        let status = self.store.status()?;
        let (issuing, _) = self.own_authority()?;
        if status.issuers.contains(&issuing.identifier) {
            return Err(Failure::refused(
                "issuing_ca_revoked",
                format!("the issuing CA of {} is revoked: what it issues counts for nobody", self.party),
                "run `countersign key rotate issuing`, which announces the next one, then again with --use",
            ));
        }
        let spiffe_revoked = subject.parse().is_ok_and(|agent| status.revokes(&agent));
        if spiffe_revoked || status.keys.contains(&key) {
            return Err(refused(Refusal::AgentRevoked));
        }
        let now = clock::now();
        let of = CertificatesOf::Subject(subject.to_owned());
        let taken = self.store.certificate_lines(&of, now, None, u32::MAX)?.into_iter().any(|line| {
            line.profile == profile.name()
                && line.key != key
                && !status.keys.contains(&line.key)
                && !status.certificates.contains(&(line.issuer, line.serial))
        });
        if taken {
            return Err(Failure::refused(
                "agent_name_taken",
                format!("{subject} has a valid certificate over another key"),
                "revoke that key first, or choose another name",
            ));
        }
        Ok(())
    }
}

impl OwnCa {
    pub(super) fn of(der: &[u8]) -> Result<Self, Failure> {
        let unreadable = || {
            Failure::fault(
                "ca_certificate_unreadable",
                "one of our own CA certificates cannot be read",
                "restore the store from a backup",
            )
        };
        let certificate = Certificate::read(der).map_err(|_| unreadable())?;
        let identifier = certificate.tbs.subject_key_identifier().ok_or_else(unreadable)?;
        Ok(Self {
            der: der.to_vec(),
            key: certificate.tbs.key(),
            spki: certificate.tbs.spki.to_vec(),
            identifier: hex::encode(identifier),
            not_after: certificate.tbs.not_after.at,
        })
    }
}

/// One in 2^126 is taken by chance; more than one at a time is a generator that repeats itself.
const SERIAL_ATTEMPTS_MAX: u32 = 3;

/// 16 random bytes; the two highest bits make it positive and always of that length.
fn fresh_serial() -> Serial {
    let mut bytes = clock::random::<16>();
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Serial::from_bytes(&bytes).expect("sixteen bytes, the first not zero")
}
