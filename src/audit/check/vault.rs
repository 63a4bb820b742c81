//! The vault's rows against the log. What is sealed says by itself whether it was changed, but not whether it is the last
//! that was put there: whoever puts a whole older state of a name back, or takes one away, is found here.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::book::Gone;
use super::keys::may_be_erased;
use super::told::{Digest, digest};
use super::{Findings, PAGE_LEAVES, Wrong};
use crate::audit::Log;
use crate::kernel::receipt::parse_time;
use crate::kernel::types::{CredentialName, Sha256, UnixMillis};
use crate::kernel::vault::{SealedCredential, Terms};
use crate::ops::failure::Failure;
use crate::store::{CredentialPlace, LeafRecord, VaultRow};

/// Rows that are read at once: 64 of the largest are 4 MiB.
const PAGE_ROWS: u32 = 64;
/// A name that people change while it is looked at is looked at again, this often.
const LOOKS: u32 = 5;
/// Leaves that came in since and are looked at for it.
const NEWER_MAX: usize = 200_000;

/// What leaves say of credentials, each as its last one has left it.
#[derive(Clone, Default, Debug)]
pub(super) struct Kept(BTreeMap<String, Name>);

#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Name {
    /// The last version that was given.
    newest: u64,
    versions: BTreeMap<u64, Version>,
    /// When the last leaf about it was written.
    at: Option<UnixMillis>,
    /// Leaves about it.
    leaves: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Version {
    sealed: Sha256,
    key: Sha256,
    terms: Digest,
}

/// A row as far as leaves tell of it. None: it cannot be read as what was put there.
type Row = Option<(Version, UnixMillis)>;
/// Rows of each name.
type Rows = BTreeMap<String, BTreeMap<i64, Row>>;

#[derive(Deserialize)]
struct Leaf {
    act: String,
    at: String,
    parameters: Parameters,
    result: Outcome,
}

#[derive(Deserialize)]
struct Parameters {
    credential: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    sealed_sha256: Option<Sha256>,
    #[serde(default)]
    key: Option<Sha256>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    readers: Vec<String>,
    #[serde(default)]
    expires: Option<String>,
}

#[derive(Deserialize)]
struct Outcome {
    status: String,
    #[serde(default)]
    changed: bool,
    #[serde(default)]
    versions: u32,
}

impl Kept {
    /// Takes down what a leaf of this act says; a refusal says nothing.
    pub(super) fn heed(&mut self, body: &[u8]) {
        let Ok(Leaf { act, at, parameters, result }) = serde_json::from_slice::<Leaf>(body) else { return };
        let version = parameters.version.as_deref().and_then(|version| version.parse::<u64>().ok());
        if !(result.changed || result.versions > 0)
            || !matches!(result.status.as_str(), "kept" | "removed" | "rewrapped")
        {
            return;
        }
        let name = self.0.entry(parameters.credential).or_default();
        name.at = parse_time(&at);
        name.leaves += 1;
        let sealed = parameters.sealed_sha256.zip(parameters.key);
        match (act.as_str(), version, sealed) {
            ("vault_put" | "vault_rotate", Some(version), Some((sealed, key))) => {
                let (description, expires) = (parameters.description, parameters.expires);
                let terms = terms_of(&description, parameters.readers, expires);
                name.newest = name.newest.max(version);
                name.versions.insert(version, Version { sealed, key, terms });
            }
            ("vault_rewrap", Some(version), Some((sealed, key))) => {
                if let Some(kept) = name.versions.get_mut(&version) {
                    (kept.sealed, kept.key) = (sealed, key);
                }
            }
            ("vault_rm", Some(version), _) => drop(name.versions.remove(&version)),
            ("vault_rm", None, _) => name.versions.clear(),
            _ => {}
        }
    }

    /// The same with leaves that came in behind the first `size`.
    fn with_newer(&self, log: &Log, size: u64) -> Result<Self, Failure> {
        let mut all = self.clone();
        // First: one that gets its place meanwhile is among the others then.
        let waiting = log.setup.store.unsequenced(PAGE_LEAVES)?;
        let (mut from, mut placed) = (size, HashSet::new());
        while placed.len() <= NEWER_MAX {
            let page = log.setup.store.leaves(from, PAGE_LEAVES)?;
            let Some(last) = page.last().and_then(|leaf| leaf.index) else { break };
            from = last + 1;
            placed.extend(page.iter().map(|leaf| leaf.row));
            page.iter().filter_map(LeafRecord::body).for_each(|body| all.heed(body));
        }
        let waiting = waiting.iter().filter(|leaf| !placed.contains(&leaf.row));
        waiting.filter_map(LeafRecord::body).for_each(|body| all.heed(body));
        Ok(all)
    }
}

fn terms_of(description: &str, readers: Vec<String>, expires: Option<String>) -> Digest {
    // In one order, whatever the leaf's was.
    let readers = readers.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("\n");
    digest(&[description, &readers, &expires.unwrap_or_default()])
}

fn row_of(row: &SealedCredential) -> (Version, UnixMillis) {
    let Terms { description, readers, expires } = &row.terms;
    let readers = readers.iter().map(ToString::to_string).collect();
    let terms = terms_of(description, readers, expires.map(|end| end.rfc3339()));
    (Version { sealed: row.sealed_sha256(), key: row.key, terms }, row.made)
}

/// Compares every row of the vault with what the first `size` leaves told, and every name that they told of with its rows.
///
/// # Errors
/// The store's.
pub(super) fn compare(
    log: &Log,
    kept: &Kept,
    size: u64,
    gone: &Gone,
    progress: &mut dyn FnMut(Value),
) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let mut rows = Rows::new();
    let (mut after, mut count) = (None, 0_u64);
    loop {
        let page = log.setup.store.sealed_credentials(None, after.as_ref(), PAGE_ROWS)?;
        let Some(last) = page.last().map(|last| last.place.clone()).filter(|last| after.as_ref() != Some(last)) else {
            break;
        };
        after = Some(last);
        count += page.len() as u64;
        page.iter().for_each(|found| note(&mut rows, found));
        progress(json!({ "rows": count, "of": "credential versions" }));
    }
    let names: BTreeSet<&String> = rows.keys().chain(kept.0.keys()).collect();
    for name in names {
        let none = BTreeMap::new();
        let head = head(log, name)?;
        if judged(kept.0.get(name), rows.get(name).unwrap_or(&none), head, gone).is_empty() {
            continue;
        }
        for why in looked_again(log, kept, size, name, gone)? {
            findings.add(Wrong::VaultRowDiffers, name.escape_debug(), why);
        }
    }
    Ok(findings)
}

fn note(rows: &mut Rows, found: &VaultRow<SealedCredential>) {
    let (name, version) = &found.place;
    rows.entry(name.clone()).or_default().insert(*version, found.row.as_ref().map(row_of));
}

/// What is wrong with a name, seen between two looks at the log that say the same of it.
fn looked_again(log: &Log, kept: &Kept, size: u64, name: &str, gone: &Gone) -> Result<Vec<String>, Failure> {
    let mut before = kept.with_newer(log, size)?;
    for _ in 0..LOOKS {
        let rows = rows_of(log, name)?;
        let head = head(log, name)?;
        let behind = kept.with_newer(log, size)?;
        if before.0.get(name) == behind.0.get(name) {
            return Ok(judged(behind.0.get(name), &rows, head, gone));
        }
        before = behind;
    }
    // People change it faster than it can be looked at: the next check looks.
    Ok(vec![])
}

fn rows_of(log: &Log, name: &str) -> Result<BTreeMap<i64, Row>, Failure> {
    let mut rows = Rows::new();
    let mut after: Option<CredentialPlace> = Some((name.to_owned(), i64::MIN));
    loop {
        let page = log.setup.store.sealed_credentials(None, after.as_ref(), PAGE_ROWS)?;
        page.iter().filter(|found| found.place.0 == name).for_each(|found| note(&mut rows, found));
        match page.last().map(|last| last.place.clone()) {
            Some(last) if last.0 == name && after.as_ref() != Some(&last) => after = Some(last),
            Some(_) | None => return Ok(rows.remove(name).unwrap_or_default()),
        }
    }
}

/// The number of the last version that the store says was given.
fn head(log: &Log, name: &str) -> Result<Option<u64>, Failure> {
    let Ok(name) = name.parse::<CredentialName>() else { return Ok(None) };
    Ok(log.setup.store.credential(&name)?.map(|known| known.head.newest))
}

fn judged(told: Option<&Name>, rows: &BTreeMap<i64, Row>, head: Option<u64>, gone: &Gone) -> Vec<String> {
    let may_be_erased =
        |at: Option<UnixMillis>| may_be_erased(&gone.destroyed, gone.erased, at.unwrap_or(UnixMillis(0)));
    let mut wrong = Vec::new();
    let Some(told) = told else {
        for (version, row) in rows {
            match row {
                Some((_, made)) if may_be_erased(Some(*made)) => {}
                Some(_) | None => wrong.push(format!("no leaf says that version {version} was ever kept")),
            }
        }
        return wrong;
    };
    // A later leaf about it may be one of those that say nothing any more.
    if may_be_erased(told.at) {
        return wrong;
    }
    let newest = told.newest;
    match head {
        Some(head) if head == newest => {}
        Some(head) => wrong.push(format!("version {newest} was given last, and the store says {head}")),
        None => wrong.push(format!("version {newest} was given last, and the store does not know the name")),
    }
    for (version, kept) in &told.versions {
        match i64::try_from(*version).ok().and_then(|version| rows.get(&version)) {
            None => wrong.push(format!("version {version} is kept, as the log says, and its row is gone")),
            Some(None) => wrong.push(format!("version {version} cannot be read as what was put there")),
            Some(Some((row, _))) if row.sealed != kept.sealed => {
                let why = format!("what is sealed in version {version} is not what was sealed last: {}", row.sealed);
                wrong.push(why);
            }
            Some(Some((row, _))) if row != kept => {
                wrong.push(format!("version {version} names another key, other readers, another text or another end"));
            }
            Some(Some(_)) => {}
        }
    }
    let is_told = |version: &i64| u64::try_from(*version).is_ok_and(|version| told.versions.contains_key(&version));
    for version in rows.keys().filter(|version| !is_told(version)) {
        wrong.push(format!("version {version} was removed, or never kept, as the log says, and its row is there"));
    }
    wrong
}
