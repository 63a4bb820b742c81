//! A store with a clock that only moves when told, and short words for what is asked of it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign::bench::sealed::sealed;
use countersign::kernel::command::*;
use countersign::kernel::quorum::Side;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::text::OnHostile;
use countersign::kernel::types::*;
use countersign::kernel::zone::Zone;
use countersign::store::sqlite::SqliteStore;
use countersign::store::{CheckpointRecord, Listing, SequenceStep, Store};

thread_local! {
    /// The refusals that sentences recorded, while somebody counts them.
    static COUNTED: RefCell<Option<BTreeSet<Refused>>> = const { RefCell::new(None) };
}

/// A request that was refused, as its leaf in the audit log has it: who asked, what, and the name of the rule. Ids and
/// hashes are left out, so that a request that is made twice counts once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Refused {
    pub name: String,
    pub actor: String,
    pub request: String,
}

/// Every refusal that is recorded while sentences run, on SQLite alone.
pub fn refused_in(sentences: impl FnOnce()) -> BTreeSet<Refused> {
    COUNTED.set(Some(BTreeSet::new()));
    sentences();
    COUNTED.take().unwrap()
}

fn count(store: &dyn Store, counted: &mut BTreeSet<Refused>) {
    let leaves = (1..).map_while(|row| store.leaf(row).unwrap());
    for leaf in leaves {
        // What was erased counts nowhere any more.
        let Some(body) = leaf.body() else { continue };
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        if let Some(name) = body["reason"].as_str() {
            let actor = ["spiffe_id", "name", "component"].iter().find_map(|key| body["actor"][key].as_str());
            let asked = format!("{} {} {}", body["tool"], body["act"], body["parameters"]);
            counted.insert(Refused {
                name: name.to_owned(),
                actor: actor.unwrap_or_default().to_owned(),
                request: without_ids(&asked),
            });
        }
    }
}

/// Runs of twenty hexadecimal digits and more are ids, hashes, signatures.
fn without_ids(text: &str) -> String {
    let words = text.split_inclusive(|letter: char| !letter.is_ascii_hexdigit());
    let kept = words.map(|word| if word.len() > 20 { "…" } else { word });
    kept.collect()
}

/// Runs a sentence on every implementation.
pub fn on_every_store(sentence: impl Fn(&World<'_>)) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store/store.sqlite3")).unwrap();
    sealed(&*store).unwrap();
    sentence(&World::new(&*store));
    let counted = COUNTED.with_borrow_mut(|counted| counted.as_mut().map(|counted| count(&*store, counted)));
    if counted.is_some() {
        return;
    }

    let database = crate::support::postgres::shared().database();
    let store = database.open();
    sealed(&*store).unwrap();
    sentence(&World::new(&*store));
    // Its connections are closed before its database is dropped.
    drop(store);
}

pub const START: i64 = 1_800_000_000_000;
pub const DAY_MS: i64 = 86_400_000;

pub fn usd(text: &str) -> Money {
    Money::parse_positive(text, "USD".parse().unwrap()).unwrap()
}

pub fn rules() -> Rules {
    let tools = [
        "list_accounts",
        "get_account_balance",
        "list_transactions",
        "search_products",
        "authorize_purchase",
        "execute_purchase",
        "authorize_transfer",
        "execute_transfer",
        "cancel_authorization",
        "get_transaction",
        "get_approval_status",
        "request_reversal",
    ];
    Rules {
        policy_version: "p1".into(),
        catalogue_version: 1,
        role_tools: BTreeMap::from([
            ("purchaser".parse().unwrap(), tools.map(str::to_owned).to_vec()),
            ("viewer".parse().unwrap(), vec!["list_accounts".into(), "get_account_balance".into()]),
        ]),
        policy: None,
        merchants_allowed: vec!["amazon.com".parse().unwrap(), "bestbuy.com".parse().unwrap()].into(),
        unattended_per_transaction: usd("2000"),
        unattended_per_day: usd("5000"),
        deny_above: Some(usd("50000")),
        authorization_ttl_ms: 900_000,
        approval_ttl_ms: DAY_MS / 2,
        open_holds_max: 5,
        company_crl_required: false,
        fees: vec![],
        manual_two_people_above: None,
        stopped_here: None,
        policy_unreadable: None,
        settlement: Settlement::Embedded,
        gates: vec![],
        unsigned_approvals: true,
        transactions: Default::default(),
    }
}

pub fn agent(role: &str, name: &str) -> AgentPrincipal {
    let number = name.bytes().fold(1_u8, u8::wrapping_add).max(1);
    AgentPrincipal {
        spiffe_id: format!("spiffe://countersign.example/agent/{role}/{name}").parse().unwrap(),
        key: Sha256::of(&[name.as_bytes()]),
        bank_issuer: "bb".into(),
        bank_serial: Serial::from_bytes(&[number, 1]).unwrap(),
        company_issuer: "cc".into(),
        company_serial: Serial::from_bytes(&[number, 2]).unwrap(),
        not_after: UnixMillis(START + 30 * DAY_MS),
    }
}

pub fn operator(name: &str, roles: &[&str]) -> OperatorPrincipal {
    OperatorPrincipal {
        name: name.parse().unwrap(),
        uid: 1000,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        asserted: true,
        owner: None,
    }
}

/// A word at the bank's gate that nobody's key signed.
pub fn decide(approval: &ApprovalId, verdict: Verdict, note: &str) -> Act {
    let (approval, note) = (approval.clone(), note.to_owned());
    Act::DecideApproval { approval, side: Side::Bank, verdict, note, evidence: None }
}

/// A store with a clock that only moves when told.
pub struct World<'s> {
    pub store: &'s dyn Store,
    pub now: Cell<i64>,
    pub ids: Cell<u64>,
    pub rules: Arc<Rules>,
}

pub type Outcome = Result<Effect, Refusal>;

impl<'s> World<'s> {
    pub fn new(store: &'s dyn Store) -> Self {
        Self { store, now: Cell::new(START), ids: Cell::new(0), rules: Arc::new(rules()) }
    }

    pub fn id(&self, prefix: &str) -> String {
        self.ids.set(self.ids.get() + 1);
        format!("{prefix}{:026}", self.ids.get())
    }

    pub fn later(&self, ms: i64) {
        self.now.set(self.now.get() + ms);
    }

    pub fn command(&self, actor: Actor, act: Act) -> Command {
        let stamp = Stamp {
            request_id: self.id("req_").parse().unwrap(),
            wall: UnixMillis(self.now.get()),
            boot_ms: 0,
            leaf_salt: [7; 32],
            nonce: None,
            signature: None,
            commit_before: None,
        };
        Command { stamp, actor, act }
    }

    pub fn decision(&self, actor: Actor, act: Act) -> Decision {
        self.store.apply(vec![self.command(actor, act)]).unwrap().pop().unwrap()
    }

    pub fn admin(&self, act: Act) -> Outcome {
        self.decision(Actor::Operator(operator("ada", &["administrator", "officer"])), act).outcome
    }

    pub fn tool_command(&self, agent: &AgentPrincipal, call: ToolCall) -> Command {
        let fresh = self.fresh();
        self.command(Actor::Agent(agent.clone()), Act::Tool { call, rules: Arc::clone(&self.rules), fresh, risk: None })
    }

    pub fn fresh(&self) -> FreshIds {
        FreshIds {
            transaction: self.id("txn_").parse().unwrap(),
            approval: self.id("apr_").parse().unwrap(),
            case: self.id("case_").parse().unwrap(),
            nonce: Sha256::of(&[self.id("nonce_").as_bytes()]),
        }
    }

    pub fn call_as(&self, agent: &AgentPrincipal, call: ToolCall) -> Outcome {
        self.store.apply(vec![self.tool_command(agent, call)]).unwrap().pop().unwrap().outcome
    }

    pub fn call(&self, call: ToolCall) -> Outcome {
        self.call_as(&shopper(), call)
    }

    /// CHK_001 with 5247.83, SAV_001 with 100 of the same owner, CHK_002 of another; two offers; shopper's grant.
    pub fn bank(&self) -> &Self {
        for (account, owner, opening) in
            [("CHK_001", "OWN_001", "5247.83"), ("SAV_001", "OWN_001", "100"), ("CHK_002", "OWN_002", "820.15")]
        {
            self.admin(open(account, owner, Some(opening))).unwrap();
        }
        for merchant in ["amazon.com", "gadgets.example"] {
            self.admin(add_merchant(merchant, "Shop")).unwrap();
        }
        for (merchant, product, price) in [
            ("amazon.com", "LAPTOP", "1899.99"),
            ("amazon.com", "SERVER", "60000"),
            ("gadgets.example", "FAKE", "9.99"),
        ] {
            self.admin(add_product(merchant, product, price)).unwrap();
        }
        self.admin(grant(&shopper(), "CHK_001", EVERY_VERB)).unwrap();
        self
    }

    pub fn balance(&self, account: &str) -> (String, String) {
        let accounts = self.store.listing(Listing::Accounts).unwrap();
        let row = accounts.iter().find(|row| row["account_id"] == account).unwrap();
        (row["balance"].as_str().unwrap().into(), row["held"].as_str().unwrap().into())
    }

    pub fn approved(&self, call: ToolCall) -> TransactionId {
        match self.call(call).unwrap() {
            Effect::Approved { transaction_id, .. } => transaction_id,
            other => panic!("not approved: {other:?}"),
        }
    }

    pub fn waiting(&self, call: ToolCall) -> (ApprovalId, TransactionId) {
        match self.call(call).unwrap() {
            Effect::RequiresApproval { approval_id, transaction_id, .. } => (approval_id, transaction_id),
            other => panic!("not waiting: {other:?}"),
        }
    }

    pub fn answer_approval(&self, approval: &ApprovalId, verdict: Verdict) -> Outcome {
        let act = decide(approval, verdict, "n");
        self.decision(Actor::Operator(operator("bob", &["approver"])), act).outcome
    }

    pub fn posted(&self, call: ToolCall) -> Posted {
        match self.call(call).unwrap() {
            Effect::Posted(posted) => posted,
            other => panic!("not posted: {other:?}"),
        }
    }

    pub fn bought(&self, key: &str) -> Posted {
        let transaction = self.approved(buy("LAPTOP", "1899.99", key));
        self.posted(execute_buy(&transaction, "LAPTOP"))
    }

    pub fn system(&self, act: Act) -> Decision {
        self.decision(Actor::System { component: "test".into() }, act)
    }

    pub fn revoke_shopper(&self) -> Outcome {
        self.admin(Act::Revoke { target: RevocationTarget::Agent(shopper().spiffe_id), reason: "lost".into() })
    }

    pub fn sweep(&self) -> u32 {
        match self.system(Act::Sweep { limit: 100 }).outcome.unwrap() {
            Effect::Swept { released } => released,
            other => panic!("{other:?}"),
        }
    }

    pub fn adds_up(&self) {
        let mut sums = BTreeMap::<String, i128>::new();
        for row in self.store.listing(Listing::Balances).unwrap() {
            assert_eq!(row["balance_minor"], row["entries_minor"], "{row}");
            assert_eq!(row["held_minor"], row["open_minor"], "{row}");
            let minor = |key: &str| row[key].as_str().unwrap().parse::<i128>().unwrap();
            let name = row["account_id"].as_str().unwrap();
            if !name.starts_with("clearing:") {
                let overdraft = i128::from(self.store.account(name).unwrap().unwrap().overdraft);
                assert!(minor("balance_minor") + overdraft >= minor("held_minor"), "{row}");
            }
            *sums.entry(row["currency"].to_string()).or_default() += minor("entries_minor");
        }
        assert!(sums.values().all(|sum| *sum == 0), "{sums:?}");
        // The product's own check, on every book that the contract makes.
        let check = self.store.check(&mut |_| {}).unwrap();
        assert!(check.is_ok(), "{check:?}");
    }
}

pub const EVERY_VERB: &[Verb] = &[Verb::Read, Verb::Purchase, Verb::Transfer, Verb::Reverse];

pub fn shopper() -> AgentPrincipal {
    agent("purchaser", "shopper")
}

pub fn open(account: &str, owner: &str, opening: Option<&str>) -> Act {
    Act::OpenAccount(new_account(account, owner, opening))
}

pub fn new_account(account: &str, owner: &str, opening: Option<&str>) -> NewAccount {
    NewAccount {
        account: account.parse().unwrap(),
        owner: owner.parse().unwrap(),
        currency: "USD".parse().unwrap(),
        opening: opening.map(usd),
        overdraft: None,
        day_max: None,
        zone: Zone::UTC,
    }
}

pub fn incoming(account: &str, amount: &str, reference: &str) -> Act {
    Act::IncomingPayment {
        account: account.parse().unwrap(),
        amount: usd(amount),
        reference: reference.parse().unwrap(),
    }
}

pub fn add_merchant(merchant: &str, name: &str) -> Act {
    Act::AddMerchant {
        merchant: merchant.parse().unwrap(),
        name: name.into(),
        currency: "USD".parse().unwrap(),
        // Two shops of these books have the same name.
        looks_like_accepted: true,
        on_hostile: OnHostile::Refuse,
    }
}

pub fn add_product(merchant: &str, product: &str, price: &str) -> Act {
    Act::AddProduct {
        merchant: merchant.parse().unwrap(),
        product: product.parse().unwrap(),
        title: format!("{product} computer"),
        price: usd(price),
        on_hostile: OnHostile::Refuse,
    }
}

pub fn grant(agent: &AgentPrincipal, account: &str, verbs: &[Verb]) -> Act {
    Act::AddGrant {
        agent: agent.spiffe_id.clone(),
        account: account.parse().unwrap(),
        owner: if account == "CHK_002" { "OWN_002" } else { "OWN_001" }.parse().unwrap(),
        verbs: verbs.to_vec(),
        per_transaction_max: None,
        expires: UnixMillis(START + 20 * DAY_MS),
    }
}

pub fn buy_at(merchant: &str, product: &str, price: &str, key: &str) -> ToolCall {
    ToolCall::AuthorizePurchase {
        product_id: product.parse().unwrap(),
        price: usd(price),
        merchant: merchant.parse().unwrap(),
        from_account: None,
        idempotency_key: key.parse().unwrap(),
    }
}

pub fn buy(product: &str, price: &str, key: &str) -> ToolCall {
    buy_at("amazon.com", product, price, key)
}

pub fn execute_buy(transaction: &TransactionId, product: &str) -> ToolCall {
    ToolCall::ExecutePurchase { transaction_id: transaction.clone(), product_id: product.parse().unwrap() }
}

pub fn transfer_to(from: Option<&str>, to: &str, amount: &str, key: &str) -> ToolCall {
    ToolCall::AuthorizeTransfer {
        from_account: from.map(|from| from.parse().unwrap()),
        to_account: to.parse().unwrap(),
        amount: usd(amount),
        idempotency_key: key.parse().unwrap(),
    }
}

pub fn transfer(amount: &str, key: &str) -> ToolCall {
    transfer_to(Some("CHK_001"), "SAV_001", amount, key)
}

pub fn execute_transfer(transaction: &TransactionId, to: &str, amount: &str) -> ToolCall {
    ToolCall::ExecuteTransfer {
        transaction_id: transaction.clone(),
        from_account: None,
        to_account: to.parse().unwrap(),
        amount: usd(amount),
    }
}

pub fn cancel(transaction: &TransactionId) -> ToolCall {
    ToolCall::CancelAuthorization { reference: AuthorizationRef::TransactionId(transaction.clone()) }
}

pub fn balance_of(account: &str) -> ToolCall {
    ToolCall::GetAccountBalance { account_id: account.parse().unwrap() }
}

pub fn reversal(transaction: &TransactionId, amount: Option<&str>, key: &str) -> ToolCall {
    ToolCall::RequestReversal {
        transaction_id: transaction.clone(),
        amount: amount.map(usd),
        idempotency_key: key.parse().unwrap(),
    }
}

pub fn certificate(id: &str, subject: &str, serial: u8) -> CertificateRecord {
    CertificateRecord {
        id: id.into(),
        profile: "agent-b".into(),
        subject: subject.into(),
        issuer: "bb".into(),
        serial: Serial::from_bytes(&[serial]).unwrap(),
        key: Sha256::of(&[subject.as_bytes()]),
        not_after: UnixMillis(START),
        tbs: vec![serial; 4],
        der: None,
    }
}

pub fn step(size_before: u64, rows: Vec<i64>) -> SequenceStep {
    let size = size_before + rows.len() as u64;
    let checkpoint = CheckpointRecord { size, root: Sha256([1; 32]), note: b"note".to_vec(), signed: None };
    SequenceStep { size_before, rows, nodes: vec![(0, size_before, Sha256([2; 32]))], checkpoint }
}
