"""A distilled graph: node features, and an adjacency that is computed from them (Jin et al. 2022)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dd_jax.errors import DataError, OptionError
from dd_jax.figures.graph import MAX_NODES as MAX_DRAWN
from dd_jax.figures.graph import adjacency_picture, graph_figure
from dd_jax.models.initialisers import bias_initialiser, kernel_initialiser
from dd_jax.parameterisation import Kind, Learnt, Parameterisation, Pictures
from dd_jax.synthetic.base import Synthetic, describe, unbounded
from dd_jax.synthetic.initial import sample_per_class
from dd_jax.synthetic.pixels import class_labels, one_batch
from dd_jax.types import Batch, Dataset, DistilledData, Edges, Learnable, Nodes

MAX_NODES = 4096  # of a distilled graph, whose adjacency is dense: 64 MiB, and all pairs go through a perceptron

_STEP_SIZE = 0.01  # of a set that has no learnt steps
_EPSILON = 1e-5  # of the normalisation, as in PyTorch's


class GraphSet(NamedTuple):
    """features (K * nodes_per_class, F), in class order; edges: weights of the perceptron that makes the adjacency."""

    features: Float[Array, "nodes features"]
    edges: Learnable


def graph_set(num_classes: int, nodes_per_class: int = 5, structure: bool = True, hidden: int = 128) -> Synthetic:
    """Nodes that start as random training nodes, and the edges between them.

    A_ij = sigmoid((e_ij + e_ji) / 2) for i != j, else 0, with e_ij = MLP([x_i, x_j]) of two hidden layers, with batch
    norm over all pairs and ReLU.

    Args:
        structure: whether there are edges; without them A = 0, which is GCond-X.
        hidden: units of the hidden layers.

    Raises:
        OptionError: for counts below one or too many nodes; at its start DataError for data that are no graph.

    Source: Jin et al. 2022, section 3.2 (PGE) and the released code.
    """
    for name, count in (("nodes_per_class", nodes_per_class), ("hidden", hidden)):
        if count < 1:
            raise OptionError(f"{name} must be at least 1, but is {count}.")
    labels = class_labels(num_classes, nodes_per_class)
    if len(labels) > MAX_NODES:
        raise OptionError(
            f"A distilled graph has at most {MAX_NODES} nodes, but {len(labels)} were asked for. Lower nodes_per_class."
        )

    def init(key: jax.Array, dataset: Dataset) -> GraphSet:
        if not isinstance(dataset.train.images, Nodes):
            raise DataError(
                f"A distilled graph is learnt from a graph, but {dataset.name} is a set of images. Use one such "
                "as 'cora', or make one with dd_jax.graph_from_arrays."
            )
        node_key, edge_key = jax.random.split(key)
        chosen = sample_per_class(node_key, dataset.train.labels, labels)
        features = dataset.train.images[chosen].alone[:, 0, 0]
        return GraphSet(features, edge_layers(edge_key, features.shape[1], hidden) if structure else ())

    def batch(learnable: GraphSet, key: jax.Array, t: jax.Array) -> Batch:
        nodes: Any = Nodes(learnable.features, adjacency_of(learnable), jnp.arange(len(labels)))
        return Batch(nodes, jnp.asarray(labels))

    def decode(learnable: GraphSet) -> DistilledData:
        edges = {f"edges/{layer}/{name}": a for layer, mine in enumerate(learnable.edges) for name, a in mine.items()}
        return one_batch({"features": learnable.features, **edges}, labels, _STEP_SIZE, Parameterisation(GRAPH))

    return Synthetic(init, batch, decode, unbounded, 1)


def decode_graph(learnt: Learnt) -> Nodes:
    """The nodes of a graph as one batch (1, N).

    Args:
        learnt: features (N, F); "adjacency" (N, N), or the weights "edges/..." of the perceptron that makes it; without
            either there are no edges.
    """
    rows = jnp.arange(learnt["features"].shape[0])[None]
    return Nodes(learnt["features"], learnt["adjacency"] if "adjacency" in learnt else _learnt_edges(learnt), rows)


def _learnt_edges(learnt: Learnt) -> Float[Array, "nodes nodes"]:
    return adjacency_of(GraphSet(learnt["features"], _layers(learnt)))


def _layers(learnt: Learnt) -> list[dict[str, Any]]:
    """The weights of the perceptron, layer by layer; none where there are none."""
    count = len({name.split("/")[1] for name in learnt if name.startswith("edges/")})
    return [
        {name.split("/")[2]: array for name, array in learnt.items() if name.startswith(f"edges/{layer}/")}
        for layer in range(count)
    ]


def check_graph(learnt: Mapping[str, np.ndarray]) -> str:
    """Features (N, F), and an adjacency or the weights of the perceptron that makes it, if there are edges."""
    features = learnt.get("features")
    if features is None or features.ndim != 2 or not features.size:
        return f"the nodes of a graph should be 'features' (N, F), found {describe(learnt)}"
    others = set(learnt) - {"features"}
    if not others:
        return ""
    if others == {"adjacency"}:
        return _problem_of_adjacency(learnt["adjacency"], len(features))
    hidden = learnt["edges/0/bias"].shape[:1] if "edges/0/bias" in learnt else ()
    expected = jax.eval_shape(lambda: edge_layers(jax.random.key(0), features.shape[1], hidden[0])) if hidden else []
    wanted = {f"edges/{layer}/{name}": a.shape for layer, mine in enumerate(expected) for name, a in mine.items()}
    found = {name: learnt[name].shape for name in others}
    return "" if found == wanted else f"the weights of the edges should be {wanted}, found {found}"


def _problem_of_adjacency(adjacency: np.ndarray, count: int) -> str:
    if adjacency.shape != (count, count):
        return f"adjacency should be {(count, count)}, found {adjacency.shape}"
    if not (adjacency.min() >= 0 and adjacency.max() <= 1):
        return f"edges should weigh 0 to 1, found {adjacency.min()} to {adjacency.max()}"
    if not (adjacency == adjacency.T).all():
        return "adjacency should be symmetric"
    return "adjacency should have no self loops" if np.diagonal(adjacency).any() else ""


def graph_of(examples: Any, images: np.ndarray) -> tuple[Learnt, Parameterisation]:
    """Nodes with the edges between them, or images without a graph as nodes without edges."""
    features = images.reshape(-1, images.shape[-1])
    edges = edges_between(examples) if isinstance(examples, Nodes) else np.zeros((len(features),) * 2)
    return {"features": features, "adjacency": edges.astype(np.float32)}, Parameterisation(GRAPH)


def edges_between(nodes: Nodes) -> Float[np.ndarray, "rows rows"]:
    """The weights of the edges among some nodes of a graph, in the order of their rows; none from a node to itself."""
    rows = np.asarray(nodes.rows).ravel()
    if not isinstance(nodes.adjacency, Edges):
        return np.asarray(nodes.adjacency)[np.ix_(rows, rows)] * (rows[:, None] != rows[None])
    numbers, places = np.unique(rows, return_inverse=True)
    ends = [np.asarray(end) for end in (nodes.adjacency.receivers, nodes.adjacency.senders)]
    inside = np.isin(ends[0], numbers) & np.isin(ends[1], numbers)
    among = np.zeros((len(numbers), len(numbers)), np.float32)
    receivers, senders = (np.searchsorted(numbers, end[inside]) for end in ends)
    np.add.at(among, (receivers, senders), np.asarray(nodes.adjacency.weights)[inside])
    return among[places][:, places]


def _words(distilled: DistilledData) -> str:
    return f"Drawing of a distilled graph of {distilled.labels.shape[1]} nodes"


def _note(distilled: DistilledData) -> str:
    count = distilled.labels.shape[1]
    says = "Nodes are near those that they have strong edges with; the axes have no meaning of their own."
    return says + (f" Shown: {MAX_DRAWN} of {count} nodes." if count > MAX_DRAWN else "")


GRAPH = Kind(
    "graph",
    decode_graph,
    check_graph,
    unit="node",
    has_steps=False,
    compare_all=True,
    layout=(
        ("features", "(N, F) float32, model space: of the nodes of a graph"),
        ("adjacency", "(N, N) float32: weights of the edges between them, 0 to 1, symmetric, without self loops"),
    ),
    pictures=Pictures(graph_figure, adjacency_picture, _words, "Weights of the edges of a distilled graph", _note),
    of_examples=graph_of,
)


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
