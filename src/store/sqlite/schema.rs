//! The schema and its forward-only migrations. `user_version` is the version on disk.
//!
//! Lean on purpose (measured 1.55 × over a textbook schema): entries are append-only by rowid and chained per
//! account through `previous`, the account row holds the newest one; a day's sum is a counter row; open
//! transactions have partial indexes that stay small.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::{Schema, StoreFault};

/// Every migration in order, with what it brings; the version is how many were run.
const MIGRATIONS: &[(&str, &str)] = &[
    ("accounts, payments, certificates, the audit log", INITIAL),
    ("overdrafts, daily limits and calendars, fees, cases, an external core, keys by day", MONEY),
    ("what a core banking system refused, and why", REFUSALS),
    ("indexes that cost less to keep", INDEXES),
    ("freezes, and revocations by time", FREEZES),
    ("when an issuer's last certificate ends", ENDS),
    ("role policies, version by version", POLICIES),
    ("the gates of an approval, and what people said at them", GATES),
    ("causes that stop payments, and who works on a case", BREAKER),
    ("messages to people", NOTICES),
    ("how fast payments were made, and how often was asked", PACES),
    ("owners' mandates, and what is paid under them", MANDATES),
    ("who signed a mandate, and those of one account", SIGNERS),
    ("what a witness remembers, and what one has cosigned", WITNESS),
    ("what leaves say, sealed under a key of each subject and month", SEALED),
    ("places of leaves beside them: a leaf is written once", PLACES),
    ("what halted a witnessed log, and who asks to go on from it", WITNESS_ACCEPTED),
    ("credentials of the systems behind, sealed by the HSM", VAULT),
    ("orders for signatures of other programs", SIGNINGS),
    ("from which row on leaves are sealed; why an erasure is asked, and who released", FIRST_ROW),
];

const INITIAL: &str = "
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    currency TEXT NOT NULL,
    status TEXT NOT NULL,
    balance INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    newest_entry INTEGER,
    CHECK (kind = 'clearing' OR balance >= held)
) STRICT;
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id),
    transaction_row INTEGER NOT NULL REFERENCES transactions (id),
    amount INTEGER NOT NULL CHECK (amount <> 0),
    previous INTEGER
) STRICT;
CREATE TABLE merchants (
    merchant TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    currency TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE offers (
    merchant TEXT NOT NULL REFERENCES merchants (merchant),
    product TEXT NOT NULL,
    title TEXT NOT NULL,
    price INTEGER NOT NULL CHECK (price > 0),
    currency TEXT NOT NULL,
    PRIMARY KEY (merchant, product)
) STRICT, WITHOUT ROWID;
CREATE TABLE grants (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES accounts (name),
    owner TEXT NOT NULL,
    verbs TEXT NOT NULL,
    maximum INTEGER,
    currency TEXT NOT NULL,
    expires INTEGER NOT NULL,
    entered_by TEXT NOT NULL,
    asserted INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE UNIQUE INDEX grants_in_force ON grants (agent, account) WHERE revoked_at IS NULL;
CREATE TABLE transactions (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    maker TEXT NOT NULL,
    agent TEXT,
    debit TEXT NOT NULL,
    credit TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    merchant TEXT,
    product TEXT,
    original TEXT,
    parameters BLOB NOT NULL,
    counts_on INTEGER,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    authorization_ttl_ms INTEGER NOT NULL,
    policy_version TEXT NOT NULL,
    catalogue_version INTEGER NOT NULL,
    posted_at INTEGER,
    batch INTEGER,
    index_in_batch INTEGER,
    statement BLOB,
    leaf INTEGER
) STRICT;
CREATE INDEX transactions_open_by_agent ON transactions (agent, debit) WHERE state IN ('approved', 'pending_approval');
CREATE INDEX transactions_open_by_expiry ON transactions (expires) WHERE state IN ('approved', 'pending_approval');
CREATE INDEX transactions_reversing ON transactions (original) WHERE original IS NOT NULL;
CREATE TABLE approvals (
    name TEXT PRIMARY KEY,
    transaction_name TEXT NOT NULL UNIQUE REFERENCES transactions (name),
    reasons TEXT NOT NULL,
    expires INTEGER NOT NULL,
    decided_by TEXT,
    decided_at INTEGER,
    note TEXT,
    asserted INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE bindings (
    scope BLOB PRIMARY KEY,
    request BLOB NOT NULL,
    transaction_name TEXT,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE spending (
    agent TEXT NOT NULL,
    day INTEGER NOT NULL,
    minor INTEGER NOT NULL CHECK (minor >= 0),
    PRIMARY KEY (agent, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE batches (
    batch INTEGER PRIMARY KEY,
    document BLOB NOT NULL,
    leaves BLOB NOT NULL,
    signature BLOB,
    key BLOB
) STRICT;
CREATE INDEX batches_unsigned ON batches (batch) WHERE signature IS NULL;
CREATE TABLE leaves (
    row INTEGER PRIMARY KEY,
    commitment BLOB NOT NULL,
    salt BLOB NOT NULL,
    body BLOB NOT NULL,
    key_id TEXT,
    place INTEGER
) STRICT;
CREATE UNIQUE INDEX leaves_placed ON leaves (place) WHERE place IS NOT NULL;
CREATE INDEX leaves_waiting ON leaves (row) WHERE place IS NULL;
CREATE TABLE nodes (
    level INTEGER NOT NULL,
    place INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY,
    root BLOB NOT NULL,
    note BLOB NOT NULL,
    signed BLOB
) STRICT;
CREATE INDEX checkpoints_signed ON checkpoints (size) WHERE signed IS NOT NULL;
CREATE TABLE certificates (
    id TEXT PRIMARY KEY,
    profile TEXT NOT NULL,
    subject TEXT NOT NULL,
    issuer TEXT NOT NULL,
    serial BLOB NOT NULL,
    key BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    tbs BLOB NOT NULL,
    der BLOB,
    UNIQUE (issuer, serial)
) STRICT;
CREATE INDEX certificates_of_subject ON certificates (subject);
CREATE INDEX certificates_of_key ON certificates (key);
CREATE TABLE revocations (
    mark TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    issuer TEXT,
    value TEXT NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    swept INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_of_issuer ON revocations (issuer) WHERE issuer IS NOT NULL;
CREATE INDEX revocations_unswept ON revocations (mark) WHERE swept = 0;
CREATE TABLE crls (
    issuer TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE crl_numbers (
    issuer TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Overdrafts, daily limits and calendars; fees; cases; an external core; keys and nonces by day.
const MONEY: &str = "
CREATE TABLE accounts_new (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    currency TEXT NOT NULL,
    status TEXT NOT NULL,
    status_by TEXT,
    balance INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    overdraft INTEGER NOT NULL DEFAULT 0 CHECK (overdraft >= 0),
    day_max INTEGER CHECK (day_max > 0),
    zone TEXT NOT NULL DEFAULT 'UTC',
    newest_entry INTEGER,
    CHECK (kind = 'clearing' OR balance + overdraft >= held)
) STRICT;
INSERT INTO accounts_new (id, name, owner, kind, currency, status, balance, held, newest_entry)
    SELECT id, name, owner, kind, currency, status, balance, held, newest_entry FROM accounts;
DROP TABLE accounts;
ALTER TABLE accounts_new RENAME TO accounts;
ALTER TABLE transactions ADD COLUMN fee INTEGER NOT NULL DEFAULT 0 CHECK (fee >= 0);
ALTER TABLE transactions ADD COLUMN debits_on INTEGER;
ALTER TABLE transactions ADD COLUMN settlement TEXT NOT NULL DEFAULT 'embedded';
ALTER TABLE transactions ADD COLUMN case_id TEXT;
ALTER TABLE transactions ADD COLUMN order_batch INTEGER;
ALTER TABLE transactions ADD COLUMN order_index INTEGER;
ALTER TABLE transactions ADD COLUMN order_statement BLOB;
DROP INDEX transactions_open_by_agent;
CREATE INDEX transactions_open_by_agent ON transactions (agent, debit)
    WHERE state IN ('approved', 'pending_approval', 'queued_manual', 'submitted');
CREATE TABLE counters (
    counter TEXT NOT NULL,
    day INTEGER NOT NULL,
    minor INTEGER NOT NULL CHECK (minor >= 0),
    PRIMARY KEY (counter, day)
) STRICT, WITHOUT ROWID;
INSERT INTO counters (counter, day, minor) SELECT agent, day, minor FROM spending;
DROP TABLE spending;
ALTER TABLE bindings RENAME TO bindings_old;
CREATE TABLE bindings (
    day INTEGER NOT NULL,
    scope BLOB NOT NULL,
    request BLOB NOT NULL,
    transaction_name TEXT,
    case_id TEXT,
    PRIMARY KEY (day, scope)
) STRICT, WITHOUT ROWID;
INSERT INTO bindings (day, scope, request, transaction_name)
    SELECT at / 86400000, scope, request, transaction_name FROM bindings_old;
DROP TABLE bindings_old;
CREATE TABLE nonces (
    day INTEGER NOT NULL,
    nonce BLOB NOT NULL,
    PRIMARY KEY (day, nonce)
) STRICT, WITHOUT ROWID;
CREATE TABLE cases (
    name TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    agent_key BLOB NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    scope BLOB,
    transaction_name TEXT,
    resume TEXT,
    call TEXT NOT NULL,
    created INTEGER NOT NULL,
    decided_by TEXT,
    decided_at INTEGER,
    note TEXT
) STRICT;
CREATE INDEX cases_waiting ON cases (agent) WHERE state = 'queued' AND transaction_name IS NULL;
CREATE TABLE breaker (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    reason TEXT NOT NULL,
    by TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    transaction_name TEXT NOT NULL,
    verb TEXT NOT NULL,
    since INTEGER NOT NULL,
    UNIQUE (transaction_name, verb)
) STRICT;
";

/// A table of its own: refusals are rare, and a transaction's row is as narrow as can be.
const REFUSALS: &str = "
CREATE TABLE core_refusals (
    transaction_name TEXT NOT NULL,
    verb TEXT NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (transaction_name, verb)
) STRICT, WITHOUT ROWID;
";

/// Open transactions as their indexes name them. SQLite makes a table of a longer `IN` list each time that a row is
/// written; and a query must say the same to use the index.
pub(super) const OPEN: &str =
    "(state = 'approved' OR state = 'pending_approval' OR state = 'queued_manual' OR state = 'submitted')";
/// Those that lapse.
pub(super) const LAPSING: &str = "(state = 'approved' OR state = 'pending_approval')";

/// Leaves get their places in the order of their rows: those that wait are the newest ones.
const INDEXES: &str = "
DROP INDEX transactions_open_by_agent;
CREATE INDEX transactions_open_by_agent ON transactions (agent, debit)
    WHERE (state = 'approved' OR state = 'pending_approval' OR state = 'queued_manual' OR state = 'submitted');
DROP INDEX transactions_open_by_expiry;
CREATE INDEX transactions_open_by_expiry ON transactions (expires)
    WHERE (state = 'approved' OR state = 'pending_approval');
DROP INDEX leaves_waiting;
";

/// A freeze is a mark like a revocation's, with the first of the two who lift it; a list is continued from a time on.
const FREEZES: &str = "
ALTER TABLE revocations ADD COLUMN thaw_asked_by TEXT;
DROP INDEX revocations_of_issuer;
CREATE INDEX revocations_of_issuer ON revocations (issuer, at) WHERE kind = 'certificate';
CREATE INDEX certificates_of_authorities ON certificates (profile) WHERE profile = 'root' OR profile = 'issuing';
";

/// When the last certificate of an issuer ends is asked at every issuance: an issuing CA is in use once it has one.
const ENDS: &str = "
CREATE INDEX certificates_by_end ON certificates (issuer, not_after)
    WHERE der IS NOT NULL AND profile <> 'root' AND profile <> 'issuing';
";

/// A version is never changed: what was in force when stays known.
const POLICIES: &str = "
CREATE TABLE policies (
    version INTEGER PRIMARY KEY CHECK (version > 0),
    sha256 BLOB NOT NULL,
    roles TEXT NOT NULL,
    by TEXT NOT NULL,
    at INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;
";

/// Approvals from before ask one approver, known by user id. Those that are open stay decidable and can be signed now: each
/// gets a nonce.
const GATES: &str = "
ALTER TABLE approvals ADD COLUMN asked TEXT;
UPDATE approvals SET asked = '{\"nonce\":\"' || lower(hex(randomblob(32))) || '\",\"quorum\":{\"gates\":[{\"gate\":\"bank\",\"approvals\":1,\"roles\":[\"approver\"],\"ordered\":false}],\"signed_only\":false,\"words\":[]}}'
    WHERE decided_by IS NULL;
";

/// Each cause that stops payments stands for itself; a stop from before is a person's. Who works on a case, what the first
/// of two people said, and where money moved that was paid elsewhere.
const BREAKER: &str = "
ALTER TABLE breaker RENAME TO breaker_old;
CREATE TABLE breaker (
    cause TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    by TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;
INSERT INTO breaker (cause, reason, by, since) SELECT 'operator', reason, by, since FROM breaker_old;
DROP TABLE breaker_old;
ALTER TABLE cases ADD COLUMN taken_by TEXT;
ALTER TABLE cases ADD COLUMN taken_at INTEGER;
ALTER TABLE cases ADD COLUMN proposed TEXT;
ALTER TABLE cases ADD COLUMN reference TEXT;
";

/// Messages to people, how far the log was looked at for them (-1: nobody has begun), and leaves that people were told of
/// before they had their place.
const NOTICES: &str = "
CREATE TABLE notices (
    id TEXT PRIMARY KEY,
    leaf INTEGER NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    content TEXT NOT NULL,
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    ended INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_due ON notices (due, leaf) WHERE state = 'queued';
CREATE INDEX notices_newest ON notices (leaf, id);
CREATE INDEX notices_created ON notices (created);
CREATE TABLE notice_place (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    place INTEGER NOT NULL
) STRICT;
INSERT INTO notice_place (one, place) VALUES (1, -1);
CREATE TABLE notices_early (leaf INTEGER PRIMARY KEY) STRICT;
";

/// What each velocity of a transaction rule has counted, and until when it is looked at (milliseconds since 1970); until
/// when the turns of each limit are taken (microseconds).
const PACES: &str = "
CREATE TABLE paces (
    name TEXT PRIMARY KEY,
    slots TEXT NOT NULL,
    ends INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX paces_by_end ON paces (ends);
CREATE TABLE turns (
    name TEXT PRIMARY KEY,
    taken_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// A mandate is kept for ever: what was paid under it refers to it.
const MANDATES: &str = "
CREATE TABLE mandates (
    name TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    account TEXT NOT NULL,
    claims TEXT NOT NULL,
    text TEXT NOT NULL,
    created INTEGER NOT NULL,
    entered_by TEXT NOT NULL,
    revoked_at INTEGER,
    revoked_by TEXT,
    revoked_reason TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX mandates_of_agent ON mandates (agent, name);
ALTER TABLE transactions ADD COLUMN mandate TEXT;
";

/// What was entered before says who signed it in its text alone.
const SIGNERS: &str = "
ALTER TABLE mandates ADD COLUMN signer TEXT;
ALTER TABLE mandates ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;
UPDATE mandates SET expires = json_extract(claims, '$.exp') * 1000;
CREATE INDEX mandates_unrevoked ON mandates (agent, account, expires) WHERE revoked_at IS NULL;
CREATE INDEX mandates_revoked ON mandates (agent, account, revoked_at) WHERE revoked_at IS NOT NULL;
";

/// Logs of other parties that are cosigned here: the newest head of each, durable before the signature over it is made, and
/// why a log is not cosigned any more. Cosignatures of our own checkpoints, each with the certificates of its key.
const WITNESS: &str = "
CREATE TABLE witnessed (
    origin TEXT PRIMARY KEY,
    party TEXT,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    cosigned_at INTEGER NOT NULL,
    told_at INTEGER NOT NULL,
    halted TEXT,
    shown_size INTEGER,
    shown_root BLOB,
    halted_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE witness_chains (
    name BLOB PRIMARY KEY,
    certificates TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE cosignatures (
    size INTEGER PRIMARY KEY,
    line TEXT NOT NULL,
    chain BLOB NOT NULL
) STRICT;
";

/// Leaves from before stay as they are, in the clear: they have no data key. A data key that was destroyed keeps its row, so
/// that what it sealed is known to be erased and not lost.
const SEALED: &str = "
CREATE TABLE store_keys (
    id INTEGER PRIMARY KEY,
    wrapping_key BLOB NOT NULL,
    wrapped BLOB NOT NULL,
    made INTEGER NOT NULL
) STRICT;
CREATE TABLE data_keys (
    id INTEGER PRIMARY KEY,
    store_key INTEGER NOT NULL,
    subject TEXT NOT NULL,
    period INTEGER NOT NULL,
    wrapped BLOB,
    made INTEGER NOT NULL,
    destroyed INTEGER
) STRICT;
CREATE INDEX data_keys_of_subject ON data_keys (subject, period) WHERE wrapped IS NOT NULL;
CREATE INDEX data_keys_by_period ON data_keys (period, id) WHERE wrapped IS NOT NULL;
CREATE TABLE subject_marks (
    subject TEXT PRIMARY KEY,
    hold_by TEXT,
    hold_at INTEGER,
    hold_reason TEXT,
    erasure_by TEXT,
    erasure_at INTEGER
) STRICT, WITHOUT ROWID;
ALTER TABLE leaves ADD COLUMN data_key INTEGER;
";

/// A leaf's row is large, and was written a second time when it got its place.
const PLACES: &str = "
CREATE TABLE places (
    place INTEGER PRIMARY KEY,
    row INTEGER NOT NULL UNIQUE
) STRICT;
INSERT INTO places (place, row) SELECT place, row FROM leaves WHERE place IS NOT NULL ORDER BY place;
DROP INDEX leaves_placed;
ALTER TABLE leaves DROP COLUMN place;
";

/// The signed note that halted a log, and the first of two people who go on from it.
const WITNESS_ACCEPTED: &str = "
ALTER TABLE witnessed ADD COLUMN shown_note TEXT;
ALTER TABLE witnessed ADD COLUMN accept_asked_by TEXT;
";

/// The vault: values are sealed by the HSM, with everything else that a row says. What is known of a name outlives its
/// versions, so that no number is given twice.
const VAULT: &str = "
CREATE TABLE vault_names (
    name TEXT PRIMARY KEY,
    newest INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE vault_versions (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    description TEXT NOT NULL,
    readers TEXT NOT NULL,
    expires INTEGER,
    made INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    wrapping_key BLOB NOT NULL,
    sealed BLOB NOT NULL,
    UNIQUE (name, version)
) STRICT;
CREATE INDEX vault_versions_by_key ON vault_versions (wrapping_key);
";

/// Orders for signatures of other programs. `journal`: when and by which key, before it signs; `signatures`: the first ones.
const SIGNINGS: &str = "
CREATE TABLE signings (
    scope BLOB PRIMARY KEY,
    day INTEGER NOT NULL,
    request BLOB NOT NULL,
    journal BLOB NOT NULL,
    signatures BLOB,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX signings_by_day ON signings (day);
";

/// A store key from before says its first row once it was opened.
const FIRST_ROW: &str = "
ALTER TABLE store_keys ADD COLUMN first_row INTEGER;
ALTER TABLE subject_marks ADD COLUMN erasure_reason TEXT;
ALTER TABLE subject_marks ADD COLUMN released_by TEXT;
ALTER TABLE subject_marks ADD COLUMN released_at INTEGER;
";

/// How far the schema of this file is.
///
/// # Errors
/// [`StoreFault::SchemaTooNew`] by name; [`StoreFault::NotRecorded`] for what SQLite reports.
pub(super) fn state(connection: &Connection) -> Result<Schema, StoreFault> {
    let found = version(connection).map_err(failed)?;
    Schema::of(found, MIGRATIONS.iter().map(|(name, _)| *name))
}

/// Brings the schema to the version this program knows, each migration in a transaction of its own. Two at once are
/// harmless: the second one finds it done.
///
/// # Errors
/// [`StoreFault::SchemaTooNew`] by name; [`StoreFault::NotRecorded`] for what SQLite reports.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreFault> {
    if state(connection)?.waiting.is_empty() {
        return Ok(());
    }
    // The connection looks up no references: tables that others refer to are made anew, and all are checked before each
    // commit.
    for (number, (_, migration)) in (1_i64..).zip(MIGRATIONS) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        if version(&transaction).map_err(failed)? >= number {
            continue;
        }
        transaction.execute_batch(migration).map_err(failed)?;
        let dangling = transaction.prepare("PRAGMA foreign_key_check").and_then(|mut check| check.exists([]));
        if dangling.map_err(failed)? {
            return Err(StoreFault::NotRecorded(format!("migration {number} would leave dangling references")));
        }
        transaction.pragma_update(None, "user_version", number).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn failed(error: rusqlite::Error) -> StoreFault {
    StoreFault::NotRecorded(format!("the schema could not be prepared: {error}"))
}
