//! A policy, compiled: who may call which tool with which arguments, and which rule says so.
//!
//! A role that a policy does not name has no tools. An explicit denial wins; of several permissions of one tool one
//! must fit wholly. A constrained parameter that a call does not have is a refusal: leaving it out is no way round.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jsonschema::Validator;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::constraint;
use super::document::{Document, RolePolicy, permission_place, plain_numbers};
use super::finding::{Finding, Flaw, Severity};
use super::tools::{Kind, Tools};
use super::transaction::TransactionRules;
use crate::kernel::types::Sha256;

/// Constrained parameters of one policy: each may hold a compiled regular expression.
const CONSTRAINTS_MAX: usize = 4_000;

/// A call's arguments as the decision takes them: amounts as numbers, what was left out and could be told filled in.
pub type Arguments<'a> = Vec<(Cow<'a, str>, Value)>;

/// A policy that can be asked. Cheap to clone; only [`Policy::examined`] makes one.
#[derive(Clone)]
pub struct Policy(Arc<Compiled>);

struct Compiled {
    document: Document,
    canonical: String,
    hash: Sha256,
    roles: BTreeMap<String, Role>,
}

#[derive(Default)]
struct Role {
    denied: BTreeSet<String>,
    tools: BTreeMap<String, Vec<Way>>,
}

/// One permission.
struct Way {
    /// Its place in the role's list.
    at: usize,
    parameters: Vec<(String, Validator)>,
}

/// What a policy says about one call, and which rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruling<'p> {
    /// By this permission.
    Permitted {
        at: usize,
    },
    /// The policy says nothing about roles.
    NotAsked,
    RoleUnnamed,
    /// No permission names the tool.
    NotPermitted,
    /// `deny_tools` names it.
    Denied,
    /// This permission's parameter does not fit; no other permission does either.
    Violated {
        at: usize,
        parameter: &'p str,
    },
    /// This permission's parameter is missing; no other permission fits either.
    Missing {
        at: usize,
        parameter: &'p str,
    },
}

/// What came of reading a document as a policy.
#[derive(Debug)]
pub struct Examined {
    pub findings: Vec<Finding>,
    /// None when one of the findings is an error.
    pub policy: Option<Policy>,
}

impl Examined {
    /// The gravest of the findings.
    pub fn gravest(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.flaw.severity()).max()
    }
}

impl Policy {
    /// Compiles a document; `tools` says what its tools' parameters are, `roles` which roles there are, if that is known.
    pub fn examined(document: Document, tools: &Tools, roles: Option<&mut dyn Iterator<Item = &str>>) -> Examined {
        let known: Option<BTreeSet<&str>> = roles.map(Iterator::collect);
        let there_are = known.iter().flatten().copied().collect::<Vec<_>>().join(", ");
        let mut findings = vec![];
        let mut compiled = BTreeMap::new();
        let constraints = document.roles.iter().flat_map(|role| &role.permissions);
        if constraints.map(|permission| permission.constraints.len()).sum::<usize>() > CONSTRAINTS_MAX {
            let detail = format!("more than {CONSTRAINTS_MAX} constrained parameters");
            findings.push(Finding::new(Flaw::TooLarge, "", detail));
            return Examined { findings, policy: None };
        }
        for rule in document.transactions.iter() {
            for role in rule.roles.iter().flatten() {
                if known.as_ref().is_some_and(|known| !known.contains(role.as_str())) {
                    let detail = format!("the role catalogue has no role {role}; its roles are: {there_are}");
                    findings.push(Finding::new(Flaw::RoleUnknown, format!("transaction rule {}", rule.name), detail));
                }
            }
        }
        for entry in &document.roles {
            if known.as_ref().is_some_and(|known| !known.contains(entry.role.as_str())) {
                let detail = format!("the role catalogue has no such role; its roles are: {there_are}");
                findings.push(Finding::new(Flaw::RoleUnknown, format!("role {}", entry.role), detail));
            }
            compiled.insert(entry.role.clone(), role(entry, tools, &mut findings));
        }
        if findings.iter().any(|finding| finding.flaw.severity() == Severity::Error) {
            return Examined { findings, policy: None };
        }
        let canonical = document.canonical();
        let hash = document.hash();
        let policy = Self(Arc::new(Compiled { document, canonical, hash, roles: compiled }));
        Examined { findings, policy: Some(policy) }
    }

    /// A policy that was examined before, from its canonical text.
    ///
    /// # Errors
    /// The first [`Finding`] that is an error.
    pub fn stored(canonical: &str) -> Result<Self, Finding> {
        let malformed = |error: serde_json::Error| Finding::new(Flaw::Malformed, "", error.to_string());
        let mut value: Value = serde_json::from_str(canonical).map_err(malformed)?;
        plain_numbers(&mut value);
        let examined = Self::examined(Document::of(value)?, &Tools::ours(), None);
        let mut errors = examined.findings.into_iter().filter(|finding| finding.flaw.severity() == Severity::Error);
        match (errors.next(), examined.policy) {
            (None, Some(policy)) => Ok(policy),
            (Some(error), _) => Err(error),
            (None, None) => Err(Finding::new(Flaw::Malformed, "", "the policy cannot be read")),
        }
    }

    pub fn document(&self) -> &Document {
        &self.0.document
    }

    /// Its rules about single payments.
    pub fn transactions(&self) -> &TransactionRules {
        &self.0.document.transactions
    }

    /// The text that is hashed, stored and shown.
    pub fn canonical(&self) -> &str {
        &self.0.canonical
    }

    /// SHA-256 of [`Self::canonical`].
    pub fn hash(&self) -> Sha256 {
        self.0.hash
    }

    /// What the policy says about a role: its entry, if it is named.
    pub fn role(&self, role: &str) -> Option<&RolePolicy> {
        self.0.document.roles.iter().find(|entry| entry.role == role)
    }

    /// Whether the role may call this tool with some arguments. What the catalogue says is another matter.
    pub fn gives(&self, role: &str, tool: &str) -> bool {
        match self.tool(role, tool) {
            Ok(_) | Err(Ruling::NotAsked | Ruling::Permitted { .. }) => true,
            Err(
                Ruling::RoleUnnamed
                | Ruling::NotPermitted
                | Ruling::Denied
                | Ruling::Violated { .. }
                | Ruling::Missing { .. },
            ) => false,
        }
    }

    /// What the policy says about one call. `arguments` are asked for only if a constraint is.
    pub fn ruling<'a>(&self, role: &str, tool: &str, arguments: impl FnOnce() -> Arguments<'a>) -> Ruling<'_> {
        let ways = match self.tool(role, tool) {
            Ok(ways) => ways,
            Err(ruling) => return ruling,
        };
        if let Some(way) = ways.iter().find(|way| way.parameters.is_empty()) {
            return Ruling::Permitted { at: way.at };
        }
        let arguments = arguments();
        let mut refused = Ruling::NotPermitted;
        for way in ways {
            match way.ruling(&arguments) {
                permitted @ Ruling::Permitted { .. } => return permitted,
                // A wrong value says more than a missing one, and the first more than the second.
                violated @ Ruling::Violated { .. } if !matches!(refused, Ruling::Violated { .. }) => refused = violated,
                missing @ Ruling::Missing { .. } if refused == Ruling::NotPermitted => refused = missing,
                Ruling::Violated { .. }
                | Ruling::Missing { .. }
                | Ruling::NotAsked
                | Ruling::RoleUnnamed
                | Ruling::NotPermitted
                | Ruling::Denied => {}
            }
        }
        refused
    }

    /// Why a value does not fit: the keyword's place in the fragment, and a sentence.
    pub fn why(&self, role: &str, at: usize, parameter: &str, value: &Value) -> Option<(String, String)> {
        let ways = self.0.roles.get(role)?.tools.values().flatten();
        let way = ways.into_iter().find(|way| way.at == at)?;
        let (_, validator) = way.parameters.iter().find(|(name, _)| name == parameter)?;
        let error = validator.validate(value).err()?;
        Some((error.schema_path().to_string(), error.masked_with("the value").to_string()))
    }

    /// The permissions of a tool, or what is ruled without them.
    fn tool(&self, role: &str, tool: &str) -> Result<&[Way], Ruling<'_>> {
        if self.0.roles.is_empty() {
            return Err(Ruling::NotAsked);
        }
        let entry = self.0.roles.get(role).ok_or(Ruling::RoleUnnamed)?;
        if entry.denied.contains(tool) {
            return Err(Ruling::Denied);
        }
        entry.tools.get(tool).map(Vec::as_slice).ok_or(Ruling::NotPermitted)
    }
}

impl Way {
    fn ruling(&self, arguments: &Arguments<'_>) -> Ruling<'_> {
        for (parameter, validator) in &self.parameters {
            let given = arguments.iter().find(|(name, _)| name == parameter);
            match given {
                None => return Ruling::Missing { at: self.at, parameter },
                Some((_, value)) if !validator.is_valid(value) => return Ruling::Violated { at: self.at, parameter },
                Some(_) => {}
            }
        }
        Ruling::Permitted { at: self.at }
    }
}

fn role(entry: &RolePolicy, tools: &Tools, findings: &mut Vec<Finding>) -> Role {
    let mut role = Role { denied: entry.deny_tools.iter().cloned().collect(), ..Role::default() };
    let unknown = |tool: &str, place: String| Finding::new(Flaw::ToolUnknown, place, tools.missing(tool));
    for tool in &entry.deny_tools {
        if tools.parameters(tool).is_none() {
            findings.push(unknown(tool, format!("role {}, deny_tools", entry.role)));
        }
    }
    for (at, permission) in entry.permissions.iter().enumerate() {
        let place = permission_place(entry, at);
        let known = tools.parameters(&permission.tool_name);
        if known.is_none() {
            findings.push(unknown(&permission.tool_name, place.clone()));
        }
        if role.denied.contains(&permission.tool_name) {
            findings.push(Finding::new(Flaw::DeniedAndPermitted, place.clone(), "deny_tools names the tool, too"));
        }
        let mut way = Way { at, parameters: vec![] };
        for (parameter, fragment) in &permission.constraints {
            let place = format!("{place}, {parameter}");
            let kind = known.map_or(Some(Kind::Any), |known| known.get(parameter).copied());
            if kind.is_none() {
                let detail = format!("{} has no parameter {parameter:?}", permission.tool_name);
                findings.push(Finding::new(Flaw::ParameterUnknown, place.clone(), detail));
            }
            let (validator, mut found) = constraint::compiled(fragment, kind.unwrap_or(Kind::Any), &place);
            findings.append(&mut found);
            way.parameters.extend(validator.map(|validator| (parameter.clone(), validator)));
        }
        role.tools.entry(permission.tool_name.clone()).or_default().push(way);
    }
    role
}

/// Arguments as a caller wrote them, for what is judged without a bank: an amount may be a string.
///
/// # Errors
/// One sentence about an argument that the tool does not have.
pub fn arguments_of<'a>(tools: &Tools, tool: &str, given: &'a Map<String, Value>) -> Result<Arguments<'a>, String> {
    let known = tools.parameters(tool);
    given
        .iter()
        .map(|(name, value)| {
            let kind = known.map_or(Some(&Kind::Any), |known| known.get(name));
            let kind = kind.ok_or_else(|| format!("{tool} has no parameter {name:?}"))?;
            let mut value = match value.as_str().filter(|_| *kind == Kind::Number) {
                None => value.clone(),
                Some(text) => decimal(text).ok_or_else(|| format!("{name}: {text:?} is no plain decimal"))?,
            };
            plain_numbers(&mut value);
            Ok((Cow::Borrowed(name.as_str()), value))
        })
        .collect()
}

/// A plain decimal as a number: at most 15 significant digits survive it exactly, and no amount has more.
pub fn decimal(text: &str) -> Option<Value> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    let float: f64 = text.parse().ok().filter(|_| plain)?;
    let mut value = Value::from(float);
    plain_numbers(&mut value);
    Some(value)
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.0.canonical == other.0.canonical
    }
}

impl Eq for Policy {}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Policy").field(&self.0.hash.hex()).finish()
    }
}

/// Written as its document: whoever reads it back has the same rules, or an error.
impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.document.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::stored(&value.to_string()).map_err(serde::de::Error::custom)
    }
}
