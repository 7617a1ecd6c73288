"""Datasets in one npz file, under our key names, those of Keras and MedMNIST, or others that can mean nothing else."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dd_jax.data.archive import read_archive
from dd_jax.data.arrays import Pair, RawData, with_test
from dd_jax.data.labels import names_of
from dd_jax.data.missing import not_there
from dd_jax.data.splits import SPELLINGS
from dd_jax.data.telling import listed
from dd_jax.errors import DataError

KEYS = {
    "train": (("images", "labels"), ("train_images", "train_labels"), ("x_train", "y_train")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
    "validation": (("validation_images", "validation_labels"), ("val_images", "val_labels"), ("x_val", "y_val")),
}
CLASS_NAMES = "class_names"
_GRAPH = {"edges", "edge_index", "adj_data"}

_SPELLINGS = {
    "images": ("images", "image", "imgs", "img", "data", "x"),
    "labels": ("labels", "label", "targets", "target", "y"),
}
_NAMES = ("classnames", "labelnames", "classes", "names", "categories")  # of the classes, where they are text

_ROLES = {spelling: role for role, spellings in _SPELLINGS.items() for spelling in spellings}
_PARTS = {spelling: part for part, spellings in SPELLINGS.items() for spelling in spellings}
_PART, _ROLE = ("|".join(sorted(words, key=len, reverse=True)) for words in (_PARTS, _ROLES))
_NAME = re.compile(f"(?P<before>{_PART})?(?P<role>{_ROLE})(?P<after>{_PART})?")
_KNOWN = {name: (part, role) for part, families in KEYS.items() for pair in families
          for name, role in zip(pair, _SPELLINGS, strict=True)}  # fmt: skip


def read_npz(path: Path) -> RawData:
    """The pairs of an npz file: `images` and `labels`, and optionally test and validation ones and `class_names`.

    The notes say which names were guessed, such as "images_test", and which arrays were left out. Validation arrays
    without test arrays are the test split.

    Args:
        path: the file. See `KEYS` for the accepted names.

    Raises:
        DataError: no such file, damaged, holding Python objects, without images and labels, or with the same arrays
            under two names.
    """
    arrays = read_arrays(path)
    meant, notes = _meant(arrays, path)
    pairs = {part: _pair(arrays, meant, part, path) for part in KEYS if not _GRAPH & set(arrays)}
    train = pairs.get("train")
    if train is None:
        wanted = " or ".join(f"{images!r} and {labels!r}" for images, labels in KEYS["train"])
        graph = " For a graph use graph:PATH." if _GRAPH & set(arrays) else ""
        raise DataError(f"{path} has no training arrays: expected {wanted}; found {_found(arrays)}.{graph}")
    names = meant.get(("", CLASS_NAMES))
    raw = RawData(
        train,
        test=pairs["test"],
        validation=pairs["validation"],
        class_names=None if names is None else names_of(np.atleast_1d(arrays[names]).tolist()),
        notes=notes,
    )
    return with_test(raw)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file; nothing is unpickled.

    Raises:
        DataError: no such file, damaged, holding Python objects, or not an npz file.
    """
    if not path.is_file():
        raise not_there("file", path, "Expected an npz file, as numpy.savez writes it.")
    try:
        with path.open("rb") as file:
            if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                raise DataError(
                    f"{path} holds a single array; expected an npz file of several. Save it with numpy.savez."
                )
            return read_archive(file, str(path))
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error


def _meant(arrays: Mapping[str, np.ndarray], path: Path) -> tuple[dict[tuple[str, str], str], tuple[str, ...]]:
    """The key of each (part, role) that the file has, and notes on keys that were guessed or left out."""
    meant: dict[tuple[str, str], str] = {}
    guessed, left_out = [], []
    for key, array in arrays.items():
        place = _KNOWN.get(key) or _place(key, array)
        if place is None:
            left_out.append(key)
            continue
        if place in meant:
            raise DataError(
                f"{path} has the {' '.join(place).strip()} under two names, {meant[place]!r} and "
                f"{key!r}. Save only one of them."
            )
        meant[place] = key
        if key not in (*_KNOWN, CLASS_NAMES):
            guessed.append(f"{key!r} as the {' '.join(place).strip()}")
    read = [f"{path}: read {', '.join(guessed)}."] if guessed else []
    return meant, (*read, *([f"{path}: left out {listed([*map(repr, left_out)])}."] if left_out else []))


def _place(key: str, array: np.ndarray) -> tuple[str, str] | None:
    """What a key can only mean, whatever its case, its underscores and the order of its words."""
    word = re.sub(r"[^a-z0-9]", "", key.lower())
    if word in _NAMES:
        return ("", CLASS_NAMES) if key == CLASS_NAMES or array.dtype.kind in "US" else None
    match = _NAME.fullmatch(word)
    if match is None or (match["before"] and match["after"]):
        return None
    return _PARTS[match["before"] or match["after"] or "train"], _ROLES[match["role"]]


def _pair(arrays: Mapping[str, np.ndarray], meant: Mapping[tuple[str, str], str], part: str, path: Path) -> Pair | None:
    there = {role: meant[part, role] for role in _SPELLINGS if (part, role) in meant}
    if len(there) == 1:
        ((role, name),) = there.items()
        wanted = next((pair[role == "images"] for pair in KEYS[part] if name in pair), KEYS[part][0][role == "images"])
        raise DataError(f"{path} has {name!r} but not {wanted!r}; found {_found(arrays)}. Save both in one file.")
    return (arrays[there["images"]], arrays[there["labels"]]) if there else None


def _found(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(map(repr, arrays)) or "nothing"
