"""The independent checker of a store: `check.py STORE [--journal FILE]`.

STORE is the path of an SQLite file or a `postgresql:` URL. Reads the tables and shares no code with the product.
Prints `ok` and what it looked at, or each difference by name with exit code 1; 2 when the store is unreadable."""

import argparse
import sys
import traceback

import facts
import journal
import tables
from book import Book, Differences
from replay import Replay


def differences_of(rows, damage, lines):
    differences = Differences()
    for complaint in damage:
        differences.add("file_damaged", complaint)
    book, town = Book(rows), journal.town(lines)
    checks = list(facts.checks(book, town, differences))
    checks.append(Replay(book, town, differences).run)
    checks.append(lambda: journal.check(lines, book, differences))
    for check in checks:
        try:
            check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            differences.add("senseless_rows", f"{error!r} in {place.name}, line {place.lineno}")
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--journal", help="what the store's users asked and were told, one JSON object a line")
    parser.add_argument("--in-use", action="store_true", help="a daemon uses the file: read it in place")
    arguments = parser.parse_args()
    try:
        rows, damage = tables.read(arguments.store, arguments.in_use)
    except tables.Unreadable as error:
        print(f"unreadable: {error}")
        return 2
    lines = journal.read(arguments.journal) if arguments.journal else []
    differences = differences_of(rows, damage, lines)
    for line in differences.lines():
        print(line)
    if differences.names():
        return 1
    answers = sum(1 for line in lines if "answer" in line)
    executed = sum(1 for row in rows["transactions"] if row["state"] == "executed")
    print(f"ok: {len(rows['leaves'])} leaves, {executed} postings, {answers} answers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
