"""The graph convolutional network (Kipf & Welling 2017)."""

import itertools

import jax

from dd_jax.models.base import ImageSpec, Model
from dd_jax.models.graph.base import Layer, Outputs, check_graph, dropped, graph_model
from dd_jax.models.graph.propagation import Adjacency, symmetric
from dd_jax.types import Nodes
from dd_jax.values import made


def gcn(data: ImageSpec, *, hidden: int = 256, depth: int = 2, initialiser: str = "default") -> Model:
    """Graph convolutional network: x <- ReLU(S x W + b) from layer to layer, with dropout between them.

    Args:
        hidden: units of the hidden layers.
        depth: layers.

    Raises:
        OptionError: for sizes below one or an unknown initialiser.
        DataError: for data that are no nodes.

    Source: Kipf & Welling 2017, equation 9; 256 units: Jin et al. 2022.
    """
    check_graph(data, "gcn", {"hidden": (hidden, 1), "depth": (depth, 1)})
    widths = [data.image_shape[-1], *[hidden] * (depth - 1), data.num_classes]
    sizes = list(itertools.pairwise(widths))

    return graph_model("gcn", data, sizes, initialiser, made(_outputs), {"hidden": hidden, "depth": depth})


def _outputs() -> Outputs:
    def convolved(adjacency: Adjacency, x: jax.Array, layer: Layer) -> jax.Array:
        return symmetric(adjacency, x @ layer["kernel"]) + layer["bias"][None]

    def outputs(layers: list[Layer], nodes: Nodes) -> tuple[jax.Array, jax.Array]:
        x = nodes.features
        for index, layer in enumerate(layers[:-1]):
            x = dropped(nodes, jax.nn.relu(convolved(nodes.adjacency, x, layer)), index)
        return convolved(nodes.adjacency, x, layers[-1]), x

    return outputs
