//! The service itself: what it holds, who may ask, and how every step leaves its leaf.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::{Value, json};

use crate::ca::crl::Lists;
use crate::ca::desk::Waiting;
use crate::ca::files;
use crate::ca::making::{Making, Turn};
use crate::ca::revoke::Acted;
use crate::ca::settings::{PartyKind, PkiSettings};
use crate::hsm::{KeyInfo, KeyOrder, KeyState, Token, mechanism_names_of};
use crate::kernel::command::{Act, Actor, Command, Effect};
use crate::kernel::credential::oid::OidBase;
use crate::kernel::credential::profile::{self, Profile};
use crate::kernel::refusal::Refusal;
use crate::kernel::sign::{Algorithm, Purpose};
use crate::kernel::types::{KeyId, PartyName, SpiffeId};
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};
use crate::ops::paths::StateDir;
use crate::store::Store;
use crate::tls::peer::Peer;

/// Operators' roles.
pub(super) const OFFICER: &str = "officer";
pub(super) const ADMINISTRATOR: &str = "administrator";

/// What an [`Authority`] is made of.
pub struct AuthoritySetup {
    pub party: PartyName,
    pub kind: PartyKind,
    pub state: StateDir,
    pub pki: PkiSettings,
    /// Algorithms of new keys, where not the purpose's own.
    pub algorithms: BTreeMap<Purpose, Algorithm>,
    pub token: Arc<dyn Token>,
    pub store: Arc<dyn Store>,
}

impl std::fmt::Debug for AuthoritySetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthoritySetup").field("party", &self.party).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// One party's certificate authority and enrolment service. Blocking; safe to share between threads.
///
/// Contract. *Durability*: the bytes of a certificate are in the store before they are signed, the signature
/// before the certificate is released. *Idempotence*: repeating a verb finds what it did before; a verb that was
/// interrupted goes on from its journal, signing the same bytes. *Audit*: every verb that changes something or is
/// refused leaves a leaf.
pub struct Authority {
    pub(super) party: PartyName,
    pub(super) kind: PartyKind,
    pub(super) state: StateDir,
    pub(super) pki: PkiSettings,
    pub(super) base: OidBase,
    pub(super) algorithms: BTreeMap<Purpose, Algorithm>,
    pub(super) token: Arc<dyn Token>,
    pub(super) store: Arc<dyn Store>,
    pub(super) making: Making,
    on_status_change: OnceLock<StatusListener>,
    /// The other party's daemon, when the configuration names it.
    pub(super) peer: OnceLock<Box<dyn Peer>>,
    /// Other parties' requests that came here: read from their files when first asked for. The lock guards the
    /// map only.
    pub(super) waiting: Mutex<Option<Waiting>>,
    /// The key that the running listener serves with, until the daemon ends.
    pub(super) listener_key: OnceLock<KeyId>,
    pub(super) lists: Lists,
}

/// Called when the revocation status has changed.
type StatusListener = Box<dyn Fn() -> Result<Acted, Failure> + Send + Sync>;

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("party", &self.party).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Authority {
    /// Checks the settings and opens the service. Touches neither token nor files.
    ///
    /// # Errors
    /// `config_invalid`: an `oid_base` or `trust_domain` that is none, or a life that its profile does not allow.
    pub fn open(setup: AuthoritySetup) -> Result<Arc<Self>, Failure> {
        let AuthoritySetup { party, kind, state, pki, algorithms, token, store } = setup;
        let invalid =
            |why: String| Failure::usage("config_invalid", format!("[pki]: {why}"), "correct countersign.toml");
        let base: OidBase = pki.oid_base.parse().map_err(|error| invalid(format!("{error}")))?;
        let role = "role".parse().expect("a role name");
        let name = "name".parse().expect("an agent name");
        SpiffeId::new(&pki.trust_domain, role, name).map_err(|error| invalid(error.to_string()))?;
        let days_max = |agents: bool| {
            let profiles = Profile::ALL.into_iter().filter(|profile| !profile.is_ca() && profile.is_agent() == agents);
            profiles.map(|profile| profile.table().life.max_days).min().unwrap_or(0)
        };
        let (agents_max, services_max) = (days_max(true) * 24, days_max(false));
        if !(1..=agents_max).contains(&pki.agent_life_hours) {
            return Err(invalid(format!("agent_life_hours must be 1 to {agents_max}")));
        }
        if !(1..=services_max).contains(&pki.service_life_days) {
            return Err(invalid(format!("service_life_days must be 1 to {services_max}")));
        }
        if !(1..=31 * 24).contains(&pki.crl_life_hours) {
            return Err(invalid("crl_life_hours must be 1 to 744".into()));
        }
        if !profile::is_http_uri(&format!("{}/", pki.base_url.trim_end_matches('/'))) {
            return Err(invalid("base_url must be http://host[:port][/path] (not https: RFC 5280, 8)".into()));
        }
        if let Some(name) = pki.tls_names.iter().find(|name| !is_server_name(name)) {
            return Err(invalid(format!("{name} in tls_names is neither a host name nor an address")));
        }
        Ok(Arc::new(Self {
            party,
            kind,
            state,
            pki,
            base,
            algorithms,
            token,
            store,
            making: Making::default(),
            on_status_change: OnceLock::new(),
            peer: OnceLock::new(),
            waiting: Mutex::new(None),
            listener_key: OnceLock::new(),
            lists: Lists::default(),
        }))
    }

    /// Removes what a killed process left half-written. Before anything is written.
    ///
    /// # Errors
    /// The file system's.
    pub fn tidy_up(&self) -> Result<(), Failure> {
        let directories = [self.state.certs(), self.state.anchors(), self.state.receipts(), self.state.resolve("run")];
        for directory in directories {
            let count = files::remove_half_written(&directory)?;
            if count > 0 {
                tracing::info!(count, directory = %directory.display(), "removed what was half-written");
            }
        }
        Ok(())
    }

    /// Names the one listener that hears of every change of the revocation status: after it is durable, before
    /// anything is signed about it. It replaces the live status, cuts connections, and answers when every node that
    /// serves has done so.
    pub fn listen(&self, listener: impl Fn() -> Result<Acted, Failure> + Send + Sync + 'static) {
        // A second listener would be a wiring error of the composition root; the first one stands.
        let _ = self.on_status_change.set(Box::new(listener));
    }

    pub fn party(&self) -> &PartyName {
        &self.party
    }

    pub fn kind(&self) -> PartyKind {
        self.kind
    }

    /// A change of the revocation status is durable: answers when nothing is served any more that it forbids.
    pub(super) fn status_changed(&self) -> Result<Acted, Failure> {
        match self.on_status_change.get() {
            Some(listener) => listener(),
            // Nothing is served here.
            None => Ok(Acted { connections_cut: 0, nodes: 0 }),
        }
    }

    /// Operators with one of these roles, and the daemon itself, may go on.
    pub(super) fn permit(&self, actor: &Actor, roles: &[&str]) -> Result<(), Failure> {
        let permitted = match actor {
            Actor::Operator(operator) => operator.roles.iter().any(|role| roles.contains(&role.as_str())),
            Actor::System { .. } => true,
            Actor::Agent(_) | Actor::Program(_) => false,
        };
        if permitted { Ok(()) } else { Err(refused(Refusal::OperatorNotPermitted)) }
    }

    /// Only parties of these kinds have the verb.
    pub(super) fn only_for(&self, kinds: &[PartyKind]) -> Result<(), Failure> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        let whose = kinds.iter().map(|kind| kind.words()).collect::<Vec<_>>().join(" or ");
        Err(Failure::refused(
            "not_this_party",
            format!("{} does not do this; it is for: {whose}", self.party),
            "run the command with --state and the directory of such a party",
        ))
    }

    /// Runs a verb and leaves a leaf about it, done or refused. Without the leaf there is no answer.
    pub(super) fn recorded(
        &self,
        actor: &Actor,
        verb: &str,
        about: &Value,
        run: impl FnOnce() -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let result = self.refusal_recorded(actor, verb, about, run)?;
        self.apply(actor, leaf(verb, "done", about))?;
        Ok(result)
    }

    /// Runs a verb whose acts leave leaves of their own; a refusal gets one here.
    pub(super) fn refusal_recorded(
        &self,
        actor: &Actor,
        verb: &str,
        about: &Value,
        run: impl FnOnce() -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        run().or_else(|failure| {
            if failure.kind == Kind::Refused {
                let refusal = json!({ "outcome": "refused", "reason": failure.name, "about": about });
                self.apply(actor, Act::Record { tool: verb.to_owned(), decision: refusal })?;
            }
            Err(failure)
        })
    }

    /// One act in one commit.
    pub(super) fn apply(&self, actor: &Actor, act: Act) -> Result<Effect, Failure> {
        let effects = self.apply_all(actor, vec![act])?;
        effects.into_iter().next().ok_or_else(|| unexpected_effect("nothing"))
    }

    /// Several acts in one commit. What was permitted stands, although another one was refused.
    pub(super) fn apply_all(&self, actor: &Actor, acts: Vec<Act>) -> Result<Vec<Effect>, Failure> {
        let command = |act| Command { stamp: clock::stamp(clock::fresh_request_id()), actor: actor.clone(), act };
        let decisions = self.store.apply(acts.into_iter().map(command).collect())?;
        decisions.into_iter().map(|decision| decision.outcome.map_err(refused)).collect()
    }

    /// The active keys of a purpose, newest first.
    pub(super) fn active_keys(&self, purpose: Purpose, agent: Option<&str>) -> Result<Vec<KeyInfo>, Failure> {
        let mut keys = self.token.keys()?;
        keys.retain(|key| key.purpose == purpose && key.agent.as_deref() == agent && key.state == KeyState::Active);
        keys.sort_by_key(|key| std::cmp::Reverse(key.version));
        Ok(keys)
    }

    /// The newest active key of a purpose.
    pub(super) fn newest_key(&self, purpose: Purpose, agent: Option<&str>) -> Result<Option<KeyInfo>, Failure> {
        Ok(self.active_keys(purpose, agent)?.into_iter().next())
    }

    /// The newest key of a purpose, made if there is none.
    pub(super) fn key_or_new(&self, purpose: Purpose, agent: Option<&str>) -> Result<KeyInfo, Failure> {
        let key = match self.newest_key(purpose, agent)? {
            Some(key) => key,
            None => self.new_key(purpose, agent)?,
        };
        ensure_sound(&key)?;
        Ok(key)
    }

    /// What a new key of this purpose will be on a module with these mechanisms. Notes are signed with Ed25519 unless the
    /// configuration names something else; few modules have it, and P-256 does where they have not. So it is with the
    /// vault's keys, AES and RSA.
    pub(super) fn algorithm_of(&self, purpose: Purpose, mechanisms: &[String]) -> Algorithm {
        if let Some(named) = self.algorithms.get(&purpose) {
            return *named;
        }
        let is_there = |algorithm: Algorithm| {
            mechanism_names_of(purpose, algorithm).iter().all(|name| mechanisms.iter().any(|one| one == name))
        };
        let mut choice = purpose.algorithms().iter().copied().filter(|_| goes_by_module(purpose));
        choice.find(|algorithm| is_there(*algorithm)).unwrap_or(purpose.default_algorithm())
    }

    /// A new version, of the algorithm that the configuration names for the purpose, or that its module has.
    pub(super) fn new_key(&self, purpose: Purpose, agent: Option<&str>) -> Result<KeyInfo, Failure> {
        let mechanisms = if goes_by_module(purpose) { self.token.describe()?.mechanisms } else { vec![] };
        let algorithm = self.algorithm_of(purpose, &mechanisms);
        let (party, agent) = (self.party.to_string(), agent.map(str::to_owned));
        Ok(self.token.make(KeyOrder { party, purpose, agent, algorithm })?)
    }

    /// Nobody else makes keys or certificates until it is dropped.
    pub(super) fn begin_issuing(&self) -> Result<Turn<'_>, Failure> {
        self.making.everything()
    }

    /// Nobody else makes anything for this agent or over this key until it is dropped; for others they may.
    pub(super) fn begin_issuing_to(&self, agent: &SpiffeId, key: KeyId) -> Result<Turn<'_>, Failure> {
        self.making.about(vec![agent.to_string(), key.to_string()])
    }
}

fn is_server_name(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok() || profile::is_dns_name(name)
}

/// True when keys of this purpose sign notes of logs.
pub(super) fn signs_notes(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Checkpoint | Purpose::Witness)
}

/// Keys of these purposes are of the first of their algorithms that the module has.
fn goes_by_module(purpose: Purpose) -> bool {
    signs_notes(purpose) || purpose == Purpose::VaultWrapping
}

/// Passes a key that was born in its token and never could leave it.
pub(super) fn ensure_sound(key: &KeyInfo) -> Result<(), Failure> {
    if key.custody.is_sound() {
        return Ok(());
    }
    Err(Failure::refused(
        "custody_attributes_unsound",
        format!("the key {} was not made in its token or could leave it", key.label),
        "make the key anew in the token; imported keys are not used",
    ))
}

/// What the record says of a verb.
pub(super) fn leaf(verb: &str, outcome: &str, about: &Value) -> Act {
    Act::Record { tool: verb.to_owned(), decision: json!({ "outcome": outcome, "about": about }) }
}

/// A refusal of the kernel, as a failure.
pub(super) fn refused(refusal: Refusal) -> Failure {
    Failure::refused(refusal.name(), refusal.message(), refusal.next_step())
}

/// The store answered with something that this act does not produce.
pub(super) fn unexpected_effect(found: &str) -> Failure {
    Failure::fault("store_answer_unexpected", format!("the store answered with {found}"), "report this as a defect")
}
