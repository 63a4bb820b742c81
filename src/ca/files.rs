//! Files of the state directory that others read: written whole, durable, never half.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kernel::canon::canonical;
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;

/// Larger files are not ours.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Replaces a file atomically: temporary file, fsync, rename, fsync of the directory.
pub fn write_durable(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::fault(
            "file_unwritable",
            format!("{} cannot be written: {error}", path.display()),
            "check the disk and the owner of the state directory, then repeat the command",
        )
    };
    let directory = path.parent().ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
    make_durable(directory).map_err(failed)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", hex::encode(crate::ops::clock::random::<8>())));
    let written = (|| {
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    })();
    written.map_err(|error| {
        // What is left of the attempt is of no use to anyone; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        failed(error)
    })
}

/// Removes what [`write_durable`] left half-written below a directory when the process was killed. Nobody may be writing.
/// Answers how many files.
pub fn remove_half_written(directory: &Path) -> Result<usize, Failure> {
    let mut count = 0;
    for name in names(directory)? {
        let path = directory.join(&name);
        if path.is_dir() && !path.is_symlink() {
            count += remove_half_written(&path)?;
        } else if is_half_written(&name) {
            remove_durable(&path)?;
            count += 1;
        }
    }
    Ok(count)
}

/// `<name>.<16 hexadecimal digits>.new`
fn is_half_written(name: &str) -> bool {
    let mark = name.strip_suffix(".new").and_then(|rest| rest.rsplit_once('.'));
    mark.is_some_and(|(_, mark)| mark.len() == 16 && mark.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Makes a directory with all above it that are missing; each is there after a loss of power once this has returned.
fn make_durable(directory: &Path) -> std::io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().filter(|above| !above.as_os_str().is_empty());
    above.map_or(Ok(()), make_durable)?;
    match fs::create_dir(directory) {
        // Somebody else was faster; the directory above may not have been synced yet.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}

/// Removes a file for good; one that is not there is fine.
pub fn remove_durable(path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::fault(
            "file_unwritable",
            format!("{} cannot be removed: {error}", path.display()),
            "check the owner of the state directory, then repeat the command",
        )
    };
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    path.parent().map_or(Ok(()), |directory| File::open(directory).and_then(|opened| opened.sync_all())).map_err(failed)
}

/// The text of a file, or `None` when there is none.
pub fn read_optional(path: &Path) -> Result<Option<String>, Failure> {
    let failed = |why: String| {
        Failure::fault(
            "file_unreadable",
            format!("{} cannot be read: {why}", path.display()),
            "check the owner and mode of the state directory",
        )
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
        Ok(found) if found.len() > FILE_BYTES_MAX => return Err(failed("it is too large".into())),
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(|error| failed(error.to_string()))
}

/// What a JSON file of ours says, or `None` when there is none. `unreadable` is the name of the failure when it says
/// something else, and `next_step` what to do then.
pub fn read_json<T: DeserializeOwned>(path: &Path, unreadable: &str, next_step: &str) -> Result<Option<T>, Failure> {
    let Some(text) = read_optional(path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Failure::fault(unreadable, format!("{} cannot be read: {error}", path.display()), next_step))
}

/// Replaces a JSON file, as [`write_durable`] does.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::fault("file_unwritable", error.to_string(), "report this as a defect"))?;
    write_durable(path, format!("{text}\n").as_bytes())
}

/// SHA-256 of a document's canonical JSON (RFC 8785): the same in whatever order its members came. What has none, a
/// float among its members, is hashed as it is written.
pub fn content_hash(document: &Value) -> Sha256 {
    let canonical = canonical(document).unwrap_or_else(|_| document.to_string().into_bytes());
    Sha256::of(&[&canonical])
}

/// File names of a directory in order; empty when there is no directory.
pub fn names(directory: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::fault(
            "file_unreadable",
            format!("{} cannot be listed: {error}", directory.display()),
            "check the owner and mode of the state directory",
        )
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_half_written_goes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("agents/shopper");
        fs::create_dir_all(&inside).unwrap();
        write_durable(&inside.join("pair.pem"), b"whole").unwrap();
        let left = ["pair.pem.0123456789abcdef.new", "a.b.json.ffffffffffffffff.new"];
        let kept = ["issuing.new", "x.0123.new", "x.0123456789abcdeg.new", "x.0123456789abcdef.old"];
        for name in left.iter().chain(&kept) {
            fs::write(inside.join(name), "half").unwrap();
        }
        assert_eq!(remove_half_written(directory.path()).unwrap(), left.len());
        let found = names(&inside).unwrap();
        assert!(
            kept.iter().all(|name| found.contains(&(*name).to_owned())) && found.len() == kept.len() + 1,
            "{found:?}"
        );
        assert_eq!(remove_half_written(directory.path()).unwrap(), 0);
        assert_eq!(remove_half_written(&directory.path().join("nowhere")).unwrap(), 0);
    }
}
