"""What the store's users were told, held against what the store has."""

import json

import merkle

# The refusals that may follow where the same request was permitted before: they are asked before the key is.
STILL_ALLOWED = ("agent_revoked", "invalid_certificate", "endorsement_status_stale", "nonce_replayed")
# Asked before what an authorization has come to, so that it may be the answer about one that was ended.
ASKED_BEFORE_THE_END = "account_not_granted"
DAY_MS = 86_400_000
PROMISES = ("approved", "requires_approval", "executed", "submitted")


def read(path):
    """The lines of a journal. The last one may be cut off by the death of its writer."""
    lines = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
    return lines


def town(lines):
    return next((line["town"] for line in lines if "town" in line), None)


def check(lines, book, differences):
    bodies = {}
    for row, leaf in book.leaves.items():
        try:
            bodies[row] = json.loads(leaf["body"])
        except ValueError:
            continue
    leaf_of = {body["request_id"]: row for row, body in bodies.items()}
    asked = {line["request"]: line for line in lines if "intent" in line}
    for line in lines:
        if "answer" in line:
            _answer(line, asked.get(line["request"], {}), book, leaf_of, differences)
    _same_answers(lines, asked, book, differences)
    _nonces(lines, asked, book, differences)
    if (town(lines) or {}).get("alone"):
        for request, row in leaf_of.items():
            if request not in asked:
                differences.add("leaf_of_nobody", f"leaf {row}: {request}")


def _answer(line, intent, book, leaf_of, differences):
    request, told = line["request"], line.get("ok")
    what = f"{line['answer']} ({request})"
    if line.get("fault") in ("not_recorded", "busy", "too_late", "schema_too_new"):
        if request in leaf_of:
            differences.add("recorded_after_all", f"{what} was told {line['fault']}")
        return
    if line.get("fault"):
        return
    if line.get("leaf"):
        kept = book.leaves.get(line["leaf"]["row"])
        if kept is None or kept["commitment"].hex() != line["leaf"]["commitment"]:
            differences.add("acknowledged_leaf_lost", f"{what}: leaf {line['leaf']['row']}")
        elif leaf_of.get(request) != line["leaf"]["row"]:
            differences.add("acknowledged_leaf_lost", f"{what}: its leaf is another's")
    if told is None:
        return
    if told.get("transaction_id"):
        transaction = book.transactions.get(told["transaction_id"])
        if transaction is None:
            differences.add("acknowledged_transaction_lost", f"{what}: {told['transaction_id']}")
            return
        _promised(what, told, transaction, book, differences)


def _promised(what, told, transaction, book, differences):
    state = transaction["state"]
    if told["status"] == "executed":
        place = (told.get("batch"), told.get("index_in_batch"))
        if state != "executed":
            differences.add("acknowledged_posting_lost", f"{what}: {transaction['name']} is {state}")
        elif told.get("statement_sha256") not in (None, merkle.sha256(transaction["statement"] or b"").hex()):
            differences.add("acknowledged_posting_differs", f"{what}: {transaction['name']}")
        elif place not in ((None, None), (transaction["batch"], transaction["index_in_batch"])):
            differences.add("acknowledged_posting_differs", f"{what}: {transaction['name']} is at another place")
    elif told["status"] == "submitted":
        if state not in ("submitted", "executed", "core_refused"):
            differences.add("acknowledged_order_lost", f"{what}: {transaction['name']} is {state}")
        elif told.get("statement_sha256") not in (None, merkle.sha256(transaction["order_statement"] or b"").hex()):
            differences.add("acknowledged_order_lost", f"{what}: {transaction['name']} has another order")
    elif told["status"] == "cancelled" and state != "cancelled":
        differences.add("acknowledged_cancellation_lost", f"{what}: {transaction['name']} is {state}")
    elif told["status"] == "decided":
        approval = book.approvals.get(told["approval_id"])
        if approval is None or approval["decided_by"] is None:
            differences.add("acknowledged_decision_lost", f"{what}: {told['approval_id']}")


def _withdrawn(known, refused, book):
    """Whether the bank's people or the core have ended since what was answered: an authorization, never money moved."""
    transaction = book.transactions.get(known.get("transaction_id"))
    if transaction is None:
        return False
    if transaction["state"] == "core_refused" and known["status"] in ("approved", "requires_approval", "submitted"):
        return refused in ("core_refused", ASKED_BEFORE_THE_END)
    if known["status"] not in ("approved", "requires_approval"):
        return False
    states = {row["name"]: row["state"] for row in book.tables["cases"]}
    rejected = transaction["state"] == "denied" and states.get(transaction["case_id"]) == "rejected"
    return rejected and refused in ("case_rejected", ASKED_BEFORE_THE_END)


def _same_answers(lines, asked, book, differences):
    """Whoever asks the same again is told the same again."""
    first = {}
    for line in lines:
        if "answer" not in line or line.get("fault"):
            continue
        told, known = line.get("ok"), first.get(line["answer"])
        if known is None:
            if told and told["status"] in PROMISES:
                first[line["answer"]] = told
            continue
        if told is None:
            if line["refused"] not in STILL_ALLOWED and not _withdrawn(known, line["refused"], book):
                differences.add("promise_broken", f"{line['answer']}: {known['status']}, then {line['refused']}")
            continue
        if known["status"] == "submitted" and told["status"] == "executed":
            if told["transaction_id"] != known["transaction_id"] or not told.get("repeated"):
                differences.add("answer_changed", f"{line['answer']}: {known} is now {told}")
            first[line["answer"]] = told  # the core has answered, and now that stands
            continue
        of_core = asked.get(line["request"], {}).get("wish", {}).get("wish") == "core_says"
        if of_core and told["status"] == "done" and told["changed"] is False:
            continue  # the core's word was heard already; what it did stands, and is looked at by its first answer
        if told["status"] == "queued_manual" and told["transaction_id"] == known["transaction_id"]:
            continue  # it waits for the bank's people now, and says so
        parts = ("status", "transaction_id", "approval_id", "statement_sha256", "batch", "index_in_batch")
        wrong = [part for part in parts if told.get(part) != known.get(part)]
        if wrong:
            differences.add("answer_changed", f"{line['answer']}: {wrong} of {known} is now {told}")
        elif told.get("repeated") is False:
            differences.add("answer_changed", f"{line['answer']} was executed a second time")


def _nonces(lines, asked, book, differences):
    kept = {row["nonce"].hex() for row in book.tables["nonces"]}
    # Kept for a day at least; what is older may be gone.
    since = max((line["at"] for line in asked.values()), default=0) - DAY_MS
    accepted = {}
    for line in lines:
        nonce = asked.get(line.get("request"), {}).get("nonce")
        if "answer" not in line or line.get("fault") or nonce is None or line.get("refused") == "nonce_replayed":
            continue
        if accepted.setdefault(nonce, line["request"]) != line["request"]:
            differences.add("nonce_accepted_twice", f"{line['answer']}: {nonce}")
        if nonce not in kept and asked[line["request"]]["at"] >= since:
            differences.add("acknowledged_nonce_lost", f"{line['answer']}: {nonce}")
