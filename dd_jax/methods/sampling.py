"""How a step samples its networks and real images: options that methods share, and the real images of a network."""

from typing import Any

import jax
from jax import lax

from dd_jax.errors import check_at_least, unknown_name
from dd_jax.inner import SMOOTH_AUGMENTS, augment
from dd_jax.types import Batch

OVER_INITS = ("auto", "vmap", "map")


def minibatch(
    key: jax.Array, split: Batch, size: int, part: jax.Array | int = 0, parts: int = 1, change: str = "none"
) -> Batch:
    """`size` images of a split, drawn with replacement; of these, share number `part` of `parts` equal ones.

    change: a kind of `inner.augment`.
    """

    def mine(array: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(array, part * (size // parts), size // parts) if parts > 1 else array

    indices = mine(jax.random.randint(key, (size,), 0, split.labels.shape[0]))
    images = split.images[indices]
    if change != "none":
        images = augment(mine(jax.random.split(jax.random.fold_in(key, 1), size)), images, change)
    return Batch(images, split.labels[indices])


def runs_mapped(over_inits: str) -> bool:
    """Whether networks are gone through one by one."""
    return over_inits == "map" or (over_inits == "auto" and jax.default_backend() == "cpu")


def check_sampling(options: Any) -> None:
    """OptionError for those options that the methods share, if they are out of range or unknown."""
    check_at_least(1, options, "num_inits", "batch_size")
    if options.augment not in SMOOTH_AUGMENTS:
        raise unknown_name("augment", options.augment, SMOOTH_AUGMENTS)
    if options.over_inits not in OVER_INITS:
        raise unknown_name("over_inits", options.over_inits, OVER_INITS)
