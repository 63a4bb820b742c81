//! The book against the log: each payment, hold and decision that must have a leaf has one, and it says the same; and
//! what a leaf says to have moved has moved. In between the batches that the bank's transaction key signs.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::keys::{self, may_be_erased};
use super::told::{Body, Ended, Line, Terms, Told, Ulid, digest, ulid_of};
use super::{Findings, PAGE_LEAVES, Wrong};
use crate::audit::Log;
use crate::kernel::command::TransactionStatement;
use crate::kernel::ledger::{TransactionKind, TransactionState};
use crate::kernel::merkle::leaf_hash;
use crate::kernel::receipt::batch_fits;
use crate::kernel::sign::{DocumentTag, SignInput, signature_is_valid};
use crate::kernel::types::{Sha256, UnixMillis};
use crate::ops::failure::Failure;
use crate::store::{BatchRecord, Booking, DestroyedKeys};

/// Rows that are read at once.
const PAGE_ROWS: u32 = 1024;
/// Leaves that came in while the check ran and are looked at before somebody is blamed for a missing one.
const NEWER_MAX: usize = 200_000;

/// What was compared.
#[derive(Default)]
pub(super) struct Compared {
    pub findings: Findings,
    pub batches: u64,
    pub transactions: u64,
    pub postings: u64,
}

/// What can be read no more.
pub(super) struct Gone {
    /// So many leaves.
    pub erased: u64,
    pub destroyed: Vec<DestroyedKeys>,
}

/// Compares every batch, every transaction and every key that was destroyed with what the first `size` leaves told, those
/// that are `gone` nothing any more.
///
/// # Errors
/// The store's.
pub(super) fn compare(
    log: &Log,
    told: Told,
    size: u64,
    gone: Gone,
    progress: &mut dyn FnMut(Value),
) -> Result<Compared, Failure> {
    let mut work = Work { log, told, size, gone, batches: HashMap::new(), suspects: vec![], done: Compared::default() };
    work.all_batches(progress)?;
    let mut after = i64::MIN;
    loop {
        let page = log.setup.store.bookings(after, PAGE_ROWS)?;
        let Some(last) = page.last() else { break };
        after = last.number;
        for booking in &page {
            work.booking(booking)?;
        }
        progress(json!({ "rows": work.done.transactions, "of": "transactions" }));
    }
    work.suspects()?;
    Ok(work.left_over())
}

struct Work<'a> {
    log: &'a Log,
    told: Told,
    size: u64,
    gone: Gone,
    /// Hashes of each batch's statements.
    batches: HashMap<i64, Vec<Sha256>>,
    /// Transactions that no leaf explains; a newer one may.
    suspects: Vec<(Ulid, Wrong, String, String)>,
    done: Compared,
}

impl Work<'_> {
    fn wrong(&mut self, name: Wrong, on: impl ToString, message: impl Into<String>) {
        self.done.findings.add(name, on, message);
    }

    fn all_batches(&mut self, progress: &mut dyn FnMut(Value)) -> Result<(), Failure> {
        let mut after = i64::MIN;
        loop {
            let page = self.log.setup.store.batches(after, PAGE_ROWS)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.batch;
            for record in page {
                self.batch(record);
            }
            progress(json!({ "rows": self.done.batches, "of": "batches" }));
        }
    }

    fn batch(&mut self, record: BatchRecord) {
        self.done.batches += 1;
        let number = record.batch;
        if !batch_fits(number, &record.document, &record.leaves) {
            self.wrong(Wrong::BatchDocumentDiffers, number, "its document is not the one of these statements");
        }
        if let Some(signature) = &record.signature {
            let roles = self.log.roles();
            let key = record.key.and_then(|key| roles.transaction_by(key, ""));
            let canonical_json = record.document.clone();
            let message = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json }.message();
            match key {
                None => self.wrong(Wrong::BatchKeyUnknown, number, "it names no transaction key of this bank"),
                Some(role) if !signature_is_valid(&role.key.spki, &message, signature) => {
                    self.wrong(Wrong::BatchSignatureInvalid, number, "its signature is not over this document");
                }
                Some(_) => {}
            }
        }
        self.batches.insert(number, record.leaves);
    }

    fn booking(&mut self, booking: &Booking) -> Result<(), Failure> {
        self.done.transactions += 1;
        let Some(ulid) = ulid_of(&booking.name, "txn_") else {
            self.wrong(Wrong::HoldWithoutLeaf, &booking.name, "no leaf can name a transaction of this name");
            return Ok(());
        };
        let line = self.told.take(&ulid);
        if booking.state == TransactionState::Posted.name() {
            self.done.postings += 1;
            self.posting(booking, &ulid, line.as_ref())?;
        } else {
            self.standing(booking, &ulid, line.as_ref());
        }
        if let Some(amount) = line.as_ref().and_then(|line| line.amount)
            && (amount.minor() != booking.amount || amount.currency().code() != booking.currency)
        {
            let why = format!("{amount} was authorized, {} minor {} are kept", booking.amount, booking.currency);
            self.wrong(Wrong::AmountDiffers, &booking.name, why);
        }
        if let Some(terms) = line.as_ref().and_then(|line| line.terms)
            && !is_on(&terms, booking)
        {
            let why = "payer, payee, merchant, product or agent are not those that were authorized";
            self.wrong(Wrong::TermsDiffer, &booking.name, why);
        }
        Ok(())
    }

    /// A transaction that moved money: its leaf, its statement, its place in a batch.
    fn posting(&mut self, booking: &Booking, ulid: &Ulid, line: Option<&Line>) -> Result<(), Failure> {
        let name = &booking.name;
        let statement = booking.statement.as_deref().unwrap_or_default();
        let hash = Sha256::of(&[statement]);
        match line.and_then(|line| line.posted.as_ref()) {
            Some(posted) => {
                let differs = [
                    (Some(posted.row) != booking.leaf, "the book names another leaf than the one that posted it"),
                    (posted.times > 1, "more than one leaf says to have posted it"),
                    (posted.statement.is_some_and(|said| said != hash), "the leaf is of another statement"),
                    (posted.batch.is_some() && posted.batch != booking.batch, "the leaf names another batch"),
                    (
                        posted.index_in_batch.is_some() && posted.index_in_batch != booking.index_in_batch,
                        "the leaf names another place in the batch",
                    ),
                ];
                for why in differs.into_iter().filter_map(|(differs, why)| differs.then_some(why)) {
                    self.wrong(Wrong::PostingLeafDiffers, name, format!("{why} (leaf {})", posted.place));
                }
            }
            None => self.unnamed_posting(booking, ulid)?,
        }
        if line.is_some_and(|line| line.asked && !line.approved) {
            let why = "a person was to approve it, and no leaf says that anybody did";
            self.wrong(Wrong::PostingWithoutApproval, name, why);
        }
        if let Some(why) = statement_differs(booking, statement) {
            self.wrong(Wrong::StatementDiffers, name, why);
        }
        let place = booking.index_in_batch.and_then(|index| usize::try_from(index).ok());
        let in_batch = match booking.batch {
            Some(batch) => {
                if !self.batches.contains_key(&batch)
                    && let Some(newer) = self.log.setup.store.batch(batch)?
                {
                    self.batch(newer);
                }
                self.batches.get(&batch).zip(place).and_then(|(leaves, place)| leaves.get(place))
            }
            None => None,
        };
        if in_batch != Some(&leaf_hash(statement)) {
            self.wrong(Wrong::PostingNotInBatch, name, "its statement is not at its place in the batch that it names");
        }
        Ok(())
    }

    /// Postings whose decision has another name: a reversal that was approved, an account's opening. And newer ones.
    fn unnamed_posting(&mut self, booking: &Booking, ulid: &Ulid) -> Result<(), Failure> {
        let leaf = match booking.leaf {
            Some(row) => self.log.setup.store.leaf(row)?,
            None => None,
        };
        let Some(leaf) = leaf else {
            self.wrong(Wrong::PostingWithoutLeaf, &booking.name, "money moved and the log has no leaf that says so");
            return Ok(());
        };
        if leaf.index.is_none_or(|place| place >= self.size) {
            // Not looked at by this check.
            return Ok(());
        }
        let Some(body) = leaf.body() else {
            return Ok(());
        };
        let posts = serde_json::from_slice::<Body<'_>>(body).is_ok_and(|body| body.posts(ulid));
        if !posts {
            let why = format!("leaf {}, which it names, is about something else", leaf.index.unwrap_or_default());
            self.wrong(Wrong::PostingLeafDiffers, &booking.name, why);
        }
        Ok(())
    }

    /// A transaction that moved nothing, or not yet.
    fn standing(&mut self, booking: &Booking, ulid: &Ulid, line: Option<&Line>) {
        let (name, state) = (&booking.name, booking.state.as_str());
        let is_authorized = [TransactionKind::Purchase, TransactionKind::Transfer, TransactionKind::Reversal]
            .into_iter()
            .any(|kind| kind.name() == booking.kind);
        let ended = line.and_then(|line| line.ended);
        let denied = TransactionState::Denied.name();
        let cancelled = TransactionState::Cancelled.name();
        if let Some(posted) = line.and_then(|line| line.posted.as_ref()) {
            let why = format!("leaf {} says that it was executed, the book that it is {state}", posted.place);
            self.wrong(Wrong::LeafWithoutPosting, name, why);
            return;
        }
        if is_authorized && line.is_none() {
            let why = format!("it is {state}, and no leaf says that it was ever authorized");
            self.suspects.push((*ulid, Wrong::HoldWithoutLeaf, name.clone(), why));
            return;
        }
        let fits = match ended {
            Some(Ended::Cancelled) => state == cancelled,
            // A payment may be void before a person says no.
            Some(Ended::Denied) => state == denied || state == TransactionState::Voided.name(),
            None => state != denied && state != cancelled,
        };
        if !fits {
            let said = match ended {
                Some(Ended::Cancelled) => "a leaf says that it was cancelled",
                Some(Ended::Denied) => "a leaf says that it was denied",
                None => "no leaf says so",
            };
            let why = format!("it is {state}, and {said}");
            self.suspects.push((*ulid, Wrong::StatusDiffers, name.clone(), why));
        }
    }

    /// Those that a leaf explains which came in since are none. Where the leaf may have been erased nobody can say.
    fn suspects(&mut self) -> Result<(), Failure> {
        let Gone { erased, destroyed } = &self.gone;
        self.suspects.retain(|(ulid, ..)| !may_be_erased(destroyed, *erased, made(ulid)));
        let mut destructions = self.told.destructions();
        let findings = keys::compare(destroyed, destroyed, &destructions);
        if self.suspects.is_empty() && findings.found == 0 {
            return Ok(());
        }
        let mut newer = Told::default();
        let (mut from, mut seen) = (self.size, 0);
        loop {
            let page = self.log.setup.store.leaves(from, PAGE_LEAVES)?;
            let Some(last) = page.last().and_then(|leaf| leaf.index) else { break };
            from = last + 1;
            seen += page.len();
            page.iter().for_each(|leaf| newer.heed(leaf));
            if seen > NEWER_MAX {
                break;
            }
        }
        self.log.setup.store.unsequenced(PAGE_LEAVES)?.iter().for_each(|leaf| newer.heed(leaf));
        destructions.extend(newer.destructions());
        let last = self.log.setup.store.destroyed_keys()?;
        self.done.findings.join(keys::compare(&self.gone.destroyed, &last, &destructions));
        for (ulid, name, on, why) in std::mem::take(&mut self.suspects) {
            if newer.take(&ulid).is_none() {
                self.wrong(name, on, why);
            }
        }
        Ok(())
    }

    /// What leaves say of transactions that the book does not have.
    fn left_over(mut self) -> Compared {
        if self.log.roles().transaction.is_none() {
            return self.done;
        }
        for (name, line) in self.told.rest() {
            let (wrong, why) = match line.posted {
                Some(posted) => (Wrong::LeafWithoutPosting, format!("leaf {} says that it was executed", posted.place)),
                None => (Wrong::LeafWithoutTransaction, format!("leaf {} names it", line.place)),
            };
            self.done.findings.add(wrong, name, format!("{why}, and the book does not have it"));
        }
        self.done
    }
}

/// When a transaction was made, as its name says.
fn made(ulid: &Ulid) -> UnixMillis {
    let text = std::str::from_utf8(ulid).ok();
    let ulid = text.and_then(|text| ulid::Ulid::from_string(text).ok());
    UnixMillis(ulid.and_then(|ulid| i64::try_from(ulid.timestamp_ms()).ok()).unwrap_or_default())
}

/// Whether a row is on the terms that were authorized. A purchase names no account that is paid.
fn is_on(terms: &Terms, booking: &Booking) -> bool {
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    let payee = if booking.kind == TransactionKind::Transfer.name() { booking.credit.as_str() } else { "" };
    let towards = digest(&[&text(&booking.agent), payee, &text(&booking.merchant), &text(&booking.product)]);
    towards == terms.towards && terms.from.is_none_or(|from| from == digest(&[&booking.debit]))
}

/// Where a statement is not that of its row.
fn statement_differs(booking: &Booking, statement: &[u8]) -> Option<&'static str> {
    let Ok(said) = serde_json::from_slice::<TransactionStatement>(statement) else {
        return Some("its statement is none");
    };
    let text = |value: Option<&dyn ToString>| value.map(ToString::to_string);
    let same = [
        (said.transaction_id.as_str() == booking.name, "the statement is of another transaction"),
        (said.kind == booking.kind, "the statement names another kind"),
        (said.amount_minor == booking.amount.to_string(), "the statement names another amount"),
        (said.fee_minor.unwrap_or_else(|| "0".into()) == booking.fee.to_string(), "the statement names another fee"),
        (said.currency.code() == booking.currency, "the statement names another currency"),
        (said.debit_account == booking.debit, "the statement names another account that pays"),
        (said.credit_account == booking.credit, "the statement names another account that is paid"),
        (text(said.agent.as_ref().map(|agent| agent as _)) == booking.agent, "the statement names another agent"),
        (text(said.merchant.as_ref().map(|one| one as _)) == booking.merchant, "the statement names another merchant"),
        (text(said.product_id.as_ref().map(|one| one as _)) == booking.product, "the statement names another product"),
        (
            text(said.original_transaction_id.as_ref().map(|one| one as _)) == booking.original,
            "the statement names another transaction that it reverses",
        ),
        (said.policy_version == booking.policy_version, "the statement names another policy"),
        (said.catalogue_version == booking.catalogue_version.to_string(), "the statement names another catalogue"),
        (
            Some(said.posted_at) == booking.posted_at.map(|at| UnixMillis(at).rfc3339()),
            "the statement names another time",
        ),
    ];
    same.into_iter().find_map(|(same, why)| (!same).then_some(why))
}
