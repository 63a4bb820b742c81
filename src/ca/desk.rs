//! The security company's desk for other parties' requests: a request waits until an officer's approval covers it.
//!
//! One file a request, `certs/endorsements/<request id>.json`, written before anything is signed. The network may lose,
//! repeat, delay and reorder what comes in: everything is found again by the request's id, and what was abandoned stays
//! abandoned, whatever comes later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::authority::Authority;
use crate::ca::enrol::issued;
use crate::ca::files;
use crate::ca::settings::PartyKind;
use crate::kernel::command::{Act, Actor, CertificateRecord, Effect, RevocationTarget};
use crate::kernel::credential::profile::Profile;
use crate::kernel::types::{KeyId, PartyName, RequestId, Serial, SpiffeId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::CertificatesOf;

/// A request and what became of it are kept this long; certificates and leaves stay for ever.
const KEPT_MS: i64 = 30 * 86_400_000;

/// A request that was received. Nothing of it is believed on the file's word: the request is verified each time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Received {
    request_id: RequestId,
    /// Who asked.
    peer: PartyName,
    agent: SpiffeId,
    agent_key: KeyId,
    /// When it came: its custody statement was fresh then.
    received_unix_ms: i64,
    state: State,
    /// Of S: issuer's key identifier and serial number.
    endorsement: Option<(String, Serial)>,
    request: Value,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// No officer has approved yet.
    Pending,
    /// S may have been signed.
    Issuing,
    Endorsed,
    /// Never endorsed again; what was endorsed is revoked.
    Abandoned,
}

/// What the files say, to be found without reading them all.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Requests of each other party that have not come to an end, those among them that were given up before they came.
    of_peer: BTreeMap<PartyName, BTreeSet<RequestId>>,
    /// Of each other party's requests over a key the one that waits, and the newest one that was endorsed.
    pending: BTreeMap<(PartyName, KeyId), RequestId>,
    endorsed: BTreeMap<(PartyName, KeyId), RequestId>,
}

impl Authority {
    /// Another party asks for an endorsement, or asks again how far it is. The same id with another request is refused.
    ///
    /// Answers `{request_id, state: pending|endorsed|abandoned, agent, key, certificate_pem?, approval?}`.
    ///
    /// # Errors
    /// `not_this_party`, `request_id_taken`, `issuance_in_progress`, `too_many_requests_waiting`, and what is wrong with
    /// the request.
    pub fn endorsement_put(&self, peer: &PartyName, id: &RequestId, request: &Value) -> Result<Value, Failure> {
        let about = json!({ "request_id": id, "peer": peer });
        self.refusal_recorded(&of(peer), "endorsement_request", &about, || {
            self.only_for(&[PartyKind::SecurityCompany])?;
            let _turn = self.making.about(vec![id.to_string()])?;
            let received = match self.received(id)? {
                Some(received) => {
                    if received.peer != *peer || received.request != *request {
                        return Err(Failure::refused(
                            "request_id_taken",
                            format!("{id} was another request"),
                            "ask with a fresh id, or with the request that had this one",
                        ));
                    }
                    received
                }
                None => self.receive(peer, id, request)?,
            };
            self.go_on(received)
        })
    }

    /// How far a request is; goes on with it when an officer has approved meanwhile. Answers as
    /// [`Self::endorsement_put`].
    ///
    /// # Errors
    /// `not_this_party`, `request_unknown`, and as [`Self::endorsement_put`].
    pub fn endorsement_get(&self, peer: &PartyName, id: &RequestId) -> Result<Value, Failure> {
        self.only_for(&[PartyKind::SecurityCompany])?;
        let _turn = self.making.about(vec![id.to_string()])?;
        let received = self.received(id)?.filter(|received| received.peer == *peer).ok_or_else(unknown)?;
        self.go_on(received)
    }

    /// Gives a request up: S is revoked if there is one, and none will be. Repeating it changes nothing. An id that is
    /// not known is remembered as abandoned: its request may still be on its way.
    ///
    /// # Errors
    /// `not_this_party`, the store's.
    pub fn endorsement_abandon(&self, peer: &PartyName, id: &RequestId) -> Result<Value, Failure> {
        let about = json!({ "request_id": id, "peer": peer });
        self.recorded(&of(peer), "endorsement_abandon", &about, || {
            self.only_for(&[PartyKind::SecurityCompany])?;
            let _turn = self.making.about(vec![id.to_string()])?;
            let Some(received) = self.received(id)? else {
                self.has_room(peer, id, None)?;
                self.write_tombstone(peer, id)?;
                self.note(|waiting| waiting.adds(peer, id));
                return Ok(json!({ "request_id": id, "state": State::Abandoned }));
            };
            if received.peer != *peer {
                return Err(unknown());
            }
            let mut abandoned = received;
            if abandoned.state == State::Issuing {
                let _issuing = self.begin_issuing_to(&abandoned.agent, abandoned.agent_key)?;
                // It was cut off: what was journalled has a serial number to be revoked by, and is never signed then.
                abandoned.endorsement = self.journalled(&abandoned)?;
            }
            // The mark first: a crash in between leaves an S that the repeat revokes, and none that comes later.
            abandoned.state = State::Abandoned;
            self.write_received(&abandoned)?;
            self.note(|waiting| waiting.ends(&abandoned));
            self.revoke_endorsement(&abandoned)?;
            Ok(Self::answer(&abandoned, None))
        })
    }

    /// What other parties asked for: `{items: [{request_id, peer, state, agent, key, received_at}], next: null}`.
    ///
    /// # Errors
    /// `not_this_party`, the file system's.
    pub fn endorsement_list(&self, _actor: &Actor) -> Result<Value, Failure> {
        self.only_for(&[PartyKind::SecurityCompany])?;
        let items: Vec<Value> = self
            .all_received()?
            .into_iter()
            .map(|received| {
                json!({
                    "request_id": received.request_id,
                    "peer": received.peer,
                    "state": received.state,
                    "agent": received.agent,
                    "key": received.agent_key,
                    "received_at": UnixMillis(received.received_unix_ms).rfc3339(),
                })
            })
            .collect();
        Ok(json!({ "items": items, "next": null }))
    }

    fn all_received(&self) -> Result<Vec<Received>, Failure> {
        let names = files::names(&self.desk())?;
        let ids = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        ids.filter_map(|id: RequestId| self.received(&id).transpose()).collect()
    }

    /// Forgets requests of long ago: what they were about has ended, and their custody statements are too old to be
    /// believed if they came again. Answers how many.
    ///
    /// # Errors
    /// The file system's.
    pub fn forget_requests(&self) -> Result<usize, Failure> {
        if self.kind != PartyKind::SecurityCompany {
            return Ok(0);
        }
        let since = clock::now().plus_ms(-KEPT_MS).0;
        let mut old: Vec<std::path::PathBuf> = Vec::new();
        for received in self.all_received()? {
            if received.received_unix_ms < since {
                old.push(self.desk().join(format!("{}.json", received.request_id)));
            }
        }
        for name in files::names(&self.desk())? {
            let path = self.desk().join(&name);
            let noted = if name.ends_with(".abandoned") { files::read_optional(&path)? } else { None };
            let at = noted.and_then(|text| text.lines().nth(1)?.parse::<i64>().ok());
            if at.is_some_and(|at| at < since) {
                old.push(path);
            }
        }
        old.iter().try_for_each(|path| files::remove_durable(path))?;
        if !old.is_empty() {
            *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(old.len())
    }

    /// Whether this party may leave one more request here, `instead_of` one that makes room. One that is known has its
    /// place.
    fn has_room(&self, peer: &PartyName, id: &RequestId, instead_of: Option<&RequestId>) -> Result<(), Failure> {
        let most = usize::try_from(self.pki.peer_requests_max).unwrap_or(usize::MAX);
        let is_full = self.known(|waiting| {
            waiting.of_peer.get(peer).is_some_and(|of_peer| {
                let left = of_peer.len() - usize::from(instead_of.is_some_and(|other| of_peer.contains(other)));
                !of_peer.contains(id) && left >= most
            })
        })?;
        if is_full {
            return Err(Failure::busy(
                "too_many_requests_waiting",
                format!("{most} requests of {peer} wait here already"),
                "have officers of the security company approve, or give requests up; see [pki] peer_requests_max there",
            ));
        }
        Ok(())
    }

    /// Looks at what is known of the files; they are read at the first look.
    fn known<T>(&self, look: impl FnOnce(&Waiting) -> T) -> Result<T, Failure> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_none() {
            *waiting = Some(self.read_waiting()?);
        }
        Ok(look(waiting.get_or_insert_default()))
    }

    fn note(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Not read yet: then the file tells it.
        if let Some(waiting) = waiting.as_mut() {
            change(waiting);
        }
    }

    fn read_waiting(&self) -> Result<Waiting, Failure> {
        let mut waiting = Waiting::default();
        let mut all = self.all_received()?;
        all.sort_by_key(|received| received.received_unix_ms);
        for received in &all {
            waiting.takes(received);
        }
        for name in files::names(&self.desk())? {
            let tombstone = name.strip_suffix(".abandoned").and_then(|rest| rest.split_once('.'));
            if let Some((id, peer)) = tombstone
                && let (Ok(id), Ok(peer)) = (id.parse(), peer.parse())
            {
                waiting.adds(&peer, &id);
            }
        }
        Ok(waiting)
    }

    fn receive(&self, peer: &PartyName, id: &RequestId, request: &Value) -> Result<Received, Failure> {
        if self.is_tombstone(peer, id)? {
            return Err(Failure::refused(
                "request_abandoned",
                format!("{id} was abandoned before it came"),
                "make the request anew with `countersign cert request`",
            ));
        }
        let now = clock::now();
        let verified = self.verify_request_at(request, now)?;
        let agent = verified.spiffe_id().clone();
        self.role_is_known(agent.role().as_str())?;
        self.may_certify(Profile::AgentS, &agent.to_string(), verified.key())?;
        // One question about a key waits: the same agent's next one, which is made whenever it renews, takes its place.
        let _turn = self.begin_issuing_to(&agent, verified.key())?;
        let before = self.known(|waiting| waiting.pending.get(&(peer.clone(), verified.key())).cloned())?;
        let before = before.map(|before| self.received(&before)).transpose()?.flatten();
        let before = before.filter(|before| before.state == State::Pending && before.agent == agent);
        self.has_room(peer, id, before.as_ref().map(|before| &before.request_id))?;
        let received = Received {
            request_id: id.clone(),
            peer: peer.clone(),
            agent,
            agent_key: verified.key(),
            received_unix_ms: now.0,
            state: State::Pending,
            endorsement: None,
            request: request.clone(),
        };
        self.write_received(&received)?;
        if let Some(before) = before {
            self.forget(&before)?;
        }
        self.note(|waiting| waiting.takes(&received));
        Ok(received)
    }

    /// As far as it goes now. Each step is found done when it is repeated.
    fn go_on(&self, mut received: Received) -> Result<Value, Failure> {
        if received.state == State::Abandoned {
            // The revocation may have been cut off.
            self.revoke_endorsement(&received)?;
            return Ok(Self::answer(&received, None));
        }
        let _issuing = self.begin_issuing_to(&received.agent, received.agent_key)?;
        let standing = match self.standing_approval(&received.agent, received.agent_key, clock::now()) {
            Ok(standing) => standing,
            Err(failure) if received.state == State::Pending && waits_for_an_officer(&failure) => {
                return Ok(Self::answer(&received, None));
            }
            Err(failure) => return Err(failure),
        };
        let record = match &received.endorsement {
            // The first one stands, and ends when it ends.
            Some((issuer, serial)) => self
                .store
                .certificates_of(
                    &CertificatesOf::Serial { issuer: issuer.clone(), serial: serial.clone() },
                    UnixMillis(i64::MIN),
                )?
                .pop()
                .ok_or_else(unknown)?,
            None => {
                if received.state == State::Pending {
                    received.state = State::Issuing;
                    self.write_received(&received)?;
                }
                let (_, until) = standing.approval.span().map_err(crate::ca::operators::refused)?;
                let record = self.endorse(&received, until)?;
                received.state = State::Endorsed;
                received.endorsement = Some((record.issuer.clone(), record.serial.clone()));
                if self.was_endorsed_before(&received)? {
                    // Asked before it was due: the request that S was made for is kept, and says all there is to know.
                    self.forget(&received)?;
                } else {
                    self.write_received(&received)?;
                    self.note(|waiting| waiting.takes(&received));
                }
                let decision = json!({ "outcome": "done", "request_id": received.request_id, "approval": standing });
                let act = Act::Record { tool: "endorsement_request".into(), decision };
                self.apply(&of(&received.peer), act)?;
                record
            }
        };
        let mut told = Self::answer(&received, Some(issued(&record)?));
        told["approval"] = json!(standing);
        Ok(told)
    }

    /// Whether another request of this party was answered with the same S.
    fn was_endorsed_before(&self, received: &Received) -> Result<bool, Failure> {
        let place = (received.peer.clone(), received.agent_key);
        let Some(before) = self.known(|waiting| waiting.endorsed.get(&place).cloned())? else {
            return Ok(false);
        };
        let before = self.received(&before)?.filter(|before| before.request_id != received.request_id);
        Ok(before.is_some_and(|before| before.state == State::Endorsed && before.endorsement == received.endorsement))
    }

    /// Keeps nothing of a request.
    fn forget(&self, received: &Received) -> Result<(), Failure> {
        files::remove_durable(&self.desk().join(format!("{}.json", received.request_id)))?;
        self.note(|waiting| waiting.ends(received));
        Ok(())
    }

    /// S of a request that was received: what an earlier attempt journalled, or a new one.
    fn endorse(&self, received: &Received, until: UnixMillis) -> Result<CertificateRecord, Failure> {
        let verified = self.verify_request_at(&received.request, UnixMillis(received.received_unix_ms))?;
        if *verified.spiffe_id() != received.agent || verified.key() != received.agent_key {
            return Err(Failure::fault(
                "endorsement_unreadable",
                format!("certs/endorsements/{}.json contradicts itself", received.request_id),
                "restore the file, or remove it: the other party asks again",
            ));
        }
        self.endorsement_of(&of(&received.peer), &verified, Some(until), None)
    }

    /// What was journalled for a request that was cut off: the newest S over its key that is not revoked.
    fn journalled(&self, received: &Received) -> Result<Option<(String, Serial)>, Failure> {
        let revoked = self.store.status()?.certificates;
        let subject = received.agent.to_string();
        let over_this_key = CertificatesOf::Key(received.agent_key);
        let mut found = self.store.certificates_of(&over_this_key, UnixMillis(i64::MIN))?;
        found.retain(|record| record.profile == Profile::AgentS.name() && record.subject == subject);
        let mut places = found.into_iter().rev().map(|record| (record.issuer, record.serial));
        Ok(places.find(|place| !revoked.contains(place)))
    }

    fn answer(received: &Received, endorsement: Option<Value>) -> Value {
        let mut told = json!({
            "request_id": received.request_id,
            "state": received.state,
            "agent": received.agent,
            "key": received.agent_key,
        });
        if let Some(endorsement) = endorsement {
            told["certificate_pem"] = endorsement["certificate_pem"].clone();
            told["not_after"] = endorsement["not_after"].clone();
        }
        told
    }

    /// S of an abandoned request, unless another request that stands was answered with the same one.
    fn revoke_endorsement(&self, received: &Received) -> Result<(), Failure> {
        let Some((issuer, serial)) = &received.endorsement else {
            return Ok(());
        };
        for other in self.all_received()? {
            if other.state == State::Endorsed && other.endorsement == received.endorsement {
                return Ok(());
            }
        }
        let target = RevocationTarget::Certificate { issuer: issuer.clone(), serial: serial.clone() };
        let act = Act::Revoke { target, reason: "cessation-of-operation".into() };
        let effect = self.apply(&of(&received.peer), act)?;
        if matches!(effect, Effect::Revoked { already: false, .. }) {
            self.status_changed()?;
            self.publish_lists(&of(&received.peer))?;
        }
        Ok(())
    }

    fn desk(&self) -> std::path::PathBuf {
        self.state.certs().join("endorsements")
    }

    fn received(&self, id: &RequestId) -> Result<Option<Received>, Failure> {
        let next_step = "restore the file, or remove it: the other party asks again";
        let file = self.desk().join(format!("{id}.json"));
        let received = files::read_json::<Received>(&file, "endorsement_unreadable", next_step)?;
        if received.as_ref().is_some_and(|received| received.request_id != *id) {
            let message = format!("{} is about another request", file.display());
            return Err(Failure::fault("endorsement_unreadable", message, next_step));
        }
        Ok(received)
    }

    fn write_received(&self, received: &Received) -> Result<(), Failure> {
        let path = self.desk().join(format!("{}.json", received.request_id));
        files::write_json(&path, received)
    }

    /// Of this party: another one's word about the same id is its own.
    fn tombstone(&self, peer: &PartyName, id: &RequestId) -> std::path::PathBuf {
        self.desk().join(format!("{id}.{peer}.abandoned"))
    }

    fn write_tombstone(&self, peer: &PartyName, id: &RequestId) -> Result<(), Failure> {
        files::write_durable(&self.tombstone(peer, id), format!("{peer}\n{}\n", clock::now().0).as_bytes())
    }

    fn is_tombstone(&self, peer: &PartyName, id: &RequestId) -> Result<bool, Failure> {
        Ok(files::read_optional(&self.tombstone(peer, id))?.is_some())
    }
}

impl Waiting {
    fn adds(&mut self, peer: &PartyName, id: &RequestId) {
        self.of_peer.entry(peer.clone()).or_default().insert(id.clone());
    }

    /// As its state is now.
    fn takes(&mut self, received: &Received) {
        self.ends(received);
        let place = (received.peer.clone(), received.agent_key);
        match received.state {
            State::Pending | State::Issuing => {
                self.adds(&received.peer, &received.request_id);
                self.pending.insert(place, received.request_id.clone());
            }
            State::Endorsed => drop(self.endorsed.insert(place, received.request_id.clone())),
            State::Abandoned => {}
        }
    }

    fn ends(&mut self, received: &Received) {
        if let Some(of_peer) = self.of_peer.get_mut(&received.peer) {
            of_peer.remove(&received.request_id);
        }
        let place = (received.peer.clone(), received.agent_key);
        for by_key in [&mut self.pending, &mut self.endorsed] {
            if by_key.get(&place) == Some(&received.request_id) {
                by_key.remove(&place);
            }
        }
    }
}

fn of(peer: &PartyName) -> Actor {
    Actor::System { component: format!("peer {peer}") }
}

/// Nobody has approved, or nobody does any more: another approval would let it go on.
fn waits_for_an_officer(failure: &Failure) -> bool {
    ["approval_missing", "approval_withdrawn"].contains(&failure.name.as_str())
}

fn unknown() -> Failure {
    Failure::refused("request_unknown", "there is no such request", "ask with the request itself")
}
