"""What neighbours tell each other: products with the adjacency of a graph, dense or as a list of edges."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dd_jax.types import Edges

Adjacency: TypeAlias = Float[Array, "nodes nodes"] | Edges


def gather(adjacency: Adjacency, values: Float[Array, "nodes features"]) -> Float[Array, "nodes features"]:
    """A x: the weighted sum of the values of each node's neighbours."""
    if not isinstance(adjacency, Edges):
        return adjacency @ values
    told = adjacency.weights[:, None].astype(values.dtype) * values[adjacency.senders]
    return jax.ops.segment_sum(told, adjacency.receivers, values.shape[0], indices_are_sorted=True)


def symmetric(
    adjacency: Adjacency, values: Float[Array, "nodes features"], times: int = 1
) -> Float[Array, "nodes features"]:
    """D^-1/2 (A + I) D^-1/2 x with D the row sums of A + I, `times` times.

    Source: Kipf & Welling 2017, equation 2.
    """
    scale = jax.lax.rsqrt(1.0 + degrees(adjacency, values))
    for _ in range(times):
        scaled = scale * values
        values = scale * (gather(adjacency, scaled) + scaled)
    return values


def neighbour_mean(adjacency: Adjacency, values: Float[Array, "nodes features"]) -> Float[Array, "nodes features"]:
    """The weighted mean of the values of each node's neighbours; zero where there are none."""
    sums = degrees(adjacency, values)
    some = sums > 0
    return jnp.where(some, gather(adjacency, values) / jnp.where(some, sums, 1.0), 0.0)


def degrees(adjacency: Adjacency, values: Float[Array, "nodes features"]) -> Float[Array, "nodes 1"]:
    """Row sums of A."""
    return gather(adjacency, jnp.ones((values.shape[0], 1), values.dtype))
