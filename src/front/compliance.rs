//! Compliance reports: reads the running system for them, and hands them out once their leaf is durable.
//!
//! The signed checkpoint is read first, everything else after it. A part that cannot be read is reported as unread and fails
//! nothing else; only without a checkpoint there is no report, since there would be nothing to tie it to.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::settings::PartyKind;
use crate::front::doctor;
use crate::front::services::Services;
use crate::guard::settings::Automatic;
use crate::kernel::command::{Actor, OperatorPrincipal};
use crate::kernel::mask::Clearance;
use crate::kernel::note::{Checkpoint, SignedNote};
use crate::kernel::types::Sha256;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::report::facts::{
    BankFacts, DoctorLine, Facts, Head, KnownBy, LeafLine, Messages, People, Person, Read, RoleCertificate, Switch,
    Whose,
};
use crate::report::framework::Framework;
use crate::report::{Format, Report};
use crate::store::LeafContent;

/// How long the witness's word about what is there now is waited for: a report without it is tied to less.
const COSIGNATURE_WAIT: Duration = Duration::from_secs(5);
/// The newest leaves that are looked at.
const NEWEST: u32 = 256;

/// What is asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportWish {
    pub framework: Framework,
    pub format: Format,
    /// Whether the audit log is rebuilt from every leaf.
    #[serde(default)]
    pub deep: bool,
}

/// Makes a report and records that it was made.
///
/// Answers `{file, sha256, framework, format, deep, counts, log: {origin, size, root}}`; `file` is the report's exact text.
///
/// # Errors
/// `operator_not_permitted`, `log_empty`, `party_not_initialised`; the store's.
pub fn report(services: &Services, operator: &OperatorPrincipal, wish: ReportWish) -> Result<Value, Failure> {
    let actor = Actor::Operator(operator.clone());
    let about = json!({ "framework": wish.framework, "format": wish.format, "deep": wish.deep });
    services.setup.authority.compliance_reported(&actor, &about, || {
        let facts = facts(services, operator, wish.deep)?;
        let head = json!({
            "origin": facts.head.origin, "size": facts.head.size.to_string(), "root": facts.head.root,
        });
        let report = Report::of(wish.framework, facts);
        let file = report.text(wish.format);
        let mut told = about.clone();
        told["sha256"] = json!(Sha256::of(&[file.as_bytes()]));
        told["log"] = head;
        let mut answer = told.clone();
        answer["counts"] = json!(report.counts());
        answer["file"] = json!(file);
        Ok((answer, told))
    })
}

/// Everything that checks look at.
fn facts(services: &Services, operator: &OperatorPrincipal, deep: bool) -> Result<Facts, Failure> {
    let setup = &services.setup;
    let log = services.log()?;
    let head = head(services)?;
    let checked = deep.then(|| Read::now(|| log.check()));
    let token = services.token();
    let whose = match setup.kind {
        PartyKind::Bank => Whose::Bank,
        PartyKind::SecurityCompany => Whose::SecurityCompany,
        PartyKind::AgentHost => Whose::AgentHost,
        PartyKind::Operator => Whose::Operator,
    };
    Ok(Facts {
        party: setup.party.clone(),
        whose,
        by: operator.name.to_string(),
        made_at: clock::now(),
        head,
        token: Read::now(|| Ok(token.describe()?)),
        keys: Read::now(|| {
            let mut keys = token.keys()?;
            keys.sort_by(|one, other| one.label.cmp(&other.label));
            Ok(keys)
        }),
        roles: Read::now(|| roles(services)),
        people: Read::now(|| people(services)),
        log: Read::now(|| log.state()),
        newest: Read::now(|| leaves(&log.show(NEWEST)?)),
        first: Read::now(|| first(services)),
        retention_days: setup.settings.audit.retention_days,
        checked,
        status: Read::now(|| Ok(setup.store.status()?)),
        doctor: Read::now(|| lines(&doctor::report(services)?)),
        messages: setup.notifier.as_ref().filter(|_| setup.kind.certifies()).map(|notifier| {
            Read::now(|| {
                let counts = notifier.counts()?;
                let (queued, sent, dead) = (counts.queued, counts.sent, counts.dead);
                Ok(Messages { channels: notifier.receivers(), queued, sent, dead })
            })
        }),
        bank: (setup.kind == PartyKind::Bank).then(|| Read::now(|| bank(services))),
    })
}

fn head(services: &Services) -> Result<Head, Failure> {
    let head = services.log()?.head(COSIGNATURE_WAIT)?;
    let unreadable =
        || Failure::fault("log_damaged", "the newest signed checkpoint is unreadable", "run `countersign audit check`");
    let note = SignedNote::parse(head.checkpoint.as_bytes()).map_err(|_| unreadable())?;
    let checkpoint = Checkpoint::parse(&note.text).map_err(|_| unreadable())?;
    Ok(Head { origin: head.origin, size: head.size, root: checkpoint.root, checkpoint: head.checkpoint })
}

fn roles(services: &Services) -> Result<Vec<RoleCertificate>, Failure> {
    let told = services.setup.authority.role_health()?.into_iter().map(|role| RoleCertificate {
        purpose: role.purpose,
        label: role.label,
        active: role.active,
        since: role.not_before,
        until: role.not_after,
    });
    Ok(told.collect())
}

fn people(services: &Services) -> Result<People, Failure> {
    let setup = &services.setup;
    let configured = setup.operators.known().iter();
    let configured: Vec<Person> =
        configured.map(|operator| Person { name: operator.name.to_string(), roles: operator.roles.clone() }).collect();
    let reporter = Actor::System { component: "compliance".into() };
    let enrolled = if setup.kind.certifies() { setup.authority.operator_list(&reporter)? } else { Value::Null };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let enrolled = enrolled["items"].as_array().into_iter().flatten().map(|person| Person {
        name: text(&person["name"]),
        roles: person["roles"].as_array().into_iter().flatten().map(text).collect(),
    });
    let known_by = if setup.operators.may_be_asserted() { KnownBy::Assertion } else { KnownBy::UserId };
    let mut people = People { known_by, configured, enrolled: enrolled.collect() };
    people.enrolled.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(people)
}

/// The first leaf of the log, while its place and body are looked at as an auditor's are.
fn first(services: &Services) -> Result<Option<LeafLine>, Failure> {
    let leaf = services.setup.store.leaves(0, 1)?.pop();
    Ok(leaf.and_then(|leaf| {
        let body: Value = leaf.body().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
        leaf.index.map(|index| line(index, &body, leaf.content == LeafContent::Erased))
    }))
}

fn leaves(shown: &Value) -> Result<Vec<LeafLine>, Failure> {
    let items = shown["items"].as_array().into_iter().flatten();
    Ok(items
        .filter_map(|item| item["index"].as_u64().map(|index| line(index, &item["body"], item["content"] == "erased")))
        .collect())
}

/// Who and when, nothing else of a leaf.
fn line(index: u64, body: &Value, is_erased: bool) -> LeafLine {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    LeafLine { index, at: text(&body["at"]), actor: text(&body["actor"]["kind"]), is_erased }
}

fn lines(told: &Value) -> Result<Vec<DoctorLine>, Failure> {
    let line = |item: &Value| {
        let text = |member: &str| item[member].as_str().unwrap_or_default().to_owned();
        DoctorLine { check: text("check"), result: text("result"), detail: text("detail") }
    };
    Ok(told["items"].as_array().into_iter().flatten().map(line).collect())
}

fn bank(services: &Services) -> Result<BankFacts, Failure> {
    let setup = &services.setup;
    let payments = services.payments()?;
    let rules = payments.rules();
    let catalogue = setup.authority.catalogue().ok();
    let named = setup.settings.policy.as_ref().map(|policy| policy.clearance.clone()).unwrap_or_default();
    let clearances = rules.role_tools.keys().map(|role| (role.clone(), Clearance::of_role(role, &named))).collect();
    let stopped = payments.stopped()?;
    let causes = stopped["causes"].as_array().into_iter().flatten();
    let stopped_by = causes.filter_map(|cause| cause["cause"].as_str()).map(str::to_owned).collect();
    let breaker = match setup.settings.breaker.automatic {
        Automatic::On => Switch::On,
        Automatic::Off => Switch::Off,
    };
    Ok(BankFacts {
        rules,
        catalogue: catalogue.map(|catalogue| (catalogue.version(), catalogue.valid_until())),
        clearances,
        breaker,
        stopped_by,
        cases_waiting: setup.store.cases_waiting()?,
        monitor: setup.settings.monitor.mode,
        monitor_rules: setup.settings.monitor.rules.clone(),
    })
}
