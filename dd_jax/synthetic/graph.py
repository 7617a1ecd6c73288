"""A distilled graph: node features, and an adjacency that is computed from them (Jin et al. 2022)."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dd_jax.errors import DataError, OptionError
from dd_jax.models.initialisers import bias_initialiser, kernel_initialiser
from dd_jax.synthetic.base import Synthetic, num_bytes, unbounded
from dd_jax.synthetic.initial import sample_per_class
from dd_jax.synthetic.pixels import class_labels, one_batch
from dd_jax.types import Batch, Dataset, DistilledData, Learnable, Nodes

MAX_NODES = 4096  # of a distilled graph, whose adjacency is dense: 64 MiB, and all pairs go through a perceptron

_EPSILON = 1e-5  # of the normalisation, as in PyTorch's


class GraphSet(NamedTuple):
    """features (K * nodes_per_class, F), in class order; edges: weights of the perceptron that makes the adjacency."""

    features: Float[Array, "nodes features"]
    edges: Learnable


def graph_set(num_classes: int, nodes_per_class: int = 5, structure: bool = True, hidden: int = 128) -> Synthetic:
    """Nodes that start as random training nodes, and the edges between them.

    A_ij = sigmoid((e_ij + e_ji) / 2) for i != j, else 0, with e_ij = MLP([x_i, x_j]) of two hidden layers, with batch
    norm over all pairs and ReLU.
    structure: whether there are edges; without them A = 0, which is GCond-X. hidden: units of the hidden layers.
    Raises OptionError for counts below one or too many nodes; at its start DataError for data that are no graph.
    Source: Jin et al. 2022, section 3.2 (PGE) and the released code.
    """
    for name, count in (("nodes_per_class", nodes_per_class), ("hidden", hidden)):
        if count < 1:
            raise OptionError(f"{name} must be at least 1, but is {count}.")
    labels = class_labels(num_classes, nodes_per_class)
    if len(labels) > MAX_NODES:
        raise OptionError(f"A distilled graph has at most {MAX_NODES} nodes, but {len(labels)} were asked for.")

    def init(key: jax.Array, dataset: Dataset) -> GraphSet:
        if not isinstance(dataset.train.images, Nodes):
            raise DataError(
                f"{dataset.name} has no graph: take one such as 'cora', or make one with dd_jax.graph_from_arrays."
            )
        node_key, edge_key = jax.random.split(key)
        chosen = sample_per_class(node_key, dataset.train.labels, labels)
        features = dataset.train.images[chosen].alone[:, 0, 0]
        return GraphSet(features, edge_layers(edge_key, features.shape[1], hidden) if structure else ())

    def batch(learnable: GraphSet, key: jax.Array, t: jax.Array) -> Batch:
        return as_graph(Batch(learnable.features[:, None, None], jnp.asarray(labels)), adjacency_of(learnable))

    def decode(learnable: GraphSet) -> DistilledData:
        plain = one_batch(learnable.features[:, None, None], labels, 0.01)
        return dataclasses.replace(plain, adjacency=adjacency_of(learnable))

    return Synthetic(init, batch, decode, unbounded, num_bytes, 1)


def as_graph(nodes: Batch, adjacency: Float[Array, "nodes nodes"]) -> Batch:
    """Images (N, 1, 1, F) with their labels as the nodes of one graph."""
    graph: Any = Nodes(nodes.images[:, 0, 0], adjacency, jnp.arange(len(nodes.labels)))
    return nodes._replace(images=graph)


def adjacency_of(learnable: GraphSet) -> Float[Array, "nodes nodes"]:
    """The adjacency of a learnt graph: symmetric, zero on the diagonal, all else between 0 and 1."""
    count = learnable.features.shape[0]
    if not learnable.edges:
        return jnp.zeros((count, count), learnable.features.dtype)
    pairs = _pair_scores(learnable.edges, learnable.features).reshape(count, count)
    return jax.nn.sigmoid((pairs + pairs.T) / 2) * (1.0 - jnp.eye(count, dtype=pairs.dtype))


def edge_layers(key: jax.Array, num_features: int, hidden: int) -> Learnable:
    """Weights of the perceptron, as PyTorch draws them."""
    kernel, sizes = kernel_initialiser("default"), [(2 * num_features, hidden), (hidden, hidden), (hidden, 1)]
    keys = jax.random.split(key, (len(sizes), 2))
    return [
        {
            "kernel": kernel(mine[0], size, jnp.float32),
            "bias": bias_initialiser("default", size[0])(mine[1], size[1:], jnp.float32),
            **({} if size[1] == 1 else {"scale": jnp.ones(size[1:]), "shift": jnp.zeros(size[1:])}),
        }
        for mine, size in zip(keys, sizes, strict=True)
    ]


def _pair_scores(layers: Learnable, features: Float[Array, "nodes features"]) -> Float[Array, "pairs 1"]:
    """The perceptron of [x_i, x_j] for all pairs, i first. Its first layer is a sum of one term for each of the two."""
    first, second, last = layers
    own, other = jnp.split(first["kernel"], 2)
    x = ((features @ own)[:, None] + (features @ other)[None]).reshape(-1, own.shape[1]) + first["bias"][None]
    x = jax.nn.relu(_normalised(x, first)) @ second["kernel"] + second["bias"][None]
    return jax.nn.relu(_normalised(x, second)) @ last["kernel"] + last["bias"][None]


def _normalised(x: Float[Array, "pairs units"], layer: Learnable) -> Float[Array, "pairs units"]:
    centred = x - x.mean(0, keepdims=True)
    variance = jnp.square(centred).mean(0, keepdims=True)
    return centred * jax.lax.rsqrt(variance + _EPSILON) * layer["scale"][None] + layer["shift"][None]
