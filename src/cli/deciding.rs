//! A person's word about a payment from a token of their own: what `--as DIR` means at `approvals` and `consent`.
//!
//! The bank says what it asks; the terms are shown; the person's own daemon checks that the structure is about these terms
//! and signs it; the bank takes it.

use std::path::Path;

use serde_json::Value;

use crate::ca::SignedWord;
use crate::cli::context::{Context, OfflineDaemon};
use crate::cli::officer::{party_of, read};
use crate::cli::table::cell;
use crate::front::admin::AdminCall;
use crate::kernel::approval::{ApprovalDocument, PaymentTerms};
use crate::kernel::command::Verdict;
use crate::kernel::credential::reading::SignedReading;
use crate::kernel::quorum::Side;
use crate::kernel::types::{ApprovalId, Money};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// A person's own state directory. Its daemon, if it was down, is up while this lives.
pub struct Person {
    own: Context,
    _daemon: Option<OfflineDaemon>,
}

impl Person {
    /// # Errors
    /// `config_missing`, `pin_refused`, `daemon_did_not_start`.
    pub fn of(directory: &Path, json: bool) -> Result<Self, Failure> {
        let own = Context { state: StateDir::new(directory), json, operator: None };
        let daemon = own.kept_up()?;
        Ok(Self { own, _daemon: daemon })
    }

    /// Asks the bank to see one approval, or all that wait for this person.
    ///
    /// # Errors
    /// The failures of the person's daemon: `not_this_party`, …
    pub fn reading(&self, bank: &Context, approval: Option<&ApprovalId>) -> Result<SignedReading, Failure> {
        let (party, _) = party_of(bank)?;
        read(self.own.call(AdminCall::ReadingSign { party, approval: approval.cloned() })?)
    }

    /// Says this word at the bank: shown first, then signed.
    ///
    /// # Errors
    /// The failures of both daemons.
    pub fn say(
        &self,
        bank: &Context,
        approval: ApprovalId,
        side: Side,
        verdict: Verdict,
        note: String,
    ) -> Result<Value, Failure> {
        let reading = self.reading(bank, Some(&approval))?;
        let question = bank.call(AdminCall::ApprovalsQuestion { reading, side, verdict })?;
        let document: Box<ApprovalDocument> = read(question["document"].clone())?;
        let terms: Box<PaymentTerms> = read(question["terms"].clone())?;
        if document.approval_id != approval {
            return Err(Failure::refused(
                "approval_mismatch",
                "the bank asks about another approval than the one named",
                "look at it with `countersign approvals show`",
            ));
        }
        // On the error stream, where a program expects a failure and nothing else: what is printed stays one answer.
        if !self.own.json {
            eprintln!("{}", in_words(&terms, &document));
        }
        let word: SignedWord = read(self.own.call(AdminCall::WordSign { document, terms })?)?;
        bank.call(AdminCall::ApprovalsDecide { approval, side, verdict, note, signed: Some(Box::new(word)) })
    }
}

/// What the person signs, in one line.
fn in_words(terms: &PaymentTerms, document: &ApprovalDocument) -> String {
    let minor = terms.amount_minor.parse().ok();
    let amount = minor.zip(terms.currency.parse().ok()).map(|(minor, currency)| Money::from_minor(minor, currency));
    let amount = amount.map_or_else(|| format!("{} minor units of", terms.amount_minor), |money| money.decimal());
    format!(
        "{} signs {}: {} {} {} from {} to {}, asked by {}",
        document.approver,
        cell(&serde_json::json!(document.decision)),
        terms.kind,
        amount,
        terms.currency,
        terms.debit_account,
        terms.credit_account,
        terms.maker,
    )
}
