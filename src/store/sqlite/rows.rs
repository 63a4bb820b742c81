//! Rows to values and back. What cannot be read as its type is a fault, never a guess.

use rusqlite::Row;
use rusqlite::types::Type;

use crate::kernel::breaker::{Cause, Stop};
use crate::kernel::command::{CertificateRecord, CoreVerb, Posted, Settlement};
use crate::kernel::decide::{CaseState, CoreRefusal, Grant, ManualCase, Merchant, Offer, OutboxRow, Taken};
use crate::kernel::ledger::{
    Account, AccountKind, AccountStatus, Approval, ApprovalDecided, Asked, Transaction, TransactionKind,
    TransactionState,
};
use crate::kernel::mandate::{HeldMandate, Mandate, Revoked, Signer, StoredMandate};
use crate::kernel::types::{Day, Money, Serial, Sha256, UnixMillis};
use crate::store::mandates::MandateRow;

type Read<T> = rusqlite::Result<T>;

pub(super) const ACCOUNT: &str =
    "name, owner, kind, currency, status, balance, held, status_by, overdraft, day_max, zone";
/// Columns of [`ACCOUNT`]: the next one has this number.
pub(super) const AFTER_ACCOUNT: usize = 11;
pub(super) const CASE: &str = "name, agent, agent_key, state, reason, scope, transaction_name, resume, call, created, \
     decided_by, decided_at, note, taken_by, taken_at, proposed, reference";
pub(super) const GRANT: &str = "agent, account, owner, verbs, maximum, currency, expires, entered_by, asserted";
pub(super) const MANDATE: &str = "claims, signer, text, created, entered_by, revoked_at, revoked_by, revoked_reason";
/// The text is read only where it alone says who signed.
pub(super) const HELD_MANDATE: &str = "claims, signer, CASE WHEN signer IS NULL THEN text END, revoked_at IS NOT NULL";
pub(super) const OFFER: &str = "merchant, product, title, price, currency";
pub(super) const TRANSACTION: &str = "t.name, t.kind, t.state, t.maker, t.debit, t.credit, t.amount, t.currency, \
     t.merchant, t.product, t.original, t.parameters, t.counts_on, t.created, t.expires, t.authorization_ttl_ms, \
     t.policy_version, t.catalogue_version, a.name, a.reasons, a.expires, a.decided_by, a.decided_at, a.note, \
     a.asserted, t.fee, t.debits_on, t.settlement, t.case_id, a.asked, t.mandate";
/// Columns of [`TRANSACTION`]: the next one has this number.
pub(super) const AFTER_TRANSACTION: usize = 31;
pub(super) const TRANSACTION_FROM: &str = "transactions t LEFT JOIN approvals a ON a.transaction_name = t.name";
pub(super) const CERTIFICATE: &str = "id, profile, subject, issuer, serial, key, not_after, tbs, der";

/// A text column as one of our types.
pub(super) fn text<T>(row: &Row<'_>, column: usize) -> Read<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    parsed(column, row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)
}

pub(super) fn text_or_none<T>(row: &Row<'_>, column: usize) -> Read<Option<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get::<_, Option<String>>(column)?.map(|text| parsed(column, &text)).transpose()
}

pub(super) fn sha256(row: &Row<'_>, column: usize) -> Read<Sha256> {
    Ok(Sha256(row.get::<_, [u8; 32]>(column)?))
}

pub(super) fn money(row: &Row<'_>, minor: usize, currency: usize) -> Read<Money> {
    Ok(Money::from_minor(row.get(minor)?, text(row, currency)?))
}

pub(super) fn serial(row: &Row<'_>, column: usize) -> Read<Serial> {
    let bytes: Vec<u8> = row.get(column)?;
    Serial::from_bytes(&bytes).map_err(|error| bad(column, error))
}

pub(super) fn account(row: &Row<'_>) -> Read<Account> {
    Ok(Account {
        name: row.get(0)?,
        owner: row.get(1)?,
        kind: named(row, 2, &AccountKind::ALL, AccountKind::name)?,
        currency: text(row, 3)?,
        status: named(row, 4, &AccountStatus::ALL, AccountStatus::name)?,
        balance: row.get(5)?,
        held: row.get(6)?,
        status_by: row.get(7)?,
        overdraft: row.get(8)?,
        day_max: row.get(9)?,
        zone: text(row, 10)?,
    })
}

pub(super) fn grant(row: &Row<'_>) -> Read<Grant> {
    let currency = text(row, 5)?;
    Ok(Grant {
        agent: text(row, 0)?,
        account: text(row, 1)?,
        owner: text(row, 2)?,
        verbs: json(row, 3)?,
        per_transaction_max: row.get::<_, Option<i64>>(4)?.map(|minor| Money::from_minor(minor, currency)),
        expires: UnixMillis(row.get(6)?),
        entered_by: row.get(7)?,
        asserted: row.get(8)?,
    })
}

/// Columns [`MANDATE`].
pub(super) fn mandate(row: &Row<'_>) -> Read<StoredMandate> {
    let revoked = match row.get::<_, Option<i64>>(5)? {
        None => None,
        Some(at) => Some(Revoked { at: UnixMillis(at), by: row.get(6)?, reason: row.get(7)? }),
    };
    Ok(StoredMandate {
        mandate: claims(row, 0)?,
        signer: signer(row, 1, 2)?,
        text: row.get(2)?,
        created: UnixMillis(row.get(3)?),
        entered_by: row.get(4)?,
        revoked,
    })
}

/// Columns [`HELD_MANDATE`].
pub(super) fn held_mandate(row: &Row<'_>) -> Read<HeldMandate> {
    Ok(HeldMandate { mandate: claims(row, 0)?, signer: signer(row, 1, 2)?, is_revoked: row.get(3)? })
}

/// Columns of [`MandateQuery::sql`](crate::store::MandateQuery) behind [`HELD_MANDATE`].
pub(super) fn mandate_row(row: &Row<'_>) -> Read<MandateRow> {
    Ok(MandateRow {
        held: held_mandate(row)?,
        created: UnixMillis(row.get(4)?),
        revoked: row.get::<_, Option<i64>>(5)?.map(UnixMillis),
        zone: text_or_none(row, 6)?,
    })
}

fn claims(row: &Row<'_>, column: usize) -> Read<Mandate> {
    Mandate::from_claims(&json(row, column)?).map_err(|refused| bad(column, refused))
}

fn signer(row: &Row<'_>, column: usize, text: usize) -> Read<Signer> {
    if let Some(signer) = json_or_none(row, column)? {
        return Ok(signer);
    }
    Signer::named_in(row.get_ref(text)?.as_str()?).ok_or_else(|| unknown_word(column, "no signer"))
}

pub(super) fn merchant(row: &Row<'_>) -> Read<Merchant> {
    Ok(Merchant { merchant: text(row, 0)?, name: row.get(1)?, currency: text(row, 2)? })
}

pub(super) fn offer(row: &Row<'_>) -> Read<Offer> {
    Ok(Offer { merchant: text(row, 0)?, product: text(row, 1)?, title: row.get(2)?, price: money(row, 3, 4)? })
}

/// Columns [`TRANSACTION`].
pub(super) fn transaction(row: &Row<'_>) -> Read<Transaction> {
    Ok(Transaction {
        transaction_id: text(row, 0)?,
        kind: named(row, 1, &TransactionKind::ALL, TransactionKind::name)?,
        state: named(row, 2, &TransactionState::ALL, TransactionState::name)?,
        maker: json(row, 3)?,
        debit: row.get(4)?,
        credit: row.get(5)?,
        amount: money(row, 6, 7)?,
        fee: money(row, 25, 7)?,
        merchant: text_or_none(row, 8)?,
        product: text_or_none(row, 9)?,
        original: text_or_none(row, 10)?,
        parameters: sha256(row, 11)?,
        counts_on: row.get::<_, Option<i32>>(12)?.map(Day),
        created: UnixMillis(row.get(13)?),
        expires: UnixMillis(row.get(14)?),
        authorization_ttl_ms: row.get(15)?,
        policy_version: row.get(16)?,
        catalogue_version: unsigned(row, 17)?,
        approval: approval(row)?,
        debits_on: row.get::<_, Option<i32>>(26)?.map(Day),
        settlement: settlement(row, 27)?,
        case_id: text_or_none(row, 28)?,
        mandate: json_or_none(row, 30)?,
    })
}

fn settlement(row: &Row<'_>, column: usize) -> Read<Settlement> {
    named(row, column, &Settlement::ALL, Settlement::name)
}

pub(super) fn case(row: &Row<'_>) -> Read<ManualCase> {
    let state = |text: String| {
        TransactionState::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| unknown_word(7, &text))
    };
    Ok(ManualCase {
        case_id: text(row, 0)?,
        agent: text(row, 1)?,
        agent_key: sha256(row, 2)?,
        state: named(row, 3, &CaseState::ALL, CaseState::name)?,
        reason: row.get(4)?,
        scope: row.get::<_, Option<[u8; 32]>>(5)?.map(Sha256),
        transaction_id: text_or_none(row, 6)?,
        resume: row.get::<_, Option<String>>(7)?.map(state).transpose()?,
        call: json(row, 8)?,
        created: UnixMillis(row.get(9)?),
        decided_by: row.get(10)?,
        decided_at: row.get::<_, Option<i64>>(11)?.map(UnixMillis),
        note: row.get(12)?,
        taken: match (row.get::<_, Option<String>>(13)?, row.get::<_, Option<i64>>(14)?) {
            (Some(by), Some(at)) => Some(Taken { by, at: UnixMillis(at) }),
            (Some(_), None) | (None, _) => None,
        },
        proposed: row.get::<_, Option<String>>(15)?.map(|_| json(row, 15)).transpose()?,
        reference: row.get(16)?,
    })
}

/// Columns of a cause that stands.
pub(super) const STOP: &str = "cause, reason, by, since";

pub(super) fn stop(row: &Row<'_>) -> Read<Stop> {
    let cause = named(row, 0, &Cause::ALL, Cause::name)?;
    Ok(Stop { cause, reason: row.get(1)?, by: row.get(2)?, since: UnixMillis(row.get(3)?) })
}

pub(super) fn core_verb(row: &Row<'_>, column: usize) -> Read<CoreVerb> {
    named(row, column, &CoreVerb::ALL, CoreVerb::name)
}

pub(super) fn outbox(row: &Row<'_>) -> Read<OutboxRow> {
    Ok(OutboxRow { transaction_id: text(row, 0)?, verb: core_verb(row, 1)?, since: UnixMillis(row.get(2)?) })
}

/// Columns transaction_name, verb, reason, at.
pub(super) fn core_refusal(row: &Row<'_>) -> Read<CoreRefusal> {
    Ok(CoreRefusal {
        transaction_id: text(row, 0)?,
        verb: core_verb(row, 1)?,
        reason: row.get(2)?,
        at: UnixMillis(row.get(3)?),
    })
}

fn approval(row: &Row<'_>) -> Read<Option<Approval>> {
    let Some(approval_id) = text_or_none(row, 18)? else {
        return Ok(None);
    };
    let decided = match row.get::<_, Option<String>>(21)? {
        None => None,
        Some(by) => {
            Some(ApprovalDecided { by, at: UnixMillis(row.get(22)?), note: row.get(23)?, asserted: row.get(24)? })
        }
    };
    let asked = match row.get::<_, Option<String>>(29)? {
        Some(_) => json(row, 29)?,
        None => Asked::before_gates(),
    };
    Ok(Some(Approval { approval_id, reasons: json(row, 19)?, expires: UnixMillis(row.get(20)?), asked, decided }))
}

/// Columns name, batch, index_in_batch, statement of a posted transaction.
pub(super) fn posted(row: &Row<'_>) -> Read<Posted> {
    Ok(Posted {
        transaction_id: text(row, 0)?,
        batch: row.get(1)?,
        index_in_batch: row.get(2)?,
        statement: row.get(3)?,
        repeated: false,
    })
}

pub(super) fn certificate(row: &Row<'_>) -> Read<CertificateRecord> {
    Ok(CertificateRecord {
        id: row.get(0)?,
        profile: row.get(1)?,
        subject: row.get(2)?,
        issuer: row.get(3)?,
        serial: serial(row, 4)?,
        key: sha256(row, 5)?,
        not_after: UnixMillis(row.get(6)?),
        tbs: row.get(7)?,
        der: row.get(8)?,
    })
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> Read<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|error| bad(column, error))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Read<T> {
    let text = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    serde_json::from_str(text).map_err(|error| bad(column, error))
}

pub(super) fn json_or_none<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Read<Option<T>> {
    let text = row.get::<_, Option<String>>(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| bad(column, error))).transpose()
}

pub(super) fn named<T: Copy>(row: &Row<'_>, column: usize, all: &[T], name: fn(T) -> &'static str) -> Read<T> {
    let text = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    all.iter().copied().find(|value| name(*value) == text).ok_or_else(|| unknown_word(column, text))
}

fn unknown_word(column: usize, text: &str) -> rusqlite::Error {
    bad(column, std::io::Error::other(format!("unknown word {text}")))
}

fn parsed<T>(column: usize, text: &str) -> Read<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error| bad(column, error))
}

fn bad(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
