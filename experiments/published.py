"""The tables of the pages that are made from the records in experiments/results.

Command:   python experiments/published.py            writes them anew, between their markers
           python experiments/published.py --check    only says which pages are out of date; the exit status is 1 then

A page has `<!-- records TABLE -->` or `<!-- records TABLE METHOD -->`, and what is written ends at
`<!-- end of records -->`. TABLE is one of cells, sources, curves and transfer. experiments/record.py makes records out
of run directories.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dd_jax.methods import METHODS
from dd_jax.runs.progress import note
from dd_jax.runs.report.cells import Change, cells_table, curves_table, sources_table, transfer_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"

_MARKER = re.compile(r"(?<=^<!-- records )(?P<table>\w+)(?: (?P<method>\w+))? -->\n.*?(?=^<!-- end of records -->$)",
                     re.MULTILINE | re.DOTALL)  # fmt: skip


def records(method: str | None = None) -> list[Mapping[str, Any]]:
    """Of a method or of all, in the order of the methods and then of their titles."""
    found = [json.loads(path.read_text()) for path in (RESULTS / "cells").glob("*.json")]
    names = list(METHODS)
    chosen = [record for record in found if method in (None, record["config"]["method"]["name"])]
    return sorted(chosen, key=lambda record: (names.index(record["config"]["method"]["name"]), _key(record["title"])))


def changes() -> list[Change]:
    """The changes that moved numbers."""
    return [Change(**change) for change in json.loads((RESULTS / "changes.json").read_text())]


def generated(text: str) -> str:
    """A page with what its records give between its markers."""
    return _MARKER.sub(lambda found: f"{found[0].partition('-->')[0]}-->\n{_table(**found.groupdict())}", text)


def write_pages(check: bool = False) -> list[str]:
    """Write the tables anew; the names of the pages that were out of date."""
    stale = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text()
        if (new := generated(text)) != text:
            stale.append(page.relative_to(ROOT).as_posix())
            if not check:
                page.write_text(new)
    return stale


def _table(table: str, method: str | None) -> str:
    made = {"cells": lambda found: cells_table(found, changes()), "sources": sources_table, "curves": curves_table,
            "transfer": transfer_table}  # fmt: skip
    text = made[table](records(method))
    before = {"curves": "Runs that had fewer outer steps than the paper, on the way:\n\n"}.get(table, "")
    return f"\n{before}{text}\n\n" if text else "\n"


def _key(title: str) -> list[tuple[int, str]]:
    """A title in parts, so that 35 comes before 140."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", title)]


if __name__ == "__main__":
    check = "--check" in sys.argv
    stale = write_pages(check)
    note(f"{'Out of date' if check else 'Written anew'}: {', '.join(stale) or 'no page'}.")
    sys.exit(bool(stale) and check)
