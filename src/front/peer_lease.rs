//! The lease under which a bank's node serves agents while the security company's daemon answers.
//!
//! The company's revocations reach the bank as lists. So that its *effective* holds there too, a node asks for a lease,
//! says which lists and freezes it has acted on, and is told of newer ones at once; only a node that has acted on all of
//! them gets more time. The node counts from before it asked, the company from when it answered: what the company takes
//! as over is over. Whoever cannot ask any more stops by itself.

pub mod holder;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::kernel::types::{PartyName, Sha256, SpiffeId};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// The longest that a question waits for news.
pub const WAIT_MAX_MS: u64 = 5_000;
/// Of a lease's time this part is left when the last commit under it begins.
const COMMIT_PART: i64 = 6;
const COMMIT_MAX_MS: i64 = 5_000;
/// Nodes of other parties that are remembered.
const BORROWERS_MAX: usize = 64;
/// Issuers that one node asks about.
const LISTS_MAX: usize = 64;

/// Who is frozen at the security company.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    pub agents: BTreeSet<SpiffeId>,
    pub everyone: bool,
}

impl Frozen {
    /// SHA-256 over its JSON form: what a node says that it has acted on.
    pub fn fingerprint(&self) -> Sha256 {
        Sha256::of(&[&serde_json::to_vec(self).unwrap_or_default()])
    }
}

/// What a node has acted on: the number of the newest list by issuer (0: none yet), and who is frozen.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActedOn {
    pub lists: BTreeMap<String, u64>,
    pub frozen: Option<Sha256>,
}

/// A node's question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Unique to this run of the node.
    pub node: String,
    pub acted_on: ActedOn,
    /// How long the answer may wait for news; at most [`WAIT_MAX_MS`] and a third of the lease count.
    pub wait_ms: u64,
}

/// The answer: more time, or what has to be acted on first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Counted by the node from before it asked. 0: act on the rest and ask again.
    pub lease_ms: i64,
    /// Newer lists, PEM.
    pub lists: Vec<String>,
    pub frozen: Option<Frozen>,
}

/// What is in force at the security company now.
pub trait InForce {
    /// An issuer's newest list, PEM. `None`: it is no issuer of ours.
    fn list(&self, issuer: &str) -> Option<String>;
    /// That list's number.
    fn number(&self, issuer: &str) -> Option<u64>;
    fn frozen(&self) -> Frozen;
}

/// The security company's book of leases.
pub struct Lender {
    lease_ms: i64,
    /// Keeps the end of the last lease over a restart.
    file: PathBuf,
    book: Mutex<Book>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Book {
    borrowers: BTreeMap<(PartyName, String), Borrower>,
    /// Until then leases may last that were given before this start. Boot clock, milliseconds.
    before: i64,
}

#[derive(Debug)]
struct Borrower {
    acted_on: ActedOn,
    /// Boot clock, milliseconds.
    until: i64,
}

/// What is kept over a restart, boot clock. After the machine's own start the clock begins anew, and whatever was given
/// before it is over when the clock is past any lease's length.
#[derive(Serialize, Deserialize)]
struct Kept {
    until: i64,
    lease_ms: i64,
}

impl std::fmt::Debug for Lender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lender").field("lease_ms", &self.lease_ms).finish_non_exhaustive()
    }
}

impl Lender {
    pub fn open(file: PathBuf, lease_ms: u32) -> Self {
        let lease_ms = i64::from(lease_ms);
        let now = clock::boot_ms();
        let before = match std::fs::read(&file) {
            Ok(bytes) => match serde_json::from_slice::<Kept>(&bytes) {
                Ok(kept) => kept.until.min(now.saturating_add(kept.lease_ms)),
                // Cut off while it was written.
                Err(_) => now.saturating_add(lease_ms),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(_) => now.saturating_add(lease_ms),
        };
        Self { lease_ms, file, book: Mutex::new(Book { borrowers: BTreeMap::new(), before }), changed: Condvar::new() }
    }

    /// Answers a node: waits for news as long as it says, then gives it more time if there are none.
    ///
    /// # Errors
    /// `lease_malformed`, `too_many_leases`, `lease_unwritable`
    pub fn lend(&self, party: &PartyName, question: &Question, in_force: &dyn InForce) -> Result<Answer, Failure> {
        if question.node.len() > 64 || question.acted_on.lists.len() > LISTS_MAX {
            return Err(Failure::usage("lease_malformed", "the question names too much", "see /v1/openapi.json"));
        }
        // The node counts its lease from before it asked.
        let wait_max = WAIT_MAX_MS.min(u64::try_from(self.lease_ms / 3).unwrap_or(0));
        let deadline = Instant::now() + Duration::from_millis(question.wait_ms.min(wait_max));
        let name = (party.clone(), question.node.clone());
        let mut book = self.book();
        if let Some(borrower) = book.borrowers.get_mut(&name) {
            borrower.acted_on = question.acted_on.clone();
        }
        self.changed.notify_all();
        loop {
            let answer = news(&question.acted_on, in_force);
            if answer.frozen.is_some() || !answer.lists.is_empty() {
                return Ok(answer);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            book = self.changed.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        // Under the lock since the last look: a change that comes now finds this lease in the book.
        let now = clock::boot_ms();
        book.borrowers.retain(|_, borrower| borrower.until > now);
        if book.borrowers.len() >= BORROWERS_MAX && !book.borrowers.contains_key(&name) {
            return Err(Failure::busy(
                "too_many_leases",
                "too many nodes have a lease",
                "stop nodes that are not used",
            ));
        }
        let until = now.saturating_add(self.lease_ms);
        self.keep(until)?;
        book.borrowers.insert(name, Borrower { acted_on: question.acted_on.clone(), until });
        Ok(Answer { lease_ms: self.lease_ms, ..Answer::default() })
    }

    /// Something has changed and is in force: tells every node, and waits until each has acted on it or its lease has run
    /// out. Answers how many nodes serve.
    pub fn await_borrowers(&self, in_force: &dyn InForce) -> usize {
        let mut book = self.book();
        self.changed.notify_all();
        let frozen = in_force.frozen().fingerprint();
        let numbers: BTreeMap<String, u64> = book
            .borrowers
            .values()
            .flat_map(|borrower| borrower.acted_on.lists.keys())
            .filter_map(|issuer| Some((issuer.clone(), in_force.number(issuer)?)))
            .collect();
        loop {
            let now = clock::boot_ms();
            let lags = |borrower: &Borrower| {
                let is_behind = |(issuer, number): (&String, &u64)| {
                    borrower.acted_on.lists.get(issuer).is_some_and(|acted_on| acted_on < number)
                };
                borrower.acted_on.frozen != Some(frozen) || numbers.iter().any(is_behind)
            };
            let behind = book.borrowers.values().filter(|borrower| borrower.until > now && lags(borrower));
            let Some(end) = behind.map(|borrower| borrower.until).chain([book.before]).filter(|end| *end > now).max()
            else {
                return book.borrowers.values().filter(|borrower| borrower.until > now).count();
            };
            let left = Duration::from_millis(u64::try_from(end - now).unwrap_or(0));
            book = self.changed.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Nodes that have a lease now.
    pub fn borrowers(&self) -> usize {
        let now = clock::boot_ms();
        self.book().borrowers.values().filter(|borrower| borrower.until > now).count()
    }

    fn keep(&self, until: i64) -> Result<(), Failure> {
        let unwritable = |error: std::io::Error| {
            Failure::fault(
                "lease_unwritable",
                format!("{}: {error}", self.file.display()),
                "check the disk and the owner of the state directory",
            )
        };
        let bytes =
            serde_json::to_vec(&Kept { until, lease_ms: self.lease_ms }).map_err(|error| unwritable(error.into()))?;
        // Survives this process, which is enough: with the machine the clock begins anew.
        let temporary = self.file.with_extension("new");
        std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &self.file)).map_err(unwritable)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn news(acted_on: &ActedOn, in_force: &dyn InForce) -> Answer {
    let newer =
        acted_on.lists.iter().filter(|(issuer, number)| in_force.number(issuer).is_some_and(|now| now > **number));
    let lists = newer.filter_map(|(issuer, _)| in_force.list(issuer)).collect();
    let frozen = in_force.frozen();
    let is_known = acted_on.frozen == Some(frozen.fingerprint());
    Answer { lease_ms: 0, lists, frozen: (!is_known).then_some(frozen) }
}

/// When what a node asked for at `asked_ms` ends: for answers, and for the last commit to begin.
pub fn ends(asked_ms: i64, lease_ms: i64) -> (i64, i64) {
    let until = asked_ms.saturating_add(lease_ms);
    (until, until - (lease_ms / COMMIT_PART).min(COMMIT_MAX_MS))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// One issuer whose list's number is this.
    struct Company(AtomicU64);

    impl InForce for Company {
        fn list(&self, issuer: &str) -> Option<String> {
            self.number(issuer).map(|number| format!("list {number}"))
        }

        fn number(&self, issuer: &str) -> Option<u64> {
            (issuer == "ca").then(|| self.0.load(Ordering::SeqCst))
        }

        fn frozen(&self) -> Frozen {
            Frozen::default()
        }
    }

    fn question(node: &str, number: u64) -> Question {
        let lists = BTreeMap::from([("ca".to_owned(), number), ("other".to_owned(), 0)]);
        let acted_on = ActedOn { lists, frozen: Some(Frozen::default().fingerprint()) };
        Question { node: node.into(), acted_on, wait_ms: 0 }
    }

    fn lender(directory: &tempfile::TempDir, lease_ms: u32) -> Lender {
        Lender::open(directory.path().join("leases.json"), lease_ms)
    }

    #[test]
    fn time_is_given_to_those_alone_who_have_acted_on_everything() {
        let directory = tempfile::tempdir().unwrap();
        let (lender, company, bank) = (lender(&directory, 60_000), Company(AtomicU64::new(3)), "bank".parse().unwrap());
        let behind = lender.lend(&bank, &question("a", 2), &company).unwrap();
        assert_eq!((behind.lease_ms, behind.lists), (0, vec!["list 3".to_owned()]));
        assert_eq!(lender.borrowers(), 0);
        let unaware = Question { acted_on: ActedOn { frozen: None, ..question("a", 3).acted_on }, ..question("a", 3) };
        assert_eq!(lender.lend(&bank, &unaware, &company).unwrap().frozen, Some(Frozen::default()));
        assert_eq!(lender.lend(&bank, &question("a", 3), &company).unwrap().lease_ms, 60_000);
        assert_eq!((lender.borrowers(), lender.await_borrowers(&company)), (1, 1));
    }

    #[test]
    fn a_change_is_over_when_the_node_has_acted_and_news_are_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let (lender, company, bank) =
            (lender(&directory, 600_000), Company(AtomicU64::new(1)), "bank".parse().unwrap());
        assert_eq!(lender.lend(&bank, &question("a", 1), &company).unwrap().lease_ms, 600_000);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let patient = Question { wait_ms: WAIT_MAX_MS, ..question("a", 1) };
                let told = lender.lend(&bank, &patient, &company).unwrap();
                assert_eq!(told.lists, ["list 2"]);
                lender.lend(&bank, &question("a", 2), &company).unwrap().lease_ms
            });
            company.0.store(2, Ordering::SeqCst);
            assert_eq!(lender.await_borrowers(&company), 1);
            assert_eq!(waits.join().unwrap(), 600_000);
        });
    }

    #[test]
    fn a_node_that_is_silent_is_waited_for_until_its_lease_has_run_out_also_by_the_next_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let (company, bank) = (Company(AtomicU64::new(1)), "bank".parse().unwrap());
        let first = lender(&directory, 300);
        let given = clock::boot_ms();
        first.lend(&bank, &question("a", 1), &company).unwrap();
        company.0.store(2, Ordering::SeqCst);
        let next = lender(&directory, 300);
        assert_eq!(first.await_borrowers(&company), 0);
        assert!(clock::boot_ms() >= given + 300 - 1);
        assert_eq!(next.await_borrowers(&company), 0);

        let given = clock::boot_ms();
        first.lend(&bank, &question("b", 2), &company).unwrap();
        assert_eq!(lender(&directory, 300).await_borrowers(&company), 0);
        assert!(clock::boot_ms() >= given + 300 - 1, "another start of the daemon has forgotten its leases");
        std::fs::write(directory.path().join("leases.json"), "{").unwrap();
        let torn = clock::boot_ms();
        assert_eq!(lender(&directory, 300).await_borrowers(&company), 0);
        assert!(clock::boot_ms() >= torn + 300);
    }

    #[test]
    fn commits_end_before_the_lease_does() {
        assert_eq!(ends(1_000, 30_000), (31_000, 26_000));
        assert_eq!(ends(1_000, 3_000), (4_000, 3_500));
        assert_eq!(ends(1_000, 600_000), (601_000, 596_000));
    }

    #[test]
    fn questions_that_name_too_much_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (lender, company, bank) = (lender(&directory, 1_000), Company(AtomicU64::new(1)), "bank".parse().unwrap());
        let lists = (0..=LISTS_MAX).map(|number| (number.to_string(), 0)).collect();
        let many = Question { acted_on: ActedOn { lists, frozen: None }, ..question("a", 1) };
        assert_eq!(lender.lend(&bank, &many, &company).unwrap_err().name, "lease_malformed");
        let long = question(&"n".repeat(65), 1);
        assert_eq!(lender.lend(&bank, &long, &company).unwrap_err().name, "lease_malformed");
        for node in 0..BORROWERS_MAX {
            lender.lend(&bank, &question(&node.to_string(), 1), &company).unwrap();
        }
        assert_eq!(lender.lend(&bank, &question("one more", 1), &company).unwrap_err().name, "too_many_leases");
        assert_eq!(lender.lend(&bank, &question("0", 1), &company).unwrap().lease_ms, 1_000);
    }
}
