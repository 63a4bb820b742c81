//! What the verbs that judge certificates share: moments, files in PEM or DER, verdicts.
//!
//! A file that cannot be opened is the caller's mistake; what is in it is for the judge: text that is no PEM is handed on as
//! if it were DER, and is refused there by name.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustls::pki_types::pem::{PemObject, SectionKind};
use serde_json::Value;

use crate::kernel::credential::path::CERTIFICATES_MAX;
use crate::kernel::types::UnixMillis;
use crate::ops::failure::Failure;

/// Of a larger file nothing is looked at.
const FILE_BYTES_MAX: u64 = 20 * 1024 * 1024;

/// What files held, in their order. DER, or what should have been.
#[derive(Clone, Debug, Default)]
pub struct Material {
    pub certificates: Vec<Vec<u8>>,
    pub lists: Vec<Vec<u8>>,
}

/// What a file without PEM is taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    Certificates,
    Lists,
}

impl Material {
    /// Reads files, one after the other.
    ///
    /// # Errors
    /// `document_unreadable`
    pub fn read<'a>(paths: impl IntoIterator<Item = &'a Path>, expected: Expected) -> Result<Self, Failure> {
        let mut material = Self::default();
        for path in paths {
            material.take(read(path)?, expected);
        }
        Ok(material)
    }

    fn take(&mut self, bytes: Vec<u8>, expected: Expected) {
        let before = (self.certificates.len(), self.lists.len());
        let mut broken = false;
        // One more than are looked at, so that they are seen to be too many.
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes).take(CERTIFICATES_MAX + 1) {
            match section {
                Ok((SectionKind::Certificate, der)) => self.certificates.push(der),
                Ok((SectionKind::Crl, der)) => self.lists.push(der),
                // A key, a request: none of ours.
                Ok(_) => {}
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        match expected {
            Expected::Certificates if broken || before == (self.certificates.len(), self.lists.len()) => {
                self.certificates.push(bytes);
            }
            // Whoever names a list means one: without it nothing would be asked about revocation.
            Expected::Lists if broken || before.1 == self.lists.len() => self.lists.push(bytes),
            Expected::Certificates | Expected::Lists => {}
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(
            "document_unreadable",
            format!("{} cannot be read: {error}", path.display()),
            "check the path on the command line",
        )
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bytes.clear();
    }
    Ok(bytes)
}

/// Parses RFC 3339, with any offset, to the millisecond.
///
/// # Errors
/// What was expected, for clap to show.
pub fn rfc3339(text: &str) -> Result<UnixMillis, String> {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .map_err(|_| "expected RFC 3339, for example 2026-11-21T04:20:00Z".to_owned())?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).map(UnixMillis).map_err(|error| error.to_string())
}

/// Prints a verdict: one line of JSON, for people's programs, with `--json` or without.
pub fn say(verdict: &Value) {
    // A reader that went away is no failure of ours.
    let _ = writeln!(std::io::stdout(), "{verdict}");
}
