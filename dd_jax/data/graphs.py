"""A Dataset out of a graph: its nodes are the images, of one pixel with as many channels as features."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.data.graph_checks import as_features, as_node_labels, as_pairs, as_parts
from dd_jax.data.labels import ClassNames, as_class_names
from dd_jax.errors import DataError
from dd_jax.types import Batch, Dataset, Edges, Nodes, Transform

FINGERPRINT_DIGITS = 16  # as of images

_PARTS = ("train", "validation", "test")


def graph_from_arrays(
    features: Any,
    edges: Any,
    labels: Any,
    *,
    train: Any,
    validation: Any,
    test: Any,
    class_names: ClassNames | None = None,
    name: str = "graph",
    inductive: bool = False,
    normalise_rows: bool | None = None,
    weights: Any = None,
) -> Dataset:
    """A dataset of the nodes of an undirected graph, on the default device.

    Its splits are `Nodes`: they name the nodes that are to be classified and hold the graph around them. Edges are kept
    as a list, never as a matrix of all pairs.

    Args:
        features: (N, F) numbers or bool; an array, or a sparse matrix of SciPy.
        edges: (2, E) or (E, 2) node numbers, each edge in one or both directions; or a matrix (N, N), dense or of
            SciPy, whose values are the weights. Self loops and repeats count nothing.
        labels: (N,) or (N, 1) integer classes counted from 0; anything below 0 for nodes without a label.
        train, validation, test: numbers of the labelled nodes of each part, or masks (N,); no node is in two.
        class_names: one per class; by default "0", "1", ...
        name: what to call it.
        inductive: training sees a graph without the nodes of validation and test, and validation one without those of
            test, which is measured on all of it; else all three see the whole graph.
        normalise_rows: divide the features of each node by their sum, where that isn't 0; None does so with counts,
            which are integers that are not negative, and leaves other features as they are.
        weights: (E,) positive, of the edges; None for 1.

    Warns:
        DataWarning: which of the two was done without normalise_rows being given; or some edges are given in both
            directions and some in one.

    Raises:
        DataError: the arrays can't be used as they are; the message says which and what to do.
    """
    values = as_features(features, normalise_rows)
    num_nodes = len(values)
    chosen = as_parts({"train": train, "validation": validation, "test": test}, num_nodes)
    classes = as_node_labels(labels, chosen, num_nodes)
    names = as_class_names(class_names, classes[chosen["train"]])
    highest = max(classes[rows].max(initial=0) for rows in chosen.values())
    if highest >= len(names):
        raise DataError(
            f"A node has the label {highest}, but the training nodes have only the {len(names)} "
            f"classes 0 to {len(names) - 1}."
        )
    pairs, sizes = as_pairs(edges, weights, num_nodes)
    splits: dict[str, Any] = {}
    graph: tuple[jax.Array, Edges] | None = None
    for index, part in enumerate(_PARTS):
        if inductive or graph is None:  # one copy on the device where all parts see the same
            unseen = [chosen[later] for later in _PARTS[index + 1 :]] if inductive else []
            seen = np.setdiff1d(np.arange(num_nodes), np.concatenate([np.zeros(0, int), *unseen]))
            graph = _among(values, pairs, sizes, seen)
        rows = jnp.asarray(np.searchsorted(seen, chosen[part]), jnp.int32)
        nodes: Any = Nodes(graph[0], graph[1], rows)
        splits[part] = Batch(nodes, jnp.asarray(classes[chosen[part]], jnp.int32))
    weighted = {} if sizes is None else {"weights": sizes}
    fingerprint = _fingerprint(names, inductive, features=values, edges=pairs, labels=classes, **weighted, **chosen)
    return Dataset(
        name=name,
        class_names=names,
        transform=Transform("identity", {}),
        fingerprint=fingerprint,
        **splits,
    )


def _among(
    features: np.ndarray, pairs: np.ndarray, sizes: np.ndarray | None, seen: np.ndarray
) -> tuple[jax.Array, Edges]:
    """Features and edges of the graph that the nodes `seen` (sorted) make among themselves."""
    number = np.full(len(features), -1)
    number[seen] = np.arange(len(seen))
    among = (number[pairs] >= 0).all(0)
    receivers, senders = (jnp.asarray(end, jnp.int32) for end in number[pairs][:, among])
    weights = np.ones(among.sum()) if sizes is None else sizes[among]
    return jnp.asarray(features[seen]), Edges(receivers, senders, jnp.asarray(weights, jnp.float32))


def _fingerprint(class_names: tuple[str, ...], inductive: bool, **arrays: np.ndarray) -> str:
    digest = hashlib.sha256(repr((class_names, inductive)).encode())
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:FINGERPRINT_DIGITS]
