"""How a step samples its networks and real images: options that methods share, and the real images of a network."""

import dataclasses
from typing import Literal

import jax
from jax import lax
from jaxtyping import Array, Int

from dd_jax.errors import check_at_least, check_choices
from dd_jax.inner import SmoothAugment, augment
from dd_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """What a step samples."""

    num_inits: int = 1
    """Networks in an outer step."""
    batch_size: int = 256
    """Real images for each network, drawn with replacement."""
    augment: SmoothAugment = "none"
    """Random change to the images."""
    over_inits: Literal["auto", "vmap", "map"] = "auto"
    """How to go through the networks: "vmap" (all at once), "map" (one by one) or "auto" (by device)."""


def minibatch(
    key: jax.Array, split: Batch, size: int, part: jax.Array | int = 0, parts: int = 1, change: str = "none"
) -> Batch:
    """`size` images of a split, drawn with replacement; of these, share number `part` of `parts` equal ones.

    Args:
        change: a kind of `inner.augment`.
    """

    def mine(array: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(array, part * (size // parts), size // parts) if parts > 1 else array

    indices = mine(jax.random.randint(key, (size,), 0, split.labels.shape[0]))
    images = split.images[indices]
    if change != "none":
        images = augment(mine(jax.random.split(jax.random.fold_in(key, 1), size)), images, change)
    return Batch(images, split.labels[indices])


def changed_rows(keys: jax.Array, batch: Batch, rows: Int[Array, " rows"], change: str) -> Batch:
    """These images of a batch, each changed at random by its own of `keys` (N,), by a kind of `inner.augment`."""
    return Batch(augment(keys, batch.images[rows], change), batch.labels[rows])


def runs_mapped(over_inits: str) -> bool:
    """Whether networks are gone through one by one."""
    return over_inits == "map" or (over_inits == "auto" and jax.default_backend() == "cpu")


def less_sampling(options: SamplingOptions) -> tuple[str, ...]:
    """What needs less memory, see `Advice`."""
    one_by_one = "" if options.over_inits == "map" else ' or over_inits "map"'
    fewer = (f"fewer num_inits{one_by_one}",) if options.num_inits > 1 else ()
    return (*fewer, "a smaller batch_size")


def check_sampling(options: SamplingOptions) -> None:
    """OptionError for options that are out of range or unknown."""
    check_at_least(1, options, "num_inits", "batch_size")
    check_choices(options)
