"""Turning whatever arrays a user has into uint8 or float32 images and integer labels, or saying why not."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dd_jax.data.telling import tell
from dd_jax.data.transforms import WHITE
from dd_jax.errors import DataError

PIXEL_SLACK = 1e-4  # how far a float pixel may leave [0, 1] by rounding, e.g. after a resize
MAX_CHANNELS = 4  # a longer last axis behind a short second axis means that channels come first
DIM = 1 / 8  # of white: images that are darker throughout may be on another scale, as of masks of 0 and 1


def as_images(images: Any, what: str, *, any_range: bool = False) -> np.ndarray:
    """Images as (N, H, W, C), uint8 as they were or float32 (from bool: 0 and 1).

    Args:
        images: (N, H, W) or (N, H, W, C); uint8, bool, or floats in [0, 1].
        what: what to call them in an error, e.g. "test images".
        any_range: floats may have any finite value (they are in model space already).

    Raises:
        DataError: another type or shape, no images, values that are not finite or outside [0, 1].
    """
    array = as_array(images, what)
    if array.ndim == 3:
        array = array[..., None]
    _check_shape(array, what)
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        deep = array.dtype.kind in "iu" and array.max() > WHITE
        remedy = (
            "images / 65535 when they have 16 bits" if deep else "images.astype('uint8') when the values are 0 to 255"
        )
        raise DataError(
            f"The {what} have type {array.dtype}; expected uint8 (0 to 255), bool, or floats in "
            f"[0, 1]. Convert them with {remedy}."
        )
    with np.errstate(over="ignore"):  # told right below
        single = array.astype(np.float32, copy=False)
    _check_finite(single, what)
    if not any_range:
        _check_range(array, what)
    return single


def check_alike(images: np.ndarray, labels: np.ndarray, train: np.ndarray, num_classes: int, what: str) -> None:
    """Raise a DataError unless a further split has the image shape and the classes of the train split."""
    if images.shape[1:] != train.shape[1:]:
        raise DataError(
            f"All images must have one shape, but the {what} images are {images.shape[1:]} and the "
            f"train images {train.shape[1:]}. Resize one of them."
        )
    if labels.max() >= num_classes:
        raise DataError(
            f"The {what} labels go up to {labels.max()}, but the train split has only the "
            f"{num_classes} classes 0 to {num_classes - 1}. Number the classes alike in all "
            "splits."
        )


def as_array(values: Any, what: str) -> np.ndarray:
    """Values as a NumPy array of numbers in which nothing is hidden.

    Raises:
        DataError: masked values, ragged or empty arrays, Python objects, or a sparse matrix.
    """
    array = unmasked(values, what)
    if array.dtype == object:
        raise DataError(f"The {what} are an object array; expected numbers, all of the same shape (numpy.stack them).")
    if array.size == 0:
        raise DataError(f"The {what} are empty: shape {array.shape}.")
    return array


def unmasked(values: Any, what: str) -> np.ndarray:
    """Values as a NumPy array, whatever is in it, of which nothing is masked; DataError for ragged or sparse ones."""
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise DataError(f"The {what} are a sparse matrix; expected an array. Convert with .toarray().")
    rows = values if isinstance(values, list | tuple) else [values]
    if masked := sum(int(np.ma.getmaskarray(row).sum()) for row in rows if np.ma.isMaskedArray(row)):
        raise DataError(
            f"{masked} values of the {what} are masked, but a value is expected everywhere. Leave "
            "out whatever has masked values, or fill them with a value that you choose, such as "
            "array.filled(array.mean())."
        )
    try:
        return np.asarray(values)
    except ValueError as error:
        raise DataError(
            f"The {what} are ragged, but all of them must have one shape ({error}). Resize or pad them."
        ) from error


def tell_scale(images: np.ndarray, what: str) -> None:
    """Tell where all images are so dark that they may be on another scale, or are all of one value."""
    low, high = float(images.min()), float(images.max())
    white = WHITE if images.dtype == np.uint8 else 1.0
    if low == high:
        tell(f"All pixels of the {what} have the same value, {high:g}, so nothing can be learnt from them.")
    elif low >= 0 and high < DIM * white:
        remedy = "images > 0" if high == 1 else f"images / {high:g}"
        tell(
            f"The brightest pixel of the {what} is {high:g}, and white is {white:g}, so all of "
            f"them are nearly black. If {high:g} means white, give {remedy} instead."
        )


def _check_shape(array: np.ndarray, what: str) -> None:
    if array.ndim != 4:
        raise DataError(
            f"The {what} have shape {array.shape}; expected (N, H, W) for grey images or (N, H, W, C). Reshape them."
        )
    _, first, second, last = array.shape
    few = first <= MAX_CHANNELS < min(second, last)  # fewer rows than columns and channels, as few as colours
    if few or MAX_CHANNELS <= first < second == last:  # square images of many channels
        raise DataError(
            f"The {what} have shape {array.shape}, which looks channel-first; expected (N, H, W, C). "
            "Transpose with images.transpose(0, 2, 3, 1)."
        )


def _check_finite(array: np.ndarray, what: str) -> None:
    broken = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2, 3)))
    if broken.size:
        raise DataError(
            f"{broken.size} of the {len(array)} {what} have values that are not finite (in "
            f"float32), the first at index {broken[0]}. Leave them out or replace those values."
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
