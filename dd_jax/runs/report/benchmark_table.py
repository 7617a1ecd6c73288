"""Runs of several methods in one table, beside their best baselines and what the papers report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dd_jax.methods import METHODS
from dd_jax.outcomes.spread import NO_BREAK, percent
from dd_jax.runs.report import words
from dd_jax.runs.report.amounts import lasting
from dd_jax.runs.report.markup import element, join, table
from dd_jax.runs.report.page import document
from dd_jax.runs.report.published import published
from dd_jax.runs.report.read import read_run
from dd_jax.runs.report.record import RunRecord
from dd_jax.storage.files import disk_errors, write_bytes

_ABSENT = "–"
_HEAD = (
    "dataset",
    "images per class",
    "method",
    "network",
    "test accuracy",
    "n",
    "best baseline",
    "k-NN",
    "published",
    "distilling took",
    "device",
)
_NOTE = (
    "Test accuracy: mean ± standard deviation over n networks of one set, chosen on validation. "
    f"{words.BOTH_BASELINES} Published: what the paper "
    "reports for its own settings, mostly a ConvNet of depth 3 and width 128 and many more outer steps; runs on other "
    "networks, or of fewer steps, do not repeat it."
)


class Line(NamedTuple):
    """A run in the table: its cells, and what it is sorted by."""

    key: tuple[Any, ...]
    cells: tuple[str, ...]


def write_benchmark_table(paths: Sequence[str | Path], folder: str | Path) -> tuple[Path, Path]:
    """Write table.md and table.html into `folder`: a line for each of the runs in `paths`, finished or not.

    Raises:
        DataError: if one of them is no run directory, or if a file in it is damaged, which is named.
        RunError: if the disk refuses.
    """
    lines = sorted(_line(read_run(path)) for path in paths)
    rows = [line.cells for line in lines]
    folder = Path(folder)
    written = folder / "table.md", folder / "table.html"
    with disk_errors("write the table", folder):
        for path, text in zip(written, (_markdown(rows), _page(rows)), strict=True):
            write_bytes(path, text.encode(errors="backslashreplace"))
    return written


def _line(record: RunRecord) -> Line:
    found, best, near = words.own(record), words.rivals(record)[:1], words.neighbours(record)
    dataset, (label, count) = words.dataset(record), _set(record)
    paper = None if count is None else published(dataset, label, count)
    accuracy = _ABSENT if found is None else percent(found.accuracy)
    if found is None:
        accuracy = f"{record.steps_done:,} of {record.num_outer_steps or 0:,} outer steps"
    cells = (
        dataset,
        _ABSENT if count is None else str(count),
        label,
        _network(record),
        accuracy,
        _ABSENT if found is None else str(found.accuracy.n),
        f"{percent(best[0].accuracy)} {best[0].name}" if best else _ABSENT,
        _ABSENT if near is None else f"{percent(near.accuracy)} {near.name}",
        _ABSENT if paper is None else f"{paper:.1f}{NO_BREAK}%",
        lasting(record.seconds),
        str(record.provenance.get("device", _ABSENT)),
    )
    return Line((dataset, count or 0, label, record.name), cells)


def _set(record: RunRecord) -> tuple[str, int | None]:
    """What the method's runs are called, and how many images of each class it stores."""
    settings = dict(record.setting("method", default={}))
    name = settings.pop("name", None)
    per_class = settings.get("images_per_class")
    count = per_class * settings.get("num_batches", 1) if isinstance(per_class, int) else None
    if name not in METHODS:
        return str(name), count
    options = METHODS[name].options
    known = {field.name for field in dataclasses.fields(options)}
    return METHODS[name].words(options(**{key: v for key, v in settings.items() if key in known}))[0], count


def _network(record: RunRecord) -> str:
    settings = record.setting("model", default={})
    sizes = [f"{name} {settings[name]}" for name in ("width", "depth", "hidden") if settings.get(name) is not None]
    return words.model(record) + (f" ({', '.join(sizes)})" if sizes else "")


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [_HEAD, ["---"] * len(_HEAD), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace(NO_BREAK, " ") + f"\n\n{_NOTE}\n"


def _page(rows: Sequence[Sequence[str]]) -> str:
    title = f"{len(rows)} distilled sets beside their baselines" if len(rows) != 1 else "A set beside its baselines"
    top = element("header", element("p", "Table of dd_jax", class_="kind"), element("h1", title))
    body = element("section", table(_HEAD, rows, "Results"), element("p", _NOTE, class_="note"), class_="card wide")
    return document(f"{title} – dd_jax", join([top, element("main", element("div", body, class_="cards"))]))
