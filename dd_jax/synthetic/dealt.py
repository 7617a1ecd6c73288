"""Batches of plain images in any number, whose classes come in turn: learnt, or real ones that stay as they are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dd_jax.synthetic.base import Synthetic, unbounded
from dd_jax.synthetic.initial import sample_per_class
from dd_jax.types import Batch, Dataset, DistilledData

_STEP_SIZE = 0.01  # of a set that has no other


class Dealt(NamedTuple):
    """images (S, B, H, W, C): what is learnt."""

    images: Float[Array, "steps batch height width channels"]


def dealt(num_classes: int, num_batches: int, batch_size: int, learnt: bool = True) -> Synthetic:
    """S batches of B images that start as random real ones; the classes come in turn over the whole set.

    What a generator with a curriculum makes, see `generator`, without the generator.

    Args:
        learnt: False for real images that stay what they are.
    """
    total = num_batches * batch_size
    classes = (np.arange(total, dtype=np.int32) % num_classes).reshape(num_batches, batch_size)

    def init(key: jax.Array, dataset: Dataset) -> Dealt:
        return Dealt(dataset.train.images[sample_per_class(key, dataset.train.labels, classes)])

    def batch(learnable: Dealt, key: jax.Array, t: jax.Array) -> Batch:
        images = learnable.images if learnt else jax.lax.stop_gradient(learnable.images)
        return Batch(images[t % num_batches], jnp.asarray(classes)[t % num_batches])

    def decode(learnable: Dealt) -> DistilledData:
        sizes = jnp.full(num_batches, _STEP_SIZE, jnp.float32)
        return DistilledData({"images": learnable.images}, jnp.asarray(classes), sizes)

    return Synthetic(init, batch, decode, unbounded, num_batches)
