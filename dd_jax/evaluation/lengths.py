"""How long networks are trained on a set, in words that say where this is not what the protocol has."""

from typing import NamedTuple

from dd_jax.evaluation.protocols import training_of
from dd_jax.inner import Regression, Training, in_epochs
from dd_jax.types import DistilledData

_OPTIMISERS = {"adam": "Adam", "sgd": "gradient descent"}


class Length(NamedTuple):
    """How long networks are trained: "300 epochs", "cut to 20 of 300 epochs", "10 learnt steps".

    Attributes:
        number: of epochs, or of learnt steps; None for a regression in closed form.
        whole: what the protocol has.
        unit: what is counted, in the singular.
    """

    number: int | None
    whole: int | None
    unit: str = "epoch"

    @property
    def changed(self) -> bool:
        """Whether it is not what the protocol has."""
        return self.number != self.whole

    @property
    def cut(self) -> bool:
        """Whether it is less than the protocol has."""
        return self.number is not None and self.whole is not None and self.number < self.whole

    def __str__(self) -> str:
        if self.number is None:
            return "closed form"
        if self.cut:
            return f"cut to {self.number:,} of {self.whole:,} {self.unit}s"
        same = f"{self.number:,} {self.unit}{'' if self.number == 1 else 's'}"
        return f"{same} in place of {self.whole:,}" if self.changed else same


def length_of(
    protocol: str | Training | Regression | None, distilled: DistilledData, size: int, num_epochs: int | None = None
) -> Length:
    """How long a training on `size` images or nodes is.

    Args:
        protocol: as for `evaluate`.
        num_epochs: in place of the protocol's; learnt steps and regressions have no epochs to replace.
    """
    own = training_of(protocol, distilled)
    if own is None:
        steps = int(distilled.step_sizes.size)
        return Length(steps, steps, "learnt step")
    if not isinstance(own, Training):
        return Length(None, None)
    whole = in_epochs(own, size).epochs
    return Length(num_epochs or whole, whole)


def plain_words(training: Training, size: int) -> str:
    """A training that has no name, on `size` images: "Adam, 5 epochs"."""
    epochs = in_epochs(training, size).epochs
    return f"{_OPTIMISERS[training.optimiser]}, {Length(epochs, epochs)}"


def name_of_scores(name: str, *lengths: Length) -> str:
    """The name of a published benchmark, with a word on trainings that are not as long as it has them."""
    if any(length.cut for length in lengths):
        return f"{name}, cut short"
    return f"{name}, with other epochs" if any(length.changed for length in lengths) else name
