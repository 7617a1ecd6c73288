"""Labels as integer classes counted from 0, and the names of the classes, or saying why not."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from dd_jax.data.checks import as_array
from dd_jax.data.telling import listed
from dd_jax.errors import DataError

ClassNames: TypeAlias = Sequence[str] | Sequence[bytes] | Mapping[Any, Any]
MAX_LABEL = np.iinfo(np.int32).max

_SUM_SLACK = 1e-3  # how far the shares of a row may sum to something else than one


def as_labels(labels: Any, count: int, what: str) -> np.ndarray:
    """Labels as (N,) int32 classes counted from 0; (N, 1) is taken as (N,).

    Args:
        labels: (N,) integers, or floats with integer values.
        count: N, the number of images.
        what: what to call them in an error, e.g. "test labels".

    Raises:
        DataError: another type, shape or length; negative or fractional values; several classes an image.
    """
    array = one_column(as_array(labels, what), count, what)
    values = array.astype(np.float64)  # float32 doesn't know the largest label from one more
    wrong = np.flatnonzero(~((values >= 0) & (values <= MAX_LABEL) & (values == np.floor(values))))
    if wrong.size:
        raise DataError(
            f"The {what} must be integers from 0, but {wrong.size} are not, such as "
            f"{array[wrong[0]]} at index {wrong[0]}."
        )
    return array.astype(np.int32)


def one_column(array: np.ndarray, count: int, what: str, each: str = "image") -> np.ndarray:
    """Labels (N,) of numbers, out of (N,) or (N, 1).

    Raises:
        DataError: another shape or type; the message says what is meant by that shape, as far as it can be seen.
    """
    if array.ndim == 2 and array.shape == (count, 1):
        array = array[:, 0]
    if array.ndim == 2:
        raise DataError(
            f"The {what} should be integer classes of shape ({count},), but have shape {array.shape}"
            f"{_meaning(array, count, each)}"
        )
    if array.ndim != 1 or len(array) != count:
        raise DataError(f"The {what} should have shape ({count},), one for each {each}, but have {array.shape}.")
    if not _is_numeric(array):
        raise DataError(
            f"The {what} have type {array.dtype}; expected integer classes counted from 0. "
            "Convert with class_names, labels = numpy.unique(labels, return_inverse=True)."
        )
    return array


def as_class_names(class_names: ClassNames | None, train_labels: np.ndarray) -> tuple[str, ...]:
    """One name per class; without names, the numbers.

    Args:
        class_names: text or UTF-8 bytes, in the order of the classes; or a mapping from classes to names, or back.

    Raises:
        DataError: fewer than two classes, names that are not as many as the classes or not distinct, or
            a class without a training image.
    """
    if train_labels.max() >= len(train_labels):
        raise DataError(
            f"The train labels go up to {train_labels.max()}, but there are only "
            f"{len(train_labels)} images, so some classes have none. Number the classes without "
            "gaps: numpy.unique(labels, return_inverse=True)."
        )
    counts = np.bincount(train_labels)
    names = tuple(map(str, range(len(counts)))) if class_names is None else names_of(class_names)
    if len(names) < len(counts):
        raise DataError(
            f"There should be a name for each class, but there are {len(names)} names and the train "
            f"labels go up to {len(counts) - 1}."
        )
    if len(names) < 2:
        raise DataError(f"A dataset needs at least 2 classes, but has {len(names)}.")
    if len(set(names)) < len(names):
        raise DataError(f"The class names must differ, but {max(names, key=names.count)!r} is there more than once.")
    empty = [f"{name!r} (label {i})" for i, name in enumerate(names) if i >= len(counts) or not counts[i]]
    if empty:
        raise DataError(
            f"Every class needs a training image, but these have none: {listed(empty)}. There are {len(names)} classes "
            f"and the labels go up to {len(counts) - 1}. Number the classes without gaps and give one name for each."
        )
    return names


def names_of(class_names: ClassNames) -> tuple[str, ...]:
    """Names as text, in the order of the classes.

    Raises:
        DataError: bytes that are no UTF-8, one string of bytes, or a mapping that is not of the classes from 0.
    """
    if isinstance(class_names, bytes) or not np.iterable(class_names):
        raise DataError(
            "class_names should be a sequence of names, one for each class, but is a single name: "
            f"{class_names!r:.200}."
        )
    if isinstance(class_names, Mapping):
        class_names = _in_order(class_names)
    return tuple(map(_text, class_names))


def _in_order(names: Mapping[Any, Any]) -> list[Any]:
    """The names of a mapping {0: "cat", 1: "dog"} or {"cat": 0, "dog": 1}."""
    for pairs in (names.items(), [(value, key) for key, value in names.items()]):
        try:
            by_class = {int(label): name for label, name in pairs}
        except (TypeError, ValueError):
            continue
        if sorted(by_class) == list(range(len(names))):
            return [by_class[label] for label in range(len(names))]
    raise DataError(
        f"class_names should map names to the classes 0 to {len(names) - 1} without gaps, but is {dict(names)!r:.200}."
    )


def _text(name: Any) -> str:
    if not isinstance(name, bytes):
        return str(name)
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"The class name {name!r} is not UTF-8. Give the names as text.") from error


def _is_numeric(array: np.ndarray) -> bool:
    numeric = jnp.issubdtype(array.dtype, jnp.integer) or jnp.issubdtype(array.dtype, jnp.floating)
    return numeric and array.dtype.kind != "m"  # durations are integers to NumPy


def _meaning(array: np.ndarray, count: int, each: str) -> str:
    """What labels in a matrix may be, and what to do with them, as the rest of a sentence or two."""
    if array.shape[0] == 1 or len(array) != count:
        fits = array.shape == (1, count)
        return ", a single row. Use labels[0]." if fits else f"; there are {count} {each}s."
    if _is_numeric(array) or array.dtype == np.bool_:
        sums = array.sum(1, dtype=np.float64)
        if np.isin(array, (0, 1)).all():
            if (sums == 1).all():
                return ", which looks one-hot. Convert with labels.argmax(axis=1)."
            found = int((sums != 1).sum())
            return (
                f": {found} {each}s have several classes or none, but each {each} needs exactly one. Keep "
                "those with exactly one, or one column as two classes."
            )
        if array.dtype.kind == "f" and (array >= 0).all() and (np.abs(sums - 1) <= _SUM_SLACK).all():
            return ", shares of classes. To use the largest of each row: labels.argmax(axis=1)."
    return f", {array.shape[1]} labels for each {each}. Choose a column, such as labels[:, 0]."
