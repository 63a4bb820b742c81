//! Documents that verbs take and give: read whole, written whole, with one clear sentence when that fails.

use std::fs;
use std::io::{Read, Write};
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

/// Writes evidence: beside the file, synced, then renamed. A reader sees the old one or the whole new one.
///
/// # Errors
/// `file_not_written`
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    put_whole(path, bytes).map_err(|error| {
        Failure::usage(
            "file_not_written",
            format!("{} was not written: {error}", path.display()),
            "choose a directory you may write to",
        )
    })
}

fn put_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().ok_or_else(|| std::io::Error::other("this is not the name of a file"))?;
    let mut partial_name = name.to_owned();
    partial_name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(partial_name);
    let written = fs::File::create(&partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let done = written.and_then(|()| fs::rename(&partial, path));
    if done.is_err() {
        // Best effort: the first error is the one worth telling.
        let _ = fs::remove_file(&partial);
    }
    done
}

/// The text of a member, or nothing.
pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or("-")
}
