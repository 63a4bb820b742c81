"""What must hold between the tables of one store, whatever happened before."""

import json
from collections import defaultdict

import merkle
from book import ENDED, OPEN, STATES, canonical, holds

DAY_MS = 86_400_000


def checks(book, town, differences):
    """Each as a function of its own: rows that one of them cannot make sense of must not hide what others find."""
    yield lambda: _transactions(book, differences)
    yield lambda: _accounts(book, differences)
    yield lambda: _counters(book, town, differences)
    yield lambda: _reversals(book, differences)
    yield lambda: _approvals(book, differences)
    yield lambda: _keys(book, differences)
    yield lambda: _batches(book, differences)
    yield lambda: _leaves(book, differences)
    yield lambda: _tree(book, differences)
    yield lambda: _outbox(book, differences)


def _transactions(book, differences):
    for entry in book.tables["entries"]:
        if entry["account"] not in book.account_names:
            differences.add("entry_without_account", f"entry {entry['id']}")
        if entry["transaction_row"] not in book.transaction_names:
            differences.add("entry_without_transaction", f"entry {entry['id']}")
    for name, transaction in book.transactions.items():
        if transaction["state"] not in STATES:
            differences.add("state_unknown", f"{name} is {transaction['state']}")
        entries = book.entries_of.get(transaction["id"], [])
        parts = {part: transaction[part] for part in ("statement", "leaf", "batch", "index_in_batch", "posted_at")}
        if transaction["state"] != "executed":
            there = [part for part, value in parts.items() if value is not None] + ["entries"] * bool(entries)
            if there:
                differences.add("transaction_half_there", f"{name} is {transaction['state']} and has {there}")
            continue
        missing = [part for part, value in parts.items() if value is None] + ["entries"] * (not entries)
        if missing:
            differences.add("transaction_half_there", f"{name} is executed and has no {missing}")
            continue
        _entries(book, transaction, entries, differences)
        _statement(book, transaction, differences)


def _entries(book, transaction, entries, differences):
    amount, fee = transaction["amount"], transaction["fee"]
    expected = [(transaction["debit"], -amount), (transaction["credit"], amount)]
    if fee:
        expected += [(transaction["debit"], -fee), (f"fees:{transaction['currency']}", fee)]
    found = [(book.account_names.get(entry["account"]), entry["amount"]) for entry in entries]
    if sum(entry["amount"] for entry in entries) != 0:
        differences.add("entries_unbalanced", f"{transaction['name']}: {found}")
    if sorted(found, key=str) != sorted(expected, key=str):
        differences.add("entries_differ", f"{transaction['name']}: {found}, expected {expected}")
    for account, _ in expected:
        row = book.accounts.get(account)
        if row is None or row["currency"] != transaction["currency"]:
            differences.add("currencies_mixed", f"{transaction['name']} and {account}")


def _statement(book, transaction, differences):
    name = transaction["name"]
    try:
        statement = json.loads(transaction["statement"])
    except ValueError:
        differences.add("statement_differs", f"{name}: no JSON")
        return
    if canonical(statement) != transaction["statement"]:
        differences.add("statement_differs", f"{name}: not canonical")
    fee = statement.get("fee_minor") or "0"
    approval = next((row for row in book.tables["approvals"] if row["transaction_name"] == name), None)
    pairs = {
        "transaction_id": name,
        "kind": transaction["kind"],
        "agent": transaction["agent"],
        "debit_account": transaction["debit"],
        "credit_account": transaction["credit"],
        "amount_minor": str(transaction["amount"]),
        "currency": transaction["currency"],
        "merchant": transaction["merchant"],
        "product_id": transaction["product"],
        "original_transaction_id": transaction["original"],
        "approval_id": approval["name"] if approval else None,
        "approver": approval["decided_by"] if approval else None,
    }
    wrong = {key: statement.get(key) for key, value in pairs.items() if statement.get(key) != value}
    if fee != str(transaction["fee"]):
        wrong["fee_minor"] = fee
    if wrong:
        differences.add("statement_differs", f"{name}: {wrong}")


def _accounts(book, differences):
    sums, newest, currencies = defaultdict(int), {}, defaultdict(int)
    entries = {entry["id"]: entry for entry in book.tables["entries"]}
    for entry in book.tables["entries"]:
        sums[entry["account"]] += entry["amount"]
        newest[entry["account"]] = max(entry["id"], newest.get(entry["account"], 0))
    held = defaultdict(int)
    for transaction in book.transactions.values():
        if transaction["state"] in OPEN and holds(transaction):
            held[transaction["debit"]] += transaction["amount"] + transaction["fee"]
    for name, account in book.accounts.items():
        if account["balance"] != sums[account["id"]]:
            differences.add("balance_differs", f"{name}: {account['balance']}, entries say {sums[account['id']]}")
        if account["held"] != held[name]:
            differences.add("held_differs", f"{name}: {account['held']}, open transactions say {held[name]}")
        if account["kind"] != "clearing" and account["balance"] + account["overdraft"] < account["held"]:
            differences.add("overdrawn", f"{name}: {account['balance']} with {account['held']} held")
        currencies[account["currency"]] += sums[account["id"]]
        _chain(name, account, entries, newest.get(account["id"]), differences)
    for currency, total in currencies.items():
        if total != 0:
            differences.add("currency_unbalanced", f"{currency}: {total}")


def _chain(name, account, entries, newest, differences):
    if account["newest_entry"] != newest:
        differences.add("entry_chain_broken", f"{name}: newest is {newest}, kept is {account['newest_entry']}")
        return
    walked, at = 0, newest
    while at is not None:
        entry = entries.get(at)
        if entry is None or entry["account"] != account["id"] or (entry["previous"] or 0) >= at:
            differences.add("entry_chain_broken", f"{name}: at entry {at}")
            return
        walked, at = walked + 1, entry["previous"]
    of_account = sum(1 for entry in entries.values() if entry["account"] == account["id"])
    if walked != of_account:
        differences.add("entry_chain_broken", f"{name}: {walked} of {of_account} entries")


def _counters(book, town, differences):
    expected = defaultdict(int)
    verdicts = {row["name"]: row["state"] for row in book.tables["cases"]}
    for transaction in book.transactions.values():
        paid_elsewhere = transaction["state"] == "denied" and verdicts.get(transaction["case_id"]) == "paid_elsewhere"
        if transaction["state"] in ENDED and not paid_elsewhere:
            continue
        if transaction["counts_on"] is not None:
            expected[transaction["agent"], transaction["counts_on"]] += transaction["amount"]
        if transaction["debits_on"] is not None:
            total = transaction["amount"] + transaction["fee"]
            expected[transaction["debit"], transaction["debits_on"]] += total
    kept = {(row["counter"], row["day"]): row["minor"] for row in book.tables["counters"]}
    for key in sorted(set(expected) | set(kept)):
        if kept.get(key, 0) != expected[key]:
            differences.add("counter_differs", f"{key}: {kept.get(key, 0)}, transactions say {expected[key]}")
        account = book.accounts.get(key[0])
        if account is not None:
            if account["day_max"] is not None and expected[key] > account["day_max"]:
                differences.add("account_day_limit_exceeded", f"{key}: {expected[key]}")
        elif town and expected[key] > town["unattended_per_day"]:
            differences.add("day_limit_exceeded", f"{key}: {expected[key]}")


def _reversals(book, differences):
    sums = defaultdict(int)
    for name, transaction in book.transactions.items():
        if transaction["original"] is None:
            continue
        original = book.transactions.get(transaction["original"])
        if original is None or original["state"] != "executed" or original["currency"] != transaction["currency"]:
            differences.add("reversal_of_nothing", f"{name} of {transaction['original']}")
        elif (original["debit"], original["credit"]) != (transaction["credit"], transaction["debit"]):
            differences.add("reversal_of_nothing", f"{name} moves between other accounts")
        if transaction["state"] not in ENDED:
            sums[transaction["original"]] += transaction["amount"]
    for name, total in sums.items():
        original = book.transactions.get(name)
        if original is not None and total > original["amount"]:
            differences.add("reversal_exceeds_original", f"{name}: {total} of {original['amount']}")


def _approvals(book, differences):
    of_transaction = {}
    for name, approval in book.approvals.items():
        transaction = book.transactions.get(approval["transaction_name"])
        if transaction is None:
            differences.add("approval_of_nothing", name)
            continue
        if approval["transaction_name"] in of_transaction:
            differences.add("approved_twice", approval["transaction_name"])
        of_transaction[approval["transaction_name"]] = approval
        undecided = approval["decided_by"] is None
        if transaction["state"] in ("executed", "approved", "denied", "submitted") and undecided:
            differences.add("approval_differs", f"{name} is undecided, its transaction {transaction['state']}")
        if transaction["state"] in ("pending_approval", "approval_expired") and not undecided:
            differences.add("approval_differs", f"{name} is decided, its transaction {transaction['state']}")
    for name, transaction in book.transactions.items():
        if transaction["state"] in ("pending_approval", "approval_expired") and name not in of_transaction:
            differences.add("approval_missing", name)


def _keys(book, differences):
    scopes, named = {}, defaultdict(int)
    for binding in book.tables["bindings"]:
        if binding["scope"] in scopes:
            differences.add("key_bound_twice", f"{binding['scope'].hex()}: {binding['transaction_name']}")
        scopes[binding["scope"]] = binding
        if binding["transaction_name"] is not None:
            named[binding["transaction_name"]] += 1
            if binding["transaction_name"] not in book.transactions:
                differences.add("binding_of_nothing", binding["transaction_name"])
    for name in book.transactions:
        if named[name] != 1:
            differences.add("binding_missing" if named[name] == 0 else "key_bound_twice", name)
    nonces = set()
    for row in book.tables["nonces"]:
        if row["nonce"] in nonces:
            differences.add("nonce_taken_twice", row["nonce"].hex())
        nonces.add(row["nonce"])


def _batches(book, differences):
    statements = defaultdict(dict)

    def place(batch, index, statement, name):
        if index in statements[batch]:
            differences.add("batch_place_taken_twice", f"batch {batch} index {index}: {name}")
        statements[batch][index] = statement

    for name, transaction in book.transactions.items():
        if transaction["batch"] is not None and transaction["statement"] is not None:
            place(transaction["batch"], transaction["index_in_batch"], transaction["statement"], name)
        if transaction["order_batch"] is not None:
            place(transaction["order_batch"], transaction["order_index"], transaction["order_statement"], name)
    kept = {row["batch"]: row for row in book.tables["batches"]}
    for batch in sorted(set(kept) | set(statements)):
        if batch not in kept:
            differences.add("batch_missing", f"batch {batch}")
            continue
        of_batch = statements[batch]
        if sorted(of_batch) != list(range(len(of_batch))):
            differences.add("batch_differs", f"batch {batch} has places {sorted(of_batch)}")
            continue
        hashes = [merkle.leaf_hash(of_batch[index]) for index in sorted(of_batch)]
        document = json.loads(kept[batch]["document"])
        if document["root"] != merkle.root(hashes).hex():
            differences.add("batch_root_wrong", f"batch {batch}")
        if document["count"] != len(hashes) or not hashes:
            differences.add("batch_count_wrong", f"batch {batch}: {document['count']}, statements {len(hashes)}")
        if document["batch"] != batch or kept[batch]["leaves"] != b"".join(hashes):
            differences.add("batch_differs", f"batch {batch}")
        if canonical(document) != kept[batch]["document"]:
            differences.add("batch_differs", f"batch {batch}: not canonical")
        if (kept[batch]["signature"] is None) != (kept[batch]["key"] is None):
            differences.add("batch_differs", f"batch {batch}: half signed")


# The act or tool whose leaf carries the posting of a kind.
POSTED_BY = {
    "purchase": ("execute_purchase", "core_answered"),
    "transfer": ("execute_transfer", "core_answered"),
    "reversal": ("decide_approval", "core_answered"),
    "incoming": ("incoming_payment",),
    "opening": ("open_account",),
    "booking": ("transfer",),
}


def _leaves(book, differences):
    bodies = {}
    for row, leaf in book.leaves.items():
        if merkle.sha256(leaf["salt"], leaf["body"]) != leaf["commitment"]:
            differences.add("leaf_commitment_wrong", f"leaf {row}")
        try:
            bodies[row] = json.loads(leaf["body"])
        except ValueError:
            differences.add("leaf_commitment_wrong", f"leaf {row}: no JSON")
    requests = defaultdict(int)
    for body in bodies.values():
        requests[body["request_id"]] += 1
    for request, count in requests.items():
        if count > 1:
            differences.add("decided_twice", f"{request}: {count} leaves")
    posting_leaves = {}
    for name, transaction in book.transactions.items():
        if transaction["state"] != "executed" or transaction["leaf"] is None:
            continue
        if transaction["leaf"] in posting_leaves:
            differences.add("leaf_shared", f"{name} and {posting_leaves[transaction['leaf']]}")
        posting_leaves[transaction["leaf"]] = name
        body = bodies.get(transaction["leaf"])
        if body is None:
            differences.add("leaf_missing", f"{name}: leaf {transaction['leaf']}")
        elif not _tells(body, transaction):
            differences.add("leaf_of_another", f"{name}: leaf {transaction['leaf']}")
    for row, body in bodies.items():
        result = body.get("result") or {}
        if result.get("status") == "executed" and not result.get("repeated") and row not in posting_leaves:
            differences.add("leaf_without_posting", f"leaf {row}: {result.get('transaction_id')}")


def _tells(body, transaction):
    """Whether this leaf is that of the decision which posted the transaction."""
    if body["decision"] != "permitted" or (body.get("tool") or body.get("act")) not in POSTED_BY[transaction["kind"]]:
        return False
    result = body["result"] or {}
    if transaction["kind"] == "opening":
        return body["parameters"]["account"] == transaction["credit"] and result.get("changed") is True
    if result.get("transaction_id", body["parameters"].get("transaction_id")) != transaction["name"]:
        return False
    digest = result.get("statement_sha256")
    return digest is None or digest == merkle.sha256(transaction["statement"] or b"").hex()


def _tree(book, differences):
    placed = sorted((leaf["place"], leaf) for leaf in book.leaves.values() if leaf["place"] is not None)
    if [place for place, _ in placed] != list(range(len(placed))):
        differences.add("tree_has_gaps", f"{len(placed)} leaves are placed")
        return
    hashes = [merkle.leaf_hash(b"countersign/leaf/v1\n" + leaf["commitment"]) for _, leaf in placed]
    expected = merkle.complete_nodes(hashes)
    kept = {(row["level"], row["place"]): row["hash"] for row in book.tables["nodes"]}
    if kept != expected:
        wrong = sorted(key for key in set(kept) | set(expected) if kept.get(key) != expected.get(key))
        differences.add("tree_differs", f"nodes {wrong[:5]}")
    for checkpoint in book.tables["checkpoints"]:
        size = checkpoint["size"]
        if size > len(hashes) or merkle.root(hashes[:size]) != checkpoint["root"]:
            differences.add("checkpoint_differs", f"size {size}")
    newest = max((row["size"] for row in book.tables["checkpoints"]), default=0)
    if newest != len(hashes):
        differences.add("checkpoint_differs", f"{len(hashes)} leaves are placed, the newest checkpoint has {newest}")


def _outbox(book, differences):
    for row in book.tables["outbox"]:
        transaction = book.transactions.get(row["transaction_name"])
        if transaction is None:
            differences.add("order_of_nothing", row["transaction_name"])
        elif row["verb"] == "settle" and transaction["state"] != "submitted":
            differences.add("order_differs", f"{row['transaction_name']} is {transaction['state']}")
    for name, transaction in book.transactions.items():
        if transaction["case_id"] and transaction["case_id"] not in {row["name"] for row in book.tables["cases"]}:
            differences.add("case_missing", name)
