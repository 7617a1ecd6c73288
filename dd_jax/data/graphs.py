"""A Dataset out of a graph: its nodes are the images, of one pixel with as many channels as features."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.data import checks
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
    class_names: Sequence[str] | None = None,
    name: str = "graph",
    inductive: bool = False,
    normalise_rows: bool = True,
) -> Dataset:
    """A dataset of the nodes of an undirected graph, on the default device.

    Its splits are `Nodes`: they name the nodes that are to be classified and hold the graph around them. Edges are kept
    as a list, never as a matrix of all pairs.

    Args:
        features: (N, F) numbers.
        edges: (2, E) node numbers, each edge in one or both directions; self loops and repeats count nothing.
        labels: (N,) integer classes counted from 0; anything below 0 for nodes without a label.
        train, validation, test: numbers of the labelled nodes of each part, or masks (N,); no node is in two.
        class_names: one per class; by default "0", "1", ...
        name: what to call it.
        inductive: training sees a graph without the nodes of validation and test, and validation one without those of
            test, which is measured on all of it; else all three see the whole graph.
        normalise_rows: divide the features of each node by their sum, where that isn't 0.

    Raises:
        DataError: the arrays can't be used as they are; the message says which and what to do.
    """
    values = _features(features, normalise_rows)
    num_nodes = len(values)
    chosen = _parts({"train": train, "validation": validation, "test": test}, num_nodes)
    classes = _labels(labels, chosen, num_nodes)
    names = checks.as_class_names(class_names, classes[chosen["train"]])
    highest = max(classes[rows].max(initial=0) for rows in chosen.values())
    if highest >= len(names):
        raise DataError(f"A node has label {highest}, but the training nodes have the {len(names)} classes from 0.")
    pairs = _pairs(edges, num_nodes)
    splits: dict[str, Any] = {}
    graph: tuple[jax.Array, Edges] | None = None
    for index, part in enumerate(_PARTS):
        if inductive or graph is None:  # one copy on the device where all parts see the same
            unseen = [chosen[later] for later in _PARTS[index + 1 :]] if inductive else []
            seen = np.setdiff1d(np.arange(num_nodes), np.concatenate([np.zeros(0, int), *unseen]))
            graph = _among(values, pairs, seen)
        rows = jnp.asarray(np.searchsorted(seen, chosen[part]), jnp.int32)
        nodes: Any = Nodes(graph[0], graph[1], rows)
        splits[part] = Batch(nodes, jnp.asarray(classes[chosen[part]], jnp.int32))
    fingerprint = _fingerprint(names, inductive, features=values, edges=pairs, labels=classes, **chosen)
    return Dataset(
        name=name,
        class_names=names,
        transform=Transform("identity", {}),
        fingerprint=fingerprint,
        **splits,
    )


def _features(features: Any, normalise_rows: bool) -> np.ndarray:
    values = np.asarray(features)
    if values.ndim != 2 or not values.size or not np.issubdtype(values.dtype, np.number):
        raise DataError(f"The features should be numbers (N, F), found {values.dtype} {values.shape}.")
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"The features of node {int(np.argmin(np.isfinite(values).all(1)))} are not finite.")
    if not normalise_rows:
        return values
    sums = values.sum(1, keepdims=True)
    return np.divide(values, sums, out=values.copy(), where=sums != 0)


def _parts(parts: Mapping[str, Any], num_nodes: int) -> dict[str, np.ndarray]:
    """The node numbers of each part."""
    found = {}
    for name, given in parts.items():
        rows = np.asarray(given)
        if rows.dtype == np.bool_:
            if rows.shape != (num_nodes,):
                raise DataError(f"The {name} mask should be ({num_nodes},), one for each node, found {rows.shape}.")
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
            raise DataError(f"The {name} nodes should be numbers (M,) or a mask, found {rows.dtype} {rows.shape}.")
        rows = rows.astype(np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < num_nodes):
            raise DataError(f"The {name} nodes are {rows.min()} to {rows.max()}; expected 0 to {num_nodes - 1}.")
        found[name] = rows
    for name in ("train", "test"):
        if not found[name].size:
            raise DataError(f"There are no {name} nodes.")
    together = np.concatenate(list(found.values()))
    numbers, counts = np.unique(together, return_counts=True)
    if len(numbers) < len(together):
        raise DataError(f"Node {numbers[counts > 1][0]} is listed more than once in train, validation and test.")
    return found


def _labels(labels: Any, parts: Mapping[str, np.ndarray], num_nodes: int) -> np.ndarray:
    classes = np.asarray(labels)
    if classes.shape != (num_nodes,) or not np.issubdtype(classes.dtype, np.integer):
        raise DataError(f"The labels should be {num_nodes} integers, found {classes.dtype} {classes.shape}.")
    for name, rows in parts.items():
        missing = rows[classes[rows] < 0]
        if missing.size:
            raise DataError(f"{name.capitalize()} node {missing[0]} has no label ({missing.size} such nodes).")
    return classes.astype(np.int64)


def _pairs(edges: Any, num_nodes: int) -> np.ndarray:
    """Both directions of every edge once, (2, E), in the order of the receiving nodes."""
    pairs = np.asarray(edges)
    if pairs.ndim != 2 or pairs.shape[0] != 2 or (pairs.size and not np.issubdtype(pairs.dtype, np.integer)):
        raise DataError(
            f"The edges should be node numbers (2, E), found {pairs.dtype} {pairs.shape}. "
            "Of a matrix they are numpy.stack(matrix.nonzero())."
        )
    pairs = pairs.astype(np.int64)
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < num_nodes):
        raise DataError(f"The edges join nodes {pairs.min()} to {pairs.max()}; expected 0 to {num_nodes - 1}.")
    pairs = pairs[:, pairs[0] != pairs[1]]
    codes = np.unique(np.concatenate([pairs[0] * num_nodes + pairs[1], pairs[1] * num_nodes + pairs[0]]))
    return np.stack([codes // num_nodes, codes % num_nodes])


def _among(features: np.ndarray, pairs: np.ndarray, seen: np.ndarray) -> tuple[jax.Array, Edges]:
    """Features and edges of the graph that the nodes `seen` (sorted) make among themselves."""
    number = np.full(len(features), -1)
    number[seen] = np.arange(len(seen))
    kept = number[pairs][:, (number[pairs] >= 0).all(0)]
    receivers, senders = (jnp.asarray(end, jnp.int32) for end in kept)
    return jnp.asarray(features[seen]), Edges(receivers, senders, jnp.ones(kept.shape[1], jnp.float32))


def _fingerprint(class_names: tuple[str, ...], inductive: bool, **arrays: np.ndarray) -> str:
    digest = hashlib.sha256(repr((class_names, inductive)).encode())
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:FINGERPRINT_DIGITS]
