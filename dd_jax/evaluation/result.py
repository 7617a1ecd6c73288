"""What an evaluation found: accuracies of several networks, in all, by class and along the way."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from jaxtyping import Float, Int

from dd_jax.outcomes import ACCURACIES, ACCURACY, Outcome, Values

MEAN_OF_CLASSES = "mean of classes"
UNBALANCED = 1.5  # images of one class by those of another, from which on the two means are told apart


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Accuracies, as fractions, of networks trained on one distilled set.

    Attributes:
        accuracies: (N,) after all inner steps, one per network.
        per_class: (K,) accuracy on each class, mean over the networks; NaN for a class without an image in the split.
        curve: (M, P) accuracies of the first M networks, before training and along the way.
        curve_steps: (P,) gradient steps done at each point of the curve.
        split: the split that they were measured on.
        measures: further measures of the set's outcome besides accuracy, by name, (N,) each.
        confusion: (K, K) share of the images of class i that are taken for class j, mean over the networks; None if
            it wasn't counted, as for more than a hundred classes.
        outcome: what success means for the set, see `Outcome`.
        counts: (K,) images of each class in the split; None if that isn't known.
    """

    accuracies: Float[np.ndarray, " nets"]
    per_class: Float[np.ndarray, " classes"]
    curve: Float[np.ndarray, "curve_nets points"]
    split: str
    measures: Values = dataclasses.field(default_factory=dict)
    curve_steps: Int[np.ndarray, " moments"] = dataclasses.field(default_factory=lambda: np.zeros(1, int))
    confusion: Float[np.ndarray, "classes classes"] | None = None
    outcome: Outcome = ACCURACY
    counts: Int[np.ndarray, " classes"] | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Say where measures are that were fields once."""
            raise AttributeError(
                f"An Evaluation has no {name!r}. Measures other than accuracy are in `measures`, "
                "by name, such as found.measures['success']."
            )

    @property
    def values(self) -> Values:
        """All that is measured, accuracies among them, by name: (N,) each."""
        return {ACCURACIES: self.accuracies, **self.measures}

    @property
    def mean(self) -> float:
        """Mean accuracy over the networks."""
        return float(self.accuracies.mean())

    @property
    def std(self) -> float:
        """Standard deviation over the networks; 0 for a single one."""
        return float(self.accuracies.std())

    @property
    def n(self) -> int:
        """How many networks."""
        return len(self.accuracies)

    @property
    def best(self) -> Float[np.ndarray, " curve_nets"]:
        """(M,) the highest accuracy of each network at any moment of its curve.

        Chosen on the split that it is measured on, so too good: for comparison with papers that report it, such as
        Kim et al. 2022, beside the last one, which is `accuracies`.
        """
        return self.curve.max(1) if self.curve.size else np.zeros(0)

    @property
    def score(self) -> float:
        """What sets are chosen by: the mean of the measure that the outcome names, which accuracy is for most sets."""
        return float(self.values[self.outcome.score].mean())

    @property
    def balanced(self) -> float:
        """Mean accuracy over the networks and the classes, each class counting the same; without those that are absent.

        Beside `mean`, where the split has far more images of some classes than of others: see `is_unbalanced`.
        """
        return float(np.nanmean(self.per_class))

    @property
    def is_unbalanced(self) -> bool:
        """Whether some class has more than `UNBALANCED` times the images of another one in the split."""
        return self.counts is not None and unbalanced(self.counts)

    @property
    def percent(self) -> str:
        """Mean and, of more than one network, standard deviation."""
        return in_percent(self.accuracies)

    @property
    def both_means(self) -> str:
        """As `percent`, and the mean of the classes behind it where the split is unbalanced."""
        return self.percent + (f" ({self._mean_of_classes})" if self._mean_of_classes else "")

    @property
    def _mean_of_classes(self) -> str:
        shown = self.outcome == ACCURACY and self.is_unbalanced
        return f"{MEAN_OF_CLASSES} {100 * self.balanced:.1f} %" if shown else ""

    def __str__(self) -> str:
        first = self.outcome.columns[0]
        more = "" if first.key == ACCURACIES else f", {first.head} {in_percent(self.values[first.key])}"
        more += f", {self._mean_of_classes}" if self._mean_of_classes else ""
        return f"{self.percent} (n={self.n}, {self.split}{more})"


def unbalanced(counts: Int[np.ndarray, " classes"]) -> bool:
    """Whether some class has more than `UNBALANCED` times the images of another one, of those that are there at all."""
    there = counts[counts > 0]
    return bool(there.size and there.max() > UNBALANCED * there.min())


def in_percent(fractions: Float[np.ndarray, " nets"]) -> str:
    """Mean and, of more than one, standard deviation: "93.8 ± 0.4 %"."""
    spread = f" ± {100 * fractions.std():.1f}" if len(fractions) > 1 else ""
    return f"{100 * fractions.mean():.1f}{spread} %"


def evaluation_of(
    hits: Int[np.ndarray, "nets 2 classes"],
    counts: Int[np.ndarray, " classes"],
    split: str,
    outcome: Outcome = ACCURACY,
) -> Evaluation:
    """An evaluation from counts: images of each class that a network gets right, and takes for the outcome's target."""
    right, taken = hits[:, 0], hits[:, 1]
    measures = outcome.measure(right, taken, counts)
    per_class = np.divide(right.mean(0), counts, out=np.full(len(counts), np.nan), where=counts > 0)
    accuracies, curve = right.sum(-1) / counts.sum(), np.zeros((0, 1))
    return Evaluation(accuracies, per_class, curve, split, measures, outcome=outcome, counts=counts)


def concatenated(parts: Sequence[Evaluation]) -> Evaluation:
    """Several evaluations, on one split, as one of all their networks; without their curves."""
    accuracies = np.concatenate([part.accuracies for part in parts])
    per_class = np.mean([p.per_class for p in parts], axis=0)
    measures = {name: np.concatenate([part.measures[name] for part in parts]) for name in parts[0].measures}
    tables = [part.confusion for part in parts if part.confusion is not None]
    confusion = np.mean(tables, axis=0) if tables else None
    first = dataclasses.replace(parts[0], curve=parts[0].curve[:0], confusion=confusion)
    return dataclasses.replace(first, accuracies=accuracies, per_class=per_class, measures=measures)
