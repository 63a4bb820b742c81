//! Which human is at the admin socket: peer credentials against the configured operators.

use crate::front::admin_group::AdminGroup;
use crate::front::settings::{DemoSettings, OperatorSettings};
use crate::kernel::command::OperatorPrincipal;
use crate::kernel::types::{OperatorName, OwnerId};
use crate::ops::failure::Failure;

/// The configured humans of this party.
#[derive(Clone, Debug)]
pub struct Operators {
    known: Vec<OperatorSettings>,
    demo: DemoSettings,
    group: Option<AdminGroup>,
}

impl Operators {
    pub fn new(known: Vec<OperatorSettings>, demo: DemoSettings) -> Self {
        Self { known, demo, group: None }
    }

    /// The same, where people of this group reach the socket.
    #[must_use]
    pub fn of_group(self, group: Option<AdminGroup>) -> Self {
        Self { group, ..self }
    }

    /// Everybody whom the configuration names.
    pub fn known(&self) -> &[OperatorSettings] {
        &self.known
    }

    /// Who besides the daemon's own user reaches the socket.
    pub fn group(&self) -> Option<&AdminGroup> {
        self.group.as_ref()
    }

    /// True when `--operator` may choose: `doctor` warns about it.
    pub fn may_be_asserted(&self) -> bool {
        self.demo.enabled && self.demo.asserted_operators
    }

    /// The operator of this peer uid. `asserted` names one among several of the same uid, in a demo only.
    ///
    /// # Errors
    /// `operator_unknown`, `operator_ambiguous`, `assertion_refused`.
    pub fn identify(&self, uid: u32, asserted: Option<&str>) -> Result<OperatorPrincipal, Failure> {
        let mut of_uid = self.known.iter().filter(|operator| operator.uid == uid);
        if let Some(name) = asserted {
            if !self.may_be_asserted() {
                return Err(Failure::refused(
                    "assertion_refused",
                    "--operator is only accepted by a daemon whose configuration is marked as a demo",
                    "leave --operator out and act under your own user id",
                ));
            }
            let found = of_uid.find(|operator| operator.name.as_str() == name);
            let known = self.names_of(uid);
            return found
                .map(|operator| principal(operator, uid, true))
                .ok_or_else(|| unknown(uid, Some(name), &known));
        }
        let first = of_uid.next().ok_or_else(|| unknown(uid, None, ""))?;
        if of_uid.next().is_some() {
            return Err(Failure::usage(
                "operator_ambiguous",
                format!("several operators have uid {uid}: {}", self.names_of(uid)),
                "say which one with --operator NAME",
            ));
        }
        Ok(principal(first, uid, false))
    }

    /// The customer that the configuration says a person is, whichever way they come.
    pub fn owner_of(&self, name: &OperatorName) -> Option<OwnerId> {
        self.known.iter().filter(|operator| operator.name == *name).find_map(|operator| operator.owner.clone())
    }

    fn names_of(&self, uid: u32) -> String {
        let of_uid = self.known.iter().filter(|operator| operator.uid == uid);
        of_uid.map(|operator| operator.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

fn principal(operator: &OperatorSettings, uid: u32, asserted: bool) -> OperatorPrincipal {
    OperatorPrincipal {
        name: operator.name.clone(),
        uid,
        roles: operator.roles.clone(),
        asserted,
        owner: operator.owner.clone(),
    }
}

fn unknown(uid: u32, name: Option<&str>, known: &str) -> Failure {
    let who = name.map_or_else(|| format!("uid {uid}"), |name| format!("operator {name:?} with uid {uid}"));
    Failure::refused(
        "operator_unknown",
        format!("the configuration names no {who}"),
        if known.is_empty() {
            "add an [[operator]] section, or use a user id that has one".to_owned()
        } else {
            format!("name one of {known}, or add an [[operator]] section")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operators(asserted_operators: bool) -> Operators {
        let person = |name: &str, uid, owner: Option<&str>| OperatorSettings {
            name: name.parse().unwrap(),
            uid,
            roles: vec!["officer".into()],
            owner: owner.map(|owner| owner.parse().unwrap()),
        };
        Operators::new(
            vec![person("alice", 7, None), person("bob", 7, Some("cust_17")), person("carol", 8, None)],
            DemoSettings { enabled: asserted_operators, asserted_operators },
        )
    }

    #[test]
    fn nobody_is_taken_for_somebody_else() {
        let table = [
            (true, 9, None, "operator_unknown"),
            (true, 9, Some("alice"), "operator_unknown"),
            (true, 8, Some("alice"), "operator_unknown"),
            (true, 7, Some("mallory"), "operator_unknown"),
            (true, 7, None, "operator_ambiguous"),
            (false, 7, Some("alice"), "assertion_refused"),
            (false, 8, Some("carol"), "assertion_refused"),
        ];
        for (demo, uid, asserted, name) in table {
            assert_eq!(operators(demo).identify(uid, asserted).unwrap_err().name, name, "{uid} {asserted:?}");
        }
    }

    #[test]
    fn a_chosen_operator_is_marked_as_asserted() {
        let chosen = operators(true).identify(7, Some("bob")).unwrap();
        assert_eq!((chosen.name.as_str(), chosen.asserted), ("bob", true));
        assert_eq!(chosen.owner.unwrap().as_str(), "cust_17", "as configured");
        let own = operators(false).identify(8, None).unwrap();
        assert_eq!((own.name.as_str(), own.asserted), ("carol", false));
    }
}
