//! Secrets of other systems, read from files that only we can read. PINs have a reader of their own.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use secrecy::SecretString;

use crate::ops::failure::Failure;

/// Longer than any password or bearer token that is meant to be one.
const SECRET_BYTES_MAX: u64 = 4_096;

/// The first line of a regular file that nobody else can read. `setting` names it in messages.
///
/// # Errors
/// `secret_file_missing`, `secret_file_too_open`, `secret_file_unusable`
pub fn from_file(path: &Path, setting: &str) -> Result<SecretString, Failure> {
    let shown = path.display();
    let unusable = |why: String| {
        Failure::usage("secret_file_unusable", format!("{setting} {shown}: {why}"), "check the file's owner and type")
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::NOENT => Failure::usage(
            "secret_file_missing",
            format!("{setting} {shown} is not there"),
            "make the file (mode 0600) with the secret as its only line",
        ),
        error => unusable(error.to_string()),
    })?;
    let status = rustix::fs::fstat(&file).map_err(|error| unusable(error.to_string()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(unusable("it is not a regular file".into()));
    }
    if status.st_mode & 0o077 != 0 {
        return Err(Failure::usage(
            "secret_file_too_open",
            format!("{setting} {shown} has mode {:04o}: others can reach it", status.st_mode & 0o7777),
            format!("run `chmod 600 {shown}`; if others may have read it, change the secret"),
        ));
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = File::from(file).take(SECRET_BYTES_MAX + 1).read_to_string(&mut text);
    let read = read.map_err(|error| unusable(error.to_string()))?;
    let line = text.trim_end_matches(['\n', '\r']);
    if line.is_empty() || line.contains('\n') || read as u64 > SECRET_BYTES_MAX {
        return Err(unusable("it must hold one line, at most 4096 bytes".into()));
    }
    Ok(SecretString::from(line))
}

/// The one line of a systemd credential. `setting` names it in messages.
///
/// # Errors
/// `secret_credential_missing`
pub fn from_credential(name: &str, setting: &str) -> Result<SecretString, Failure> {
    let missing = |why: String| {
        Failure::usage(
            "secret_credential_missing",
            format!("{setting}: the systemd credential `{name}` cannot be read: {why}"),
            format!("give the unit LoadCredentialEncrypted={name}:…, or name a file instead"),
        )
    };
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(missing("its name is not a plain file name".into()));
    }
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
        .ok_or_else(|| missing("CREDENTIALS_DIRECTORY is not set, so systemd passed none".into()))?;
    let mut text = zeroize::Zeroizing::new(String::new());
    let file = File::open(Path::new(&directory).join(name)).map_err(|error| missing(error.to_string()))?;
    let read = file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| missing(error.to_string()))?;
    let line = text.trim_end_matches(['\n', '\r']);
    if line.is_empty() || line.contains('\n') || read as u64 > SECRET_BYTES_MAX {
        return Err(missing("it must hold one line, at most 4096 bytes".into()));
    }
    Ok(SecretString::from(line))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn only_a_private_regular_file_with_one_line_is_a_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8], mode| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let good = file("good", b"hunter2\n", 0o600);
        assert_eq!(from_file(&good, "x").unwrap().expose_secret(), "hunter2");
        let link = directory.path().join("link");
        symlink(&good, &link).unwrap();
        let table = [
            (directory.path().join("absent"), "secret_file_missing"),
            (file("open", b"hunter2", 0o640), "secret_file_too_open"),
            (file("empty", b"\n", 0o600), "secret_file_unusable"),
            (file("lines", b"a\nb\n", 0o600), "secret_file_unusable"),
            (file("long", &[b'a'; 4_097], 0o600), "secret_file_unusable"),
            (file("bytes", &[0xff, 0xfe], 0o600), "secret_file_unusable"),
            (link, "secret_file_unusable"),
            (directory.path().to_owned(), "secret_file_unusable"),
        ];
        for (path, name) in table {
            assert_eq!(from_file(&path, "x").unwrap_err().name, name, "{}", path.display());
        }
    }
}
