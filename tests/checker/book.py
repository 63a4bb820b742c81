"""The store's rows with the look-ups that the checks share, and the list of differences they find."""

import json

OPEN = ("approved", "pending_approval", "queued_manual", "submitted")
ENDED = ("denied", "cancelled", "expired", "approval_expired", "voided", "core_refused")
STATES = OPEN + ENDED + ("executed",)


def holds(transaction):
    """Authorizations hold their funds; a reversal does once it is ordered from the core."""
    return transaction["kind"] in ("purchase", "transfer") or transaction["state"] == "submitted"


class Differences:
    """What is not as it must be. A name a rule; the first few of each are told in full."""

    SHOWN_MAX = 5

    def __init__(self):
        self.found = {}

    def add(self, name, detail):
        self.found.setdefault(name, []).append(str(detail))

    def names(self):
        return sorted(self.found)

    def lines(self):
        for name in self.names():
            details = self.found[name]
            for detail in details[: self.SHOWN_MAX]:
                yield f"{name}: {detail}"
            if len(details) > self.SHOWN_MAX:
                yield f"{name}: and {len(details) - self.SHOWN_MAX} more"


class Book:
    def __init__(self, tables):
        self.tables = tables
        self.accounts = {row["name"]: row for row in tables["accounts"]}
        self.account_names = {row["id"]: row["name"] for row in tables["accounts"]}
        self.transactions = {row["name"]: row for row in tables["transactions"]}
        self.transaction_names = {row["id"]: row["name"] for row in tables["transactions"]}
        self.approvals = {row["name"]: row for row in tables["approvals"]}
        self.leaves = {row["row"]: row for row in tables["leaves"]}
        self.entries_of = {}
        for entry in tables["entries"]:
            self.entries_of.setdefault(entry["transaction_row"], []).append(entry)


def canonical(value):
    """RFC 8785 for what the product hashes: strings, null, booleans, small integers, keys of ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
