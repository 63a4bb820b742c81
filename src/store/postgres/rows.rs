//! Rows to values. What cannot be read as its type is a fault, never a guess.

use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use crate::kernel::breaker::{Cause, Stop};
use crate::kernel::command::{CertificateRecord, CoreVerb, Posted, Settlement};
use crate::kernel::decide::{
    CaseState, CoreRefusal, Grant, ManualCase, Marking, Merchant, Offer, OutboxRow, RowFault, Taken,
};
use crate::kernel::ledger::{
    Account, AccountKind, AccountStatus, Approval, ApprovalDecided, Asked, Transaction, TransactionKind,
    TransactionState,
};
use crate::kernel::mandate::{HeldMandate, Mandate, Revoked, Signer, StoredMandate};
use crate::kernel::status::CrlStatus;
use crate::kernel::types::{Day, Money, Serial, Sha256, UnixMillis};
use crate::store::mandates::MandateRow;
use crate::store::sealing::{DataKeyRow, LeafRow};
use crate::store::{BatchRecord, Booking, CheckpointRecord, RevokedEntry};

pub(super) type Read<T> = Result<T, RowFault>;

/// Columns of an account, then its row number and newest entry.
pub(super) const ACCOUNT: &str =
    "name, owner, kind, currency, status, balance, held, status_by, overdraft, day_max, zone, id, newest_entry";
pub(super) const CASE: &str = "name, agent, agent_key, state, reason, scope, transaction_name, resume, call, created, \
     decided_by, decided_at, note, taken_by, taken_at, proposed, reference";
pub(super) const GRANT: &str = "agent, account, owner, verbs, maximum, currency, expires, entered_by, asserted";
pub(super) const MANDATE: &str = "claims, signer, text, created, entered_by, revoked_at, revoked_by, revoked_reason";
/// The text is read only where it alone says who signed.
pub(super) const HELD_MANDATE: &str =
    "claims, signer, CASE WHEN signer IS NULL THEN text END AS text, revoked_at IS NOT NULL AS is_revoked";
pub(super) const OFFER: &str = "merchant, product, title, price, currency";
/// Columns of a transaction with its approval, then its row number, when and where it was posted and ordered.
pub(super) const TRANSACTION: &str = "t.name, t.kind, t.state, t.maker, t.debit, t.credit, t.amount, t.currency, \
     t.merchant, t.product, t.original, t.parameters, t.counts_on, t.created, t.expires, t.authorization_ttl_ms, \
     t.policy_version, t.catalogue_version, t.approval, t.approval_reasons, t.approval_expires, t.decided_by, \
     t.decided_at, t.decided_note, t.decided_asserted, t.fee, t.debits_on, t.settlement, t.case_id, \
     t.id, t.posted_at, t.batch, t.index_in_batch, t.statement, t.order_batch, t.order_index, t.order_statement, \
     t.approval_asked, t.mandate";
/// Columns of [`TRANSACTION`]: the next one has this number.
pub(super) const AFTER_TRANSACTION: usize = 39;
pub(super) const CERTIFICATE: &str = "id, profile, subject, issuer, serial, key, not_after, tbs, der";

pub(super) fn get<T: FromSqlOwned>(row: &Row, column: usize) -> Read<T> {
    Ok(row.try_get(column)?)
}

/// A text column as one of our types.
pub(super) fn text<T>(row: &Row, column: usize) -> Read<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(row.try_get::<_, &str>(column)?.parse::<T>()?)
}

pub(super) fn text_or_none<T>(row: &Row, column: usize) -> Read<Option<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(row.try_get::<_, Option<&str>>(column)?.map(str::parse::<T>).transpose()?)
}

pub(super) fn sha256(row: &Row, column: usize) -> Read<Sha256> {
    Ok(Sha256(row.try_get::<_, &[u8]>(column)?.try_into()?))
}

fn sha256_or_none(row: &Row, column: usize) -> Read<Option<Sha256>> {
    let bytes = row.try_get::<_, Option<&[u8]>>(column)?;
    Ok(bytes.map(<[u8; 32]>::try_from).transpose()?.map(Sha256))
}

pub(super) fn money(row: &Row, minor: usize, currency: usize) -> Read<Money> {
    Ok(Money::from_minor(get(row, minor)?, text(row, currency)?))
}

pub(super) fn unsigned(row: &Row, column: usize) -> Read<u64> {
    Ok(u64::try_from(get::<i64>(row, column)?)?)
}

fn millis(row: &Row, column: usize) -> Read<UnixMillis> {
    Ok(UnixMillis(get(row, column)?))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row, column: usize) -> Read<T> {
    Ok(serde_json::from_str(row.try_get(column)?)?)
}

fn json_or_none<T: serde::de::DeserializeOwned>(row: &Row, column: usize) -> Read<Option<T>> {
    Ok(row.try_get::<_, Option<&str>>(column)?.map(serde_json::from_str).transpose()?)
}

pub(super) fn named<T: Copy>(row: &Row, column: usize, all: &[T], name: fn(T) -> &'static str) -> Read<T> {
    let text: &str = row.try_get(column)?;
    let found = all.iter().copied().find(|value| name(*value) == text);
    found.ok_or_else(|| format!("column {column} holds the unknown word {text}").into())
}

/// Columns [`ACCOUNT`].
pub(super) fn account(row: &Row) -> Read<Account> {
    Ok(Account {
        name: get(row, 0)?,
        owner: get(row, 1)?,
        kind: named(row, 2, &AccountKind::ALL, AccountKind::name)?,
        currency: text(row, 3)?,
        status: named(row, 4, &AccountStatus::ALL, AccountStatus::name)?,
        balance: get(row, 5)?,
        held: get(row, 6)?,
        status_by: get(row, 7)?,
        overdraft: get(row, 8)?,
        day_max: get(row, 9)?,
        zone: text(row, 10)?,
    })
}

pub(super) fn grant(row: &Row) -> Read<Grant> {
    let currency = text(row, 5)?;
    Ok(Grant {
        agent: text(row, 0)?,
        account: text(row, 1)?,
        owner: text(row, 2)?,
        verbs: json(row, 3)?,
        per_transaction_max: get::<Option<i64>>(row, 4)?.map(|minor| Money::from_minor(minor, currency)),
        expires: millis(row, 6)?,
        entered_by: get(row, 7)?,
        asserted: get(row, 8)?,
    })
}

/// Columns [`MANDATE`].
pub(super) fn mandate(row: &Row) -> Read<StoredMandate> {
    let revoked = match get::<Option<i64>>(row, 5)? {
        None => None,
        Some(at) => Some(Revoked { at: UnixMillis(at), by: get(row, 6)?, reason: get(row, 7)? }),
    };
    Ok(StoredMandate {
        mandate: Mandate::from_claims(&json(row, 0)?)?,
        signer: signer(row, 1, 2)?,
        text: get(row, 2)?,
        created: millis(row, 3)?,
        entered_by: get(row, 4)?,
        revoked,
    })
}

/// Columns [`HELD_MANDATE`].
pub(super) fn held_mandate(row: &Row) -> Read<HeldMandate> {
    let mandate = Mandate::from_claims(&json(row, 0)?)?;
    Ok(HeldMandate { mandate, signer: signer(row, 1, 2)?, is_revoked: get(row, 3)? })
}

/// Columns of [`MandateQuery::sql`](crate::store::MandateQuery) behind [`HELD_MANDATE`].
pub(super) fn mandate_row(row: &Row) -> Read<MandateRow> {
    let revoked = get::<Option<i64>>(row, 5)?.map(UnixMillis);
    Ok(MandateRow { held: held_mandate(row)?, created: millis(row, 4)?, revoked, zone: text_or_none(row, 6)? })
}

fn signer(row: &Row, column: usize, text: usize) -> Read<Signer> {
    if let Some(signer) = json_or_none(row, column)? {
        return Ok(signer);
    }
    let text: &str = row.try_get(text)?;
    Signer::named_in(text).ok_or_else(|| "a mandate that names no signer".into())
}

pub(super) fn merchant(row: &Row) -> Read<Merchant> {
    Ok(Merchant { merchant: text(row, 0)?, name: get(row, 1)?, currency: text(row, 2)? })
}

pub(super) fn offer(row: &Row) -> Read<Offer> {
    Ok(Offer { merchant: text(row, 0)?, product: text(row, 1)?, title: get(row, 2)?, price: money(row, 3, 4)? })
}

/// Columns [`TRANSACTION`].
pub(super) fn transaction(row: &Row) -> Read<Transaction> {
    Ok(Transaction {
        transaction_id: text(row, 0)?,
        kind: named(row, 1, &TransactionKind::ALL, TransactionKind::name)?,
        state: named(row, 2, &TransactionState::ALL, TransactionState::name)?,
        maker: json(row, 3)?,
        debit: get(row, 4)?,
        credit: get(row, 5)?,
        amount: money(row, 6, 7)?,
        fee: money(row, 25, 7)?,
        merchant: text_or_none(row, 8)?,
        product: text_or_none(row, 9)?,
        original: text_or_none(row, 10)?,
        parameters: sha256(row, 11)?,
        counts_on: get::<Option<i32>>(row, 12)?.map(Day),
        created: millis(row, 13)?,
        expires: millis(row, 14)?,
        authorization_ttl_ms: get(row, 15)?,
        policy_version: get(row, 16)?,
        catalogue_version: unsigned(row, 17)?,
        approval: approval(row)?,
        debits_on: get::<Option<i32>>(row, 26)?.map(Day),
        settlement: named(row, 27, &Settlement::ALL, Settlement::name)?,
        case_id: text_or_none(row, 28)?,
        mandate: json_or_none(row, 38)?,
    })
}

fn approval(row: &Row) -> Read<Option<Approval>> {
    let Some(approval_id) = text_or_none(row, 18)? else {
        return Ok(None);
    };
    let decided = match get::<Option<String>>(row, 21)? {
        None => None,
        Some(by) => Some(ApprovalDecided { by, at: millis(row, 22)?, note: get(row, 23)?, asserted: get(row, 24)? }),
    };
    let asked = match row.try_get::<_, Option<&str>>(37)? {
        Some(text) => serde_json::from_str(text)?,
        None => Asked::before_gates(),
    };
    Ok(Some(Approval { approval_id, reasons: json(row, 19)?, expires: millis(row, 20)?, asked, decided }))
}

/// The row number of a transaction read with [`TRANSACTION`].
pub(super) fn transaction_row(row: &Row) -> Read<i64> {
    get(row, 29)
}

pub(super) fn posted_at(row: &Row) -> Read<Option<UnixMillis>> {
    Ok(get::<Option<i64>>(row, 30)?.map(UnixMillis))
}

pub(super) fn batch_of(row: &Row) -> Read<Option<i64>> {
    get(row, 31)
}

/// Batch, place and statement of the posting, of a transaction read with [`TRANSACTION`].
pub(super) fn posting(row: &Row) -> Read<Option<Posted>> {
    placed(row, 31)
}

/// The same of its order to the core banking system.
pub(super) fn order(row: &Row) -> Read<Option<Posted>> {
    placed(row, 34)
}

fn placed(row: &Row, batch: usize) -> Read<Option<Posted>> {
    let Some(statement) = get::<Option<Vec<u8>>>(row, batch + 2)? else {
        return Ok(None);
    };
    let index_in_batch = u32::try_from(get::<i64>(row, batch + 1)?)?;
    Ok(Some(Posted {
        transaction_id: text(row, 0)?,
        batch: get(row, batch)?,
        index_in_batch,
        statement,
        repeated: false,
    }))
}

pub(super) fn case(row: &Row) -> Read<ManualCase> {
    let resume = match get::<Option<String>>(row, 7)? {
        None => None,
        Some(_) => Some(named(row, 7, &TransactionState::ALL, TransactionState::name)?),
    };
    Ok(ManualCase {
        case_id: text(row, 0)?,
        agent: text(row, 1)?,
        agent_key: sha256(row, 2)?,
        state: named(row, 3, &CaseState::ALL, CaseState::name)?,
        reason: get(row, 4)?,
        scope: sha256_or_none(row, 5)?,
        transaction_id: text_or_none(row, 6)?,
        resume,
        call: json(row, 8)?,
        created: millis(row, 9)?,
        decided_by: get(row, 10)?,
        decided_at: get::<Option<i64>>(row, 11)?.map(UnixMillis),
        note: get(row, 12)?,
        taken: match (get::<Option<String>>(row, 13)?, get::<Option<i64>>(row, 14)?) {
            (Some(by), Some(at)) => Some(Taken { by, at: UnixMillis(at) }),
            (Some(_), None) | (None, _) => None,
        },
        proposed: get::<Option<String>>(row, 15)?.map(|_| json(row, 15)).transpose()?,
        reference: get(row, 16)?,
    })
}

pub(super) fn stop(row: &Row) -> Read<Stop> {
    let cause = named(row, 0, &Cause::ALL, Cause::name)?;
    Ok(Stop { cause, reason: get(row, 1)?, by: get(row, 2)?, since: millis(row, 3)? })
}

pub(super) fn core_verb(row: &Row, column: usize) -> Read<CoreVerb> {
    named(row, column, &CoreVerb::ALL, CoreVerb::name)
}

pub(super) fn outbox(row: &Row) -> Read<OutboxRow> {
    Ok(OutboxRow { transaction_id: text(row, 0)?, verb: core_verb(row, 1)?, since: millis(row, 2)? })
}

/// Columns transaction_name, verb, reason, at.
pub(super) fn core_refusal(row: &Row) -> Read<CoreRefusal> {
    Ok(CoreRefusal {
        transaction_id: text(row, 0)?,
        verb: core_verb(row, 1)?,
        reason: get(row, 2)?,
        at: millis(row, 3)?,
    })
}

pub(super) fn certificate(row: &Row) -> Read<CertificateRecord> {
    Ok(CertificateRecord {
        id: get(row, 0)?,
        profile: get(row, 1)?,
        subject: get(row, 2)?,
        issuer: get(row, 3)?,
        serial: Serial::from_bytes(row.try_get(4)?)?,
        key: sha256(row, 5)?,
        not_after: millis(row, 6)?,
        tbs: get(row, 7)?,
        der: get(row, 8)?,
    })
}

/// Columns issuer, number, this_update, next_update.
pub(super) fn crl(row: &Row) -> Read<(String, CrlStatus)> {
    let status = CrlStatus { number: unsigned(row, 1)?, this_update: millis(row, 2)?, next_update: millis(row, 3)? };
    Ok((get(row, 0)?, status))
}

/// Columns at, reason, thaw_asked_by.
pub(super) fn marking(row: &Row) -> Read<Marking> {
    Ok(Marking { at: millis(row, 0)?, reason: get(row, 1)?, thaw_asked_by: get(row, 2)? })
}

/// Columns value, at, reason, not_after.
pub(super) fn revoked(row: &Row) -> Read<RevokedEntry> {
    Ok(RevokedEntry {
        serial: text(row, 0)?,
        at: millis(row, 1)?,
        reason: get(row, 2)?,
        not_after: get::<Option<i64>>(row, 3)?.map(UnixMillis),
    })
}

/// Columns batch, document, leaves, signature, key.
pub(super) fn batch(row: &Row) -> Read<BatchRecord> {
    let (hashes, _) = row.try_get::<_, &[u8]>(2)?.as_chunks::<32>();
    Ok(BatchRecord {
        batch: get(row, 0)?,
        document: get(row, 1)?,
        leaves: hashes.iter().copied().map(Sha256).collect(),
        signature: get(row, 3)?,
        key: sha256_or_none(row, 4)?,
    })
}

/// Columns as [`BOOKINGS`](crate::store::evidence::BOOKINGS) names them.
pub(super) fn booking(row: &Row) -> Read<Booking> {
    Ok(Booking {
        number: get(row, 0)?,
        name: get(row, 1)?,
        kind: get(row, 2)?,
        state: get(row, 3)?,
        debit: get(row, 4)?,
        credit: get(row, 5)?,
        amount: get(row, 6)?,
        fee: get(row, 7)?,
        currency: get(row, 8)?,
        agent: get(row, 9)?,
        merchant: get(row, 10)?,
        product: get(row, 11)?,
        original: get(row, 12)?,
        policy_version: get(row, 13)?,
        catalogue_version: get(row, 14)?,
        posted_at: get(row, 15)?,
        batch: get(row, 16)?,
        index_in_batch: get(row, 17)?,
        statement: get(row, 18)?,
        leaf: get(row, 19)?,
    })
}

/// Columns of a leaf `l` with its place `p` and its data key `k`.
pub(super) fn leaf(row: &Row) -> Read<LeafRow> {
    let under = match (get::<Option<i64>>(row, 5)?, get::<Option<i64>>(row, 6)?) {
        (Some(key), Some(store_key)) => Some((
            key,
            Some(DataKeyRow { store_key, subject: get(row, 7)?, period: get(row, 8)?, wrapped: get(row, 9)? }),
        )),
        (Some(key), None) => Some((key, None)),
        (None, _) => None,
    };
    Ok(LeafRow {
        row: get(row, 0)?,
        commitment: sha256(row, 1)?,
        salt: get(row, 2)?,
        body: get(row, 3)?,
        index: get::<Option<i64>>(row, 4)?.map(u64::try_from).transpose()?,
        under,
    })
}

/// Columns size, root, note, signed.
pub(super) fn checkpoint(row: &Row) -> Read<CheckpointRecord> {
    Ok(CheckpointRecord { size: unsigned(row, 0)?, root: sha256(row, 1)?, note: get(row, 2)?, signed: get(row, 3)? })
}
