"""ZCA whitening: values of an image decorrelated over all of its pixels and channels, the least change that does so.

The map is x -> ((x - mean) / std) U diag(scales) U^T on images flattened as H, W, C to D values. Of the D x D matrix
only U is kept, once, as float32: 2.5 MB for 28 x 28 x 1, 38 MB for 32 x 32 x 3; forwards and back are the same two
products, with the scales or their inverses.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dd_jax.data.rows import Rows
from dd_jax.errors import DataError

MAX_VALUES = 64 * 64 * 3  # D of the largest images: a matrix of 604 MB, and its axes take minutes

_WHITE = 255  # the uint8 value of pixel 1
_CHUNK = 1024  # images measured at a time
_MIN_STD = 1 / _WHITE
_LEAST = 1e-8  # of what a scale is the inverse root of: images that are all alike have no spread at all
_PROBES = 4
_SCALES = 1e-6, 1e6  # that a transform may have; what is fitted to images in [0, 1] is far inside


class Recipe(NamedTuple):
    """How the whitening is regularised.

    Attributes:
        standardised: whether channels are standardised first.
        centred: whether each value's mean is taken away.
        unbiased: covariance by N - 1, and not N.
        eps: added to the covariance's eigenvalues.
        relative: as a share of their mean.
    """

    standardised: bool
    centred: bool
    unbiased: bool
    eps: float
    relative: bool


# kornia's ZCAWhitening(eps=0.1) on pixels in [0, 1], as in the released code of Cazenavette et al. 2022 (MTT), which
# doesn't standardise where it whitens, and of those after it.
MTT = Recipe(standardised=False, centred=True, unbiased=True, eps=0.1, relative=False)
# Nguyen et al. 2021 (KIP, zca_reg 0.1), without their first step, each image less its mean and by its norm, which can't
# be undone.
KIP = Recipe(standardised=True, centred=False, unbiased=False, eps=0.1, relative=True)


def fit(pixels: np.ndarray | Rows, recipe: Recipe) -> dict[str, jax.Array]:
    """Mean (D,), std (C,), axes (D, D) and scales (D,) of pixels (N, H, W, C) in [0, 1] or uint8, as float32.

    Products of float32 numbers, summed in float64 over chunks; eigenvectors in float64, by one thread, so that they
    are the same every time. Some seconds for MNIST, about a minute for CIFAR-10.

    Raises:
        DataError: for fewer than two images, or more than `MAX_VALUES` values in one.
    """
    from threadpoolctl import threadpool_limits

    count, size, channels = len(pixels), pixels[0].size, pixels.shape[-1]
    if size > MAX_VALUES:
        raise DataError(
            "ZCA whitening needs images of at most 64 x 64 pixels in three channels, but these "
            f"are {pixels.shape[1:]} and need a matrix of {size} x {size} numbers. Load the "
            "dataset with a smaller image_size, or without zca."
        )
    if count < 2:
        raise DataError("ZCA whitening needs at least two training images, but there are fewer.")
    total, squares = np.zeros(size), np.zeros(size)
    for chunk in _chunks(pixels):
        total += chunk.sum(0, dtype=np.float64)
        squares += np.einsum("nd,nd->d", chunk, chunk, dtype=np.float64)
    mean, std = total / count, np.ones(channels)
    if recipe.standardised:
        of_channel = mean.reshape(-1, channels).mean(0)
        variance = (squares / count).reshape(-1, channels).mean(0) - of_channel**2
        std = np.maximum(np.sqrt(np.maximum(variance, 0)), _MIN_STD)
        mean = mean if recipe.centred else np.tile(of_channel, size // channels)
    spread = np.tile(std, size // channels)
    shift, scale = mean.astype(np.float32), (1 / spread).astype(np.float32)
    covariance = np.zeros((size, size))
    with threadpool_limits(1):
        for chunk in _chunks(pixels):
            seen = (chunk - shift) * scale
            covariance += seen.T @ seen
        covariance /= count - 1 if recipe.unbiased else count
        found, axes = np.linalg.eigh(covariance)
    added = recipe.eps * (found.mean() if recipe.relative else 1.0)
    scales = np.maximum(found + added, _LEAST) ** -0.5
    arrays = {"mean": mean, "std": std, "axes": axes, "scales": scales}
    return {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}


def whiten(arrays: Mapping[str, Any], pixels: jax.Array) -> jax.Array:
    """Pixels (..., H, W, C) to model space; computed in float32 at least."""
    flat, mean, std = _flat(arrays, pixels)
    return _turned(arrays["axes"], (flat - mean) / std, arrays["scales"]).reshape(pixels.shape).astype(pixels.dtype)


def unwhiten(arrays: Mapping[str, Any], images: jax.Array) -> jax.Array:
    """The inverse of `whiten`."""
    flat, mean, std = _flat(arrays, images)
    turned = _turned(arrays["axes"], flat, 1 / jnp.asarray(arrays["scales"]))
    return (turned * std + mean).reshape(images.shape).astype(images.dtype)


def matrix(arrays: Mapping[str, Any]) -> np.ndarray:
    """The whitening as one matrix (D, D) float32, symmetric: for who has flat images ((x - mean) / std) to multiply."""
    axes, scales = (np.asarray(arrays[name], np.float64) for name in ("axes", "scales"))
    return ((axes * scales) @ axes.T).astype(np.float32)


def problem(arrays: Mapping[str, np.ndarray], image_shape: tuple[int, ...]) -> str:
    """What is wrong with finite arrays as a transform of images (H, W, C); empty if nothing is."""
    channels, size = image_shape[-1], int(np.prod(image_shape))
    expected = {"mean": (size,), "std": (channels,), "axes": (size, size), "scales": (size,)}
    if set(arrays) != set(expected):
        return f"a ZCA transform needs {sorted(expected)}, found {sorted(arrays)}"
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            return f"the transform's {name} should be {shape}, found {arrays[name].shape}"
    if not (arrays["std"] > 0).all():
        return "the transform's std should be positive"
    low, high = _SCALES
    if not ((arrays["scales"] >= low) & (arrays["scales"] <= high)).all():
        return f"the transform's scales should be between {low} and {high}"
    # Whether the axes are orthonormal shows on a few random vectors, at the cost of products with vectors.
    probes = np.random.default_rng(0).normal(size=(size, _PROBES))
    axes = np.asarray(arrays["axes"], np.float64)
    if (abs(axes) > 1.001).any() or abs(axes @ (axes.T @ probes) - probes).max() > 1e-3:
        return "the transform's axes should be orthonormal"
    return ""


def _flat(arrays: Mapping[str, Any], images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Images as rows, the mean as one row, and the standard deviations repeated along one."""
    dtype = jnp.promote_types(images.dtype, jnp.float32)
    size = images.shape[-3] * images.shape[-2] * images.shape[-1]
    rows = images.astype(dtype).reshape(-1, size)
    std = jnp.tile(jnp.asarray(arrays["std"], dtype), size // images.shape[-1])
    return rows, jnp.asarray(arrays["mean"], dtype)[None], std[None]


def _turned(axes: Any, rows: jax.Array, scales: Any) -> jax.Array:
    """Rows U diag(scales) U^T, in full precision everywhere: these are data."""
    axes = jnp.asarray(axes, rows.dtype)
    along = jnp.matmul(rows, axes, precision=lax.Precision.HIGHEST) * jnp.asarray(scales, rows.dtype)[None]
    return jnp.matmul(along, axes.T, precision=lax.Precision.HIGHEST)


def _chunks(pixels: np.ndarray | Rows) -> Iterator[np.ndarray]:
    for start in range(0, len(pixels), _CHUNK):
        chunk = pixels[start : start + _CHUNK].reshape(-1, pixels[0].size)
        yield np.divide(chunk, np.float32(_WHITE)) if chunk.dtype == np.uint8 else chunk.astype(np.float32)
