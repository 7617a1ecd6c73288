"""What came out of a run: sections of its report, each a card, or None where the run has nothing to say on it."""

import math
from collections.abc import Sequence

import numpy as np

from dd_jax.evaluation.result import MEAN_OF_CLASSES
from dd_jax.outcomes import Column
from dd_jax.outcomes.spread import percent, sample
from dd_jax.runs.report import charts, pictures
from dd_jax.runs.report.amounts import count, fraction, lasting
from dd_jax.runs.report.layout import Place, card, note
from dd_jax.runs.report.markup import Markup, element, join, scroll, table
from dd_jax.runs.report.record import DISTILLED, Measured, RunRecord
from dd_jax.runs.report.words import balanced, neighbours, outcome, own, rivals

MAX_CELLS = 12  # classes of a confusion matrix that is shown as numbers

_CONFUSIONS = 5  # that are listed
_FEW = 5  # classes whose names have room beside each other
_SHORT = 3  # letters of a class name that fits above a column
_SMALLEST = 0.005  # share of a row that is written down


def tiles(record: RunRecord) -> Markup:
    """The key numbers of a run."""
    found, asked = own(record), record.num_outer_steps
    shown: list[tuple[str, str, str]] = []
    if found is not None:
        shown += [
            (column.tile.format(split=found.split), percent(found.measures[column.key]), sample(found.accuracy))
            for column in outcome(record).columns
        ]
        if (mean := balanced(record, found)) is not None:
            shown.append((MEAN_OF_CLASSES, fraction(mean), "each class counts the same"))
        best = rivals(record)[:1] if outcome(record).truthful else []
        shown += [("best baseline", percent(row.accuracy), row.name) for row in best]
        if outcome(record).truthful and (near := neighbours(record)) is not None:
            shown.append(("without a network", percent(near.accuracy), near.name))
    elif record.best is not None:
        shown.append(("on validation", fraction(record.best["validation"]), f"outer step {record.best['step']:,}"))
    if record.num_images is not None:
        shown.append((f"distilled {record.unit}s", f"{record.num_images:,}", _per_class(record, record.num_images)))
    if record.num_inner_steps is not None:
        epochs = None if record.from_scratch else record.setting("method", "num_epochs")
        shown.append(("gradient steps", f"{record.num_inner_steps:,}", count(epochs, "epoch") if epochs else ""))
    outer = f"{record.steps_done:,} outer steps" if asked is None else f"{record.steps_done:,} of {asked:,} outer steps"
    shown.append(("distilling took", lasting(record.seconds), outer))
    return element(
        "dl",
        *(
            element("div", element("dt", k), element("dd", v, element("small", more) if more else None))
            for k, v, more in shown
        ),
        class_="tiles",
    )


def _per_class(record: RunRecord, total: int) -> str:
    """How many images the classes have."""
    if record.distilled is None:
        return f"{total / max(1, len(record.class_names)):g} of each class"
    counts = pictures.counts_of_classes(record.distilled)
    least, most = min(counts), max(counts)
    return f"{most:,} of each class" if least == most else f"{least:,} to {most:,} of a class"


def images(record: RunRecord, place: Place) -> Markup | None:
    """The distilled images."""
    if record.distilled is None:
        return card(place, "Distilled images", note("There is no distilled set in this directory."), class_="wide")
    shown, class_ = pictures.images(record.distilled, 1 / place.runs), "wide"
    if pictures.is_narrow(record.distilled):
        class_ = "tall" if pictures.is_tall(record.distilled) else ""
    return card(place, f"Distilled {record.unit}s", shown, class_=class_)


def evolution(record: RunRecord, place: Place) -> Markup | None:
    """How the images became what they are."""
    if not record.frames:
        return None
    return card(
        place,
        f"How the {record.unit}s evolved",
        pictures.evolution(record.frames, record.distilled),
        class_="wide" if pictures.is_broad(record.frames) else "",
    )


def baselines(record: RunRecord, place: Place) -> Markup | None:
    """The set beside everything that it must beat."""
    found = own(record)
    if found is None:
        return None
    rows = list(record.rows.values())
    columns = outcome(record).columns
    drawn = _charts(record, place, columns)
    also = [MEAN_OF_CLASSES] if balanced(record, found) is not None else []
    lines = [
        (
            _strong(row, row.name),
            *(_strong(row, _cell(row, column)) for column in columns),
            *(_strong(row, _mean_of_classes(record, row)) for _ in also),
            f"{row.accuracy.n:,}",
            row.chosen or "–",
        )
        for row in rows
    ]
    heads = (column.head for column in columns)
    numbers = table(("training set", *heads, *also, "n", "chosen on validation"), lines, "Results", "results")
    says = (
        f"On {found.split}, mean ± standard deviation over n networks (for nearest neighbours: over sets). Filled: a "
        f"network trained on as many {record.unit}s for as many steps, by the same protocol. Outlined: something else."
    )
    if also:
        says += (
            f" {also[0].capitalize()}: each counts the same, as {found.split} has more images of some than of others."
        )
    return card(
        place, "Beside every baseline", element("div", drawn, numbers, class_="pair"), note(says), class_="wide"
    )


def _strong(row: Measured, cell: str) -> str:
    return element("strong", cell) if row.name == DISTILLED else cell


def _charts(record: RunRecord, place: Place, columns: Sequence[Column]) -> Markup:
    """A chart of each column, with a title where there are several."""
    drawn = [charts.measured(record, f"{place.prefix}-{column.key}", column) for column in columns]
    if len(drawn) == 1:
        return drawn[0]
    titles = [element(f"h{place.level + 1}", column.title) for column in columns]
    return element("div", *(element("div", *both) for both in zip(titles, drawn, strict=True)))


def _cell(row: Measured, column: Column) -> str:
    return percent(row.measures[column.key]) if column.key in row.measures else "–"


def _mean_of_classes(record: RunRecord, row: Measured) -> str:
    mean = balanced(record, row)
    return "–" if mean is None else fraction(mean)


def classes(record: RunRecord, place: Place) -> Markup | None:
    """Accuracy on each class."""
    found = own(record)
    if found is None or not len(found.per_class):
        return None
    rows = [found, *(row for row in rivals(record)[:1] if len(row.per_class) == len(found.per_class))]
    order = np.argsort(np.nan_to_num(found.per_class, nan=np.inf), kind="stable")
    shown = sorted(order[: charts.MAX_CLASSES].tolist())
    drawn = charts.classes(record, rows, shown, f"{place.prefix}-classes")
    says = f"The {len(shown)} of {len(order)} classes with the lowest accuracy." if len(shown) < len(order) else None
    lines = [(record.class_names[c], *(fraction(row.per_class[c]) for row in rows)) for c in range(len(order))]
    numbers = table(("class", *(row.name for row in rows)), lines, "Accuracy on each class", "results")
    details = element("details", element("summary", "The numbers"), numbers)
    return card(place, "Accuracy on each class", drawn, note(says) if says else None, details)


def confusion(record: RunRecord, place: Place) -> Markup | None:
    """What is taken for what."""
    found = own(record)
    if found is None or found.confusion is None:
        return None
    matrix, names = found.confusion, record.class_names
    if len(matrix) <= MAX_CELLS:
        drawn = _confusion_table(matrix, names)
        says = "Rows: the true class; columns: the answer; per cent of the row, less than a half left blank."
    else:
        drawn = charts.confusion(matrix, f"{place.prefix}-confusion")
        says = "Rows: the true class; columns: the answer; the stronger the colour, the more of the row."
    off = np.where(np.eye(len(matrix), dtype=bool), -1.0, np.nan_to_num(matrix))
    worst = [divmod(int(i), len(matrix)) for i in np.argsort(-off, axis=None, kind="stable")[:_CONFUSIONS]]
    listed = [
        element("li", f"{names[row]} taken for {names[column]}: {fraction(matrix[row, column])}")
        for row, column in worst
        if off[row, column] > 0
    ]
    frequent = join([element("p", "Most frequent:"), element("ul", *listed, class_="plain")]) if listed else None
    return card(place, "What is taken for what", drawn, note(says), frequent)


def _confusion_table(matrix: np.ndarray, names: Sequence[str]) -> Markup:
    head = element("tr", element("th", "true"), *(element("th", name, scope="col") for name in names))
    lines = [
        element("tr", element("th", name, scope="row"), *map(_share, row))
        for name, row in zip(names, matrix, strict=True)
    ]
    long, few = max(map(len, names)) > _SHORT, len(names) <= _FEW
    style = f"--columns:{len(names)};--first:{'6rem' if long else '2.2rem'};--cell:{'4.5rem' if few else '2.2rem'}"
    class_ = "confusion upright" if long and not few else "confusion"
    inside = element("table", element("thead", head), element("tbody", *lines), class_=class_, style=style)
    return scroll(inside, "Confusion matrix")


def _share(value: float) -> Markup:
    """A cell that is the fuller the larger the share; a square root, or small ones could not be seen."""
    fill = math.sqrt(min(1.0, max(0.0, value))) if math.isfinite(value) else 0.0
    shown = f"{100 * value:.0f}" if value >= _SMALLEST else ""
    return element("td", shown, style=f"--fill:{fill:.2f}")
