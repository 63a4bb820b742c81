//! A policy document: who may call which tool, with which arguments, and what single payments may be.
//!
//! It is one role object, a list of them, or an object with the members `roles` and `transactions`. What a reader would have to guess is
//! an error: unknown members, another action, one role twice.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::finding::{Finding, Flaw};
use super::transaction::{RuleMistake, TransactionRule, TransactionRules};
use crate::kernel::types::Sha256;

/// Roles of one policy.
const ROLES_MAX: usize = 64;
/// Permissions of one role.
const PERMISSIONS_MAX: usize = 512;
/// Tools that a role is denied.
const DENIED_MAX: usize = 256;
/// Constrained parameters of one permission.
const CONSTRAINTS_MAX: usize = 32;
/// Longest name of a role, as long as a role of the catalogue.
const ROLE_BYTES_MAX: usize = 63;
/// Longest name of a tool (MCP 2026-07-28: 1 to 128 characters).
const TOOL_BYTES_MAX: usize = 128;
const PARAMETER_BYTES_MAX: usize = 64;

/// Everything that one policy says.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Document {
    /// Empty: the policy says nothing about roles, and the signed catalogue alone decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RolePolicy>,
    /// What single payments may be, by role, agent and account.
    #[serde(skip_serializing_if = "TransactionRules::is_empty")]
    pub transactions: TransactionRules,
}

/// What one role may do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolePolicy {
    /// Compared letter by letter with the role in an agent's certificates. Capitals are taken, so that policies written
    /// for others can be read; a role of the signed catalogue has none.
    pub role: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<Permission>,
    /// Wins over every permission.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny_tools: Vec<String>,
}

/// One way in which a tool may be called. Several of one tool are alternatives.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    pub tool_name: String,
    pub action: String,
    /// A JSON Schema 2020-12 fragment for each constrained parameter.
    #[serde(default)]
    pub constraints: Map<String, Value>,
}

impl Document {
    /// Takes a value in any of the three shapes.
    ///
    /// # Errors
    /// The first [`Finding`].
    pub fn of(value: Value) -> Result<Self, Finding> {
        let roles = match value {
            Value::Array(roles) => numbered(roles, "")?,
            Value::Object(members) if members.contains_key("role") => vec![role(Value::Object(members), "")?],
            Value::Object(members) => return Self::of_members(members),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let detail = "a policy is a role, a list of roles, or an object with the member roles";
                return Err(Finding::new(Flaw::Shape, "", detail));
            }
        };
        Self { roles, ..Self::default() }.checked()
    }

    fn of_members(members: Map<String, Value>) -> Result<Self, Finding> {
        let mut document = Self::default();
        let mut found = false;
        for (name, value) in members {
            match name.as_str() {
                "roles" => {
                    let Value::Array(roles) = value else {
                        return Err(Finding::new(Flaw::Shape, "roles", "it must be a list"));
                    };
                    document.roles = numbered(roles, "roles")?;
                }
                "transactions" => document.transactions = transactions(value)?,
                "policy" => {
                    let detail = "[policy] is a section of countersign.toml and belongs there; a policy's own rules are \
                                  [[transactions]], and are put in force with `countersign policy apply`";
                    return Err(Finding::new(Flaw::UnknownMember, "", detail));
                }
                _ => {
                    let detail = format!("there is no member {name:?}; the members are: roles, transactions");
                    return Err(Finding::new(Flaw::UnknownMember, "", detail));
                }
            }
            found = true;
        }
        if !found {
            return Err(Finding::new(Flaw::Empty, "", "the policy says nothing"));
        }
        document.checked()
    }

    /// Several documents as one.
    ///
    /// # Errors
    /// [`Flaw::RoleTwice`], [`Flaw::TooLarge`], [`Flaw::Empty`] when there is none.
    pub fn merged(documents: impl IntoIterator<Item = Self>) -> Result<Self, Finding> {
        let mut whole = Self::default();
        let mut rules = Vec::new();
        for document in documents {
            whole.roles.extend(document.roles);
            rules.extend(Vec::from(document.transactions));
        }
        whole.transactions = TransactionRules::new(rules).map_err(mistaken)?;
        if whole == Self::default() {
            return Err(Finding::new(Flaw::Empty, "", "no file, no policy"));
        }
        whole.checked()
    }

    fn checked(self) -> Result<Self, Finding> {
        if self.roles.len() > ROLES_MAX {
            return Err(Finding::new(Flaw::TooLarge, "roles", format!("at most {ROLES_MAX} roles")));
        }
        for (at, entry) in self.roles.iter().enumerate() {
            // Names that differ in capitals only are one name to a reader.
            let twice = |earlier: &&RolePolicy| earlier.role.eq_ignore_ascii_case(&entry.role);
            if let Some(earlier) = self.roles.iter().take(at).find(twice) {
                let detail = format!("the role stands there twice, first as {:?}", earlier.role);
                return Err(Finding::new(Flaw::RoleTwice, format!("role {}", entry.role), detail));
            }
        }
        Ok(self)
    }

    /// The one text of what it says: members sorted, no white space, whole numbers without a point (RFC 8785).
    pub fn canonical(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        plain_numbers(&mut value);
        value.sort_all_objects();
        value.to_string()
    }

    /// SHA-256 of [`Self::canonical`].
    pub fn hash(&self) -> Sha256 {
        Sha256::of(&[self.canonical().as_bytes()])
    }
}

/// A number that is whole is written without a point: `100.0` and `100` are the same limit.
pub(super) fn plain_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(plain_numbers),
        Value::Object(members) => members.values_mut().for_each(plain_numbers),
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|_| number.is_f64()).and_then(whole) {
                *value = whole.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The integer that a float is exactly.
pub(super) fn whole(float: f64) -> Option<i64> {
    const WHOLE_MAX: f64 = 9_007_199_254_740_991.0;
    (float.fract() == 0.0 && float.abs() <= WHOLE_MAX).then_some(float as i64)
}

fn transactions(value: Value) -> Result<TransactionRules, Finding> {
    let Value::Array(rules) = value else {
        return Err(Finding::new(Flaw::Shape, "transactions", "it must be a list"));
    };
    if rules.is_empty() {
        return Err(Finding::new(Flaw::Empty, "transactions", "it holds no rule"));
    }
    let rule = |(at, value): (usize, Value)| {
        TransactionRule::deserialize(value).map_err(|error| {
            let detail = error.to_string();
            let flaw = if detail.starts_with("unknown field") { Flaw::UnknownMember } else { Flaw::Shape };
            Finding::new(flaw, format!("transactions[{at}]"), detail)
        })
    };
    let rules = rules.into_iter().enumerate().map(rule).collect::<Result<_, _>>()?;
    TransactionRules::new(rules).map_err(mistaken)
}

fn mistaken(mistake: RuleMistake) -> Finding {
    Finding::new(Flaw::TransactionRule, "", mistake.to_string())
}

fn numbered(roles: Vec<Value>, member: &str) -> Result<Vec<RolePolicy>, Finding> {
    if roles.is_empty() {
        return Err(Finding::new(Flaw::Empty, member, "a list of no roles takes every tool from everyone"));
    }
    let place = |at: usize| format!("{member}[{at}]");
    roles.into_iter().enumerate().map(|(at, value)| role(value, &place(at))).collect()
}

fn role(value: Value, place: &str) -> Result<RolePolicy, Finding> {
    let read = RolePolicy::deserialize(value);
    let entry = read.map_err(|error| {
        let detail = error.to_string();
        let flaw = if detail.starts_with("unknown field") { Flaw::UnknownMember } else { Flaw::Shape };
        Finding::new(flaw, place, detail)
    })?;
    let at_role = || format!("role {}", entry.role);
    if !is_name(&entry.role, ROLE_BYTES_MAX, "-_") {
        return Err(Finding::new(Flaw::RoleName, place, format!("{:?} is no name of a role", entry.role)));
    }
    if entry.permissions.len() > PERMISSIONS_MAX || entry.deny_tools.len() > DENIED_MAX {
        let detail = format!("at most {PERMISSIONS_MAX} permissions and {DENIED_MAX} denied tools");
        return Err(Finding::new(Flaw::TooLarge, at_role(), detail));
    }
    for (at, permission) in entry.permissions.iter().enumerate() {
        named(permission).map_err(|finding| Finding { place: permission_place(&entry, at), ..finding })?;
    }
    for (at, tool) in entry.deny_tools.iter().enumerate() {
        if !is_name(tool, TOOL_BYTES_MAX, "_-./") {
            let place = format!("{}, deny_tools[{at}]", at_role());
            return Err(Finding::new(Flaw::ToolName, place, format!("{tool:?} is no name of a tool")));
        }
        if entry.deny_tools.iter().take(at).any(|earlier| earlier == tool) {
            return Err(Finding::new(Flaw::ToolTwice, at_role(), format!("{tool} is denied twice")));
        }
    }
    Ok(entry)
}

fn named(permission: &Permission) -> Result<(), Finding> {
    let refused = |flaw, detail| Err(Finding::new(flaw, "", detail));
    if !is_name(&permission.tool_name, TOOL_BYTES_MAX, "_-./") {
        return refused(Flaw::ToolName, format!("{:?} is no name of a tool", permission.tool_name));
    }
    if permission.action != "invoke" {
        return refused(Flaw::Action, format!("there is no action {:?}", permission.action));
    }
    if permission.constraints.len() > CONSTRAINTS_MAX {
        return refused(Flaw::TooLarge, format!("at most {CONSTRAINTS_MAX} constrained parameters"));
    }
    match permission.constraints.keys().find(|name| !is_name(name, PARAMETER_BYTES_MAX, "_-")) {
        Some(name) => refused(Flaw::ParameterName, format!("{name:?} is no name of a parameter")),
        None => Ok(()),
    }
}

/// Where a permission is, for people: counted as in the file, from 0.
pub(super) fn permission_place(role: &RolePolicy, at: usize) -> String {
    let tool = role.permissions.get(at).map_or("", |permission| &permission.tool_name);
    format!("role {}, permissions[{at}] ({tool})", role.role)
}

fn is_name(text: &str, bytes_max: usize, marks: &str) -> bool {
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins
        && text.len() <= bytes_max
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || marks.contains(letter))
}
