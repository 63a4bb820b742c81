//! What waits for people, and what they say: the bank's inbox, an owner's, and one approval with everything about it.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::layout::{self, cell, id, money, state, text, time};
use super::passkeys::Ceremonies;
use super::web::{self, Answer};
use super::{Console, Who};
use crate::ca::SignedWord;
use crate::front::admin::AdminCall;
use crate::kernel::approval::{ApprovalDocument, PaymentTerms};
use crate::kernel::command::{Actor, Verdict};
use crate::kernel::ledger::{Transaction, TransactionState};
use crate::kernel::quorum::Side;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{ApprovalId, Money, Sha256};
use crate::kernel::webauthn::Assertion;
use crate::ops::failure::Failure;
use crate::store::{ApprovalView, TransactionQuery, views};

/// What waits is read in pages of this size, and no further than this.
const PAGE: u32 = 500;
const WAITING_MAX: usize = 5_000;
/// Rows that a page of the inbox has.
const SHOWN_MAX: usize = 200;
/// Earlier payments that are looked at for the payee's.
const HISTORY: u32 = 200;
const HISTORY_SHOWN: usize = 5;
/// The longest note, as the desk takes it.
const NOTE_MAX: u32 = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    side: Side,
    verdict: Verdict,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spoken {
    side: Side,
    verdict: Verdict,
    note: String,
    document: ApprovalDocument,
    /// These three base64url, as browsers' scripts write it.
    authenticator_data: String,
    client_data: String,
    signature: String,
}

impl Console {
    /// What waits for this person's side, oldest end first.
    pub(super) fn open_approvals(&self, who: &Who) -> Result<Vec<ApprovalView>, Failure> {
        let mut found = if who.is_of_bank() { super::of_bank(self.pending()?) } else { vec![] };
        if who.principal.owner.is_some() {
            let listed = self.services.payments()?.consent_list(&who.principal)?;
            let own: Vec<ApprovalView> = layout::items(&listed).iter().filter_map(view_of).collect();
            found.retain(|view| own.iter().all(|one| one.approval_id != view.approval_id));
            found.extend(own);
        }
        found.sort_by(|one, other| one.expires.cmp(&other.expires));
        Ok(found)
    }

    pub(super) fn pending(&self) -> Result<Vec<ApprovalView>, Failure> {
        let (mut found, mut before) = (vec![], None);
        loop {
            let query = TransactionQuery {
                state: Some(TransactionState::PendingApproval),
                before: before.clone(),
                limit: PAGE,
                ..TransactionQuery::default()
            };
            let page = self.services.setup.store.transactions(&query)?;
            let is_last = page.len() < PAGE as usize;
            before = page.last().map(|record| record.transaction.transaction_id.clone());
            found.extend(page.iter().filter_map(|record| views::approval(&record.transaction)));
            if is_last || found.len() >= WAITING_MAX {
                return Ok(found);
            }
        }
    }

    /// The bank's inbox.
    pub(super) fn inbox(&self, who: &Who) -> Result<Answer, Failure> {
        let waits: Vec<ApprovalView> = self.open_approvals(who)?;
        let waits: Vec<&ApprovalView> =
            waits.iter().filter(|view| view.pending.iter().any(|word| word.starts_with("bank_"))).collect();
        let decided = self.call(who, AdminCall::ApprovalsList { after: None, limit: 25 })?;
        let decided: Vec<&Value> = layout::items(&decided).iter().filter(|view| view["status"] != "pending").collect();
        let body = html! {
            p.muted { kbd { "j" } " and " kbd { "k" } " go up and down, " kbd { "Enter" } " opens. The list is live." }
            div data-live="/events" { (inbox_of(&waits, "Nothing waits for the bank’s people.")) }
            h2 { "Decided lately" }
            (layout::table(
                "Decided lately",
                &["Decided", "Amount", "To", "By", "Came to"],
                &decided.iter().map(|view| vec![
                    html! { a href={ "/approvals/" (view["approval_id"].as_str().unwrap_or_default()) } { (time(&view["created"])) } },
                    money(&view["summary"]["amount"]["amount"], &view["summary"]["amount"]["currency"]),
                    payee(&view["summary"]),
                    cell(&view["decided_by"]),
                    state(view["status"].as_str().unwrap_or_default()),
                ]).collect::<Vec<_>>(),
                "Nothing was decided yet.",
            ))
        };
        Ok(web::page(StatusCode::OK, self.page(who, "Approvals", "/approvals", &body)))
    }

    /// What waits for an owner's consent.
    pub(super) fn consents(&self, who: &Who) -> Result<Answer, Failure> {
        let waits = self.open_approvals(who)?;
        let waits: Vec<&ApprovalView> =
            waits.iter().filter(|view| view.pending.iter().any(|word| word == "owner_consent_pending")).collect();
        let body = html! {
            p { "An agent that you gave access to your accounts asks to pay. Nothing is paid before you consent." }
            div data-live="/events" { (inbox_of(&waits, "Nothing waits for your consent.")) }
        };
        Ok(web::page(StatusCode::OK, self.page(who, "Your consent", "/consent", &body)))
    }

    /// One approval: what a person decides about, everything that helps, and the two buttons.
    pub(super) fn approval(&self, who: &Who, approval: &str) -> Result<Answer, Failure> {
        let approval: ApprovalId = approval.parse().map_err(|_| unknown())?;
        let (view, side) = self.seen(who, &approval)?;
        let transaction = self.services.setup.store.transaction(&view.transaction_id)?.ok_or_else(unknown)?;
        let terms = transaction.approval.as_ref().map(|asked| PaymentTerms::of(&transaction, asked));
        let hash = terms.as_ref().and_then(PaymentTerms::hash).ok_or_else(unknown)?;
        let waits_for_side = view.pending.iter().any(|word| word.starts_with(side.name()));
        let spoke = view
            .words
            .as_array()
            .is_some_and(|words| words.iter().any(|word| word["person"] == json!(who.principal.name)));
        let summary = &view.summary;
        let body = html! {
            section.card.waits[waits_for_side] aria-labelledby="what" {
                h2 #what.hidden { "What is asked" }
                p.amount { (money(&summary["amount"]["amount"], &summary["amount"]["currency"])) }
                p { "to " strong { (payee(summary)) } ", from " code { (cell(&summary["from_account"])) }
                    @if transaction.fee.minor() != 0 { ", and a fee of " (money(&json!(transaction.fee.decimal()), &json!(transaction.fee.currency()))) } }
                (layout::facts(&[
                    ("Kind", cell(&summary["kind"])),
                    ("Asked by", text(&view.maker)),
                    ("Asked at", time(&json!(view.created))),
                    ("Until", html! { (time(&json!(view.expires))) " " span.left data-expires=(view.expires) {} }),
                    ("State", state(&view.status)),
                    ("Transaction", html! { @if who.is_of_bank() { a href={ "/transactions/" (view.transaction_id) } { (id(&json!(view.transaction_id))) } } @else { (id(&json!(view.transaction_id))) } }),
                ]))
                @if let Some(product) = summary["product_id"].as_str() { p { "Product " (text(product)) } }
                h3 { "Why a person is asked" }
                ul { @for reason in &view.reasons { li { (state(reason)) " " (said(reason)) } } }
                h3 { "Who has to decide" }
                (gates(&view))
            }
            @if waits_for_side && !spoke { (self.word_form(who, &view, side, hash)) }
            @if waits_for_side && spoke { p.notice.wait { "You have spoken. Somebody else has to, too." } }
            div.two {
                section.card aria-labelledby="agent" { h2 #agent { "The agent" } (agent(&transaction)) }
                section.card aria-labelledby="payee" { h2 #payee { "This payee before" } (self.history(&transaction)?) }
                @if who.is_of_bank() { section.card aria-labelledby="risk" { h2 #risk { "Risk" } (self.risk(who, &transaction)) } }
                section.card aria-labelledby="mandate" { h2 #mandate { "Mandate" } (self.mandate_of(who, &transaction)) }
            }
            section.card aria-labelledby="signed" {
                h2 #signed { "What is signed" }
                p { "Your passkey signs the hash of these terms with your name, your word, the policy’s version, the expiry, and a nonce that is used once." }
                (layout::facts(&[
                    ("Hash of the terms", id(&json!(hash))),
                    ("Policy", cell(&view.signed["policy_version"])),
                    ("Nonce", id(&view.signed["nonce"])),
                ]))
                details { summary { "All terms, as they are hashed" } pre { (format!("{:#}", json!(terms))) } }
            }
        };
        let title = match side {
            Side::Owner => "Consent to a payment",
            Side::Bank => "Approve a payment",
        };
        let here = if side == Side::Owner { "/consent" } else { "/approvals" };
        Ok(web::page(StatusCode::OK, self.page(who, title, here, &body)))
    }

    fn word_form(&self, who: &Who, view: &ApprovalView, side: Side, hash: Sha256) -> Markup {
        let (yes, no) = match side {
            Side::Owner => ("Consent with my passkey", "Refuse with my passkey"),
            Side::Bank => ("Approve with my passkey", "Deny with my passkey"),
        };
        html! {
            form.card data-approval=(view.approval_id) data-side=(side.name()) data-hash=(hash) aria-label="Your decision" {
                (layout::token(who))
                label { "Note, for the audit log (may be empty)" input name="note" maxlength=(NOTE_MAX) autocomplete="off"; }
                div.actions {
                    button type="button" data-does="speak" data-verdict="approve" { (yes) }
                    button.bad type="button" data-does="speak" data-verdict="deny" { (no) }
                }
                p.muted { kbd { "a" } " and " kbd { "d" } " go to the buttons. A denial ends it; the money is free again." }
            }
        }
    }

    /// The approval as this person sees it, and at which gate they are. Owners see those about their own accounts.
    fn seen(&self, who: &Who, approval: &ApprovalId) -> Result<(ApprovalView, Side), Failure> {
        let payments = self.services.payments()?;
        if who.principal.owner.is_some() {
            match payments.consent_show(&who.principal, approval) {
                Ok(view) => return serde_json::from_value(view).map(|view| (view, Side::Owner)).map_err(|_| unknown()),
                // Not this owner's: perhaps it is the bank's matter, and this person the bank's.
                Err(_) if who.is_of_bank() => {}
                Err(failure) => return Err(failure),
            }
        }
        let view = payments.approvals_show(&who.principal, approval)?;
        serde_json::from_value(view).map(|view| (view, Side::Bank)).map_err(|_| unknown())
    }

    /// What a person is asked to sign: `{document, challenge, rp_id, credential_id}`.
    pub(super) fn question(&self, who: &Who, approval: &str, body: &[u8]) -> Result<Answer, Failure> {
        let Question { side, verdict } = web::read(body)?;
        let approval: ApprovalId = approval.parse().map_err(|_| unknown())?;
        let asked = self.services.payments()?.approvals_question(&who.principal, &approval, side, verdict)?;
        let document: ApprovalDocument = serde_json::from_value(asked["document"].clone()).map_err(|_| unknown())?;
        let challenge = document.challenge().ok_or_else(unknown)?;
        self.challenge(who, &json!(document), challenge)
    }

    /// What a browser needs to have a challenge signed by this person's passkey.
    pub(super) fn challenge(&self, who: &Who, document: &Value, challenge: Sha256) -> Result<Answer, Failure> {
        let record = self.services.setup.authority.passkey(&who.principal.name)?.ok_or_else(super::not_signed_in)?;
        let relying = self.relying.as_ref().ok_or_else(super::not_signed_in)?;
        let asked = json!({
            "document": document, "challenge": BASE64_URL_SAFE_NO_PAD.encode(challenge.0), "rp_id": relying.id(),
            "credential_id": Ceremonies::credential_id(&record),
        });
        Ok(web::object(StatusCode::OK, &asked))
    }

    /// A person's word, signed by their passkey: counted where every other word is.
    pub(super) fn word(&self, who: &Who, approval: &str, body: &[u8]) -> Result<Answer, Failure> {
        let Spoken { side, verdict, note, document, authenticator_data, client_data, signature } = web::read(body)?;
        let approval: ApprovalId = approval.parse().map_err(|_| unknown())?;
        if document.approver != who.principal.name || document.approval_id != approval {
            let refusal = Refusal::ApprovalMismatch;
            return Err(Failure::refused(refusal.name(), refusal.message(), refusal.next_step()));
        }
        let passkey = Assertion {
            authenticator_data: standard(&authenticator_data)?,
            client_data: standard(&client_data)?,
            origin: self.relying.clone().ok_or_else(super::not_signed_in)?,
        };
        let word = SignedWord { document, signature: standard(&signature)?, passkey: Some(passkey) };
        let signed = Some(Box::new(word));
        let done = self.call(who, AdminCall::ApprovalsDecide { approval, side, verdict, note, signed })?;
        self.services.sessions.say(
            &who.session,
            match done["status"].as_str() {
                Some("pending") => "Your word counts. Somebody else has to decide, too.".to_owned(),
                Some(status) => format!("Done: {}.", status.replace('_', " ")),
                None => "Done.".to_owned(),
            },
        );
        Ok(web::object(StatusCode::OK, &done))
    }

    fn history(&self, transaction: &Transaction) -> Result<Markup, Failure> {
        let query = TransactionQuery {
            account: Some(transaction.debit.clone()),
            before: Some(transaction.transaction_id.clone()),
            limit: HISTORY,
            ..TransactionQuery::default()
        };
        let records = self.services.setup.store.transactions(&query)?;
        let is_payee = |other: &Transaction| match (&transaction.merchant, &other.merchant) {
            (Some(merchant), other) => other.as_ref() == Some(merchant),
            (None, _) => other.credit == transaction.credit && other.merchant.is_none(),
        };
        let before: Vec<_> = records.iter().filter(|record| is_payee(&record.transaction)).collect();
        let paid: Vec<_> = before.iter().filter(|one| one.transaction.state == TransactionState::Posted).collect();
        let sum = paid.iter().try_fold(0_i64, |sum, one| sum.checked_add(one.transaction.amount.minor()));
        let highest = paid.iter().map(|one| one.transaction.amount.minor()).max();
        let in_currency = |minor: i64| json!(Money::from_minor(minor, transaction.amount.currency()).decimal());
        let currency = json!(transaction.amount.currency());
        Ok(html! {
            @if before.is_empty() {
                p.notice.wait { "Nothing was ever paid to this payee from this account, among its last " (records.len()) " transactions." }
            } @else {
                (layout::facts(&[
                    ("Paid before", html! { (paid.len()) " times" }),
                    ("In all", sum.map(|sum| money(&in_currency(sum), &currency)).unwrap_or_default()),
                    ("Highest", highest.map(|highest| money(&in_currency(highest), &currency)).unwrap_or_default()),
                ]))
                (layout::table("Payments to this payee", &["At", "Amount", "State"], &before.iter().take(HISTORY_SHOWN).map(|one| vec![
                    time(&json!(one.transaction.created.rfc3339())),
                    money(&json!(one.transaction.amount.decimal()), &currency),
                    state(one.transaction.state.name()),
                ]).collect::<Vec<_>>(), ""))
            }
        })
    }

    /// What the monitor said of this agent last. Off, or silent, is said so.
    fn risk(&self, who: &Who, transaction: &Transaction) -> Markup {
        let Some(agent) = transaction.agent() else {
            return html! { p.muted { "No agent asked for this." } };
        };
        let call = AdminCall::MonitorShow { agent: agent.spiffe_id.to_string(), limit: 1 };
        match self.call(who, call) {
            Ok(shown) => {
                let last = &shown["items"][0];
                html! {
                    (layout::facts(&[
                        ("Score of its last call", cell(&last["score"])), ("Scored at", time(&last["at"])),
                        ("Mode", cell(&shown["mode"])), ("Known payments", cell(&shown["known"]["payments"])),
                    ]))
                    ul { @for reason in last["reasons"].as_array().into_iter().flatten() {
                        li { (cell(&reason["said"])) " (" (cell(&reason["points"])) " points)" }
                    } }
                }
            }
            Err(failure) => html! { p.muted { (failure.message) "." } },
        }
    }

    fn mandate_of(&self, who: &Who, transaction: &Transaction) -> Markup {
        let Some(used) = &transaction.mandate else {
            return html! { p { "None: this agent pays under its grant alone." } };
        };
        let shown = self.call(who, AdminCall::MandateShow { mandate: used.mandate.clone() });
        html! {
            (layout::facts(&[("Mandate", id(&json!(used.mandate)))]))
            @match shown {
                Ok(shown) => pre { (format!("{shown:#}")) },
                Err(failure) => p.muted { (failure.message) },
            }
        }
    }
}

fn inbox_of(waits: &[&ApprovalView], none: &str) -> Markup {
    html! {
        @if waits.is_empty() { p.empty { (none) } }
        ul.inbox { @for view in waits.iter().take(SHOWN_MAX) {
            li.card.waits {
                div {
                    a.open href={ "/approvals/" (view.approval_id) } {
                        (money(&view.summary["amount"]["amount"], &view.summary["amount"]["currency"])) " to " (payee(&view.summary))
                    }
                    div.muted { (cell(&view.summary["kind"])) " from " (cell(&view.summary["from_account"])) ", asked by " (text(&view.maker)) }
                    div { @for reason in &view.reasons { (state(reason)) " " } }
                }
                div {
                    div.left data-expires=(view.expires) { (view.expires) }
                    (gates(view))
                }
            }
        } }
        @if waits.len() > SHOWN_MAX { p { "And " (waits.len() - SHOWN_MAX) " more." } }
    }
}

/// The gates with how far each is, in words and as bars.
fn gates(view: &ApprovalView) -> Markup {
    html! { @for gate in view.gates.as_array().into_iter().flatten() {
        @let (given, needed) = (gate["given"].as_u64().unwrap_or(0), gate["needed"].as_u64().unwrap_or(0));
        div.muted {
            @if gate["gate"] == "owner" { "Owner’s consent: " } @else { "Bank (" (cell(&gate["roles"])) "): " }
            (given) " of " (needed)
        }
        ul.progress aria-hidden="true" { @for place in 0..needed.min(8) { li.given[place < given] {} } }
    }
    @for word in view.words.as_array().into_iter().flatten() {
        div.muted { (cell(&word["person"])) " said " (cell(&word["answer"])) " as " (cell(&word["role"])) " at " (time(&word["at"]))
            @if word["signed"] == false { ", unsigned" }
            @if let Some(note) = word["note"].as_str().filter(|note| !note.is_empty()) { ": “" (text(note)) "”" } }
    } }
}

fn agent(transaction: &Transaction) -> Markup {
    let Some(agent) = transaction.agent() else {
        return match &transaction.maker {
            Actor::Operator(operator) => html! { p { "Asked by " (operator.name) ", of the bank." } },
            Actor::Agent(_) | Actor::Program(_) | Actor::System { .. } => html! { p { "Asked by no agent." } },
        };
    };
    html! {
        p { strong { (agent.spiffe_id.name()) } " " span.muted { (agent.spiffe_id) } }
        (pair(&agent.key.to_string(), Some(&agent.company_serial.to_string()), Some(&agent.bank_serial.to_string())))
        p.muted { "The pair ends " (time(&json!(agent.not_after.rfc3339()))) "." }
    }
}

/// The two certificates over one key, drawn.
pub(super) fn pair(key: &str, company: Option<&str>, bank: Option<&str>) -> Markup {
    let half = |name: &str, serial: Option<&str>| {
        html! { div.card { strong { (name) } br; span.muted { "serial " } @match serial { Some(serial) => (id(&json!(serial))), None => "–" } } }
    };
    html! {
        div.pair role="img" aria-label="Certificate S of the security company and certificate B of the bank, bound over one key" {
            (half("S · security company", company))
            div.bind { "bound by RFC 9763" br; "one key in an HSM" }
            (half("B · bank", bank))
        }
        p { span.muted { "Key " } (id(&json!(key))) }
    }
}

/// Whom a payment goes to.
fn payee(summary: &Value) -> Markup {
    match summary["merchant"].as_str() {
        Some(merchant) => html! { (text(merchant)) },
        None => html! { (cell(&summary["to_account"])) },
    }
}

/// What a reason says, in words.
fn said(reason: &str) -> &'static str {
    match reason {
        "above_unattended_per_transaction" => "The amount is above what agents pay unattended at once.",
        "above_unattended_per_day" => "With it the agent pays more today than agents may unattended.",
        "owner_consent" => "The account’s owner is always asked.",
        "outside_hours" => "It was asked for outside the hours of this rule.",
        "risk_score" => "The monitor scored the call as unusual.",
        _ => "",
    }
}

fn view_of(listed: &Value) -> Option<ApprovalView> {
    let mut whole = listed.clone();
    whole["words"] = listed.get("words").cloned().unwrap_or_else(|| json!([]));
    whole["signed"] = listed.get("signed").cloned().unwrap_or(Value::Null);
    serde_json::from_value(whole).ok()
}

/// Base64url of a browser as the base64 that evidence is kept in.
pub(super) fn standard(text: &str) -> Result<String, Failure> {
    let malformed = |_| Failure::usage("request_malformed", "the assertion cannot be read", "reload the page");
    BASE64_URL_SAFE_NO_PAD.decode(text).map(|bytes| BASE64_STANDARD.encode(bytes)).map_err(malformed)
}

fn unknown() -> Failure {
    let refusal = Refusal::UnknownApproval;
    Failure::refused(refusal.name(), refusal.message(), refusal.next_step())
}
