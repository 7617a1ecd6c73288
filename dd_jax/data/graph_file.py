"""A graph in one npz file: features, edges, labels and the nodes of each part, under usual names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax.data.npz import read_arrays
from dd_jax.data.splits import SPELLINGS
from dd_jax.data.telling import listed, tell
from dd_jax.errors import DataError

_FORMS = ("{}", "{}mask", "{}idx", "{}index", "{}nodes", "idx{}", "index{}")  # of the nodes of a split
_SPELLINGS = {  # in lower case and without anything between letters
    "features": ("features", "x", "attr", "attributes", "nodefeatures"),
    "edges": ("edges", "edgeindex", "edgelist", "adj", "adjacency"),
    "labels": ("labels", "y", "targets"),
    "weights": ("weights", "edgeweights", "edgeweight"),
    "class_names": ("classnames", "labelnames"),
    **{part: tuple(form.format(word) for word in words for form in _FORMS) for part, words in SPELLINGS.items()},
}
_NEEDED = ("features", "edges", "labels", *SPELLINGS)
_COMPRESSED = ("data", "indices", "indptr", "shape")  # arrays of a SciPy matrix of compressed rows, by their ends


def read_graph_file(path: Path) -> dict[str, Any]:
    """What `graph_from_arrays` takes, out of an npz file; tells which arrays were left out.

    The names are those of `graph_from_arrays`, or others in use such as x, edge_index, y, train_mask; features and
    edges may be SciPy matrices of compressed rows, saved as adj_data, adj_indices, adj_indptr and adj_shape.

    Raises:
        DataError: no such file, damaged, an array that is missing, or there under two names.
    """
    arrays = _with_matrices(read_arrays(path), path)
    words = {word: name for name, spellings in _SPELLINGS.items() for word in spellings}
    found: dict[str, Any] = {}
    keys: dict[str, str] = {}
    left_out = []
    for key, array in arrays.items():
        name = words.get(re.sub(r"[^a-z]", "", key.lower()))
        if name is None:
            left_out.append(repr(key))
            continue
        if name in keys:
            raise DataError(f"{path} has the {name} under two names, {keys[name]!r} and {key!r}. Save one of them.")
        keys[name], found[name] = key, array
    if missing := [name for name in _NEEDED if name not in found]:
        raise DataError(
            f"{path} has no {listed(missing)}. Expected features (N, F), edges (2, E), labels "
            "(N,), and train, validation and test as node numbers or masks; found "
            f"{listed([*map(repr, arrays)])}."
        )
    if left_out:
        tell(f"{path}: left out {listed(left_out)}.")
    if "class_names" in found:
        found["class_names"] = found["class_names"].tolist()
    return found


def _with_matrices(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, Any]:
    """The arrays, with those that together are a SciPy matrix as that matrix."""
    from scipy.sparse import csr_matrix

    found: dict[str, Any] = dict(arrays)
    for key in arrays:
        name, _, end = key.rpartition("_")
        parts = [f"{name}_{part}" for part in _COMPRESSED]
        if end != "indptr" or not set(parts) <= found.keys():
            continue
        data, indices, starts, shape = (found.pop(part) for part in parts)
        if data.dtype.kind not in "biuf" or not all(array.dtype.kind in "iu" for array in (indices, starts, shape)):
            raise DataError(
                f"{path} is damaged: {name} is not a matrix of numbers in compressed rows. Save it "
                "again with scipy.sparse.csr_matrix."
            )
        try:
            matrix = csr_matrix((data, indices, starts), tuple(int(side) for side in shape))
            matrix.check_format()
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(
                f"{path} is damaged: {name} is not a matrix in compressed rows: {error}. Save it "
                "again with scipy.sparse.csr_matrix."
            ) from error
        found[re.sub(r"[_.]?matrix$", "", name)] = matrix
    return found
