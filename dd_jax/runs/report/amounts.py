"""Numbers in words: accuracies, counts, times, sizes; and whether two accuracies differ."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dd_jax.runs.estimates import duration
from dd_jax.runs.report.record import Spread

NO_BREAK = "\u00a0"

_ERRORS = 2.0  # standard errors that a difference must exceed to be one


class Difference(NamedTuple):
    """Of two mean accuracies, in points of per cent. noise: what chance alone gives, None where it isn't known."""

    points: float
    noise: float | None

    @property
    def real(self) -> bool:
        """Whether it is larger than what chance gives, as far as that is known."""
        return self.noise is None or abs(self.points) > self.noise


def difference(ours: Spread, theirs: Spread) -> Difference:
    """How much more `ours` is than `theirs`; noise: twice the standard error of the difference.

    Of one against several the one is taken to scatter as they do; of one against one nothing is known.
    """
    points = 100 * (ours.mean - theirs.mean)
    variances = [spread.std**2 * spread.n / (spread.n - 1) for spread in (ours, theirs) if spread.n > 1]
    if not variances:
        return Difference(points, None)
    of_each = variances if len(variances) == 2 else 2 * variances
    error = math.sqrt(of_each[0] / ours.n + of_each[1] / theirs.n)
    return Difference(points, 100 * _ERRORS * error)


def percent(spread: Spread) -> str:
    """Mean and, of more than one, standard deviation: "93.8 ± 0.4 %", with spaces that don't break."""
    more = f" ± {100 * spread.std:.1f}" if spread.n > 1 else ""
    return f"{100 * spread.mean:.1f}{more} %".replace(" ", NO_BREAK)


def sample(spread: Spread) -> str:
    """How many: "n = 200"."""
    return f"n = {spread.n:,}".replace(" ", NO_BREAK)


def fraction(value: float) -> str:
    """A fraction in per cent, or a dash where there is none."""
    return f"{100 * value:.1f}{NO_BREAK}%" if math.isfinite(value) else "–"


def count(number: int, what: str, several: str | None = None) -> str:
    """A count with its noun: "1 image", "1,000 images"; several: the noun for more than one, with an s if None."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def lasting(seconds: float | None) -> str:
    """A duration, or a dash."""
    return "–" if seconds is None else duration(seconds)


def size(num_bytes: float | None) -> str:
    """An amount of memory, or a dash."""
    if num_bytes is None:
        return "–"
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def value(found: Any) -> str:
    """An entry of a configuration as it would be typed."""
    if found is None:
        return "–"
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, list | tuple):
        return ", ".join(map(value, found))
    return str(found)


def flat(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by dotted name, and their values as text."""
    for name, entry in entries.items():
        if isinstance(entry, Mapping):
            yield from flat(entry, f"{prefix}{name}.")
        elif isinstance(entry, list) and any(isinstance(item, list | dict) for item in entry):
            yield f"{prefix}{name}", json.dumps(entry)
        else:
            yield f"{prefix}{name}", value(entry)
