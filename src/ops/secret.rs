//! Secrets of other systems: from files that only we can read, or from the vault, which hands them in. PINs have a reader of
//! their own.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FileType, Mode, OFlags};
use secrecy::SecretString;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::kernel::types::{CredentialName, ServiceName};
use crate::ops::failure::Failure;

/// Longer than any password or bearer token that is meant to be one.
const SECRET_BYTES_MAX: u64 = 4_096;

/// Bytes of a secret: wiped when dropped, never shown, base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Whole from the beginning: a text that grows leaves copies.
        let mut text = Zeroizing::new(String::with_capacity(self.0.len().div_ceil(3) * 4));
        STANDARD.encode_string(&*self.0, &mut text);
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes in base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
                // Its error would quote a letter of the secret.
                let length = STANDARD.decode_slice(text, &mut bytes).map_err(|_| E::custom("not base64"))?;
                bytes.truncate(length);
                Ok(Secret(bytes))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A text that grows without leaving copies of itself behind.
#[derive(Default)]
pub struct Growing(Zeroizing<Vec<u8>>);

impl Growing {
    /// What there is room for at the least.
    const BYTES_MIN: usize = 256;

    pub fn extend(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn make_room(&mut self, more: usize) {
        let needed = self.0.len().saturating_add(more);
        if needed > self.0.capacity() {
            let room = needed.max(self.0.capacity().saturating_mul(2)).max(Self::BYTES_MIN);
            let mut bigger = Zeroizing::new(Vec::with_capacity(room));
            bigger.extend_from_slice(&self.0);
            self.0 = bigger;
        }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub fn into_secret(self) -> Secret {
        Secret(self.0)
    }
}

impl Extend<u8> for Growing {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        for byte in bytes {
            self.make_room(1);
            self.0.push(byte);
        }
    }
}

impl fmt::Debug for Growing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl io::Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which credential of the vault a part of the daemon needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub service: ServiceName,
    pub name: CredentialName,
    pub which: Which,
}

/// Which of its versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Newest,
    /// The one before the newest, for so long after the newest was made (milliseconds): whoever is on the other side of a
    /// rotation may not know of it yet. There may be none.
    Before {
        overlap_ms: i64,
    },
}

impl Wanted {
    pub fn newest(service: ServiceName, name: CredentialName) -> Self {
        Self { service, name, which: Which::Newest }
    }
}

/// A secret as it is used: read once from a file, or handed in from the vault, and again after each rotation.
#[derive(Clone)]
pub struct SecretSlot {
    wanted: Option<Wanted>,
    /// The lock guards the pointer only.
    value: Arc<RwLock<Option<Arc<SecretString>>>>,
}

impl fmt::Debug for SecretSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSlot").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl SecretSlot {
    /// One that is known.
    pub fn fixed(secret: SecretString) -> Self {
        Self { wanted: None, value: Arc::new(RwLock::new(Some(Arc::new(secret)))) }
    }

    /// One that the vault hands in later.
    pub fn vaulted(wanted: Wanted) -> Self {
        Self { wanted: Some(wanted), value: Arc::default() }
    }

    pub fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// What it is now. None: it is still sealed, or its time is over.
    pub fn value(&self) -> Option<Arc<SecretString>> {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it is from now on.
    pub fn hand(&self, secret: Option<SecretString>) {
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = secret.map(Arc::new);
    }
}

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
    fn a_secret_is_base64_in_json_and_nothing_anywhere_else() {
        let secret = Secret(Zeroizing::new(b"\0hunter2\xff".to_vec()));
        let text = serde_json::to_string(&secret).unwrap();
        assert_eq!(serde_json::from_str::<Secret>(&text).unwrap(), secret);
        assert_eq!(format!("{secret:?}"), "[redacted]");
        for wrong in ["\"aHVudGVyMg\"", "\"not base64!\"", "7", "null", "[104]"] {
            let error = serde_json::from_str::<Secret>(wrong).unwrap_err().to_string();
            assert!(!error.contains("aHVu"), "{error}");
        }
        let mut growing = Growing::default();
        for piece in [&b"abc"[..], &[7; 10_000], b""] {
            growing.extend(piece);
        }
        assert_eq!(growing.into_secret().0.len(), 10_003);
    }

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
