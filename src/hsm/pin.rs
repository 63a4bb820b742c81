//! Reads a token's PIN once from its configured source. Only the supervisor calls this, and, while provisioning,
//! the worker that made the PIN file.
//!
//! Sources: a 0600 file, a systemd credential, an inherited descriptor, or a prompt. Never an argument, a
//! configuration value, an environment value or a log line.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::settings::HsmSettings;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// PKCS#11 tokens take far shorter ones.
const PIN_BYTES_MAX: usize = 256;

/// Reads the PIN from the one source that the settings name, or asks at the terminal.
///
/// # Errors
/// `pin_file_missing`, `pin_file_too_open`, `pin_file_unusable`, `pin_credential_missing`, `pin_fd_unusable`,
/// `pin_source_missing`, `pin_malformed`.
pub fn read(state: &StateDir, token_name: &str, settings: &HsmSettings) -> Result<SecretString, Failure> {
    if let Some(file) = &settings.pin_file {
        return from_file(&state.resolve(file));
    }
    if let Some(name) = &settings.pin_credential {
        return from_credential(name);
    }
    if let Some(number) = settings.pin_fd {
        return from_descriptor(number);
    }
    from_prompt(token_name)
}

/// Reads a PIN file. It must be a regular file of this user (or root) that nobody else can read.
///
/// # Errors
/// `pin_file_missing`, `pin_file_too_open`, `pin_file_unusable`, `pin_malformed`.
pub fn from_file(path: &Path) -> Result<SecretString, Failure> {
    let shown = path.display();
    let unusable = |why: String| {
        Failure::fault(
            "pin_file_unusable",
            format!("the PIN file {shown} cannot be used: {why}"),
            "check hsm.<token>.pin_file, the file's owner and its type",
        )
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::NOENT => Failure::fault(
            "pin_file_missing",
            format!("the PIN file {shown} is not there"),
            "restore it from where the PIN is kept; a new token is made with `countersign init` in a new state directory",
        ),
        error => unusable(error.to_string()),
    })?;
    let status = rustix::fs::fstat(&file).map_err(|error| unusable(error.to_string()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(unusable("it is not a regular file".into()));
    }
    if status.st_mode & 0o077 != 0 {
        return Err(Failure::fault(
            "pin_file_too_open",
            format!("the PIN file {shown} has mode {:04o}: others can reach it", status.st_mode & 0o7777),
            format!("run `chmod 600 {shown}`; if others may have read it, change the PIN"),
        ));
    }
    let user = rustix::process::geteuid().as_raw();
    if status.st_uid != user && status.st_uid != 0 {
        return Err(unusable(format!("it belongs to user {}, the daemon runs as {user}", status.st_uid)));
    }
    limited(std::fs::File::from(file)).map_err(|error| unusable(error.to_string()))?.into_pin("the PIN file")
}

fn from_credential(name: &str) -> Result<SecretString, Failure> {
    let missing = |why: String| {
        Failure::fault(
            "pin_credential_missing",
            format!("the systemd credential `{name}` cannot be read: {why}"),
            format!("give the unit LoadCredentialEncrypted={name}:…, or use pin_file"),
        )
    };
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(missing("its name is not a plain file name".into()));
    }
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
        .ok_or_else(|| missing("CREDENTIALS_DIRECTORY is not set, so systemd passed none".into()))?;
    let file = std::fs::File::open(Path::new(&directory).join(name)).map_err(|error| missing(error.to_string()))?;
    limited(file).map_err(|error| missing(error.to_string()))?.into_pin("the credential")
}

/// Drains an inherited pipe. Only a pipe: once drained it holds nothing that a child process could read again.
fn from_descriptor(number: u32) -> Result<SecretString, Failure> {
    let unusable = |why: String| {
        Failure::fault(
            "pin_fd_unusable",
            format!("descriptor {number} cannot be read as a PIN: {why}"),
            "pass the read end of a pipe, for example with `countersign serve 3< <(command that prints the PIN)`",
        )
    };
    let file = std::fs::File::open(format!("/proc/self/fd/{number}")).map_err(|error| unusable(error.to_string()))?;
    let status = rustix::fs::fstat(&file).map_err(|error| unusable(error.to_string()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Fifo {
        return Err(unusable("it is not a pipe".into()));
    }
    limited(file).map_err(|error| unusable(error.to_string()))?.into_pin("the descriptor")
}

fn from_prompt(token_name: &str) -> Result<SecretString, Failure> {
    let missing = |why: std::io::Error| {
        Failure::usage(
            "pin_source_missing",
            format!("no PIN source is configured for token `{token_name}` and there is no terminal to ask at: {why}"),
            format!("set one of pin_file, pin_credential and pin_fd in [hsm.{token_name}]"),
        )
    };
    let mut terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(missing)?;
    let before = rustix::termios::tcgetattr(&terminal).map_err(|error| missing(error.into()))?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(rustix::termios::LocalModes::ECHO);
    write!(terminal, "PIN of token {token_name}: ").map_err(missing)?;
    rustix::termios::tcsetattr(&terminal, rustix::termios::OptionalActions::Flush, &quiet)
        .map_err(|error| missing(error.into()))?;
    let mut line = Zeroizing::new(Vec::with_capacity(PIN_BYTES_MAX + 2));
    let read = BufReader::with_capacity(PIN_BYTES_MAX + 2, &terminal)
        .take(PIN_BYTES_MAX as u64 + 2)
        .read_until(b'\n', &mut line);
    let restored = rustix::termios::tcsetattr(&terminal, rustix::termios::OptionalActions::Flush, &before);
    let _ = writeln!(terminal);
    read.map_err(missing)?;
    restored.map_err(|error| missing(error.into()))?;
    PinBytes(line).into_pin("what was typed")
}

struct PinBytes(Zeroizing<Vec<u8>>);

fn limited(file: std::fs::File) -> std::io::Result<PinBytes> {
    // The whole capacity up front: a growing vector would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PIN_BYTES_MAX + 64));
    file.take(PIN_BYTES_MAX as u64 + 2).read_to_end(&mut bytes)?;
    Ok(PinBytes(bytes))
}

impl PinBytes {
    fn into_pin(self, source: &str) -> Result<SecretString, Failure> {
        let malformed = |why: &str| {
            Failure::fault(
                "pin_malformed",
                format!("{source} does not hold a PIN: {why}"),
                "it must be one line of 1 to 256 bytes of UTF-8 text",
            )
        };
        let text = std::str::from_utf8(&self.0).map_err(|_| malformed("it is not UTF-8"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(malformed("it is empty"));
        }
        if text.len() > PIN_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(malformed("it is longer than 256 bytes or has more than one line"));
        }
        Ok(SecretString::from(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pin");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_private_file_is_read_without_its_line_end() {
        for content in ["secret-pin", "secret-pin\n", "secret-pin\r\n"] {
            let (_directory, path) = file(content.as_bytes(), 0o600);
            assert_eq!(from_file(&path).unwrap().expose_secret(), "secret-pin");
        }
    }

    #[test]
    fn other_files_are_refused_by_name_and_never_shown() {
        for (content, mode, name) in [
            (&b"secret-pin"[..], 0o640, "pin_file_too_open"),
            (b"secret-pin", 0o604, "pin_file_too_open"),
            (b"secret-pin", 0o700 | 0o010, "pin_file_too_open"),
            (b"", 0o600, "pin_malformed"),
            (b"\n", 0o600, "pin_malformed"),
            (b"two\nlines\n", 0o600, "pin_malformed"),
            (b"\xff\xfe", 0o600, "pin_malformed"),
            (&[b'1'; 257], 0o600, "pin_malformed"),
        ] {
            let (_directory, path) = file(content, mode);
            let failure = from_file(&path).unwrap_err();
            assert_eq!(failure.name, name);
            assert!(!failure.message.contains("secret-pin"));
        }
        let (directory, path) = file(b"secret-pin", 0o600);
        let link = directory.path().join("link.pin");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(from_file(&link).unwrap_err().name, "pin_file_unusable");
        assert_eq!(from_file(directory.path()).unwrap_err().name, "pin_file_unusable");
        assert_eq!(from_file(&directory.path().join("none")).unwrap_err().name, "pin_file_missing");
    }

    #[test]
    fn a_pipe_is_drained_and_anything_else_is_refused() {
        use std::os::fd::AsRawFd;
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, b"secret-pin\n").unwrap();
        drop(writer);
        let number = u32::try_from(reader.as_raw_fd()).unwrap();
        assert_eq!(from_descriptor(number).unwrap().expose_secret(), "secret-pin");
        let (_directory, path) = file(b"secret-pin", 0o600);
        let open = std::fs::File::open(path).unwrap();
        let number = u32::try_from(open.as_raw_fd()).unwrap();
        assert_eq!(from_descriptor(number).unwrap_err().name, "pin_fd_unusable");
        assert_eq!(from_descriptor(9999).unwrap_err().name, "pin_fd_unusable");
    }
}
