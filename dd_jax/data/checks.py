"""Turning whatever arrays a user has into uint8 or float32 images and integer labels, or saying why not."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from dd_jax.errors import DataError

PIXEL_SLACK = 1e-4  # how far a float pixel may leave [0, 1] by rounding, e.g. after a resize
MAX_CHANNELS = 4  # a longer last axis behind a short second axis means that channels come first

MAX_LABEL = np.iinfo(np.int32).max
NUM_LISTED = 5  # classes that an error names before it says "..."


def as_images(images: Any, what: str, *, any_range: bool = False) -> np.ndarray:
    """Images as (N, H, W, C), uint8 as they were or float32 (from bool: 0 and 1).

    Args:
        images: (N, H, W) or (N, H, W, C); uint8, bool, or floats in [0, 1].
        what: what to call them in an error, e.g. "test images".
        any_range: floats may have any finite value (they are in model space already).

    Raises:
        DataError: another type or shape, no images, values that are not finite or outside [0, 1].
    """
    array = _as_array(images, what)
    if array.ndim == 3:
        array = array[..., None]
    _check_shape(array, what)
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise DataError(
            f"The {what} have type {array.dtype}; expected uint8 (0 to 255), bool, or floats in [0, 1]. "
            "Convert with images.astype('uint8') when the values are 0 to 255."
        )
    with np.errstate(over="ignore"):  # told right below
        single = array.astype(np.float32, copy=False)
    _check_finite(single, what)
    if not any_range:
        _check_range(array, what)
    return single


def as_labels(labels: Any, count: int, what: str) -> np.ndarray:
    """Labels as (N,) int32 classes counted from 0; (N, 1) is taken as (N,).

    Args:
        labels: (N,) integers, or floats with integer values.
        count: N, the number of images.
        what: what to call them in an error, e.g. "test labels".

    Raises:
        DataError: another type, shape or length; negative or fractional values.
    """
    array = _as_array(labels, what)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        raise DataError(
            f"The {what} have shape {array.shape}, which looks one-hot; expected (N,) integer classes. "
            "Convert with labels.argmax(axis=1)."
        )
    if array.ndim != 1 or len(array) != count:
        raise DataError(f"The {what} have shape {array.shape}; expected ({count},), one for each image.")
    numeric = jnp.issubdtype(array.dtype, jnp.integer) or jnp.issubdtype(array.dtype, jnp.floating)
    if not numeric or array.dtype.kind == "m":  # durations are integers to NumPy
        raise DataError(
            f"The {what} have type {array.dtype}; expected integer classes counted from 0. "
            "Convert with class_names, labels = numpy.unique(labels, return_inverse=True)."
        )
    values = array.astype(np.float64)  # float32 doesn't know the largest label from one more
    wrong = np.flatnonzero(~((values >= 0) & (values <= MAX_LABEL) & (values == np.floor(values))))
    if wrong.size:
        raise DataError(
            f"The {what} must be integers from 0; found {array[wrong[0]]} at index {wrong[0]} "
            f"({wrong.size} such labels)."
        )
    return array.astype(np.int32)


def as_class_names(class_names: Sequence[str] | None, train_labels: np.ndarray) -> tuple[str, ...]:
    """One name per class; without names, the numbers.

    Raises:
        DataError: fewer than two classes, names that are not as many as the classes or not distinct, or
            a class without a training image.
    """
    if train_labels.max() >= len(train_labels):
        raise DataError(
            f"The train labels go up to {train_labels.max()}, but there are only {len(train_labels)} images: some "
            "class has none. Number the classes without gaps: numpy.unique(labels, return_inverse=True)."
        )
    counts = np.bincount(train_labels)
    names = tuple(map(str, range(len(counts)) if class_names is None else class_names))
    if len(names) < len(counts):
        raise DataError(f"There are {len(names)} class names, but the train labels go up to {len(counts) - 1}.")
    if len(names) < 2:
        raise DataError(f"A classification dataset needs at least 2 classes; found {len(names)}.")
    if len(set(names)) < len(names):
        raise DataError(f"The class names must differ; {max(names, key=names.count)!r} comes more than once.")
    empty = [f"{name!r} (label {i})" for i, name in enumerate(names) if i >= len(counts) or not counts[i]]
    if empty:
        listed = ", ".join(empty[:NUM_LISTED]) + (", ..." if len(empty) > NUM_LISTED else "")
        raise DataError(
            f"No training image belongs to class {listed}: there are {len(names)} classes and the labels "
            f"go up to {len(counts) - 1}. Number the classes without gaps and give one name for each."
        )
    return names


def check_alike(images: np.ndarray, labels: np.ndarray, train: np.ndarray, num_classes: int, what: str) -> None:
    """Raise a DataError unless a further split has the image shape and the classes of the train split."""
    if images.shape[1:] != train.shape[1:]:
        raise DataError(f"The {what} images are {images.shape[1:]} each, but the train images {train.shape[1:]}.")
    if labels.max() >= num_classes:
        raise DataError(
            f"The {what} labels go up to {labels.max()}, but the train split has the {num_classes} classes "
            f"0 to {num_classes - 1}."
        )


def _as_array(values: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"The {what} are ragged: every one must have the same shape ({error}).") from error
    if array.dtype == object:
        raise DataError(f"The {what} are an object array; expected numbers, all of the same shape (numpy.stack them).")
    if array.size == 0:
        raise DataError(f"The {what} are empty: shape {array.shape}.")
    return array


def _check_shape(array: np.ndarray, what: str) -> None:
    if array.ndim != 4:
        raise DataError(f"The {what} have shape {array.shape}; expected (N, H, W) or (N, H, W, C).")
    _, first, second, last = array.shape
    if first in (1, 3) and second > MAX_CHANNELS and last > MAX_CHANNELS:
        raise DataError(
            f"The {what} have shape {array.shape}, which looks channel-first; expected (N, H, W, C). "
            "Transpose with images.transpose(0, 2, 3, 1)."
        )


def _check_finite(array: np.ndarray, what: str) -> None:
    broken = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2, 3)))
    if broken.size:
        raise DataError(
            f"{broken.size} of the {len(array)} {what} have values that are not finite, the first at index "
            f"{broken[0]} (in float32)."
        )


def _check_range(array: np.ndarray, what: str) -> None:
    low, high = float(array.min()), float(array.max())
    if low >= -PIXEL_SLACK and high <= 1 + PIXEL_SLACK:
        return
    if low >= 0:
        remedy = "divide by 255 or convert to uint8 when the values are 0 to 255"
    elif low >= -1 - PIXEL_SLACK and high <= 1 + PIXEL_SLACK:
        remedy = "use (images + 1) / 2 when the values are -1 to 1"
    else:
        remedy = "undo the standardisation that was applied to them"
    raise DataError(
        f"Float images must be in [0, 1], but the {what} are in [{low:.4g}, {high:.4g}]: {remedy}; "
        "or pass transform='identity' to keep them as they are, in model space."
    )
