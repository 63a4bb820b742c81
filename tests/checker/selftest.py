"""The checker can fail: `selftest.py STORE JOURNAL` makes each edit behind the product's back, in a copy, and the
checker must name it. Prints what was not found and ends with exit code 1 then."""

import copy
import json
import os
import sqlite3
import sys
import tempfile

import journal
import tables
from check import differences_of

EXECUTED = "(SELECT name FROM transactions WHERE state = 'executed' AND kind = 'transfer' ORDER BY id LIMIT 1)"
EXECUTED_ROW = EXECUTED.replace("SELECT name", "SELECT id")


def blob(column, old, new):
    """A column of bytes with some of them replaced."""
    return f"CAST(replace({column}, '{old}', '{new}') AS BLOB)"


COUNT_WRONG = blob("document", 'count":', 'count":1')
ROOT_WRONG = blob("document", 'root":"', 'root":"0')
TARGET_WRONG = blob("body", '"target":{"agent"', '"target":{"key"')
ALREADY_WRONG = blob("body", '"already":false', '"already":true')
LEAF_OF = "CAST(body AS TEXT) LIKE '%\"act\":\"{}\"%'"
FIRST_LEAF_OF = f"row = (SELECT min(row) FROM leaves WHERE {LEAF_OF})"
ONE_APPROVAL = "name = (SELECT min(name) FROM approvals)"

# What is done to the tables, and the name under which it must be found.
EDITS = [
    ("UPDATE accounts SET balance = balance + 1 WHERE name = 'CHK_001'", "balance_differs"),
    ("UPDATE accounts SET balance = balance + 1 WHERE name = 'CHK_001'", "log_and_book_differ"),
    ("UPDATE accounts SET held = held + 1 WHERE name = 'CHK_001'", "held_differs"),
    ("UPDATE accounts SET held = 0", "held_differs"),
    ("UPDATE accounts SET overdraft = -100000000 WHERE name = 'CHK_001'", "overdrawn"),
    ("UPDATE accounts SET day_max = 1 WHERE name = 'SAV_001'", "account_day_limit_exceeded"),
    ("UPDATE accounts SET day_max = NULL WHERE name = 'SAV_001'", "log_and_book_differ"),
    ("UPDATE accounts SET currency = 'EUR' WHERE name = 'CHK_002'", "currencies_mixed"),
    ("UPDATE accounts SET status = 'frozen' WHERE name = 'CHK_001'", "log_and_book_differ"),
    ("UPDATE accounts SET newest_entry = NULL WHERE name = 'CHK_001'", "entry_chain_broken"),
    ("DELETE FROM accounts WHERE name = 'fees:USD'", "entry_without_account"),
    ("UPDATE entries SET previous = NULL WHERE previous IS NOT NULL", "entry_chain_broken"),
    ("DELETE FROM entries WHERE id = (SELECT max(id) FROM entries)", "currency_unbalanced"),
    (f"DELETE FROM entries WHERE transaction_row = {EXECUTED_ROW}", "transaction_half_there"),
    (f"UPDATE entries SET amount = 2 * amount WHERE transaction_row = {EXECUTED_ROW}", "entries_differ"),
    (f"UPDATE entries SET amount = abs(amount) WHERE transaction_row = {EXECUTED_ROW}", "entries_unbalanced"),
    (f"UPDATE entries SET account = 3 WHERE transaction_row = {EXECUTED_ROW} AND amount > 0", "entries_differ"),
    (
        "INSERT INTO entries (account, transaction_row, amount) SELECT account, transaction_row, amount FROM entries "
        f"WHERE transaction_row = {EXECUTED_ROW}",
        "entries_differ",
    ),
    ("INSERT INTO entries (account, transaction_row, amount) VALUES (1, 999999, 1)", "entry_without_transaction"),
    (f"UPDATE transactions SET state = 'approved' WHERE name = {EXECUTED}", "transaction_half_there"),
    (f"UPDATE transactions SET state = 'approved' WHERE name = {EXECUTED}", "acknowledged_posting_lost"),
    (f"UPDATE transactions SET state = 'lost' WHERE name = {EXECUTED}", "state_unknown"),
    ("UPDATE transactions SET state = 'executed' WHERE state = 'cancelled'", "transaction_half_there"),
    ("UPDATE transactions SET state = 'expired' WHERE state = 'cancelled'", "acknowledged_cancellation_lost"),
    ("UPDATE transactions SET state = 'expired' WHERE state = 'cancelled'", "log_and_book_differ"),
    ("UPDATE transactions SET fee = fee + 1 WHERE state = 'approved'", "held_differs"),
    ("UPDATE transactions SET amount = amount + 1 WHERE state = 'executed' AND kind = 'incoming'", "statement_differs"),
    ("UPDATE transactions SET amount = 100 * amount WHERE kind = 'reversal'", "reversal_exceeds_original"),
    ("UPDATE transactions SET original = 'txn_none' WHERE kind = 'reversal'", "reversal_of_nothing"),
    ("UPDATE transactions SET counts_on = counts_on + 1 WHERE counts_on IS NOT NULL", "counter_differs"),
    (f"UPDATE transactions SET statement = NULL WHERE name = {EXECUTED}", "transaction_half_there"),
    (f"UPDATE transactions SET statement = {blob('statement', '0', '1')} WHERE name = {EXECUTED}", "batch_root_wrong"),
    (f"UPDATE transactions SET posted_at = NULL WHERE name = {EXECUTED}", "transaction_half_there"),
    (f"UPDATE transactions SET leaf = 1 WHERE name = {EXECUTED}", "leaf_of_another"),
    (f"UPDATE transactions SET leaf = 1000000 WHERE name = {EXECUTED}", "leaf_missing"),
    ("UPDATE transactions SET leaf = 17 WHERE state = 'executed'", "leaf_shared"),
    (f"UPDATE transactions SET batch = batch + 1 WHERE name = {EXECUTED}", "batch_root_wrong"),
    ("UPDATE transactions SET batch = 1, index_in_batch = 0 WHERE batch = 2", "batch_place_taken_twice"),
    (f"DELETE FROM transactions WHERE name = {EXECUTED}", "acknowledged_transaction_lost"),
    ("DELETE FROM transactions WHERE state = 'pending_approval'", "log_and_book_differ"),
    ("DELETE FROM approvals", "approval_missing"),
    ("UPDATE approvals SET decided_by = NULL", "approval_differs"),
    ("UPDATE approvals SET decided_by = NULL", "acknowledged_decision_lost"),
    ("UPDATE approvals SET decided_by = 'bob' WHERE decided_by IS NULL", "approval_differs"),
    (f"UPDATE approvals SET transaction_name = 'txn_none' WHERE {ONE_APPROVAL}", "approval_of_nothing"),
    ("DELETE FROM bindings", "binding_missing"),
    ("DELETE FROM bindings", "key_forgotten"),
    ("INSERT INTO bindings SELECT day + 1, scope, request, transaction_name, case_id FROM bindings", "key_bound_twice"),
    (f"UPDATE bindings SET transaction_name = {EXECUTED} WHERE transaction_name IS NOT NULL", "key_forgotten"),
    ("UPDATE bindings SET transaction_name = 'txn_none' WHERE transaction_name IS NOT NULL", "binding_of_nothing"),
    ("UPDATE counters SET minor = minor + 1", "counter_differs"),
    ("DELETE FROM counters", "counter_differs"),
    ("DELETE FROM nonces", "acknowledged_nonce_lost"),
    ("INSERT INTO nonces SELECT day + 1, nonce FROM nonces", "nonce_taken_twice"),
    ("DELETE FROM batches WHERE batch = 2", "batch_missing"),
    ("INSERT INTO batches (batch, document, leaves) SELECT 9999 + batch, document, x'' FROM batches", "batch_count_wrong"),
    (f"UPDATE batches SET document = {COUNT_WRONG}", "batch_count_wrong"),
    (f"UPDATE batches SET document = {ROOT_WRONG}", "batch_root_wrong"),
    ("UPDATE batches SET document = CAST(document || x'20' AS BLOB)", "batch_differs"),
    ("UPDATE batches SET leaves = x'00'", "batch_differs"),
    ("UPDATE batches SET key = NULL", "batch_differs"),
    (f"UPDATE leaves SET body = {blob('body', 'permitted', 'refused')}", "leaf_commitment_wrong"),
    ("UPDATE leaves SET commitment = zeroblob(32) WHERE row = 30", "acknowledged_leaf_lost"),
    ("DELETE FROM leaves WHERE row = (SELECT max(row) FROM leaves)", "acknowledged_leaf_lost"),
    (f"DELETE FROM leaves WHERE row = (SELECT leaf FROM transactions WHERE name = {EXECUTED})", "leaf_missing"),
    ("INSERT INTO leaves (commitment, salt, body) SELECT commitment, salt, body FROM leaves", "decided_twice"),
    (
        f"INSERT INTO leaves (commitment, salt, body) SELECT commitment, salt, {blob('body', 'req_0', 'req_1')} "
        f"FROM leaves WHERE row = (SELECT leaf FROM transactions WHERE name = {EXECUTED})",
        "leaf_without_posting",
    ),
    (
        f"INSERT INTO leaves (commitment, salt, body) SELECT commitment, salt, {blob('body', 'req_0', 'req_1')} "
        "FROM leaves WHERE row = 30",
        "leaf_of_nobody",
    ),
    ("DELETE FROM revocations WHERE kind = 'key'", "revocation_lost"),
    ("DELETE FROM revocations WHERE kind = 'frozen'", "revocation_lost"),
    (
        "INSERT INTO revocations (mark, kind, value, at, reason) VALUES ('everyone', 'everyone', '', 0, '')",
        "revocation_without_leaf",
    ),
    (f"UPDATE leaves SET body = {TARGET_WRONG}", "revocation_lost"),
    (f"UPDATE leaves SET body = {ALREADY_WRONG}", "revocation_differs"),
    (f"UPDATE leaves SET body = {ALREADY_WRONG}", "freeze_differs"),
    (f"UPDATE leaves SET body = {blob('body', 'olga', 'ada')}", "freeze_lifted_by_one"),
    (f"UPDATE leaves SET row = -1 WHERE {FIRST_LEAF_OF.format('freeze')}", "paid_for_the_frozen"),
    (f"UPDATE leaves SET row = -1 WHERE {FIRST_LEAF_OF.format('freeze')}", "certified_the_frozen"),
    (f"UPDATE leaves SET row = -1 WHERE {FIRST_LEAF_OF.format('revoke')}", "paid_for_the_revoked"),
    # All of them: a certificate that is journalled again stands where it was journalled first.
    (f"UPDATE leaves SET row = row + 1000000 WHERE {LEAF_OF.format('journal_certificate')}", "certified_the_revoked"),
    # The log told backwards: what follows from something comes before it.
    ("UPDATE leaves SET row = -row", "transaction_unknown"),
    ("UPDATE places SET place = place + 1000000", "tree_has_gaps"),
    ("DELETE FROM nodes WHERE level = 0 AND place = 3", "tree_differs"),
    ("UPDATE nodes SET hash = zeroblob(32) WHERE level = 1 AND place = 0", "tree_differs"),
    ("UPDATE checkpoints SET root = zeroblob(32)", "checkpoint_differs"),
    ("DELETE FROM checkpoints", "checkpoint_differs"),
    ("DELETE FROM cases", "case_missing"),
    ("UPDATE cases SET state = 'rejected' WHERE state <> 'rejected'", "log_and_book_differ"),
    ("INSERT INTO outbox (transaction_name, verb, since) VALUES ('txn_none', 'settle', 0)", "order_of_nothing"),
    (f"INSERT INTO outbox (transaction_name, verb, since) VALUES ({EXECUTED}, 'settle', 0)", "order_differs"),
]


def told_wrongly():
    """What is done to the journal: the users were told something else than the store has."""

    def answer(status):
        return lambda line: "answer" in line and (line.get("ok") or {}).get("status") == status

    def first(lines, fits):
        return next(line for line in lines if fits(line))

    def change(fits, edit):
        def apply(lines):
            edit(lines, first(lines, fits))

        return apply

    def again(**parts):
        return lambda lines, line: lines.append(line | {"ok": line["ok"] | parts})

    def refuse(name):
        return lambda lines, line: lines.append(line | {"ok": None, "refused": name})

    def twice(lines, line):
        other = first(lines, lambda other: answer("executed")(other) and other["answer"] != line["answer"])
        line["ok"] = other["ok"] | {"statement_sha256": "00"}

    def nonce(lines, line):
        answered = {other["request"] for other in lines if "answer" in other and other.get("ok")} - {line["request"]}
        used = first(lines, lambda other: other.get("nonce") and other["request"] in answered)["nonce"]
        for other in lines:
            if "intent" in other and other["request"] == line["request"]:
                other["nonce"] = used

    def limit(name):
        return change(lambda line: "town" in line, lambda _, line: line["town"].update({name: 1}))

    executed, approved, submitted = answer("executed"), answer("approved"), answer("submitted")
    return [
        (change(executed, again(repeated=False)), "answer_changed"),
        (change(approved, again(transaction_id="txn_none")), "answer_changed"),
        (change(approved, again(transaction_id="txn_none")), "acknowledged_transaction_lost"),
        (change(executed, twice), "acknowledged_posting_differs"),
        (change(approved, refuse("tool_denied")), "promise_broken"),
        (change(submitted, again(status="executed", transaction_id="txn_none", repeated=True)), "answer_changed"),
        (change(submitted, again(status="executed", repeated=False)), "answer_changed"),
        (change(submitted, lambda _, line: line["ok"].update(statement_sha256="00")), "acknowledged_order_lost"),
        (change(submitted, refuse("case_rejected")), "promise_broken"),
        (change(approved, refuse("case_rejected")), "promise_broken"),
        (change(approved, refuse("core_refused")), "promise_broken"),
        (change(executed, refuse("case_rejected")), "promise_broken"),
        (change(executed, refuse("account_not_granted")), "promise_broken"),
        (change(executed, lambda _, line: line.update(fault="not_recorded", ok=None)), "recorded_after_all"),
        (change(approved, nonce), "nonce_accepted_twice"),
        (limit("unattended_per_day"), "day_limit_exceeded"),
        (limit("unattended_per_transaction"), "transaction_limit_exceeded"),
        (limit("open_holds_max"), "open_holds_exceeded"),
        (limit("authorization_ttl_ms"), "executed_out_of_turn"),
    ]


def tampered(store, sql):
    """The rows of a copy of the store after this edit; the database itself is made to accept it."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "store.sqlite3")
        source, target = sqlite3.connect(store), sqlite3.connect(path)
        source.backup(target)
        source.close()
        target.execute("PRAGMA ignore_check_constraints = 1")
        unique = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        for (index,) in target.execute(unique).fetchall():
            target.execute(f"DROP INDEX {index}")
        try:
            changed = target.execute(sql).rowcount
        except sqlite3.Error as error:
            raise SystemExit(f"{error}: {sql}") from error
        target.commit()
        target.close()
        rows, _ = tables.read(path, in_use=True)
        return rows, changed


def main():
    store, path = sys.argv[1].removeprefix("sqlite:"), sys.argv[2]
    lines = journal.read(path)
    rows, damage = tables.read(store)
    missed = [f"unedited: {line}" for line in differences_of(rows, damage, lines).lines()]
    edits = 0
    for sql, name in EDITS:
        edited, changed = tampered(store, sql)
        found = differences_of(edited, [], lines).names()
        edits += 1
        if changed < 1:
            missed.append(f"nothing to edit: {sql}")
        elif name not in found:
            missed.append(f"{name} is not in {found}: {sql}")
    for number, (edit, name) in enumerate(told_wrongly()):
        other = copy.deepcopy(lines)
        edit(other)
        found = differences_of(rows, damage, other).names()
        edits += 1
        if name not in found:
            missed.append(f"{name} is not in {found}: journal edit {number}")
    print("\n".join(missed) if missed else f"ok: {edits} edits found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
