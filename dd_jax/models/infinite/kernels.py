"""Kernels of infinitely wide ReLU networks, in closed form and in tiles that fit into memory.

A layer maps covariances of its inputs, at pairs of images, to those of its outputs. Of a convolutional network there is
one for each pair of positions; without pooling only pairs of the same position are ever needed.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dd_jax.models.base import Images, OtherImages

Block: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]

KernelKind: TypeAlias = Literal["ntk", "nngp"]
KINDS: tuple[str, ...] = get_args(KernelKind)

_LIVE = 8  # arrays of all the pairs of a tile that each layer keeps at the same time, in the reverse pass
_ARC_COSINE = (
    -0.0012624911, 0.0066700901, -0.0170881256, 0.0308918810, -0.0501743046, 0.0889789874, -0.2145988016, 1.5707963050,
)  # fmt: skip
_CLOSE = 32  # roundings within which a cosine counts as one: the angle is all rounding there


@dataclasses.dataclass(frozen=True)
class WideKernel:
    """k(x, x') of an infinitely wide network of `depth` hidden layers, weights N(0, weight_std^2 / fan-in).

    Attributes:
        positions: what layers are convolved over (3x3, zero padding): "none" (fully connected), "same" (the last layer
            has a weight for each position) or "pairs" (it has one for the mean over all of them).
        kind: "ntk" (the limit of training with the squared error) or "nngp" (of training the last layer only).
        memory: bytes that a tile may take.

    Source: Jacot et al. 2018, theorem 1; Arora et al. 2019, section 3 and 4 (convolutions, global average pooling).
    """

    depth: int
    positions: Literal["none", "same", "pairs"]
    kind: KernelKind
    weight_std: float
    bias_std: float
    memory: int = 2**28

    def __call__(self, images: Images, others: OtherImages) -> Float[Array, "batch others"]:
        """The kernel of every image (N, H, W, C) with every other one (M, H, W, C), (N, M), in their dtype.

        Differentiable once. The NTK has a kink where two images coincide; its slope there is taken to be zero.
        """
        pixels = math.prod(images.shape[1:3])
        pairs = {"none": 1, "same": pixels, "pairs": pixels**2}[self.positions]
        each = pairs * images.dtype.itemsize * _LIVE * self.depth
        return in_tiles(functools.partial(wide_relu, self), images, others, max(1, self.memory // each))


def wide_relu(kernel: WideKernel, images: jax.Array, others: jax.Array) -> jax.Array:
    """The kernel (N, M), without tiles."""
    fully = kernel.positions == "none"
    x, y = (a.reshape(len(a), math.prod(a.shape[1:])) if fully else a for a in (images, others))
    inputs = {"none": "nc,mc->nm", "same": "nhwc,mhwc->nmhw", "pairs": "nhwc,muvc->nmhwuv"}[kernel.positions]
    size, gain, noise = x.shape[-1], kernel.weight_std**2, kernel.bias_std**2
    covariance = jnp.einsum(inputs, x, y, precision=lax.Precision.HIGHEST) / size
    variances = [jnp.square(a).sum(-1) / size for a in (x, y)]
    tangent = jnp.zeros_like(covariance)

    def weigh(array: jax.Array, leading: int) -> jax.Array:
        return gain * (array if fully else neighbours(array, leading))

    for _ in range(kernel.depth):
        covariance = weigh(covariance, 2) + noise
        tangent = covariance + weigh(tangent, 2)
        variances = [weigh(variance, 1) + noise for variance in variances]
        mine, theirs = map(_root, variances)
        covariance, tangent = relu(covariance, tangent, _products(mine, theirs, kernel.positions == "pairs"))
        variances = [variance / 2 for variance in variances]
    positions = tuple(range(2, covariance.ndim))
    covariance = gain * covariance.mean(positions) + noise
    return covariance if kernel.kind == "nngp" else covariance + gain * tangent.mean(positions)


def relu(covariance: jax.Array, tangent: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Covariances and tangent kernel after a ReLU. scale: the product of the two standard deviations.

    Source: Cho & Saul 2009, equation 4 and 6, of degree 0 and 1, here of variance E relu(u)^2 = 1/2.
    """
    cosine = covariance / jnp.where(scale > 0, scale, 1)
    slope, value = arc_cosines(cosine)
    return scale * value, slope * tangent


@jax.custom_jvp
def arc_cosines(cosine: jax.Array) -> tuple[jax.Array, jax.Array]:
    """E relu'(u) relu'(v) and E relu(u) relu(v) of unit normal u, v with this correlation.

    (pi - a) / 2 pi and (sin a + (pi - a) cos a) / 2 pi, a the angle. Where it is within rounding of 0 or pi it counts
    as that: what rounding makes of it otherwise is far larger than rounding, its square root.
    """
    cosine, sine, angle = _angle(cosine)
    return (jnp.pi - angle) / (2 * jnp.pi), (sine + (jnp.pi - angle) * cosine) / (2 * jnp.pi)


@arc_cosines.defjvp
def _(primals, tangents):
    (cosine,), (moved,) = primals, tangents
    slope, value = arc_cosines(cosine)
    _, sine, _ = _angle(cosine)
    steep = jnp.where(sine > 0, 1 / (2 * jnp.pi * jnp.where(sine > 0, sine, 1)), 0)
    return (slope, value), (steep * moved, slope * moved)


def _angle(cosine: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    close = 1 - jnp.abs(cosine) <= _CLOSE * jnp.finfo(cosine.dtype).eps
    cosine = jnp.where(close, jnp.sign(cosine), cosine)
    sine = jnp.sqrt((1 - cosine) * (1 + cosine))
    return cosine, sine, jnp.arctan2(sine, cosine) if cosine.dtype == jnp.float64 else _arc_cosine(cosine)


def _arc_cosine(cosine: jax.Array) -> jax.Array:
    """To 2e-8, in a fifth of the time that XLA's takes.

    Source: Abramowitz & Stegun 1964, equation 4.4.46.
    """
    size = jnp.abs(cosine)
    angle = jnp.sqrt(1 - size) * jnp.polyval(jnp.asarray(_ARC_COSINE, cosine.dtype), size)
    return jnp.where(cosine < 0, jnp.pi - angle, angle)


def neighbours(array: jax.Array, leading: int) -> jax.Array:
    """Mean over 3x3 neighbours, zero outside; axes from `leading` on are H, W, or H, W, H', W', which move together."""
    for side in (0, 1):
        axes = tuple(range(leading + side, array.ndim, 2))
        padded = jnp.pad(array, [(1, 1) if axis in axes else (0, 0) for axis in range(array.ndim)])
        shifts = [_window(padded, axes, first, array.shape) for first in range(3)]
        array = (shifts[0] + shifts[1] + shifts[2]) / 3
    return array


def in_tiles(block: Block, images: jax.Array, others: jax.Array, most: int) -> jax.Array:
    """`block(images, others)`, (N, M), put together from tiles of at most `most` pairs, computed again in reverse."""
    count, other_count = len(images), len(others)
    if count * other_count <= most:
        return block(images, others)
    block = jax.checkpoint(block, prevent_cse=False)
    across, columns = _split(others, min(other_count, most))
    down, rows = _split(images, max(1, most // across))
    tiles = lax.map(lambda row: lax.map(lambda column: block(row, column), columns), rows)
    whole = jnp.moveaxis(tiles, 1, 2).reshape(len(rows) * down, len(columns) * across)
    return whole[:count, :other_count]


def _split(images: jax.Array, most: int) -> tuple[int, jax.Array]:
    """Images in equal parts of at most `most`, the last one filled up with blank ones; and how many that is."""
    parts = -(-len(images) // most)
    size = -(-len(images) // parts)
    padded = jnp.pad(images, [(0, parts * size - len(images)), *[(0, 0)] * (images.ndim - 1)])
    return size, padded.reshape(parts, size, *images.shape[1:])


def _products(mine: jax.Array, theirs: jax.Array, pairs: bool) -> jax.Array:
    """Products (N, M, ...) at the same positions, or (N, M, H, W, H, W) at all pairs, of what is (N, ...), (M, ...)."""
    if pairs:
        return mine[:, None, :, :, None, None] * theirs[None, :, None, None]
    return mine[:, None] * theirs[None]


def _root(variance: jax.Array) -> jax.Array:
    """The square root, with slope zero at zero: a blank patch of an image in a network without biases."""
    return jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)


def _window(array: jax.Array, axes: tuple[int, ...], first: int, shape: tuple[int, ...]) -> jax.Array:
    start = [first if axis in axes else 0 for axis in range(array.ndim)]
    return lax.slice(array, start, [s + size for s, size in zip(start, shape, strict=True)])
