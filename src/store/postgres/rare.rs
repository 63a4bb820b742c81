//! Changes that are rare: each a statement or two of its own, carried out in order.

use super::keys;
use super::load::Call;
use super::policies;
use super::session::Parameter;
use super::vault;
use super::witness;
use crate::kernel::decide::{Change, CoreRefusal, Grant, ManualCase, Mark, RowFault, marks_of_signer};
use crate::kernel::ledger::Inconsistent;
use crate::kernel::mandate::StoredMandate;
use crate::kernel::types::TransactionId;

/// Appends the statements of one change.
///
/// # Errors
/// A number that no column holds; a change that has a table's own statement.
pub(super) fn calls<'a>(change: &'a Change, calls: &mut Vec<Call<'a>>) -> Result<(), RowFault> {
    let mut call = |sql: &'static str, parameters: Vec<Parameter<'a>>| calls.push(Call { sql: sql.into(), parameters });
    match change {
        Change::PutMerchant(merchant) => call(
            "INSERT INTO merchants (merchant, name, currency) VALUES ($1, $2, $3)",
            vec![
                Box::new(merchant.merchant.as_str()),
                Box::new(merchant.name.as_str()),
                Box::new(merchant.currency.code()),
            ],
        ),
        Change::PutOffer(offer) => call(
            "INSERT INTO offers (merchant, product, title, price, currency) VALUES ($1, $2, $3, $4, $5)",
            vec![
                Box::new(offer.merchant.as_str()),
                Box::new(offer.product.as_str()),
                Box::new(offer.title.as_str()),
                Box::new(offer.price.minor()),
                Box::new(offer.price.currency().to_string()),
            ],
        ),
        Change::PutGrant(grant) => put_grant(grant, calls)?,
        Change::RevokeGrant { agent, account, at } => call(
            "UPDATE grants SET revoked_at = $3 WHERE agent = $1 AND account = $2 AND revoked_at IS NULL",
            vec![Box::new(agent.to_string()), Box::new(account.as_str()), Box::new(at.0)],
        ),
        Change::PutMandate(stored) => put_mandate(stored, calls)?,
        Change::PutCase(case) => put_case(case, calls),
        Change::LiftBreaker(cause) => call("DELETE FROM breaker WHERE cause = $1", vec![Box::new(cause.name())]),
        Change::OpenBreaker(stop) => call(
            "INSERT INTO breaker (cause, reason, by, since) VALUES ($1, $2, $3, $4)",
            vec![
                Box::new(stop.cause.name()),
                Box::new(stop.reason.as_str()),
                Box::new(stop.by.as_str()),
                Box::new(stop.since.0),
            ],
        ),
        Change::PutPolicy(record) => calls.push(policies::insert(record)?),
        Change::PutCredential(credential) => calls.extend(vault::put(credential)?),
        Change::RemoveCredential { name, version } => calls.push(vault::remove(name, *version)),
        Change::PutWitnessed(log) => calls.push(witness::put(log)?),
        Change::Enqueue(row) => call(
            "INSERT INTO outbox (transaction_name, verb, since) VALUES ($1, $2, $3)
             ON CONFLICT (transaction_name, verb) DO NOTHING",
            vec![Box::new(row.transaction_id.as_str()), Box::new(row.verb.name()), Box::new(row.since.0)],
        ),
        Change::KeepRefusal(CoreRefusal { transaction_id, verb, reason, at }) => call(
            "INSERT INTO core_refusals (transaction_name, verb, reason, at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (transaction_name, verb) DO NOTHING",
            vec![Box::new(transaction_id.as_str()), Box::new(verb.name()), Box::new(reason.as_str()), Box::new(at.0)],
        ),
        Change::Dequeue { transaction, verb } => call(
            "DELETE FROM outbox WHERE transaction_name = $1 AND verb = $2",
            vec![Box::new(transaction.as_str()), Box::new(verb.name())],
        ),
        Change::JournalCertificate(record) => call(
            "INSERT INTO certificates (id, profile, subject, issuer, serial, key, not_after, tbs)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            vec![
                Box::new(record.id.as_str()),
                Box::new(record.profile.as_str()),
                Box::new(record.subject.as_str()),
                Box::new(record.issuer.as_str()),
                Box::new(record.serial.as_bytes()),
                Box::new(record.key.0.as_slice()),
                Box::new(record.not_after.0),
                Box::new(record.tbs.as_slice()),
            ],
        ),
        Change::ReleaseCertificate { id, der } => call(
            "UPDATE certificates SET der = $2 WHERE id = $1 AND der IS NULL",
            vec![Box::new(id.as_str()), Box::new(der.as_slice())],
        ),
        Change::PutCrl { issuer, status } => call(
            "INSERT INTO crls (issuer, number, this_update, next_update) VALUES ($1, $2, $3, $4)
             ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, this_update = excluded.this_update,
             next_update = excluded.next_update",
            vec![
                Box::new(issuer.as_str()),
                Box::new(i64::try_from(status.number)?),
                Box::new(status.this_update.0),
                Box::new(status.next_update.0),
            ],
        ),
        // The first number is inserted, so that two daemons that both found none cannot both give it.
        Change::PutCrlNumber { issuer, number: 1 } => {
            call("INSERT INTO crl_numbers (issuer, number) VALUES ($1, 1)", vec![Box::new(issuer.as_str())])
        }
        Change::PutCrlNumber { issuer, number } => call(
            "UPDATE crl_numbers SET number = $2 WHERE issuer = $1",
            vec![Box::new(issuer.as_str()), Box::new(i64::try_from(*number)?)],
        ),
        Change::SignBatch { batch, signature, key } => call(
            "UPDATE batches SET signature = $2, key = $3 WHERE batch = $1 AND signature IS NULL",
            vec![Box::new(*batch), Box::new(signature.as_slice()), Box::new(key.0.as_slice())],
        ),
        Change::Lift(mark) => call("DELETE FROM revocations WHERE mark = $1", vec![Box::new(mark.text())]),
        Change::AskThaw { whom, by } => call(
            "UPDATE revocations SET thaw_asked_by = $2 WHERE mark = $1 AND thaw_asked_by IS NULL",
            vec![Box::new(Mark::Frozen(whom.clone()).text()), Box::new(by.as_str())],
        ),
        Change::HoldSubject { subject, by, at, reason } => calls.push(keys::hold(subject, by, *at, reason)),
        Change::ReleaseSubject { subject, by, at } => calls.push(keys::release(subject, by, *at)),
        Change::AskErasure { subject, by, at, reason } => calls.push(keys::ask_erasure(subject, by, *at, reason)),
        Change::DestroyKeys { keys, left, forget, at } => {
            calls.extend(keys::destroy(keys, left, forget.as_ref(), *at));
        }
        Change::RevocationsSwept => call("UPDATE revocations SET swept = true WHERE NOT swept", vec![]),
        Change::InsertAccount(_)
        | Change::UpdateAccount(_)
        | Change::InsertTransaction(_)
        | Change::UpdateTransaction(_)
        | Change::Post { .. }
        | Change::Order { .. }
        | Change::Spend { .. }
        | Change::PutPace { .. }
        | Change::Bind { .. }
        | Change::Unbind { .. }
        | Change::UseNonce { .. }
        | Change::PutSigning(_)
        | Change::KeepSignatures { .. }
        | Change::Revoke { .. } => {
            return Err(Box::new(Inconsistent("a common change was kept as a rare one".into())));
        }
    }
    Ok(())
}

/// An expired grant gives way; an unexpired one would have been found by the decision.
fn put_grant<'a>(grant: &'a Grant, calls: &mut Vec<Call<'a>>) -> Result<(), RowFault> {
    let agent = grant.agent.to_string();
    calls.push(Call {
        sql: "UPDATE grants SET revoked_at = expires WHERE agent = $1 AND account = $2 AND revoked_at IS NULL".into(),
        parameters: vec![Box::new(agent.clone()), Box::new(grant.account.as_str())],
    });
    calls.push(Call {
        sql: "INSERT INTO grants (agent, account, owner, verbs, maximum, currency, expires, entered_by, asserted)
              SELECT $1, name, $3, $4, $5, currency, $6, $7, $8 FROM accounts WHERE name = $2"
            .into(),
        parameters: vec![
            Box::new(agent),
            Box::new(grant.account.as_str()),
            Box::new(grant.owner.as_str()),
            Box::new(serde_json::to_string(&grant.verbs)?),
            Box::new(grant.per_transaction_max.map(|max| max.minor())),
            Box::new(grant.expires.0),
            Box::new(grant.entered_by.as_str()),
            Box::new(grant.asserted),
        ],
    });
    Ok(())
}

fn put_mandate<'a>(stored: &'a StoredMandate, calls: &mut Vec<Call<'a>>) -> Result<(), RowFault> {
    let revoked = stored.revoked.as_ref();
    calls.push(Call {
        sql: "INSERT INTO mandates (name, agent, account, claims, text, created, entered_by, revoked_at, revoked_by,
              revoked_reason, signer, signer_marks, expires)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
              ON CONFLICT (name) DO UPDATE SET revoked_at = excluded.revoked_at, revoked_by = excluded.revoked_by,
              revoked_reason = excluded.revoked_reason WHERE mandates.revoked_at IS NULL"
            .into(),
        parameters: vec![
            Box::new(stored.mandate.id.as_str()),
            Box::new(stored.mandate.agent.to_string()),
            Box::new(stored.mandate.account.as_str()),
            Box::new(stored.mandate.claims().to_string()),
            Box::new(stored.text.as_str()),
            Box::new(stored.created.0),
            Box::new(stored.entered_by.as_str()),
            Box::new(revoked.map(|revoked| revoked.at.0)),
            Box::new(revoked.map(|revoked| revoked.by.as_str())),
            Box::new(revoked.map(|revoked| revoked.reason.as_str())),
            Box::new(serde_json::to_string(&stored.signer)?),
            Box::new(marks_of_signer(&stored.signer)),
            Box::new(stored.mandate.expires.0),
        ],
    });
    Ok(())
}

fn put_case<'a>(case: &'a ManualCase, calls: &mut Vec<Call<'a>>) {
    calls.push(Call {
        sql: "INSERT INTO cases (name, agent, agent_key, state, reason, scope, transaction_name, resume, call, created,
              decided_by, decided_at, note, taken_by, taken_at, proposed, reference)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
              ON CONFLICT (name) DO UPDATE SET state = excluded.state, decided_by = excluded.decided_by,
              decided_at = excluded.decided_at, note = excluded.note, taken_by = excluded.taken_by,
              taken_at = excluded.taken_at, proposed = excluded.proposed, reference = excluded.reference"
            .into(),
        parameters: vec![
            Box::new(case.case_id.as_str()),
            Box::new(case.agent.to_string()),
            Box::new(case.agent_key.0.as_slice()),
            Box::new(case.state.name()),
            Box::new(case.reason.as_str()),
            Box::new(case.scope.as_ref().map(|scope| scope.0.as_slice())),
            Box::new(case.transaction_id.as_ref().map(TransactionId::as_str)),
            Box::new(case.resume.map(|state| state.name())),
            Box::new(case.call.to_string()),
            Box::new(case.created.0),
            Box::new(case.decided_by.as_deref()),
            Box::new(case.decided_at.map(|at| at.0)),
            Box::new(case.note.as_deref()),
            Box::new(case.taken.as_ref().map(|taken| taken.by.as_str())),
            Box::new(case.taken.as_ref().map(|taken| taken.at.0)),
            Box::new(case.proposed.as_ref().map(|proposed| serde_json::json!(proposed).to_string())),
            Box::new(case.reference.as_deref()),
        ],
    });
}
