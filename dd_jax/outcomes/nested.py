"""Accuracies on two levels, networks within distillations: how much either adds, and whether two methods differ."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dd_jax.errors import OptionError
from dd_jax.outcomes.spread import NO_BREAK, Spread, spread_of

Levels: TypeAlias = Any  # accuracies as fractions: a sequence or an array (networks,) for each distillation

RESAMPLES = 10_000
CONFIDENCE = 0.95
ROUNDING = 1e-6  # that a mean in float32 may be above 1


class Nested(NamedTuple):
    """Accuracies of networks that were trained on the sets of several distillations, as fractions.

    Attributes:
        result: over the distillations, of the mean over the networks of each.
        networks: standard deviation over the networks of a distillation, the mean of all distillations.
        between: the part of the deviation of `result` that is left without what so few networks give by chance, see
            `spread_between`; None of a single distillation.
        num_nets: the fewest of a distillation.
    """

    result: Spread
    networks: float
    between: float | None
    num_nets: int


class Comparison(NamedTuple):
    """Two methods, over distillations and networks.

    Attributes:
        ours, theirs: what they reach.
        difference: of the means, ours less theirs, as a fraction.
        low, high: where it lies, with that confidence.
        paired: whether distillations were compared one by one.
        confidence: as a fraction.
        same_networks: whether networks were, too.
        by: what made the pairs, a part of a sentence.
        differ: what the methods differ in besides themselves and should have in common, a part of a sentence each.
    """

    ours: Nested
    theirs: Nested
    difference: float
    low: float
    high: float
    paired: bool
    confidence: float
    same_networks: bool = False
    by: str = "in the order given"
    differ: tuple[str, ...] = ()

    @property
    def real(self) -> bool:
        """Whether the interval is all on one side of 0."""
        return self.low > 0 or self.high < 0

    @property
    def over_distillations(self) -> bool:
        """Whether there are several of each, so that the interval holds for another distillation too."""
        return min(self.ours.result.n, self.theirs.result.n) > 1

    def sentence(self, ours: str = "the first", theirs: str = "the second") -> str:
        """What the comparison says, of methods with these names."""
        text = (
            f"{ours} less {theirs}: {100 * self.difference:+.1f} points, from {100 * self.low:+.1f} to "
            f"{100 * self.high:+.1f} with {100 * self.confidence:g}{NO_BREAK}% confidence "
            f"({self._over(ours, theirs)}). {self._verdict(ours, theirs)}"
        )
        return f"{text} They differ in: {'; '.join(self.differ)}." if self.differ else text

    def _over(self, ours: str, theirs: str) -> str:
        """What the interval is over."""
        counts = (self.ours.result.n, self.theirs.result.n)
        if counts == (1, 1):
            return "the networks of one distillation of each" + (f", paired {self.by}" if self.paired else "")
        if counts[0] != counts[1]:
            return " and ".join(
                f"{count} distillations of {name}" if count > 1 else f"the networks of the only distillation of {name}"
                for count, name in zip(counts, (ours, theirs), strict=True)
            )
        pairs = f", paired {self.by}" + ("" if self.same_networks else " but not network by network")
        return f"{counts[0]} distillations of each{pairs if self.paired else ''}"

    def _verdict(self, ours: str, theirs: str) -> str:
        """Whether they differ, and of what that holds."""
        counts = (self.ours.result.n, self.theirs.result.n)
        if counts == (1, 1):
            over = "Over networks this is" if self.real else "Not even over networks is this known to be"
            return f"{over} a difference; another distillation may give another one."
        if self.over_distillations:
            return "That is a difference." if self.real else "Whether they differ can't be told."
        single = ours if counts[0] == 1 else theirs
        found = "That is a difference" if self.real else "Whether that is a difference can't be told"
        return (
            f"{found}. It is about one distillation of {single}: nothing can be said about another one. "
            f"Distil {single} with several seeds."
        )


def nested(values: Levels) -> Nested:
    """Means and variances of the accuracies of networks, a sequence for each distillation.

    Raises:
        OptionError: for no distillation, one without a network, or accuracies that are no fractions.
    """
    arrays = _arrays(values)
    means = np.array([array.mean() for array in arrays])
    spread = float(np.mean([array.std() for array in arrays]))
    return Nested(spread_of(means.tolist()), spread, spread_between(arrays), min(map(len, arrays)))


def spread_between(values: Levels) -> float | None:
    """The deviation that D distillations have besides what so few networks give by chance, at most that of their means.

    sqrt(var(means) - (D - 1) / D * share), where var divides by D, as every deviation that is printed, and share is the
    part of networks in the unbiased variance of the means. Of n networks each it is MS / n, where MS is the mean square
    of what remains in a two-way table without the effects of its distillations and its networks: networks of the same
    number often have the same initial weights in all distillations, and what these add to every mean is no difference
    between the means. Of networks that have nothing in common MS has the same expectation. Where distillations have
    unequal numbers of networks, share is the mean of var / n. Of one network each the share is unknown and none is
    taken off.

    Args:
        values: accuracies as fractions, a sequence of networks for each distillation.

    Returns:
        A fraction; 0 where the difference is negative, None of a single distillation.

    Source: Searle, Casella & McCulloch 1992, *Variance Components*, chapter 4 (two-way crossed, balanced).
    """
    arrays = [np.asarray(one, float).ravel() for one in values]
    count = len(arrays)
    if count < 2:
        return None
    means = np.array([array.mean() for array in arrays])
    share = (count - 1) / count * _share_of_networks(arrays)
    return math.sqrt(max(0.0, float(means.var()) - share))


def _share_of_networks(arrays: Sequence[np.ndarray]) -> float:
    """What chance among networks adds to the unbiased variance of the means of distillations."""
    if len({len(array) for array in arrays}) > 1:
        return float(np.mean([array.var(ddof=1) / len(array) if len(array) > 1 else 0.0 for array in arrays]))
    table = np.stack(arrays)
    count, num_nets = table.shape
    if num_nets < 2:
        return 0.0
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    return float((rest**2).sum()) / ((count - 1) * (num_nets - 1)) / num_nets


def compare_values(
    ours: Levels,
    theirs: Levels,
    *,
    paired: bool | None = None,
    same_networks: bool | None = None,
    confidence: float = CONFIDENCE,
    num_resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Whether two methods differ: a bootstrap over distillations and, within them, over networks.

    Distillations are drawn with replacement and, of each, networks. Of few distillations a bootstrap gives too narrow
    an interval: deviations are enlarged by sqrt(D / (D - 1)) and by Student's t with D - 1 degrees of freedom over the
    normal quantile. Of one distillation each only networks are drawn.

    Args:
        ours, theirs: accuracies as fractions, a sequence of networks for each distillation.
        paired: whether distillation d of both has the same seed, so that the difference of each is drawn; None where
            there are as many distillations of both.
        same_networks: whether network i of both is the same one before it is trained, so that their difference is drawn
            where distillations are paired; None where there are as many of each pair.
        confidence: of the interval.

    Raises:
        OptionError: for no values, values that are no fractions, pairs of unequal number, or a confidence that is none.

    Source: Davison & Hinkley 1997, *Bootstrap Methods and their Application*, section 3.8 (hierarchical data).
    """
    if not 0 < confidence < 1 or num_resamples < 1:
        raise OptionError(
            "confidence must be between 0 and 1 and num_resamples at least 1, but they are "
            f"{confidence} and {num_resamples}."
        )
    one, other = _arrays(ours), _arrays(theirs)
    paired = len(one) == len(other) if paired is None else paired
    if paired and len(one) != len(other):
        raise OptionError(f"Paired methods need as many distillations each, but have {len(one)} and {len(other)}.")
    as_many = paired and all(len(a) == len(b) for a, b in zip(one, other, strict=True))
    same_networks = as_many and same_networks is not False
    paired = paired and (same_networks or len(one) > 1)
    generator = np.random.default_rng(seed)
    gap = float(np.mean([a.mean() for a in one]) - np.mean([a.mean() for a in other]))
    if paired:
        drawn = (
            _drawn([a - b for a, b in zip(one, other, strict=True)], generator, confidence, num_resamples)
            if same_networks
            else _drawn_pairs(one, other, generator, confidence, num_resamples)
        )
    else:
        drawn = _drawn(one, generator, confidence, num_resamples) - _drawn(other, generator, confidence, num_resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    found = (nested(ours), nested(theirs), gap, float(low), float(high))
    return Comparison(*found, paired, confidence, same_networks)


def _arrays(values: Levels) -> list[np.ndarray]:
    arrays = [np.asarray(one, float).ravel() for one in values]
    if not arrays or not all(array.size and np.isfinite(array).all() for array in arrays):
        raise OptionError(
            "A method is a sequence of accuracies for each of its distillations, but some are "
            "missing or not finite. Give at least one accuracy for each."
        )
    low, high = min(array.min() for array in arrays), max(array.max() for array in arrays)
    if low < 0 or high > 1 + ROUNDING:
        raise OptionError(
            f"Accuracies should be fractions from 0 to 1, but they go from {low:g} to {high:g}. Divide those in per "
            "cent by 100."
        )
    return arrays


def _drawn(arrays: Sequence[np.ndarray], generator: np.random.Generator, confidence: float, count: int) -> np.ndarray:
    """Means (R,) of the distillations and networks that were drawn."""
    return _mean_of_drawn([_means(array, generator, count) for array in arrays], arrays, generator, confidence)


def _drawn_pairs(one, other, generator: np.random.Generator, confidence: float, count: int) -> np.ndarray:
    """The same of differences of means, where the networks of a pair are not as many."""
    gaps = [_means(a, generator, count) - _means(b, generator, count) for a, b in zip(one, other, strict=True)]
    means = [np.array([a.mean() - b.mean()]) for a, b in zip(one, other, strict=True)]
    return _mean_of_drawn(gaps, means, generator, confidence)


def _means(array: np.ndarray, generator: np.random.Generator, count: int) -> np.ndarray:
    """Means of networks drawn with replacement, (R,)."""
    return array[generator.integers(0, len(array), (count, len(array)))].mean(1)


def _mean_of_drawn(
    of_each: Sequence[np.ndarray], arrays: Sequence[np.ndarray], generator: np.random.Generator, confidence: float
) -> np.ndarray:
    """The mean over distillations drawn with replacement; their deviations enlarged where they are few."""
    count, resamples = len(of_each), len(of_each[0])
    middle = float(np.mean([array.mean() for array in arrays]))
    if count == 1:
        return middle + (of_each[0] - middle) * enlarged(len(arrays[0]), confidence)
    chosen = generator.integers(0, count, (resamples, count))
    drawn = np.stack(of_each, 1)[np.arange(resamples)[:, None], chosen].mean(1)
    return middle + (drawn - middle) * enlarged(count, confidence)


def enlarged(count: int, confidence: float) -> float:
    """What the deviations of a bootstrap over so few are multiplied by, so that its interval is wide enough."""
    from scipy.stats import norm, t

    if count < 2:
        return 1.0
    upper = (1 + confidence) / 2
    return math.sqrt(count / (count - 1)) * float(t.ppf(upper, count - 1) / norm.ppf(upper))
