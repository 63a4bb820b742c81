//! Who calls: the user and group of the other end of the socket, and the names that this machine has for them.
//!
//! Names are looked up once, at the start, before the front is confined: afterwards `/etc` is out of its reach.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::command::ProgramPrincipal;
use crate::ops::failure::Failure;
use crate::signing::settings::SigningSettings;

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";
/// The kernel says the first one of everybody whom a user namespace does not map; the second one is no id.
const NOBODYS: [u32; 2] = [65_534, u32::MAX];

/// Who may use one key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Permitted {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

/// Every key's callers, by the key's name, and the names of users.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Callers {
    of_keys: BTreeMap<String, Permitted>,
    names: BTreeMap<u32, String>,
}

impl Callers {
    /// Looks up everybody that the configuration names.
    ///
    /// # Errors
    /// `signing_caller_unknown`
    pub fn find(settings: &SigningSettings) -> Result<Self, Failure> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        if settings.is_on() { Self::of(settings, &read(USERS), &read(GROUPS)) } else { Ok(Self::default()) }
    }

    fn of(settings: &SigningSettings, users: &str, groups: &str) -> Result<Self, Failure> {
        let (users, groups) = (listed(users), listed(groups));
        let mut of_keys = BTreeMap::new();
        for key in &settings.key {
            let mut permitted = Permitted::default();
            for caller in &key.callers {
                let (name, list, into, place) = match caller.strip_prefix("group:") {
                    Some(group) => (group, &groups, &mut permitted.groups, GROUPS),
                    None => (caller.as_str(), &users, &mut permitted.users, USERS),
                };
                let known = list.iter().find(|(known, _)| known == name).map(|(_, id)| *id);
                let found = known.or_else(|| name.parse().ok());
                let id = found.filter(|id| !NOBODYS.contains(id)).ok_or_else(|| {
                    Failure::usage(
                        "signing_caller_unknown",
                        format!("[[signing.key]] {}: {place} has no {caller}, or it is nobody's own id", key.name),
                        "name a user of this machine, a user id, group:NAME or group:GID",
                    )
                })?;
                into.insert(id);
            }
            of_keys.insert(key.name.to_string(), permitted);
        }
        let names = users.into_iter().rev().map(|(name, id)| (id, name)).collect();
        Ok(Self { of_keys, names })
    }

    /// Who it is at the other end.
    pub fn principal(&self, uid: u32, gid: u32) -> ProgramPrincipal {
        ProgramPrincipal { uid, gid, user: self.names.get(&uid).cloned() }
    }

    /// Whether this program may use the key of this name. Root is nobody special.
    pub fn permits(&self, key: &str, program: &ProgramPrincipal) -> bool {
        self.of_keys
            .get(key)
            .is_some_and(|permitted| permitted.users.contains(&program.uid) || permitted.groups.contains(&program.gid))
    }

    /// Whether it may use any.
    pub fn knows(&self, program: &ProgramPrincipal) -> bool {
        self.of_keys.keys().any(|key| self.permits(key, program))
    }
}

/// `name:password:id:…`, one a line.
fn listed(text: &str) -> Vec<(String, u32)> {
    let line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && name.len() <= 255)?.to_owned();
        Some((name, fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1001:1001::/:/bin/sh\nother:x:1002:1001::/:/bin/sh\n77:x:1077:1077::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\nbad\n";
    const GROUPS: &str = "root:x:0:\nsigners:x:2000:app\n";

    fn settings(callers: &str) -> SigningSettings {
        toml::from_str(&format!("[[key]]\nname = \"a\"\nkinds = [\"file\"]\ncallers = {callers}")).unwrap()
    }

    #[test]
    fn only_who_is_named_may_use_a_key() {
        let callers = Callers::of(&settings(r#"["app", "1005", "group:signers", "group:77"]"#), USERS, GROUPS).unwrap();
        for (uid, gid, may) in [
            (1001, 5, true),
            (1005, 5, true),
            (9, 2000, true),
            (9, 77, true),
            (0, 0, false),
            (1002, 1001, false),
            (2000, 1005, false),
        ] {
            let program = callers.principal(uid, gid);
            assert_eq!((callers.permits("a", &program), callers.knows(&program)), (may, may), "{uid}:{gid}");
            assert!(!callers.permits("b", &program));
        }
        assert_eq!(callers.principal(1001, 1).user.as_deref(), Some("app"));
        assert_eq!(callers.principal(1005, 1).user, None);
        // A name of digits is a name.
        let named = Callers::of(&settings(r#"["77"]"#), USERS, GROUPS).unwrap();
        assert!(named.permits("a", &named.principal(1077, 1)) && !named.permits("a", &named.principal(77, 1)));
        for unknown in [
            r#"["nobody-here"]"#,
            r#"["65534"]"#,
            r#"["nobody"]"#,
            r#"["group:65534"]"#,
            r#"["4294967295"]"#,
            r#"["group:app"]"#,
            r#"["-1"]"#,
            r#"[""]"#,
        ] {
            let failure = Callers::of(&settings(unknown), USERS, GROUPS).unwrap_err();
            assert_eq!(failure.name, "signing_caller_unknown", "{unknown}");
        }
        let nobody = Callers::of(&settings("[]"), USERS, GROUPS).unwrap();
        assert!(!nobody.knows(&nobody.principal(0, 0)));
    }
}
