"""Reads every table of a store as it is on disk, by SQL alone. Nothing here comes from the product's code."""

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile

# Tables and the columns that hold bytes.
TABLES = {
    "accounts": (),
    "entries": (),
    "transactions": ("parameters", "statement", "order_statement"),
    "approvals": (),
    "bindings": ("scope", "request"),
    "counters": (),
    "nonces": ("nonce",),
    "batches": ("document", "leaves", "signature", "key"),
    "leaves": ("commitment", "salt", "body"),
    "places": (),
    "nodes": ("hash",),
    "checkpoints": ("root", "note", "signed"),
    "cases": ("agent_key", "scope"),
    "outbox": (),
    "breaker": (),
    "revocations": (),
}
COMMAND_SECONDS_MAX = 120


class Unreadable(Exception):
    """The store cannot be read at all."""


def read(store, in_use=False):
    """All rows of one snapshot: `{table: [row, …]}`, and what the database says of its own soundness.

    An SQLite file that nobody uses is read in a copy, so that recovery after a crash is left to the product."""
    if store.startswith("postgres"):
        return _postgres(store)
    path = store.removeprefix("sqlite:")
    if in_use:
        return _sqlite(path)
    with tempfile.TemporaryDirectory() as directory:
        for suffix in ("", "-wal"):
            if os.path.exists(path + suffix):
                shutil.copyfile(path + suffix, os.path.join(directory, "store.sqlite3" + suffix))
        return _sqlite(os.path.join(directory, "store.sqlite3"))


def _sqlite(path):
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        sound = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
        there = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        tables = {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] if table in there else []
            for table in TABLES
        }
        connection.close()
    except sqlite3.Error as error:
        raise Unreadable(f"{path}: {error}") from error
    return tables, ([] if sound == ["ok"] else sound) + _placed(tables)


def _placed(tables):
    """Gives each leaf its place; what is wrong with the places."""
    places = {row["row"]: row["place"] for row in tables["places"]}
    for leaf in tables["leaves"]:
        leaf["place"] = places.pop(leaf["row"], leaf.get("place"))
    return [f"place {place} is of leaf {row}, which is not there" for row, place in places.items()]


def _postgres(url):
    ask = ["psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", url]
    ask += ["-c", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"]
    there = [table for table in TABLES if table != "approvals"] + ["leaves_waiting"]
    for table in there:
        ask += ["-c", f"SELECT '{table}', row_to_json(t) FROM {table} t"]
    told = subprocess.run(ask, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False)
    if told.returncode != 0:
        raise Unreadable(f"{url}: {told.stderr.strip()}")
    tables = {table: [] for table in [*TABLES, *there]}
    for line in told.stdout.splitlines():
        table, separator, row = line.partition("|")
        if separator:
            tables[table].append(_bytes_of(json.loads(row), TABLES.get(table, ())))
    return _as_in_sqlite(tables)


def _as_in_sqlite(tables):
    """Approvals are columns of their transaction here, and what waits for its place is listed."""
    for row in tables["transactions"]:
        if row["approval"] is not None:
            approval = {"name": row["approval"], "transaction_name": row["name"], "decided_by": row["decided_by"]}
            tables["approvals"].append(approval | {"expires": row["approval_expires"]})
    damage = _placed(tables)
    waiting = {row["row"] for row in tables["leaves_waiting"]}
    for leaf in tables["leaves"]:
        if (leaf["place"] is None) != (leaf["row"] in waiting):
            damage.append(f"leaf {leaf['row']} has place {leaf['place']} and is waiting: {leaf['row'] in waiting}")
    return tables, damage


def _bytes_of(row, columns):
    for column in columns:
        if row.get(column) is not None:
            row[column] = bytes.fromhex(row[column].removeprefix("\\x"))
    return row
