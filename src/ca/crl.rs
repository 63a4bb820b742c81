//! Our revocation lists: one full list an issuer, continued from the one before.
//!
//! Entries are encoded once and kept; a list is their copy, signed. Its number is taken before its entries are read, so
//! that a list with a higher number never has fewer of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER, unexpected_effect};
use crate::ca::issue::OwnCa;
use crate::ca::settings::PartyKind;
use crate::ca::{build, files};
use crate::kernel::command::{Act, Actor, Effect};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::crl;
use crate::kernel::credential::crl_build::{self, ListPlan, Scope};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::reason::RevocationReason;
use crate::kernel::sign::{SignInput, raw_public_key};
use crate::kernel::types::{Serial, Sha256, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::RevokedEntry;

/// What was recorded is looked for this far before the newest that is known: clocks of several daemons differ.
const OVERLAP_MS: i64 = 10 * 60 * 1000;

/// The lists of this party, as they are served.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// By issuer. The lock guards the map only and is held for no call.
    books: Mutex<BTreeMap<String, Book>>,
    published: RwLock<BTreeMap<String, Arc<Published>>>,
}

/// Every entry of an issuer, encoded.
#[derive(Debug, Default)]
struct Book {
    entries: BTreeMap<Serial, Entry>,
    newest: Option<UnixMillis>,
    /// `thisUpdate` of the last list.
    last_list: Option<UnixMillis>,
    /// How many entries were known when it was made.
    listed: usize,
}

#[derive(Debug)]
struct Entry {
    der: Vec<u8>,
    at: UnixMillis,
    not_after: Option<UnixMillis>,
}

/// A list as anybody gets it.
#[derive(Debug)]
pub struct Published {
    /// The issuer's subject key identifier, hexadecimal.
    pub issuer: String,
    pub der: Arc<[u8]>,
    pub number: u64,
    pub this_update: UnixMillis,
    pub next_update: UnixMillis,
    pub revoked: usize,
    /// SHA-256 of the list.
    pub fingerprint: Sha256,
}

/// When a list is made anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Renewal {
    Always,
    /// When something was revoked since, or half of the list's life is over.
    WhenDue,
}

impl Authority {
    /// Signs a fresh full list of our issuing CA and writes `certs/crl/<key identifier>.crl` (PEM).
    ///
    /// Answers `{issuer, number, this_update, next_update, revoked, file, crl_pem}`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `party_not_initialised`, the token's, the store's.
    pub fn crl_export(&self, actor: &Actor) -> Result<Value, Failure> {
        self.refusal_recorded(actor, "crl_export", &json!({}), || {
            self.permit(actor, &[OFFICER, ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let (issuing, _) = self.own_authority()?;
            let list = self.publish_list(actor, &issuing, Scope::EndEntities, Renewal::Always)?;
            let mut summary = summary(&list);
            summary["crl_pem"] = json!(pem::encode(Kind::Crl, &list.der));
            Ok(summary)
        })
    }

    /// Signs the lists that are due: of every issuer of ours that has not expired.
    ///
    /// Answers the summary of the newest issuing CA's, with the others' in `others`.
    ///
    /// # Errors
    /// `party_not_initialised`, the token's, the store's.
    pub fn publish_lists(&self, actor: &Actor) -> Result<Value, Failure> {
        let mut summaries = vec![];
        for (authority, scope) in self.publishing()? {
            summaries.push(summary(&*self.publish_list(actor, &authority, scope, Renewal::WhenDue)?));
        }
        let mut summaries = summaries.into_iter();
        let mut first = summaries.next().unwrap_or_else(|| json!({}));
        first["others"] = summaries.collect();
        Ok(first)
    }

    /// Issuers whose lists we publish, the newest issuing CA first.
    pub(super) fn publishing(&self) -> Result<Vec<(OwnCa, Scope)>, Failure> {
        let now = clock::now();
        let mut all: Vec<(OwnCa, Scope)> = vec![];
        for record in self.store.authorities()? {
            let scope = if record.profile == "root" { Scope::Authorities } else { Scope::EndEntities };
            let Some(der) = record.der.filter(|_| record.not_after > now) else {
                continue;
            };
            let authority = OwnCa::of(&der)?;
            // A CA that was certified anew with the same key has the same list.
            all.retain(|(known, _)| known.identifier != authority.identifier);
            all.push((authority, scope));
        }
        all.sort_by_key(|(authority, scope)| (*scope == Scope::Authorities, std::cmp::Reverse(authority.not_after)));
        if all.is_empty() {
            self.own_authority()?;
        }
        Ok(all)
    }

    pub(super) fn publish_list(
        &self,
        actor: &Actor,
        authority: &OwnCa,
        scope: Scope,
        renewal: Renewal,
    ) -> Result<Arc<Published>, Failure> {
        let issuer = &authority.identifier;
        let is_grown = self.lists.take(issuer, |since| Ok(self.store.revoked_since(issuer, since)?))? == Growth::Grown;
        let now = clock::now();
        if renewal == Renewal::WhenDue
            && !is_grown
            && let Some(list) = self.published(issuer).filter(|list| now < half_life(list))
        {
            return Ok(list);
        }
        let Effect::CrlNumber(number) = self.apply(actor, Act::NextCrlNumber { issuer: issuer.clone() })? else {
            return Err(unexpected_effect("something else than a list's number"));
        };
        self.lists.take(issuer, |since| Ok(self.store.revoked_since(issuer, since)?))?;
        let unknown = || unexpected_effect("a key of an unknown kind");
        let algorithm = raw_public_key(&authority.spki).and_then(|(kind, _)| kind.signature_identifier());
        let certificate = Certificate::read(&authority.der).map_err(|_| unknown())?;
        let this_update = clock::now();
        let plan = ListPlan {
            issuer: certificate.tbs.subject,
            identifier: certificate.tbs.subject_key_identifier().ok_or_else(unknown)?,
            algorithm: algorithm.ok_or_else(unknown)?,
            number,
            this_update,
            next_update: this_update.plus_ms(i64::from(self.pki.crl_life_hours) * 3_600_000),
            place: &format!("{}/crl/{issuer}.crl", self.pki.base_url.trim_end_matches('/')),
            scope,
        };
        let (tbs, listed) = self.lists.compose(issuer, &plan);
        let signature = self.token.sign(authority.key, SignInput::Crl { tbs: tbs.clone() })?;
        let der = build::assemble(&tbs, &authority.spki, &signature)?;
        let verified = crl::verify(&der, &authority.der, this_update).map_err(|refusal| {
            Failure::fault(
                "crl_unsound",
                format!("a list that was just signed does not verify: {refusal}; it was not published"),
                "report this as a defect",
            )
        })?;
        let list = Arc::new(published(der, &verified));
        files::write_durable(&self.list_file(issuer), pem::encode(Kind::Crl, &list.der).as_bytes())?;
        self.lists.publish(&list, listed);
        Ok(list)
    }

    /// The list of an issuer of ours, as it is in force.
    pub fn published(&self, issuer: &str) -> Option<Arc<Published>> {
        self.lists.published.read().unwrap_or_else(PoisonError::into_inner).get(issuer).cloned()
    }

    /// Serves what was published before this start, until there is something newer. A list that does not verify any more
    /// is as good as none.
    ///
    /// # Errors
    /// The store's, the file system's.
    pub fn serve_known_lists(&self) -> Result<(), Failure> {
        for (authority, _) in self.publishing()? {
            let Some(text) = files::read_optional(&self.list_file(&authority.identifier))? else {
                continue;
            };
            let Ok(der) = pem::decode_one(Kind::Crl, &text) else {
                continue;
            };
            if let Ok(verified) = crl::verify(&der, &authority.der, clock::now()) {
                // What it names is not looked up: the next look at the store makes it anew if there is anything to name.
                self.lists.publish(&Arc::new(published(der, &verified)), 0);
            }
        }
        Ok(())
    }

    /// The newest certificate of a CA of ours, with the times between which it is valid.
    ///
    /// # Errors
    /// The store's.
    pub fn authority_certificate(&self, issuer: &str) -> Result<Option<(Vec<u8>, UnixMillis, UnixMillis)>, Failure> {
        let ders = self.store.authorities()?.into_iter().filter_map(|record| record.der);
        let mut newest: Option<(Vec<u8>, UnixMillis, UnixMillis)> = None;
        for der in ders {
            let Ok(certificate) = Certificate::read(&der) else {
                continue;
            };
            let is_it = certificate.tbs.subject_key_identifier().map(hex::encode).as_deref() == Some(issuer);
            let (from, until) = (certificate.tbs.not_before.at, certificate.tbs.not_after.at);
            if is_it && newest.as_ref().is_none_or(|(_, _, known)| *known < until) {
                newest = Some((der, from, until));
            }
        }
        Ok(newest)
    }

    /// The newest list of an issuer of ours: the one that is served, else the file.
    pub(super) fn newest_list(&self, authority: &OwnCa) -> Result<Option<Vec<u8>>, Failure> {
        if let Some(list) = self.published(&authority.identifier) {
            return Ok(Some(list.der.to_vec()));
        }
        let text = files::read_optional(&self.list_file(&authority.identifier))?;
        Ok(text.and_then(|text| pem::decode_one(Kind::Crl, &text).ok()))
    }

    fn list_file(&self, issuer: &str) -> std::path::PathBuf {
        self.state.certs().join(format!("crl/{issuer}.crl"))
    }
}

fn published(der: Vec<u8>, verified: &crl::VerifiedCrl) -> Published {
    Published {
        issuer: verified.issuer().to_owned(),
        fingerprint: Sha256::of(&[&der]),
        der: der.into(),
        number: verified.number(),
        this_update: verified.this_update(),
        next_update: verified.next_update(),
        revoked: verified.serials().len(),
    }
}

fn summary(list: &Published) -> Value {
    json!({
        "issuer": list.issuer,
        "number": list.number,
        "this_update": list.this_update.rfc3339(),
        "next_update": list.next_update.rfc3339(),
        "revoked": list.revoked,
        "file": format!("certs/crl/{}.crl", list.issuer),
    })
}

fn half_life(list: &Published) -> UnixMillis {
    list.this_update.plus_ms((list.next_update.0 - list.this_update.0) / 2)
}

/// Whether there is more than the last list had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Growth {
    Grown,
    Same,
}

impl Published {
    /// The list, DER, without a copy.
    pub fn bytes(&self) -> Bytes {
        Bytes::from_owner(Arc::clone(&self.der))
    }
}

impl Lists {
    /// Takes over what was recorded since; everything anew when the sum is another.
    fn take(
        &self,
        issuer: &str,
        read: impl Fn(UnixMillis) -> Result<crate::store::RevokedSince, Failure>,
    ) -> Result<Growth, Failure> {
        let since = self.book(issuer, |book| book.newest.map_or(UnixMillis(i64::MIN), |at| at.plus_ms(-OVERLAP_MS)));
        let found = read(since)?;
        let total = found.total;
        let known = self.book(issuer, |book| {
            book.add(found.entries);
            book.entries.len() as u64
        });
        if known < total {
            // Somebody's clock was far behind.
            let all = read(UnixMillis(i64::MIN))?;
            self.book(issuer, |book| book.add(all.entries));
        }
        let is_grown = self.book(issuer, |book| book.entries.len() > book.listed);
        Ok(if is_grown { Growth::Grown } else { Growth::Same })
    }

    /// The signed part of the next list, and how many entries were known.
    fn compose(&self, issuer: &str, plan: &ListPlan<'_>) -> (Vec<u8>, usize) {
        let last =
            self.published.read().unwrap_or_else(PoisonError::into_inner).get(issuer).map(|list| list.this_update);
        self.book(issuer, |book| {
            let last = book.last_list.max(last);
            let listed = book.entries.values().filter(|entry| !entry.is_gone(last)).map(|entry| entry.der.as_slice());
            (crl_build::list(plan, listed), book.entries.len())
        })
    }

    /// The newest one stays.
    fn publish(&self, list: &Arc<Published>, listed: usize) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        if published.get(&list.issuer).is_none_or(|there| there.number < list.number) {
            published.insert(list.issuer.clone(), Arc::clone(list));
        }
        drop(published);
        self.book(&list.issuer, |book| {
            book.last_list = book.last_list.max(Some(list.this_update));
            book.listed = book.listed.max(listed);
        });
    }

    fn book<T>(&self, issuer: &str, use_it: impl FnOnce(&mut Book) -> T) -> T {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(books.entry(issuer.to_owned()).or_default())
    }
}

impl Book {
    fn add(&mut self, entries: Vec<RevokedEntry>) {
        for RevokedEntry { serial, at, reason, not_after } in entries {
            self.newest = self.newest.max(Some(at));
            self.entries.entry(serial.clone()).or_insert_with(|| {
                let der = crl_build::entry(&serial, at, RevocationReason::written(&reason));
                Entry { der, at, not_after }
            });
        }
    }
}

impl Entry {
    /// True once a list that was made after the certificate had expired has named it (RFC 5280, 3.3).
    fn is_gone(&self, last_list: Option<UnixMillis>) -> bool {
        let expired = self.not_after.zip(last_list).is_some_and(|(not_after, last)| not_after < last);
        expired && last_list.is_some_and(|last| self.at <= last)
    }
}
