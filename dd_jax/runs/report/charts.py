"""The charts of a report, as SVG."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dd_jax.figures.charts import (
    FONT,
    WIDTH,
    Bar,
    Series,
    bars_figure,
    dots_figure,
    heat_figure,
    lines_figure,
)
from dd_jax.figures.encode import svg
from dd_jax.figures.plots import COLOURS, FAINT, GRID, INK, steps_figure
from dd_jax.outcomes import Column
from dd_jax.outcomes.spread import percent
from dd_jax.runs.report.amounts import fraction
from dd_jax.runs.report.markup import Markup, element, printable, text
from dd_jax.runs.report.record import DISTILLED, Measured, RunRecord
from dd_jax.runs.report.words import is_rival, own, result, rivals

MAX_CLASSES = 20  # that a chart has a row for

_STYLED = {
    INK: "currentColor",
    FAINT: "var(--mark)",
    GRID: "var(--grid)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(COLOURS) if colour != INK},
}
_LOG_RANGE = 20.0  # between the smallest and the largest loss: from there on they are drawn logarithmically


def validation(records: Sequence[RunRecord], names: Sequence[str], name: str) -> Markup:
    """Accuracy on validation against the outer step; of one run with its best validation and its best baseline."""
    series = [_validation_series(record, title) for record, title in zip(records, names, strict=True)]
    (first, *more) = records
    marks, level, events = [], None, []
    if not more:
        assert first.best is not None
        marks = [(first.best["step"], first.best["validation"])]
        events = [row["step"] for row in first.events]
        if first.outcome.truthful and rivals(first):
            level = (f"{rivals(first)[0].name}, on test", rivals(first)[0].accuracy.mean)
    ends = "; ".join(
        f"{title or 'best'} {fraction(r.best['validation'])}" for r, title in zip(records, names, strict=True) if r.best
    )
    drawn = lines_figure(series, "outer step", level=level, marks=marks, events=events)
    return _svg(drawn, name, f"Line chart: accuracy on validation against the outer step; {ends}.")


def loss(records: Sequence[RunRecord], names: Sequence[str], name: str) -> Markup:
    """The outer loss against the outer step."""
    series, values = [], []
    for record, title in zip(records, names, strict=True):
        rows = record.losses
        series.append(Series(title, [row["step"] for row in rows], [row["loss"] for row in rows]))
        values += [row["loss"] for row in rows]
    log = min(values) > 0 and max(values) > _LOG_RANGE * min(values)
    events = [row["step"] for row in records[0].events] if len(records) == 1 else []
    drawn = lines_figure(series, "outer step", per_cent=False, log=log, events=events)
    return _svg(
        drawn, name, f"Line chart: outer loss against the outer step, from {values[0]:.3g} to {values[-1]:.3g}."
    )


def measured(record: RunRecord, name: str, column: Column) -> Markup:
    """A bar for each row of the results that has a measure."""
    found = [(row, row.measures[column.key]) for row in record.rows.values() if column.key in row.measures]
    bars = [Bar(_beneath(row.name), spread.mean, spread.std, _kind(row), percent(spread)) for row, spread in found]
    return _svg(bars_figure(bars), name, column.chart)


def runs(records: Sequence[RunRecord], names: Sequence[str], name: str) -> Markup:
    """A bar for each run that was measured."""
    bars = []
    for record, title in zip(records, names, strict=True):
        if (found := own(record)) is not None:
            spread = result(record, found)
            bars.append(Bar(title, spread.mean, spread.std, "ours", percent(spread)))
    return _svg(bars_figure(bars), name, "Bar chart of the runs; the numbers are in the table.")


def inner(rows: Sequence[Measured], name: str) -> Markup:
    """Accuracy against the inner step, of the rows that have a curve."""
    titles = [row.name for row in rows] if len(rows) > 1 else [""]
    series = [
        Series(title, row.curve_steps, row.curve.mean(0), row.curve.std(0) if len(row.curve) > 1 else None)
        for row, title in zip(rows, titles, strict=True)
    ]
    ends = "; ".join(
        f"{row.name} from {fraction(row.curve[:, 0].mean())} to {fraction(row.curve[:, -1].mean())}" for row in rows
    )
    return _svg(lines_figure(series, "inner step"), name, f"Line chart: accuracy against the inner step; {ends}.")


def step_sizes(record: RunRecord, name: str) -> Markup:
    """A bar for each inner step."""
    assert record.distilled is not None
    sizes = np.asarray(record.distilled.step_sizes, float)
    drawn = steps_figure(sizes, WIDTH, FONT, title="")
    return _svg(drawn, name, f"Bar chart: the size of each inner step, from {sizes.min():.3g} to {sizes.max():.3g}.")


def classes(record: RunRecord, rows: Sequence[Measured], shown: Sequence[int], name: str) -> Markup:
    """Accuracy on each of the classes `shown`, of several rows."""
    names = [record.class_names[c] for c in shown]
    series = [Series(row.name, range(len(shown)), [row.per_class[c] for c in shown]) for row in rows]
    return _svg(
        dots_figure(names, series), name, "Dot chart of the accuracy on each class; the numbers are in the table."
    )


def confusion(matrix: np.ndarray, name: str) -> Markup:
    """The confusion matrix of many classes."""
    return _svg(heat_figure(matrix), name, "Heat map of the confusion matrix; the most frequent confusions are listed.")


def chart(figure: Any, name: str, description: str) -> Markup:
    """A figure as it stands in a page; name: a word of its own there; description: for who can't see it."""
    return _svg(figure, name, description)


def _validation_series(record: RunRecord, name: str) -> Series:
    rows = record.validation
    std = [row.get("validation_std") or 0.0 for row in rows]
    return Series(name, [row["step"] for row in rows], [row["validation"] for row in rows], std)


def _beneath(name: str) -> str:
    """The name of a row that stands below that of the distilled set: "… other networks"."""
    return name.replace(f"{DISTILLED}, ", "… ", 1)


def _kind(row: Measured) -> str:
    return "ours" if row.name == DISTILLED else "rival" if is_rival(row.name) else "other"


def _svg(figure: Any, name: str, description: str) -> Markup:
    drawn = printable(svg(figure, name, _STYLED))
    return element(
        "div", Markup(drawn.replace("<svg", f'<svg role="img" aria-label="{text(description)}"', 1)), class_="chart"
    )
