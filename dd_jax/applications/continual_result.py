"""What is left of tasks that are over: accuracy matrices, and what is read off them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from dd_jax.outcomes.spread import Spread, percent, spread_of

Matrix = Float[np.ndarray, "after task"]  # (T, T) accuracy on each task after each task; NaN of tasks yet to come

DISTILLED, JOINT, FINE_TUNING = "distilled", "joint training", "fine-tuning"


def average_accuracy(matrix: Matrix) -> float:
    """Mean accuracy on all tasks after the last one."""
    return float(matrix[-1].mean())


def incremental_accuracy(matrix: Matrix) -> float:
    """Mean, over the moments after each task, of the mean accuracy on the tasks so far."""
    return float(np.mean([matrix[t, : t + 1].mean() for t in range(len(matrix))]))


def forgetting(matrix: Matrix) -> float:
    """Mean over all tasks but the last of the best accuracy before the end less that at the end; 0 of a single task.

    Source: Chaudhry et al. 2018, section 3.
    """
    if len(matrix) == 1:
        return 0.0
    best = [matrix[task:-1, task].max() for task in range(len(matrix) - 1)]
    return float(np.mean(best - matrix[-1, :-1]))


def backward_transfer(matrix: Matrix) -> float:
    """Mean over all tasks but the last of the accuracy at the end less that right after the task; 0 of a single task.

    Source: Lopez-Paz & Ranzato 2017, section 2.
    """
    if len(matrix) == 1:
        return 0.0
    return float(np.mean(matrix[-1, :-1] - np.diagonal(matrix)[:-1]))


MEASURES: Mapping[str, Callable[[Matrix], float]] = {
    "average accuracy": average_accuracy,
    "incremental accuracy": incremental_accuracy,
    "forgetting": forgetting,
    "backward transfer": backward_transfer,
}


@dataclasses.dataclass(frozen=True)
class Course:
    """A way to remember, over several orders of the classes.

    Attributes:
        accuracies: (orders, networks, T, T): accuracy on each task after each task, NaN of tasks yet to come.
        num_bytes: (orders,) that are kept in the end; of real data in full all of them.
    """

    name: str
    accuracies: Float[np.ndarray, "orders nets after task"]
    num_bytes: Sequence[int]

    @property
    def matrices(self) -> Float[np.ndarray, "orders after task"]:
        """(orders, T, T) means over the networks."""
        return self.accuracies.mean(1)

    def measure(self, name: str) -> Spread:
        """One of `MEASURES`, over the orders."""
        return spread_of([MEASURES[name](matrix) for matrix in self.matrices])


@dataclasses.dataclass(frozen=True)
class Continual:
    """The outcome of `learn_continually`.

    Attributes:
        courses: of the distilled memory first, then of the others, joint training and fine-tuning last.
        scenario: "class" or "task".
        orders: in which the classes came.
        training: of networks on memories and on real data, in words; empty where it isn't known.
    """

    courses: tuple[Course, ...]
    scenario: str
    orders: tuple[tuple[int, ...], ...]
    class_names: tuple[str, ...]
    training: str = ""

    def course(self, name: str) -> Course:
        """The course of a name."""
        return next(course for course in self.courses if course.name == name)

    @property
    def memories(self) -> tuple[Course, ...]:
        """Those that keep some images."""
        return tuple(course for course in self.courses if course.name not in (JOINT, FINE_TUNING))

    def beyond(self, other: str, measure: str = "average accuracy") -> Spread:
        """How much more the distilled memory has of a measure, order by order."""
        mine, theirs = self.course(DISTILLED).matrices, self.course(other).matrices
        of = MEASURES[measure]
        return spread_of([of(a) - of(b) for a, b in zip(mine, theirs, strict=True)])

    def sentences(self) -> list[str]:
        """What it means, one sentence each."""
        ours = self.course(DISTILLED)
        reached, orders = percent(ours.measure("average accuracy")), len(self.orders)
        over = (
            f"mean ± standard deviation over {orders} orders of the classes"
            if orders > 1
            else "one order of the classes"
        )
        said = [
            f"After all tasks, networks trained on the distilled memory reach {reached} on test "
            f"({self.scenario}-incremental, {over})."
        ]
        said += [_beside(self.beyond(course.name), course.name) for course in self.memories[1:]]
        for name in (JOINT, FINE_TUNING):
            said.append(f"{name.capitalize()} on real data: {percent(self.course(name).measure('average accuracy'))}.")
        return said + ([self.training] if self.training else [])


def _beside(gain: Spread, name: str) -> str:
    """How a distilled memory stands beside another one of its bytes."""
    above = "above" if gain.mean > 0 else "below"
    if gain.n == 1:
        return f"That is {100 * gain.mean:+.1f} points from {name} in the same bytes, in one order."
    points = f"{100 * gain.mean:+.1f} ± {100 * gain.std:.1f} points"
    clear = "by more than the standard deviation" if abs(gain.mean) > gain.std else "by no more than it scatters"
    return f"That is {points} from {name} in the same bytes: {above} it {clear}."
