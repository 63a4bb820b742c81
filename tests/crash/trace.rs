//! What a load did to its files and told its users, in order: every write with its bytes, as strace saw it.

use std::path::{Path, PathBuf};

use crate::bank::{Bank, Options};

/// One step that a crash can come before or after.
#[derive(Clone, Debug)]
pub enum Event {
    Write {
        path: PathBuf,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        path: PathBuf,
        length: usize,
    },
    Unlink {
        path: PathBuf,
    },
    /// The file is on disk with everything written before.
    Synced {
        path: PathBuf,
    },
    /// A whole line for the load's users.
    Told(String),
}

/// Calls by which the load changes files; everything else leaves no trace on a disk.
pub const WRITE_CLASS: &str = "write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,ftruncate,truncate,\
fallocate,unlink,unlinkat,rename,renameat,renameat2";

/// The program in front of a load whose calls are watched.
pub fn strace(output: &Path, more: &[&str]) -> Vec<String> {
    let mut words = vec!["strace".to_owned(), "-f".into(), "-qq".into(), "-o".into(), output.display().to_string()];
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

/// Runs the load on this bank and answers what it did. The bank itself takes note of nothing.
pub fn traced(bank: &mut Bank, options: &Options) -> Vec<Event> {
    let output = bank.directory.path().join("trace");
    let traced = format!("trace={WRITE_CLASS}");
    let under = strace(&output, &["-y", "-xx", "-s", "1000000", "-e", &traced]);
    let mut running = bank.start(&Options { under, ..options.clone() });
    while running.line().is_some() {}
    assert!(running.ended().success(), "{}", bank.context());
    let text = std::fs::read_to_string(output).unwrap();
    let events: Vec<Event> = text.lines().filter_map(event).collect();
    assert!(events.iter().any(|event| matches!(event, Event::Synced { .. })), "nothing was synced: {text}");
    events
}

/// `8860 pwrite64(4</path in hexadecimal>, "bytes in hexadecimal", 24, 0) = 24`
fn event(line: &str) -> Option<Event> {
    let (_, call) = line.split_once(char::is_whitespace)?;
    let (name, rest) = call.trim_start().split_once('(')?;
    assert!(!rest.contains("<unfinished"), "two threads wrote at the same time: {line}");
    let (arguments, result) = rest.rsplit_once(") = ")?;
    let result: i64 = result.split_whitespace().next()?.parse().ok()?;
    assert!(result >= 0, "a call failed: {line}");
    let path = || PathBuf::from(text(arguments.split_once('<').unwrap().1.split_once('>').unwrap().0));
    let quoted = || arguments.split('"').nth(1).unwrap();
    let last = || arguments.rsplit(", ").next().unwrap().parse::<usize>().unwrap();
    match name {
        "write" if arguments.starts_with("1<") => Some(Event::Told(text(quoted()).trim_end().to_owned())),
        "write" => None,
        "pwrite64" => {
            let bytes = bytes(quoted());
            assert_eq!(i64::try_from(bytes.len()).unwrap(), result, "a short write: {line}");
            Some(Event::Write { path: path(), offset: last(), bytes })
        }
        "ftruncate" => Some(Event::Truncate { path: path(), length: last() }),
        "fsync" | "fdatasync" => Some(Event::Synced { path: path() }),
        "unlink" => Some(Event::Unlink { path: PathBuf::from(text(quoted())) }),
        other => panic!("the store calls {other} now; a disk of this test must learn what that does: {line}"),
    }
}

/// `\x2f\x74` as bytes; what is not escaped stands for itself.
fn bytes(escaped: &str) -> Vec<u8> {
    let digits: String = escaped.replace("\\x", "");
    hex::decode(&digits).unwrap_or_else(|_| escaped.as_bytes().to_vec())
}

fn text(escaped: &str) -> String {
    String::from_utf8(bytes(escaped)).unwrap()
}
