"""Datasets in one npz file, under our key names or those of Keras and MedMNIST."""

from pathlib import Path

import numpy as np

from dd_jax.data.archive import read_archive
from dd_jax.data.arrays import Pair, RawData
from dd_jax.errors import DataError

KEYS = {
    "train": (("images", "labels"), ("train_images", "train_labels"), ("x_train", "y_train")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
    "validation": (("validation_images", "validation_labels"), ("val_images", "val_labels"), ("x_val", "y_val")),
}


def read_npz(path: Path) -> RawData:
    """The pairs of an npz file: `images` and `labels`, and optionally test and validation ones and `class_names`.

    Args:
        path: the file. See `KEYS` for the accepted names.

    Raises:
        DataError: no such file, damaged, holding Python objects, or without images and labels.
    """
    arrays = read_arrays(path)
    pairs = {part: _pair(arrays, names, path) for part, names in KEYS.items()}
    if pairs["train"] is None:
        wanted = " or ".join(f"{images!r} and {labels!r}" for images, labels in KEYS["train"])
        raise DataError(f"{path} has no training arrays: expected {wanted}; found {_found(arrays)}.")
    names = arrays.get("class_names")
    return RawData(
        pairs["train"],
        test=pairs["test"],
        validation=pairs["validation"],
        class_names=None if names is None else tuple(map(str, np.atleast_1d(names).tolist())),
    )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file; nothing is unpickled.

    Raises:
        DataError: no such file, damaged, holding Python objects, or not an npz file.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        with path.open("rb") as file:
            if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                raise DataError(f"{path} holds a single array; expected an npz file (numpy.savez).")
            return read_archive(file, str(path))
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error


def _pair(arrays: dict[str, np.ndarray], names: tuple[tuple[str, str], ...], path: Path) -> Pair | None:
    for images, labels in names:
        if (images in arrays) != (labels in arrays):
            there, missing = (images, labels) if images in arrays else (labels, images)
            raise DataError(f"{path} has {there!r} but not {missing!r}; found {_found(arrays)}.")
        if images in arrays:
            return arrays[images], arrays[labels]
    return None


def _found(arrays: dict[str, np.ndarray]) -> str:
    return ", ".join(map(repr, arrays)) or "nothing"
