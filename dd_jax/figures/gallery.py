"""Distilled sets of one dataset, one below another: what each method makes of the same classes."""

from collections.abc import Mapping
from typing import Any

from dd_jax.errors import OptionError
from dd_jax.figures.sheet import draw_rows, sheet_of
from dd_jax.types import DistilledData


def gallery_figure(sets: Mapping[str, DistilledData], title: str) -> Any:
    """One row for each set, with its first image of every class, and the name of the set beside it.

    The contrast of every image is stretched on its own, as on the sheet of a run.

    Args:
        sets: distilled sets of the same classes, by the names that stand beside them.
        title: text above the rows.

    Raises:
        OptionError: if there is no set, or the classes of two sets differ.
    """
    if not sets:
        raise OptionError("A gallery needs at least one distilled set, but got none.")
    sheets = {name: sheet_of(distilled, max_rows=1) for name, distilled in sets.items()}
    first, *others = sheets
    for name in others:
        if sheets[name].names != sheets[first].names:
            raise OptionError(
                f"All sets of a gallery should have the same classes, but {name} has "
                f"{', '.join(sheets[name].names)} and {first} has "
                f"{', '.join(sheets[first].names)}. Make two galleries."
            )
    rows = [sheet.rows[0].images for sheet in sheets.values()]
    return draw_rows(rows, sheets[first].names, list(sheets), title)
