//! One transaction's story: what agents and operators are told, and what happens when the HSM fails.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use countersign::banking::CoreBanking;
use countersign::guard::settings::BreakerSettings;
use countersign::guard::{Guard, Reached, Seen};
use countersign::hsm::{CustodyAttributes, HsmFault, KeyInfo, KeyState, Op, Reply, Token};
use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::decide::batch_document;
use countersign::kernel::ledger::{FeeRule, TransactionKind};
use countersign::kernel::merkle::leaf_hash;
use countersign::kernel::quorum::Side;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::sign::{Algorithm, DocumentTag, Purpose, SignInput, signature_is_valid, spki_der};
use countersign::kernel::types::*;
use countersign::ops::clock;
use countersign::ops::registry::ServingLimit;
use countersign::payment::{DeskCall, Payments, PaymentsSetup, ToolFailure};
use countersign::store::sqlite::SqliteStore;
use countersign::store::{Listing, Store};
use serde_json::Value;

use crate::store::world::{agent, new_account, operator, rules, usd};

/// How the token answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    Down,
    /// Signs, and the answer is lost.
    Lost,
    /// Signs, and a bit flips.
    Flipped,
}

pub struct FaultyToken {
    pair: EcdsaKeyPair,
    mood: Mutex<Mood>,
    signed: AtomicU32,
}

impl FaultyToken {
    pub fn mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn key(&self) -> KeyInfo {
        let spki = spki_der(Algorithm::P256, self.pair.public_key().as_ref());
        KeyInfo {
            id: Sha256::of(&[&spki]),
            label: "bank-transaction-v1".into(),
            purpose: Purpose::Transaction,
            agent: None,
            version: 1,
            algorithm: Algorithm::P256,
            spki,
            custody: CustodyAttributes::SOUND,
            state: KeyState::Active,
        }
    }
}

impl Token for FaultyToken {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        let Op::Sign { input, .. } = op else { panic!("only signatures are asked for") };
        assert!(Purpose::Transaction.permits(&input));
        let unavailable = |maybe_signed| HsmFault::Unavailable {
            name: "deadline_missed".into(),
            message: "planted".into(),
            maybe_signed,
        };
        let mood = *self.mood.lock().unwrap();
        if mood == Mood::Down {
            return Err(unavailable(false));
        }
        self.signed.fetch_add(1, Ordering::SeqCst);
        let mut signature = self.pair.sign(&SystemRandom::new(), &input.message()).unwrap().as_ref().to_vec();
        match mood {
            Mood::Well | Mood::Down => Ok(Reply::Signature(signature)),
            Mood::Lost => Err(unavailable(true)),
            Mood::Flipped => {
                *signature.last_mut().unwrap() ^= 1;
                Ok(Reply::Signature(signature))
            }
        }
    }
}

pub struct Bank {
    _directory: tempfile::TempDir,
    pub store: Arc<SqliteStore>,
    pub token: Arc<FaultyToken>,
    pub payments: Arc<Payments>,
    pub guard: Arc<Guard>,
    pub shopper: AgentPrincipal,
}

fn bank() -> Bank {
    bank_with(None)
}

/// A bank with an agent and its accounts; with a core, payments are settled there.
pub fn bank_with(core: Option<Arc<dyn CoreBanking>>) -> Bank {
    let token = Arc::new(FaultyToken {
        pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
        mood: Mutex::new(Mood::Well),
        signed: AtomicU32::new(0),
    });
    let bank = Bank::open(tempfile::tempdir().unwrap(), token, core);
    bank.fill();
    bank
}

fn usd_currency() -> Currency {
    "USD".parse().unwrap()
}

pub fn ada() -> OperatorPrincipal {
    operator("ada", &["administrator", "officer"])
}

const VERBS: [Verb; 4] = [Verb::Read, Verb::Purchase, Verb::Transfer, Verb::Reverse];

impl Bank {
    fn open(directory: tempfile::TempDir, token: Arc<FaultyToken>, core: Option<Arc<dyn CoreBanking>>) -> Self {
        let store = SqliteStore::open(&directory.path().join("store.sqlite3")).unwrap();
        let settlement = if core.is_some() { Settlement::External } else { Settlement::Embedded };
        // Probed without pauses that a test would wait for.
        let quick = BreakerSettings {
            probe_pause_ms: 100,
            recovered_ms: 0,
            anomalies_window_s: 2,
            ..BreakerSettings::default()
        };
        let guard = Guard::new(quick, clock::fresh_node_id());
        let payments = Payments::new(PaymentsSetup {
            store: Arc::clone(&store) as Arc<dyn Store>,
            token: Arc::clone(&token) as Arc<dyn Token>,
            transaction_key: token.key(),
            rules: Arc::new(Rules { settlement, ..rules() }),
            core,
            limit: Arc::new(ServingLimit::none()),
            guard: Arc::clone(&guard),
        });
        let mut shopper = agent("purchaser", "shopper");
        shopper.not_after = clock::now().plus_ms(86_400_000);
        Self { _directory: directory, store, token, payments, guard, shopper }
    }

    /// The same bank after its daemon ended and started again.
    pub fn restarted(self, core: Option<Arc<dyn CoreBanking>>) -> Self {
        let Self { _directory, store, token, payments, .. } = self;
        drop((payments, store));
        Self::open(_directory, token, core)
    }

    fn fill(&self) {
        for (account, owner, opening) in [("CHK_001", "OWN_001", "5247.83"), ("SAV_001", "OWN_001", "100")] {
            self.payments.account_open(&ada(), new_account(account, owner, Some(opening))).unwrap();
        }
        let amazon: MerchantId = "amazon.com".parse().unwrap();
        let refuse = countersign::kernel::text::OnHostile::Refuse;
        self.payments.merchant_add(&ada(), amazon.clone(), "Amazon".into(), usd_currency(), false, refuse).unwrap();
        let product = "B08N5WRWNW".parse().unwrap();
        self.payments
            .product_add(
                &ada(),
                amazon,
                product,
                "Laptop computer".into(),
                usd("1899.99"),
                countersign::kernel::text::OnHostile::Refuse,
            )
            .unwrap();
        let record = CertificateRecord {
            id: "crt_1".into(),
            profile: "agent-b".into(),
            subject: self.shopper.spiffe_id.to_string(),
            issuer: self.shopper.bank_issuer.clone(),
            serial: self.shopper.bank_serial.clone(),
            key: self.shopper.key,
            not_after: self.shopper.not_after,
            tbs: vec![1],
            der: None,
        };
        let stamp = Stamp {
            request_id: request(),
            wall: clock::now(),
            boot_ms: 0,
            leaf_salt: [0; 32],
            nonce: None,
            signature: None,
            commit_before: None,
        };
        let actor = Actor::System { component: "test".into() };
        self.store.apply(vec![Command { stamp, actor, act: Act::JournalCertificate { record } }]).unwrap();
        self.grant().unwrap();
    }

    fn grant(&self) -> Result<Value, countersign::ops::failure::Failure> {
        let (account, owner) = ("CHK_001".parse().unwrap(), "OWN_001".parse().unwrap());
        self.payments.grant_add(&ada(), &"shopper".parse().unwrap(), account, owner, VERBS.to_vec(), None, 90)
    }

    pub fn call(&self, call: ToolCall) -> Result<Value, ToolFailure> {
        self.payments.call_tool(&self.shopper, call, request(), RequestProof::default())
    }

    fn authorized(&self, key: &str) -> TransactionId {
        let answer = self.call(buy(key, "1899.99")).unwrap();
        assert_eq!(answer["status"], "approved");
        answer["transaction_id"].as_str().unwrap().parse().unwrap()
    }

    fn execute(&self, transaction: &TransactionId) -> Value {
        self.call(execute(transaction)).unwrap()
    }

    /// The signature over a transaction's batch, verified as a stranger would.
    fn signature(&self, transaction: &TransactionId) -> Option<Vec<u8>> {
        let posted = self.store.posted(transaction).unwrap().unwrap();
        let batch = self.store.batch(posted.batch).unwrap().unwrap();
        let signature = batch.signature?;
        let input = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: batch.document };
        assert!(signature_is_valid(&self.token.key().spki, &input.message(), &signature));
        assert_eq!(batch.key, Some(self.token.key().id));
        Some(signature)
    }
}

fn request() -> RequestId {
    clock::fresh_id("req_").parse().unwrap()
}

fn buy(key: &str, price: &str) -> ToolCall {
    ToolCall::AuthorizePurchase {
        product_id: "B08N5WRWNW".parse().unwrap(),
        price: usd(price),
        merchant: "amazon.com".parse().unwrap(),
        from_account: None,
        idempotency_key: key.parse().unwrap(),
    }
}

fn execute(transaction: &TransactionId) -> ToolCall {
    ToolCall::ExecutePurchase { transaction_id: transaction.clone(), product_id: "B08N5WRWNW".parse().unwrap() }
}

#[test]
fn a_purchase_is_executed_with_a_signed_receipt_and_repeated_without_a_second_signature() {
    let bank = bank();
    let transaction = bank.authorized("k1");
    let before = bank.token.signed.load(Ordering::SeqCst);
    let first = bank.execute(&transaction);
    assert_eq!((&first["status"], &first["receipt"]), (&"executed".into(), &"signed".into()));
    assert_eq!((&first["amount"], &first["repeated"]), (&"1899.99".into(), &false.into()));
    let again = bank.execute(&transaction);
    assert_eq!((&again["transaction_id"], &again["repeated"]), (&first["transaction_id"], &true.into()));
    assert!(bank.signature(&transaction).is_some());
    assert_eq!(bank.token.signed.load(Ordering::SeqCst), before + 1);
}

#[test]
fn without_an_hsm_the_payment_is_posted_and_recovery_signs_the_same_batch() {
    for mood in [Mood::Down, Mood::Lost, Mood::Flipped] {
        let bank = bank();
        let transaction = bank.authorized("k1");
        bank.token.mood(mood);
        let answer = bank.execute(&transaction);
        assert_eq!((&answer["status"], &answer["receipt"]), (&"posted".into(), &"pending".into()));
        assert_eq!(bank.payments.recover().unwrap(), 1);
        assert_eq!(bank.signature(&transaction), None);
        bank.token.mood(Mood::Well);
        assert_eq!(bank.payments.recover().unwrap(), 0);
        assert!(bank.signature(&transaction).is_some());
        let again = bank.execute(&transaction);
        assert_eq!((&again["status"], &again["repeated"]), (&"executed".into(), &true.into()));
    }
}

#[test]
fn a_batch_that_somebody_wrote_into_the_store_is_not_signed() {
    let bank = bank();
    let other = rusqlite::Connection::open(bank._directory.path().join("store.sqlite3")).unwrap();
    let signed = bank.token.signed.load(Ordering::SeqCst);
    let forged = |number: i64| (batch_document(number, &[Sha256([7; 32])], clock::now()).unwrap(), [7_u8; 32]);
    let (document, leaves) = forged(9_000);
    let insert = "INSERT INTO batches (batch, document, leaves) VALUES (9000, ?1, ?2)";
    other.execute(insert, (document, leaves)).unwrap();
    assert_eq!(bank.payments.recover().unwrap(), 1);
    other.execute("DELETE FROM batches WHERE batch = 9000", []).unwrap();

    let transaction = bank.authorized("k1");
    bank.token.mood(Mood::Down);
    bank.execute(&transaction);
    bank.token.mood(Mood::Well);
    let number: i64 =
        other.query_row("SELECT batch FROM batches WHERE signature IS NULL", [], |row| row.get(0)).unwrap();
    let (document, leaves) = forged(number);
    let whole = "SELECT document, leaves FROM batches WHERE batch = ?1";
    let own: (Vec<u8>, Vec<u8>) = other.query_row(whole, [number], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let change = "UPDATE batches SET document = ?1, leaves = ?2 WHERE batch = ?3";
    for (document, leaves) in [(document.clone(), leaves.to_vec()), (document, own.1.clone())] {
        other.execute(change, (document, leaves, number)).unwrap();
        assert_eq!(bank.payments.recover().unwrap(), 1);
        // Seen for the second time: looked at again, and refused again.
        bank.payments.recover_left().unwrap();
        bank.payments.recover_left().unwrap();
        assert_eq!(bank.signature(&transaction), None);
    }
    assert_eq!(bank.token.signed.load(Ordering::SeqCst), signed);
    other.execute(change, (own.0, own.1, number)).unwrap();
    bank.payments.recover_left().unwrap();
    assert!(bank.signature(&transaction).is_some());
}

/// Whoever has the database exchanges statements, leaves and document alike, in the very commit that wrote them.
#[test]
fn a_batch_that_is_exchanged_between_its_commit_and_its_signature_is_not_signed() {
    let bank = bank();
    let other = rusqlite::Connection::open(bank._directory.path().join("store.sqlite3")).unwrap();
    let before = bank.authorized("k0");
    bank.execute(&before);
    let number = bank.store.posted(&before).unwrap().unwrap().batch + 1;
    let transaction = bank.authorized("k1");
    let signed = bank.token.signed.load(Ordering::SeqCst);

    let forged = br#"{"amount_minor":"1"}"#;
    let leaf = leaf_hash(forged);
    let document = batch_document(number, &[leaf], clock::now()).unwrap();
    let trigger = format!(
        "CREATE TABLE kept (statement, document, leaves);
         CREATE TRIGGER forged AFTER INSERT ON batches BEGIN
           INSERT INTO kept SELECT statement, NEW.document, NEW.leaves FROM transactions WHERE batch = NEW.batch;
           UPDATE transactions SET statement = x'{}' WHERE batch = NEW.batch;
           UPDATE batches SET document = x'{}', leaves = x'{}' WHERE batch = NEW.batch; END",
        hex::encode(forged),
        hex::encode(document),
        leaf.hex(),
    );
    other.execute_batch(&trigger).unwrap();
    let answer = bank.execute(&transaction);
    assert_eq!((&answer["status"], &answer["receipt"]), (&"posted".into(), &"pending".into()));
    assert_eq!(bank.payments.recover().unwrap(), 1);
    assert_eq!(bank.token.signed.load(Ordering::SeqCst), signed);

    let back = "DROP TRIGGER forged;
        UPDATE transactions SET statement = (SELECT statement FROM kept) WHERE batch = (SELECT max(batch) FROM batches);
        UPDATE batches SET (document, leaves) = (SELECT document, leaves FROM kept)
          WHERE batch = (SELECT max(batch) FROM batches)";
    other.execute_batch(back).unwrap();
    assert_eq!(bank.payments.recover().unwrap(), 0);
    assert!(bank.signature(&transaction).is_some());
}

#[test]
fn what_an_earlier_run_left_is_signed_when_its_time_has_come_and_only_as_its_transactions_say() {
    let bank = bank();
    let transaction = bank.authorized("k1");
    bank.token.mood(Mood::Down);
    bank.execute(&transaction);
    let bank = bank.restarted(None);
    bank.token.mood(Mood::Well);
    let signed = bank.token.signed.load(Ordering::SeqCst);
    bank.payments.keep_found();
    assert_eq!(bank.payments.recover().unwrap(), 1);
    let again = bank.execute(&transaction);
    assert_eq!((&again["status"], &again["receipt"]), (&"posted".into(), &"pending".into()));
    assert_eq!(bank.token.signed.load(Ordering::SeqCst), signed);

    bank.payments.sign_found();
    let other = rusqlite::Connection::open(bank._directory.path().join("store.sqlite3")).unwrap();
    let number = bank.store.posted(&transaction).unwrap().unwrap().batch;
    let forged = batch_document(number, &[Sha256([7; 32])], clock::now()).unwrap();
    let change = "UPDATE batches SET document = ?1, leaves = ?2 WHERE batch = ?3";
    let whole = "SELECT document, leaves FROM batches WHERE batch = ?1";
    let own: (Vec<u8>, Vec<u8>) = other.query_row(whole, [number], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    other.execute(change, (forged, [7_u8; 32], number)).unwrap();
    assert_eq!(bank.payments.recover().unwrap(), 1);
    assert_eq!(bank.token.signed.load(Ordering::SeqCst), signed);
    other.execute(change, (own.0, own.1, number)).unwrap();
    assert_eq!(bank.payments.recover().unwrap(), 0);
    assert!(bank.signature(&transaction).is_some());
}

#[test]
fn callers_of_one_batch_sign_it_once() {
    let bank = bank();
    let transaction = bank.authorized("k1");
    bank.token.mood(Mood::Down);
    bank.execute(&transaction);
    bank.token.mood(Mood::Well);
    let before = bank.token.signed.load(Ordering::SeqCst);
    let together = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                together.wait();
                assert_eq!(bank.execute(&transaction)["receipt"], "signed");
            });
        }
    });
    assert_eq!(bank.token.signed.load(Ordering::SeqCst), before + 1);
}

#[test]
fn refused_acts_are_answers_and_refused_reads_are_failures() {
    let bank = bank();
    let denied = bank.call(buy("k1", "1")).unwrap();
    assert_eq!((&denied["status"], &denied["reason"]), (&"denied".into(), &"price_changed".into()));
    assert!(denied["next_step"].is_string() && denied["message"].is_string());
    let read = ToolCall::GetAccountBalance { account_id: "SAV_001".parse().unwrap() };
    assert_eq!(bank.call(read), Err(ToolFailure::Refused(Refusal::AccountNotGranted)));
    let read = ToolCall::GetAccountBalance { account_id: "CHK_001".parse().unwrap() };
    let answer = bank.call(read).unwrap();
    assert_eq!((&answer["balance"], &answer["currency"]), (&"5247.83".into(), &"USD".into()));
}

#[test]
fn an_approved_reversal_is_executed_with_a_signed_receipt() {
    let bank = bank();
    let transaction = bank.authorized("k1");
    bank.execute(&transaction);
    let reversal =
        ToolCall::RequestReversal { transaction_id: transaction, amount: None, idempotency_key: "k2".parse().unwrap() };
    let answer = bank.call(reversal).unwrap();
    assert_eq!(answer["status"], "requires_approval");
    let approval: ApprovalId = answer["approval_id"].as_str().unwrap().parse().unwrap();
    let decide = |who: &OperatorPrincipal| {
        bank.payments.approvals_decide(who, approval.clone(), Side::Bank, Verdict::Approve, "ok".into(), None)
    };
    assert_eq!(decide(&ada()).unwrap_err().name, "operator_not_permitted");
    let decided = decide(&operator("bob", &["approver"])).unwrap();
    assert_eq!((&decided["status"], &decided["receipt"]), (&"executed".into(), &"signed".into()));
    assert_eq!(decide(&operator("bob", &["approver"])).unwrap_err().name, "already_decided");
    let shown = bank.payments.approvals_show(&ada(), &approval).unwrap();
    assert_eq!((&shown["status"], &shown["decided_by"]), (&"executed".into(), &"bob".into()));
}

#[test]
fn operators_are_told_what_changed_and_what_is_refused() {
    let bank = bank();
    assert_eq!(bank.grant().unwrap()["changed"], false);
    let pay = |reference: &str, amount| {
        let (account, reference) = ("CHK_001".parse().unwrap(), reference.parse().unwrap());
        bank.payments.account_incoming(&ada(), account, amount, None, reference)
    };
    assert_eq!(pay("r1", "6000").unwrap()["receipt"], "signed");
    assert_eq!(pay("r1", "6000").unwrap()["changed"], false);
    assert_eq!(pay("r1", "6001").unwrap_err().name, "idempotency_key_reused");
    let nobody = "nobody".parse().unwrap();
    let unknown = bank.payments.grant_revoke(&ada(), &nobody, "CHK_001".parse().unwrap()).unwrap_err();
    assert_eq!(unknown.name, "unknown_agent");
    let without_role = operator("eve", &[]);
    assert_eq!(bank.payments.list(&without_role, Listing::Accounts).unwrap_err().name, "operator_not_permitted");
    let grants = bank.payments.list(&ada(), Listing::Grants).unwrap();
    assert_eq!((&grants["items"][0]["entered_by"], &grants["items"][0]["asserted"]), (&"ada".into(), &true.into()));
    assert_eq!(bank.payments.ledger_check(&ada(), &mut |_| {}).unwrap()["ok"], true);
    assert_eq!(bank.payments.sweep().unwrap(), 0);
}

#[test]
fn a_tampered_balance_is_found_by_the_ledger_check() {
    let bank = bank();
    let path = bank._directory.path().join("store.sqlite3");
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute("UPDATE accounts SET balance = balance + 1 WHERE name = 'CHK_001'", []).unwrap();
    let checked = bank.payments.ledger_check(&ada(), &mut |_| {}).unwrap();
    assert_eq!(checked["ok"], false);
    assert_eq!(
        (&checked["differences"][0]["check"], &checked["differences"][0]["on"]),
        (&"balance".into(), &"CHK_001".into())
    );
}

#[test]
fn a_payment_with_a_fee_is_two_lines_of_a_statement_wherever_a_page_ends() {
    let bank = bank();
    let fixed = usd("0.25");
    let fees = vec![FeeRule { kind: TransactionKind::Purchase, fixed, basis_points: 0 }];
    bank.payments.replace_rules(Arc::new(Rules { fees, ..rules() }));
    let amazon: MerchantId = "amazon.com".parse().unwrap();
    // One costs what its fee is.
    for (product, price) in [("PEN", "0.25"), ("BOOK", "12.00")] {
        let product: ProductId = product.parse().unwrap();
        bank.payments
            .product_add(
                &ada(),
                amazon.clone(),
                product.clone(),
                "Thing".into(),
                usd(price),
                countersign::kernel::text::OnHostile::Refuse,
            )
            .unwrap();
        let authorize = ToolCall::AuthorizePurchase {
            product_id: product.clone(),
            price: usd(price),
            merchant: amazon.clone(),
            from_account: None,
            idempotency_key: product.as_str().parse().unwrap(),
        };
        let transaction_id = bank.call(authorize).unwrap()["transaction_id"].as_str().unwrap().parse().unwrap();
        bank.call(ToolCall::ExecutePurchase { transaction_id, product_id: product }).unwrap();
    }
    for limit in [1, 2, 3, 100] {
        let (mut lines, mut before) = (vec![], None);
        loop {
            let account = "CHK_001".parse().unwrap();
            let call = DeskCall::AccountStatement { account, from: None, to: None, before, limit };
            let mut page = bank.payments.desk(&ada(), call).unwrap();
            lines.extend(page["items"].as_array().unwrap().iter().map(|line| {
                ["amount", "description", "counterparty"].map(|member| line[member].as_str().unwrap().to_owned())
            }));
            before = serde_json::from_value(page["next"].take()).unwrap();
            if before.is_none() {
                break;
            }
        }
        let expected = [
            ["-0.25", "fee", "fees:USD"],
            ["-12.00", "BOOK", "merchant:amazon.com"],
            ["-0.25", "fee", "fees:USD"],
            ["-0.25", "PEN", "merchant:amazon.com"],
            ["5247.83", "", "clearing:USD"],
        ];
        assert_eq!(lines, expected, "pages of {limit}");
    }
}

fn breaker_of(bank: &Bank) -> Value {
    bank.payments.stopped().unwrap()
}

/// Gives the breaker turns until it is closed, as the daemon does.
fn closed_by_turns(bank: &Bank, hsm: Reached) {
    crate::crash::until("the breaker closes", || {
        bank.payments.breaker_turn(hsm).unwrap();
        (breaker_of(bank)["state"] == "closed").then_some(())
    });
}

#[test]
fn slow_commits_stop_this_node_and_fast_ones_of_its_own_let_it_go_on() {
    let bank = bank();
    let desk = |call| bank.payments.desk(&ada(), call).unwrap();
    bank.payments.breaker_turn(Reached::Yes).unwrap();
    assert_eq!(breaker_of(&bank)["state"], "closed");
    for _ in 0..2_048 {
        bank.guard.committed(std::time::Duration::from_secs(60));
    }
    bank.payments.breaker_turn(Reached::Yes).unwrap();
    let stopped = breaker_of(&bank);
    assert_eq!(
        (&stopped["state"], &stopped["causes"][0]["cause"]),
        (&"open".into(), &"store_slow".into()),
        "{stopped}"
    );
    assert_eq!(stopped["causes"][0]["reach"], "node");
    // Nothing of it is a row: another daemon of this bank goes on.
    assert_eq!(bank.store.listing(Listing::Breaker).unwrap()[0]["stopped"], false);
    let call = || ToolCall::AuthorizeTransfer {
        from_account: Some("CHK_001".parse().unwrap()),
        to_account: "SAV_001".parse().unwrap(),
        amount: usd("5"),
        idempotency_key: "slow".parse().unwrap(),
    };
    let ask =
        || bank.payments.call_tool(&bank.shopper, call(), clock::fresh_request_id(), RequestProof::default()).unwrap();
    let queued = ask();
    assert_eq!(queued["status"], "queued_manual", "{queued}");
    // A person's stop as well: what heals by itself leaves it.
    desk(DeskCall::BankStop { reason: "drill".into() });
    crate::crash::until("the node's cause goes", || {
        bank.payments.breaker_turn(Reached::Yes).unwrap();
        (breaker_of(&bank)["causes"].as_array().unwrap().len() == 1).then_some(())
    });
    assert_eq!(breaker_of(&bank)["causes"][0]["cause"], "operator");
    let resumed = desk(DeskCall::BankResume { causes: vec![Cause::Operator] });
    assert_eq!((&resumed["state"], &resumed["changed"]), (&"closed".into(), &true.into()));
    assert_eq!(ask()["case_id"], queued["case_id"], "it waits for a person now");
}

#[test]
fn many_agents_with_alerts_stop_the_bank_one_does_not_and_a_restart_forgets_neither() {
    let mut bank = bank();
    for _ in 0..100 {
        bank.guard.alerted(&bank.shopper.spiffe_id);
    }
    bank.payments.breaker_turn(Reached::Yes).unwrap();
    assert_eq!(breaker_of(&bank)["state"], "closed");
    for number in 0..20 {
        bank.guard.alerted(&agent("purchaser", &format!("odd-{number}")).spiffe_id);
    }
    bank.payments.breaker_turn(Reached::Yes).unwrap();
    assert_eq!(bank.store.listing(Listing::Breaker).unwrap()[0]["causes"][0]["cause"], "anomalies");
    bank = bank.restarted(None);
    assert_eq!(breaker_of(&bank)["state"], "open", "it is the bank's, not the node's");
    bank.payments.breaker_turn(Reached::Yes).unwrap();
    // A node that has seen nothing itself probes it and, when it is quiet, lifts it.
    closed_by_turns(&bank, Reached::Yes);
    assert_eq!(bank.store.listing(Listing::Breaker).unwrap()[0]["stopped"], false);
}

#[test]
fn an_hsm_that_blinks_stops_nothing_and_only_the_right_people_lift_causes() {
    let bank = bank();
    let desk = |call| bank.payments.desk(&ada(), call).unwrap();
    bank.guard.saw(Seen::Hsm(Reached::No));
    bank.payments.breaker_turn(Reached::No).unwrap();
    assert_eq!(breaker_of(&bank)["state"], "closed", "a blink is none");
    let auditor = operator("eve", &["auditor"]);
    let by_auditor = bank.payments.desk(&auditor, DeskCall::BankResume { causes: vec![Cause::HsmDown] });
    assert_eq!(by_auditor.unwrap_err().name, "operator_not_permitted");
    let nothing = desk(DeskCall::BankResume { causes: vec![Cause::HsmDown] });
    assert_eq!((&nothing["changed"], &nothing["state"]), (&false.into(), &"closed".into()));
}
