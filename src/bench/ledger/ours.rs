//! The product's own store under the same load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Engine, OPENING_MINOR, Transfer, out_of_balance};
use crate::bench::stop::Stop;
use crate::kernel::command::{
    Act, Actor, AgentPrincipal, Command, Effect, FreshIds, NewAccount, OperatorPrincipal, Rules, Settlement, ToolCall,
    Verb,
};
use crate::kernel::policy::merchants::MerchantList;
use crate::kernel::policy::transaction::TransactionRules;
use crate::kernel::types::{
    AccountId, Currency, IdempotencyKey, Malformed, Money, Serial, Sha256, SpiffeId, UnixMillis,
};
use crate::kernel::zone::Zone;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::Store;

/// Commands of one call while accounts are opened and history is made.
const SETTING_UP: usize = 256;
/// Days over which history is spread: keys are kept by day.
const HISTORY_DAYS: u64 = 30;
/// Callers who make history.
const HISTORY_CALLERS: u64 = 4;
/// Between two lines of progress while history is made.
const HISTORY_STEPS: u64 = 10;
const DAY_MS: i64 = 86_400_000;
/// The agent's authority and its certificates last longer than any run.
const LASTING_MS: i64 = 365 * DAY_MS;

/// A store with accounts, and an agent who may move the money of all of them.
pub struct Ours {
    store: Arc<dyn Store>,
    accounts: Vec<AccountId>,
    currency: Currency,
    agent: AgentPrincipal,
    rules: Arc<Rules>,
    /// History so far: each row has a key of its own.
    made: AtomicU64,
}

impl Ours {
    /// Opens the accounts. Each has a daily limit, so that each transfer counts towards one.
    ///
    /// # Errors
    /// What the store says.
    pub fn set_up(store: Arc<dyn Store>, accounts: u32) -> Result<Self, Failure> {
        let currency: Currency = "USD".parse().map_err(unnameable)?;
        let accounts: Vec<AccountId> = (0..accounts)
            .map(|number| format!("ACC_{number}").parse())
            .collect::<Result<_, _>>()
            .map_err(unnameable)?;
        let agent = agent().map_err(unnameable)?;
        let rules = Arc::new(rules(&agent, currency));
        let ours = Self { store, accounts, currency, agent, rules, made: AtomicU64::new(0) };
        let opening = ours.money(OPENING_MINOR);
        let expires = clock::now().plus_ms(LASTING_MS);
        let open = |account: &AccountId| -> Result<[Act; 2], Malformed> {
            let (account, owner) = (account.clone(), "OWN_1".parse()?);
            let new = NewAccount {
                account: account.clone(),
                owner,
                currency,
                opening: Some(opening),
                overdraft: None,
                day_max: Some(opening),
                zone: Zone::UTC,
            };
            let grant = Act::AddGrant {
                agent: ours.agent.spiffe_id.clone(),
                account,
                owner: "OWN_1".parse()?,
                verbs: vec![Verb::Transfer],
                per_transaction_max: None,
                expires,
            };
            Ok([Act::OpenAccount(new), grant])
        };
        let officer = Actor::Operator(OperatorPrincipal {
            name: "bench".parse().map_err(unnameable)?,
            uid: 0,
            roles: vec!["administrator".into(), "officer".into()],
            asserted: false,
            owner: None,
        });
        for some in ours.accounts.chunks(SETTING_UP) {
            let acts: Vec<[Act; 2]> = some.iter().map(open).collect::<Result<_, _>>().map_err(unnameable)?;
            ours.permitted(acts.into_iter().flatten().map(|act| command(officer.clone(), act)).collect())?;
        }
        Ok(ours)
    }

    /// The same book through another store over the same database.
    pub fn beside(&self, store: Arc<dyn Store>) -> Self {
        Self {
            store,
            accounts: self.accounts.clone(),
            currency: self.currency,
            agent: self.agent.clone(),
            rules: Arc::clone(&self.rules),
            made: AtomicU64::new(0),
        }
    }

    /// How long the body of a transfer's leaf is.
    ///
    /// # Errors
    /// What the store says.
    pub fn leaf_bytes(&self) -> Result<usize, Failure> {
        let key = clock::random::<32>();
        let transfer = Transfer { key, debit: 0, credit: 1, minor: 1, day: 0 };
        let decisions = self.store.apply(vec![self.booking(&transfer, clock::now())?])?;
        let leaf = decisions.first().and_then(|decision| decision.leaf).map(|leaf| self.store.leaf(leaf.row));
        let leaf = leaf.transpose()?.flatten();
        let length = leaf.and_then(|leaf| leaf.body().map(<[u8]>::len));
        length.ok_or_else(|| out_of_balance("a transfer has no leaf"))
    }

    /// What the account has that everybody pays when there is a hot merchant.
    ///
    /// # Errors
    /// What the store says.
    pub fn merchant_minor(&self) -> Result<i64, Failure> {
        let account = self.store.account(self.accounts[0].as_str())?;
        account.map(|account| account.balance).ok_or_else(|| out_of_balance("an account is gone"))
    }

    /// Whole payments of the agent: authorized, then executed.
    ///
    /// # Errors
    /// What the store says; a refused payment is a failure here.
    pub fn pay(&self, transfers: Vec<Transfer>) -> Result<(), Failure> {
        let mut authorized = Vec::with_capacity(transfers.len());
        for transfer in &transfers {
            authorized.push(self.tool(ToolCall::AuthorizeTransfer {
                from_account: Some(self.account(transfer.debit)),
                to_account: self.account(transfer.credit),
                amount: self.money(transfer.minor),
                idempotency_key: idempotency_key(&transfer.key).map_err(unnameable)?,
            })?);
        }
        let mut executed = Vec::with_capacity(transfers.len());
        for (transfer, effect) in transfers.iter().zip(self.permitted(authorized)?) {
            let Effect::Approved { transaction_id, .. } = effect else {
                return Err(out_of_balance("an agent's payment was not approved at once"));
            };
            executed.push(self.tool(ToolCall::ExecuteTransfer {
                transaction_id,
                from_account: None,
                to_account: self.account(transfer.credit),
                amount: self.money(transfer.minor),
            })?);
        }
        moved(self.permitted(executed)?)
    }

    /// Makes so many rows of history over the past days.
    ///
    /// # Errors
    /// What the store says; `bench_stopped`.
    pub fn fill(&self, rows: u64, stop: &Stop, tell: &(dyn Fn(&str) + Sync)) -> Result<(), Failure> {
        let now = clock::now();
        let number = u32::try_from(self.accounts.len()).unwrap_or(u32::MAX);
        let of_caller = |day: u64, rows: u64| -> Result<(), Failure> {
            let at = UnixMillis(now.0 - (HISTORY_DAYS - day).cast_signed() * DAY_MS);
            let mut left = rows;
            while left > 0 && !stop.asked() {
                let together = u32::try_from(left.min(SETTING_UP as u64)).unwrap_or(1);
                let turn = self.made.fetch_add(1, Ordering::Relaxed);
                let chosen = super::load::chosen(u64::MAX, 0, turn, together, super::Spreading::Uniform, number);
                let bookings = chosen.iter().map(|transfer| self.booking(transfer, at)).collect::<Result<_, _>>()?;
                moved(self.permitted(bookings)?)?;
                left -= u64::from(together);
            }
            Ok(())
        };
        // A day after the other, so that the store has known that many days.
        let days = HISTORY_DAYS.min(rows);
        for day in 0..days {
            let (first, next) = (rows * day / days, rows * (day + 1) / days);
            let until = |caller: u64| (next - first) * caller / HISTORY_CALLERS;
            let share = |caller: u64| until(caller + 1) - until(caller);
            std::thread::scope(|scope| {
                let of_caller = &of_caller;
                let callers: Vec<_> =
                    (0..HISTORY_CALLERS).map(|caller| scope.spawn(move || of_caller(day, share(caller)))).collect();
                // A panic of a caller is a defect here and is shown as one.
                callers.into_iter().try_for_each(|caller| caller.join().expect("callers do not panic"))
            })?;
            stop.check()?;
            if (day + 1) % days.div_ceil(HISTORY_STEPS) == 0 {
                tell(&format!("{next} of {rows} rows of history made"));
            }
        }
        Ok(())
    }

    /// Recomputes the whole book.
    ///
    /// # Errors
    /// `book_out_of_balance` with the account that differs.
    pub fn check_balance(&self) -> Result<(), Failure> {
        let check = self.store.check(&mut |_| {})?;
        match check.differences.first() {
            None => Ok(()),
            Some(first) => Err(out_of_balance(&format!(
                "{} of {}: kept {}, recomputed {}",
                first.rule.name(),
                first.subject,
                first.kept,
                first.recomputed
            ))),
        }
    }

    fn account(&self, number: u32) -> AccountId {
        self.accounts[number as usize].clone()
    }

    fn money(&self, minor: i64) -> Money {
        Money::from_minor(minor, self.currency)
    }

    fn booking(&self, transfer: &Transfer, at: UnixMillis) -> Result<Command, Failure> {
        let act = Act::Transfer {
            debit: self.accounts[transfer.debit as usize].to_string(),
            credit: self.accounts[transfer.credit as usize].to_string(),
            amount: self.money(transfer.minor),
            reference: idempotency_key(&transfer.key).map_err(unnameable)?,
        };
        let mut command = command(Actor::System { component: "bench".into() }, act);
        command.stamp.wall = at;
        Ok(command)
    }

    fn tool(&self, call: ToolCall) -> Result<Command, Failure> {
        let fresh = FreshIds {
            transaction: clock::fresh_id("txn_").parse().map_err(unnameable)?,
            approval: clock::fresh_id("apr_").parse().map_err(unnameable)?,
            case: clock::fresh_id("case_").parse().map_err(unnameable)?,
            nonce: Sha256(clock::random()),
        };
        let act = Act::Tool { call, rules: Arc::clone(&self.rules), fresh, risk: None };
        let mut command = command(Actor::Agent(self.agent.clone()), act);
        command.stamp.nonce = Some(Sha256(clock::random()));
        Ok(command)
    }

    fn permitted(&self, commands: Vec<Command>) -> Result<Vec<Effect>, Failure> {
        let effect = |decision: crate::kernel::command::Decision| {
            decision.outcome.map_err(|refusal| out_of_balance(&format!("refused: {}", refusal.name())))
        };
        self.store.apply(commands)?.into_iter().map(effect).collect()
    }
}

impl Engine for Ours {
    fn transfer(&self, transfers: Vec<Transfer>) -> Result<(), Failure> {
        let now = clock::now();
        let commands = transfers.iter().map(|transfer| self.booking(transfer, now)).collect::<Result<_, _>>()?;
        moved(self.permitted(commands)?)
    }
}

/// Each effect is a posting of its own.
fn moved(effects: Vec<Effect>) -> Result<(), Failure> {
    let fresh = |effect: &Effect| matches!(effect, Effect::Posted(posted) if !posted.repeated);
    if effects.iter().all(fresh) { Ok(()) } else { Err(out_of_balance("a transfer with a fresh key moved nothing")) }
}

fn command(actor: Actor, act: Act) -> Command {
    Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act }
}

fn idempotency_key(key: &[u8; 32]) -> Result<IdempotencyKey, Malformed> {
    hex::encode(&key[..16]).parse()
}

fn agent() -> Result<AgentPrincipal, Malformed> {
    let spiffe_id: SpiffeId = "spiffe://countersign.example/agent/payer/bench".parse()?;
    Ok(AgentPrincipal {
        spiffe_id,
        key: Sha256::of(&[b"bench"]),
        bank_issuer: "00".repeat(20),
        bank_serial: Serial::from_bytes(&[1; 20])?,
        company_issuer: "11".repeat(20),
        company_serial: Serial::from_bytes(&[2; 20])?,
        not_after: clock::now().plus_ms(LASTING_MS),
    })
}

/// Rules under which every payment is approved at once.
fn rules(agent: &AgentPrincipal, currency: Currency) -> Rules {
    let tools = vec!["authorize_transfer".to_owned(), "execute_transfer".to_owned()];
    Rules {
        policy_version: "bench".into(),
        catalogue_version: 1,
        role_tools: BTreeMap::from([(agent.spiffe_id.role().clone(), tools)]),
        policy: None,
        merchants_allowed: MerchantList::default(),
        unattended_per_transaction: Money::from_minor(OPENING_MINOR, currency),
        unattended_per_day: Money::from_minor(OPENING_MINOR, currency),
        deny_above: None,
        authorization_ttl_ms: DAY_MS,
        approval_ttl_ms: DAY_MS,
        open_holds_max: u32::MAX,
        company_crl_required: false,
        fees: vec![],
        manual_two_people_above: None,
        stopped_here: None,
        policy_unreadable: None,
        settlement: Settlement::Embedded,
        gates: vec![],
        unsigned_approvals: false,
        transactions: TransactionRules::default(),
    }
}

fn unnameable(malformed: Malformed) -> Failure {
    Failure::fault("bench_failed", malformed.to_string(), "report this as a defect")
}
