//! Questions about many rows, or rows that are rarely needed: asked one at a time inside the deciding commit, after
//! what it ordered before was written. A row that the decision may change is locked.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::keys;
use super::load::Call;
use super::policies;
use super::rows::{self, Read};
use super::session::{Parameter, Session};
use super::sheet::Question;
use super::vault;
use super::witness;
use crate::kernel::command::{AgentPrincipal, CertificateRecord};
use crate::kernel::decide::{HistoryLine, ManualCase, Marking, Merchant, Offer, PolicyLine, Signed, marks_of};
use crate::kernel::ledger::{Inconsistent, Transaction};
use crate::kernel::mandate::StoredMandate;
use crate::kernel::types::{MerchantId, Serial, SpiffeId, TransactionId};
use crate::kernel::witness::WitnessedLog;

/// Two daemons that register merchants take turns: each compares with what the other one has registered.
const REGISTERING: &str = "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended('merchants', 0))";

/// An answer in the type that the question's asker expects.
pub(super) type Answer = Box<dyn Any + Send>;

/// Asks the database.
///
/// # Errors
/// A statement's failure, as `tokio_postgres::Error`; a row that cannot be read.
pub(super) async fn ask(session: &mut Session, question: &Question) -> Read<Answer> {
    Ok(match question {
        Question::Mandate(id) => {
            static SQL: LazyLock<String> =
                LazyLock::new(|| format!("SELECT {} FROM mandates WHERE name = $1 FOR NO KEY UPDATE", rows::MANDATE));
            let found: Option<StoredMandate> = one(session, &SQL, vec![Box::new(id.as_str())], rows::mandate).await?;
            Box::new(found)
        }
        Question::Merchant(id) => {
            let sql = "SELECT merchant, name, currency FROM merchants WHERE merchant = $1";
            let found: Option<Merchant> = one(session, sql, vec![Box::new(id.as_str())], rows::merchant).await?;
            Box::new(found)
        }
        Question::Merchants => {
            // What was just compared with none of them is the only one that is being registered.
            one(session, REGISTERING, vec![], |_| Ok(())).await?;
            let sql = "SELECT merchant, name, currency FROM merchants ORDER BY merchant";
            let found: Vec<Merchant> = all(session, sql, vec![], rows::merchant).await?;
            Box::new(found)
        }
        Question::Offers { merchant, limit } => {
            let merchant = merchant.as_ref().map(MerchantId::as_str);
            let parameters: Vec<Parameter<'_>> = vec![Box::new(merchant), Box::new(i64::from(*limit))];
            let found: Vec<Offer> = all(session, &OFFERS, parameters, rows::offer).await?;
            Box::new(found)
        }
        Question::History { account, limit } => Box::new(history(session, account, *limit).await?),
        Question::Reversed(id) => {
            let sum: Option<i64> = one(session, REVERSED, vec![Box::new(id.as_str())], |row| rows::get(row, 0)).await?;
            Box::new(sum.unwrap_or(0))
        }
        Question::Case(id) => {
            let found: Option<ManualCase> = one(session, &CASE, vec![Box::new(id.as_str())], rows::case).await?;
            Box::new(found)
        }
        Question::OpenCases(agent) => {
            // No row stands for the count: daemons that add to it take turns by the agent's name.
            let lock = "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended($1, 0))";
            one(session, lock, vec![Box::new(agent.to_string())], |_| Ok(())).await?;
            let sql = "SELECT count(*) FROM cases WHERE agent = $1 AND state = 'queued' AND transaction_name IS NULL";
            let count: Option<i64> =
                one(session, sql, vec![Box::new(agent.to_string())], |row| rows::get(row, 0)).await?;
            Box::new(u32::try_from(count.unwrap_or(0))?)
        }
        Question::Lapsed { now, limit } => {
            let parameters: Vec<Parameter<'_>> = vec![Box::new(now.0), Box::new(i64::from(*limit))];
            let found: Vec<Transaction> = all(session, &LAPSED, parameters, rows::transaction).await?;
            Box::new(found)
        }
        Question::OpenOfRevoked { limit } => Box::new(open_of_revoked(session, *limit).await?),
        Question::OpenUnder { marks } => {
            let marks: HashSet<&String> = marks.iter().collect();
            let under = |agent: &AgentPrincipal| marks_of(agent).iter().any(|mark| marks.contains(mark));
            let open = open(session).await?;
            let count = open.iter().filter(|open| open.agent().is_some_and(under)).count();
            Box::new(u32::try_from(count)?)
        }
        Question::OpenUnderMandate { mandate, agent, account, limit } => {
            let parameters: Vec<Parameter<'_>> = vec![Box::new(agent.to_string()), Box::new(account.as_str())];
            let mut open: Vec<Transaction> = all(session, &OPEN_OF_AGENT, parameters, rows::transaction).await?;
            open.retain(|open| open.mandate.as_ref().is_some_and(|used| used.mandate == *mandate));
            open.truncate(*limit as usize);
            Box::new(open)
        }
        Question::Standing(marks) => {
            let sql = "SELECT mark FROM revocations WHERE mark = ANY ($1::text[])";
            let found: Vec<String> = all(session, sql, vec![Box::new(marks.clone())], |row| rows::get(row, 0)).await?;
            Box::new(found.into_iter().collect::<HashSet<String>>())
        }
        Question::Marking(mark) => {
            let sql = "SELECT at, reason, thaw_asked_by FROM revocations WHERE mark = $1 FOR NO KEY UPDATE";
            let found: Option<Marking> = one(session, sql, vec![Box::new(mark.as_str())], rows::marking).await?;
            Box::new(found)
        }
        Question::BatchIsSigned(batch) => {
            let sql = "SELECT signature IS NOT NULL FROM batches WHERE batch = $1 FOR NO KEY UPDATE";
            let signed = |is_signed| if is_signed { Signed::Yes } else { Signed::NotYet };
            let found: Option<Signed> =
                one(session, sql, vec![Box::new(*batch)], |row| rows::get(row, 0).map(signed)).await?;
            Box::new(found)
        }
        Question::Certificate(id) => {
            let found: Option<CertificateRecord> =
                one(session, &CERTIFICATE, vec![Box::new(id.as_str())], rows::certificate).await?;
            Box::new(found)
        }
        Question::CertificateOfSerial { issuer, serial } => {
            let parameters: Vec<Parameter<'_>> = vec![Box::new(issuer.as_str()), Box::new(serial.as_bytes())];
            let found: Option<CertificateRecord> =
                one(session, &CERTIFICATE_OF_SERIAL, parameters, rows::certificate).await?;
            Box::new(found)
        }
        Question::Issued { issuer, serials } => {
            let sql = "SELECT count(*) FROM certificates WHERE issuer = $1 AND serial = ANY ($2::bytea[])";
            let serials: Vec<&[u8]> = serials.iter().map(Serial::as_bytes).collect();
            let parameters: Vec<Parameter<'_>> = vec![Box::new(issuer.as_str()), Box::new(serials)];
            let count: Option<i64> = one(session, sql, parameters, |row| rows::get(row, 0)).await?;
            Box::new(u32::try_from(count.unwrap_or(0))?)
        }
        Question::AgentsUnmarked { after, limit } => {
            let sql = "SELECT DISTINCT subject FROM certificates WHERE subject LIKE 'spiffe://%' AND subject > $1
                       AND NOT EXISTS (SELECT 1 FROM revocations WHERE mark = 'agent:' || subject)
                       ORDER BY subject LIMIT $2";
            let after = after.as_ref().map(ToString::to_string).unwrap_or_default();
            let parameters: Vec<Parameter<'_>> = vec![Box::new(after), Box::new(i64::from(*limit))];
            let found: Vec<SpiffeId> = all(session, sql, parameters, |row| rows::text(row, 0)).await?;
            Box::new(found)
        }
        Question::CertificatesOfSubject(subject) => {
            let parameters: Vec<Parameter<'_>> = vec![Box::new(subject.as_str())];
            let found: Vec<CertificateRecord> =
                all(session, &CERTIFICATES_OF_SUBJECT, parameters, rows::certificate).await?;
            Box::new(found)
        }
        Question::CertificatesOfKey(key) => {
            let parameters: Vec<Parameter<'_>> = vec![Box::new(key.0.as_slice())];
            let found: Vec<CertificateRecord> =
                all(session, &CERTIFICATES_OF_KEY, parameters, rows::certificate).await?;
            Box::new(found)
        }
        Question::AgentIsKnown(agent) => {
            let known: Option<bool> =
                one(session, AGENT_IS_KNOWN, vec![Box::new(agent.to_string())], |row| rows::get(row, 0)).await?;
            Box::new(known.unwrap_or(false))
        }
        Question::Policy => {
            let found: Option<PolicyLine> = one(session, policies::NEWEST, vec![], policies::line).await?;
            Box::new(found)
        }
        Question::Witnessed => {
            let found: Vec<WitnessedLog> = all(session, witness::LOGS, vec![], witness::log).await?;
            Box::new(found)
        }
        Question::Credential(name) => Box::new(vault::head(session, name).await?),
        Question::CredentialVersion { name, version } => Box::new(vault::version(session, name, *version).await?),
        Question::Credentials => Box::new(vault::count(session).await?),
        Question::Subject(subject) => Box::new(keys::subject(session, subject).await?),
        Question::LapsedKeys { before, limit } => Box::new(keys::keys_before(session, *before, *limit).await?),
        Question::CrlNumber(issuer) => {
            let sql = "SELECT number FROM crl_numbers WHERE issuer = $1 FOR NO KEY UPDATE";
            let number: Option<u64> =
                one(session, sql, vec![Box::new(issuer.as_str())], |row| rows::unsigned(row, 0)).await?;
            Box::new(number.unwrap_or(0))
        }
    })
}

async fn all<T>(
    session: &mut Session,
    sql: &'static str,
    parameters: Vec<Parameter<'_>>,
    read: impl Fn(&tokio_postgres::Row) -> Read<T>,
) -> Read<Vec<T>> {
    session.query(&Call { sql: sql.into(), parameters }).await?.iter().map(read).collect()
}

async fn one<T>(
    session: &mut Session,
    sql: &'static str,
    parameters: Vec<Parameter<'_>>,
    read: impl Fn(&tokio_postgres::Row) -> Read<T>,
) -> Read<Option<T>> {
    session.query(&Call { sql: sql.into(), parameters }).await?.first().map(read).transpose()
}

/// Walks the chain from the account's newest entry.
async fn history(session: &mut Session, account: &str, limit: u32) -> Read<Vec<HistoryLine>> {
    let parameters: Vec<Parameter<'_>> = vec![Box::new(account), Box::new(i64::from(limit))];
    all(session, &HISTORY, parameters, |row| {
        let posted_at = rows::posted_at(row)?.ok_or_else(|| Inconsistent("an entry of what was not posted".into()))?;
        Ok(HistoryLine {
            transaction: rows::transaction(row)?,
            amount: rows::get(row, rows::AFTER_TRANSACTION)?,
            posted_at,
        })
    })
    .await
}

/// Every open transaction of an agent: read only when something was revoked.
async fn open(session: &mut Session) -> Read<Vec<Transaction>> {
    all(session, &OPEN, vec![], rows::transaction).await
}

async fn open_of_revoked(session: &mut Session, limit: u32) -> Read<Vec<Transaction>> {
    let unswept = "SELECT 1 FROM revocations WHERE NOT swept LIMIT 1";
    if one(session, unswept, vec![], |_| Ok(())).await?.is_none() {
        return Ok(vec![]);
    }
    let open = open(session).await?;
    let marks: HashMap<&TransactionId, [String; 7]> =
        open.iter().filter_map(|one| Some((&one.transaction_id, marks_of(one.agent()?)))).collect();
    let asked: HashSet<&str> = marks.values().flatten().map(String::as_str).collect();
    let asked: Vec<&str> = asked.into_iter().collect();
    let sql = "SELECT mark FROM revocations WHERE mark = ANY ($1::text[])";
    let revoked: Vec<String> = all(session, sql, vec![Box::new(asked)], |row| rows::get(row, 0)).await?;
    let revoked: HashSet<&str> = revoked.iter().map(String::as_str).collect();
    let is_void = |one: &&Transaction| {
        marks.get(&one.transaction_id).is_some_and(|marks| marks.iter().any(|mark| revoked.contains(mark.as_str())))
    };
    Ok(open.iter().filter(is_void).take(limit as usize).cloned().collect())
}

static OFFERS: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM offers WHERE merchant = $1 OR $1 IS NULL ORDER BY merchant, product LIMIT $2", rows::OFFER)
});
static HISTORY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH RECURSIVE line (entry, depth) AS (
             SELECT newest_entry, 1::bigint FROM accounts WHERE name = $1 AND newest_entry IS NOT NULL
             UNION ALL
             SELECT e.previous, depth + 1 FROM line JOIN entries e ON e.id = line.entry
             WHERE e.previous IS NOT NULL AND depth < $2)
         SELECT {}, e.amount FROM line JOIN entries e ON e.id = line.entry
         JOIN transactions t ON t.id = e.transaction_row ORDER BY line.depth",
        rows::TRANSACTION
    )
});
const REVERSED: &str = "SELECT coalesce(sum(amount), 0)::bigint FROM transactions WHERE original = $1
    AND state IN ('approved', 'pending_approval', 'queued_manual', 'submitted', 'executed')";
static CASE: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM cases WHERE name = $1 FOR NO KEY UPDATE", rows::CASE));
static LAPSED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM transactions t WHERE t.state IN ('approved', 'pending_approval') AND t.expires <= $1
         ORDER BY t.expires LIMIT $2 FOR NO KEY UPDATE",
        rows::TRANSACTION
    )
});
static OPEN: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM transactions t WHERE t.state IN ('approved', 'pending_approval', 'queued_manual')
         ORDER BY t.expires FOR NO KEY UPDATE",
        rows::TRANSACTION
    )
});
/// What a core was ordered to pay is among them as its index has it, and is left out.
static OPEN_OF_AGENT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM transactions t WHERE t.agent = $1 AND t.debit = $2
         AND t.state IN ('approved', 'pending_approval', 'queued_manual', 'submitted') AND t.state <> 'submitted'
         ORDER BY t.expires FOR NO KEY UPDATE",
        rows::TRANSACTION
    )
});
static CERTIFICATE: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM certificates WHERE id = $1 FOR NO KEY UPDATE", rows::CERTIFICATE));
static CERTIFICATE_OF_SERIAL: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM certificates WHERE issuer = $1 AND serial = $2 ORDER BY id", rows::CERTIFICATE)
});
static CERTIFICATES_OF_SUBJECT: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM certificates WHERE subject = $1 ORDER BY id", rows::CERTIFICATE));
static CERTIFICATES_OF_KEY: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM certificates WHERE key = $1 ORDER BY id", rows::CERTIFICATE));
const AGENT_IS_KNOWN: &str = "SELECT EXISTS (SELECT 1 FROM grants WHERE agent = $1)
    OR EXISTS (SELECT 1 FROM counters WHERE counter = $1)
    OR EXISTS (SELECT 1 FROM revocations WHERE mark = 'agent:' || $1)";
