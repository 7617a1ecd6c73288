"""Several distillations one after another: other seeds, other options; together they end in a table and a report."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dd_jax.errors import DDJaxError, OptionError, RunError
from dd_jax.outcomes import results_are
from dd_jax.runs.experiment import Experiment, is_finished, load_method, run_experiment
from dd_jax.runs.naming import SWEEP
from dd_jax.runs.processes import on_first
from dd_jax.runs.progress import note, table
from dd_jax.runs.report import write_report
from dd_jax.runs.report.distillations import HEAD, OF_BASELINES, Distillations, cells, distillations
from dd_jax.runs.report.read import read_run
from dd_jax.runs.report.record import RunRecord
from dd_jax.runs.report.words import BOTH_BASELINES, balanced, neighbours, own, result, rivals
from dd_jax.storage.files import disk_errors, write_bytes, write_json

PAGE = "report.html"  # of the files that a sweep leaves in its folder


class Cell(NamedTuple):
    """One run of a sweep. settings: the options that it has and others don't, by name, as they were typed."""

    settings: Mapping[str, str]
    experiment: Experiment


def run_sweep(wanted: Sequence[Cell], folder: Path) -> None:
    """Run the experiments, each in its directory, or what is left of them; print their table, and leave it in `folder`.

    Finished runs are left as they are, and what fails doesn't keep the others from running.

    Raises:
        OptionError: if two of them would have the same directory.
        RunError: at the end, if some failed, with what was wrong.
    """
    outs = [cell.experiment.out for cell in wanted]
    if len(set(outs)) < len(outs):
        raise OptionError("Two runs of the sweep would be the same. Give every seed and every value once.")
    failed: list[str] = []
    done: list[Cell] = []
    kept: dict[str, Any] = {}
    for number, cell in enumerate(wanted, start=1):
        note(f"Run {number} of {len(wanted)}: {_said(cell.settings)}")
        try:
            loaded = load_method(cell.experiment, kept=kept)
            if is_finished(cell.experiment, loaded):
                note(f"{cell.experiment.out} is finished already.")
            else:
                run_experiment(cell.experiment, loaded)
        except DDJaxError as error:
            note(f"Failed: {error}")
            failed.append(f"{_said(cell.settings)}: {error}")
        else:
            done.append(cell)
    if done:
        _leave(done, folder)
    if failed:
        raise RunError(f"{len(failed)} of {len(wanted)} runs failed:\n" + "\n".join(f"  {line}" for line in failed))


def _said(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _leave(done: Sequence[Cell], folder: Path) -> None:
    """The table of the runs as json and csv, and a page on them; and the table once more on stdout."""
    places = [str(cell.experiment.out) for cell in done]
    records = [read_run(place) for place in places]
    groups = distillations(records)
    runs = [_line(cell, record) for cell, record in zip(done, records, strict=True)]
    settings = [_line_of_group(done, group) for group in groups]
    page = folder / PAGE

    def write() -> None:
        with disk_errors("save the table of the runs", folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / SWEEP, {"runs": runs, "settings": settings})
            write_bytes((folder / SWEEP).with_suffix(".csv"), _as_csv(runs).encode())
        write_report(places if len(places) > 1 else places[0], page)

    on_first(write)
    swept = [name for name in done[0].settings if name != "seed"]
    rows = [(*(done[group.members[0]].settings[name] for name in swept), *cells(group)) for group in groups]
    table(f"{len(done)} runs ({results_are()}; mean ± standard deviation)", (*swept, *HEAD), rows)
    note(f"{BOTH_BASELINES} {OF_BASELINES}")
    note(f"The table is in {folder / SWEEP} and .csv, the runs side by side in {page}")


def _line(cell: Cell, record: RunRecord) -> dict[str, Any]:
    """A run as a line of the table."""
    row, best, near = own(record), rivals(record)[:1], neighbours(record)
    found = None if row is None else result(record, row)
    return {
        **cell.settings,
        "seed": cell.experiment.seed,
        "mean": None if found is None else found.mean,
        "std": None if found is None else found.std,
        "n": None if found is None else found.n,
        "mean_of_classes": None if row is None else balanced(record, row),
        "validation": None if record.best is None else record.best["validation"],
        "best_baseline": best[0].name if best else None,
        "best_baseline_mean": result(record, best[0]).mean if best else None,
        "best_neighbours": None if near is None else near.name,
        "best_neighbours_mean": None if near is None else near.accuracy.mean,
        "seconds": record.seconds,
        "out": cell.experiment.out,
    }


def _line_of_group(done: Sequence[Cell], group: Distillations) -> dict[str, Any]:
    shared = {name: value for name, value in done[group.members[0]].settings.items() if name != "seed"}
    return {
        **shared,
        "seeds": group.seeds,
        "mean": group.result.mean,
        "std_over_distillations": group.result.std,
        "distillations": group.result.n,
        "std_over_networks": group.networks,
        "std_of_distillations_alone": group.between,
        "mean_of_classes": None if group.balanced is None else group.balanced.mean,
        "validation_mean": None if group.validation is None else group.validation.mean,
        "validation_std": None if group.validation is None else group.validation.std,
        "best_baseline": None if group.rival is None else group.rival[0],
        "best_baseline_mean": None if group.rival is None else group.rival[1].mean,
        "best_baseline_std": None if group.rival is None else group.rival[1].std,
        "best_baseline_n": None if group.rival is None else group.rival[1].n,
        "best_neighbours": None if group.neighbours is None else group.neighbours[0],
        "best_neighbours_mean": None if group.neighbours is None else group.neighbours[1].mean,
        "best_neighbours_std": None if group.neighbours is None else group.neighbours[1].std,
        "best_neighbours_n": None if group.neighbours is None else group.neighbours[1].n,
    }


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
