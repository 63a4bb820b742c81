//! Set-up: a party's keys and certificates, whom it trusts, which agent hosts it has enrolled.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER, signs_notes};
use crate::ca::files;
use crate::ca::issue::Wish;
use crate::ca::settings::PartyKind;
use crate::hsm::KeyInfo;
use crate::kernel::command::{Actor, CertificateRecord};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::{ISSUING_MAX, PartyAnchors, verify_authority};
use crate::kernel::credential::custody::{EnrolledHost, HOST_SCHEMA};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::profile::{self, Profile};
use crate::kernel::note::SignatureType;
use crate::kernel::sign::{Purpose, raw_public_key};
use crate::kernel::types::{PartyName, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;

pub(super) const DAY_MS: i64 = 86_400_000;

/// Roles of a party: keys that get a certificate of their own under the issuing CA.
pub(super) fn roles(kind: PartyKind) -> &'static [Purpose] {
    match kind {
        PartyKind::Bank => &[
            Purpose::TlsServer,
            Purpose::TlsClient,
            Purpose::Transaction,
            Purpose::Checkpoint,
            Purpose::Catalogue,
            Purpose::RevocationReceipt,
            Purpose::OcspResponder,
            Purpose::Manifest,
        ],
        PartyKind::SecurityCompany => &[
            Purpose::TlsServer,
            Purpose::TlsClient,
            Purpose::Checkpoint,
            Purpose::Catalogue,
            Purpose::RevocationReceipt,
            Purpose::OcspResponder,
            Purpose::Witness,
        ],
        PartyKind::AgentHost | PartyKind::Operator => &[],
    }
}

/// Keys of a party that sign and have no certificate: who verifies gets their public halves from the party itself.
pub(super) fn bare_roles(kind: PartyKind) -> &'static [Purpose] {
    match kind {
        PartyKind::Bank => &[Purpose::Token],
        PartyKind::SecurityCompany | PartyKind::AgentHost | PartyKind::Operator => &[],
    }
}

impl Authority {
    /// Makes whatever this party does not have yet: root, issuing CA, roles; an agent host its identity key and
    /// its log's key, an operator a key of their own and their log's. Repeating it finds everything in place, renews role certificates in the last quarter of
    /// their life and goes on where it was interrupted.
    ///
    /// Answers `{party, kind, keys: [{purpose, label, id, algorithm}], certificates: [{profile, subject, serial,
    /// not_after}], notices: [text]}`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `issuance_in_progress`, `custody_attributes_unsound`, and the token's, the store's
    /// and the file system's.
    pub fn init_party(&self, actor: &Actor) -> Result<Value, Failure> {
        self.recorded(actor, "init_party", &json!({ "party": self.party }), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            let _issuing = self.begin_issuing()?;
            match self.kind {
                PartyKind::Bank | PartyKind::SecurityCompany => self.init_authority(actor),
                PartyKind::AgentHost => self.init_keys(&[Purpose::HostIdentity, Purpose::Checkpoint]),
                PartyKind::Operator => self.init_keys(&[Purpose::Operator, Purpose::Checkpoint]),
            }
        })
    }

    fn init_authority(&self, actor: &Actor) -> Result<Value, Failure> {
        let mut keys = Vec::new();
        let mut certificates = Vec::new();

        let root_key = self.key_or_new(Purpose::Root, None)?;
        let root = self.certificate_for(actor, &self.ca_wish(&root_key, None), |_| true)?;
        let root_der = released(&root)?;
        let issuing_key = match self.issuing_key_in_use()? {
            Some(key) => key,
            None => self.key_or_new(Purpose::Issuing, None)?,
        };
        let issuing = self.certificate_for(actor, &self.ca_wish(&issuing_key, Some(root_der.clone())), |_| true)?;
        let issuing_der = released(&issuing)?;
        self.write_certificates("root.pem", &[&root_der])?;
        self.write_issuing()?;
        keys.extend([root_key, issuing_key]);
        certificates.extend([root, issuing]);

        for purpose in roles(self.kind) {
            let key = self.key_or_new(*purpose, None)?;
            let certificate = self.certify_role(actor, &key, &issuing_der)?;
            keys.push(key);
            certificates.push(certificate);
        }
        for purpose in bare_roles(self.kind) {
            keys.push(self.key_or_new(*purpose, None)?);
        }
        Ok(self.summary(&keys, &certificates))
    }

    /// The key of the issuing CA that issues: the newest one may be announced and no more.
    fn issuing_key_in_use(&self) -> Result<Option<KeyInfo>, Failure> {
        let Some((issuing, _)) = self.own_authorities()?.into_iter().next() else {
            return Ok(None);
        };
        Ok(self.active_keys(Purpose::Issuing, None)?.into_iter().find(|key| key.id == issuing.key))
    }

    /// The certificate of a role's key, found or made, and its file.
    pub(super) fn certify_role(
        &self,
        actor: &Actor,
        key: &KeyInfo,
        issuing: &[u8],
    ) -> Result<CertificateRecord, Failure> {
        let profile = Profile::of_purpose(key.purpose).expect("every role has a profile");
        let wish = self.role_wish(profile, key, issuing.to_vec());
        let names = wish.server_names.clone();
        let certificate = self.certificate_for(actor, &wish, |tbs| {
            profile != Profile::TlsServer || profile::server_names(tbs).as_ref() == Some(&names)
        })?;
        self.write_certificates(&format!("{}.pem", profile.name()), &[&released(&certificate)?, issuing])?;
        Ok(certificate)
    }

    fn init_keys(&self, purposes: &[Purpose]) -> Result<Value, Failure> {
        let keys: Result<Vec<KeyInfo>, Failure> =
            purposes.iter().map(|purpose| self.key_or_new(*purpose, None)).collect();
        Ok(self.summary(&keys?, &[]))
    }

    pub(super) fn ca_wish(&self, key: &KeyInfo, root: Option<Vec<u8>>) -> Wish {
        let (profile, what) = match root {
            None => (Profile::Root, "root CA"),
            Some(_) => (Profile::Issuing, "issuing CA"),
        };
        let common_name = format!("{what} v{}", key.version);
        Wish {
            profile,
            subject: common_name.clone(),
            organization: Some(self.party.to_string()),
            common_name,
            spki: key.spki.clone(),
            life_ms: profile.life_default_ms(),
            agent: None,
            operator: None,
            server_names: Vec::new(),
            issuer: root,
        }
    }

    pub(super) fn role_wish(&self, profile: Profile, key: &KeyInfo, issuing: Vec<u8>) -> Wish {
        let common_name = format!("{} v{}", profile.name(), key.version);
        Wish {
            profile,
            subject: common_name.clone(),
            organization: Some(self.party.to_string()),
            common_name,
            spki: key.spki.clone(),
            life_ms: i64::from(self.pki.service_life_days) * DAY_MS,
            agent: None,
            operator: None,
            server_names: if profile == Profile::TlsServer { self.pki.tls_names.clone() } else { Vec::new() },
            issuer: Some(issuing),
        }
    }

    fn summary(&self, keys: &[KeyInfo], certificates: &[CertificateRecord]) -> Value {
        let notices: Vec<String> = keys.iter().filter_map(|key| self.note_notice(key)).collect();
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| {
                json!({
                    "purpose": key.purpose.slug(), "label": key.label, "id": key.id, "algorithm": key.algorithm,
                })
            })
            .collect();
        let certificates: Vec<Value> = certificates
            .iter()
            .map(|record| {
                json!({
                    "profile": record.profile,
                    "subject": record.subject,
                    "serial": record.serial,
                    "not_after": record.not_after.rfc3339(),
                })
            })
            .collect();
        json!({
            "party": self.party, "kind": self.kind, "keys": keys, "certificates": certificates, "notices": notices,
        })
    }

    /// What people are told about a key for notes that nobody chose to be other than the usual one.
    fn note_notice(&self, key: &KeyInfo) -> Option<String> {
        let is_fallback = signs_notes(key.purpose) && key.algorithm != key.purpose.default_algorithm();
        let of = if key.purpose == Purpose::Witness { SignatureType::of_cosignature } else { SignatureType::of_note };
        let kind = of(key.algorithm).filter(|_| is_fallback && !self.algorithms.contains_key(&key.purpose))?;
        Some(format!(
            "{} is a P-256 key, since the module has no Ed25519: it signs as {} (docs/FORMATS.md), and receipts say so",
            key.label,
            kind.name()
        ))
    }

    /// Writes certificates into a file below `certs/`.
    pub(super) fn write_certificates(&self, name: &str, chain: &[&[u8]]) -> Result<(), Failure> {
        let text: String = chain.iter().map(|der| pem::encode(Kind::Certificate, der)).collect();
        files::write_durable(&self.state.certs().join(name), text.as_bytes())
    }

    /// Trusts another party's root and issuing CAs, after checking that each issuing CA chains to the root. The same
    /// ones again are fine. Under the same root further issuing CAs may come, at a roll-over; those known before stay
    /// until they end.
    ///
    /// # Errors
    /// `operator_not_permitted`, `anchor_invalid`, `anchor_own_party`, `anchor_conflict`.
    pub fn trust_add(
        &self,
        actor: &Actor,
        party: &PartyName,
        root_pem: &str,
        issuing_pem: &str,
    ) -> Result<Value, Failure> {
        self.recorded(actor, "trust_add", &json!({ "party": party }), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            if *party == self.party {
                return Err(Failure::refused(
                    "anchor_own_party",
                    format!("{party} is this party itself"),
                    "name the other party",
                ));
            }
            let anchors = read_anchors(root_pem, issuing_pem)?;
            let now = clock::now();
            for issuing in &anchors.issuing {
                verify_authority(issuing, &anchors.root, &self.base, now).map_err(|rule| {
                    anchor_invalid(format!("--issuing holds no issuing CA of {party} under the root of --root: {rule}"))
                })?;
            }
            let known = self.known_anchors()?;
            let own_root = self.own_authorities()?.into_iter().any(|(_, root)| root.der == anchors.root);
            if own_root {
                return Err(anchor_invalid("this root is our own".into()));
            }
            if let Some((name, _)) = known.iter().find(|(name, other)| *name != party && other.root == anchors.root) {
                return Err(Failure::refused(
                    "anchor_invalid",
                    format!("this root is trusted under the name {name} already"),
                    format!("go on with that name; if it is a slip, remove anchors/{name}-*.pem by hand first"),
                ));
            }
            let before = known.get(party);
            if before.is_some_and(|before| before.root != anchors.root) {
                return Err(Failure::refused(
                    "anchor_conflict",
                    format!("another root is trusted for {party} already"),
                    format!("if the change is intended, remove anchors/{party}-*.pem by hand first"),
                ));
            }
            let anchors = with_earlier(anchors, before, now);
            if anchors.issuing.len() > ISSUING_MAX {
                return Err(anchor_invalid(format!("{party} would have more than {ISSUING_MAX} issuing CAs")));
            }
            let changed = before != Some(&anchors);
            if changed {
                let root = pem::encode(Kind::Certificate, &anchors.root);
                let issuing: String = anchors.issuing.iter().map(|der| pem::encode(Kind::Certificate, der)).collect();
                let directory = self.state.anchors();
                // The root last: anchors count once both files are there, and the root decides.
                files::write_durable(&directory.join(format!("{party}-issuing.pem")), issuing.as_bytes())?;
                files::write_durable(&directory.join(format!("{party}-root.pem")), root.as_bytes())?;
            }
            Ok(json!({ "party": party, "changed": changed, "issuing": anchors.issuing.len() }))
        })
    }

    /// The other parties' anchors, by name.
    pub(super) fn known_anchors(&self) -> Result<BTreeMap<PartyName, PartyAnchors>, Failure> {
        let directory = self.state.anchors();
        let mut known = BTreeMap::new();
        for name in files::names(&directory)? {
            let Some(party) = name.strip_suffix("-root.pem").and_then(|party| party.parse::<PartyName>().ok()) else {
                continue;
            };
            let root = files::read_optional(&directory.join(&name))?;
            let issuing = files::read_optional(&directory.join(format!("{party}-issuing.pem")))?;
            if let (Some(root), Some(issuing)) = (root, issuing) {
                known.insert(party, read_anchors(&root, &issuing)?);
            }
        }
        Ok(known)
    }

    /// The agent host's identity, to be enrolled by the other parties.
    ///
    /// # Errors
    /// `not_this_party`, `party_not_initialised`, the token's.
    pub fn host_show(&self, actor: &Actor) -> Result<Value, Failure> {
        self.permit(actor, &[ADMINISTRATOR, OFFICER])?;
        self.only_for(&[PartyKind::AgentHost])?;
        let key = self.host_key()?;
        let host = EnrolledHost {
            schema: HOST_SCHEMA.to_owned(),
            party: self.party.to_string(),
            host_key: key.id,
            spki: BASE64_STANDARD.encode(&key.spki),
            token_serial: self.token.describe()?.serial,
        };
        Ok(json!(host))
    }

    pub(super) fn host_key(&self) -> Result<KeyInfo, Failure> {
        self.newest_key(Purpose::HostIdentity, None)?.ok_or_else(|| {
            Failure::refused(
                "party_not_initialised",
                format!("{} has no host identity key yet", self.party),
                "run `countersign init` for this state directory first",
            )
        })
    }

    /// Enrols an agent host: its custody statements are believed from now on. To be done with the host's operator
    /// in person.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `host_malformed`.
    pub fn host_enrol(&self, actor: &Actor, host: &Value) -> Result<Value, Failure> {
        self.recorded(actor, "host_enrol", host, || {
            self.permit(actor, &[ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let malformed = |why: String| {
                Failure::refused("host_malformed", why, "take the output of `countersign host show` as it is")
            };
            let enrolled: EnrolledHost = serde_json::from_value(host.clone())
                .map_err(|error| malformed(format!("the host's identity cannot be read: {error}")))?;
            let spki = enrolled.key_der().ok_or_else(|| malformed("the host's key is not the one it names".into()))?;
            let permitted = Purpose::HostIdentity.algorithms();
            if !raw_public_key(&spki).is_some_and(|(algorithm, _)| permitted.contains(&algorithm)) {
                return Err(malformed("the host's key is of a kind that no host identity has".into()));
            }
            let path = self.state.anchors().join(format!("host-{}.json", enrolled.host_key));
            let changed = files::read_optional(&path)?.is_none();
            files::write_json(&path, &host)?;
            Ok(json!({ "host_key": enrolled.host_key, "token_serial": enrolled.token_serial, "changed": changed }))
        })
    }

    /// Every enrolled agent host.
    pub(super) fn enrolled_hosts(&self) -> Result<Vec<EnrolledHost>, Failure> {
        let directory = self.state.anchors();
        let mut hosts = Vec::new();
        for name in files::names(&directory)? {
            if !(name.starts_with("host-") && name.ends_with(".json")) {
                continue;
            }
            let next_step = "enrol the host again with `countersign host enrol`";
            hosts.extend(files::read_json(&directory.join(&name), "host_unreadable", next_step)?);
        }
        Ok(hosts)
    }
}

/// The released certificate of a record.
pub(super) fn released(record: &CertificateRecord) -> Result<Vec<u8>, Failure> {
    record.der.clone().ok_or_else(|| crate::ca::authority::unexpected_effect("a certificate without its signature"))
}

/// The anchors that are named now, then those of the same party known before that have not ended.
fn with_earlier(named: PartyAnchors, before: Option<&PartyAnchors>, now: UnixMillis) -> PartyAnchors {
    let mut issuing = named.issuing;
    for earlier in before.map(|before| before.issuing.as_slice()).unwrap_or_default() {
        let lasts = Certificate::read(earlier).is_ok_and(|certificate| certificate.tbs.not_after.at > now);
        if lasts && !issuing.contains(earlier) {
            issuing.push(earlier.clone());
        }
    }
    PartyAnchors { root: named.root, issuing }
}

pub(super) fn read_anchors(root_pem: &str, issuing_pem: &str) -> Result<PartyAnchors, Failure> {
    let invalid = |error: pem::NotPem| anchor_invalid(error.to_string());
    Ok(PartyAnchors {
        root: pem::decode_one(Kind::Certificate, root_pem).map_err(invalid)?,
        issuing: pem::decode_all(Kind::Certificate, issuing_pem).map_err(invalid)?,
    })
}

fn anchor_invalid(message: String) -> Failure {
    Failure::refused(
        "anchor_invalid",
        message,
        "take certs/root.pem and certs/issuing.pem of the other party as they are",
    )
}
