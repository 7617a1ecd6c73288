"""What a study of privacy found, and what it says in words."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dd_jax.applications.membership import RATES, Leak
from dd_jax.applications.ranking import Interval
from dd_jax.outcomes.spread import Spread, percent, spread_of

DISTILLED, RANDOM, SUBSET, ALL = "distilled", "random real", "random subset", "all members"
NEAR = 0.5  # of the distance between real images, below which a distilled one is near to being a copy


class Way(NamedTuple):
    """What networks were trained on in every world.

    Attributes:
        size: images.
        accuracies: on test, of each world.
        leaks: by adversary.
    """

    name: str
    size: int
    accuracies: tuple[float, ...]
    leaks: Mapping[str, Leak]

    @property
    def accuracy(self) -> Spread:
        """Over the worlds."""
        return spread_of(self.accuracies)


class Copies(NamedTuple):
    """Distilled images and the candidates nearest to them, in all worlds.

    Attributes:
        inside: share of the distilled images whose nearest candidate is a member; half by chance.
        distances: of all, sorted, over the median distance of a candidate from the one nearest to it; 0 is a copy.
    """

    inside: Interval
    distances: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Privacy:
    """A study of privacy: the ways, and the copies."""

    dataset: str
    model: str
    num_worlds: int
    num_candidates: int
    ways: tuple[Way, ...]
    copies: Copies

    def way(self, name: str) -> Way:
        """A way by its name."""
        return next(way for way in self.ways if way.name == name)

    def sentences(self) -> list[str]:
        """What leaks, beside the same from real images; and whether sets hold copies."""
        said = []
        ours, random, full = (self.way(name) for name in (DISTILLED, RANDOM, ALL))
        for adversary in ours.leaks:
            auc, other, most = (way.leaks[adversary].auc for way in (ours, random, full))
            said.append(
                f"By {adversary}, networks trained on {ours.size} distilled images give members away with an AUC of "
                f"{auc}: {_leaks(auc)}. From as many random real images it is {other}, from all members {most}."
            )
        said.append(
            f"They reach {percent(ours.accuracy)} on test, those of as many random real images "
            f"{percent(random.accuracy)}, of all members {percent(full.accuracy)}."
        )
        distances, inside = np.asarray(self.copies.distances), self.copies.inside
        near = int((distances < NEAR).sum())
        says = _leaks(inside)
        said.append(
            f"The real image nearest to a distilled one is a member in {100 * inside.value:.0f} % of all cases "
            f"({100 * inside.low:.0f} to {100 * inside.high:.0f} %; half by chance): {says}. {near} of "
            f"{len(distances)} are nearer to a real image than {NEAR} times what real ones are apart."
        )
        return said


def _leaks(found: Interval) -> str:
    if found.low > 0.5:
        return "more than by chance"
    return "less than by chance" if found.high < 0.5 else "that is no more than chance gives"


def cells(found: Leak) -> tuple[str, ...]:
    """AUC, and true positives in per cent at each rate of false ones."""
    rates = (f"{100 * r.value:.1f} % [{100 * r.low:.1f}, {100 * r.high:.1f}]" for r in found.rates)
    return str(found.auc), *rates


HEAD = ("trained on", "images", "test accuracy", "adversary", "AUC", *(f"TPR at {100 * r:g} % FPR" for r in RATES))


def lines_of(found: Privacy) -> list[tuple[str, ...]]:
    """The table of a study, under `HEAD`."""
    return [
        (way.name, f"{way.size:,}", percent(way.accuracy), adversary, *cells(one))
        for way in found.ways
        for adversary, one in way.leaks.items()
    ]
