//! `countersign vault`: credentials of the systems behind us.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;

use clap::{ArgGroup, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::context::Context;
use super::table::{cell, table};
use crate::front::admin::AdminCall;
use crate::hsm::supervisor::make_undumpable;
use crate::kernel::types::CredentialName;
use crate::kernel::types::Malformed;
use crate::kernel::vault::{Reader, VALUE_BYTES_MAX};
use crate::ops::failure::Failure;
use crate::ops::secret::{Growing, Secret};
use crate::vault::{Released, VaultCall};

/// Keep passwords and tokens of the systems behind the bank, sealed under a key of the HSM.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
A value comes from standard input, from a descriptor (--fd) or from a prompt, never from the command
line. One line end (LF or CR LF) is not part of it, unless --exact says so.

Examples:
  countersign vault put notify/mail --reader service:notify.mail  # asks for the value
  countersign vault rotate notify/mail  # or with < password.txt
  countersign vault list
  countersign vault show notify/mail
See docs/VAULT.md.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// Parts of the daemon that read credentials, besides channels of notifications.
const SERVICES: [&str; 2] = ["core-banking", "audit.archive"];

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Keep a credential under a name that is not there yet (administrator).
    #[command(after_help = "\
Readers: service:notify.<channel>, service:core-banking, service:audit.archive, operator:<name>,
role:<role>. Nobody else reads it, administrators neither. Given again by the same person, it
changes nothing.

Examples:
  countersign vault put notify/mail --reader service:notify.mail  # or with < password.txt
  countersign vault put core/token --reader service:core-banking --days 90 --fd 3  # 3< token.txt")]
    Put {
        name: CredentialName,
        /// Who may read it; may be repeated.
        #[arg(long = "reader", value_name = "READER", required = true, value_parser = reader)]
        readers: Vec<Reader>,
        /// What it is for, one line.
        #[arg(long, default_value = "")]
        description: String,
        /// Not to be read after so many days; none: until it is removed.
        #[arg(long)]
        days: Option<u32>,
        #[command(flatten)]
        value: ValueArgs,
    },
    /// Give a credential its next version: it is the one that is read from now on (administrator).
    #[command(after_help = "\
Readers, description and life stay as they are, unless they are named. Versions before stay readable
by their numbers until they are removed or end.

Examples:
  countersign vault rotate notify/mail  # or with < password.txt
  countersign vault rotate notify/mail --reader service:notify.mail --reader role:officer")]
    Rotate {
        name: CredentialName,
        /// Who may read it from now on; may be repeated.
        #[arg(long = "reader", value_name = "READER", value_parser = reader)]
        readers: Vec<Reader>,
        /// What it is for, one line.
        #[arg(long)]
        description: Option<String>,
        /// Not to be read after so many days; none: as long as the version before.
        #[arg(long)]
        days: Option<u32>,
        #[command(flatten)]
        value: ValueArgs,
    },
    /// Read a credential; only for its readers, and recorded in the audit log before it is shown.
    #[command(
        disable_version_flag = true,
        group = ArgGroup::new("where").args(["reveal", "out_fd"]),
        after_help = "\
The value goes to standard output as it is, unless that is a terminal.

Examples:
  countersign vault get notify/mail | send-with-password
  countersign vault get notify/mail --version 2 --out-fd 3  # 3> old.txt
  countersign vault get notify/mail --reveal"
    )]
    Get {
        name: CredentialName,
        /// This one; none: the newest.
        #[arg(long = "version", value_name = "N")]
        number: Option<u64>,
        /// Show it on a terminal, too.
        #[arg(long)]
        reveal: bool,
        /// Write it to this descriptor instead.
        #[arg(long, value_name = "N")]
        out_fd: Option<u32>,
    },
    /// Show every version without its value: readers, end, who gave it, under which key it is sealed.
    #[command(after_help = "Examples:\n  countersign vault list\n  countersign vault list --json")]
    List,
    /// Show the versions of one credential, without their values.
    #[command(
        after_help = "Examples:\n  countersign vault show notify/mail\n  countersign vault show notify/mail --json"
    )]
    Show { name: CredentialName },
    /// Remove a credential, or one version but the newest (administrator).
    #[command(
        disable_version_flag = true,
        after_help = "\
Its numbers go on, should the name come back: a version is never given twice.

Examples:
  countersign vault rm notify/mail --version 1
  countersign vault rm notify/mail"
    )]
    Rm {
        name: CredentialName,
        /// Only this version.
        #[arg(long = "version", value_name = "N")]
        number: Option<u64>,
    },
    /// Seal every version under the newest vault-wrapping key (administrator).
    #[command(after_help = "\
After `countersign key rotate vault-wrapping`; then the key before can be destroyed. May be broken
off and repeated.

Examples:
  countersign key rotate vault-wrapping
  countersign vault rewrap")]
    Rewrap,
}

/// Where a value comes from.
#[derive(Clone, Debug, clap::Args)]
struct ValueArgs {
    /// Read the value from this descriptor instead of standard input.
    #[arg(long, value_name = "N")]
    fd: Option<u32>,
    /// A line feed at the end is part of the value.
    #[arg(long)]
    exact: bool,
}

/// A reader that there can be: a part of the daemon that nobody knows would never read anything.
fn reader(word: &str) -> Result<Reader, String> {
    let reader: Reader = word.parse().map_err(|malformed: Malformed| malformed.to_string())?;
    match &reader {
        Reader::Service(service) => {
            let service = service.as_str();
            let is_known = SERVICES.contains(&service) || service.starts_with("notify.");
            is_known.then_some(()).ok_or_else(|| {
                format!("the daemon has no part {service}; it has notify.<channel>, {}", SERVICES.join(" and "))
            })?;
        }
        Reader::Operator(_) | Reader::Role(_) => {}
    }
    Ok(reader)
}

/// # Errors
/// What the daemon answers; `credential_empty`, `credential_too_large`, `descriptor_unusable`, `terminal_only_revealed`,
/// `prompt_failed`, `not_confined`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if matches!(args.verb, Verb::Put { .. } | Verb::Rotate { .. } | Verb::Get { .. }) {
        // Before there is a value in it.
        make_undumpable()?;
    }
    match args.verb {
        Verb::Put { name, readers, description, days, value } => {
            let value = value.read(&name)?;
            let readers = readers.into_iter().collect();
            kept(context, VaultCall::Put { name, description, readers, days, value })
        }
        Verb::Rotate { name, readers, description, days, value } => {
            let value = value.read(&name)?;
            let readers = Some(readers.into_iter().collect::<BTreeSet<_>>()).filter(|readers| !readers.is_empty());
            kept(context, VaultCall::Rotate { name, description, readers, days, value })
        }
        Verb::Get { name, number, reveal, out_fd } => get(context, name, number, reveal, out_fd),
        Verb::List => list(context),
        Verb::Show { name } => show(context, name),
        Verb::Rm { name, number } => {
            let answer = context.call(AdminCall::Vault(VaultCall::Remove { name, version: number }))?;
            context.print(&answer, |answer| match answer["removed"].as_u64() {
                Some(0) => format!("{} was removed before: nothing changed", cell(&answer["name"])),
                _ => format!("{} versions of {} are removed", cell(&answer["removed"]), cell(&answer["name"])),
            });
            Ok(())
        }
        Verb::Rewrap => {
            let answer = context.call(AdminCall::Vault(VaultCall::Rewrap {}))?;
            context.print(&answer, rewrapped);
            Ok(())
        }
    }
}

fn kept(context: &Context, call: VaultCall) -> Result<(), Failure> {
    let answer = context.call(AdminCall::Vault(call))?;
    context.print(&answer, |answer| {
        let version = format!("{} version {}", cell(&answer["name"]), cell(&answer["version"]));
        if answer["changed"] == true {
            format!("{version} is kept")
        } else {
            format!("{version} is the same already: nothing changed")
        }
    });
    Ok(())
}

fn list(context: &Context) -> Result<(), Failure> {
    let _up = context.kept_up()?;
    let mut items: Vec<Value> = Vec::new();
    let mut after = None;
    loop {
        let page = context.call(AdminCall::Vault(VaultCall::List { after: after.clone(), limit: 1_000 }))?;
        items.extend(page["items"].as_array().into_iter().flatten().cloned());
        let next = serde_json::from_value(page["next"].clone()).unwrap_or_default();
        let before = std::mem::replace(&mut after, next);
        if after.is_none() || after == before {
            break;
        }
    }
    let whole = json!({ "items": items, "next": null });
    context.print(&whole, |whole| table(whole, &COLUMNS, "The vault is empty: countersign vault put"));
    Ok(())
}

/// Of versions.
const COLUMNS: [(&str, &str); 10] = [
    ("NAME", "name"),
    ("VERSION", "version"),
    ("STATE", "state"),
    ("READERS", "readers"),
    ("EXPIRES", "expires"),
    ("MADE", "made"),
    ("BY", "by"),
    ("KEY", "key_label"),
    ("WAY", "way"),
    ("DESCRIPTION", "description"),
];

fn show(context: &Context, name: CredentialName) -> Result<(), Failure> {
    let answer = context.call(AdminCall::Vault(VaultCall::Show { name }))?;
    context.print(&answer, |answer| {
        let kept = table(answer, &COLUMNS[1..], "No version is kept: countersign vault put");
        let (name, newest, removed) = (cell(&answer["name"]), cell(&answer["newest"]), cell(&answer["removed"]));
        format!("{name}: version {newest} was given last, {removed} removed\n{kept}")
    });
    Ok(())
}

fn rewrapped(answer: &Value) -> String {
    let left = answer["left"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines = vec![match (answer["rewrapped"].as_u64(), left.is_empty()) {
        (Some(0), true) => "every version is sealed under the newest key already".to_owned(),
        _ => format!("{} versions are sealed anew", cell(&answer["rewrapped"])),
    }];
    lines.extend(left.iter().map(|line| {
        format!("  not {} version {}: {}", cell(&line["name"]), cell(&line["version"]), cell(&line["reason"]))
    }));
    if !left.is_empty() {
        lines.push("next: give those anew with `countersign vault rotate`, or remove them".to_owned());
    }
    lines.join("\n")
}

fn get(
    context: &Context,
    name: CredentialName,
    version: Option<u64>,
    reveal: bool,
    out_fd: Option<u32>,
) -> Result<(), Failure> {
    let stdout = std::io::stdout();
    // Before it is asked for: what nobody sees need not be released.
    if out_fd.is_none() && !reveal && stdout.is_terminal() {
        return Err(Failure::usage(
            "terminal_only_revealed",
            "standard output is a terminal: the value would stay on the screen and in its history",
            "send it somewhere (`| …`, --out-fd N), or say --reveal",
        ));
    }
    let mut out: Box<dyn Write> = match out_fd {
        // At its end: the descriptor of a file may be one that others have written to.
        Some(number) => {
            let opened = File::options().append(true).open(format!("/proc/self/fd/{number}"));
            Box::new(opened.map_err(|error| unusable(number, &error))?)
        }
        None => Box::new(stdout.lock()),
    };
    let released = context.released(AdminCall::Vault(VaultCall::Get { name, version }))?;
    let mut text = Growing::default();
    if context.json {
        let Released { name, version, expires, value } = released;
        let expires = expires.map(|end| end.rfc3339());
        let shown = Shown { name: &name, version, expires, value_base64: &value };
        serde_json::to_writer_pretty(&mut text, &shown)
            .map_err(|error| Failure::fault("answer_unwritable", error.to_string(), "report this as a defect"))?;
        text.extend(b"\n");
    } else {
        text.extend(&released.value.0);
        if reveal && out_fd.is_none() {
            text.extend(b"\n");
        }
    }
    out.write_all(text.as_slice()).and_then(|()| out.flush()).map_err(|error| {
        Failure::fault("value_unwritable", format!("the value could not be written: {error}"), "see who reads it")
    })
}

#[derive(serde::Serialize)]
struct Shown<'a> {
    name: &'a CredentialName,
    version: u64,
    expires: Option<String>,
    value_base64: &'a Secret,
}

impl ValueArgs {
    /// The value. A terminal is asked twice, and shows nothing.
    fn read(&self, name: &CredentialName) -> Result<Secret, Failure> {
        let value = match self.fd {
            Some(number) => {
                let opened = File::open(format!("/proc/self/fd/{number}")).map_err(|error| unusable(number, &error))?;
                whole(opened, &format!("descriptor {number}"))?
            }
            None if std::io::stdin().is_terminal() => return prompted(name),
            None => whole(std::io::stdin().lock(), "standard input")?,
        };
        if self.exact {
            return Ok(value.into_secret());
        }
        let mut secret = value.into_secret();
        if secret.0.last() == Some(&b'\n') {
            secret.0.pop();
            if secret.0.last() == Some(&b'\r') {
                secret.0.pop();
            }
        }
        Ok(secret)
    }
}

/// Everything until the end, but not more than a value may have.
fn whole(mut from: impl Read, what: &str) -> Result<Growing, Failure> {
    let mut value = Growing::default();
    let mut piece = Zeroizing::new([0; 8 * 1024]);
    loop {
        let count = from.read(&mut *piece).map_err(|error| {
            let next = "give the value on standard input, or name an open descriptor with --fd";
            Failure::usage("descriptor_unusable", format!("{what} cannot be read: {error}"), next)
        })?;
        if count == 0 {
            return Ok(value);
        }
        value.extend(&piece[..count]);
        // A line feed or two are not part of it.
        if value.as_slice().len() > VALUE_BYTES_MAX + 2 {
            let message = format!("the value has more than {VALUE_BYTES_MAX} bytes");
            let next = "keep documents elsewhere, and their key here";
            return Err(Failure::usage("credential_too_large", message, next));
        }
    }
}

fn unusable(number: u32, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(
        "descriptor_unusable",
        format!("descriptor {number}: {error}"),
        "open it for the command, as in `--fd 3 3< FILE`",
    )
}

fn prompted(name: &CredentialName) -> Result<Secret, Failure> {
    let first = hidden(&format!("value of {name}: "))?;
    let again = hidden("the same again: ")?;
    if first == again {
        return Ok(first);
    }
    Err(Failure::usage("prompt_failed", "the two values differ", "type it again, or give it on standard input"))
}

/// A line from the terminal, which shows nothing of it.
fn hidden(prompt: &str) -> Result<Secret, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        let message = format!("the terminal cannot be asked: {error}");
        Failure::usage("prompt_failed", message, "give the value on standard input")
    };
    let stdin = std::io::stdin();
    let shown = tcgetattr(stdin.as_fd()).map_err(|error| failed(&error))?;
    let mut silent = shown.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    eprint!("{prompt}");
    tcsetattr(stdin.as_fd(), OptionalActions::Flush, &silent).map_err(|error| failed(&error))?;
    let mut line = Growing::default();
    let mut byte = Zeroizing::new([0; 1]);
    let read = loop {
        match rustix::io::read(stdin.as_fd(), &mut *byte) {
            Ok(0) => break Ok(()),
            Ok(_) if byte[0] == b'\n' => break Ok(()),
            Ok(_) if line.as_slice().len() > VALUE_BYTES_MAX => break Ok(()),
            Ok(_) => line.extend(&*byte),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => break Err(failed(&error)),
        }
    };
    // Whatever came of it.
    let restored = tcsetattr(stdin.as_fd(), OptionalActions::Flush, &shown);
    eprintln!();
    read.and(restored.map_err(|error| failed(&error)))?;
    Ok(line.into_secret())
}
