"""What an evaluation found: accuracies of several networks, in all, by class and along the way."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

UNBALANCED = 1.5  # images of one class by those of another, from which on the two means are told apart


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Attacked:
    """What an attack (K, T) did to networks, as fractions of the images of a split.

    success: (N,) of class K that each network takes for T.
    others: (N,) accuracy of each network on all other classes.
    fooled: (N,) accuracy of each network where K counts as T: what the attack maximises.
    """

    success: Float[np.ndarray, " nets"]
    others: Float[np.ndarray, " nets"]
    fooled: Float[np.ndarray, " nets"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Accuracies, as fractions, of networks trained on one distilled set.

    accuracies: (N,) after all inner steps, one per network.
    per_class: (K,) accuracy on each class, mean over the networks; NaN of a class of which the split has no image.
    curve: (M, P) before training and along the way, of the first M networks; curve_steps: (P,) gradient steps done.
    split: where they were measured.
    attacked: what the attack did, of a set that is one.
    confusion: (K, K) share of the images of class i that are taken for class j, mean over the networks; None where it
        wasn't counted, such as with more than a hundred classes.
    counts: (K,) images of each class in the split; None where that isn't known.
    """

    accuracies: Float[np.ndarray, " nets"]
    per_class: Float[np.ndarray, " classes"]
    curve: Float[np.ndarray, "curve_nets points"]
    split: str
    attacked: Attacked | None = None
    curve_steps: Int[np.ndarray, " moments"] = dataclasses.field(default_factory=lambda: np.zeros(1, int))
    confusion: Float[np.ndarray, "classes classes"] | None = None
    counts: Int[np.ndarray, " classes"] | None = None

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
        """What sets are chosen by: the mean accuracy or, of an attack, the mean where class K counts as T."""
        return self.mean if self.attacked is None else float(self.attacked.fooled.mean())

    @property
    def balanced(self) -> float:
        """Mean accuracy over the networks and the classes, each class counting the same; without those that are absent.

        Beside `mean`, where the split has far more images of some classes than of others: see `is_unbalanced`.
        """
        return float(np.nanmean(self.per_class))

    @property
    def is_unbalanced(self) -> bool:
        """Whether some class has more than `UNBALANCED` times the images of another one in the split."""
        there = np.zeros(0) if self.counts is None else self.counts[self.counts > 0]
        return bool(there.size and there.max() > UNBALANCED * there.min())

    @property
    def percent(self) -> str:
        """Mean and, of more than one network, standard deviation."""
        return in_percent(self.accuracies)

    def __str__(self) -> str:
        attacked = self.attacked
        attack = f", attack succeeds {in_percent(attacked.success)}" if attacked is not None else ""
        return f"{self.percent} (n={self.n}, {self.split}{attack})"


def in_percent(fractions: Float[np.ndarray, " nets"]) -> str:
    """Mean and, of more than one, standard deviation: "93.8 ± 0.4 %"."""
    spread = f" ± {100 * fractions.std():.1f}" if len(fractions) > 1 else ""
    return f"{100 * fractions.mean():.1f}{spread} %"


def evaluation_of(
    hits: Int[np.ndarray, "nets 2 classes"],
    counts: Int[np.ndarray, " classes"],
    split: str,
    attack: tuple[int, int] | None = None,
) -> Evaluation:
    """An evaluation from counts: images of each class that a network gets right, and that it takes for class T."""
    right, taken = hits[:, 0], hits[:, 1]
    attacked = None
    if attack is not None:
        others = np.arange(len(counts)) != attack[0]
        right_others, success = right[:, others].sum(-1), taken[:, attack[0]]
        attacked = Attacked(
            success / max(counts[attack[0]], 1),
            right_others / max(counts[others].sum(), 1),
            (right_others + success) / counts.sum(),
        )
    per_class = np.divide(right.mean(0), counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return Evaluation(right.sum(-1) / counts.sum(), per_class, np.zeros((0, 1)), split, attacked, counts=counts)


def concatenated(parts: Sequence[Evaluation]) -> Evaluation:
    """Several evaluations, on one split, as one of all their networks; without their curves."""
    accuracies = np.concatenate([part.accuracies for part in parts])
    per_class = np.mean([p.per_class for p in parts], axis=0)
    attacks = [part.attacked for part in parts if part.attacked is not None]
    attacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *attacks) if attacks else None
    tables = [part.confusion for part in parts if part.confusion is not None]
    confusion = np.mean(tables, axis=0) if tables else None
    first = dataclasses.replace(parts[0], curve=parts[0].curve[:0], confusion=confusion)
    return dataclasses.replace(first, accuracies=accuracies, per_class=per_class, attacked=attacked)
