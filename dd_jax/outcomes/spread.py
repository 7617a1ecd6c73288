"""Means with their standard deviations: in words, and whether two of them differ."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

NO_BREAK = "\u00a0"

ERRORS = 2.0  # standard errors that a difference must exceed to be one


class Spread(NamedTuple):
    """Mean and standard deviation of n values; fractions."""

    mean: float
    std: float
    n: int


Spreads: TypeAlias = Mapping[str, Spread]  # by the names of measures


class Difference(NamedTuple):
    """Of two mean accuracies, in points of per cent. noise: what chance alone gives, None where it isn't known."""

    points: float
    noise: float | None

    @property
    def real(self) -> bool:
        """Whether it is larger than what chance gives, as far as that is known."""
        return self.noise is None or abs(self.points) > self.noise


def spread_of(values: Sequence[float]) -> Spread:
    """Of these values."""
    array = np.asarray(values, float)
    return Spread(float(array.mean()), float(array.std()), len(array))


def read_spread(row: Mapping[str, Any]) -> Spread:
    """The spread of a row of results as a json has it."""
    return Spread(float(row["mean"]), float(row["std"]), int(row["n"]))


def spread_of_distinct(measured: Sequence[Spread]) -> Spread:
    """Over the means of measurements of which copies count once; of a single one, or copies of it, what it is over."""
    distinct = list(dict.fromkeys(measured))
    return distinct[0] if len(distinct) == 1 else spread_of([one.mean for one in distinct])


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
    return Difference(points, 100 * ERRORS * error)


def known_to(accuracy: float, images: int, networks: Spread | None = None) -> float:
    """How far an accuracy that was counted on so many images is known: twice its standard error, a fraction.

    Args:
        networks: their accuracies on these images, where the accuracy is a mean over them.
    """
    variance = max(accuracy * (1 - accuracy), 1 / images / 4) / images
    if networks is not None:
        variance += networks.std**2 / networks.n
    return ERRORS * math.sqrt(variance)


def percent(spread: Spread) -> str:
    """Mean and, of more than one, standard deviation: "93.8 ± 0.4 %", with spaces that don't break."""
    more = f" ± {100 * spread.std:.1f}" if spread.n > 1 else ""
    return f"{100 * spread.mean:.1f}{more} %".replace(" ", NO_BREAK)


def sample(spread: Spread) -> str:
    """How many: "n = 200"."""
    return f"n = {spread.n:,}".replace(" ", NO_BREAK)


def sampled(spread: Spread) -> str:
    """What "±" is, and of how many; of one value only that it is one."""
    return f"mean ± standard deviation, {sample(spread)}" if spread.n > 1 else sample(spread)
