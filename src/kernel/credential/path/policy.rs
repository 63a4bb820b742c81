//! Certificate policies along a path (RFC 5280, 6.1, with the graph of RFC 9618), for any policy of the user's.
//!
//! Only one thing is asked: is there a policy under which the whole path is valid, where a CA requires one? For that
//! a level of the graph is enough, a node for each policy; edges are never followed upwards. So the work grows with
//! the number of policies, not with their combinations, which is what RFC 9618 is about.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::{Broken, PathRule};

/// 2.5.29.32.0
pub(super) const ANY_POLICY: &[u8] = &[0x55, 0x1d, 0x20, 0x00];

/// What a certificate says about policies. Object identifiers as content octets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct PolicyExtensions<'a> {
    pub policies: Option<Vec<&'a [u8]>>,
    /// Issuer's and subject's policy.
    pub mappings: Vec<(&'a [u8], &'a [u8])>,
    pub require_explicit: Option<u64>,
    pub inhibit_mapping: Option<u64>,
    pub inhibit_any: Option<u64>,
}

/// Whether the rules for the certificates in the middle of a path apply to one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    SelfIssuedAuthority,
    Authority,
    EndEntity,
}

type Level<'a> = BTreeMap<&'a [u8], BTreeSet<&'a [u8]>>;

/// The state variables of RFC 5280, 6.1.2.
pub(super) struct PolicyState<'a> {
    /// Policy and its expected policies, of the certificate that was last. Empty: the graph is NULL.
    level: Level<'a>,
    explicit_policy: u64,
    policy_mapping: u64,
    inhibit_any: u64,
}

impl<'a> PolicyState<'a> {
    /// For `length` certificates below the trust anchor, whose own constraints hold too (RFC 5937, 3.2).
    pub(super) fn new(length: u64, anchor: &PolicyExtensions<'_>) -> Self {
        let limit = |constraint: Option<u64>| constraint.map_or(length + 1, |skip| skip.min(length + 1));
        Self {
            level: Level::from([(ANY_POLICY, BTreeSet::from([ANY_POLICY]))]),
            explicit_policy: limit(anchor.require_explicit),
            policy_mapping: limit(anchor.inhibit_mapping),
            inhibit_any: limit(anchor.inhibit_any),
        }
    }

    /// Takes the next certificate of the path.
    ///
    /// # Errors
    /// [`PathRule::PolicyMapping`], [`PathRule::PolicyRequired`]
    pub(super) fn next(&mut self, extensions: &PolicyExtensions<'a>, place: Place) -> Result<(), Broken> {
        self.level = match &extensions.policies {
            None => Level::new(),
            Some(policies) => self.descend(policies, place),
        };
        let required = PathRule::PolicyRequired.because("no policy is valid for the whole path");
        if self.explicit_policy == 0 && self.level.is_empty() {
            return Err(required);
        }
        if place == Place::EndEntity {
            // 6.1.5 (a), (b)
            let explicit = self.explicit_policy.saturating_sub(1);
            let last = if extensions.require_explicit == Some(0) { 0 } else { explicit };
            return if last == 0 && self.level.is_empty() { Err(required) } else { Ok(()) };
        }
        self.map(&extensions.mappings)?;
        if place == Place::Authority {
            for counter in [&mut self.explicit_policy, &mut self.policy_mapping, &mut self.inhibit_any] {
                *counter = counter.saturating_sub(1);
            }
        }
        let narrow = |counter: &mut u64, skip: Option<u64>| *counter = skip.map_or(*counter, |skip| skip.min(*counter));
        narrow(&mut self.explicit_policy, extensions.require_explicit);
        narrow(&mut self.policy_mapping, extensions.inhibit_mapping);
        narrow(&mut self.inhibit_any, extensions.inhibit_any);
        Ok(())
    }

    /// 6.1.3 (d): the nodes below this level that a certificate with these policies has.
    fn descend(&self, policies: &[&'a [u8]], place: Place) -> Level<'a> {
        let expected: BTreeSet<&[u8]> = self.level.values().flatten().copied().collect();
        let any_above = self.level.contains_key(ANY_POLICY);
        let mut below = Level::new();
        for policy in policies.iter().filter(|policy| **policy != ANY_POLICY) {
            if expected.contains(policy) || any_above {
                below.insert(*policy, BTreeSet::from([*policy]));
            }
        }
        let any_counts = self.inhibit_any > 0 || place == Place::SelfIssuedAuthority;
        if policies.contains(&ANY_POLICY) && any_counts {
            for policy in expected {
                below.entry(policy).or_insert_with(|| BTreeSet::from([policy]));
            }
        }
        below
    }

    /// 6.1.4 (a), (b)
    fn map(&mut self, mappings: &[(&'a [u8], &'a [u8])]) -> Result<(), Broken> {
        if mappings.iter().any(|(issuer, subject)| *issuer == ANY_POLICY || *subject == ANY_POLICY) {
            return Err(PathRule::PolicyMapping.because("anyPolicy stands for itself alone"));
        }
        let mut mapped: BTreeMap<&[u8], BTreeSet<&[u8]>> = BTreeMap::new();
        for (issuer, subject) in mappings {
            mapped.entry(issuer).or_default().insert(subject);
        }
        let any = self.level.contains_key(ANY_POLICY);
        for (issuer, subjects) in mapped {
            if self.policy_mapping == 0 {
                self.level.remove(issuer);
            } else if any || self.level.contains_key(issuer) {
                self.level.insert(issuer, subjects);
            }
        }
        Ok(())
    }
}
