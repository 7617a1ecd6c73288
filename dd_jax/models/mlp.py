"""The multi-layer perceptron."""

from collections.abc import Sequence

import jax
from flax import linen as nn

from dd_jax.errors import OptionError
from dd_jax.models.base import ImageSpec, Model, from_linen
from dd_jax.models.initialisers import kernel_initialiser
from dd_jax.models.layers import Dense


class _MLP(nn.Module):
    hidden: tuple[int, ...]
    num_classes: int
    initialiser: str

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = images.reshape(images.shape[0], -1)
        for units in self.hidden:
            x = nn.relu(Dense(units, self.initialiser)(x))
        return Dense(self.num_classes, self.initialiser)(x), x


def mlp(data: ImageSpec, *, hidden: Sequence[int] = (128, 128), initialiser: str = "xavier") -> Model:
    """Linear layers with ReLU between them, for images of any size.

    Args:
        hidden: units of the hidden layers; empty for a linear model.

    Raises:
        OptionError: for a width below one or an unknown initialiser.
    """
    hidden = tuple(hidden)
    if any(units < 1 for units in hidden):
        raise OptionError(f"Each hidden layer of mlp needs at least one unit, but hidden is {hidden}.")
    kernel_initialiser(initialiser)
    module = _MLP(hidden, data.num_classes, initialiser)
    return from_linen("mlp", module, data, {"hidden": list(hidden), "initialiser": initialiser})
