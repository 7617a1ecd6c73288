"""Numbers in words: counts, times, sizes, settings."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dd_jax.outcomes.spread import NO_BREAK
from dd_jax.runs.estimates import duration


def fraction(value: float) -> str:
    """A fraction in per cent, or a dash where there is none."""
    return f"{100 * value:.1f}{NO_BREAK}%" if math.isfinite(value) else "–"


def count(number: int, what: str, several: str | None = None) -> str:
    """A count with its noun: "1 image", "1,000 images"; several: the noun for more than one, with an s if None."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of these, spread evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, most).round().astype(int))]


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
