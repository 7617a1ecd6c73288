"""Which images of a distilled set make up the batch of an inner step."""

from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from dd_jax.types import Batch, Labels

Order: TypeAlias = Literal["fixed", "random"]
ORDERS: tuple[str, ...] = get_args(Order)


def batch_of_step(images: jax.Array, labels: Labels, order: str, key: jax.Array, t: Int[Array, ""]) -> Batch:
    """The batch of inner step t out of images (S, B, ...) and labels (S, B) or (S, B, K).

    Args:
        order: "fixed": batch t mod S. "random": B images out of all S * B, as if they were one pool: each epoch of S
            steps goes through all of them in an order drawn from `key`.
    """
    num_batches, size = images.shape[:2]
    if order == "fixed":
        return Batch(images[t % num_batches], labels[t % num_batches])
    shuffled = jax.random.permutation(jax.random.fold_in(key, t // num_batches), num_batches * size)
    mine = lax.dynamic_slice_in_dim(shuffled, (t % num_batches) * size, size)
    return Batch(images.reshape(-1, *images.shape[2:])[mine], labels.reshape(-1, *labels.shape[2:])[mine])


def minibatch_of_step(total: int, size: int, key: jax.Array, t: Int[Array, ""]) -> Int[Array, " size"]:
    """Which of `total` images make up minibatch t: in passes of total // size minibatches, each in an order of its own.

    What doesn't fill a last minibatch is left out of its pass. A minibatch of all images has them in their own order.
    """
    if size == total:
        return jnp.arange(total)
    per_pass = total // size
    order = jax.random.permutation(jax.random.fold_in(key, t // per_pass), total)
    return lax.dynamic_slice_in_dim(order, (t % per_pass) * size, size)
