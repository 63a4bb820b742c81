//! The three questions that the doors ask, answered by the services: who is this, may they still, what do they want.

use std::collections::BTreeMap;
use std::future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::front::oauth::TokenGate;
use crate::front::outgoing::Outgoing;
use crate::front::rates::SharedTurns;
use crate::front::request_state;
use crate::front::services::Services;
use crate::kernel::command::{Act, Actor, AgentPrincipal, Command, Decision, Stamp, ToolCall};
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::jwt::TokenKey;
use crate::kernel::mask::{Clearance, permissions_masked};
use crate::kernel::refusal::Refusal;
use crate::kernel::sign::SignInput;
use crate::kernel::types::{AccountId, ApprovalId, KeyId, MandateId, RequestId, Sha256, TransactionId};
use crate::mcp::server::{
    Answering, Look, RequestState, Seen, StatementPage, ToolFailed, ToolGate, ToolRefused, ToolRequest, Unanswered,
    on_a_thread,
};
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};
use crate::payment::{Decided, Rest, ToolFailure};
use crate::store::{StoreFault, Turn};
use crate::tls::PairGate;

/// A bank's gates.
#[derive(Clone, Debug)]
pub struct Gates {
    services: Arc<Services>,
    /// One for each call that waits for the store.
    submitted: Arc<Semaphore>,
    /// One for each that asks the core.
    asking_the_core: Arc<Semaphore>,
    outgoing: Arc<Outgoing>,
}

/// Calls that wait for the store at once: its queue has more room, for what people and the daemon itself ask of it.
const SUBMITTED_MAX: usize = 3_072;
/// Calls that ask the core banking system at once: one that answers late holds up no more threads than these.
const ASKING_THE_CORE_MAX: usize = 64;

impl Gates {
    pub fn new(services: Arc<Services>) -> Self {
        let (submitted, asking_the_core) = (Semaphore::new(SUBMITTED_MAX), Semaphore::new(ASKING_THE_CORE_MAX));
        Self {
            services,
            submitted: Arc::new(submitted),
            asking_the_core: Arc::new(asking_the_core),
            outgoing: Arc::default(),
        }
    }
}

impl PairGate for Gates {
    fn accept(&self, presented: &[Vec<u8>]) -> Result<VerifiedAgent, String> {
        self.services.accept(presented)
    }

    fn still_acceptable(&self, agent: &VerifiedAgent) -> Result<(), &'static str> {
        self.services.still_acceptable(agent)
    }

    fn count_refusal(&self, name: &'static str) {
        self.services.count_refusal(name);
    }
}

impl ToolGate for Gates {
    fn tools_for(&self, agent: &AgentPrincipal) -> Vec<String> {
        match self.services.payments() {
            Ok(payments) => payments.rules().role_tools.get(agent.spiffe_id.role()).cloned().unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    fn call(&self, agent: &AgentPrincipal, call: ToolCall, request: &ToolRequest) -> Result<Value, Unanswered> {
        let payments = self.services.payments().map_err(|failure| failed(failure, &request.id))?;
        let began = Instant::now();
        // Counted before the look, so that a freeze that comes now waits for this call.
        let _call = self.services.calls.begin();
        if self.services.heard.freezes(&agent.spiffe_id) {
            let frozen = refused(Refusal::AgentFrozen);
            self.record_refusal(agent, call.tool(), &frozen, request)?;
            return Err(frozen.into());
        }
        let answer = payments.call_tool(agent, call, request.id.clone(), request.proof.clone());
        if let Ok(log) = self.services.log() {
            log.notify();
        }
        self.services.call_times.record(began.elapsed());
        let answer = answer.map_err(|failure| unanswered(failure, &request.id))?;
        Ok(self.outgoing.seen(answer, &self.clearance(agent)))
    }

    fn answered(&self, agent: &AgentPrincipal, call: ToolCall, request: &ToolRequest) -> Answering {
        let payments = match self.services.payments() {
            Ok(payments) => Arc::clone(payments),
            Err(failure) => return Box::pin(future::ready(Err(failed(failure, &request.id)))),
        };
        let (services, request) = (Arc::clone(&self.services), request.clone());
        let (began, call_times) = (Instant::now(), Arc::clone(&self.services.call_times));
        // Counted before the look, and until there is an answer.
        let counted = services.calls.begin();
        if services.heard.freezes(&agent.spiffe_id) {
            let (gates, agent) = (self.clone(), agent.clone());
            return on_a_thread(request.id.clone(), move || gates.call(&agent, call, &request));
        }
        let Ok(place) = Arc::clone(&self.submitted).try_acquire_owned() else {
            return Box::pin(future::ready(Err(failed(StoreFault::Busy.into(), &request.id))));
        };
        let (tell, told) = oneshot::channel();
        let (concluding, runtime) = (Arc::clone(&payments), Handle::current());
        let asking_the_core = Arc::clone(&self.asking_the_core);
        let decided = move |decided| {
            drop(place);
            if let Ok(log) = services.log() {
                log.notify();
            }
            let turn = match concluding.rest(&decided) {
                Rest::Words => {
                    let _ = tell.send((Conclusion::Due(Box::new(decided)), counted));
                    return;
                }
                Rest::Signature => None,
                Rest::Core => match asking_the_core.try_acquire_owned() {
                    Ok(turn) => Some(turn),
                    Err(_) => {
                        let _ = tell.send((Conclusion::Drawn(Err(core_busy().into())), counted));
                        return;
                    }
                },
            };
            // Money that moved is signed for, and ordered at the core, whether or not somebody still listens.
            runtime.spawn_blocking(move || {
                let _ = tell.send((Conclusion::Drawn(concluding.concluded(decided)), counted));
                drop(turn);
            });
        };
        let submitted = payments.submit_tool(agent, call, request.id.clone(), request.proof.clone(), decided);
        let (outgoing, clearance) = (Arc::clone(&self.outgoing), self.clearance(agent));
        Box::pin(async move {
            submitted.map_err(|failure| failed(failure, &request.id))?;
            let Ok((conclusion, _counted)) = told.await else {
                return Err(ToolFailed::defect(request.id).into());
            };
            let answer = match conclusion {
                Conclusion::Due(decided) => payments.concluded(*decided),
                Conclusion::Drawn(answer) => answer,
            };
            call_times.record(began.elapsed());
            let answer = answer.map_err(|failure| unanswered(failure, &request.id))?;
            Ok(outgoing.seen(answer, &clearance))
        })
    }

    fn record_refusal(
        &self,
        agent: &AgentPrincipal,
        tool: &str,
        refusal: &ToolRefused,
        request: &ToolRequest,
    ) -> Result<(), Unanswered> {
        let decision = json!({ "refused": refusal.name, "message": shortened(&refusal.message) });
        self.record(agent, tool, decision, request.proof.nonce, request)
    }

    fn policy(&self, agent: &AgentPrincipal, request: &ToolRequest) -> Result<Value, Unanswered> {
        let payments = self.services.payments().map_err(|failure| failed(failure, &request.id))?;
        let mut policy = payments.policy_of(agent);
        policy["permissions"] = permissions_masked(policy["permissions"].take(), &self.clearance(agent));
        let decision = json!({ "read": "policy", "policy_version": policy["policy_version"] });
        self.record(agent, "resources/read", decision, request.proof.nonce, request)?;
        Ok(policy)
    }

    fn statement(
        &self,
        agent: &AgentPrincipal,
        page: &StatementPage,
        request: &ToolRequest,
    ) -> Result<Value, Unanswered> {
        // Until it is read, so that a revocation that comes now waits for it.
        let _call = self.services.calls.begin();
        // As many as may be shown: a policy's limit on the tool is none that the resource goes round.
        let limit = crate::payment::STATEMENT_LINES_MAX;
        let call = ToolCall::ListTransactions { account_id: page.account.clone(), limit };
        self.call(agent, call, request)?;
        let payments = self.services.payments().map_err(|failure| failed(failure, &request.id))?;
        let statement = payments.statement_for_agent(&page.account, page.days);
        let statement = statement.map_err(|failure| unread(failure, &request.id))?;
        // What was shown, and not only that it might be.
        let lines = statement["items"].as_array().map_or(0, Vec::len);
        let shown = json!({
            "read": "statement", "account": page.account, "from": statement["from"], "to": statement["to"],
            "lines": lines,
        });
        self.record(agent, "resources/read", shown, None, request)?;
        Ok(self.outgoing.seen(statement, &self.clearance(agent)))
    }

    fn receipt(
        &self,
        agent: &AgentPrincipal,
        transaction: &TransactionId,
        request: &ToolRequest,
    ) -> Result<Value, Unanswered> {
        let _call = self.services.calls.begin();
        self.call(agent, ToolCall::GetTransaction { transaction_id: transaction.clone() }, request)?;
        let log = self.services.log().map_err(|failure| failed(failure, &request.id))?;
        let receipt = log.receipt(transaction, RECEIPT_WAIT).map_err(|failure| unread(failure, &request.id))?;
        Ok(json!(receipt))
    }

    fn mandates(
        &self,
        agent: &AgentPrincipal,
        one: Option<&MandateId>,
        request: &ToolRequest,
    ) -> Result<Value, Unanswered> {
        let _call = self.services.calls.begin();
        self.call(agent, ToolCall::ListAccounts {}, request)?;
        let payments = self.services.payments().map_err(|failure| failed(failure, &request.id))?;
        let found = match one {
            None => payments.mandates_of(agent).map(Some),
            Some(id) => payments.mandate_of(agent, id),
        };
        let found = found.map_err(|fault| failed(fault.into(), &request.id))?;
        let Some(mandates) = found else {
            let unknown = ToolRefused { next_step: "read bank://mandates".into(), ..refused(Refusal::UnknownMandate) };
            self.record(agent, "resources/read", json!({ "refused": unknown.name, "mandate_id": one }), None, request)?;
            return Err(unknown.into());
        };
        let count = mandates["mandates"].as_array().map_or(1, Vec::len);
        let shown = json!({ "read": "mandates", "mandate_id": one, "mandates": count });
        self.record(agent, "resources/read", shown, None, request)?;
        Ok(self.outgoing.seen(mandates, &self.clearance(agent)))
    }

    fn manifest(&self, request: &ToolRequest) -> Result<Value, Unanswered> {
        self.services.manifests.current(&self.services).map_err(|failure| failed(failure, &request.id))
    }

    fn readable_accounts(&self, agent: &AgentPrincipal) -> Vec<AccountId> {
        let payments = self.services.payments().ok();
        payments.and_then(|payments| payments.readable_accounts(agent).ok()).unwrap_or_default()
    }

    fn approval_url(&self, approval: &ApprovalId) -> Option<String> {
        self.services.approval_page(approval)
    }

    fn is_pending(&self, agent: &AgentPrincipal, approval: &ApprovalId) -> bool {
        let found =
            self.services.payments().ok().and_then(|payments| payments.approval_of(agent, approval).ok().flatten());
        found.is_some_and(|approval| approval.status == "pending")
    }

    fn seal(&self, agent: &AgentPrincipal, state: &RequestState, request: &ToolRequest) -> Result<String, Unanswered> {
        request_state::seal(&self.services, agent, state).map_err(|failure| failed(failure, &request.id))
    }

    fn unseal(&self, agent: &AgentPrincipal, sealed: &str, request: &ToolRequest) -> Result<RequestState, Unanswered> {
        // First what makes the request single-use, whatever is wrong with what it brings.
        self.record(agent, "request_state", json!({ "brought": true }), request.proof.nonce, request)?;
        let opened =
            request_state::open(&self.services, agent, sealed).map_err(|failure| failed(failure, &request.id))?;
        let anew = "make the call again without a state".to_owned();
        let (state, once) = opened.map_err(|refusal| ToolRefused {
            name: refusal.name().into(),
            message: refusal.sentence().into(),
            next_step: anew.clone(),
        })?;
        let decision = json!({ "continued": state.approval });
        match self.record(agent, "request_state", decision, Some(once), request) {
            Err(Unanswered::Replayed) => {
                let message = "the state of the call was brought before".into();
                Err(ToolRefused { name: "request_state_used".into(), message, next_step: anew }.into())
            }
            recorded => recorded.map(|()| state),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.services.changes.listen()
    }

    fn may_be_served(&self, agent: &VerifiedAgent) -> bool {
        self.services.still_acceptable(agent).is_ok()
    }

    fn seen_by(&self, agent: &VerifiedAgent, approvals: &[ApprovalId]) -> Look {
        if self.services.still_acceptable(agent).is_err() {
            return Look::Refused;
        }
        let agent = agent.principal();
        let look = || {
            let payments = self.services.payments().ok()?;
            let state = |approval| Ok(payments.approval_of(agent, approval)?.map(|found| found.status));
            let approvals: Result<_, StoreFault> = approvals.iter().map(state).collect();
            let (accounts, until) = payments.readable(agent).ok()?;
            Some(Seen { tools: self.tools_for(agent), accounts, approvals: approvals.ok()?, until })
        };
        look().map_or(Look::Unknown, Look::Seen)
    }
}

impl Gates {
    /// What the agent's role may see.
    fn clearance(&self, agent: &AgentPrincipal) -> Clearance {
        let policy = self.services.setup.settings.policy.as_ref();
        let nothing = BTreeMap::new();
        Clearance::of_role(agent.spiffe_id.role(), policy.map_or(&nothing, |policy| &policy.clearance))
    }

    /// Records what an agent was answered without asking a rule, or what it brought. Takes a single use with it.
    fn record(
        &self,
        agent: &AgentPrincipal,
        tool: &str,
        decision: Value,
        nonce: Option<Sha256>,
        request: &ToolRequest,
    ) -> Result<(), Unanswered> {
        let stamp = Stamp { nonce, signature: request.proof.signature.clone(), ..clock::stamp(request.id.clone()) };
        let decisions = self.commit(stamp, agent, tool, decision).map_err(|failure| failed(failure, &request.id))?;
        let replayed = decisions.iter().any(|decision| decision.outcome == Err(Refusal::NonceReplayed));
        if replayed { Err(Unanswered::Replayed) } else { Ok(()) }
    }

    fn commit(
        &self,
        stamp: Stamp,
        agent: &AgentPrincipal,
        tool: &str,
        decision: Value,
    ) -> Result<Vec<Decision>, Failure> {
        let act = Act::Record { tool: shortened(tool), decision };
        let command = Command { stamp, actor: Actor::Agent(agent.clone()), act };
        let decisions = self.services.setup.store.apply(vec![command])?;
        if let Ok(log) = self.services.log() {
            log.notify();
        }
        Ok(decisions)
    }
}

impl TokenGate for Gates {
    fn keys(&self) -> Arc<[TokenKey]> {
        self.services.token_keys()
    }

    fn sign(&self, key: KeyId, input: SignInput) -> Result<Vec<u8>, Failure> {
        self.services.sign_token(key, input)
    }

    fn tools_of(&self, agent: &AgentPrincipal) -> Vec<String> {
        self.tools_for(agent)
    }

    fn record(&self, agent: &AgentPrincipal, decision: Value) -> Result<(), Failure> {
        self.commit(clock::stamp(clock::fresh_request_id()), agent, "issue_token", decision).map(drop)
    }
}

impl SharedTurns for Gates {
    fn take(&self, turn: Turn) -> Result<Option<Duration>, StoreFault> {
        self.services.setup.store.take_turn(turn)
    }
}

/// How long a receipt is waited for that is still being signed.
const RECEIPT_WAIT: Duration = Duration::from_secs(5);

/// Longest tool name and reason that a leaf keeps of what a stranger to the rules sent.
const RECORDED_CHARS_MAX: usize = 200;

fn shortened(text: &str) -> String {
    text.chars().take(RECORDED_CHARS_MAX).collect()
}

/// What a decided call still needs.
enum Conclusion {
    Due(Box<Decided>),
    Drawn(Result<Value, ToolFailure>),
}

/// The decision stands, and its order in the outbox: only nobody asks the core about it at once.
fn core_busy() -> Failure {
    Failure::busy("core_busy", "more calls ask the core banking system than it answers", "repeat with the same key")
        .after_the_fact()
}

fn unanswered(failure: ToolFailure, request_id: &RequestId) -> Unanswered {
    match failure {
        ToolFailure::Refused(Refusal::NonceReplayed) => Unanswered::Replayed,
        ToolFailure::Refused(refusal) => refused(refusal).into(),
        ToolFailure::Failed(failure) => failed(failure, request_id),
    }
}

fn refused(refusal: Refusal) -> ToolRefused {
    ToolRefused {
        name: refusal.name().to_owned(),
        message: refusal.message().to_owned(),
        next_step: refusal.next_step().to_owned(),
    }
}

/// The log has the words, the agent what it can act on: how we are built is not its business.
fn failed(failure: Failure, request_id: &RequestId) -> Unanswered {
    let Failure { name, message, retry, may_have_happened, .. } = failure;
    tracing::warn!(%request_id, %name, %message, "a tool call failed");
    Unanswered::Failed(ToolFailed { name, retry, may_have_happened, request_id: request_id.clone() })
}

/// A reading that failed: what the rules say about it is the agent's business, what broke is not.
fn unread(failure: Failure, request_id: &RequestId) -> Unanswered {
    if failure.kind != Kind::Refused && failure.kind != Kind::Usage {
        return failed(failure, request_id);
    }
    let Failure { name, message, .. } = failure;
    ToolRefused { name, message, next_step: "see resources/templates/list".into() }.into()
}
