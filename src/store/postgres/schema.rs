//! The schema and its forward-only migrations. Table `schema_version` has a row for each that was run.
//!
//! Lean on purpose, as the SQLite store's: entries are append-only and chained per account through `previous`, the
//! account row holds the newest one; a day's sum is a counter row; leaves are never updated. What is written in every
//! commit has no foreign keys: the rows are found and locked by the writer itself, and the server would look each of
//! them up again. Rows that are updated in place leave room for it on their page (`fillfactor`), and no index covers
//! what changes in them, so that an update touches no index. Texts are compared as bytes, as everywhere else.

use super::endpoint::Endpoint;
use super::session::{Session, unreachable};
use crate::store::{Schema, StoreFault};

/// First half of every advisory lock's key: "csgn".
const LOCKS: i32 = 0x6373_676e;

/// Advisory locks of this product; each is one pair of numbers in its database.
#[derive(Clone, Copy)]
pub(super) enum Lock {
    /// One daemon migrates.
    Schema = 1,
    /// Shared by every commit; taken alone by what changes who may act, so that a commit after it sees it.
    Authority = 2,
    /// One daemon gives leaves their places.
    Sequence = 3,
}

impl Lock {
    /// The two arguments of the server's advisory functions.
    pub(super) fn key(self) -> String {
        format!("{LOCKS}, {}", self as i32)
    }
}

/// Every migration in order, with what it brings; the version is how many were run.
const MIGRATIONS: &[(&str, &str)] = &[
    ("the whole book, certificates, the audit log", INITIAL),
    ("what a core banking system refused, and why", REFUSALS),
    ("freezes, revocations by time, and who serves", FREEZES),
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
    ("what halted a witnessed log, and who asks to go on from it", WITNESS_ACCEPTED),
    ("credentials of the systems behind, sealed by the HSM", VAULT),
    ("orders for signatures of other programs", SIGNINGS),
    ("from which row on leaves are sealed; why an erasure is asked, and who released", FIRST_ROW),
];

/// Row numbers that one commit may use: it takes a whole block, so that numbers grow with time on every account. The
/// number of the block is the commit's batch.
pub(super) const ROWS_IN_A_BLOCK: i64 = 16_384;

const INITIAL: &str = "
CREATE SEQUENCE row_blocks AS bigint INCREMENT BY 16384 MINVALUE 16384;
CREATE TABLE accounts (
    id bigint PRIMARY KEY,
    balance bigint NOT NULL,
    held bigint NOT NULL CHECK (held >= 0),
    overdraft bigint NOT NULL CHECK (overdraft >= 0),
    newest_entry bigint,
    day_max bigint CHECK (day_max > 0),
    name text COLLATE \"C\" NOT NULL UNIQUE,
    owner text COLLATE \"C\" NOT NULL,
    kind text COLLATE \"C\" NOT NULL,
    currency text COLLATE \"C\" NOT NULL,
    status text COLLATE \"C\" NOT NULL,
    status_by text COLLATE \"C\",
    zone text COLLATE \"C\" NOT NULL,
    CHECK (kind = 'clearing' OR balance + overdraft >= held)
) WITH (fillfactor = 50);
CREATE TABLE entries (
    id bigint PRIMARY KEY,
    account bigint NOT NULL,
    transaction_row bigint NOT NULL,
    amount bigint NOT NULL CHECK (amount <> 0),
    previous bigint
);
CREATE TABLE merchants (
    merchant text COLLATE \"C\" PRIMARY KEY,
    name text COLLATE \"C\" NOT NULL,
    currency text COLLATE \"C\" NOT NULL
);
CREATE TABLE offers (
    merchant text COLLATE \"C\" NOT NULL REFERENCES merchants (merchant),
    product text COLLATE \"C\" NOT NULL,
    title text COLLATE \"C\" NOT NULL,
    price bigint NOT NULL CHECK (price > 0),
    currency text COLLATE \"C\" NOT NULL,
    PRIMARY KEY (merchant, product)
);
CREATE TABLE grants (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent text COLLATE \"C\" NOT NULL,
    account text COLLATE \"C\" NOT NULL REFERENCES accounts (name),
    owner text COLLATE \"C\" NOT NULL,
    verbs text COLLATE \"C\" NOT NULL,
    maximum bigint,
    currency text COLLATE \"C\" NOT NULL,
    expires bigint NOT NULL,
    entered_by text COLLATE \"C\" NOT NULL,
    asserted boolean NOT NULL,
    revoked_at bigint
);
CREATE UNIQUE INDEX grants_in_force ON grants (agent, account) WHERE revoked_at IS NULL;
CREATE TABLE transactions (
    id bigint PRIMARY KEY,
    name text COLLATE \"C\" NOT NULL UNIQUE,
    kind text COLLATE \"C\" NOT NULL,
    state text COLLATE \"C\" NOT NULL,
    maker text COLLATE \"C\" NOT NULL,
    agent text COLLATE \"C\",
    debit text COLLATE \"C\" NOT NULL,
    credit text COLLATE \"C\" NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    fee bigint NOT NULL CHECK (fee >= 0),
    currency text COLLATE \"C\" NOT NULL,
    merchant text COLLATE \"C\",
    product text COLLATE \"C\",
    original text COLLATE \"C\",
    parameters bytea NOT NULL,
    counts_on integer,
    debits_on integer,
    created bigint NOT NULL,
    expires bigint NOT NULL,
    authorization_ttl_ms bigint NOT NULL,
    policy_version text COLLATE \"C\" NOT NULL,
    catalogue_version bigint NOT NULL,
    settlement text COLLATE \"C\" NOT NULL,
    case_id text COLLATE \"C\",
    approval text COLLATE \"C\",
    approval_reasons text COLLATE \"C\",
    approval_expires bigint,
    decided_by text COLLATE \"C\",
    decided_at bigint,
    decided_note text COLLATE \"C\",
    decided_asserted boolean,
    posted_at bigint,
    batch bigint,
    index_in_batch bigint,
    statement bytea,
    leaf bigint,
    order_batch bigint,
    order_index bigint,
    order_statement bytea
);
CREATE UNIQUE INDEX transactions_approvals ON transactions (approval) WHERE approval IS NOT NULL;
CREATE INDEX transactions_open_by_agent ON transactions (agent, debit)
    WHERE state IN ('approved', 'pending_approval', 'queued_manual', 'submitted');
CREATE INDEX transactions_open_by_expiry ON transactions (expires) WHERE state IN ('approved', 'pending_approval');
CREATE INDEX transactions_reversing ON transactions (original) WHERE original IS NOT NULL;
CREATE TABLE bindings (
    scope bytea PRIMARY KEY,
    day integer NOT NULL,
    request bytea NOT NULL,
    transaction_name text COLLATE \"C\",
    case_id text COLLATE \"C\"
);
CREATE INDEX bindings_days ON bindings USING brin (day);
CREATE TABLE nonces (
    nonce bytea PRIMARY KEY,
    day integer NOT NULL
);
CREATE INDEX nonces_days ON nonces USING brin (day);
CREATE TABLE counters (
    counter text COLLATE \"C\" NOT NULL,
    day integer NOT NULL,
    minor bigint NOT NULL CHECK (minor >= 0),
    PRIMARY KEY (counter, day)
) WITH (fillfactor = 50);
CREATE TABLE cases (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE \"C\" NOT NULL UNIQUE,
    agent text COLLATE \"C\" NOT NULL,
    agent_key bytea NOT NULL,
    state text COLLATE \"C\" NOT NULL,
    reason text COLLATE \"C\" NOT NULL,
    scope bytea,
    transaction_name text COLLATE \"C\",
    resume text COLLATE \"C\",
    call text COLLATE \"C\" NOT NULL,
    created bigint NOT NULL,
    decided_by text COLLATE \"C\",
    decided_at bigint,
    note text COLLATE \"C\"
);
CREATE INDEX cases_waiting ON cases (agent) WHERE state = 'queued' AND transaction_name IS NULL;
CREATE TABLE breaker (
    one integer PRIMARY KEY CHECK (one = 1),
    reason text COLLATE \"C\" NOT NULL,
    by text COLLATE \"C\" NOT NULL,
    since bigint NOT NULL
);
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_name text COLLATE \"C\" NOT NULL,
    verb text COLLATE \"C\" NOT NULL,
    since bigint NOT NULL,
    UNIQUE (transaction_name, verb)
);
CREATE TABLE batches (
    batch bigint PRIMARY KEY,
    document bytea NOT NULL,
    leaves bytea NOT NULL,
    signature bytea,
    key bytea
);
CREATE INDEX batches_unsigned ON batches (batch) WHERE signature IS NULL;
CREATE TABLE leaves (
    row bigint PRIMARY KEY,
    commitment bytea NOT NULL,
    salt bytea NOT NULL,
    body bytea NOT NULL,
    key_id text COLLATE \"C\"
);
CREATE TABLE leaves_waiting (row bigint PRIMARY KEY);
CREATE TABLE places (
    place bigint PRIMARY KEY,
    row bigint NOT NULL UNIQUE
);
CREATE TABLE nodes (
    level smallint NOT NULL,
    place bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (level, place)
);
CREATE TABLE checkpoints (
    size bigint PRIMARY KEY,
    root bytea NOT NULL,
    note bytea NOT NULL,
    signed bytea
);
CREATE INDEX checkpoints_signed ON checkpoints (size) WHERE signed IS NOT NULL;
CREATE TABLE certificates (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE \"C\" NOT NULL UNIQUE,
    profile text COLLATE \"C\" NOT NULL,
    subject text COLLATE \"C\" NOT NULL,
    issuer text COLLATE \"C\" NOT NULL,
    serial bytea NOT NULL,
    key bytea NOT NULL,
    not_after bigint NOT NULL,
    tbs bytea NOT NULL,
    der bytea,
    UNIQUE (issuer, serial)
);
CREATE INDEX certificates_of_subject ON certificates (subject);
CREATE INDEX certificates_of_key ON certificates (key);
CREATE TABLE revocations (
    mark text COLLATE \"C\" PRIMARY KEY,
    kind text COLLATE \"C\" NOT NULL,
    issuer text COLLATE \"C\",
    value text COLLATE \"C\" NOT NULL,
    at bigint NOT NULL,
    reason text COLLATE \"C\" NOT NULL,
    swept boolean NOT NULL DEFAULT false
);
CREATE INDEX revocations_of_issuer ON revocations (issuer) WHERE issuer IS NOT NULL;
CREATE INDEX revocations_unswept ON revocations (mark) WHERE NOT swept;
CREATE TABLE crls (
    issuer text COLLATE \"C\" PRIMARY KEY,
    number bigint NOT NULL,
    this_update bigint NOT NULL,
    next_update bigint NOT NULL
);
CREATE TABLE crl_numbers (
    issuer text COLLATE \"C\" PRIMARY KEY,
    number bigint NOT NULL
);
";

/// A table of its own: refusals are rare, and a transaction's row is as narrow as can be.
const REFUSALS: &str = "
CREATE TABLE core_refusals (
    transaction_name text COLLATE \"C\" NOT NULL,
    verb text COLLATE \"C\" NOT NULL,
    reason text COLLATE \"C\" NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (transaction_name, verb)
);
";

/// A freeze is a mark like a revocation's, with the first of the two who lift it; a list is continued from a time on. Who
/// serves: each daemon says how much of what is revoked it has acted on, and renews that while it lives.
const FREEZES: &str = "
ALTER TABLE revocations ADD COLUMN thaw_asked_by text COLLATE \"C\";
DROP INDEX revocations_of_issuer;
CREATE INDEX revocations_of_issuer ON revocations (issuer, at) WHERE kind = 'certificate';
CREATE INDEX certificates_of_authorities ON certificates (profile) WHERE profile = 'root' OR profile = 'issuing';
CREATE TABLE status_changes (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    count bigint NOT NULL
);
INSERT INTO status_changes (count) VALUES (0);
CREATE TABLE daemons (
    daemon text COLLATE \"C\" PRIMARY KEY,
    acted_on bigint NOT NULL,
    renewed timestamptz NOT NULL
);
";

/// When the last certificate of an issuer ends is asked at every issuance: an issuing CA is in use once it has one.
const ENDS: &str = "
CREATE INDEX certificates_by_end ON certificates (issuer, not_after)
    WHERE der IS NOT NULL AND profile <> 'root' AND profile <> 'issuing';
";

/// A version is never changed: what was in force when stays known.
const POLICIES: &str = "
CREATE TABLE policies (
    version bigint PRIMARY KEY CHECK (version > 0),
    sha256 bytea NOT NULL,
    roles text COLLATE \"C\" NOT NULL,
    by text COLLATE \"C\" NOT NULL,
    at bigint NOT NULL,
    document text COLLATE \"C\" NOT NULL
);
";

/// Approvals from before ask one approver, known by user id. Those that are open stay decidable and can be signed now: each
/// gets a nonce, of two random UUIDs: 244 random bits.
const GATES: &str = "
ALTER TABLE transactions ADD COLUMN approval_asked text COLLATE \"C\";
UPDATE transactions SET approval_asked = '{\"nonce\":\"' ||
    encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'hex') ||
    '\",\"quorum\":{\"gates\":[{\"gate\":\"bank\",\"approvals\":1,\"roles\":[\"approver\"],\"ordered\":false}],\"signed_only\":false,\"words\":[]}}'
    WHERE approval IS NOT NULL AND decided_by IS NULL;
";

/// Each cause that stops payments stands for itself; a stop from before is a person's. Who works on a case, what the first
/// of two people said, and where money moved that was paid elsewhere.
const BREAKER: &str = "
ALTER TABLE breaker ADD COLUMN cause text COLLATE \"C\" NOT NULL DEFAULT 'operator';
ALTER TABLE breaker ALTER COLUMN cause DROP DEFAULT;
ALTER TABLE breaker DROP COLUMN one;
ALTER TABLE breaker ADD PRIMARY KEY (cause);
ALTER TABLE cases ADD COLUMN taken_by text COLLATE \"C\";
ALTER TABLE cases ADD COLUMN taken_at bigint;
ALTER TABLE cases ADD COLUMN proposed text COLLATE \"C\";
ALTER TABLE cases ADD COLUMN reference text COLLATE \"C\";
";

/// Messages to people, how far the log was looked at for them (-1: nobody has begun), and leaves that people were told of
/// before they had their place.
const NOTICES: &str = "
CREATE TABLE notices (
    id text COLLATE \"C\" PRIMARY KEY,
    leaf bigint NOT NULL,
    channel text COLLATE \"C\" NOT NULL,
    kind text COLLATE \"C\" NOT NULL,
    content text COLLATE \"C\" NOT NULL,
    state text COLLATE \"C\" NOT NULL,
    created bigint NOT NULL,
    due bigint NOT NULL,
    attempts bigint NOT NULL,
    error text COLLATE \"C\",
    ended bigint
);
CREATE INDEX notices_due ON notices (due, leaf) WHERE state = 'queued';
CREATE INDEX notices_newest ON notices (leaf, id);
CREATE INDEX notices_created ON notices (created);
CREATE TABLE notice_place (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    place bigint NOT NULL
);
INSERT INTO notice_place (place) VALUES (-1);
CREATE TABLE notices_early (leaf bigint PRIMARY KEY);
";

/// What each velocity of a transaction rule has counted, and until when it is looked at (milliseconds since 1970); until
/// when the turns of each limit are taken (microseconds). No index covers what changes.
const PACES: &str = "
CREATE TABLE paces (
    name text COLLATE \"C\" PRIMARY KEY,
    slots text NOT NULL,
    ends bigint NOT NULL
) WITH (fillfactor = 50);
CREATE UNLOGGED TABLE turns (
    name text COLLATE \"C\" PRIMARY KEY,
    taken_until bigint NOT NULL
) WITH (fillfactor = 50);
";

/// A mandate is kept for ever: what was paid under it refers to it.
const MANDATES: &str = "
CREATE TABLE mandates (
    name text COLLATE \"C\" PRIMARY KEY,
    agent text COLLATE \"C\" NOT NULL,
    account text COLLATE \"C\" NOT NULL,
    claims text COLLATE \"C\" NOT NULL,
    text text COLLATE \"C\" NOT NULL,
    created bigint NOT NULL,
    entered_by text COLLATE \"C\" NOT NULL,
    revoked_at bigint,
    revoked_by text COLLATE \"C\",
    revoked_reason text COLLATE \"C\"
);
CREATE INDEX mandates_of_agent ON mandates (agent, name);
ALTER TABLE transactions ADD COLUMN mandate text COLLATE \"C\";
";

/// What was entered before says who signed it in its text alone. `signer_marks`: those of revocations that end it.
const SIGNERS: &str = "
ALTER TABLE mandates ADD COLUMN signer text COLLATE \"C\";
ALTER TABLE mandates ADD COLUMN signer_marks text[] COLLATE \"C\" NOT NULL DEFAULT '{}';
ALTER TABLE mandates ADD COLUMN expires bigint NOT NULL DEFAULT 0;
UPDATE mandates SET expires = (claims::json ->> 'exp')::bigint * 1000;
CREATE INDEX mandates_unrevoked ON mandates (agent, account, expires) WHERE revoked_at IS NULL;
CREATE INDEX mandates_revoked ON mandates (agent, account, revoked_at) WHERE revoked_at IS NOT NULL;
";

/// Logs of other parties that are cosigned here: the newest head of each, durable before the signature over it is made, and
/// why a log is not cosigned any more. Cosignatures of our own checkpoints, each with the certificates of its key.
const WITNESS: &str = "
CREATE TABLE witnessed (
    origin text COLLATE \"C\" PRIMARY KEY,
    party text COLLATE \"C\",
    size bigint NOT NULL,
    root bytea NOT NULL,
    cosigned_at bigint NOT NULL,
    told_at bigint NOT NULL,
    halted text COLLATE \"C\",
    shown_size bigint,
    shown_root bytea,
    halted_at bigint
);
CREATE TABLE witness_chains (
    name bytea PRIMARY KEY,
    certificates text NOT NULL
);
CREATE TABLE cosignatures (
    size bigint PRIMARY KEY,
    line text COLLATE \"C\" NOT NULL,
    chain bytea NOT NULL
);
";

/// Leaves from before stay as they are, in the clear: they have no data key. A data key that was destroyed keeps its row, so
/// that what it sealed is known to be erased and not lost. `key_changes`: how often some were destroyed.
const SEALED: &str = "
CREATE TABLE store_keys (
    id bigint PRIMARY KEY,
    wrapping_key bytea NOT NULL,
    wrapped bytea NOT NULL,
    made bigint NOT NULL
);
CREATE TABLE data_keys (
    id bigint PRIMARY KEY,
    store_key bigint NOT NULL,
    period integer NOT NULL,
    made bigint NOT NULL,
    destroyed bigint,
    subject text COLLATE \"C\" NOT NULL,
    wrapped bytea
);
CREATE INDEX data_keys_of_subject ON data_keys (subject, period) WHERE wrapped IS NOT NULL;
CREATE INDEX data_keys_by_period ON data_keys (period, id) WHERE wrapped IS NOT NULL;
CREATE TABLE subject_marks (
    subject text COLLATE \"C\" PRIMARY KEY,
    hold_by text COLLATE \"C\",
    hold_at bigint,
    hold_reason text COLLATE \"C\",
    erasure_by text COLLATE \"C\",
    erasure_at bigint
);
CREATE TABLE key_changes (count bigint NOT NULL);
INSERT INTO key_changes (count) VALUES (0);
ALTER TABLE leaves ADD COLUMN data_key bigint;
";

/// The signed note that halted a log, and the first of two people who go on from it.
const WITNESS_ACCEPTED: &str = "
ALTER TABLE witnessed ADD COLUMN shown_note text;
ALTER TABLE witnessed ADD COLUMN accept_asked_by text COLLATE \"C\";
";

/// The vault: values are sealed by the HSM, with everything else that a row says. What is known of a name outlives its
/// versions, so that no number is given twice.
const VAULT: &str = "
CREATE TABLE vault_names (
    name text COLLATE \"C\" PRIMARY KEY,
    newest bigint NOT NULL
);
CREATE TABLE vault_versions (
    name text COLLATE \"C\" NOT NULL,
    version bigint NOT NULL,
    expires bigint,
    made bigint NOT NULL,
    description text COLLATE \"C\" NOT NULL,
    readers text COLLATE \"C\" NOT NULL,
    made_by text COLLATE \"C\" NOT NULL,
    wrapping_key bytea NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE INDEX vault_versions_by_key ON vault_versions (wrapping_key);
";

/// Orders for signatures of other programs. `journal`: when and by which key, before it signs; `signatures`: the first ones.
const SIGNINGS: &str = "
CREATE TABLE signings (
    scope bytea PRIMARY KEY,
    day integer NOT NULL,
    request bytea NOT NULL,
    journal bytea NOT NULL,
    signatures bytea,
    at bigint NOT NULL
);
CREATE INDEX signings_by_day ON signings (day);
";

/// A store key from before says its first row once it was opened.
const FIRST_ROW: &str = "
ALTER TABLE store_keys ADD COLUMN first_row bigint;
ALTER TABLE subject_marks ADD COLUMN erasure_reason text COLLATE \"C\";
ALTER TABLE subject_marks ADD COLUMN released_by text COLLATE \"C\";
ALTER TABLE subject_marks ADD COLUMN released_at bigint;
";

/// Whether the table of versions is there.
pub(super) const IS_NEW: &str = "SELECT to_regclass('schema_version') IS NULL";
/// The version on the server.
pub(super) const VERSION: &str = "SELECT coalesce(max(version), 0) FROM schema_version";

/// How far a schema of this version is.
///
/// # Errors
/// [`StoreFault::SchemaTooNew`]
pub(super) fn state(found: i64) -> Result<Schema, StoreFault> {
    Schema::of(found, MIGRATIONS.iter().map(|(name, _)| *name))
}

/// Brings the schema to the version this program knows, each migration in a transaction of its own, one daemon at a
/// time.
///
/// # Errors
/// [`StoreFault::SchemaTooNew`] by name; [`StoreFault::NotRecorded`] for what the server reports.
pub(super) async fn migrate(session: &Session, endpoint: &Endpoint) -> Result<(), StoreFault> {
    let failed = |error: tokio_postgres::Error| unreachable(endpoint, &error);
    let client = &session.client;
    let take = format!("SELECT pg_advisory_lock({})", Lock::Schema.key());
    client.batch_execute(&take).await.map_err(failed)?;
    let table = "CREATE TABLE IF NOT EXISTS schema_version
                 (version bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())";
    if client.query_one(IS_NEW, &[]).await.map_err(failed)?.get(0) {
        client.batch_execute(table).await.map_err(failed)?;
    }
    let found: i64 = client.query_one(VERSION, &[]).await.map_err(failed)?.get(0);
    state(found)?;
    for (version, (_, migration)) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        let step = format!("BEGIN; {migration} INSERT INTO schema_version (version) VALUES ({version}); COMMIT");
        client.batch_execute(&step).await.map_err(failed)?;
    }
    let give_back = format!("SELECT pg_advisory_unlock({})", Lock::Schema.key());
    client.batch_execute(&give_back).await.map_err(failed)
}
