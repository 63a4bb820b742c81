//! What a search found, as a file for others: JSON Lines or CSV, written here and signed here.
//!
//! The daemon signs what it has itself found: before a note is signed the search is walked once more and the hash made
//! anew, so that whoever holds the file can change nothing in between.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::search::{Found, ITEMS_MAX, Order, SearchCall, SearchQuery, Span};
use super::{Log, damaged, read_checkpoint};
use crate::hsm::CertifiedKey;
use crate::kernel::canon::{canonical, canonical_of};
use crate::kernel::export_note::ExportNote;
use crate::kernel::merkle::{Frontier, leaf_hash};
use crate::kernel::note::{NoteSignature, SignedNote};
use crate::kernel::receipt::{commitment, leaf_entry};
use crate::kernel::sign::SignInput;
use crate::kernel::text::visible;
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;
use crate::store::{CheckpointRecord, LeafContent, LeafRecord};

/// How records are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A record a line, canonical JSON.
    Jsonl,
    /// RFC 4180, with a header.
    Csv,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
}

/// One call of an export: records in the order of the log, of the leaves that one checkpoint covers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportCall {
    #[serde(default)]
    pub query: SearchQuery,
    pub format: Format,
    /// The checkpoint, as the first answer named it; none: the newest signed one.
    #[serde(default)]
    pub size: Option<u64>,
    /// `next` of the call before.
    #[serde(default)]
    pub span: Option<Span>,
}

/// A part of the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExportPage {
    pub text: String,
    pub records: u64,
    pub scanned: u64,
    /// Leaves that could not be judged, because they are erased or damaged.
    pub unread: u64,
    pub next: Option<Span>,
    pub size: u64,
}

/// Columns of a CSV file.
const COLUMNS: [&str; 15] = [
    "index",
    "at",
    "actor",
    "asked",
    "decision",
    "reason",
    "status",
    "transaction_id",
    "approval_id",
    "amount",
    "currency",
    "from_account",
    "to_account",
    "request_id",
    "commitment",
];

impl Log {
    /// The next part of an export's file.
    ///
    /// # Errors
    /// `log_empty`; `unknown_checkpoint` for a size that has no signed one; the store's.
    pub fn export(&self, call: &ExportCall) -> Result<ExportPage, Failure> {
        self.export_heeded(call, &mut |_| Ok(()))
    }

    /// The same; `heed` sees every leaf that is looked at, whether it is found or not.
    fn export_heeded(
        &self,
        call: &ExportCall,
        heed: &mut dyn FnMut(&LeafRecord) -> Result<(), Failure>,
    ) -> Result<ExportPage, Failure> {
        let size = match call.size {
            Some(size) => self.signed_at(size)?.size,
            None => self.newest_signed()?,
        };
        let is_first = call.span.is_none();
        let span = match call.span {
            Some(span) => Span { end: span.end.min(size), ..span },
            // What is signed leaves nothing out: times in leaves are a clock's word, and erased ones have none.
            None => Span { from: 0, end: size },
        };
        let search =
            SearchCall { query: call.query.clone(), order: Order::OldestFirst, span: Some(span), limit: ITEMS_MAX };
        let page = self.search_heeded(&search, heed)?;
        let mut text = if is_first && call.format == Format::Csv { header() } else { String::new() };
        for found in &page.found {
            text.push_str(&record(found, call.format)?);
        }
        let records = page.found.len() as u64;
        Ok(ExportPage { text, records, scanned: page.scanned, unread: page.unread, next: page.next, size })
    }

    /// The signed note of the file that [`Self::export`] has written up to its end under this checkpoint, when it has these
    /// bytes.
    ///
    /// # Errors
    /// `export_changed` when the file is another one; `log_damaged` when a leaf that the checkpoint covers is missing, does not
    /// open or is not the one that was signed; `signing_key_replaced`, `export_signature_wrong`; the HSM's, the store's.
    pub fn sign_export(
        &self,
        call: &ExportCall,
        claimed: Sha256,
        progress: &mut dyn FnMut(Value),
    ) -> Result<String, Failure> {
        let mut call = call.clone();
        (call.span, call.size) = (None, Some(call.size.map_or_else(|| self.newest_signed(), Ok)?));
        let record = self.signed_at(call.size.unwrap_or_default())?;
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let (mut bytes, mut records, mut scanned, mut unread) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut tree = Frontier::empty();
        loop {
            let page = self.export_heeded(&call, &mut |leaf| grown(&mut tree, leaf))?;
            hash.update(page.text.as_bytes());
            bytes += page.text.len() as u64;
            records += page.records;
            scanned += page.scanned;
            unread += page.unread;
            progress(json!({ "rows": scanned, "of": "leaves" }));
            call.span = page.next;
            if call.span.is_none() {
                break;
            }
        }
        if tree.size() != record.size || tree.root() != record.root {
            return Err(damaged(format!(
                "the leaves are not those that the checkpoint of {} leaves covers",
                record.size
            )));
        }
        let found: [u8; 32] = hash.finish().as_ref().try_into().unwrap_or_default();
        if Sha256(found) != claimed {
            return Err(Failure::refused(
                "export_changed",
                "the file is not what this search finds",
                "make the export again; a record may have been erased meanwhile",
            ));
        }
        let checkpoint = read_checkpoint(&record)?;
        let roles = self.roles();
        let signed = SignedNote::parse(record.signed.as_deref().unwrap_or_default());
        let is_own = |note: &SignedNote| {
            let by = |role: &CertifiedKey| note.verify(&checkpoint.origin, &role.key.spki).is_ok();
            note.text == checkpoint.text() && roles.checkpoints().any(by)
        };
        if !signed.is_ok_and(|note| is_own(&note)) {
            return Err(damaged(format!("no key of this party has signed the checkpoint of {} leaves", record.size)));
        }
        let role = &roles.checkpoint;
        let query = canonical_of(&call.query).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let note = ExportNote {
            origin: checkpoint.origin.clone(),
            sha256: claimed,
            bytes,
            records,
            unread,
            format: call.format.name().to_owned(),
            query: query.ok_or_else(|| damaged("the question has no one writing".into()))?,
            size: checkpoint.size,
            root: checkpoint.root,
            chain: role.chain.clone(),
        };
        let text = note.text();
        let signature =
            self.setup.token.sign(role.key.id, SignInput::AuditExport { note: text.clone().into_bytes() })?;
        let line = NoteSignature::over_text(&checkpoint.origin, &role.key.spki, &signature);
        let signed = line.map(|line| SignedNote { text, signatures: vec![line] });
        let verified = signed.and_then(|note| note.verify(&checkpoint.origin, &role.key.spki).map(|()| note));
        let signed = verified.map_err(|refused| {
            Failure::fault(
                "export_signature_wrong",
                format!("the token's signature over the export was not usable: {refused}"),
                "run `countersign doctor`: key and certificate of the checkpoint role must belong together",
            )
        })?;
        Ok(signed.compose())
    }

    fn newest_signed(&self) -> Result<u64, Failure> {
        let newest = self.setup.store.signed_checkpoint()?.map(|record| record.size);
        newest.ok_or_else(|| {
            Failure::refused("log_empty", "nothing was recorded and signed yet", "try again after the first decision")
        })
    }

    fn signed_at(&self, size: u64) -> Result<CheckpointRecord, Failure> {
        let found = self.setup.store.checkpoints(size, 1)?.into_iter().next();
        found.filter(|record| record.size == size && record.signed.is_some()).ok_or_else(|| {
            Failure::refused(
                "unknown_checkpoint",
                format!("no checkpoint of {size} leaves is signed"),
                "begin the export anew; the first answer names its checkpoint",
            )
        })
    }
}

/// What is vouched for is what was signed: the next leaf of the tree, which can be read or was erased lawfully.
fn grown(tree: &mut Frontier, leaf: &LeafRecord) -> Result<(), Failure> {
    let place = tree.size();
    if leaf.index != Some(place) {
        return Err(damaged(format!("leaf {place} is not in the store")));
    }
    match &leaf.content {
        LeafContent::Known { salt, body } if commitment(salt, body) != leaf.commitment => {
            return Err(damaged(format!("leaf {place} is not what it commits to")));
        }
        LeafContent::Known { .. } | LeafContent::Erased => {}
        LeafContent::Unsealed => {
            return Err(damaged(format!("leaf {place} lies in the clear, and leaves before it are sealed")));
        }
        LeafContent::Damaged(why) => return Err(damaged(format!("leaf {place} does not open: {why}"))),
    }
    tree.append(leaf_hash(&leaf_entry(&leaf.commitment)), |_, _, _| {});
    Ok(())
}

fn header() -> String {
    format!("{}\r\n", COLUMNS.join(","))
}

fn record(found: &Found, format: Format) -> Result<String, Failure> {
    match format {
        Format::Jsonl => {
            let mut item = found.to_json(u64::MAX);
            // Whoever reads the file has the checkpoint: all of it is signed.
            item.as_object_mut().map(|members| members.shift_remove("signed"));
            let line = canonical(&item).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let line = line.ok_or_else(|| damaged(format!("leaf {:?} has no one writing", found.leaf.index)))?;
            Ok(format!("{line}\n"))
        }
        Format::Csv => {
            let cells = COLUMNS.map(|column| cell(&value(found, column), column));
            Ok(format!("{}\r\n", cells.join(",")))
        }
    }
}

/// What a leaf says in a column; nothing for one that was erased.
fn value(found: &Found, column: &str) -> String {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let leaf = &found.leaf;
    match column {
        "index" => return leaf.index.map(|index| index.to_string()).unwrap_or_default(),
        "commitment" => return leaf.commitment.to_string(),
        _ => {}
    }
    let Some(body) = &found.body else {
        return match &leaf.content {
            LeafContent::Erased if column == "status" => "erased".to_owned(),
            LeafContent::Unsealed | LeafContent::Damaged(_) if column == "status" => "damaged".to_owned(),
            LeafContent::Known { .. } | LeafContent::Erased | LeafContent::Unsealed | LeafContent::Damaged(_) => {
                String::new()
            }
        };
    };
    let (parameters, result) = (&body["parameters"], &body["result"]);
    let first = |values: &[&Value]| values.iter().map(|value| text(value)).find(|text| !text.is_empty());
    let money = if parameters["price"].is_object() { &parameters["price"] } else { &parameters["amount"] };
    let actor = &body["actor"];
    let shown = match column {
        "actor" => first(&[&actor["spiffe_id"], &actor["name"], &actor["component"]]),
        "asked" => first(&[&body["tool"], &body["act"]]),
        "status" => first(&[&result["status"]]),
        "transaction_id" => first(&[&result["transaction_id"], &parameters["transaction_id"]]),
        "approval_id" => first(&[&result["approval_id"], &parameters["approval_id"]]),
        "amount" => first(&[&money["amount"]]),
        "currency" => first(&[&money["currency"]]),
        "from_account" => first(&[
            &parameters["from_account"],
            &parameters["debit"],
            &parameters["account_id"],
            &parameters["account"],
        ]),
        "to_account" => first(&[&parameters["to_account"], &parameters["credit"], &parameters["merchant"]]),
        other => first(&[&body[other]]),
    };
    shown.unwrap_or_default()
}

/// A cell as RFC 4180 wants it, on one line whatever it says. Text that a spreadsheet would take for a formula gets an
/// apostrophe.
fn cell(text: &str, column: &str) -> String {
    let text = visible(text);
    let beginning = text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    let is_number = matches!(column, "index" | "amount");
    let is_formula = !is_number && beginning.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let text = if is_formula { format!("'{text}") } else { text.into_owned() };
    if text.contains([',', '"', ';']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
#[allow(clippy::duplicate_mod, reason = "the same texts are a table's, a statement's and an export's test")]
#[path = "../../tests/it/hostile/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &Value) -> Found {
        let bytes = body.to_string().into_bytes();
        let content = LeafContent::Known { salt: [0; 32], body: bytes };
        let leaf = LeafRecord { row: 1, commitment: Sha256([1; 32]), content, index: Some(7) };
        Found { leaf, body: Some(body.clone()) }
    }

    #[test]
    fn whatever_a_leaf_says_it_stays_one_line_of_fifteen_cells_without_a_formula() {
        let formulas = ["=1+1", "+1", "-1+1", "@cmd", "\t=1", " ＝1", "\"=1", "a\r\n=1", "a;=1", "a\u{2028}=1"];
        let known = corpus::HOSTILE.iter().map(|(_, text)| *text).chain(corpus::BENIGN.iter().copied());
        for text in known.chain(formulas) {
            let body = json!({
                "at": text, "act": text, "decision": text, "reason": text, "request_id": text,
                "actor": { "name": text }, "result": { "status": text, "transaction_id": text },
                "parameters": { "debit": text, "to_account": text, "amount": { "amount": "1.00", "currency": text } },
            });
            let line = record(&found(&body), Format::Csv).unwrap();
            let row = line.strip_suffix("\r\n").unwrap();
            assert_eq!(visible(row), row, "{text:?}");
            let (mut cells, mut quoted) = (vec![String::new()], false);
            for c in row.chars() {
                match c {
                    '"' => quoted = !quoted,
                    ',' if !quoted => cells.push(String::new()),
                    c => cells.last_mut().unwrap().push(c),
                }
            }
            assert_eq!((cells.len(), quoted), (15, false), "{text:?}");
            for cell in &cells {
                assert!(!cell.trim_start().starts_with(['=', '+', '-', '@', '＝']), "{text:?}: {cell}");
            }
            let lines = record(&found(&body), Format::Jsonl).unwrap();
            assert_eq!(lines.matches('\n').count(), 1, "{text:?}");
            let read: Value = serde_json::from_str(&lines).unwrap();
            assert_eq!(read["body"], body, "JSON Lines leave nothing out");
        }
    }
}
