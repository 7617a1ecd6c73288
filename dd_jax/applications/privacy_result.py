"""What a study of privacy found, and what it says in words."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dd_jax.applications.membership import RATES, Leak, allowed
from dd_jax.applications.ranking import LEVEL, Interval
from dd_jax.outcomes.spread import Spread, percent, spread_of

DISTILLED, RANDOM, SUBSET, ALL = "distilled", "random real", "random subset", "all members"
NEAR = 0.5  # of the distance between real images, below which a distilled one is near to being a copy


class Way(NamedTuple):
    """What networks were trained on in every world.

    Attributes:
        size: images.
        accuracies: on test, of each world.
        leaks: by adversary.
        training: of the networks, with its epochs.
    """

    name: str
    size: int
    accuracies: tuple[float, ...]
    leaks: Mapping[str, Leak]
    training: str

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

    @property
    def unresolved(self) -> list[str]:
        """A sentence for each rate of false positives that so few non-members can't resolve."""
        one = next(iter(self.ways[0].leaks.values()))
        return [
            f"True positive rates at {100 * rate:g} % false positives can't be told: of {one.num_others:,} non-members "
            f"in all worlds that is {allowed(rate, one.num_others):g}, less than one person."
            for rate in RATES
            if not one.is_told(rate)
        ]

    @property
    def explanation(self) -> str:
        """What the numbers in the table are."""
        unlike = len({way.training for way in self.ways}) > 1
        return (
            f"{self.num_worlds} worlds, in each of which another half of {self.num_candidates:,} candidates are "
            f"members. Test accuracy: mean ± standard deviation over worlds. Brackets: {100 * LEVEL:.0f} % bootstrap "
            "intervals over pairs of worlds. Where nothing leaks the AUC is 0.5, and the true positive rate (TPR) is "
            "the false one (FPR)."
            + (" Rows whose training differs are no contest: accuracy and leakage depend on it." if unlike else "")
            + (" A dash: too few non-members for that rate." if self.unresolved else "")
        )

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
        said += self.unresolved
        said.append(
            f"They reach {percent(ours.accuracy)} on test, those of as many random real images "
            f"{percent(random.accuracy)} (both: {ours.training}), of all members {percent(full.accuracy)} "
            f"({full.training})."
        )
        distances, inside = np.asarray(self.copies.distances), self.copies.inside
        near = int((distances < NEAR).sum())
        says = _leaks(inside)
        said.append(
            f"The real image nearest to a distilled one is a member in {100 * inside.value:.0f} % of all cases "
            f"(Wilson's {100 * LEVEL:.0f} % interval, as if cases were independent: {100 * inside.low:.0f} to "
            f"{100 * inside.high:.0f} %; half by chance): {says}. {near} of "
            f"{len(distances)} are nearer to a real image than {NEAR} times what real ones are apart."
        )
        return said


def _leaks(found: Interval) -> str:
    """In words, by the interval before it is rounded; where the end nearer to chance is shown as 0.50, with that."""
    if found.low <= 0.5 <= found.high:
        return "can't be told from chance"
    if "0.50" in (f"{found.low:.2f}", f"{found.high:.2f}"):
        return "hardly told from chance"
    return "more than by chance" if found.low > 0.5 else "less than by chance"


def cells(found: Leak) -> tuple[str, ...]:
    """AUC, and true positives in per cent at each rate of false ones; a dash where so few non-members can't tell."""
    rates = (
        f"{100 * r.value:.1f} % [{100 * r.low:.1f}, {100 * r.high:.1f}]" if found.is_told(rate) else "–"
        for rate, r in zip(RATES, found.rates, strict=True)
    )
    return str(found.auc), *rates


HEAD = (
    "trained on",
    "images",
    "training",
    "test accuracy",
    "adversary",
    "AUC",
    *(f"TPR at {100 * r:g} % FPR" for r in RATES),
)


def lines_of(found: Privacy) -> list[tuple[str, ...]]:
    """The table of a study, under `HEAD`."""
    return [
        (way.name, f"{way.size:,}", way.training, percent(way.accuracy), adversary, *cells(one))
        for way in found.ways
        for adversary, one in way.leaks.items()
    ]
