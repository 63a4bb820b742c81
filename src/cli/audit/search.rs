//! `countersign audit search` and `audit tail`: leaves by what they say, and leaves as they come.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::leaf_line;
use crate::audit::export::{ExportCall, ExportPage, Format};
use crate::audit::search::{ITEMS_MAX, Order, SearchCall, SearchQuery, Span};
use crate::cli::context::Context;
use crate::cli::documents;
use crate::cli::progress::Progress;
use crate::front::admin::AdminCall;
use crate::kernel::receipt::parse_time;
use crate::kernel::types::{AccountId, Currency, Money, Sha256, TransactionId, UnixMillis};
use crate::ops::failure::Failure;

/// Between two looks at what came.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// What is looked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// Who asked, or whom it is about: agent, SPIFFE ID, operator, or program:USER (name or number)
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// A tool (execute_transfer), or an act of the bank's people (revoke, decide_approval)
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// permitted, refused, the name of a refusal, or what came of it (executed, requires_approval)
    #[arg(long, value_name = "NAME")]
    decision: Option<String>,
    /// At least this much, in --currency
    #[arg(long, value_name = "AMOUNT", requires = "currency")]
    amount_min: Option<String>,
    /// At most this much, in --currency
    #[arg(long, value_name = "AMOUNT", requires = "currency")]
    amount_max: Option<String>,
    #[arg(long, value_name = "CODE")]
    currency: Option<Currency>,
    /// From this instant on, RFC 3339, or a day (UTC)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<UnixMillis>,
    /// Before this instant, RFC 3339, or before a day (UTC)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<UnixMillis>,
    /// Every leaf that names this payment
    #[arg(long, value_name = "TXN")]
    transaction: Option<TransactionId>,
    /// An account that the leaf, or the payment that it names, is about
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<AccountId>,
    /// A key that signed or sealed: the signing service's name for it, its label or its id
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A credential of the vault: who read it, rotated it, and was refused it
    #[arg(long, value_name = "NAME")]
    credential: Option<String>,
}

impl Wanted {
    fn query(self) -> Result<SearchQuery, Failure> {
        let Self {
            agent,
            tool,
            decision,
            amount_min,
            amount_max,
            currency,
            since,
            until,
            transaction,
            account,
            key,
            credential,
        } = self;
        let money = |text: Option<String>| {
            let bound = text.zip(currency).map(|(text, currency)| {
                Money::parse_positive(&text, currency).map_err(|refused| {
                    let next = "write it like 1899.99";
                    Failure::usage("amount_malformed", format!("\"{text}\" {currency}: {refused}"), next)
                })
            });
            bound.transpose()
        };
        if let Some((since, until)) = since.zip(until)
            && since >= until
        {
            let message = format!("nothing is from {} on and before {}", since.rfc3339(), until.rfc3339());
            return Err(Failure::usage("span_empty", message, "give --until a later time than --since"));
        }
        Ok(SearchQuery {
            account,
            agent,
            amount_max: money(amount_max)?,
            amount_min: money(amount_min)?,
            credential,
            decision,
            key,
            since,
            tool,
            transaction,
            until,
        })
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct SearchArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// The oldest first
    #[arg(long)]
    oldest_first: bool,
    /// Leaves to show at most; with --out all are written
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Write all that is found to this file, and beside it FILE.note, signed by the log's key
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How --out is written: jsonl or csv; without it as the file's name ends, else jsonl
    #[arg(long, value_name = "FORMAT", requires = "out", value_parser = format)]
    format: Option<Format>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct TailArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Leaves to begin with
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    limit: u32,
}

fn instant(text: &str) -> Result<UnixMillis, String> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00.000Z"),
        20 => format!("{}.000Z", text.trim_end_matches('Z')),
        _ => text.to_owned(),
    };
    parse_time(&whole).ok_or_else(|| "write it like 2026-11-22, or 2026-11-22T10:00:00Z".to_owned())
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "jsonl" => Ok(Format::Jsonl),
        "csv" => Ok(Format::Csv),
        _ => Err("jsonl or csv".to_owned()),
    }
}

/// # Errors
/// `amount_malformed`, `span_empty`, `file_not_written`; the daemon's.
pub fn search(args: SearchArgs, context: &Context) -> Result<(), Failure> {
    let SearchArgs { wanted, oldest_first, limit, out, format } = args;
    let query = wanted.query()?;
    let _up = context.kept_up()?;
    if let Some(file) = out {
        let is_csv = file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
        let format = format.unwrap_or(if is_csv { Format::Csv } else { Format::Jsonl });
        return export(context, query, format, &file);
    }
    let order = if oldest_first { Order::OldestFirst } else { Order::NewestFirst };
    let mut progress = Progress::new(context);
    let (mut items, mut scanned, mut unread, mut span) = (vec![], 0, 0, None);
    let (size, signed) = loop {
        let left = limit - u32::try_from(items.len()).unwrap_or(limit).min(limit);
        let call = SearchCall { query: query.clone(), order, span, limit: left.clamp(1, ITEMS_MAX) };
        let mut page = context.call(AdminCall::AuditSearch(call))?;
        if let Value::Array(found) = page["items"].take() {
            items.extend(found);
        }
        scanned += page["scanned"].as_u64().unwrap_or(0);
        unread += page["unread"].as_u64().unwrap_or(0);
        span = next_of(&page)?;
        if span.is_none() || items.len() >= limit as usize {
            break (page["size"].take(), page["signed_size"].take());
        }
        progress.say(|| format!("{scanned} leaves looked at, {} found", items.len()));
    };
    let answer = json!({
        "items": items, "next": span, "scanned": scanned, "unread": unread, "size": size, "signed_size": signed,
    });
    context.print(&answer, |answer| {
        let mut lines: Vec<String> = answer["items"].as_array().into_iter().flatten().map(leaf_line).collect();
        let more = if answer["next"].is_null() { "" } else { "; there may be more: give a larger --limit" };
        let unread = unjudged(unread);
        lines.push(format!("{} found in {scanned} of {size} leaves{unread}{more}", items_of(answer)));
        lines.join("\n")
    });
    Ok(())
}

/// What nobody can read any more is told: it may be what was looked for.
fn unjudged(unread: u64) -> String {
    if unread == 0 { String::new() } else { format!("; {unread} erased or damaged leaves could not be judged") }
}

fn items_of(answer: &Value) -> usize {
    answer["items"].as_array().map_or(0, Vec::len)
}

fn next_of(page: &Value) -> Result<Option<Span>, Failure> {
    serde_json::from_value(page["next"].clone()).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Failure {
    let message = format!("the daemon's answer was not understood: {error}");
    Failure::fault("answer_unreadable", message, "check that CLI and daemon are the same version")
}

/// The file beside its place, then its note, then both where they belong: a reader sees no file without its note.
fn export(context: &Context, query: SearchQuery, format: Format, file: &Path) -> Result<(), Failure> {
    let mut progress = Progress::new(context);
    let mut call = ExportCall { query, format, size: None, span: None };
    let (mut text, mut records, mut scanned, mut unread) = (String::new(), 0, 0, 0);
    loop {
        let page = context.call(AdminCall::AuditExport(call.clone()))?;
        let page: ExportPage = serde_json::from_value(page).map_err(|error| unreadable(&error))?;
        text.push_str(&page.text);
        records += page.records;
        scanned += page.scanned;
        unread += page.unread;
        (call.size, call.span) = (Some(page.size), page.next);
        if call.span.is_none() {
            break;
        }
        progress.say(|| format!("{scanned} leaves looked at, {records} written"));
    }
    let (sha256, size) = (Sha256::of(&[text.as_bytes()]), call.size);
    let answer = context.call(AdminCall::AuditSignExport { export: call, sha256 })?;
    let note = answer["note"].as_str().unwrap_or_default();
    let beside = note_of(file);
    documents::write_whole(file, text.as_bytes())?;
    documents::write_whole(&beside, note.as_bytes())?;
    let said = json!({
        "file": file, "note": beside, "records": records, "unread": unread, "bytes": text.len(),
        "sha256": sha256, "size": size,
    });
    context.print(&said, |_| {
        format!(
            "{records} records in {}, signed in {}{}\nverify with: countersign verify export {} --root ROOT.pem",
            file.display(),
            beside.display(),
            unjudged(unread),
            file.display()
        )
    });
    Ok(())
}

/// Where the note of an export is.
pub fn note_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".note");
    PathBuf::from(name)
}

/// # Errors
/// `amount_malformed`; the daemon's.
pub fn tail(args: TailArgs, context: &Context) -> Result<(), Failure> {
    let TailArgs { wanted, follow, limit } = args;
    let query = wanted.query()?;
    let _up = context.kept_up()?;
    // The newest first, shown in the order of the log.
    let mut progress = Progress::new(context);
    let (mut newest, mut span): (Vec<Value>, Option<Span>) = (vec![], None);
    let mut place = None;
    loop {
        let left = limit.saturating_sub(u32::try_from(newest.len()).unwrap_or(limit));
        let call = SearchCall { query: query.clone(), order: Order::NewestFirst, span, limit: left.max(1) };
        let mut page = context.call(AdminCall::AuditSearch(call))?;
        place = place.or_else(|| page["size"].as_u64());
        if let Value::Array(found) = page["items"].take() {
            newest.extend(found);
        }
        span = next_of(&page)?;
        if span.is_none() || newest.len() >= limit as usize {
            break;
        }
        progress.say(|| format!("{} found so far", newest.len()));
    }
    newest.truncate(limit as usize);
    newest.reverse();
    if !tell(context, &newest) || !follow {
        return Ok(());
    }
    let stop = interrupted()?;
    let mut from = place.unwrap_or(0);
    loop {
        match stop.recv_timeout(FOLLOW_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        let span = Some(Span { from, end: u64::MAX });
        let call = SearchCall { query: query.clone(), order: Order::OldestFirst, span, limit: ITEMS_MAX };
        let page = match context.call(AdminCall::AuditSearch(call)) {
            Ok(page) => page,
            // A daemon that is started again goes on where it was.
            Err(failure) if failure.retry => continue,
            Err(failure) => return Err(failure),
        };
        from = next_of(&page)?.map_or_else(|| page["size"].as_u64().unwrap_or(from), |next| next.from);
        if !tell(context, page["items"].as_array().map(Vec::as_slice).unwrap_or_default()) {
            return Ok(());
        }
    }
}

/// One line a leaf. False when nobody reads any more.
fn tell(context: &Context, items: &[Value]) -> bool {
    let mut out = std::io::stdout().lock();
    let told = items.iter().try_for_each(|item| match context.json {
        true => writeln!(out, "{item}"),
        false => writeln!(out, "{}", leaf_line(item)),
    });
    told.and_then(|()| out.flush()).is_ok()
}

/// Hears Ctrl-C and SIGTERM: then whoever follows ends as if nothing more had come.
fn interrupted() -> Result<std::sync::mpsc::Receiver<()>, Failure> {
    let failed =
        |error: std::io::Error| Failure::fault("signals_unavailable", error.to_string(), "run it without --follow");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (tell, told) = sync_channel(1);
    let (ready, is_ready) = sync_channel(1);
    let wait = move || {
        runtime.block_on(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let both = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = both else {
                return;
            };
            let _ = ready.send(());
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let _ = tell.send(());
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(failed)?;
    // Heard from here on.
    let _ = is_ready.recv();
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_or_an_instant_in_utc() {
        let at = |text: &str| instant(text).map(UnixMillis::rfc3339);
        assert_eq!(at("2026-11-22").unwrap(), "2026-11-22T00:00:00.000Z");
        assert_eq!(at("2026-11-22T10:00:00Z").unwrap(), "2026-11-22T10:00:00.000Z");
        assert_eq!(at("2026-11-22T10:00:00.125Z").unwrap(), "2026-11-22T10:00:00.125Z");
        for bad in ["", "yesterday", "2026-13-01", "2026-11-22T10:00:00", "2026-11-22T10:00:00+01:00", "22.11.2026"] {
            assert!(at(bad).is_err(), "{bad:?}");
        }
    }
}
