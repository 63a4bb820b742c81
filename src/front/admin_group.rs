//! `[admin] group`: the people besides the daemon's own user who reach the admin socket.
//!
//! They may pass through the state directory and `run/` and connect, and no more: who each of them is, the socket's peer
//! credentials say as before. Nothing else in the state directory is opened to them.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::front::settings::AdminSettings;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// Where the groups of this machine are listed.
const GROUPS: &str = "/etc/group";
const DIRECTORY_MODE: u32 = 0o710;
pub const SOCKET_MODE: u32 = 0o660;

/// A group that was looked up.
#[derive(Clone, Debug)]
pub struct AdminGroup {
    name: String,
    gid: u32,
}

impl AdminGroup {
    /// Looks the group up, by name or by number: before the front is confined.
    ///
    /// # Errors
    /// `admin_group_unknown`
    pub fn find(settings: &AdminSettings) -> Result<Option<Self>, Failure> {
        let Some(name) = &settings.group else {
            return Ok(None);
        };
        let by_number = name.parse().ok();
        let listed = || std::fs::read_to_string(GROUPS).ok().and_then(|groups| gid_of(&groups, name));
        let gid = by_number.or_else(listed).ok_or_else(|| {
            Failure::usage(
                "admin_group_unknown",
                format!("[admin] group: {GROUPS} has no group {name}"),
                format!("groupadd {name}, or give the number of a group that another service knows"),
            )
        })?;
        Ok(Some(Self { name: name.clone(), gid }))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets the group through to the socket, which is there and the daemon's own until then.
    ///
    /// # Errors
    /// `admin_group_not_ours`: only a member of a group may give it something.
    pub fn open(&self, state: &StateDir) -> Result<(), Failure> {
        let socket = state.admin_socket();
        let run = socket.parent().unwrap_or(state.root());
        for (path, mode) in [(socket.as_path(), SOCKET_MODE), (run, DIRECTORY_MODE), (state.root(), DIRECTORY_MODE)] {
            // The group first: what a mode permits, it permits to the right ones.
            let opened = chown(path, None, Some(self.gid))
                .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)));
            opened.map_err(|error| {
                Failure::usage(
                    "admin_group_not_ours",
                    format!("{} cannot be opened to the group {}: {error}", path.display(), self.name),
                    format!("make the daemon's user a member of {}, then start it again", self.name),
                )
            })?;
        }
        Ok(())
    }

    /// Whether a directory is open to this group as [`Self::open`] makes it, and to nobody else.
    pub fn alone_passes(&self, directory: &Path) -> bool {
        std::fs::metadata(directory)
            .is_ok_and(|found| found.gid() == self.gid && found.permissions().mode() & 0o7777 == DIRECTORY_MODE)
    }

    /// Whether the socket is this group's, and nobody else's.
    pub fn alone_connects(&self, socket: &Path) -> bool {
        std::fs::metadata(socket)
            .is_ok_and(|found| found.gid() == self.gid && found.permissions().mode() & 0o777 == SOCKET_MODE)
    }
}

/// `name:password:gid:members`, one a line.
fn gid_of(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(group: &str) -> AdminSettings {
        AdminSettings { group: Some(group.to_owned()) }
    }

    #[test]
    fn a_group_is_found_by_its_name_or_its_number_and_an_unknown_one_is_named() {
        let groups = "root:x:0:\noperators:x:4711:alice,bob\nshort\noperators-2:x:many:\n";
        assert_eq!(gid_of(groups, "operators"), Some(4711));
        for unknown in ["operator", "alice", "short", "operators-2", ""] {
            assert_eq!(gid_of(groups, unknown), None, "{unknown:?}");
        }
        assert!(AdminGroup::find(&AdminSettings::default()).unwrap().is_none());
        assert_eq!(AdminGroup::find(&settings("4711")).unwrap().unwrap().gid, 4711);
        assert_eq!(AdminGroup::find(&settings("no such group")).unwrap_err().name, "admin_group_unknown");
    }

    #[test]
    fn only_the_directory_as_it_is_opened_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let group = AdminGroup { name: "own".into(), gid: std::fs::metadata(path).unwrap().gid() };
        let other = AdminGroup { name: "other".into(), gid: group.gid + 1 };
        for (mode, accepted) in [(0o700, false), (0o710, true), (0o750, false), (0o711, false), (0o2710, false)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!((group.alone_passes(path), other.alone_passes(path)), (accepted, false), "{mode:o}");
        }
    }
}
