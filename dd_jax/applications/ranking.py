"""How alike two rankings are: Spearman's and Kendall's coefficients with bootstrap intervals."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from dd_jax.errors import OptionError

Values: TypeAlias = Float[np.ndarray, "*samples items"]
Coefficient: TypeAlias = Callable[[Values, Values], Float[np.ndarray, "*samples"]]

NUM_RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A number with the ends of its bootstrap interval; NaN where it isn't defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def spearman(x: Values, y: Values) -> Float[np.ndarray, "*samples"]:
    """Spearman's rho: the correlation of the ranks, where equal values share the mean of theirs.

    NaN where all values of one side are equal, as there is no ranking.

    Args:
        x, y: (..., items); the result has the leading axes.
    """
    from scipy.stats import rankdata

    a, b = (rankdata(values, axis=-1) for values in (x, y))
    a, b = (ranks - ranks.mean(-1, keepdims=True) for ranks in (a, b))
    return _ratio((a * b).sum(-1), (a * a).sum(-1), (b * b).sum(-1))


def kendall(x: Values, y: Values) -> Float[np.ndarray, "*samples"]:
    """Kendall's tau-b: pairs that both rank alike less those that they don't, by the pairs that aren't equal in either.

    NaN where all values of one side are equal.

    Args:
        x, y: (..., items); the result has the leading axes.
    """
    if np.ndim(x) > 1:  # one after another: all pairs of all of them would be too many
        return np.array([kendall(*both) for both in zip(x, y, strict=True)])
    a, b = (np.sign(values[:, None] - values[None]) for values in (np.asarray(x), np.asarray(y)))
    return _ratio((a * b).sum(), (a * a).sum(), (b * b).sum())


COEFFICIENTS: Mapping[str, Coefficient] = {"spearman": spearman, "kendall": kendall}


def correlation(
    coefficient: Coefficient, x: Values, y: Values, samples: Int[np.ndarray, "resamples items"]
) -> Interval:
    """A coefficient of all the items, with the percentiles of the same over samples of them.

    Args:
        samples: indices of items, as `resampled` draws them.
    """
    return _interval(coefficient(x, y), coefficient(x[samples], y[samples]))


def difference(
    coefficient: Coefficient, x: Values, other: Values, y: Values, samples: Int[np.ndarray, "resamples items"]
) -> Interval:
    """How much better `x` ranks `y` than `other` does, over the same samples for both."""
    truth = y[samples]
    found = coefficient(x[samples], truth) - coefficient(other[samples], truth)
    return _interval(coefficient(x, y) - coefficient(other, y), found)


def resampled(count: int, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Int[np.ndarray, "resamples items"]:
    """Samples of as many of `count` items, with replacement.

    Raises:
        OptionError: for fewer than three items, of which no interval can be told.
    """
    if count < 3:
        raise OptionError(f"A ranking needs at least 3 candidates that were trained on real data, but found {count}.")
    return np.random.default_rng((seed, count)).integers(0, count, (num_resamples, count))


def _interval(value: Any, found: Float[np.ndarray, " resamples"]) -> Interval:
    found = found[np.isfinite(found)]  # of a sample with one item over and over there is none
    if not len(found):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))


def _ratio(together: Any, first: Any, second: Any) -> Float[np.ndarray, "*samples"]:
    scale = np.sqrt(first * second)
    return np.where(scale > 0, together / np.where(scale > 0, scale, 1.0), np.nan)
