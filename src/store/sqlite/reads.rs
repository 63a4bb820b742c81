//! What operators and other services read: status, certificates, approvals, lists.

use rusqlite::Connection;
use serde_json::{Value, json};

use super::log::{all, one};
use super::{book, rows};
use crate::kernel::command::{CertificateRecord, Posted};
use crate::kernel::ledger::{Transaction, TransactionState};
use crate::kernel::status::{CrlStatus, StatusSnapshot};
use crate::kernel::types::{Money, Sha256, TransactionId, UnixMillis};
use crate::store::{ApprovalView, Listing, RevokedEntry};

type Read<T> = rusqlite::Result<T>;

/// Rows of a list that operators read.
const LIST_MAX: u32 = 1_000;

pub(super) fn status(connection: &Connection) -> Read<StatusSnapshot> {
    let mut snapshot = StatusSnapshot::default();
    let mut statement = connection.prepare_cached("SELECT kind, issuer, value FROM revocations")?;
    let mut marks = statement.query([])?;
    while let Some(row) = marks.next()? {
        let kind: String = row.get(0)?;
        match kind.as_str() {
            "agent" => drop(snapshot.agents.insert(rows::text(row, 2)?)),
            "key" => {
                let key = Sha256::from_hex(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?);
                let bad = |error| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error);
                snapshot.keys.insert(key.map_err(|error| bad(Box::new(error)))?);
            }
            _ => drop(snapshot.certificates.insert((row.get(1)?, rows::text(row, 2)?))),
        }
    }
    let sql = "SELECT issuer, number, this_update, next_update FROM crls";
    let crls = all(connection, sql, [], |row| {
        let status = CrlStatus {
            number: rows::unsigned(row, 1)?,
            this_update: UnixMillis(row.get(2)?),
            next_update: UnixMillis(row.get(3)?),
        };
        Ok((row.get(0)?, status))
    })?;
    snapshot.crls = crls.into_iter().collect();
    Ok(snapshot)
}

/// Our own revocations only: what another party's CRL names belongs in theirs.
pub(super) fn revoked_of(connection: &Connection, issuer: &str) -> Read<Vec<RevokedEntry>> {
    let sql = "SELECT value, at, reason FROM revocations WHERE issuer = ?1 AND kind = 'certificate' ORDER BY at, value";
    all(connection, sql, [issuer], |row| {
        Ok(RevokedEntry { serial: rows::text(row, 0)?, at: UnixMillis(row.get(1)?), reason: row.get(2)? })
    })
}

pub(super) fn certificates(connection: &Connection) -> Read<Vec<CertificateRecord>> {
    let sql = format!("SELECT {} FROM certificates ORDER BY rowid", rows::CERTIFICATE);
    all(connection, &sql, [], rows::certificate)
}

pub(super) fn posted(connection: &Connection, transaction: &TransactionId) -> Read<Option<Posted>> {
    one(connection, book::POSTED, [transaction.as_str()], rows::posted)
}

/// Newest first.
pub(super) fn approvals(connection: &Connection) -> Read<Vec<ApprovalView>> {
    let sql = format!(
        "SELECT {} FROM approvals a JOIN transactions t ON t.name = a.transaction_name ORDER BY t.id DESC LIMIT ?1",
        rows::TRANSACTION
    );
    let transactions = all(connection, &sql, [LIST_MAX], rows::transaction)?;
    Ok(transactions.iter().filter_map(approval_view).collect())
}

fn approval_view(transaction: &Transaction) -> Option<ApprovalView> {
    let approval = transaction.approval.as_ref()?;
    let decided = approval.decided.as_ref();
    Some(ApprovalView {
        approval_id: approval.approval_id.clone(),
        transaction_id: transaction.transaction_id.clone(),
        status: match transaction.state {
            TransactionState::PendingApproval => "pending".into(),
            TransactionState::Approved
            | TransactionState::Posted
            | TransactionState::Denied
            | TransactionState::Cancelled
            | TransactionState::Expired
            | TransactionState::ApprovalExpired
            | TransactionState::Voided => transaction.state.name().into(),
        },
        agent: transaction.agent()?.spiffe_id.clone(),
        summary: json!({
            "kind": transaction.kind.name(),
            "amount": transaction.amount,
            "from_account": transaction.debit,
            "to_account": transaction.credit,
            "merchant": transaction.merchant,
            "product_id": transaction.product,
            "original_transaction_id": transaction.original,
            "note": decided.map(|decided| &decided.note),
            "asserted": decided.map(|decided| decided.asserted),
        }),
        created: transaction.created.rfc3339(),
        expires: approval.expires.rfc3339(),
        decided_by: decided.map(|decided| decided.by.clone()),
        reasons: approval.reasons.clone(),
    })
}

pub(super) fn listing(connection: &Connection, what: Listing) -> Read<Vec<Value>> {
    match what {
        Listing::Accounts => {
            let sql = format!("SELECT {} FROM accounts ORDER BY id", rows::ACCOUNT);
            all(connection, &sql, [], |row| {
                let account = rows::account(row)?;
                let money = |minor| Money::from_minor(minor, account.currency).decimal();
                Ok(json!({
                    "account_id": account.name, "owner": account.owner, "kind": account.kind.name(),
                    "status": account.status.name(), "currency": account.currency,
                    "balance": money(account.balance), "held": money(account.held),
                    "available": money(account.available()),
                }))
            })
        }
        Listing::Grants => {
            let sql = format!("SELECT {} FROM grants WHERE revoked_at IS NULL ORDER BY id", rows::GRANT);
            all(connection, &sql, [], |row| {
                let grant = rows::grant(row)?;
                Ok(json!({
                    "agent": grant.agent, "account_id": grant.account, "owner": grant.owner, "verbs": grant.verbs,
                    "per_transaction_max": grant.per_transaction_max, "expires": grant.expires.rfc3339(),
                    "entered_by": grant.entered_by, "asserted": grant.asserted,
                }))
            })
        }
        Listing::Merchants => {
            all(connection, "SELECT merchant, name, currency FROM merchants ORDER BY merchant", [], |row| {
                let merchant = rows::merchant(row)?;
                Ok(json!({ "merchant": merchant.merchant, "name": merchant.name, "currency": merchant.currency }))
            })
        }
        Listing::Products => {
            let sql = format!("SELECT {} FROM offers ORDER BY merchant, product", rows::OFFER);
            all(connection, &sql, [], |row| {
                let offer = rows::offer(row)?;
                Ok(json!({
                    "product_id": offer.product, "merchant": offer.merchant, "title": offer.title,
                    "price": offer.price.decimal(), "currency": offer.price.currency(),
                }))
            })
        }
        Listing::Transactions => {
            let sql = format!(
                "SELECT {}, t.posted_at, t.batch FROM {} ORDER BY t.id DESC LIMIT ?1",
                rows::TRANSACTION,
                rows::TRANSACTION_FROM
            );
            all(connection, &sql, [LIST_MAX], |row| {
                let transaction = rows::transaction(row)?;
                Ok(json!({
                    "transaction_id": transaction.transaction_id, "kind": transaction.kind.name(),
                    "status": transaction.state.name(), "amount": transaction.amount.decimal(),
                    "currency": transaction.amount.currency(), "from_account": transaction.debit,
                    "to_account": transaction.credit,
                    "agent": transaction.agent().map(|agent| &agent.spiffe_id),
                    "merchant": transaction.merchant, "product_id": transaction.product,
                    "approval_id": transaction.approval.as_ref().map(|approval| &approval.approval_id),
                    "original_transaction_id": transaction.original,
                    "created": transaction.created.rfc3339(),
                    "posted": row.get::<_, Option<i64>>(25)?.map(|at| UnixMillis(at).rfc3339()),
                    "batch": row.get::<_, Option<i64>>(26)?,
                }))
            })
        }
        Listing::Balances => balances(connection),
    }
}

/// Kept and recomputed minor units of every account, as decimal strings of minor units.
fn balances(connection: &Connection) -> Read<Vec<Value>> {
    let sql = "SELECT a.name, a.currency, a.balance, a.held,
         coalesce(e.sum, 0), coalesce(o.sum, 0) FROM accounts a
         LEFT JOIN (SELECT account, sum(amount) AS sum FROM entries GROUP BY account) e ON e.account = a.id
         LEFT JOIN (SELECT debit, sum(amount) AS sum FROM transactions WHERE state IN ('approved', 'pending_approval')
             AND kind IN ('purchase', 'transfer') GROUP BY debit) o ON o.debit = a.name
         ORDER BY a.id";
    all(connection, sql, [], |row| {
        let minor = |column| row.get::<_, i64>(column).map(|minor| minor.to_string());
        Ok(json!({
            "account_id": row.get::<_, String>(0)?, "currency": row.get::<_, String>(1)?,
            "balance_minor": minor(2)?, "held_minor": minor(3)?,
            "entries_minor": minor(4)?, "open_minor": minor(5)?,
        }))
    })
}
