//! A client's configuration on disk: read whole, replaced as a whole, with what was there kept beside it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, Uid};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::ops::failure::Failure;

/// Claude Code keeps the history of projects in its file; tens of megabytes are the largest that people report.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Backups of one second.
const SAME_SECOND_MAX: u32 = 1000;

/// A configuration as it was read.
#[derive(Debug)]
pub(super) struct Content {
    text: String,
    /// Mode and owner; `None` where there is no file.
    metadata: Option<std::fs::Metadata>,
}

impl Content {
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// Whether a file was replaced.
#[derive(Debug)]
pub(super) enum Replaced {
    Yes {
        backup: Option<PathBuf>,
    },
    /// Somebody else wrote to it since it was read.
    Overtaken,
}

/// The file itself: people keep configurations elsewhere and link to them, and the link stays.
///
/// # Errors
/// `client_config_unreadable` for a link that leads nowhere.
pub(super) fn followed(place: &Path) -> Result<PathBuf, Failure> {
    match place.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == ErrorKind::NotFound && place.symlink_metadata().is_err() => Ok(place.to_owned()),
        Err(error) => Err(unreadable(place, &error.to_string())),
    }
}

/// What the file holds; nothing, where there is none.
///
/// # Errors
/// `client_config_unreadable`.
pub(super) fn read(path: &Path) -> Result<Content, Failure> {
    let failed = |error: std::io::Error| unreadable(path, &error.to_string());
    // Not blocking: what stands in the file's place may be a pipe.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Content { text: String::new(), metadata: None });
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(unreadable(path, "it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(path, "it has more than 64 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable(path, "it is no UTF-8 text"))?;
    Ok(Content { text, metadata: Some(metadata) })
}

/// Keeps other runs of this from the file, until it is dropped. The lock is on the directory: the file is replaced.
///
/// # Errors
/// `client_config_unwritable`.
pub(super) fn lock(path: &Path) -> Result<File, Failure> {
    let directory = directory(path)?;
    let failed = |error: std::io::Error| unwritable(directory, &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    let lock = File::open(directory).map_err(failed)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    Ok(lock)
}

/// Puts the text in the file's place: written beside it, made durable, and renamed over it, with its mode and owner.
///
/// # Errors
/// `client_config_unwritable`; the file is as it was.
pub(super) fn replace(path: &Path, before: &Content, text: &str) -> Result<Replaced, Failure> {
    let directory = directory(path)?;
    let failed = |error: std::io::Error| unwritable(directory, &error);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let new = directory.join(format!(".{name}.countersign-{}", std::process::id()));
    // Under the lock nobody else writes it: a run that was killed left it.
    let _ = std::fs::remove_file(&new);
    write(&new, text, before.metadata.as_ref()).map_err(failed)?;
    let put_in_place = || {
        // As late as can be: what a client wrote in between is not lost.
        let now = read(path)?;
        if now.metadata.is_some() != before.metadata.is_some() || now.text != before.text {
            return Ok(Replaced::Overtaken);
        }
        let backup = match &before.metadata {
            Some(metadata) => Some(keep(path, &before.text, metadata).map_err(failed)?),
            None => None,
        };
        std::fs::rename(&new, path).map_err(failed)?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(Replaced::Yes { backup })
    };
    let replaced = put_in_place();
    if !matches!(replaced, Ok(Replaced::Yes { .. })) {
        // Ours alone, by its name; what went wrong is said already.
        let _ = std::fs::remove_file(&new);
    }
    replaced
}

/// Writes what the file holds to a new file beside it, which has the time in its name.
fn keep(path: &Path, text: &str, metadata: &std::fs::Metadata) -> std::io::Result<PathBuf> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let now = OffsetDateTime::now_utc().format(format).map_err(std::io::Error::other)?;
    for count in 0..SAME_SECOND_MAX {
        let more = if count == 0 { String::new() } else { format!("-{count}") };
        let mut backup = path.as_os_str().to_owned();
        backup.push(format!(".countersign-backup-{now}{more}"));
        let backup = PathBuf::from(backup);
        match write(&backup, text, Some(metadata)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            written => return written.map(|()| backup),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// A new file with this text, durable, with the mode and owner of the one whose place it takes.
fn write(path: &Path, text: &str, like: Option<&std::fs::Metadata>) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    if like.is_some() {
        // Nobody reads it before it has the mode that it should have.
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    let whole = (|| {
        if let Some(like) = like {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
                let (owner, group) = (Uid::from_raw(like.uid()), Gid::from_raw(like.gid()));
                rustix::fs::fchown(&file, Some(owner), Some(group))?;
            }
            file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })();
    if whole.is_err() {
        // Half of a file is of no use to anybody.
        let _ = std::fs::remove_file(path);
    }
    whole
}

fn directory(path: &Path) -> Result<&Path, Failure> {
    path.parent().ok_or_else(|| unreadable(path, "it is no file"))
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::usage(
        "client_config_unreadable",
        format!("{} was left as it is: {why}", path.display()),
        "correct the file, or print the entry with --print and paste it by hand",
    )
}

fn unwritable(directory: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(
        "client_config_unwritable",
        format!("nothing was changed in {}: {error}", directory.display()),
        "make the directory writable for this user, or print the entry with --print and paste it by hand",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_is_not_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mcp.json");
        let absent = read(&path).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        assert!(matches!(replace(&path, &absent, "ours"), Ok(Replaced::Overtaken)));
        let before = read(&path).unwrap();
        std::fs::write(&path, "theirs, again").unwrap();
        assert!(matches!(replace(&path, &before, "ours"), Ok(Replaced::Overtaken)));
        let before = read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(replace(&path, &before, "ours"), Ok(Replaced::Overtaken)));
        assert_eq!(names(directory.path()), [] as [&str; 0]);
    }

    #[test]
    fn every_backup_has_a_name_of_its_own_and_what_a_killed_run_left_is_in_nobodys_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mcp.json");
        let left = directory.path().join(format!(".mcp.json.countersign-{}", std::process::id()));
        std::fs::write(&path, "0").unwrap();
        for number in 1..=5 {
            std::fs::write(&left, "half").unwrap();
            let before = read(&path).unwrap();
            let replaced = replace(&path, &before, &number.to_string()).unwrap();
            let Replaced::Yes { backup: Some(backup) } = replaced else { panic!("{replaced:?}") };
            assert_eq!(std::fs::read_to_string(backup).unwrap(), (number - 1).to_string());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), number.to_string());
        }
        assert_eq!(names(directory.path()).len(), 6);
    }

    #[test]
    fn what_is_no_text_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mcp.json");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(read(&path).unwrap_err().name, "client_config_unreadable");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(read(&path).unwrap_err().name, "client_config_unreadable");
        std::fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().name, "client_config_unreadable");
    }
}
