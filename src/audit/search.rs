//! Leaves by what they say: who asked, for what, what came of it, how much, when.
//!
//! The log has no index of its own, because the commit of a payment would have to write it. A search reads leaves in
//! order, a bounded number a call, and tells where to go on. Time narrows it: leaves are nearly in the order of their
//! times, so a binary search finds where a span begins and ends.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Log, show};
use crate::kernel::receipt::parse_time;
use crate::kernel::types::{AccountId, Money, TransactionId, UnixMillis};
use crate::ops::failure::Failure;
use crate::store::{LeafRecord, Store};

/// No leaf's time is further before that of an earlier leaf: a request is stamped when it arrives and recorded within its
/// deadline, and daemons that share a store have clocks of their own.
pub const DISORDER_MAX_MS: i64 = 60_000;
/// Leaves that one call looks at.
const SCAN_MAX: u64 = 16_384;
/// Leaves that are read at once.
const PAGE_LEAVES: u32 = 512;
/// What one call answers, but for the last leaf.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Leaves of one answer.
pub const ITEMS_MAX: u32 = 1000;
/// Leaves that are looked at for one that has a time, when a search halves.
const TIMELESS_MAX: u32 = 64;

/// What is looked for; a member that is none fits every leaf.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchQuery {
    /// Account that the leaf, or the payment that it names, is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// An agent's name or SPIFFE ID, an operator's name, or a program as `program:` and its user's name or number: who
    /// asked, or whom it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount_max: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount_min: Option<Money>,
    /// A credential of the vault, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// `permitted`, `refused`, the name of a refusal, or what came of it: `executed`, `requires_approval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// A key that signed or sealed: the signing service's name for it, its label or its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// From this instant on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
    /// A tool, or an act of the bank's people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionId>,
    /// Before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
}

/// Which end of the log comes first.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// The places that are still to be looked at: `from` and all below `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    pub from: u64,
    pub end: u64,
}

/// One call of a search.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchCall {
    #[serde(default)]
    pub query: SearchQuery,
    #[serde(default)]
    pub order: Order,
    /// `next` of the call before; none: from the beginning.
    #[serde(default)]
    pub span: Option<Span>,
    /// Leaves of one answer, at most [`ITEMS_MAX`].
    pub limit: u32,
}

/// A leaf that fits.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    pub leaf: LeafRecord,
    /// None when it was erased.
    pub body: Option<Value>,
}

/// What one call found.
#[derive(Clone, PartialEq, Debug)]
pub struct SearchPage {
    pub found: Vec<Found>,
    /// Where to go on; none when all was looked at.
    pub next: Option<Span>,
    pub scanned: u64,
    /// Of these, leaves that nobody can read any more, and whether they fit the question nobody can say: erased, or damaged.
    pub unread: u64,
    pub size: u64,
    pub signed_size: u64,
}

impl SearchPage {
    /// `{items: [{index, commitment, signed, content, body}], next, scanned, unread, size, signed_size}`, leaves as [`Log::show`] has
    /// them.
    pub fn to_json(&self) -> Value {
        json!({
            "items": self.found.iter().map(|found| found.to_json(self.signed_size)).collect::<Vec<_>>(),
            "next": self.next, "scanned": self.scanned, "unread": self.unread, "size": self.size, "signed_size": self.signed_size,
        })
    }
}

impl Found {
    pub(super) fn to_json(&self, signed_size: u64) -> Value {
        show::item(&self.leaf, signed_size)
    }
}

impl Log {
    /// One call's worth of a search. Leaves that have a place are looked at; what comes in later is for the next search.
    ///
    /// # Errors
    /// The store's.
    pub fn search(&self, call: &SearchCall) -> Result<SearchPage, Failure> {
        self.search_heeded(call, &mut |_| Ok(()))
    }

    /// The same; `heed` sees every leaf that is looked at, in the order of the search.
    pub(super) fn search_heeded(
        &self,
        call: &SearchCall,
        heed: &mut dyn FnMut(&LeafRecord) -> Result<(), Failure>,
    ) -> Result<SearchPage, Failure> {
        let state = self.state()?;
        let mut span = match call.span {
            Some(span) => Span { end: span.end.min(state.size), ..span },
            None => self.span_of(&call.query, state.size)?,
        };
        let mut page = SearchPage {
            found: vec![],
            next: None,
            scanned: 0,
            unread: 0,
            size: state.size,
            signed_size: state.signed_size,
        };
        let limit = call.limit.clamp(1, ITEMS_MAX) as usize;
        let store = &*self.setup.store;
        let mut matching = Matching { query: &call.query, store, known: HashMap::new() };
        let mut bytes = 0;
        while span.from < span.end {
            if page.found.len() >= limit || page.scanned >= SCAN_MAX || bytes >= ANSWER_BYTES_MAX {
                page.next = Some(span);
                break;
            }
            let width = u64::from(PAGE_LEAVES).min(span.end - span.from);
            let from = match call.order {
                Order::NewestFirst => span.end - width,
                Order::OldestFirst => span.from,
            };
            let mut leaves = store.leaves(from, u32::try_from(width).unwrap_or(PAGE_LEAVES))?;
            leaves.retain(|leaf| leaf.index.is_some_and(|index| index < from + width));
            if call.order == Order::NewestFirst {
                leaves.reverse();
            }
            // Places without a leaf are passed over: the check names them.
            let mut looked_at = Span { from, end: from + width };
            for leaf in leaves {
                let Some(place) = leaf.index else { continue };
                if page.found.len() >= limit || bytes >= ANSWER_BYTES_MAX {
                    looked_at = match call.order {
                        Order::NewestFirst => Span { from: place + 1, ..looked_at },
                        Order::OldestFirst => Span { end: place, ..looked_at },
                    };
                    break;
                }
                let is_unread = leaf.body().is_none();
                heed(&leaf)?;
                if let Some(found) = matching.fits(leaf)? {
                    bytes += found.leaf.body().map_or(0, <[u8]>::len) + 256;
                    page.found.push(found);
                } else if is_unread {
                    page.unread += 1;
                }
            }
            page.scanned += looked_at.end - looked_at.from;
            match call.order {
                Order::NewestFirst => span.end = looked_at.from,
                Order::OldestFirst => span.from = looked_at.end,
            }
        }
        Ok(page)
    }

    /// The places between which every leaf of the query's time is, and not much else.
    pub(super) fn span_of(&self, query: &SearchQuery, size: u64) -> Result<Span, Failure> {
        let from = match query.since {
            Some(since) => self.first_place(size, Timeless::After, |at| at.plus_ms(DISORDER_MAX_MS) >= since)?,
            None => 0,
        };
        let end = match query.until {
            Some(until) => self.first_place(size, Timeless::Before, |at| at > until.plus_ms(DISORDER_MAX_MS))?,
            None => size,
        };
        Ok(Span { from: from.min(end), end })
    }

    /// The first place whose leaf passes, where all that pass come after all that do not. Where many leaves in a row have
    /// no time to go by, erased ones for example, it may be a place on the side that leaves nothing out.
    fn first_place(&self, size: u64, timeless: Timeless, passes: impl Fn(UnixMillis) -> bool) -> Result<u64, Failure> {
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low) / 2;
            let width = u32::try_from(high - middle).unwrap_or(TIMELESS_MAX).min(TIMELESS_MAX);
            let leaves = self.setup.store.leaves(middle, width)?;
            let timed = leaves.iter().find_map(|leaf| Some((leaf.index?, time_of(leaf)?)));
            match timed {
                Some((place, at)) if place < high && !passes(at) => low = place + 1,
                None if timeless == Timeless::Before => low = middle + u64::from(width.max(1)),
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }
}

/// On which side of the place that is looked for leaves without a time are taken to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Timeless {
    Before,
    After,
}

/// When a leaf's request arrived, as its body says.
pub(super) fn time_of(leaf: &LeafRecord) -> Option<UnixMillis> {
    #[derive(Deserialize)]
    struct Timed<'a> {
        at: &'a str,
    }
    let timed: Timed<'_> = serde_json::from_slice(leaf.body()?).ok()?;
    parse_time(timed.at)
}

struct Matching<'a> {
    query: &'a SearchQuery,
    store: &'a dyn Store,
    /// Amount and accounts of payments that leaves name without saying them.
    known: HashMap<TransactionId, Option<(Money, String, String)>>,
}

impl Matching<'_> {
    fn fits(&mut self, leaf: LeafRecord) -> Result<Option<Found>, Failure> {
        let body = leaf.body().map(|bytes| {
            serde_json::from_slice::<Value>(bytes)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(bytes).into_owned()))
        });
        let fits = match &body {
            Some(body) => self.body_fits(body)?,
            // Of an erased leaf nobody knows anything: it fits who asks for nothing.
            None => *self.query == SearchQuery::default(),
        };
        Ok(fits.then_some(Found { leaf, body }))
    }

    fn body_fits(&mut self, body: &Value) -> Result<bool, Failure> {
        let query = self.query;
        let is = |value: &Value, wanted: &str| value.as_str() == Some(wanted);
        let at = body["at"].as_str().and_then(parse_time);
        let in_time = query.since.is_none_or(|since| at.is_some_and(|at| at >= since))
            && query.until.is_none_or(|until| at.is_some_and(|at| at < until));
        let tool = query.tool.as_deref().is_none_or(|tool| is(&body["tool"], tool) || is(&body["act"], tool));
        let decided = query.decision.as_deref().is_none_or(|wanted| {
            [&body["decision"], &body["reason"], &body["result"]["status"]].into_iter().any(|word| is(word, wanted))
        });
        let transaction = query.transaction.as_ref().is_none_or(|wanted| names_transaction(body, wanted));
        let agent = query.agent.as_deref().is_none_or(|wanted| is_about(body, wanted));
        let said = &body["parameters"];
        let key = query.key.as_deref().is_none_or(|wanted| {
            [&said["key"], &said["key_id"], &said["label"]].into_iter().any(|named| is(named, wanted))
        });
        let credential = query.credential.as_deref().is_none_or(|wanted| is(&said["credential"], wanted));
        if !(in_time && tool && decided && transaction && agent && key && credential) {
            return Ok(false);
        }
        if query.amount_min.is_none() && query.amount_max.is_none() && query.account.is_none() {
            return Ok(true);
        }
        let payment = self.payment(body)?;
        let mut amounts = vec![];
        amounts_in(&body["parameters"], &mut amounts);
        amounts.extend(payment.as_ref().map(|(amount, _, _)| *amount));
        let within = |amount: &Money| {
            let same = |bound: &Money| bound.currency() == amount.currency();
            query.amount_min.as_ref().is_none_or(|least| same(least) && amount.minor() >= least.minor())
                && query.amount_max.as_ref().is_none_or(|most| same(most) && amount.minor() <= most.minor())
        };
        let amount_fits = (query.amount_min.is_none() && query.amount_max.is_none()) || amounts.iter().any(within);
        let account_fits = query.account.as_ref().is_none_or(|account| {
            let account = account.as_str();
            let members = ["account", "account_id", "from_account", "to_account", "debit", "credit"];
            members.into_iter().any(|member| is(&body["parameters"][member], account))
                || payment.as_ref().is_some_and(|(_, debit, credit)| debit == account || credit == account)
        });
        Ok(amount_fits && account_fits)
    }

    /// The payment that a leaf names, from the book.
    fn payment(&mut self, body: &Value) -> Result<Option<(Money, String, String)>, Failure> {
        let named = [&body["result"]["transaction_id"], &body["parameters"]["transaction_id"]];
        let Some(id) = named.into_iter().find_map(|value| value.as_str()?.parse::<TransactionId>().ok()) else {
            return Ok(None);
        };
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        let found = self.store.transaction(&id)?.map(|found| (found.amount, found.debit, found.credit));
        self.known.insert(id, found.clone());
        Ok(found)
    }
}

/// Whether a leaf names a payment anywhere, or is of the request that became it.
fn names_transaction(body: &Value, wanted: &TransactionId) -> bool {
    let ulid = wanted.as_str().trim_start_matches("txn_");
    let requested = body["request_id"].as_str().and_then(|id| id.strip_prefix("req_")) == Some(ulid);
    let posted = body["result"]["status"] == "executed" || body["act"] == "open_account";
    (requested && posted)
        || [&body["result"], &body["parameters"]]
            .into_iter()
            .flat_map(|part| ["transaction_id", "original_transaction_id"].map(|member| &part[member]))
            .any(|value| value.as_str() == Some(wanted.as_str()))
}

/// Whether somebody asked, or is meant: an agent by name or SPIFFE ID, an operator by name.
fn is_about(body: &Value, wanted: &str) -> bool {
    let is = |value: &Value| {
        value.as_str().is_some_and(|text| {
            text == wanted || (text.starts_with("spiffe://") && text.rsplit('/').next() == Some(wanted))
        })
    };
    let (actor, parameters) = (&body["actor"], &body["parameters"]);
    if let Some(program) = wanted.strip_prefix("program:") {
        let is_numbered = actor["uid"].as_u64().is_some_and(|uid| uid.to_string() == program);
        let asked = actor["kind"] == "program" && (is_numbered || actor["user"].as_str() == Some(program));
        return asked || is(&parameters["subject"]);
    }
    is(&actor["spiffe_id"]) || is(&actor["name"]) || is(&parameters["agent"]) || is(&parameters["subject"])
}

/// Everything in there that is money.
fn amounts_in(value: &Value, found: &mut Vec<Money>) {
    match value {
        Value::Object(members) => match money_of(value) {
            Some(money) => found.push(money),
            None => members.values().for_each(|member| amounts_in(member, found)),
        },
        Value::Array(items) => items.iter().for_each(|item| amounts_in(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `{amount, currency}`
fn money_of(value: &Value) -> Option<Money> {
    let currency = value.get("currency")?.as_str()?.parse().ok()?;
    Money::parse_positive(value.get("amount")?.as_str()?, currency).ok()
}
