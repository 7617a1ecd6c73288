"""Real images class by class: batches of the same number of each, drawn on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.errors import DataError
from dd_jax.types import Batch


class ByClass(NamedTuple):
    """A split with a table of its classes. order (N,): indices of the images, class after class.

    Attributes:
        first, sizes: (K,) where in `order` each class starts, and how many images it has.
    """

    split: Batch
    order: Int[Array, " images"]
    first: Int[Array, " classes"]
    sizes: Int[Array, " classes"]


def by_class(split: Batch, num_classes: int) -> ByClass:
    """The table of a split; DataError if a class has no image."""
    labels = np.asarray(split.labels)
    count = np.bincount(labels, minlength=num_classes)
    if not count.all():
        raise DataError(
            f"Every class needs a training image, but class {int(np.argmin(count))} of {num_classes} has none."
        )
    order = np.argsort(labels, kind="stable")
    first = np.cumsum(count) - count
    return ByClass(split, *(jnp.asarray(array, jnp.int32) for array in (order, first, count)))


def class_batches(
    key: jax.Array, real: ByClass, size: int, classes: Int[Array, " classes"] | None = None
) -> Float[Array, "classes size height width channels"]:
    """`size` images of each class, drawn with replacement.

    Args:
        classes: those that are wanted, None for all; what is drawn of a class does not depend on the others.
    """
    drawn = real.first[:, None] + jax.random.randint(key, (real.sizes.shape[0], size), 0, real.sizes[:, None])
    drawn = drawn if classes is None else drawn[classes]
    return real.split.images[real.order[drawn]]


def each_class(function: Callable[[Any], Any], items: Any) -> Any:
    """`function` of the item of each class, in a pytree with a leading axis, stacked.

    On a CPU one by one: a branch that only one class takes is then not computed for all, and its images stay in cache.
    """
    return lax.map(function, items) if jax.default_backend() == "cpu" else jax.vmap(function)(items)
