"""How far training on a distilled set ends from where training on real data ended."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dd_jax.types import Params


def trajectory_distance(params: Params, start: Params, target: Params, each_layer: bool = False) -> Float[Array, ""]:
    """|theta - theta*|^2 / |theta_0 - theta*|^2: 0 at the target theta*, 1 at the start theta_0.

    Args:
        each_layer: the mean of this over layers (a kernel and its bias are one), so that each counts alike; those in
            which start and target are the same are left out.

    Source: Cazenavette et al. 2022, equation 2.
    """
    now, whole = _squares(params, target), _squares(start, target)
    if not each_layer:
        return _total(now.values()) / _total(whole.values())
    moved = {layer: square > 0 for layer, square in whole.items()}
    ratios = [jnp.where(moved[layer], now[layer] / jnp.where(moved[layer], whole[layer], 1), 0) for layer in now]
    return _total(ratios) / _total(moved.values())


def _squares(params: Params, other: Params) -> dict[Any, jax.Array]:
    """Squared distance of the parameters of each layer."""
    found: dict[Any, Any] = {}
    for path, square in jax.tree_util.tree_leaves_with_path(
        jax.tree.map(lambda a, b: jnp.square(a - b).sum(), params, other)
    ):
        found[path[:-1]] = found.get(path[:-1], 0) + square
    return found


def _total(numbers: Iterable[jax.Array]) -> jax.Array:
    return jnp.stack(list(numbers)).sum()
