"""Everything that a report says of a run, read from its directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax.data.missing import not_there
from dd_jax.errors import DataError, RunError
from dd_jax.figures.encode import png_size
from dd_jax.outcomes import ACCURACIES, read_recorded
from dd_jax.outcomes.spread import Spread, spread_of
from dd_jax.renamed import with_new_names
from dd_jax.runs.directory import read_metrics
from dd_jax.runs.report.record import Measured, RunRecord
from dd_jax.storage.artefact import load_distilled, load_provenance
from dd_jax.storage.files import read_json

_NUMBERS = ("loss", "validation", "validation_std", "seconds", "memory")  # of the metrics, where they are there
_COUNTS = ("num_batches", "num_epochs", "images_per_class")  # of the method, where they are there


def read_run(path: str | Path) -> RunRecord:
    """The run in a directory, whatever is there of it.

    Raises:
        DataError: if it is no run directory, or if a file in it is damaged, which is named.
    """
    path = Path(path).expanduser()
    if not (path / "config.json").is_file():
        if not path.exists():
            raise not_there("folder", path, "Name a run directory, the --out of a `dd-jax distill`.")
        found = "has no config.json" if path.is_dir() else "is a file"
        raise DataError(f"{path} is not a run directory: it {found}. Name the --out of a `dd-jax distill`.")
    saved = _json(path / "config.json", "config")
    config = with_new_names(saved["config"])
    results = _json(path / "results.json", "results") if (path / "results.json").is_file() else {}
    has_set = (path / "distilled" / "distilled.json").is_file()
    distilled = load_distilled(path) if has_set else None
    frames, notes = _frames(path / "figures" / "evolution")
    method = _method(config, path / "config.json")
    return RunRecord(
        name=path.absolute().name,
        config=config,
        provenance=saved.get("provenance") or {},
        about=load_provenance(path) if has_set else {},
        metrics=_metrics(path / "metrics.jsonl"),
        distilled=distilled,
        rows=_rows(results.get("results", {}), method.get("num_batches", 1), path / "results.json"),
        distilling=results.get("distilling") or {},
        made_with=results.get("made_with") or {},
        frames=frames,
        notes=notes,
    )


def _json(path: Path, needed: str) -> dict[str, Any]:
    try:
        found = read_json(path)
    except RunError as error:
        raise DataError(str(error)) from error
    if not isinstance(found, dict) or not isinstance(found.get(needed), dict):
        raise DataError(f"{path} is damaged, or not from a run: expected an object that holds an object {needed!r}.")
    for name in ("provenance", "distilling", "made_with"):
        if not isinstance(found.get(name, {}), dict):
            raise DataError(f"{path} is damaged: {name!r} should be an object, but is {found[name]!r}.")
    return found


def _method(config: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    method = config.get("method", {})
    counts = {"num_outer_steps": config.get("num_outer_steps", 1)}
    if isinstance(method, Mapping):
        counts |= {name: method.get(name, 1) for name in _COUNTS}
    for name, value in counts.items():
        each = value if name == "images_per_class" and isinstance(value, list) and value else [value]
        if not all(isinstance(count, int) and count >= 0 for count in each):
            raise DataError(f"{path} is damaged: {name!r} should be a whole number, but is {value!r}.")
    if not isinstance(method, Mapping):
        raise DataError(f"{path} is damaged: 'method' should be an object, but is {method!r}.")
    return method


def _metrics(path: Path) -> list[dict[str, Any]]:
    try:
        rows = read_metrics(path)
    except RunError as error:
        raise DataError(str(error)) from error
    for number, row in enumerate(rows, start=1):
        where = f"Line {number} of {path} is damaged"
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise DataError(f"{where}: it should be an object with a whole number 'step'. Remove the line to go on.")
        for name in _NUMBERS:
            if not isinstance(row.get(name, 0), int | float | None):
                raise DataError(
                    f"{where}: {name!r} should be a number, but is {row[name]!r}. Remove the line to go on."
                )
    return rows


def _rows(rows: Mapping[str, Any], period: int, path: Path) -> dict[str, Measured]:
    """The results; period: inner steps of an epoch, for runs that recorded their curves after each."""
    try:
        return {name: _measured(name, row, period) for name, row in rows.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged: its results are not those of a run ({error!r}). Put back a copy of it."
        ) from error


def _measured(name: str, row: Mapping[str, Any], period: int) -> Measured:
    values = np.atleast_1d(np.asarray(row["accuracies"], float))
    curve = np.asarray(row.get("curve") or np.zeros((0, 0)), float)
    steps = row.get("curve_steps")
    steps = tuple(range(0, period * curve.shape[1], period) if steps is None else map(int, steps)) if curve.size else ()
    confusion = row.get("confusion")
    counts = row.get("counts")
    accuracy = Spread(float(row["mean"]), float(row["std"]), int(row["n"]))
    per_class = np.asarray(row["per_class"], float)
    more = {key: tuple(map(float, values)) for key, values in read_recorded(row).items()}
    measured = Measured(
        name=name,
        accuracy=accuracy,
        split=str(row.get("split", "test")),
        per_class=per_class,
        curve=curve,
        curve_steps=steps,
        confusion=None if confusion is None else np.asarray(confusion, float),
        chosen=str(row.get("chosen") or ""),
        measures={ACCURACIES: accuracy, **{key: spread_of(found) for key, found in more.items()}},
        counts=None if counts is None else np.asarray(counts, int),
        values=tuple(values.tolist()),
        values_of=more,
    )
    if measured.counts is not None and measured.counts.shape != per_class.shape:
        raise ValueError(f"{name}: counts {measured.counts.shape} of {len(per_class)} classes")
    if len(values) != measured.accuracy.n or per_class.ndim != 1:
        raise ValueError(f"{name}: {len(values)} accuracies, but n {measured.accuracy.n}")
    if curve.size and (curve.ndim != 2 or curve.shape[1] != len(steps)):
        raise ValueError(f"{name}: a curve {curve.shape}, but {len(steps)} curve_steps")
    if measured.confusion is not None and measured.confusion.shape != (len(per_class),) * 2:
        raise ValueError(f"{name}: a confusion matrix {measured.confusion.shape} of {len(per_class)} classes")
    return measured


def _frames(folder: Path) -> tuple[list[tuple[int, bytes]], tuple[str, ...]]:
    """The frames in a folder by outer step, and what is wrong with others."""
    frames, notes = [], []
    for file in sorted(folder.glob("step_*.png")):
        step, data = file.stem.removeprefix("step_"), file.read_bytes()
        if not step.isdigit():
            continue
        if png_size(data) is None:
            notes.append(f"{folder.name}/{file.name} is no PNG and was left out.")
        else:
            frames.append((int(step), data))
    return sorted(frames, key=lambda frame: frame[0]), tuple(notes)
