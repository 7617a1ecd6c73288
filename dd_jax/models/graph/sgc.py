"""Simple graph convolution (Wu et al. 2019)."""

from typing import Any

import jax
from jaxtyping import Array, Float

from dd_jax.models.base import ApplyFn, ImageSpec, Model
from dd_jax.models.graph.base import Layer, Outputs, as_nodes, check_graph, graph_model
from dd_jax.models.graph.propagation import symmetric
from dd_jax.types import Nodes, Params
from dd_jax.values import made


def sgc(data: ImageSpec, *, steps: int = 2, initialiser: str = "default") -> Model:
    """Simple graph convolution: softmax(S^K X W + b), a linear model of features that were propagated K times.

    Args:
        steps: K.
        initialiser: of the weights, as for the other networks.

    Raises:
        OptionError: for fewer than no steps or an unknown initialiser.
        DataError: for data that are no nodes.

    Source: Wu et al. 2019, *Simplifying Graph Convolutional Networks*, equation 8.
    """
    check_graph(data, "sgc", {"steps": (steps, 0)})
    sizes = [(data.image_shape[-1], data.num_classes)]

    model = graph_model("sgc", data, sizes, initialiser, made(_outputs, steps), {"steps": steps})
    return model._replace(features=made(_features, steps))


def _outputs(steps: int) -> Outputs:
    def outputs(layers: list[Layer], nodes: Nodes) -> tuple[jax.Array, jax.Array]:
        (layer,) = layers
        # S (X W) = (S X) W, and K products with a few columns cost less than with all features.
        logits = symmetric(nodes.adjacency, nodes.features @ layer["kernel"], steps) + layer["bias"][None]
        return logits, nodes.features

    return outputs


def _features(steps: int) -> ApplyFn:
    def features(params: Params, images: Any) -> Float[Array, "batch out"]:
        nodes = as_nodes(images)
        return symmetric(nodes.adjacency, nodes.features, steps)[nodes.rows]

    return features
