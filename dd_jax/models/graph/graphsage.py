"""GraphSAGE with the mean aggregator (Hamilton et al. 2017)."""

import itertools

import jax
import jax.numpy as jnp

from dd_jax.models.base import ImageSpec, Model
from dd_jax.models.graph.base import Layer, Outputs, check_graph, dropped, graph_model
from dd_jax.models.graph.propagation import Adjacency, neighbour_mean
from dd_jax.types import Nodes
from dd_jax.values import made


def graphsage(data: ImageSpec, *, hidden: int = 256, depth: int = 2, initialiser: str = "default") -> Model:
    """GraphSAGE with the mean aggregator: x <- ReLU([x, mean of the neighbours' x] W + b), dropout between layers.

    Raises what `gcn` raises.

    Args:
        hidden, depth: as for `gcn`. All neighbours are taken, none sampled.

    Source: Hamilton et al. 2017, Algorithm 1.
    """
    check_graph(data, "graphsage", {"hidden": (hidden, 1), "depth": (depth, 1)})
    widths = [data.image_shape[-1], *[hidden] * (depth - 1), data.num_classes]
    sizes = [(2 * size, units) for size, units in itertools.pairwise(widths)]

    return graph_model("graphsage", data, sizes, initialiser, made(_outputs), {"hidden": hidden, "depth": depth})


def _outputs() -> Outputs:
    def layered(adjacency: Adjacency, x: jax.Array, layer: Layer) -> jax.Array:
        own, others = jnp.split(layer["kernel"], 2)
        return x @ own + neighbour_mean(adjacency, x @ others) + layer["bias"][None]

    def outputs(layers: list[Layer], nodes: Nodes) -> tuple[jax.Array, jax.Array]:
        x = nodes.features
        for index, layer in enumerate(layers[:-1]):
            x = dropped(nodes, jax.nn.relu(layered(nodes.adjacency, x, layer)), index)
        return layered(nodes.adjacency, x, layers[-1]), x

    return outputs
