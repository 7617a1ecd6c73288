"""Turning whatever arrays a user has of a graph into features, node numbers, classes and edges, or saying why not."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dd_jax.data.checks import as_array, unmasked
from dd_jax.data.labels import one_column
from dd_jax.data.memory import free_host_memory, in_units
from dd_jax.data.telling import tell
from dd_jax.errors import DataError


def as_features(features: Any, normalise_rows: bool | None) -> np.ndarray:
    """Features as (N, F) float32, those of each node divided by their sum where that is asked for or they are counts.

    Args:
        features: numbers or bool (N, F); an array, or a matrix of SciPy.
        normalise_rows: None divides counts, that is integers that are not negative, and says what it did.

    Raises:
        DataError: another type or shape, masked or not finite, or negative where they are to be divided by their sum.
    """
    values = as_array(_dense(features, "features"), "features")
    if values.ndim != 2 or not (np.issubdtype(values.dtype, np.number) or values.dtype == np.bool_):
        raise DataError(
            f"The features should be numbers of shape (N, F), but are {values.dtype} of shape {values.shape}."
        )
    if np.iscomplexobj(values):
        raise DataError(
            "The features are complex numbers; expected real ones. Give real and imaginary parts as separate features."
        )
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(
            f"The features must be finite, but those of node {int(np.argmin(np.isfinite(values).all(1)))} are not."
        )
    negative = np.flatnonzero((values < 0).any(1))
    if normalise_rows is None:
        normalise_rows = not negative.size and bool((values == np.floor(values)).all())
        _tell_rows(normalise_rows, values, negative)
    if not normalise_rows:
        return values
    if negative.size:
        raise DataError(
            f"Features are divided by their sum only where none is negative, but {negative.size} "
            f"nodes, such as {negative[0]}, have negative ones. Leave normalise_rows=False, and "
            "scale the features yourself if needed."
        )
    sums = values.sum(1, keepdims=True)
    return np.divide(values, sums, out=values.copy(), where=sums != 0)


def as_parts(parts: Mapping[str, Any], num_nodes: int) -> dict[str, np.ndarray]:
    """The node numbers of each part, out of numbers or masks.

    Raises:
        DataError: numbers that are none of nodes, a node in two parts, or no nodes to train or test on.
    """
    found = {}
    for name, given in parts.items():
        rows = unmasked(given, f"{name} nodes")
        if rows.dtype == np.bool_:
            if rows.shape != (num_nodes,):
                raise DataError(
                    f"The {name} mask should be ({num_nodes},), one value for each node, but is {rows.shape}."
                )
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
            raise DataError(
                f"The {name} nodes should be node numbers (M,) or a mask, but are {rows.dtype} of shape {rows.shape}."
            )
        rows = rows.astype(np.int64)
        if len(rows) == num_nodes > 2 and np.isin(rows, (0, 1)).all():
            raise DataError(
                f"The {name} nodes are zeros and ones, which could be numbers or a mask. Give a mask "
                f"as bool: {name}.astype(bool)."
            )
        if rows.size and not (rows.min() >= 0 and rows.max() < num_nodes):
            raise DataError(f"The {name} nodes are {rows.min()} to {rows.max()}; expected 0 to {num_nodes - 1}.")
        found[name] = rows
    for name in ("train", "test"):
        if not found[name].size:
            raise DataError(f"The {name} split has no nodes. Give at least one.")
    together = np.concatenate(list(found.values()))
    numbers, counts = np.unique(together, return_counts=True)
    if len(numbers) < len(together):
        raise DataError(
            f"Node {numbers[counts > 1][0]} is listed more than once in train, validation and test. "
            "Each node can be in one of them."
        )
    return found


def as_node_labels(labels: Any, parts: Mapping[str, np.ndarray], num_nodes: int) -> np.ndarray:
    """Labels as (N,) integers, out of (N,) or (N, 1); below 0 for nodes without a label.

    Raises:
        DataError: another type or shape, or a node of a part without a label.
    """
    classes = one_column(as_array(labels, "labels"), num_nodes, "labels", "node")
    if not np.issubdtype(classes.dtype, np.integer):
        raise DataError(
            f"The labels should be {num_nodes} integers, one for each node, but are {classes.dtype} "
            f"of shape {classes.shape}."
        )
    for name, rows in parts.items():
        missing = rows[classes[rows] < 0]
        if missing.size:
            raise DataError(
                f"Every {name} node needs a label, but {missing.size} of them have none, such as node {missing[0]}."
            )
    return classes.astype(np.int64)


def as_pairs(edges: Any, weights: Any, num_nodes: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Both directions of every edge once, (2, E), in the order of the receiving nodes, and their weights (E,) if given.

    Args:
        edges: (2, E) node numbers, or a matrix (N, N) of all pairs, dense or of SciPy, whose values are the weights.
        weights: (E,) positive, or None.

    Raises:
        DataError: other shapes or types, numbers that are none of nodes, or weights that are not positive or differ
            between two mentions of one edge.
    """
    pairs, values = _listed(edges, num_nodes)
    if values is not None and weights is not None:
        raise DataError("The edges are a matrix, whose values are the weights already. Leave out weights.")
    if values is not None and not (values == 1).all():
        weights = values
    if pairs.ndim != 2 or pairs.shape[0] != 2 or (pairs.size and not np.issubdtype(pairs.dtype, np.integer)):
        raise DataError(
            f"The edges should be pairs of node numbers (2, E) or a matrix ({num_nodes}, "
            f"{num_nodes}), but are {pairs.dtype} of shape {pairs.shape}."
        )
    pairs = pairs.astype(np.int64)
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < num_nodes):
        raise DataError(f"The edges join nodes {pairs.min()} to {pairs.max()}; expected 0 to {num_nodes - 1}.")
    sizes = None if weights is None else _as_weights(weights, pairs.shape[1])
    between = pairs[0] != pairs[1]
    pairs, sizes = pairs[:, between], None if sizes is None else sizes[between]
    there, back = pairs[0] * num_nodes + pairs[1], pairs[1] * num_nodes + pairs[0]
    _tell_directions(there, back)
    codes, first, inverse = np.unique(np.concatenate([there, back]), return_index=True, return_inverse=True)
    both = np.stack([codes // num_nodes, codes % num_nodes])
    if sizes is None:
        return both, None
    twice = np.concatenate([sizes, sizes])
    if (differ := np.flatnonzero(twice[first][inverse] != twice)).size:
        node, other = sorted(both[:, inverse[differ[0]]])
        raise DataError(
            f"The edge between nodes {node} and {other} has two weights, but edges have no "
            "direction. Give each edge one weight, such as the mean of the matrix and its "
            "transpose."
        )
    return both, twice[first]


def _listed(edges: Any, num_nodes: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Edges as a list (2, E), and of a matrix its values (E,)."""
    if hasattr(edges, "tocoo"):
        matrix = edges.tocoo()
        pairs, values = np.stack([matrix.row, matrix.col]), np.asarray(matrix.data)
    else:
        pairs = unmasked(edges, "edges")
        pairs = pairs if pairs.size else np.zeros((2, 0), int)
        if pairs.shape != (num_nodes, num_nodes) or num_nodes <= 2:
            return (pairs.T if pairs.ndim == 2 and pairs.shape[1] == 2 != pairs.shape[0] else pairs), None
        matrix, pairs = pairs, np.stack(pairs.nonzero())
        values = matrix[tuple(pairs)]
    return pairs, values


def _as_weights(weights: Any, count: int) -> np.ndarray:
    sizes = unmasked(weights, "weights")
    if sizes.shape != (count,) or not np.issubdtype(sizes.dtype, np.number):
        raise DataError(
            f"The weights should be numbers ({count},), one for each edge, but are {sizes.dtype} "
            f"of shape {sizes.shape}."
        )
    sizes = sizes.astype(np.float32)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise DataError(
            f"The weights of edges should be positive and finite, but are from {sizes.min():g} to {sizes.max():g}."
        )
    return sizes


def _dense(matrix: Any, what: str) -> Any:
    """A matrix of SciPy as an array, if that fits into memory."""
    if not (hasattr(matrix, "toarray") and hasattr(matrix, "nnz")):
        return matrix
    needed, free = matrix.shape[0] * matrix.shape[1] * 8, free_host_memory()
    if needed > free:
        raise DataError(
            f"The {what} take {in_units(needed)} as an array, but only {in_units(free)} of memory "
            "are free. Use a smaller graph or a machine with more memory."
        )
    return matrix.toarray()


def _tell_rows(divided: bool, values: np.ndarray, negative: np.ndarray) -> None:
    if divided:
        tell(
            "The features are counts, so those of each node are divided by their sum. Give "
            "normalise_rows=True to say so yourself."
        )
    else:
        why = "negative values" if negative.size else f"fractions, such as {values[values != np.floor(values)][0]:g}"
        tell(
            f"The features have {why}, so they are not counts and are left as they are. Give "
            "normalise_rows=False to say so yourself."
        )


def _tell_directions(there: np.ndarray, back: np.ndarray) -> None:
    """Tell where some edges are given in both directions and others in one: these may be meant to be directed."""
    alone = ~np.isin(there, back)
    if alone.any() and not alone.all():
        tell(
            f"{int(alone.sum())} of {len(there)} edges are given in one direction only. Edges "
            "have no direction here, so all are used in both."
        )
