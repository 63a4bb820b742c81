//! Authorizing: every rule refuses by its own name, and of two that are broken the earlier one speaks.

use std::sync::Arc;

use super::steps::money;
use crate::store::world::*;
use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::ledger::{AccountStatus, FeeRule, TransactionKind};
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;

/// A request that breaks no rule, and the ways in which rows of the tables spoil it.
struct Request {
    agent: AgentPrincipal,
    from: Option<&'static str>,
    to: &'static str,
    minor: i64,
    currency: &'static str,
    rules: Rules,
}

fn good() -> Request {
    Request { agent: shopper(), from: Some("CHK_001"), to: "SAV_001", minor: 500, currency: "USD", rules: rules() }
}

impl Request {
    fn ask(&self, w: &World<'_>) -> Outcome {
        let call = ToolCall::AuthorizeTransfer {
            from_account: self.from.map(|from| from.parse().unwrap()),
            to_account: self.to.parse().unwrap(),
            amount: money(self.minor, self.currency),
            idempotency_key: w.id("k").parse().unwrap(),
        };
        let act = Act::Tool { call, rules: Arc::new(self.rules.clone()), fresh: w.fresh(), risk: None };
        w.decision(Actor::Agent(self.agent.clone()), act).outcome
    }
}

/// The bank of the other sentences, and what the rows need: agents with narrow grants, accounts with limits.
fn bank(w: &World<'_>) {
    w.bank();
    let read_only = agent("purchaser", "reader");
    w.admin(grant(&read_only, "CHK_001", &[Verb::Read])).unwrap();
    let viewer = agent("viewer", "viewer");
    w.admin(grant(&viewer, "FROZEN", EVERY_VERB)).unwrap_err();
    for (name, day_max) in [("FROZEN", None), ("LIMITED", Some("30")), ("POOR", None)] {
        let opening = if name == "POOR" { "4.99" } else { "100" };
        let new = NewAccount { day_max: day_max.map(usd), ..new_account(name, "OWN_001", Some(opening)) };
        w.admin(Act::OpenAccount(new)).unwrap();
        w.admin(grant(&shopper(), name, EVERY_VERB)).unwrap();
        w.admin(grant(&viewer, name, EVERY_VERB)).unwrap();
    }
    let freeze =
        Act::SetAccountStatus { account: "FROZEN".parse().unwrap(), status: AccountStatus::Frozen, reason: "r".into() };
    w.admin(freeze).unwrap();
    let Act::AddGrant { agent, account, owner, verbs, expires, .. } =
        grant(&agent("purchaser", "capped"), "CHK_001", EVERY_VERB)
    else {
        panic!()
    };
    let per_transaction_max = Some(usd("10"));
    w.admin(Act::AddGrant { agent, account, owner, verbs, per_transaction_max, expires }).unwrap();
}

#[test]
pub fn each_rule_refuses_by_its_name_and_the_earlier_of_two_neighbours_speaks() {
    on_every_store(|w| {
        bank(w);
        let revoked = agent("purchaser", "revoked");
        w.admin(grant(&revoked, "CHK_001", EVERY_VERB)).unwrap();
        let target = RevocationTarget::Agent(revoked.spiffe_id.clone());
        w.admin(Act::Revoke { target, reason: "lost".into() }).unwrap();
        let expired = |agent: AgentPrincipal| AgentPrincipal { not_after: UnixMillis(START - 1), ..agent };
        let crl = || Rules { company_crl_required: true, ..rules() };
        let ceiling = |max: &str| Rules { deny_above: Some(usd(max)), ..rules() };
        let no_holds = || Rules { open_holds_max: 0, ..rules() };
        let stranger = agent("purchaser", "stranger");
        let reader = agent("purchaser", "reader");
        let viewer = agent("viewer", "viewer");
        let capped = agent("purchaser", "capped");
        use Refusal::*;
        // Each row breaks its own rule and its neighbour's: the next row's.
        let table: Vec<(&str, Request, Refusal)> = vec![
            ("revoked, expired", Request { agent: expired(revoked.clone()), ..good() }, AgentRevoked),
            (
                "expired, no CRL",
                Request { agent: expired(stranger.clone()), rules: crl(), ..good() },
                InvalidCertificate,
            ),
            ("no CRL, no grant", Request { agent: stranger.clone(), rules: crl(), ..good() }, EndorsementStatusStale),
            (
                "no grant of an account, no such role",
                Request { agent: agent("nobody", "x"), ..good() },
                AccountNotGranted,
            ),
            ("unknown account alike", Request { from: Some("NONE"), ..good() }, AccountNotGranted),
            (
                "no verb, no tool",
                Request { agent: reader, rules: Rules { role_tools: Default::default(), ..rules() }, ..good() },
                VerbNotGranted,
            ),
            (
                "no account left out fits, no tool",
                Request { agent: agent("nobody", "x"), from: None, ..good() },
                AccountNotGranted,
            ),
            (
                "several left out fit, no tool",
                Request { from: None, rules: Rules { role_tools: Default::default(), ..rules() }, ..good() },
                GrantAmbiguous,
            ),
            ("no tool, frozen", Request { agent: viewer, from: Some("FROZEN"), ..good() }, ToolDenied),
            ("frozen, no amount", Request { from: Some("FROZEN"), minor: 0, ..good() }, AccountNotActive),
            ("no amount, other currency", Request { minor: 0, currency: "EUR", ..good() }, AmountNotPositive),
            ("negative amount, other currency", Request { minor: -500, currency: "EUR", ..good() }, AmountNotPositive),
            ("other currency, itself", Request { currency: "EUR", to: "CHK_001", ..good() }, CurrencyMismatch),
            ("itself, above the ceiling", Request { to: "CHK_001", rules: ceiling("1"), ..good() }, SameAccount),
            ("nobody, above the ceiling", Request { to: "NONE", rules: ceiling("1"), ..good() }, UnknownDestination),
            ("a frozen destination alike", Request { to: "FROZEN", rules: ceiling("1"), ..good() }, UnknownDestination),
            ("an inner account alike", Request { to: "merchant.amazon.com", ..good() }, UnknownDestination),
            (
                "owner's ceiling, bank's ceiling",
                Request { agent: capped.clone(), minor: 1_001, rules: ceiling("1"), ..good() },
                GrantLimitExceeded,
            ),
            (
                "bank's ceiling, account's day",
                Request { from: Some("LIMITED"), minor: 3_001, rules: ceiling("30"), ..good() },
                AboveHardCeiling,
            ),
            (
                "account's day, open holds",
                Request { from: Some("LIMITED"), minor: 3_001, rules: no_holds(), ..good() },
                AccountDayLimitExceeded,
            ),
            ("open holds, funds", Request { from: Some("POOR"), rules: no_holds(), ..good() }, TooManyOpenHolds),
            (
                "funds, soft limits",
                Request {
                    from: Some("POOR"),
                    rules: Rules { unattended_per_transaction: usd("1"), ..rules() },
                    ..good()
                },
                InsufficientFunds,
            ),
        ];
        for (row, request, refused) in table {
            assert_eq!(request.ask(w), Err(refused), "{row}");
        }
        // At each limit and not above it.
        for request in [
            good(),
            Request { from: Some("LIMITED"), minor: 3_000, rules: ceiling("30"), ..good() },
            Request { from: Some("POOR"), minor: 499, ..good() },
            Request { agent: capped, minor: 1_000, ..good() },
        ] {
            assert!(matches!(request.ask(w), Ok(Effect::Approved { .. })));
        }
        w.adds_up();
    });
}

#[test]
pub fn a_stopped_bank_speaks_before_grants_and_after_keys_and_revocation() {
    on_every_store(|w| {
        bank(w);
        let known = transfer("5", "known");
        let first = w.call(known.clone());
        w.admin(Act::SetBreaker { cause: Cause::Operator, reason: Some("drill".into()), node: None }).unwrap();
        assert_eq!(w.call(known), first, "an answer that was given stays given");
        assert_eq!(w.call(transfer("6", "known")), Err(Refusal::IdempotencyKeyReused));
        let stranger = Request { agent: agent("purchaser", "stranger"), ..good() };
        assert!(matches!(stranger.ask(w), Ok(Effect::QueuedManual { .. })));
        let full = Request { rules: Rules { open_holds_max: 0, ..rules() }, ..good() };
        assert_eq!(full.ask(w), Err(Refusal::BreakerOpen));
        w.revoke_shopper().unwrap();
        assert_eq!(good().ask(w), Err(Refusal::AgentRevoked));
        assert_eq!(w.call(transfer("5", "known")), Err(Refusal::AgentRevoked));
    });
}

#[test]
pub fn a_fee_is_held_with_the_amount_counts_for_the_account_and_not_for_the_agent() {
    on_every_store(|w| {
        bank(w);
        let fee = FeeRule { kind: TransactionKind::Transfer, fixed: usd("0.50"), basis_points: 100 };
        let with_fee = || Rules { fees: vec![fee.clone()], ..rules() };
        // 4.99 pays 4.44 and its fee of 0.54, not 4.45 and 0.54.
        for (minor, refused) in [(499, true), (446, true), (445, false)] {
            let outcome = Request { from: Some("POOR"), minor, rules: with_fee(), ..good() }.ask(w);
            assert_eq!(outcome == Err(Refusal::InsufficientFunds), refused, "{minor}: {outcome:?}");
        }
        assert_eq!(w.balance("POOR"), ("4.99".into(), "4.99".into()));
        // 30.00 a day: 29.21 and 0.79 fill it.
        for (minor, refused) in [(2_930, true), (2_922, true), (2_921, false), (1, true)] {
            let outcome = Request { from: Some("LIMITED"), minor, rules: with_fee(), ..good() }.ask(w);
            assert_eq!(outcome == Err(Refusal::AccountDayLimitExceeded), refused, "{minor}: {outcome:?}");
        }
        // The agent's unattended day counts amounts: 4.45 and 29.21 are spent.
        let rest = |minor| {
            let limits = Rules { unattended_per_day: money(3_366 + 100, "USD"), ..with_fee() };
            Request { minor, rules: limits, ..good() }.ask(w)
        };
        assert!(matches!(rest(101), Ok(Effect::RequiresApproval { .. })));
        assert!(matches!(rest(100), Ok(Effect::Approved { .. })));
        w.adds_up();
    });
}

#[test]
pub fn sums_that_do_not_fit_are_refused_before_anything_is_held() {
    on_every_store(|w| {
        bank(w);
        let huge = |fixed: i64, basis_points| Rules {
            deny_above: None,
            fees: vec![FeeRule { kind: TransactionKind::Transfer, fixed: money(fixed, "USD"), basis_points }],
            ..rules()
        };
        for (minor, rules, refused) in [
            (i64::MAX, huge(1, 0), Refusal::AmountTooLarge),
            (i64::MAX, huge(0, 1), Refusal::AmountTooLarge),
            (i64::MAX, huge(0, u32::MAX), Refusal::AmountTooLarge),
            (i64::MAX, huge(i64::MAX, 10_000), Refusal::AmountTooLarge),
            (i64::MAX, huge(0, 0), Refusal::InsufficientFunds),
            (i64::MAX - 1, huge(1, 0), Refusal::InsufficientFunds),
            (i64::MIN, huge(i64::MAX, 0), Refusal::AmountNotPositive),
        ] {
            assert_eq!(Request { minor, rules, ..good() }.ask(w), Err(refused), "{minor}");
        }
        assert_eq!(w.balance("CHK_001").1, "0.00");
    });
}

#[test]
pub fn an_overdraft_is_spent_to_its_last_unit_and_no_further() {
    on_every_store(|w| {
        w.bank();
        let new = NewAccount { overdraft: Some(usd("50")), ..new_account("LINE", "OWN_001", Some("10")) };
        w.admin(Act::OpenAccount(new)).unwrap();
        w.admin(grant(&shopper(), "LINE", EVERY_VERB)).unwrap();
        let from_line = |amount: &str, key: &str| transfer_to(Some("LINE"), "SAV_001", amount, key);
        assert_eq!(w.call(from_line("60.01", "a")), Err(Refusal::InsufficientFunds));
        let id = w.approved(from_line("60", "b"));
        assert_eq!(w.call(from_line("0.01", "c")), Err(Refusal::InsufficientFunds));
        w.posted(execute_transfer(&id, "SAV_001", "60"));
        assert_eq!(w.balance("LINE").0, "-50.00");
        assert_eq!(w.call(from_line("0.01", "d")), Err(Refusal::InsufficientFunds));
        w.admin(incoming("LINE", "0.01", "r")).unwrap();
        w.approved(from_line("0.01", "e"));
        w.adds_up();
    });
}

#[test]
pub fn a_nonce_is_taken_by_whatever_comes_of_its_request_and_refuses_before_every_rule() {
    on_every_store(|w| {
        bank(w);
        let ask = |nonce: u8, call: ToolCall| {
            let mut command = w.tool_command(&shopper(), call);
            command.stamp.nonce = Some(Sha256([nonce; 32]));
            w.store.apply(vec![command]).unwrap().pop().unwrap()
        };
        assert!(ask(1, transfer("5", "a")).outcome.is_ok());
        assert_eq!(ask(2, transfer("999999", "b")).outcome, Err(Refusal::AboveHardCeiling));
        assert_eq!(ask(3, transfer("6", "a")).outcome, Err(Refusal::IdempotencyKeyReused));
        for (nonce, call) in
            [(1, transfer("5", "a")), (1, transfer("5", "c")), (2, transfer("5", "d")), (3, balance_of("CHK_001"))]
        {
            let again = ask(nonce, call);
            assert_eq!(again.outcome, Err(Refusal::NonceReplayed), "{nonce}");
            assert!(again.leaf.is_some(), "a replay is on record");
        }
        // A nonce is its request's, whoever asks; and it lasts over midnight.
        let mut stolen = w.tool_command(&agent("purchaser", "stranger"), transfer("5", "x"));
        stolen.stamp.nonce = Some(Sha256([1; 32]));
        assert_eq!(w.store.apply(vec![stolen]).unwrap()[0].outcome, Err(Refusal::NonceReplayed));
        w.later(DAY_MS);
        assert_eq!(ask(1, transfer("5", "y")).outcome, Err(Refusal::NonceReplayed));
        w.revoke_shopper().unwrap();
        assert_eq!(ask(1, transfer("5", "z")).outcome, Err(Refusal::NonceReplayed));
    });
}

#[test]
pub fn a_score_holds_or_refuses_where_the_monitor_enforces_and_stands_in_the_leaf() {
    use countersign::kernel::monitor::{Ahead, Assessment, Consequence, Mode, Told, What};
    let said = |asks, mode| Assessment {
        ahead: Ahead { minor: 250, payments: 1 },
        asks,
        from: 0,
        limit_minor: Some(200_000),
        mode,
        own: None,
        reasons: vec![],
        rules: "0123456789abcdef".into(),
        score: 480,
        seen: 7,
    };
    let table = [
        (Consequence::Allow, Mode::Enforce, Ok("approved")),
        (Consequence::Approval, Mode::Enforce, Ok("requires_approval")),
        (Consequence::Freeze, Mode::Enforce, Err(Refusal::RiskFrozen)),
        (Consequence::Approval, Mode::Observe, Ok("approved")),
        (Consequence::Freeze, Mode::Observe, Ok("approved")),
    ];
    on_every_store(|w| {
        w.bank();
        for (row, (asks, mode, expected)) in table.into_iter().enumerate() {
            let mut command = w.tool_command(&shopper(), transfer("5", &format!("risk-{row}")));
            let Act::Tool { risk, .. } = &mut command.act else { panic!() };
            *risk = Some(Box::new(said(asks, mode)));
            let decision = w.store.apply(vec![command]).unwrap().pop().unwrap();
            let came = decision.outcome.map(|effect| match effect {
                Effect::Approved { .. } => "approved",
                Effect::RequiresApproval { .. } => "requires_approval",
                other => panic!("{other:?}"),
            });
            assert_eq!(came, expected, "{asks:?} {mode:?}");
            let leaf = w.store.leaf(decision.leaf.unwrap().row).unwrap().unwrap();
            let told = Told::of(leaf.body().unwrap()).unwrap();
            let What::Call { assessment, event, .. } = told.what else { panic!() };
            assert_eq!(assessment, Some(said(asks, mode)), "every word of it can be read again");
            assert_eq!((event.limit_minor, event.ahead.payments), (Some(200_000), 1));
        }
    });
}
