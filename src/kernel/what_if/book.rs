//! The rows of a supposed bank: what was supposed, and everything else so that the payment goes on. It notes what it was
//! asked for and nobody had supposed.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};

use serde_json::json;

use super::{Fact, Given, MandateGiven};
use crate::kernel::breaker::Breaker;
use crate::kernel::command::{AgentPrincipal, CertificateRecord, CoreVerb, Posted, ToolCall, Verb};
use crate::kernel::decide::{
    Binding, Book, Counter, Grant, HistoryLine, ManualCase, Mark, Marking, Merchant, Offer, Place, PolicyLine, Ruled,
    Signed,
};
use crate::kernel::external::SigningRow;
use crate::kernel::ledger::{Account, AccountKind, Transaction};
use crate::kernel::mandate::{self, HeldMandate, Mandate, Signer, StoredMandate};
use crate::kernel::policy::transaction::{Pace, PaceKey};
use crate::kernel::status::CrlStatus;
use crate::kernel::types::{
    AccountId, ApprovalId, CaseId, Currency, Day, KeyId, MandateId, MerchantId, Money, OwnerId, ProductId, Serial,
    Sha256, SpiffeId, TransactionId, UnixMillis,
};
use crate::kernel::witness::WitnessedLog;
use crate::kernel::zone::Zone;

/// More than any amount that can be asked for (15 digits).
const ENOUGH: i64 = 1_000_000_000_000_000_000;
const OWNER: &str = "nobody";

pub(super) struct Supposed {
    given: Given,
    agent: AgentPrincipal,
    account: Account,
    payee: Option<Account>,
    offer: Option<Offer>,
    owner: OwnerId,
    mandates: Vec<HeldMandate>,
    spent: i64,
    spent_today: i64,
    now: UnixMillis,
    assumed: RefCell<BTreeSet<Fact>>,
}

impl Supposed {
    /// # Errors
    /// A sentence about a supposition that cannot be read.
    pub(super) fn new(
        agent: &AgentPrincipal,
        call: &ToolCall,
        from: &AccountId,
        currency: Currency,
        now: UnixMillis,
        given: &Given,
        wants_mandate: bool,
    ) -> Result<Self, String> {
        let minor = |what: &str, text: Option<&String>, otherwise: i64| match text.map(String::as_str) {
            None => Ok(otherwise),
            Some("0" | "0.00") => Ok(0),
            Some(text) => {
                Money::parse_positive(text, currency).map(Money::minor).map_err(|error| format!("{what}: {error}"))
            }
        };
        let customer = |name: &AccountId| Account::new(name.to_string(), OWNER.into(), AccountKind::Customer, currency);
        let account = Account {
            balance: minor("balance", given.balance.as_ref(), ENOUGH)?,
            zone: given.time_zone.unwrap_or(Zone::UTC),
            ..customer(from)
        };
        let (mut payee, mut offer) = (None, None);
        if let ToolCall::AuthorizeTransfer { to_account, .. } = call {
            payee = Some(customer(to_account));
        }
        if let ToolCall::AuthorizePurchase { merchant, product_id, price, .. } = call {
            let (merchant, product) = (merchant.clone(), product_id.clone());
            offer = Some(Offer { merchant, product, title: String::new(), price: *price });
        }
        let signed = match given.mandate {
            None => wants_mandate,
            Some(MandateGiven::Covers) => true,
            Some(MandateGiven::None) => false,
        };
        Ok(Self {
            owner: OWNER.parse().map_err(|_| "an owner's name".to_owned())?,
            mandates: if signed { vec![covering(agent, from, currency, now)?] } else { vec![] },
            spent: minor("spent", given.spent.as_ref(), 0)?,
            spent_today: minor("spent_today", given.spent_today.as_ref(), 0)?,
            assumed: RefCell::default(),
            given: given.clone(),
            agent: agent.clone(),
            account,
            payee,
            offer,
            now,
        })
    }

    /// What was asked for and nobody had supposed.
    pub(super) fn assumed(&self) -> Vec<Fact> {
        self.assumed.borrow().iter().copied().collect()
    }

    fn unless<T>(&self, is_given: bool, fact: Fact, answer: T) -> Ruled<T> {
        if !is_given {
            self.assumed.borrow_mut().insert(fact);
        }
        Ok(answer)
    }

    fn the_grant(&self, account: &AccountId) -> Grant {
        Grant {
            agent: self.agent.spiffe_id.clone(),
            account: account.clone(),
            owner: self.owner.clone(),
            verbs: vec![Verb::Read, Verb::Purchase, Verb::Transfer, Verb::Reverse],
            per_transaction_max: None,
            expires: UnixMillis(i64::MAX),
            entered_by: String::new(),
            asserted: false,
        }
    }
}

/// A mandate of this moment that names no payee and more money than there is.
fn covering(
    agent: &AgentPrincipal,
    account: &AccountId,
    currency: Currency,
    now: UnixMillis,
) -> Result<HeldMandate, String> {
    let claims = json!({
        "vct": mandate::VCT, "iss": OWNER, "sub": agent.spiffe_id, "jti": "mdt_00000000000000000000000000",
        "iat": now.seconds(), "exp": now.seconds() + 86_400, "cnf": { "kid": agent.key },
        "payment_instrument": { "type": "account", "id": account },
        "constraints": [{ "type": "payment.amount_range", "currency": currency, "max": 999_999_999_999_999_i64 }],
    });
    let mandate = Mandate::from_claims(&claims).map_err(|refused| refused.to_string())?;
    Ok(HeldMandate { mandate, signer: Signer { key: agent.key, certificate: None }, is_revoked: false })
}

impl Book for Supposed {
    fn any_marked(&self, _marks: &[String]) -> Ruled<bool> {
        self.unless(false, Fact::Standing, false)
    }

    fn standing(&self, _marks: &[String]) -> Ruled<HashSet<String>> {
        Ok(HashSet::new())
    }

    fn marking(&self, _mark: &Mark) -> Ruled<Option<Marking>> {
        Ok(None)
    }

    fn crl(&self, _issuer: &str) -> Ruled<Option<CrlStatus>> {
        let fresh = CrlStatus { number: 0, this_update: UnixMillis(0), next_update: UnixMillis(i64::MAX) };
        self.unless(false, Fact::Standing, Some(fresh))
    }

    fn account(&self, name: &str) -> Ruled<Option<Account>> {
        if name == self.account.name {
            return self.unless(self.given.balance.is_some(), Fact::Balance, Some(self.account.clone()));
        }
        match self.payee.as_ref().filter(|payee| payee.name == name) {
            Some(payee) => self.unless(false, Fact::Payee, Some(payee.clone())),
            None => Ok(None),
        }
    }

    fn grant(&self, _agent: &SpiffeId, account: &AccountId) -> Ruled<Option<Grant>> {
        self.unless(false, Fact::Grant, Some(self.the_grant(account)))
    }

    fn grants(&self, _agent: &SpiffeId) -> Ruled<Vec<Grant>> {
        self.unless(false, Fact::Grant, vec![])
    }

    fn mandate(&self, _id: &MandateId) -> Ruled<Option<StoredMandate>> {
        Ok(None)
    }

    fn mandates(&self, _agent: &SpiffeId, _account: &str) -> Ruled<Vec<HeldMandate>> {
        self.unless(self.given.mandate.is_some(), Fact::Mandate, self.mandates.clone())
    }

    fn merchant(&self, _merchant: &MerchantId) -> Ruled<Option<Merchant>> {
        Ok(None)
    }

    fn merchants(&self) -> Ruled<Vec<Merchant>> {
        Ok(vec![])
    }

    fn offer(&self, _merchant: &MerchantId, _product: &ProductId) -> Ruled<Option<Offer>> {
        self.unless(false, Fact::Payee, self.offer.clone())
    }

    fn offers(&self, _merchant: Option<&MerchantId>, _limit: u32) -> Ruled<Vec<Offer>> {
        Ok(vec![])
    }

    fn transaction(&self, _id: &TransactionId) -> Ruled<Option<Transaction>> {
        Ok(None)
    }

    fn transaction_of_approval(&self, _id: &ApprovalId) -> Ruled<Option<Transaction>> {
        Ok(None)
    }

    fn posted(&self, _id: &TransactionId) -> Ruled<Option<Posted>> {
        Ok(None)
    }

    fn history(&self, _account: &str, _limit: u32) -> Ruled<Vec<HistoryLine>> {
        Ok(vec![])
    }

    fn open_holds(&self, _agent: &SpiffeId, _account: &str) -> Ruled<u32> {
        let held = self.given.open_holds;
        self.unless(held.is_some(), Fact::OpenHolds, held.unwrap_or(0))
    }

    fn spent(&self, counter: &Counter, _day: Day) -> Ruled<i64> {
        match counter {
            Counter::Agent(_) => self.unless(self.given.spent_today.is_some(), Fact::SpentToday, self.spent_today),
            Counter::Account(_) | Counter::MandateAmount(_) | Counter::MandateUses(_) => Ok(0),
        }
    }

    fn pace(&self, key: &PaceKey) -> Ruled<Pace> {
        let (is_given, before) = if key.counts_payments() {
            (self.given.count.is_some(), i64::from(self.given.count.unwrap_or(0)))
        } else {
            (self.given.spent.is_some(), self.spent)
        };
        self.unless(is_given, Fact::Velocity, Pace::default().with(key, self.now, before))
    }

    fn reversed(&self, _original: &TransactionId) -> Ruled<i64> {
        Ok(0)
    }

    fn binding(&self, _scope: &Sha256, _now: UnixMillis) -> Ruled<Option<Binding>> {
        Ok(None)
    }

    fn nonce_used(&self, _nonce: &Sha256, _now: UnixMillis) -> Ruled<bool> {
        Ok(false)
    }

    fn breaker(&self) -> Ruled<Breaker> {
        self.unless(false, Fact::Breaker, Breaker::default())
    }

    fn case(&self, _id: &CaseId) -> Ruled<Option<ManualCase>> {
        Ok(None)
    }

    fn open_cases(&self, _agent: &SpiffeId) -> Ruled<u32> {
        Ok(0)
    }

    fn order(&self, _id: &TransactionId) -> Ruled<Option<Posted>> {
        Ok(None)
    }

    fn outbox(&self, _id: &TransactionId) -> Ruled<Vec<CoreVerb>> {
        Ok(vec![])
    }

    fn lapsed(&self, _now: UnixMillis, _limit: u32) -> Ruled<Vec<Transaction>> {
        Ok(vec![])
    }

    fn open_of_revoked(&self, _limit: u32) -> Ruled<Vec<Transaction>> {
        Ok(vec![])
    }

    fn open_under(&self, _marks: &[String]) -> Ruled<u32> {
        Ok(0)
    }

    fn open_under_mandate(&self, _mandate: &Mandate, _limit: u32) -> Ruled<Vec<Transaction>> {
        Ok(vec![])
    }

    fn next_place(&self) -> Ruled<Place> {
        Ok(Place { batch: 0, index: 0 })
    }

    fn batch_is_signed(&self, _batch: i64) -> Ruled<Option<Signed>> {
        Ok(None)
    }

    fn certificate(&self, _id: &str) -> Ruled<Option<CertificateRecord>> {
        Ok(None)
    }

    fn certificate_of_serial(&self, _issuer: &str, _serial: &Serial) -> Ruled<Option<CertificateRecord>> {
        Ok(None)
    }

    fn issued(&self, _issuer: &str, _serials: &[Serial]) -> Ruled<u32> {
        Ok(0)
    }

    fn agents_unmarked(&self, _after: Option<&SpiffeId>, _limit: u32) -> Ruled<Vec<SpiffeId>> {
        Ok(vec![])
    }

    fn certificates_of_subject(&self, _subject: &str) -> Ruled<Vec<CertificateRecord>> {
        Ok(vec![])
    }

    fn certificates_of_key(&self, _key: &KeyId) -> Ruled<Vec<CertificateRecord>> {
        Ok(vec![])
    }

    fn agent_is_known(&self, _agent: &SpiffeId) -> Ruled<bool> {
        Ok(false)
    }

    fn crl_number(&self, _issuer: &str) -> Ruled<u64> {
        Ok(0)
    }

    fn policy(&self) -> Ruled<Option<PolicyLine>> {
        Ok(None)
    }

    fn signing(&self, _scope: &Sha256) -> Ruled<Option<SigningRow>> {
        Ok(None)
    }

    fn witnessed(&self) -> Ruled<Vec<WitnessedLog>> {
        Ok(vec![])
    }
}
