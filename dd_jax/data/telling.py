"""How reading data tells what it left out, converted or guessed."""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from dd_jax.errors import DataWarning

NUM_LISTED = 5  # names that a message lists before it says "..."

_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def tell(message: str) -> None:
    """Warn with a `DataWarning`, at the line outside of the library that called it."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, DataWarning, stacklevel=depth)


def listed(names: Sequence[object]) -> str:
    """The first few names, and "..." for more."""
    return ", ".join(map(str, names[:NUM_LISTED])) + (", ..." if len(names) > NUM_LISTED else "")


def remarks_as_notes(remarks: Mapping[str, Sequence[str]], count: int) -> tuple[str, ...]:
    """One sentence for each remark that was made on some of `count` images, with the place of the first of them."""
    return tuple(
        f"{len(places)} of {count} images {remark}, such as {places[0]}." for remark, places in remarks.items()
    )
