"""Citation graphs in the Planetoid files: Cora, Citeseer, Pubmed.

The files are pickles of Python 2. They are read by an unpickler that knows lists, dictionaries and descriptions of
arrays only; nothing in them runs.

Source: Yang, Cohen & Salakhutdinov, "Revisiting semi-supervised learning with graph embeddings", ICML 2016; the files
are at https://github.com/kimiyoung/planetoid.
"""

import io
import math
import pickle
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from dd_jax.data.memory import free_host_memory, in_units
from dd_jax.data.pickles import MALFORMED, check_opcodes
from dd_jax.data.tfds_find import data_dir
from dd_jax.errors import DataError, unknown_name

URL = "https://github.com/kimiyoung/planetoid/raw/master/data/"
CLASSES = {
    "cora": (
        "theory",
        "reinforcement learning",
        "genetic algorithms",
        "neural networks",
        "probabilistic methods",
        "case based",
        "rule learning",
    ),
    "citeseer": ("Agents", "AI", "DB", "IR", "ML", "HCI"),
    "pubmed": ("experimental", "type 1", "type 2"),
}
FOLDER = "planetoid"
PARTS = ("y", "tx", "ty", "allx", "ally", "graph", "test.index")  # "x" is the beginning of "allx"
NUM_VALIDATION = 500  # nodes, those after the training nodes: Kipf & Welling 2017, section 5.1
UNLABELLED = -1

_MAX_FILE = 2**30  # bytes; the largest, ind.pubmed.allx, has 12 million
_NUMBERS = ("f4", "f8", "i4", "i8", "u1", "b1")  # types of arrays


def read_planetoid(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What `graph_from_arrays` takes: features (N, F), edges (2, E), labels (N,), the three parts, class names.

    Training nodes are those with published labels, 20 of each class; validation the 500 after them; test the
    published 1,000. Nodes that are in no file (15 of Citeseer) have no features, edges or label.

    Args:
        name: "cora", "citeseer" or "pubmed".
        folder: holds the files ind.NAME.*; by default `planetoid` inside or beside TFDS_DATA_DIR.

    Raises:
        DataError: the files are not there (the message says how to fetch them), damaged, or hold something else.
        OptionError: an unknown name.
    """
    if name not in CLASSES:
        raise unknown_name("Planetoid graph", name, CLASSES)
    home = data_dir().absolute()
    folders = [home / FOLDER, home.parent / FOLDER] if folder is None else [folder]
    files = {part: f"ind.{name}.{part}" for part in PARTS}
    found = next((place for place in folders if all((place / file).is_file() for file in files.values())), None)
    if found is None:
        raise _not_there(name, folders, files)
    test = _numbers(found / files["test.index"])
    read = {part: _read(found / file) for part, file in files.items() if part != "test.index"}
    features, targets = _assembled(read, test, found / files["tx"], len(CLASSES[name]))
    edges = _edges(read["graph"], len(features), found / files["graph"])
    num_train = len(read["y"])
    fits = isinstance(read["y"], np.ndarray) and num_train + NUM_VALIDATION <= test.min()
    _require(fits, found / files["y"], f"should be the labels of at most {test.min() - NUM_VALIDATION} nodes")
    return {
        "features": features,
        "normalise_rows": True,
        "edges": edges,
        "labels": np.where(targets.sum(1) == 1, targets.argmax(1), UNLABELLED),
        "train": np.arange(num_train),
        "validation": np.arange(num_train, num_train + NUM_VALIDATION),
        "test": np.sort(test),
        "class_names": CLASSES[name],
    }


def _assembled(
    read: Mapping[str, Any], test: np.ndarray, where: Path, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Features and one-hot labels of all nodes: the first ones in order, and the test nodes where their index says."""
    found = []
    for first, last in (("allx", "tx"), ("ally", "ty")):
        known, tested = read[first], read[last]
        ok = all(isinstance(array, np.ndarray) and array.ndim == 2 for array in (known, tested))
        _require(ok and known.shape[1] == tested.shape[1], where, f"and {first} should be matrices of one width")
        _require(len(tested) == len(test), where, f"has {len(tested)} rows for {len(test)} test nodes")
        size = int(test.max()) + 1
        _require(
            len(known) <= test.min() and size <= 2 * (len(known) + len(test)),
            where.with_name(f"{where.stem}.test.index"),
            f"has nodes {test.min()} to {test.max()}, but the others are {len(known)}",
        )
        whole = np.zeros((size, known.shape[1]), np.float32)
        whole[: len(known)], whole[test] = known, tested
        found.append(whole)
    features, targets = found
    _require(targets.shape[1] == num_classes, where, f"belongs to {targets.shape[1]} classes, expected {num_classes}")
    return features, targets


def _edges(graph: Any, num_nodes: int, where: Path) -> np.ndarray:
    """Edges (2, E), both directions of each, out of lists of neighbours."""
    _require(isinstance(graph, dict), where, "should hold a dictionary of neighbours")
    pairs = []
    for node, neighbours in graph.items():
        lists = type(node) is int and isinstance(neighbours, list) and all(type(other) is int for other in neighbours)
        _require(lists, where, "should hold lists of node numbers")
        pairs += [(node, other) for other in neighbours]
    _require(pairs, where, "has no edges")
    low, high = (f(map(f, pairs)) for f in (min, max))
    _require(
        low >= 0 and high < num_nodes, where, f"has edges between nodes {low} to {high}, expected 0 to {num_nodes - 1}"
    )
    edges = np.asarray(pairs, np.int64).T
    return np.concatenate([edges, edges[::-1]], axis=1)


def _numbers(path: Path) -> np.ndarray:
    """The numbers of the test nodes, a line each."""
    try:
        numbers = np.asarray([int(word) for word in _bytes(path).split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path} is damaged: {error!s:.80}. Fetch it again from {URL}.") from error
    _require(numbers.size and numbers.min() > 0 and len(set(numbers.tolist())) == len(numbers), path, "is damaged")
    _require(numbers.max() < 2**31, path, "has a node number beyond 2 billion")
    return numbers


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        _require(size <= _MAX_FILE, path, f"has {in_units(size)}, more than any of these files")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from error


def _require(condition: Any, path: Path, problem: str) -> None:
    if not condition:
        raise DataError(f"{path} {problem}. Fetch it again from {URL}.")


# The pickles.


def _read(path: Path) -> Any:
    """The array, or the dictionary, that is pickled in a file."""
    data = _bytes(path)
    try:
        stream = io.BytesIO(data)
        check_opcodes(stream, 0)
        found = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        return found.dense() if isinstance(found, _Matrix) else found.array() if isinstance(found, _Array) else found
    except _RefusedError as error:
        raise DataError(f"{path} {error}; it was not run. Fetch it again from {URL}.") from error
    except MALFORMED as error:
        raise DataError(
            f"{path} is damaged, or no Planetoid file: {error!s:.80}. Fetch it again from {URL}."
        ) from error


class _RefusedError(Exception):
    """Says what a file asks for, after its name."""


class _Described:
    """What a pickle says of an object, kept as it stands; it can be told once."""

    __slots__ = ("said",)
    said: Any

    def __new__(cls, *_: Any) -> Self:
        self = super().__new__(cls)
        self.said = None
        return self

    def __setstate__(self, state: Any) -> None:
        self.said = state


class _Type(_Described):
    """A NumPy type: its name comes as the first argument."""

    __slots__ = ("name",)
    name: Any

    def __new__(cls, *given: Any) -> Self:
        self = super().__new__(cls)
        self.name = given[0] if given else None
        return self


class _Array(_Described):
    """A NumPy array: (version, shape, type, whether in Fortran order, bytes)."""

    __slots__ = ()

    def array(self) -> np.ndarray:
        _, shape, kind, fortran, raw = self.said
        if not isinstance(kind, _Type) or kind.name not in _NUMBERS or not isinstance(raw, str):
            raise ValueError("an array of something else than numbers")
        if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("an array without a shape")
        dtype = np.dtype(f"<{kind.name}")
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise ValueError("an array that is cut off")
        values = np.frombuffer(raw.encode("latin1"), dtype)
        return values.reshape(shape, order="F" if fortran is True else "C")


class _Matrix(_Described):
    """A SciPy matrix of compressed rows: its attributes."""

    __slots__ = ()

    def dense(self) -> np.ndarray:
        values, columns, starts = (self.said[name].array() for name in ("data", "indices", "indptr"))
        height, width = self.said["_shape"]
        if not all(type(side) is int and 0 < side < 2**31 for side in (height, width)):
            raise ValueError("a matrix without a shape")
        lengths = np.diff(starts)
        if starts.shape != (height + 1,) or starts[0] != 0 or (lengths < 0).any() or starts[-1] != len(values):
            raise ValueError("a matrix whose rows don't fit its values")
        if columns.shape != values.shape or values.ndim != 1 or len(columns) == 0:
            raise ValueError("a matrix whose columns don't fit its values")
        if columns.min() < 0 or columns.max() >= width:
            raise ValueError("a matrix with a column that is outside")
        if 4 * height * width > free_host_memory():
            raise ValueError(f"a matrix of {in_units(4 * height * width)}, more than the memory that is free")
        dense = np.zeros((height, width), np.float32)
        np.add.at(dense, (np.repeat(np.arange(height), lengths), columns), values)
        return dense


def _make_array(*_: Any) -> _Array:
    return _Array()


def _make_dictionary(*_: Any) -> dict[Any, Any]:
    return {}


_NAMES: Mapping[tuple[str, str], Callable[..., Any] | str] = {
    ("numpy.core.multiarray", "_reconstruct"): _make_array,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Type,
    ("scipy.sparse.csr", "csr_matrix"): _Matrix,
    ("collections", "defaultdict"): _make_dictionary,
    ("__builtin__", "list"): "list",
}


class _Unpickler(pickle.Unpickler):
    """Gives lists, dictionaries, text, numbers and what is said of arrays; refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _RefusedError(f"asks for {f'{module}.{name}'!r:.80}, which no graph needs")
        return _NAMES[module, name]


def _not_there(name: str, folders: list[Path], files: Mapping[str, str]) -> DataError:
    looked = " and ".join(map(str, folders))
    to, parts = shlex.quote(str(folders[0])), " ".join(files)
    return DataError(
        f"The graph {name} is not there: looked for {', '.join(files.values())} in {looked}. Fetch the files, once:\n"
        f"    mkdir -p {to} && cd {to}\n"
        f"    for part in {parts}; do curl -fLO {URL}ind.{name}.$part; done\n"
        f'If they are somewhere else, name their folder: "planetoid:PATH/{name}".'
    )
