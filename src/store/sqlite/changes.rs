//! Carrying out a decision's orders, with its leaf, in the deciding commit.

use rusqlite::{ToSql, params};

use super::book::Commit;
use crate::kernel::command::{Actor, Command, Decision, LeafRef};
use crate::kernel::decide::{Change, ManualCase, Mark, RowFault, decide, leaf_body};
use crate::kernel::ledger::Transaction;
use crate::kernel::merkle;
use crate::kernel::receipt::commitment;
use crate::kernel::types::{CaseId, Day, TransactionId};
use crate::store::planted::planted;

type Written = Result<(), RowFault>;

impl Commit<'_> {
    /// Decides one command and writes its changes and its leaf.
    ///
    /// # Errors
    /// The fault of a row or of a write; the caller rolls back.
    pub(super) fn apply(&mut self, command: &Command) -> Result<Decision, RowFault> {
        let decided = decide(self, command)?;
        let mut moved = None;
        for change in &decided.changes {
            if let Change::Post { transaction, .. } = change {
                moved = Some(transaction.clone());
            }
            self.write(change)?;
        }
        let leaf = if decided.has_leaf(&command.act) {
            let body = leaf_body(command, &decided.outcome)?;
            Some(self.leaf(&command.stamp.leaf_salt, &body, moved)?)
        } else {
            None
        };
        Ok(Decision { outcome: decided.outcome, leaf })
    }

    fn run(&self, sql: &str, params: &[&dyn ToSql]) -> Result<usize, RowFault> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    fn leaf(&self, salt: &[u8; 32], body: &[u8], moved: Option<TransactionId>) -> Result<LeafRef, RowFault> {
        let commitment = commitment(salt, body);
        let sql = "INSERT INTO leaves (commitment, salt, body) VALUES (?1, ?2, ?3)";
        self.run(sql, params![commitment.0, salt, body])?;
        let row = self.connection.last_insert_rowid();
        if let Some(transaction) = moved {
            let sql = "UPDATE transactions SET leaf = ?2 WHERE name = ?1";
            self.run(sql, params![transaction.as_str(), row])?;
        }
        Ok(LeafRef { row, commitment })
    }

    fn write(&mut self, change: &Change) -> Written {
        match change {
            Change::InsertAccount(account) => {
                let sql = "INSERT INTO accounts
                           (name, owner, kind, currency, status, balance, held, overdraft, day_max, zone)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
                self.run(
                    sql,
                    params![
                        account.name,
                        account.owner,
                        account.kind.name(),
                        account.currency.code(),
                        account.status.name(),
                        account.balance,
                        account.held,
                        account.overdraft,
                        account.day_max,
                        account.zone.name()
                    ],
                )?;
            }
            Change::UpdateAccount(account) => {
                let sql = "UPDATE accounts SET status = ?2, balance = ?3, held = ?4, status_by = ?5 WHERE name = ?1";
                let status = account.status.name();
                self.run(sql, params![account.name, status, account.balance, account.held, account.status_by])?;
            }
            Change::PutMerchant(merchant) => {
                let sql = "INSERT INTO merchants (merchant, name, currency) VALUES (?1, ?2, ?3)";
                self.run(sql, params![merchant.merchant.as_str(), merchant.name, merchant.currency.code()])?;
            }
            Change::PutOffer(offer) => {
                let sql = "INSERT INTO offers (merchant, product, title, price, currency) VALUES (?1, ?2, ?3, ?4, ?5)";
                self.run(
                    sql,
                    params![
                        offer.merchant.as_str(),
                        offer.product.as_str(),
                        offer.title,
                        offer.price.minor(),
                        offer.price.currency().code()
                    ],
                )?;
            }
            Change::PutGrant(grant) => {
                // An expired grant gives way; an unexpired one would have been found by the decision.
                let (agent, account) = (grant.agent.to_string(), grant.account.as_str());
                let close = "UPDATE grants SET revoked_at = expires
                             WHERE agent = ?1 AND account = ?2 AND revoked_at IS NULL";
                self.run(close, params![agent, account])?;
                let sql = "INSERT INTO grants
                           (agent, account, owner, verbs, maximum, currency, expires, entered_by, asserted)
                           SELECT ?1, name, ?3, ?4, ?5, currency, ?6, ?7, ?8 FROM accounts WHERE name = ?2";
                self.run(
                    sql,
                    params![
                        agent,
                        account,
                        grant.owner.as_str(),
                        serde_json::to_string(&grant.verbs)?,
                        grant.per_transaction_max.map(|max| max.minor()),
                        grant.expires.0,
                        grant.entered_by,
                        grant.asserted
                    ],
                )?;
            }
            Change::RevokeGrant { agent, account, at } => {
                let sql = "UPDATE grants SET revoked_at = ?3
                           WHERE agent = ?1 AND account = ?2 AND revoked_at IS NULL";
                self.run(sql, params![agent.to_string(), account.as_str(), at.0])?;
            }
            Change::InsertTransaction(transaction) => self.insert_transaction(transaction)?,
            Change::UpdateTransaction(transaction) => self.update_transaction(transaction)?,
            Change::Post { transaction, entries, statement, at } => {
                let sql = "UPDATE transactions SET state = 'executed', posted_at = ?2, batch = ?3, index_in_batch = ?4,
                           statement = ?5 WHERE name = ?1";
                let index = i64::try_from(self.statements.len())?;
                self.run(sql, params![transaction.as_str(), at.0, self.batch, index, statement])?;
                for entry in entries {
                    let sql = "INSERT INTO entries (account, transaction_row, amount, previous)
                               SELECT a.id, t.id, ?3, a.newest_entry FROM accounts a, transactions t
                               WHERE a.name = ?1 AND t.name = ?2";
                    self.run(sql, params![entry.account, transaction.as_str(), entry.amount])?;
                    let newest = self.connection.last_insert_rowid();
                    let sql = "UPDATE accounts SET newest_entry = ?2 WHERE name = ?1";
                    self.run(sql, params![entry.account, newest])?;
                }
                self.statements.push(merkle::leaf_hash(statement));
            }
            Change::Order { transaction, statement } => {
                let sql = "UPDATE transactions SET order_batch = ?2, order_index = ?3, order_statement = ?4
                           WHERE name = ?1";
                let index = i64::try_from(self.statements.len())?;
                self.run(sql, params![transaction.as_str(), self.batch, index, statement])?;
                self.statements.push(merkle::leaf_hash(statement));
            }
            Change::Spend { counter, day, minor } => {
                let counter = counter.text();
                let sql = "UPDATE counters SET minor = minor + ?3 WHERE counter = ?1 AND day = ?2";
                if self.run(sql, params![counter, day.0, minor])? == 0 {
                    let sql = "INSERT INTO counters (counter, day, minor) VALUES (?1, ?2, ?3)";
                    self.run(sql, params![counter, day.0, minor])?;
                }
            }
            Change::Bind { .. } if planted("key_not_unique") => {}
            Change::Bind { scope, binding, at } => {
                let sql = "INSERT INTO bindings (day, scope, request, transaction_name, case_id)
                           VALUES (?1, ?2, ?3, ?4, ?5)";
                self.run(
                    "INSERT INTO binding_days (day) VALUES (?1) ON CONFLICT DO NOTHING",
                    params![Day::utc(*at).0],
                )?;
                let transaction = binding.transaction_id.as_ref().map(TransactionId::as_str);
                let case = binding.case_id.as_ref().map(CaseId::as_str);
                self.run(sql, params![Day::utc(*at).0, scope.0, binding.request.0, transaction, case])?;
            }
            Change::Unbind { scope } => {
                let sql = "DELETE FROM bindings WHERE scope = ?1 AND day IN (SELECT day FROM binding_days)";
                self.run(sql, params![scope.0])?;
            }
            Change::UseNonce { nonce, at } => {
                self.run("INSERT INTO nonces (day, nonce) VALUES (?1, ?2)", params![Day::utc(*at).0, nonce.0])?;
            }
            Change::PutCase(case) => self.put_case(case)?,
            Change::PutBreaker(None) => {
                self.run("DELETE FROM breaker", &[])?;
            }
            Change::PutBreaker(Some(breaker)) => {
                let sql = "INSERT INTO breaker (one, reason, by, since) VALUES (1, ?1, ?2, ?3)";
                self.run(sql, params![breaker.reason, breaker.by, breaker.since.0])?;
            }
            Change::Enqueue(row) => {
                let sql = "INSERT INTO outbox (transaction_name, verb, since) VALUES (?1, ?2, ?3)
                           ON CONFLICT (transaction_name, verb) DO NOTHING";
                self.run(sql, params![row.transaction_id.as_str(), row.verb.name(), row.since.0])?;
            }
            Change::Dequeue { transaction, verb } => {
                let sql = "DELETE FROM outbox WHERE transaction_name = ?1 AND verb = ?2";
                self.run(sql, params![transaction.as_str(), verb.name()])?;
            }
            Change::JournalCertificate(record) => {
                let sql = "INSERT INTO certificates (id, profile, subject, issuer, serial, key, not_after, tbs)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
                self.run(
                    sql,
                    params![
                        record.id,
                        record.profile,
                        record.subject,
                        record.issuer,
                        record.serial.as_bytes(),
                        record.key.0,
                        record.not_after.0,
                        record.tbs
                    ],
                )?;
            }
            Change::ReleaseCertificate { id, der } => {
                self.run("UPDATE certificates SET der = ?2 WHERE id = ?1 AND der IS NULL", params![id, der])?;
            }
            Change::Revoke { mark, at, reason } => {
                let (kind, issuer, value) = columns(mark);
                let sql =
                    "INSERT INTO revocations (mark, kind, issuer, value, at, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                           ON CONFLICT (mark) DO NOTHING";
                self.run(sql, params![mark.text(), kind, issuer, value, at.0, reason])?;
            }
            Change::PutCrl { issuer, status } => {
                let sql = "INSERT INTO crls (issuer, number, this_update, next_update) VALUES (?1, ?2, ?3, ?4)
                           ON CONFLICT (issuer) DO UPDATE SET number = ?2, this_update = ?3, next_update = ?4";
                let number = i64::try_from(status.number)?;
                self.run(sql, params![issuer, number, status.this_update.0, status.next_update.0])?;
            }
            Change::PutCrlNumber { issuer, number } => {
                let sql = "INSERT INTO crl_numbers (issuer, number) VALUES (?1, ?2)
                           ON CONFLICT (issuer) DO UPDATE SET number = ?2";
                self.run(sql, params![issuer, i64::try_from(*number)?])?;
            }
            Change::SignBatch { batch, signature, key } => {
                let sql = "UPDATE batches SET signature = ?2, key = ?3 WHERE batch = ?1 AND signature IS NULL";
                self.run(sql, params![batch, signature, key.0])?;
            }
            Change::RevocationsSwept => {
                self.run("UPDATE revocations SET swept = 1 WHERE swept = 0", &[])?;
            }
        }
        Ok(())
    }

    fn insert_transaction(&self, transaction: &Transaction) -> Written {
        let sql =
            "INSERT INTO transactions (name, kind, state, maker, agent, debit, credit, amount, currency, merchant,
                   product, original, parameters, counts_on, created, expires, authorization_ttl_ms, policy_version,
                   catalogue_version, fee, debits_on, settlement, case_id)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
                   ?21, ?22, ?23)";
        let agent = match &transaction.maker {
            Actor::Agent(agent) => Some(agent.spiffe_id.to_string()),
            Actor::Operator(_) | Actor::System { .. } => None,
        };
        self.run(
            sql,
            params![
                transaction.transaction_id.as_str(),
                transaction.kind.name(),
                transaction.state.name(),
                serde_json::to_string(&transaction.maker)?,
                agent,
                transaction.debit,
                transaction.credit,
                transaction.amount.minor(),
                transaction.amount.currency().code(),
                transaction.merchant.as_ref().map(|merchant| merchant.as_str()),
                transaction.product.as_ref().map(|product| product.as_str()),
                transaction.original.as_ref().map(TransactionId::as_str),
                transaction.parameters.0,
                transaction.counts_on.map(|day| day.0),
                transaction.created.0,
                transaction.expires.0,
                transaction.authorization_ttl_ms,
                transaction.policy_version,
                i64::try_from(transaction.catalogue_version)?,
                transaction.fee.minor(),
                transaction.debits_on.map(|day| day.0),
                transaction.settlement.name(),
                transaction.case_id.as_ref().map(CaseId::as_str)
            ],
        )?;
        if let Some(approval) = &transaction.approval {
            let sql = "INSERT INTO approvals (name, transaction_name, reasons, expires) VALUES (?1, ?2, ?3, ?4)";
            self.run(
                sql,
                params![
                    approval.approval_id.as_str(),
                    transaction.transaction_id.as_str(),
                    serde_json::to_string(&approval.reasons)?,
                    approval.expires.0
                ],
            )?;
        }
        Ok(())
    }

    fn put_case(&self, case: &ManualCase) -> Written {
        let sql = "INSERT INTO cases (name, agent, agent_key, state, reason, scope, transaction_name, resume, call,
                   created, decided_by, decided_at, note)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                   ON CONFLICT (name) DO UPDATE SET state = ?4, decided_by = ?11, decided_at = ?12, note = ?13";
        self.run(
            sql,
            params![
                case.case_id.as_str(),
                case.agent.to_string(),
                case.agent_key.0,
                case.state.name(),
                case.reason,
                case.scope.map(|scope| scope.0),
                case.transaction_id.as_ref().map(TransactionId::as_str),
                case.resume.map(|state| state.name()),
                case.call.to_string(),
                case.created.0,
                case.decided_by,
                case.decided_at.map(|at| at.0),
                case.note
            ],
        )?;
        Ok(())
    }

    fn update_transaction(&self, transaction: &Transaction) -> Written {
        let sql = "UPDATE transactions SET state = ?2, expires = ?3, case_id = ?4 WHERE name = ?1";
        let name = transaction.transaction_id.as_str();
        let case = transaction.case_id.as_ref().map(CaseId::as_str);
        self.run(sql, params![name, transaction.state.name(), transaction.expires.0, case])?;
        if let Some(decided) = transaction.approval.as_ref().and_then(|approval| approval.decided.as_ref()) {
            let sql = "UPDATE approvals SET decided_by = ?2, decided_at = ?3, note = ?4, asserted = ?5
                       WHERE transaction_name = ?1 AND decided_by IS NULL";
            self.run(sql, params![name, decided.by, decided.at.0, decided.note, decided.asserted])?;
        }
        Ok(())
    }
}

fn columns(mark: &Mark) -> (&'static str, Option<&str>, String) {
    match mark {
        Mark::Agent(agent) => ("agent", None, agent.to_string()),
        Mark::Key(key) => ("key", None, key.hex()),
        Mark::Certificate { issuer, serial } => ("certificate", Some(issuer), serial.hex()),
        Mark::Imported { issuer, serial } => ("imported", Some(issuer), serial.hex()),
    }
}
