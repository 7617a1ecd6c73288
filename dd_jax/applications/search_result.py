"""What an architecture search has found: rankings, the best candidates, and what they cost."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dd_jax.applications.ranking import COEFFICIENTS, Interval, correlation, difference, resampled, spearman
from dd_jax.outcomes.spread import Spread, percent, spread_of

FULL, RANDOM, EARLY = "real data in full", "random real", "early stopping"

_ORDERS = 1000  # in which random search is thought to go through the candidates


class Taken(NamedTuple):
    """What the candidates (C) have reached with their networks (S) in one way; NaN of those that were not trained.

    Attributes:
        validation, test: (C, S) accuracies, NaN where they weren't measured.
        seconds: (C,) of training and measuring, without compiling.
        compiling: (C,) seconds spent compiling for a candidate.
    """

    validation: Float[np.ndarray, "candidates nets"]
    test: Float[np.ndarray, "candidates nets"]
    seconds: Float[np.ndarray, " candidates"]
    compiling: Float[np.ndarray, " candidates"]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """How a way of training ranks the candidates, and what choosing by it finds.

    Attributes:
        accuracies: (C,) mean on validation of the networks of each candidate.
        coefficients: Spearman's and Kendall's, with the accuracies after training on real data in full, on test.
        beyond_random: by how much Spearman's is above that of random real images, over the same resamples.
        best: the number of the candidate that is best on validation.
        found: its accuracy on test after training on real data in full.
        seconds: for all candidates, without compiling.
        compiling: seconds spent compiling.
        num_bytes: of a distilled set.
    """

    name: str
    accuracies: Float[np.ndarray, " candidates"]
    coefficients: Mapping[str, Interval]
    beyond_random: Interval | None
    best: int
    found: Spread
    seconds: float
    compiling: float
    num_bytes: int | None = None


class RandomSearch(NamedTuple):
    """Candidates at random, trained on real data in full for as long as a search took: the best one on validation.

    Attributes:
        beside: the set whose search it is compared with, and whether the time includes distilling it.
        num_trainings: candidates that there is time for.
        found: accuracy on test, over orders at random.
    """

    beside: str
    with_distilling: bool
    num_trainings: int
    found: Spread


@dataclasses.dataclass(frozen=True)
class Search:
    """The outcome of `search_architectures`.

    Attributes:
        names, num_params: of the candidates.
        full: what they reach on real data in full.
        rankings: of the distilled sets first, then of what is beside them.
        sets: names of the distilled sets.
        agreement: Spearman's coefficient of two halves of the networks that were trained in full; None of one network.
        random_search: at equal time.
        best: the candidate that is best on validation after training in full, and its accuracy on test.
        training: of candidates on sets, and in full, in words; empty where it isn't known.
    """

    names: tuple[str, ...]
    num_params: tuple[int, ...]
    full: Taken
    rankings: tuple[Ranking, ...]
    sets: tuple[str, ...]
    agreement: Interval | None
    random_search: tuple[RandomSearch, ...]
    best: tuple[int, Spread]
    training: str = ""

    @property
    def sampled(self) -> np.ndarray:
        """(C,) which candidates were trained in full."""
        return np.isfinite(self.full.validation).all(1)

    def ranking(self, name: str) -> Ranking:
        """The ranking of a name."""
        return next(ranking for ranking in self.rankings if ranking.name == name)

    def sentences(self) -> list[str]:
        """What it means, one sentence each."""
        count = int(self.sampled.sum())
        said = []
        for name in self.sets:
            ours = self.ranking(name)
            said.append(
                f"Trained on {name}, candidates rank as after training on real data with Spearman's rho "
                f"{ours.coefficients['spearman']} and Kendall's tau {ours.coefficients['kendall']} "
                f"({count} candidates, 95 % bootstrap intervals)."
            )
            said.append(_beside_random(ours))
        for ranking in self.rankings:
            if ranking.name == EARLY:
                rho = ranking.coefficients["spearman"]
                said.append(f"Real data for as many images as the short trainings see rank them with rho {rho}.")
        if self.agreement is not None:
            said.append(f"Two trainings on real data in full rank them alike with rho {self.agreement}.")
        best, found = self.best
        said.append(f"The best on validation after full training is {self.names[best]}: {percent(found)} on test.")
        said += [self.training] if self.training else []
        return said


def _beside_random(ours: Ranking) -> str:
    """Whether random images rank the candidates as well."""
    gain = ours.beyond_random
    if gain is None or np.isnan(gain.value):
        return f"Random real images give no ranking to hold {ours.name} against."
    if gain.low > 0:
        return f"That is more than random real images of as many bytes, by {gain}."
    if gain.high < 0:
        return f"Random real images of as many bytes rank them better than {ours.name}: the difference is {gain}."
    return f"Random real images of as many bytes rank them as well, as far as can be told: the difference is {gain}."


def summarise(
    candidates: Sequence[tuple[str, int]],
    taken: Mapping[str, Taken],
    sets: tuple[str, ...],
    num_bytes: Mapping[str, int],
    distilling_seconds: Mapping[str, float],
    seed: int = 0,
) -> Search:
    """Rankings and choices out of what the candidates have reached.

    Args:
        candidates: their names and numbers of parameters.
        taken: by way; `FULL` may be missing of some candidates, but not of those that are best in another way.
        num_bytes, distilling_seconds: of the sets, by name.
    """
    full = taken[FULL]
    sampled = np.flatnonzero(np.isfinite(full.validation).all(1))
    truth = full.test[sampled].mean(1)
    samples = resampled(len(sampled), seed)
    means = {name: way.validation.mean(1) for name, way in taken.items()}
    rankings = []
    for name, way in taken.items():
        if name == FULL:
            continue
        mine = means[name]
        beyond = None
        if RANDOM in taken and name != RANDOM:
            beyond = difference(spearman, mine[sampled], means[RANDOM][sampled], truth, samples)
        best = int(np.argmax(mine))
        coefficients = {key: correlation(of, mine[sampled], truth, samples) for key, of in COEFFICIENTS.items()}
        found, seconds = spread_of(full.test[best].tolist()), float(way.seconds.sum())
        compiling = float(way.compiling.sum())
        rankings.append(Ranking(name, mine, coefficients, beyond, best, found, seconds, compiling, num_bytes.get(name)))
    best = int(sampled[np.argmax(full.validation[sampled].mean(1))])
    return Search(
        tuple(name for name, _ in candidates),
        tuple(size for _, size in candidates),
        full,
        tuple(rankings),
        sets,
        _agreement(full.test[sampled], samples),
        tuple(_random_searches(full, sampled, rankings, sets, distilling_seconds, seed)),
        (best, spread_of(full.test[best].tolist())),
    )


def _agreement(test: Float[np.ndarray, "sampled nets"], samples: Any) -> Interval | None:
    half = test.shape[1] // 2
    return correlation(spearman, test[:, :half].mean(1), test[:, half:].mean(1), samples) if half else None


def _random_searches(
    full: Taken,
    sampled: np.ndarray,
    rankings: Sequence[Ranking],
    sets: Sequence[str],
    distilling_seconds: Mapping[str, float],
    seed: int,
) -> list[RandomSearch]:
    each = float(full.seconds[sampled].mean())
    found = []
    for ranking in rankings:
        if ranking.name not in sets:
            continue
        times = [(False, ranking.seconds)]
        if ranking.name in distilling_seconds:
            times.append((True, ranking.seconds + distilling_seconds[ranking.name]))
        for with_distilling, seconds in times:
            count = int(np.clip(seconds // each, 1, len(sampled)))
            spread = at_random(full.validation[sampled].mean(1), full.test[sampled].mean(1), count, seed)
            found.append(RandomSearch(ranking.name, with_distilling, count, spread))
    return found


def at_random(
    validation: Float[np.ndarray, " items"], test: Float[np.ndarray, " items"], count: int, seed: int = 0
) -> Spread:
    """Test accuracy of the best on validation of `count` items at random, over many draws."""
    generator = np.random.default_rng((seed, count, 3))
    draws = [generator.choice(len(test), count, replace=False) for _ in range(_ORDERS)]
    return spread_of([float(test[mine[np.argmax(validation[mine])]]) for mine in draws])
