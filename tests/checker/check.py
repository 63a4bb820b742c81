"""The independent checker of a store: `check.py STORE [--journal FILE]`.

STORE is the path of an SQLite file or a `postgresql:` URL. Reads the tables and shares no code with the product. Prints
`ok` and what it looked at, or each difference by name, and then ends with exit code 1; 2 when the store is unreadable."""

import argparse
import sys

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
    facts.check(book, town, differences)
    Replay(book, town, differences).run()
    journal.check(lines, book, differences)
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--journal", help="what the store's users asked and were told, one JSON object a line")
    arguments = parser.parse_args()
    try:
        rows, damage = tables.read(arguments.store)
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
