"""Runs at a glance: all that lie in a folder, or a few beside each other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dd_jax.data.missing import not_there
from dd_jax.errors import DataError, unknown_name
from dd_jax.outcomes import results_are
from dd_jax.outcomes.spread import percent
from dd_jax.runs.progress import note, table
from dd_jax.runs.report import compare, words
from dd_jax.runs.report.amounts import flat, fraction, lasting
from dd_jax.runs.report.page import distinct_names
from dd_jax.runs.report.read import read_run
from dd_jax.runs.report.record import RunRecord

DEPTH = 4  # folders within each other that are searched
SORTS = ("name", "result", "validation", "started")

_OURS = {"checkpoints", "distilled", "figures", "export", "tensorboard"}  # what a run directory has within
_ABSENT = "–"


def show_runs(paths: Sequence[str | Path], sort: str = "name") -> None:
    """Print the runs in folders as a table; of run directories also what they differ in.

    Raises:
        DataError: if there is none.
        OptionError: for an unknown order.
    """
    if sort not in SORTS:
        raise unknown_name("order of runs", sort, SORTS)
    found = [Path(path).expanduser() for path in paths]
    chosen = [path for path in found if is_run(path)]
    runs = [run for path in found for run in runs_in(path)]
    if not runs:
        raise no_runs(found)
    records = _read(list(dict.fromkeys(runs)))
    records.sort(key=lambda item: _key(sort, *item))
    names = distinct_names([record for _, record in records])
    _print_list(records, names)
    if len(chosen) == len(found) and len(records) > 1:
        _print_differences([record for _, record in records], names)


def no_runs(paths: Sequence[Path]) -> DataError:
    """An error for places without any run."""
    expected = "Name a folder with runs, or make one with dd-jax distill --out FOLDER/NAME."
    gone = [path for path in paths if not path.exists()]
    if gone:
        return not_there("folder", gone[0], expected)
    return DataError(f"There are no runs in {', '.join(map(str, paths))}. {expected}")


def is_run(path: Path) -> bool:
    """Whether `path` is a run directory, finished or not."""
    return (path / "config.json").is_file()


def runs_in(path: Path) -> list[Path]:
    """The run directory itself, or those within a folder, sorted; none where there is none."""
    return [path] if is_run(path) else sorted(find_runs(path))


def find_runs(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The run directories within a folder, but not within each other."""
    if not folder.is_dir() or depth < 0:
        return
    for entry in folder.iterdir():
        if not entry.is_dir() or entry.name.startswith(".") or entry.name in _OURS:
            continue
        if is_run(entry):
            yield entry
        else:
            yield from find_runs(entry, depth - 1)


def differences(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """The settings that aren't the same in all runs, nested names dotted, with what each run has."""
    settings = [dict(flat(record.config)) for record in records]
    names = dict.fromkeys(name for mine in settings for name in mine)
    values = {name: [mine.get(name, _ABSENT) for mine in settings] for name in names}
    return {name: found for name, found in values.items() if len(set(found)) > 1}


def _read(paths: Sequence[Path]) -> list[tuple[Path, RunRecord]]:
    """The runs that can be read; of the others it says what is wrong."""
    records = []
    for path in paths:
        try:
            records.append((path, read_run(path)))
        except DataError as error:
            note(f"Left out: {error}")
    if not records:
        raise DataError("None of the runs can be read. The lines above say why.")
    return records


def _key(sort: str, path: Path, record: RunRecord) -> Any:
    started = str(record.provenance.get("started", ""))
    own, best = words.own(record), record.best
    by: Mapping[str, Callable[[], Any]] = {
        "name": lambda: str(path),
        "result": lambda: -words.result(record, own).mean if own is not None else 1.0,
        "validation": lambda: -best["validation"] if best is not None else 1.0,
        "started": lambda: started,
    }
    return by[sort]()


def _print_list(records: Sequence[tuple[Path, RunRecord]], names: Sequence[str]) -> None:
    columns = (
        "run",
        "result",
        "n",
        "best baseline",
        "k-NN",
        "validation",
        "dataset",
        "network",
        "outer steps",
        "took",
        "started",
    )
    rows = [(name, *_row(record)) for name, (_, record) in zip(names, records, strict=True)]
    table(f"Runs ({results_are()})", columns, rows)
    note(words.BOTH_BASELINES)


def _row(record: RunRecord) -> tuple[str, ...]:
    own, rivals, near = words.own(record), words.rivals(record)[:1], words.neighbours(record)
    return (
        "not measured" if own is None else words.result_in_words(record, own),
        _ABSENT if own is None else str(own.accuracy.n),
        f"{words.result_in_words(record, rivals[0])} {rivals[0].name}" if rivals else _ABSENT,
        _ABSENT if near is None else f"{percent(near.accuracy)} {near.name}",
        fraction(record.best["validation"]) if record.best is not None else _ABSENT,
        words.dataset(record),
        words.model(record),
        f"{record.steps_done:,} of {record.num_outer_steps or 0:,}",
        lasting(record.seconds),
        str(record.provenance.get("started", _ABSENT)).replace("T", " ")[:16],
    )


def _print_differences(records: Sequence[RunRecord], names: Sequence[str]) -> None:
    found = differences(records)
    if found:
        table("What they differ in", ("setting", *names), [(name, *values) for name, values in found.items()])
    for sentence in compare.sentences(records, names):
        print(sentence.replace("\u00a0", " "))
