//! What people are told: a notice made of one committed leaf of the audit log.
//!
//! Nobody has to remember to tell anybody: whatever is decided has its leaf in the same commit, and the log is read once
//! from a durable place on. The same leaf always gives the same notice. A notice leaves the bank by ways that the bank
//! does not control, so it names and counts, and shows no account in full, no secret, no signature and nothing that a
//! stranger wrote except cleaned and shortened.

pub mod gather;
mod subject;
#[cfg(test)]
mod tests;
pub mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::monitor::{ALERT, COMPONENT};
use subject::{Leaf, agent_of, call_lines, people, shown};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $title:literal;)*) => {
        /// What a notice is about. Closed; the names are stable and stand in configurations and messages.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum NoticeKind {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl NoticeKind {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it says in a word or two, for the head of a message.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

kinds! {
    /// Funds are held; a human decides.
    PaymentWaits = "payment_waits", "A payment waits for approval";
    ApprovalDecided = "approval_decided", "An approval was decided";
    /// Nothing moved; the bank's people work it.
    PaymentQueued = "payment_queued", "A payment waits for the bank's people";
    CaseDecided = "case_decided", "A case was decided";
    /// An agent's request that a rule refused.
    RequestRefused = "request_refused", "A request was refused";
    BreakerOpened = "breaker_opened", "Payments are stopped";
    BreakerClosed = "breaker_closed", "A stop of payments is lifted";
    AgentFrozen = "agent_frozen", "An agent is frozen";
    EveryoneFrozen = "everyone_frozen", "Every agent is frozen";
    /// The first of the two people has asked.
    ThawAsked = "thaw_asked", "One of two people asks to lift a freeze";
    AgentThawed = "agent_thawed", "A freeze is lifted";
    AgentRevoked = "agent_revoked", "An agent is revoked";
    EveryoneRevoked = "everyone_revoked", "Every agent is revoked";
    /// Single certificates, a key, an issuing CA.
    CertificateRevoked = "certificate_revoked", "Certificates are revoked";
    PolicyApplied = "policy_applied", "A policy is in force";
    MonitorAlert = "monitor_alert", "The monitor raises an alert";
    RenewalFailed = "renewal_failed", "A certificate was not renewed";
    /// The core banking system said no to an order.
    CoreRefused = "core_refused", "The core banking system refused a payment";
    /// Trust, operators, hosts, keys, catalogues, certificates, accounts' status.
    SecurityChanged = "security_changed", "Somebody changed what security rests on";
    /// A human asked for what their role or the rules do not allow.
    OperatorRefused = "operator_refused", "A person's request was refused";
    /// Somebody's audit log was forked or rolled back, or our own store is older than what was cosigned.
    WitnessAlert = "witness_alert", "The witness of an audit log raises an alert";
    /// Strangers, counted.
    HandshakesRefused = "handshakes_refused", "Connections were refused";
}

impl std::fmt::Display for NoticeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The tool of a bank's own record that its witness has seen what its store has not.
pub const WITNESS_ALERT: &str = "witness_alert";
/// The part of the daemon that says so.
const WITNESS: &str = "witness";

/// One thing that people are told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    pub kind: NoticeKind,
    /// One line, at most [`TITLE_CHARS_MAX`] characters.
    pub title: String,
    /// The facts, one a line, and last what the reader can do.
    pub lines: Vec<String>,
    /// Ids to look it up by: `transaction_id`, `approval_id`, `case_id`, `agent`, `request_id`.
    pub subjects: BTreeMap<String, String>,
    /// When it was decided, RFC 3339.
    pub at: String,
}

/// The longest title.
pub const TITLE_CHARS_MAX: usize = 160;
/// The longest line.
pub const LINE_CHARS_MAX: usize = 300;

/// The notice of a leaf's body, or none: most leaves concern nobody but the auditor. What is no body of ours gives none.
pub fn of_leaf(body: &[u8]) -> Option<Notice> {
    let leaf: Leaf<'_> = serde_json::from_slice(body).ok()?;
    let (kind, what) = if leaf.decision == "refused" { refused(&leaf)? } else { permitted(&leaf)? };
    Some(composed(kind, what, &leaf))
}

/// What a kind adds to the common part.
struct What {
    /// Behind the kind's own title.
    about: String,
    lines: Vec<String>,
    next: String,
}

impl What {
    fn new(about: impl Into<String>, lines: Vec<String>, next: impl Into<String>) -> Self {
        Self { about: about.into(), lines, next: next.into() }
    }
}

fn refused(leaf: &Leaf<'_>) -> Option<(NoticeKind, What)> {
    let reason = text::cleaned(leaf.reason.as_deref().unwrap_or_default(), 60);
    let asked = leaf.tool.as_deref().or(leaf.act.as_deref()).unwrap_or_default();
    let asked = text::cleaned(asked, 60);
    let lines = vec![format!("asked for: {asked}"), format!("refused by: {reason}")];
    // Whose renewal it was stands only in a record of ours.
    let is_record = leaf.parameters["about"].is_object();
    if is_record && matches!(leaf.act.as_deref(), Some("cert_renew" | "renewal_begin")) {
        let next = "countersign doctor: which certificates end, and why they are not renewed";
        let name = people(&leaf.parameters["about"]["name"], 63);
        let lines = vec![format!("agent: {name}"), format!("why: {reason}")];
        return Some((NoticeKind::RenewalFailed, What::new("", lines, next)));
    }
    // Of an agent an act is the name of a tool that there is not, or that it called with what is no call.
    if leaf.tool.is_some() || leaf.actor["kind"] == "agent" {
        let next = "countersign audit show: the whole record; an agent that goes on like this can be frozen";
        let lines = [lines, call_lines(&leaf.parameters)].concat();
        return Some((NoticeKind::RequestRefused, What::new(reason, lines, next)));
    }
    // What the daemon itself asked for and may not is its own matter, and in its log.
    (leaf.actor["kind"] == "operator").then(|| {
        (NoticeKind::OperatorRefused, What::new(reason, lines, "ask the person; countersign audit show has the record"))
    })
}

fn permitted(leaf: &Leaf<'_>) -> Option<(NoticeKind, What)> {
    let result = &leaf.result;
    match result["status"].as_str().unwrap_or_default() {
        "requires_approval" => {
            let approval = people(&result["approval_id"], 40);
            let until = people(&result["expires"], 40);
            let lines = [call_lines(&leaf.parameters), vec![format!("to be decided until: {until}")]].concat();
            let next = format!("countersign approvals show {approval}");
            return Some((NoticeKind::PaymentWaits, What::new(approval, lines, next)));
        }
        "queued_manual" => {
            let case = people(&result["case_id"], 40);
            let lines = [call_lines(&leaf.parameters), vec![format!("why: {}", people(&result["why"], 120))]].concat();
            return Some((
                NoticeKind::PaymentQueued,
                What::new(case.clone(), lines, format!("countersign manual show {case}")),
            ));
        }
        _ => {}
    }
    let parameters = &leaf.parameters;
    // An agent has no acts: what stands there is a name that it gave.
    if leaf.actor["kind"] == "agent" {
        return None;
    }
    match leaf.act.as_deref()? {
        // A word that others have to follow decides nothing yet.
        "decide_approval" if result["status"] == "counted" => None,
        "decide_approval" => {
            let approval = people(&result["approval_id"], 40);
            let word = people(&result["status"], 20);
            let next = format!("countersign approvals show {approval}");
            Some((NoticeKind::ApprovalDecided, What::new(format!("{approval} {word}"), vec![], next)))
        }
        "resolve_case" if result["status"] == "proposed" => {
            let case = people(&result["case_id"], 40);
            let lines = vec!["one of two people has spoken: somebody else decides".to_owned()];
            let next = format!("countersign manual show {case}");
            Some((NoticeKind::PaymentQueued, What::new(case, lines, next)))
        }
        "resolve_case" => {
            let case = people(&result["case_id"], 40);
            let word = people(&result["status"], 20);
            let next = format!("countersign manual show {case}");
            Some((NoticeKind::CaseDecided, What::new(format!("{case} {word}"), vec![], next)))
        }
        // Its effect says so, too, where there is one; a sweep of the daemon hands cases over without an agent's call.
        "queue_manual" => {
            let case = people(&parameters["case_id"], 40);
            let lines = vec![format!("why: {}", people(&parameters["reason"], 120))];
            Some((NoticeKind::PaymentQueued, What::new(case.clone(), lines, format!("countersign manual show {case}"))))
        }
        // It stood already, or did not stand.
        "set_breaker" if result["changed"] == false => None,
        "set_breaker" if parameters["open"] == false => {
            let cause = parameters["cause"].as_str().map(|cause| format!("cause: {}", text::cleaned(cause, 60)));
            let next = "countersign bank status: whether another cause still stops them";
            Some((NoticeKind::BreakerClosed, What::new("", cause.into_iter().collect(), next)))
        }
        "set_breaker" => {
            let mut lines = vec![format!("why: {}", people(&parameters["reason"], 120))];
            if let Some(cause) = parameters["cause"].as_str() {
                lines.insert(0, format!("cause: {}", text::cleaned(cause, 60)));
            }
            lines.extend(parameters["node"].as_str().map(|node| format!("node: {}", text::cleaned(node, 31))));
            Some((NoticeKind::BreakerOpened, What::new("", lines, "countersign bank status; countersign manual list")))
        }
        "freeze" if result["already"] == false => {
            let agent = agent_of(&parameters["whom"]);
            let kind = if agent.is_some() { NoticeKind::AgentFrozen } else { NoticeKind::EveryoneFrozen };
            let lines = vec![format!("why: {}", people(&parameters["reason"], 120))];
            Some((kind, What::new(agent.unwrap_or_default(), lines, "countersign freeze --list")))
        }
        "unfreeze" => {
            let kind = if result["by"] == "both" { NoticeKind::AgentThawed } else { NoticeKind::ThawAsked };
            let whom = agent_of(&parameters["whom"]).unwrap_or_else(|| "every agent".into());
            Some((kind, What::new(whom, vec![], "countersign freeze --list")))
        }
        "revoke" if result["already"] == false => Some(revoked(leaf)),
        "core_answered" => {
            let name = parameters["word"]["refused"].as_str()?;
            let transaction = people(&parameters["transaction_id"], 40);
            let asked = people(&parameters["verb"], 20);
            let lines = vec![format!("asked to: {asked}"), format!("refused by: {}", text::cleaned(name, 64))];
            let next = format!("countersign transaction show {transaction}");
            Some((NoticeKind::CoreRefused, What::new(transaction, lines, next)))
        }
        "handshakes_refused" => {
            let counts = parameters["counts"].as_object()?;
            let said = |(name, count): (&String, &Value)| format!("{}: {}", text::cleaned(name, 60), shown(count));
            let lines = counts.iter().take(20).map(said).collect();
            Some((NoticeKind::HandshakesRefused, What::new("", lines, "countersign status --json has the sums")))
        }
        "witness" if result["status"] == "halted" => {
            let lines = vec![
                format!("log: {}", people(&parameters["origin"], 120)),
                format!("cosigned before: {} leaves", people(&result["remembered"]["size"], 20)),
                format!("shown now: {} leaves", people(&result["shown"]["size"], 20)),
            ];
            let next = "countersign witness status; ask its owner; countersign witness accept when both agree";
            Some((NoticeKind::WitnessAlert, What::new(people(&result["cause"], 60), lines, next)))
        }
        act => recorded(act, leaf),
    }
}

/// Acts whose record is all there is.
fn recorded(act: &str, leaf: &Leaf<'_>) -> Option<(NoticeKind, What)> {
    let parameters = &leaf.parameters;
    let of_security = SECURITY_ACTS.iter().find(|(name, _)| *name == act);
    if let Some((name, said)) = of_security {
        let next = "if nobody of yours did this: countersign freeze --all, then countersign audit show";
        let about = format!("{said} ({name})");
        return Some((NoticeKind::SecurityChanged, What::new(about, vec![format!("act: {name}")], next)));
    }
    if act == "apply_policy" {
        let lines = vec![format!("version: {}", shown(&leaf.result["version"]))];
        let is_new = leaf.result["status"] == "policy_in_force" && leaf.result["changed"] != false;
        return is_new.then(|| (NoticeKind::PolicyApplied, What::new("", lines, "countersign policy history")));
    }
    // As below: nobody else's record of that name is one.
    if act == WITNESS_ALERT && leaf.actor["kind"] == "system" && leaf.actor["component"] == WITNESS {
        let lines = vec![format!("why: {}", people(&parameters["why"], 120))];
        let next = "countersign witness status; put the newest store back, or agree with the security company";
        return Some((NoticeKind::WitnessAlert, What::new(people(&parameters["name"], 60), lines, next)));
    }
    // Whoever else writes a record of that name raises none.
    let is_monitor = leaf.actor["kind"] == "system" && leaf.actor["component"] == COMPONENT;
    if act == ALERT && is_monitor {
        let agent = agent_of(&parameters["agent"]).or_else(|| agent_of(&parameters["whom"]));
        let score = shown(&parameters["score"]);
        let names = parameters["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<String> = names.iter().take(10).map(|name| people(name, 60)).collect();
        let lines = vec![format!("score: {score}"), format!("reasons: {}", names.join(", "))];
        return Some((
            NoticeKind::MonitorAlert,
            What::new(agent.unwrap_or_default(), lines, "countersign monitor show"),
        ));
    }
    None
}

/// Of these acts people are told because security rests on what they change.
const SECURITY_ACTS: &[(&str, &str)] = &[
    ("trust_add", "another party is trusted"),
    ("operator_enrol", "an officer is enrolled"),
    ("host_enrol", "an agent host is enrolled"),
    ("host_remove", "an agent host is removed"),
    ("catalogue_install", "a role catalogue is in force"),
    ("catalogue_sign", "a role catalogue is signed"),
    ("key_rotate", "a key is replaced"),
    ("key_retire", "a key is retired"),
    ("key_destroy", "a key is destroyed"),
    ("issuing_use", "another issuing CA is in use"),
    ("init_party", "the party's keys and certificates are made"),
    ("cert_approve", "an officer approves an agent's certificate"),
    ("cert_disapprove", "an officer's approval is withdrawn"),
    ("add_grant", "an agent is granted an account"),
    ("revoke_grant", "an agent's grant is taken back"),
    ("add_mandate", "an owner's mandate is in force"),
    ("revoke_mandate", "an owner's mandate is taken back"),
    ("set_account_status", "an account's status is changed"),
    ("accept_log", "a log that was halted is to be cosigned again"),
    ("vault_put", "a credential of another system is kept"),
    ("vault_rotate", "a credential of another system is replaced"),
    ("vault_rm", "a credential of another system is removed"),
    ("add_merchant", "a merchant is registered"),
    ("reverse_transaction", "a payment is reversed by a person"),
];

fn revoked(leaf: &Leaf<'_>) -> (NoticeKind, What) {
    let target = &leaf.parameters["target"];
    let lines = vec![
        format!("why: {}", people(&leaf.parameters["reason"], 120)),
        format!("authorizations voided: {}", shown(&leaf.result["authorizations"])),
    ];
    let next = "countersign cert list; countersign crl check";
    if target == "everyone" {
        return (NoticeKind::EveryoneRevoked, What::new("", lines, next));
    }
    if let Some(agent) = agent_of(target) {
        return (NoticeKind::AgentRevoked, What::new(agent, lines, next));
    }
    let what = target.as_object().and_then(|target| target.keys().next()).map(String::as_str).unwrap_or_default();
    (NoticeKind::CertificateRevoked, What::new(text::cleaned(what, 20), lines, next))
}

fn composed(kind: NoticeKind, what: What, leaf: &Leaf<'_>) -> Notice {
    let who = leaf.who();
    let title = match what.about.as_str() {
        "" => kind.title().to_owned(),
        about => format!("{}: {about}", kind.title()),
    };
    let asserted = if leaf.asserted { " (asserted)" } else { "" };
    let mut lines = vec![format!("at: {}", text::cleaned(&leaf.at, 40)), format!("by: {who}{asserted}")];
    lines.extend(what.lines);
    lines.push(format!("next: {}", what.next));
    let mut subjects = BTreeMap::new();
    let mut subject = |name: &str, value: &Value| {
        if let Some(id) = value.as_str() {
            subjects.insert(name.to_owned(), text::cleaned(id, 128));
        }
    };
    subject("request_id", &Value::String(leaf.request_id.to_string()));
    subject("agent", &leaf.actor["spiffe_id"]);
    for name in ["transaction_id", "approval_id", "case_id"] {
        subject(name, &leaf.parameters[name]);
        subject(name, &leaf.result[name]);
    }
    Notice {
        kind,
        title: text::shortened(&title, TITLE_CHARS_MAX),
        lines: lines.iter().map(|line| text::shortened(line, LINE_CHARS_MAX)).collect(),
        subjects,
        at: text::cleaned(&leaf.at, 40),
    }
}
