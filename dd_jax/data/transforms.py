"""Invertible maps from pixels in [0, 1] to model space, as a small table of pure functions.

A kind has three parts: `fit` measures the training pixels on the host, `forward` maps pixels to model
space and `inverse` maps back. A new kind is one more entry of `KINDS`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.data import zca
from dd_jax.data.rows import Rows
from dd_jax.errors import DataError, OptionError, unknown_name
from dd_jax.types import Transform

Images: TypeAlias = jax.Array | np.ndarray
Arrays: TypeAlias = Mapping[str, Any]

WHITE = 255  # the uint8 value of pixel 1
MIN_STD = 1 / WHITE  # one grey level of an 8-bit image: a channel that varies less is taken as constant
FIT_VALUES = 1024 * 32 * 32 * 3  # how many are measured at a time at most, so that float64 copies stay small
FIT_CHUNK = 1024  # images measured at a time at most


class Kind(NamedTuple):
    """One kind of transform.

    Attributes:
        fit: pixels (N, H, W, C) in [0, 1] or uint8 -> the arrays of the transform; on the host, in float64.
        forward, inverse: (arrays, images (..., H, W, C)) -> images of the same shape and dtype; traceable.
    """

    fit: Callable[[np.ndarray | Rows], dict[str, jax.Array]]
    forward: Callable[[Arrays, jax.Array], jax.Array]
    inverse: Callable[[Arrays, jax.Array], jax.Array]


def fit_transform(kind: str, pixels: Images | Rows) -> Transform:
    """The transform of this kind fitted to pixels (N, H, W, C) in [0, 1], or uint8 that are divided by 255.

    "identity"; "standardise": see `fit_standardise`; "zca": kornia's ZCAWhitening(eps=0.1), as Cazenavette et al. 2022
    use it: pixels less their mean image times U diag(S + 0.1)^(-1/2) U^T, with U diag(S) U^T their covariance by N - 1,
    and no standardisation before; "zca-kip": channels standardised, then the same with second moments by N and a tenth
    of their mean eigenvalue in place of 0.1, as Nguyen et al. 2021, less their norm of each image.

    Raises:
        OptionError: there is no such kind.
        DataError: the images are too large for ZCA.
    """
    return Transform(kind, _lookup(kind).fit(pixels if isinstance(pixels, Rows) else np.asarray(pixels)))


def fit_standardise(pixels: Images) -> Transform:
    """Per-channel standardisation, x -> (x - mean) / std, fitted to pixels (N, H, W, C) in [0, 1] or uint8.

    Mean and std are accumulated in float64 and stored as float32 (C,); a std below one grey level
    (1/255), as of a constant channel, is raised to it.
    """
    return fit_transform("standardise", pixels)


def to_model(transform: Transform, pixels: Images) -> jax.Array:
    """Pixels (..., H, W, C) in [0, 1] to model space; the floating dtype is kept.

    Raises:
        DataError: the pixels are not floating point.
        OptionError: the kind of the transform is unknown.
    """
    return _lookup(transform.kind).forward(transform.arrays, _floating(pixels))


def to_pixels(transform: Transform, images: Images) -> jax.Array:
    """The inverse of `to_model`: model space (..., H, W, C) to pixels, not clipped to [0, 1].

    Raises:
        DataError: the images are not floating point.
        OptionError: the kind of the transform is unknown.
    """
    return _lookup(transform.kind).inverse(transform.arrays, _floating(images))


def chosen(transform: str | Transform, whitened: bool) -> str | Transform:
    """The transform that two options say; OptionError if they say different ones.

    Args:
        whitened: zca=True, which is transform="zca".
    """
    if not whitened or transform in ("zca", "zca-kip"):
        return transform
    if transform != "standardise":
        name = transform.kind if isinstance(transform, Transform) else transform
        raise OptionError(f"zca=True and transform={name!r} are two transforms. Give one of them.")
    return "zca"


def clip_to_pixels(transform: Transform, images: Images) -> jax.Array:
    """Images (..., H, W, C) in model space, moved by what clipping their pixels to [0, 1] moves; others stay exactly.

    Raises what `to_pixels` raises.
    """
    pixels = to_pixels(transform, images)
    return jnp.asarray(images) + (to_model(transform, jnp.clip(pixels, 0.0, 1.0)) - to_model(transform, pixels))


def same_transform(one: Transform, other: Transform) -> bool:
    """Whether both map pixels to the same model space."""
    if one.kind != other.kind or set(one.arrays) != set(other.arrays):
        return False
    return all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)


def _lookup(kind: str) -> Kind:
    if kind not in KINDS:
        raise unknown_name("transform", kind, KINDS)
    return KINDS[kind]


def _floating(images: Images) -> jax.Array:
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise DataError(f"A transform acts on floating-point images, not {images.dtype}; divide uint8 pixels by 255.")
    return jnp.asarray(images)


def _per_channel(values: Any, images: jax.Array) -> jax.Array:
    return jnp.asarray(values, images.dtype).reshape((1,) * (images.ndim - 1) + (-1,))


def _fit_standardise(pixels: np.ndarray | Rows) -> dict[str, jax.Array]:
    channels = pixels.shape[-1]
    count = math.prod(pixels.shape[:-1])
    total, squares = np.zeros(channels), np.zeros(channels)
    step = min(FIT_CHUNK, max(1, FIT_VALUES // pixels[0].size))
    for start in range(0, len(pixels), step):
        chunk = pixels[start : start + step].reshape(-1, channels)
        chunk = (np.divide(chunk, np.float32(WHITE)) if chunk.dtype == np.uint8 else chunk).astype(np.float64)
        total += np.einsum("nc->c", chunk)
        squares += np.einsum("nc,nc->c", chunk, chunk)
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    std = np.maximum(np.sqrt(variance), MIN_STD)
    return {"mean": jnp.asarray(mean, jnp.float32), "std": jnp.asarray(std, jnp.float32)}


def _standardise(arrays: Arrays, pixels: jax.Array) -> jax.Array:
    return (pixels - _per_channel(arrays["mean"], pixels)) / _per_channel(arrays["std"], pixels)


def _unstandardise(arrays: Arrays, images: jax.Array) -> jax.Array:
    return images * _per_channel(arrays["std"], images) + _per_channel(arrays["mean"], images)


KINDS: dict[str, Kind] = {
    "identity": Kind(fit=lambda _: {}, forward=lambda _, x: x, inverse=lambda _, x: x),
    "standardise": Kind(fit=_fit_standardise, forward=_standardise, inverse=_unstandardise),
    "zca": Kind(functools.partial(zca.fit, recipe=zca.MTT), zca.whiten, zca.unwhiten),
    "zca-kip": Kind(functools.partial(zca.fit, recipe=zca.KIP), zca.whiten, zca.unwhiten),
}
