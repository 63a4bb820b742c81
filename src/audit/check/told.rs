//! What leaves tell about transactions, kept small: a line a transaction, however often it is named.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::vault::Kept;
use crate::kernel::receipt::parse_time;
use crate::kernel::subject::Period;
use crate::kernel::types::{Currency, Money, Sha256, UnixMillis};
use crate::store::LeafRecord;

/// A transaction's id without its prefix.
pub(super) type Ulid = [u8; 26];

pub(super) fn ulid_of(name: &str, prefix: &str) -> Option<Ulid> {
    name.strip_prefix(prefix)?.as_bytes().try_into().ok()
}

/// All of it.
#[derive(Default, Debug)]
pub(super) struct Told {
    lines: HashMap<Ulid, Line>,
    destructions: Vec<Destruction>,
    vault: Kept,
}

/// A decision that destroyed data keys, as its leaf says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Destruction {
    /// What is left of the name that the keys had.
    pub left: String,
    pub at: UnixMillis,
    pub keys: u32,
    /// Of a lapse: keys of earlier months had had their time.
    pub before: Option<Period>,
}

/// How an authorization ended, as a leaf says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Cancelled,
    Denied,
}

/// What leaves say of one transaction.
#[derive(Default, Debug)]
pub(super) struct Line {
    /// The first leaf that names it.
    pub place: u64,
    /// What was authorized.
    pub amount: Option<Money>,
    pub terms: Option<Terms>,
    /// A person was to be asked, and was: all have said yes.
    pub asked: bool,
    pub approved: bool,
    pub posted: Option<PostedLeaf>,
    pub ended: Option<Ended>,
}

impl Line {
    fn posting(&mut self, row: i64, place: u64, said: &ResultOf<'_>) {
        let number = |text: &Option<Cow<'_, str>>| text.as_deref().and_then(|text| text.parse().ok());
        let times = self.posted.as_ref().map_or(0, |posted| posted.times) + 1;
        let (batch, index_in_batch) = (number(&said.batch), number(&said.index_in_batch));
        self.posted = Some(PostedLeaf { row, place, batch, index_in_batch, statement: said.statement_sha256, times });
    }
}

/// Who authorized what towards whom, as a hash each: there are as many as transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Terms {
    /// Agent and payee, or agent, merchant and product.
    pub towards: Digest,
    /// The account that pays, where the call named one.
    pub from: Option<Digest>,
}

pub(super) type Digest = [u8; 16];

/// Of texts, each with its length before it.
pub(super) fn digest(texts: &[&str]) -> Digest {
    let lengths: Vec<[u8; 8]> = texts.iter().map(|text| (text.len() as u64).to_be_bytes()).collect();
    let parts = lengths.iter().zip(texts).flat_map(|(length, text)| [length.as_slice(), text.as_bytes()]);
    let hash = Sha256::of(&parts.collect::<Vec<_>>()).0;
    hash.first_chunk().copied().unwrap_or_default()
}

/// The leaf of a posting.
#[derive(Debug)]
pub(super) struct PostedLeaf {
    pub row: i64,
    pub place: u64,
    pub batch: Option<i64>,
    pub index_in_batch: Option<i64>,
    pub statement: Option<Sha256>,
    /// Leaves that say that they posted it; one is right.
    pub times: u32,
}

/// What is read of a body; borrowed where it can be.
#[derive(Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow, default)]
    tool: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    act: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    request_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    result: Option<ResultOf<'a>>,
}

#[derive(Deserialize)]
struct ResultOf<'a> {
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    transaction_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    batch: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    index_in_batch: Option<Cow<'a, str>>,
    #[serde(default)]
    statement_sha256: Option<Sha256>,
    #[serde(default)]
    repeated: Option<bool>,
    /// A number where keys were destroyed; records of other kinds may have anything here.
    #[serde(default)]
    keys: Option<Value>,
}

/// What a decision about data keys says.
#[derive(Deserialize)]
struct Destroyed {
    at: String,
    parameters: DestroyedWhat,
}

#[derive(Deserialize)]
struct DestroyedWhat {
    #[serde(default)]
    pseudonym: Option<Sha256>,
    #[serde(default)]
    before: Option<Period>,
}

/// What an authorizing call asked for.
#[derive(Deserialize)]
struct Asked {
    actor: AskedBy,
    parameters: AskedParameters,
}

#[derive(Deserialize)]
struct AskedBy {
    #[serde(default)]
    spiffe_id: String,
}

#[derive(Deserialize)]
struct AskedParameters {
    #[serde(default)]
    amount: Option<AskedMoney>,
    #[serde(default)]
    price: Option<AskedMoney>,
    #[serde(default)]
    from_account: Option<String>,
    #[serde(default)]
    to_account: Option<String>,
    #[serde(default)]
    merchant: Option<String>,
    #[serde(default)]
    product_id: Option<String>,
}

impl Asked {
    fn terms(&self) -> Terms {
        let AskedParameters { from_account, to_account, merchant, product_id, .. } = &self.parameters;
        let text = |of: &Option<String>| of.clone().unwrap_or_default();
        let towards = digest(&[&self.actor.spiffe_id, &text(to_account), &text(merchant), &text(product_id)]);
        Terms { towards, from: from_account.as_deref().map(|from| digest(&[from])) }
    }

    fn money(self) -> Option<Money> {
        let money = self.parameters.amount.or(self.parameters.price)?;
        Money::parse_positive(&money.amount, money.currency).ok()
    }
}

#[derive(Deserialize)]
struct AskedMoney {
    amount: String,
    currency: Currency,
}

impl Body<'_> {
    /// Whether this leaf may have posted the transaction: it names it, or it is of the request that became it.
    pub(super) fn posts(&self, ulid: &Ulid) -> bool {
        let named = self.result.as_ref().and_then(|result| result.transaction_id.as_deref());
        let named = named.and_then(|name| ulid_of(name, "txn_"));
        let requested = self.request_id.as_deref().and_then(|name| ulid_of(name, "req_"));
        named == Some(*ulid) || requested == Some(*ulid)
    }
}

impl Told {
    pub(super) fn take(&mut self, ulid: &Ulid) -> Option<Line> {
        self.lines.remove(ulid)
    }

    /// What was kept in the vault.
    pub(super) fn vault(&self) -> &Kept {
        &self.vault
    }

    /// What was destroyed, in the order of the log.
    pub(super) fn destructions(&mut self) -> Vec<Destruction> {
        std::mem::take(&mut self.destructions)
    }

    /// What no transaction is left for.
    pub(super) fn rest(self) -> impl Iterator<Item = (String, Line)> {
        let mut rest: Vec<_> = self.lines.into_iter().collect();
        rest.sort_by_key(|(_, line)| line.place);
        rest.into_iter().map(|(ulid, line)| (format!("txn_{}", String::from_utf8_lossy(&ulid)), line))
    }

    /// Takes down what a leaf says. A body that is of another shape names no transaction.
    pub(super) fn heed(&mut self, leaf: &LeafRecord) {
        let Some(bytes) = leaf.body() else { return };
        let Ok(body) = serde_json::from_slice::<Body<'_>>(bytes) else { return };
        let Some(result) = &body.result else { return };
        if let Some("erase_subject" | "lapse_keys") = body.act.as_deref() {
            if let Some("erased" | "lapsed") = result.status.as_deref() {
                self.destructions.extend(result.keys.as_ref().and_then(|keys| destruction(bytes, keys)));
            }
            return;
        }
        if let Some("vault_put" | "vault_rotate" | "vault_rewrap" | "vault_rm") = body.act.as_deref() {
            self.vault.heed(bytes);
            return;
        }
        let Some(ulid) = result.transaction_id.as_deref().and_then(|name| ulid_of(name, "txn_")) else { return };
        let place = leaf.index.unwrap_or(u64::MAX);
        let line = self.lines.entry(ulid).or_insert_with(|| Line { place, ..Line::default() });
        let authorizes = body.tool.as_deref().is_some_and(|tool| tool.starts_with("authorize_"));
        match result.status.as_deref() {
            Some(status @ ("approved" | "requires_approval")) if authorizes && line.amount.is_none() => {
                line.asked = status == "requires_approval";
                let asked: Option<Asked> = serde_json::from_slice(bytes).ok();
                line.terms = asked.as_ref().map(Asked::terms);
                line.amount = asked.and_then(Asked::money);
            }
            Some("approved") if body.act.as_deref() == Some("decide_approval") => {
                line.approved = true;
                // Of a reversal, which is posted by this word.
                if result.repeated == Some(false) {
                    line.posting(leaf.row, place, result);
                }
            }
            Some("executed") if result.repeated == Some(false) => line.posting(leaf.row, place, result),
            Some("cancelled") => line.ended = Some(Ended::Cancelled),
            Some("denied") if body.act.as_deref() == Some("decide_approval") => line.ended = Some(Ended::Denied),
            Some("rejected" | "paid_elsewhere") => line.ended = Some(Ended::Denied),
            Some(_) | None => {}
        }
    }
}

fn destruction(body: &[u8], keys: &Value) -> Option<Destruction> {
    let keys = keys.as_u64().and_then(|keys| u32::try_from(keys).ok())?;
    let Destroyed { at, parameters: DestroyedWhat { pseudonym, before } } = serde_json::from_slice(body).ok()?;
    let left = pseudonym.map_or_else(|| "lapsed".to_owned(), |pseudonym| format!("erased:{pseudonym}"));
    Some(Destruction { left, at: parse_time(&at)?, keys, before })
}
