"""The tables of the pages that are made from the records in experiments/results.

Command:   python experiments/published.py            writes them anew, between their markers
           python experiments/published.py --check    only says which pages are out of date; the exit status is 1 then

A page has `<!-- records TABLE -->` or `<!-- records TABLE METHOD -->`, and what is written ends at
`<!-- end of records -->`. TABLE is one of cells, baselines, sources, curves and transfer. `<!-- records table NAME -->`
asks for results/tables/NAME.md with the values that its references name, such as `{mnist-random-init: class mean}`.
experiments/record.py makes records out of run directories.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dd_jax.cli import run_function
from dd_jax.errors import DataError
from dd_jax.methods import METHODS
from dd_jax.outcomes.spread import Spread, spread_of
from dd_jax.runs.progress import note
from dd_jax.runs.report.cells import (
    Change,
    baselines_table,
    cells_table,
    curves_table,
    footnotes,
    in_points,
    ours,
    outdated,
    sources_table,
    transfer_table,
)

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"

_TITLES = {
    "curves": "Runs that had fewer outer steps than the paper, on the way:\n\n",
    "transfer": "Sets on other networks than the one that they were learnt for; ± as above:\n\n",
}
_MADE: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], str]] = {
    "cells": lambda found: cells_table(found, changes()),
    "baselines": baselines_table,
    "sources": sources_table,
    "curves": curves_table,
    "transfer": transfer_table,
}
_OF_A_METHOD = "Runs of which every accuracy is kept ([how each was measured](../results.md#every-record)):\n\n"
_BASELINES = ("random", "class mean", "k-means", "herding", "k-center", "k-NN", "neighbours", "full training", "whole")
_REFERENCE = re.compile(r"\{([^{}]+)\}")
_MARKER = re.compile(r"(?<=^<!-- records )(?P<table>\w+)(?: (?P<name>[\w-]+))? -->\n.*?(?=^<!-- end of records -->$)",
                     re.MULTILINE | re.DOTALL)  # fmt: skip


def records(method: str | None = None) -> list[Mapping[str, Any]]:
    """Of a method or of all, in the order of the methods and then of their titles."""
    found = [json.loads(path.read_text()) for path in (RESULTS / "cells").glob("*.json")]
    names = list(METHODS)
    chosen = [record for record in found if method in (None, record["config"]["method"]["name"])]
    return sorted(chosen, key=lambda record: (names.index(record["config"]["method"]["name"]), _key(record["title"])))


def changes() -> list[Change]:
    """The changes that moved numbers."""

    def fixed(found: Any) -> Any:
        return tuple(found) if isinstance(found, list) else found

    listed: list[dict[str, Any]] = json.loads((RESULTS / "changes.json").read_text())
    return [Change(**{name: fixed(found) for name, found in one.items()}) for one in listed]


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


def value(reference: str) -> str:
    """What a record says under names that colons part: the record, its row or workload and, of several, the measure.

    - a compact record, or a folder of a run: "NAME: distilled", "NAME: class mean", "NAME: seed 0";
    - an attack: "NAME: distilled: success"; continual learning: "NAME: herding: average accuracy";
    - a benchmark: "benchmark-cpu: WORKLOAD: 2 devices" or ": speedup", or ": rounds" for how many;
    - "quoted: PAGE: WHAT" and "published: NAME", of what was transcribed.

    Raises:
        DataError: for a record that isn't there.
        KeyError: for a row or measure that isn't there.
    """
    name, *keys = reference.split(": ")
    if name in ("quoted", "published"):
        return _transcribed(name, keys)
    if (file := RESULTS / "cells" / f"{name}.json").is_file():
        return _of_cell(json.loads(file.read_text()), keys[0])
    file = RESULTS / name / "results.json" if (RESULTS / name).is_dir() else RESULTS / f"{name}.json"
    if not file.is_file():
        raise DataError(f"A table asks for '{reference}', but there is no record {name} in {RESULTS} or its cells.")
    found = json.loads(file.read_text())
    if "workloads" in found:
        return _of_benchmark(found["workloads"][keys[0]], keys[1])
    if "courses" in found:
        measured = found["courses"][keys[0]][keys[1]]
        return in_points(Spread(measured["mean"], measured["std"], measured["n"]))
    row = found["results"][keys[0]]
    return in_points(spread_of(row["attacked"][keys[1]] if keys[1:] else row["accuracies"]))


def origin(reference: str) -> Mapping[str, Any] | None:
    """The record that a reference names, as far as its age goes: its config and when it began; None where unknown."""
    name, *keys = reference.split(": ")
    if name == "quoted":
        page = _quoted(keys)
        return {"config": page.get("config", {}), "distillations": [{"started": page["date"]}]}
    if (file := RESULTS / "cells" / f"{name}.json").is_file():
        return dict(json.loads(file.read_text()))
    if (file := RESULTS / name / "config.json").is_file():
        found = json.loads(file.read_text())
        return {"config": found["config"], "distillations": [found["provenance"]]}
    return None


def _quoted(keys: Sequence[str]) -> dict[str, Any]:
    """What was transcribed from a page and has this value."""
    measured = json.loads((RESULTS / "quoted.json").read_text())["measured"]
    return {what: one for one in measured if one["page"] == keys[0] for what in one["values"]}[keys[1]]


def _transcribed(kind: str, keys: Sequence[str]) -> str:
    if kind == "quoted":
        return str(_quoted(keys)["values"][keys[1]])
    published = json.loads((RESULTS / "quoted.json").read_text())["published"]
    return {one["name"]: str(one["value"]) for one in published}[keys[0]]


def _filled(template: str) -> str:
    """A table with values in place of references; those that a change has moved since are marked."""
    moved: dict[Change, None] = {}

    def put(found: re.Match[str]) -> str:
        record = origin(found[1])
        ours = not any(name in found[1] for name in _BASELINES)
        concerned = [] if record is None else [one for one in outdated(record, changes()) if ours or one.baselines]
        moved.update(dict.fromkeys(concerned))
        return " ".join([value(found[1]), *(change.mark for change in concerned)])

    return f"{_REFERENCE.sub(put, template)}\n\n{footnotes(list(moved))}".rstrip()


def _of_cell(record: Mapping[str, Any], row: str) -> str:
    """Of the distillations together, of one of them, or of a baseline."""
    if row == "distilled":
        return in_points(ours(record))
    if row.startswith("seed "):
        one = {f"seed {one['seed']}": one for one in record["distillations"]}[row]
        return in_points(spread_of(one["accuracies"]))
    return in_points(spread_of(record["baselines"][row]["accuracies"]))


def _of_benchmark(workload: Mapping[str, Any], measure: str) -> str:
    """A median time, how many times as fast with the range over the rounds, their number, compiling, share of peak."""
    one = next(row for name, row in workload.items() if re.fullmatch(r"\d+ devices?", name))
    if measure == "rounds":
        return str(one["n"])
    if measure == "compile":
        return f"{one['compile']:.0f} s"
    if measure == "peak":
        return f"{100 * one['of_matmul_ceiling']:.0f} %"
    found = workload[measure]
    if measure.startswith("speedup"):
        return f"**{found['median']:.1f}** ({found['min']:.1f}–{found['max']:.1f})"
    return f"{1000 * found['median']:.0f} ms" if found["median"] < 1 else f"{found['median']:.1f} s"


def _table(table: str, name: str | None) -> str:
    if table == "table":
        template = (RESULTS / "tables" / f"{name}.md").read_text().strip()
        return f"\n{_filled(template)}\n\n"
    found = records(name)
    text = _MADE[table](found) if found else ""
    title = _OF_A_METHOD if table == "cells" and name else _TITLES.get(table, "")
    return f"\n{title}{text}\n\n" if text else "\n"


def _key(title: str) -> list[tuple[int, str]]:
    """A title in parts, so that 35 comes before 140."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", title)]


def main(check: bool = False) -> None:
    """Write the tables anew.

    Args:
        check: only say which pages are out of date.
    """
    stale = write_pages(check)
    note(f"{'Out of date' if check else 'Written anew'}: {', '.join(stale) or 'no page'}.")
    if stale and check:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(run_function(main, __doc__))
