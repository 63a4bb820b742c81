//! The life of a party's keys: what there is, rotation, retirement, destruction.
//!
//! A key moves from active to verify-only to destroyed and never back. Rotation makes the next version, certifies it,
//! has everything that signs use it, and retires the version before, in this order: cut off anywhere, a repetition
//! goes on, and there is always a key that signs. Destruction takes two calls, and the second needs what the first
//! printed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, ensure_sound};
use crate::ca::files;
use crate::ca::settings::PartyKind;
use crate::ca::setup::{DAY_MS, bare_roles, roles};
use crate::hsm::{KeyInfo, KeyOrder, KeyState};
use crate::kernel::command::Actor;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::pem;
use crate::kernel::external::PublicKey;
use crate::kernel::sign::{Algorithm, Purpose};
use crate::kernel::types::{KeyId, Sha256, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::CertificatesOf;

/// How long a printed confirmation counts.
const CONFIRMATION_MS: i64 = 10 * 60 * 1000;

/// Tokens live for minutes: what the key before the newest signed may still be on its way.
const TOKEN_GENERATIONS: usize = 2;

/// The one destruction that was announced, in `run/`: a daemon that is started for one command must find it too.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Announced {
    key: KeyId,
    label: String,
    /// SHA-256 of the printed confirmation.
    confirmation: Sha256,
    until: UnixMillis,
}

/// A role's key and certificate, for `doctor`.
#[derive(Clone, Debug)]
pub struct RoleHealth {
    pub purpose: Purpose,
    /// The key that is in use.
    pub label: String,
    /// Active versions.
    pub active: usize,
    /// Of the certificate in use; none when it has ended or was never finished.
    pub not_before: Option<UnixMillis>,
    pub not_after: Option<UnixMillis>,
    /// How long such a certificate lives.
    pub life_ms: i64,
}

impl Authority {
    /// How the roles' keys and certificates stand. A role without a key is left out.
    ///
    /// # Errors
    /// The token's, the store's.
    pub fn role_health(&self) -> Result<Vec<RoleHealth>, Failure> {
        let mut all = Vec::new();
        for purpose in roles(self.kind) {
            let active = self.active_keys(*purpose, None)?;
            let Some(newest) = active.first() else {
                continue;
            };
            let role = self.signing_role(*purpose).ok();
            let own = role.as_ref().and_then(|role| role.chain.first());
            let validity = own
                .and_then(|own| Certificate::read(own).ok())
                .map(|certificate| (certificate.tbs.not_before.at, certificate.tbs.not_after.at));
            all.push(RoleHealth {
                purpose: *purpose,
                label: role.as_ref().map_or(&newest.label, |role| &role.key.label).clone(),
                active: active.len(),
                not_before: validity.map(|(start, _)| start),
                not_after: validity.map(|(_, end)| end),
                life_ms: i64::from(self.pki.service_life_days) * DAY_MS,
            });
        }
        Ok(all)
    }

    /// The keys whose tokens a bank takes, newest first: the one that signs, and the one before it. None before set-up.
    ///
    /// # Errors
    /// The token's.
    pub fn token_keys(&self) -> Result<Vec<KeyInfo>, Failure> {
        let mut keys = self.token.keys()?;
        keys.retain(|key| key.purpose == Purpose::Token && key.state != KeyState::Destroyed);
        keys.sort_by_key(|key| std::cmp::Reverse(key.version));
        keys.truncate(TOKEN_GENERATIONS);
        Ok(keys)
    }

    /// Algorithms of the keys that this party has or will make on a module with these mechanisms.
    pub fn needed_algorithms(&self, mechanisms: &[String]) -> BTreeSet<Algorithm> {
        let own: &[Purpose] = match self.kind {
            PartyKind::Bank | PartyKind::SecurityCompany => &[Purpose::Root, Purpose::Issuing],
            PartyKind::AgentHost => &[Purpose::HostIdentity, Purpose::Checkpoint, Purpose::Agent],
            PartyKind::Operator => &[Purpose::Operator, Purpose::Checkpoint],
        };
        let roles = roles(self.kind).iter().chain(bare_roles(self.kind));
        let purposes = own.iter().chain(roles).chain(&[Purpose::TokenIdentity]);
        purposes.map(|purpose| self.algorithm_of(*purpose, mechanisms)).collect()
    }

    /// Every key of the token.
    ///
    /// Answers `{items: [{label, id, purpose, agent, version, algorithm, state, custody}], next: null}`.
    ///
    /// # Errors
    /// The token's.
    pub fn key_list(&self, _actor: &Actor) -> Result<Value, Failure> {
        let items: Vec<Value> = self.token.keys()?.iter().map(listed).collect();
        Ok(json!({ "items": items, "next": null }))
    }

    /// Everything about one key: attributes and what they mean, what it may do, its certificates.
    ///
    /// # Errors
    /// `unknown_key`; the token's, the store's.
    pub fn key_show(&self, _actor: &Actor, label: &str) -> Result<Value, Failure> {
        let key = self.key_by_label(label)?;
        let mut shown = listed(&key);
        shown["attributes"] = json!(key.custody);
        shown["verdict"] = json!(verdict(&key));
        shown["may"] = match key.state {
            KeyState::Active => json!(may(key.purpose)),
            KeyState::VerifyOnly => {
                json!(["have verified or opened what it signed or sealed; it signs nothing any more"])
            }
            KeyState::Destroyed => json!([]),
        };
        if !key.spki.is_empty() {
            shown["public_key"] = json!({
                "pem": pem::encode(pem::Kind::PublicKey, &key.spki),
                "jwk": PublicKey::from_spki(&key.spki).ok().map(|key| key.jwk()),
            });
        }
        shown["certificates"] = json!(self.certificates_of(&key)?);
        Ok(shown)
    }

    /// Makes a key that other programs may use at the signing service, or the next version of one, which is used from then
    /// on; the version before stays active until it is retired.
    ///
    /// Answers the key as [`Self::key_show`] does.
    ///
    /// # Errors
    /// `operator_not_permitted`, `key_not_generated`, `input_malformed`, `algorithm_not_permitted`; the token's.
    pub fn key_generate(
        &self,
        actor: &Actor,
        purpose: Purpose,
        name: &str,
        algorithm: Option<Algorithm>,
    ) -> Result<Value, Failure> {
        let made = self.recorded(actor, "key_generate", &json!({ "purpose": purpose, "name": name }), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            if purpose != Purpose::External {
                return Err(Failure::refused(
                    "key_not_generated",
                    format!("{} keys are made where they are set up, not one by one", purpose.slug()),
                    "`countersign init` makes a party's keys and `countersign key rotate` their next versions; with \
                     --purpose external this verb makes keys for other programs",
                ));
            }
            let algorithm = algorithm.unwrap_or_else(|| self.algorithm_of(purpose, &[]));
            let (party, agent) = (self.party.to_string(), Some(name.to_owned()));
            let key = self.token.make(KeyOrder { party, purpose, agent, algorithm })?;
            ensure_sound(&key)?;
            Ok(listed(&key))
        })?;
        self.key_show(actor, made["label"].as_str().unwrap_or_default())
    }

    /// Makes the next version of a role's key the one that signs. `in_use` has everything that signs look up its key
    /// anew. A rotation that was cut off, which left two active versions, is finished instead. The issuing CA takes two
    /// steps: announced to the other parties, then used.
    ///
    /// Answers `{purpose, key, version, algorithm, retired: [label], certificate: {serial, not_after} | null,
    /// effective, next_step}`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `rotation_not_possible`, `party_not_initialised`, `issuance_in_progress`,
    /// `custody_attributes_unsound`; the token's, the store's.
    pub fn key_rotate(
        &self,
        actor: &Actor,
        purpose: Purpose,
        in_use: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Value, Failure> {
        self.recorded(actor, "key_rotate", &json!({ "purpose": purpose }), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            self.ensure_rotatable(purpose)?;
            if purpose == Purpose::Issuing {
                return self.rotate_issuing(actor, in_use);
            }
            let issuing = self.begin_issuing()?;
            let active = self.active_keys(purpose, None)?;
            let key = match active.as_slice() {
                [] if !purpose.seals() => {
                    return Err(Failure::refused(
                        "party_not_initialised",
                        format!("{} has no {} key yet", self.party, purpose.slug()),
                        "run `countersign init` for this state directory first",
                    ));
                }
                [newest, _, ..] => newest.clone(),
                [] | [_] => self.new_key(purpose, None)?,
            };
            ensure_sound(&key)?;
            let certificate = if roles(self.kind).contains(&purpose) {
                let (authority, _) = self.own_authority()?;
                let record = self.certify_role(actor, &key, &authority.der)?;
                json!({ "serial": record.serial, "not_after": record.not_after.rfc3339() })
            } else {
                Value::Null
            };
            drop(issuing);
            in_use()?;
            let mut retired = Vec::new();
            // The listener took its key when it started, and handshakes must not fail until it starts again.
            if purpose != Purpose::TlsServer {
                retired = self.retire_before(&key)?;
            }
            Ok(json!({
                "purpose": purpose,
                "key": key.label,
                "id": key.id,
                "version": key.version,
                "algorithm": key.algorithm,
                "retired": retired,
                "certificate": certificate,
                "effective": if purpose == Purpose::TlsServer { "after restart" } else { "now" },
                "next_step": after_rotation(purpose),
            }))
        })
    }

    /// Retires the versions of a role's key before the one that is in use now. For the listener, once it has started
    /// with the new one. Answers their labels; where there is nothing to do it leaves no trace.
    ///
    /// # Errors
    /// The token's, the store's.
    pub fn retire_superseded(&self, actor: &Actor, purpose: Purpose) -> Result<Vec<String>, Failure> {
        let role = self.signing_role(purpose)?;
        let active = self.active_keys(purpose, None)?;
        if active.iter().all(|key| key.version >= role.key.version) {
            return Ok(Vec::new());
        }
        let mut retired = Vec::new();
        self.recorded(actor, "key_retire", &json!({ "purpose": purpose, "in_use": role.key.label }), || {
            retired = self.retire_before(&role.key)?;
            Ok(Value::Null)
        })?;
        Ok(retired)
    }

    /// The listener serves with this key from now on: it is not to be taken from under it.
    pub fn listening_with(&self, key: KeyId) {
        let _ = self.listener_key.set(key);
    }

    fn retire_before(&self, key: &KeyInfo) -> Result<Vec<String>, Failure> {
        let older = self.active_keys(key.purpose, None)?.into_iter().filter(|other| other.version < key.version);
        older.map(|older| Ok(self.token.retire(older.id)?.label)).collect()
    }

    /// Makes one key verify-only for good.
    ///
    /// # Errors
    /// `operator_not_permitted`, `unknown_key`, `key_in_use`, `identity_not_retired`, `retire_not_supported`; the
    /// token's.
    pub fn key_retire(&self, actor: &Actor, label: &str) -> Result<Value, Failure> {
        self.recorded(actor, "key_retire", &json!({ "key": label }), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            let key = self.key_by_label(label)?;
            let newest = self.newest_key(key.purpose, key.agent.as_deref())?;
            if self.listener_key.get() == Some(&key.id) {
                return Err(Failure::refused(
                    "key_in_use",
                    format!("the running listener serves with {label}; without it every handshake would fail"),
                    "restart the daemon: it serves with the newest key and retires the one before by itself",
                ));
            }
            // Without its newest key the signing service refuses, and nothing of ours stands still: that is how it is stopped.
            let is_needed = !matches!(key.purpose, Purpose::Agent | Purpose::TokenIdentity | Purpose::External);
            if is_needed && newest.is_some_and(|newest| newest.id == key.id) {
                return Err(Failure::refused(
                    "key_in_use",
                    format!("{label} is the {} key that is in use", key.purpose.slug()),
                    match self.ensure_rotatable(key.purpose) {
                        Ok(()) => format!("make the next one with `countersign key rotate {}`", key.purpose.slug()),
                        Err(refusal) => refusal.next_step,
                    },
                ));
            }
            if key.purpose == Purpose::Issuing {
                self.ensure_issues_no_more(&key)?;
            }
            Ok(listed(&self.token.retire(key.id)?))
        })
    }

    /// Without a confirmation: says what would be lost, and the confirmation to give. With it: destroys the key.
    ///
    /// Answers `{key, lost: [sentence], confirm, until}`, or the key.
    ///
    /// # Errors
    /// `operator_not_permitted`, `unknown_key`, `key_still_active`, `key_destroyed`, `confirmation_wrong`,
    /// `key_in_use`; the token's.
    pub fn key_destroy(&self, actor: &Actor, label: &str, confirm: Option<&str>) -> Result<Value, Failure> {
        let Some(confirm) = confirm else {
            return self.refusal_recorded(actor, "key_destroy", &json!({ "key": label }), || {
                self.permit(actor, &[ADMINISTRATOR])?;
                self.announce(&self.destructible(label)?)
            });
        };
        self.recorded(actor, "key_destroy", &json!({ "key": label }), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            let key = self.destructible(label)?;
            self.take_confirmation(&key, confirm)?;
            Ok(listed(&self.token.destroy(key.id)?))
        })
    }

    fn destructible(&self, label: &str) -> Result<KeyInfo, Failure> {
        let key = self.key_by_label(label)?;
        match key.state {
            KeyState::VerifyOnly if self.seals_store_keys(&key)? => Err(Failure::refused(
                "key_still_seals",
                format!("a key of the store lies under {label}: what leaves say could not be read any more"),
                "run `countersign key rotate data-wrapping` again while the token answers: it seals the store's keys anew",
            )),
            KeyState::VerifyOnly => self.ensure_seals_nothing(&key).map(|()| key),
            KeyState::Active => Err(Failure::refused(
                "key_still_active",
                format!("{label} still signs or seals"),
                "retire it first: `countersign key rotate` or `countersign key retire`",
            )),
            KeyState::Destroyed => {
                Err(Failure::refused("key_destroyed", format!("{label} was destroyed"), "nothing is left to do"))
            }
        }
    }

    fn seals_store_keys(&self, key: &KeyInfo) -> Result<bool, Failure> {
        let of_data = key.purpose == Purpose::DataWrapping;
        Ok(of_data && self.store.store_keys()?.iter().any(|kept| kept.wrapping_key == key.id))
    }

    /// A credential must not become unreadable because somebody forgot to seal it anew.
    fn ensure_seals_nothing(&self, key: &KeyInfo) -> Result<(), Failure> {
        if key.purpose != Purpose::VaultWrapping {
            return Ok(());
        }
        let sealed = self.store.credential_keys()?.into_iter().find(|(under, _)| *under == key.id);
        match sealed {
            None => Ok(()),
            Some((_, versions)) => Err(Failure::refused(
                "key_in_use",
                format!("{versions} versions of the vault's credentials are sealed under {}", key.label),
                "seal them anew with `countersign vault rewrap`, or remove them; then destroy the key",
            )),
        }
    }

    fn announcement(&self) -> std::path::PathBuf {
        self.state.resolve("run/key-destroy.json")
    }

    fn announce(&self, key: &KeyInfo) -> Result<Value, Failure> {
        let digest = Sha256::of(&[&key.id.0, key.label.as_bytes(), &clock::random::<32>()]);
        let confirm = digest.hex()[..12].to_owned();
        let until = clock::now().plus_ms(CONFIRMATION_MS);
        let announced =
            Announced { key: key.id, label: key.label.clone(), confirmation: Sha256::of(&[confirm.as_bytes()]), until };
        files::write_json(&self.announcement(), &announced)?;
        Ok(json!({
            "key": key.label,
            "lost": self.lost_with(key)?,
            "confirm": confirm,
            "until": until.rfc3339(),
        }))
    }

    /// Takes the announced confirmation, which counts once, right or wrong.
    fn take_confirmation(&self, key: &KeyInfo, confirm: &str) -> Result<(), Failure> {
        let path = self.announcement();
        let text = files::read_optional(&path)?;
        let announced: Option<Announced> = text.and_then(|text| serde_json::from_str(&text).ok());
        files::remove_durable(&path)?;
        let fits = announced.is_some_and(|announced| {
            announced.key == key.id
                && announced.label == key.label
                && announced.until > clock::now()
                && announced.confirmation == Sha256::of(&[confirm.as_bytes()])
        });
        if fits {
            return Ok(());
        }
        Err(Failure::refused(
            "confirmation_wrong",
            format!(
                "this is not the confirmation last printed for {}, it was used or a wrong one was given since, or its 10 minutes are over",
                key.label
            ),
            format!("run `countersign key destroy {}` and give what it prints", key.label),
        ))
    }

    /// What nobody can do any more once the key is gone, in sentences.
    fn lost_with(&self, key: &KeyInfo) -> Result<Vec<String>, Failure> {
        if key.purpose.seals() {
            return Ok(vec![format!(
                "everything sealed under {} becomes unreadable for good: seal it under the newer key first",
                key.label
            )]);
        }
        let mut lost = vec![format!("{} can never sign again; what it signed still verifies", key.label)];
        let certificates = self.certificates_of(key)?.len();
        if certificates > 0 {
            lost.push(format!("{certificates} certificates over it stay on record and prove what it signed"));
        }
        if key.purpose == Purpose::Agent {
            lost.push("the agent's certificate pair over it is of no use any more".into());
        }
        if matches!(key.purpose, Purpose::Root | Purpose::Issuing) {
            lost.push("no certificate or revocation list can be made under it any more".into());
        }
        Ok(lost)
    }

    fn key_by_label(&self, label: &str) -> Result<KeyInfo, Failure> {
        let found = self.token.keys()?.into_iter().find(|key| key.label == label);
        found.ok_or_else(|| {
            Failure::refused(
                "unknown_key",
                format!("the token has no key {label}"),
                "see the labels with `countersign key list`",
            )
        })
    }

    /// Certificates over a key: those of our records, and the pair installed at an agent host.
    fn certificates_of(&self, key: &KeyInfo) -> Result<Vec<Value>, Failure> {
        if let (PartyKind::AgentHost, Some(agent)) = (self.kind, &key.agent) {
            let pair = match agent.parse() {
                Ok(name) => self.installed_pair(&name)?,
                Err(_) => None,
            };
            let over_it =
                |der: &Vec<u8>| Certificate::read(der).is_ok_and(|certificate| certificate.tbs.key() == key.id);
            let pair = pair.into_iter().flatten().filter(over_it);
            return Ok(pair.map(|der| crate::ca::described(&der)).collect());
        }
        let records = self.store.certificates_of(&CertificatesOf::Key(key.id), UnixMillis(i64::MIN))?;
        let own = records.iter().filter(|record| record.der.is_some());
        Ok(own
            .map(|record| {
                json!({
                    "profile": record.profile,
                    "subject": record.subject,
                    "serial": record.serial,
                    "not_after": record.not_after.rfc3339(),
                })
            })
            .collect())
    }

    fn ensure_rotatable(&self, purpose: Purpose) -> Result<(), Failure> {
        let instead = match purpose {
            Purpose::Root => {
                "the other parties trust this root by its certificate: set up a new state directory with a root of its \
                 own, have it trusted under a new party name, enrol agents there, then stop this one"
            }
            Purpose::Issuing if self.kind != PartyKind::AgentHost => return Ok(()),
            Purpose::Issuing => "an agent host issues nothing",
            Purpose::TokenIdentity => "the identity key recognises the token for its whole life: make a new token",
            Purpose::Operator => "enrol the operator again with a new token, then revoke the certificate before",
            Purpose::Agent => "revoke the agent and request a certificate pair under another name",
            Purpose::External => "make the next one with `countersign key generate --purpose external --name NAME`",
            Purpose::HostIdentity if self.kind == PartyKind::AgentHost => return Ok(()),
            Purpose::Checkpoint if !self.kind.certifies() => return Ok(()),
            Purpose::VaultWrapping | Purpose::DataWrapping => return Ok(()),
            Purpose::TlsServer
            | Purpose::TlsClient
            | Purpose::HostIdentity
            | Purpose::Checkpoint
            | Purpose::Witness
            | Purpose::Transaction
            | Purpose::Catalogue
            | Purpose::RevocationReceipt
            | Purpose::OcspResponder
            | Purpose::Manifest
            | Purpose::Token => {
                if roles(self.kind).contains(&purpose) || bare_roles(self.kind).contains(&purpose) {
                    return Ok(());
                }
                "run it with the state directory of the party that has such a key"
            }
        };
        let message = format!("a {} key of {} is not rotated", purpose.slug(), self.party);
        Err(Failure::refused("rotation_not_possible", message, instead))
    }
}

fn after_rotation(purpose: Purpose) -> Value {
    match purpose {
        Purpose::TlsServer => {
            json!("start the daemon again: the listener takes the new key, then the old one is retired")
        }
        Purpose::HostIdentity => {
            json!("have it enrolled by the other parties: `countersign host show`, there `countersign host enrol`")
        }
        Purpose::VaultWrapping => {
            json!("what is sealed under the old key still opens; `countersign vault rewrap` seals it under the new one")
        }
        Purpose::DataWrapping => {
            json!("what the old key sealed is sealed anew; once no backup needs it, it may be destroyed")
        }
        Purpose::Root
        | Purpose::Issuing
        | Purpose::TlsClient
        | Purpose::Agent
        | Purpose::Checkpoint
        | Purpose::Witness
        | Purpose::Transaction
        | Purpose::Catalogue
        | Purpose::RevocationReceipt
        | Purpose::OcspResponder
        | Purpose::Manifest
        | Purpose::Token
        | Purpose::Operator
        | Purpose::External
        | Purpose::TokenIdentity => Value::Null,
    }
}

fn listed(key: &KeyInfo) -> Value {
    json!({
        "label": key.label,
        "id": key.id,
        "purpose": key.purpose,
        "agent": key.agent,
        "version": key.version,
        "algorithm": key.algorithm,
        "state": key.state,
        "custody": custody_word(key),
    })
}

pub(super) fn custody_word(key: &KeyInfo) -> &'static str {
    match key.state {
        KeyState::Active | KeyState::VerifyOnly if key.custody.is_sound() => "sound",
        KeyState::Active | KeyState::VerifyOnly => "unsound",
        KeyState::Destroyed => "gone",
    }
}

/// Why the custody of a key is sound, or what breaks it.
pub(super) fn verdict(key: &KeyInfo) -> String {
    if key.state == KeyState::Destroyed {
        return "the key was destroyed; only what verifies its signatures is left".into();
    }
    let custody = key.custody;
    let broken: Vec<&str> = [
        (!custody.sensitive, "its value can be read in plain text (CKA_SENSITIVE is false)"),
        (custody.extractable, "it can leave the token wrapped (CKA_EXTRACTABLE is true)"),
        (!custody.local, "it was not generated in this token (CKA_LOCAL is false)"),
        (!custody.always_sensitive, "its value could once be read (CKA_ALWAYS_SENSITIVE is false)"),
        (!custody.never_extractable, "it could once leave the token (CKA_NEVER_EXTRACTABLE is false)"),
    ]
    .into_iter()
    .filter_map(|(is_broken, why)| is_broken.then_some(why))
    .collect();
    if broken.is_empty() {
        "generated in the token; never readable, never extractable".into()
    } else {
        broken.join("; ")
    }
}

/// What a key of this purpose may be used for, in words.
pub(super) fn may(purpose: Purpose) -> &'static [&'static str] {
    match purpose {
        Purpose::Root => &["sign CA certificates", "sign revocation lists"],
        Purpose::Issuing => &["sign end-entity certificates", "sign revocation lists"],
        Purpose::TlsServer => &["sign TLS 1.3 server handshakes"],
        Purpose::TlsClient => &["sign TLS 1.3 client handshakes with the core banking system and the other party"],
        Purpose::Agent => &[
            "sign requests for its own certificates",
            "prove its endorsement (RFC 9763)",
            "sign TLS 1.3 client handshakes",
        ],
        Purpose::HostIdentity => &["sign custody statements", "sign custody reports"],
        Purpose::Checkpoint => &["sign checkpoints of the audit log"],
        Purpose::Witness => &["cosign another party's checkpoints"],
        Purpose::Transaction => &["sign batches of posted transactions"],
        Purpose::Catalogue => &["sign role catalogues", "sign custody reports"],
        Purpose::RevocationReceipt => &["sign receipts of revocations"],
        Purpose::OcspResponder => &["sign answers about the status of certificates"],
        Purpose::Manifest => &["sign tool manifests"],
        Purpose::Token => &["sign access tokens of agents", "sign what clients carry between two calls"],
        Purpose::Operator => &["sign what a person decided"],
        Purpose::TokenIdentity => &["sign random self-tests"],
        Purpose::External => &["sign what other programs hand in at the signing service"],
        Purpose::VaultWrapping => &["seal and open credentials of the vault"],
        Purpose::DataWrapping => &["seal and open data keys"],
    }
}
