"""The files that continual learning leaves: a page, a table of all accuracies, and the numbers as JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax.applications.continual_result import FINE_TUNING, JOINT, MEASURES, Continual, Course
from dd_jax.applications.page import page
from dd_jax.applications.records import as_csv, write_results
from dd_jax.figures.charts import Series, lines_figure, matrix_figure
from dd_jax.outcomes.spread import Spread, percent
from dd_jax.runs.report.charts import chart
from dd_jax.runs.report.layout import Place, card, note
from dd_jax.runs.report.markup import Markup, table

ACCURACIES = "accuracies.csv"

_PLACE = Place("continual", 2, 1)


def write_continual(folder: Path, found: Continual, dataset: str) -> None:
    """Write results.json, accuracies.csv and report.html into `folder`.

    Raises:
        RunError: if the disk refuses.
    """
    write_results(folder, plain_continual(found), (ACCURACIES, _csv(found)), continual_page(found, dataset))


def plain_continual(found: Continual) -> dict[str, Any]:
    """All numbers for JSON, accuracies as fractions; NaN, of tasks yet to come, as text."""
    return {
        "says": found.sentences(),
        "scenario": found.scenario,
        "orders": found.orders,
        "courses": {
            course.name: {
                **{name: course.measure(name)._asdict() for name in MEASURES},
                "bytes": list(course.num_bytes),
                "accuracies": course.accuracies,
            }
            for course in found.courses
        },
    }


def lines_of(found: Continual) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table of what is left in the end: its head, and a line for each way to remember."""
    head = ("memory", *MEASURES, "bytes in the end")
    lines = [
        (course.name, *(_points(course.measure(name), name) for name in MEASURES), _bytes(course))
        for course in found.courses
    ]
    return head, lines


def continual_page(found: Continual, dataset: str) -> str:
    """An HTML page on continual learning, whole."""
    tasks = found.courses[0].accuracies.shape[-1]
    title = f"{tasks} tasks of {dataset}, one after another"
    cards = [_table(found), _lines(found), *_matrices(found), _orders(found)]
    return page("Continual learning with dd_jax", title, found.sentences(), cards, "apply continual")


def _table(found: Continual) -> Markup:
    head, lines = lines_of(found)
    says = (
        f"Mean ± standard deviation over {len(found.orders)} orders of the classes, of the mean of "
        f"{found.courses[0].accuracies.shape[1]} networks each, on test. Average: over all tasks in the end. "
        "Incremental: mean of the averages after each task. Forgetting: how much better a task was at its best before "
        "the end. Backward transfer: how much better it is in the end than right after it."
    )
    return card(_PLACE, "In the end", table(head, lines, "Results", "results"), note(says), class_="wide")


def _lines(found: Continual) -> Markup:
    series = []
    for course in found.courses:
        after = np.nanmean(course.matrices, -1)  # (orders, T)
        tasks = range(1, after.shape[1] + 1)
        series.append(Series(course.name, tasks, after.mean(0).tolist(), after.std(0).tolist()))
    drawn = lines_figure(series, "tasks so far")
    return card(_PLACE, "Accuracy on all tasks so far", chart(drawn, "continual-lines", "Line chart; see the table."))


def _matrices(found: Continual) -> Iterator[Markup]:
    for number, course in enumerate(found.courses):
        drawn = matrix_figure(course.matrices.mean(0), "accuracy on task", "after task")
        words = f"Matrix: accuracy on each task after each task, {course.name}; the end is the last row."
        yield card(_PLACE, f"Task by task: {course.name}", chart(drawn, f"continual-{number}", words))


def _orders(found: Continual) -> Markup:
    lines = [
        (str(number), ", ".join(found.class_names[c] for c in order))
        for number, order in enumerate(found.orders, start=1)
    ]
    return card(_PLACE, "Orders of the classes", table(("order", "classes"), lines, "Orders", "results"), class_="wide")


def _points(spread: Spread, name: str) -> str:
    """Accuracies and their differences in points of per cent."""
    if name.endswith("accuracy"):
        return percent(spread)
    more = f" ± {100 * spread.std:.1f}" if spread.n > 1 else ""
    return f"{100 * spread.mean:+.1f}{more}"


def _bytes(course: Course) -> str:
    if course.name in (JOINT, FINE_TUNING):
        return f"all data ({max(course.num_bytes):,})" if course.name == JOINT else "none"
    low, high = min(course.num_bytes), max(course.num_bytes)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _csv(found: Continual) -> str:
    rows = [
        (course.name, order + 1, network + 1, after + 1, task + 1, f"{accuracy:.6f}")
        for course in found.courses
        for (order, network, after, task), accuracy in np.ndenumerate(course.accuracies)
        if task <= after
    ]
    return as_csv(("memory", "order", "network", "after task", "task", "accuracy"), rows)
