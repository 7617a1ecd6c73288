"""How far two gradients of a network are from each other: what gradient matching minimises."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dd_jax.errors import unknown_name
from dd_jax.types import Params

Distance: TypeAlias = Callable[[Params, Params], jax.Array]

_TINY = 1e-6  # added to products of norms, as in the released code


def distance_named(name: str) -> Distance:
    """The distance of this name in `DISTANCES`; OptionError for an unknown one."""
    if name not in DISTANCES:
        raise unknown_name("distance", name, DISTANCES)
    return DISTANCES[name]


def unit_cosine(first: Params, second: Params) -> Float[Array, ""]:
    """Sum over the output units of all weights of 1 - cos(their gradients); biases and scales count nothing.

    The weights of an output unit are the last axis of a kernel, (height, width, in, out) or (in, out).
    Source: Zhao et al. 2021, equation 7 and the released code.
    """

    def of_layer(a: jax.Array, b: jax.Array) -> jax.Array:
        if a.ndim < 2:
            return jnp.zeros((), a.dtype)
        return (1.0 - _cosine(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]))).sum()

    return _total(of_layer, first, second)


def cosine(first: Params, second: Params) -> Float[Array, ""]:
    """1 - cos of all of the two gradients, each as one vector."""
    a, b = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])[:, None] for tree in (first, second))
    return (1.0 - _cosine(a, b)).sum()


def squared(first: Params, second: Params) -> Float[Array, ""]:
    """Sum of squared differences."""
    return _total(lambda a, b: jnp.square(a - b).sum(), first, second)


def absolute(first: Params, second: Params) -> Float[Array, ""]:
    """Sum of absolute differences.

    Source: the released code of Kim et al. 2022.
    """
    return _total(lambda a, b: jnp.abs(a - b).sum(), first, second)


DISTANCES: Mapping[str, Distance] = {"unit_cosine": unit_cosine, "cosine": cosine, "mse": squared, "l1": absolute}


def _cosine(a: Float[Array, "weights units"], b: Float[Array, "weights units"]) -> Float[Array, " units"]:
    return (a * b).sum(0) / (_norm(a) * _norm(b) + _TINY)


def _norm(a: Float[Array, "weights units"]) -> Float[Array, " units"]:
    """Of each column; where it is zero so is its derivative, as in PyTorch, and not NaN."""
    squares = jnp.square(a).sum(0)
    some = squares > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1.0)), 0.0)


def _total(of_layer: Distance, first: Params, second: Params) -> jax.Array:
    return sum(jax.tree.leaves(jax.tree.map(of_layer, first, second)), start=jnp.zeros(()))
