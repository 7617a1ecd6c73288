"""What networks on graphs have in common: linear layers over `Nodes`, and answers for some of them.

Of an array of images without a graph, (M, 1, 1, F), they take every image as a node without edges.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from dd_jax.errors import DataError, OptionError
from dd_jax.models.base import Forward, ImageSpec, InitFn, Model
from dd_jax.models.graph.propagation import symmetric
from dd_jax.models.initialisers import bias_initialiser, kernel_initialiser
from dd_jax.types import Edges, Nodes, Params
from dd_jax.values import made

Layer: TypeAlias = Mapping[str, jax.Array]
Outputs: TypeAlias = Callable[[list[Layer], Nodes], tuple[jax.Array, jax.Array]]  # logits and features of all nodes


def propagated(model: Model, nodes: Any) -> Any:
    """What `model` needs of the nodes, computed once where that doesn't depend on its parameters.

    Of SGC the propagated features, (..., 1, 1, F), which it takes as nodes without edges and answers for alike;
    of other networks the nodes as they are.
    """
    if model.name != "sgc" or not isinstance(nodes, Nodes):
        return nodes
    return symmetric(nodes.adjacency, nodes.features, model.settings["steps"])[nodes.rows][..., None, None, :]


def as_nodes(images: Any) -> Nodes:
    """Nodes as they are; images (M, 1, 1, F) as nodes without edges."""
    if isinstance(images, Nodes):
        return images
    nothing = jnp.zeros(0, jnp.int32)
    return Nodes(images[:, 0, 0], Edges(nothing, nothing, jnp.zeros(0, images.dtype)), jnp.arange(images.shape[0]))


def graph_model(
    name: str,
    data: ImageSpec,
    sizes: list[tuple[int, int]],
    initialiser: str,
    outputs: Outputs,
    settings: Mapping[str, Any],
) -> Model:
    """A network of linear layers (in, out) that gives logits and features of all nodes of a graph.

    Args:
        outputs: `made` of values, so that networks of the same values share what is compiled.
    """
    kernel_initialiser(initialiser)
    init, of_rows = made(_layers, sizes, initialiser), made(_of_rows, outputs, len(sizes))
    forwards = Forward(of_rows, 0), Forward(of_rows, 1)
    return Model(name, init, *forwards, data.image_shape, data.num_classes, {**settings, "initialiser": initialiser})


def _names(count: int) -> list[str]:
    return [f"Dense_{index}" for index in range(count)]


def _layers(sizes: list[tuple[int, int]], initialiser: str) -> InitFn:
    kernel, names = kernel_initialiser(initialiser), _names(len(sizes))

    def init(key: jax.Array) -> Params:
        keys = jax.random.split(key, (len(sizes), 2))
        return {
            name: {
                "kernel": kernel(mine[0], size, jnp.float32),
                "bias": bias_initialiser(initialiser, size[0])(mine[1], size[1:], jnp.float32),
            }
            for name, mine, size in zip(names, keys, sizes, strict=True)
        }

    return init


def _of_rows(outputs: Outputs, count: int) -> Callable[[Params, Any], tuple[jax.Array, jax.Array]]:
    names = _names(count)

    def of_rows(params: Params, images: Any) -> tuple[jax.Array, jax.Array]:
        nodes = as_nodes(images)
        logits, features = outputs([params[name] for name in names], nodes)
        return logits[nodes.rows], features[nodes.rows]

    return of_rows


def dropped(nodes: Nodes, x: jax.Array, index: int) -> jax.Array:
    """`x` without a random share of its entries, the others enlarged, if the nodes say so."""
    if nodes.key is None or not nodes.dropout:
        return x
    kept = jax.random.bernoulli(jax.random.fold_in(nodes.key, index), 1.0 - nodes.dropout, x.shape)
    return jnp.where(kept, x / (1.0 - nodes.dropout), 0.0).astype(x.dtype)


def check_graph(data: ImageSpec, name: str, least: Mapping[str, tuple[int, int]]) -> None:
    """DataError unless the data are nodes; OptionError for a setting (value, lowest) that is too low."""
    if tuple(data.image_shape[:2]) != (1, 1):
        raise DataError(
            f"{name} is for the nodes of a graph, whose shape is (1, 1, F), but the images are "
            f'{tuple(data.image_shape)}. Load a graph ("cora", dd_jax.graph_from_arrays), or use '
            "a network for images."
        )
    for setting, (value, lowest) in least.items():
        if value < lowest:
            raise OptionError(f"{name}'s {setting} must be at least {lowest}, but is {value}.")
