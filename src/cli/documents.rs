//! Documents that verbs take and give: read whole, written whole, with one clear sentence when that fails.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::ops::failure::Failure;

/// Larger documents are refused before they are read.
const DOCUMENT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The text of a file.
///
/// # Errors
/// `document_unreadable`
pub fn read(path: &Path) -> Result<String, Failure> {
    let unreadable = |why: String| {
        Failure::usage(
            "document_unreadable",
            format!("{} cannot be read: {why}", path.display()),
            "check the path on the command line",
        )
    };
    let file = fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut text = String::new();
    file.take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(unreadable("it is larger than 32 MiB".into()));
    }
    Ok(text)
}

/// A JSON document.
///
/// # Errors
/// `document_unreadable`, `document_malformed`
pub fn read_json(path: &Path) -> Result<Value, Failure> {
    serde_json::from_str(&read(path)?).map_err(|error| {
        Failure::usage(
            "document_malformed",
            format!("{} is not JSON: {error}", path.display()),
            "give the file as the other party's command wrote it",
        )
    })
}

/// Writes a file, replacing what was there.
///
/// # Errors
/// `document_unwritable`
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| {
        Failure::usage(
            "document_unwritable",
            format!("{} cannot be written: {error}", path.display()),
            "check the path of --out",
        )
    })
}

/// The text of a member, or nothing.
pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or("-")
}
