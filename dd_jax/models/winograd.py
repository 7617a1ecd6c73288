"""Convolution by 3 x 3 or 5 x 5 with few multiplications: Winograd's minimal filtering, written as matrix products.

Four numbers of a row, filtered by three, come from six numbers of the input. Taken as values of polynomials at six
points they need six multiplications where twelve would be: F(4, 3); in two dimensions F(4 x 4, 3 x 3) needs 36 where
144 would be, and F(4 x 4, 5 x 5) 64 where 400 would be. Between the points and the images lie small constant matrices,
which cost little beside the channels' products if there are many channels.

All of it is pads, reshapes, transposes and products, so that every derivative is as fast, in either mode. Tiles
are cut by two overlapping reshapes: slices with a stride would have a derivative of 36 scattered sums.

Sources: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", sections 3 and 4; Toom-Cook matrices
for any points as in Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep
Neural Networks", section 3.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

TILE = 4  # outputs of a tile on each side
# By the taps of a kernel on each side; and infinity. The usual 0, 1, -1, 2, -2 of three taps have twice the root mean
# square error in float32, and three times the largest.
_POINTS: Mapping[int, Sequence[float]] = {
    3: (0.0, 0.75, -0.75, 1.5, -1.5),
    5: (0.0, 0.5, -0.5, 1.0, -1.0, 1.75, -1.75),
}
TAPS = tuple(_POINTS)


def convolve_winograd(
    images: Float[Array, "n h w cin"], kernel: Float[Array, "taps taps cin cout"], padding: int
) -> Float[Array, "n _ _ cout"]:
    """Cross-correlation of NHWC `images` with `kernel` at stride 1, zero-padded on all four sides.

    Kernels have 3 or 5 taps on each side. In float64 equal to the sum that defines it to 1e-12 of the largest value; in
    float32 to 5e-6 with 3 taps, about four times the rounding of the plain sum, and to 2e-5 with 5.
    """
    count, *given, channels = images.shape
    taps, outputs = kernel.shape[0], kernel.shape[3]
    across = TILE + taps - 1
    height, width = (size + 2 * padding - taps + 1 for size in given)
    rows, columns = -(-height // TILE), -(-width // TILE)
    whole = [(tiles + 1) * TILE for tiles in (rows, columns)]
    pads = [(padding, full - size - padding) for full, size in zip(whole, given, strict=True)]
    padded = jnp.pad(images, [(0, 0), *pads, (0, 0)])
    to_points, of_kernel, from_points = (jnp.asarray(matrix, images.dtype) for matrix in _both_ways(taps))
    tiles = _overlapping(_overlapping(padded, 1, rows, across), 3, columns, across)
    tiles = jnp.transpose(tiles, (2, 4, 0, 1, 3, 5)).reshape(across**2, -1)  # from n, rows, across, columns, across, c
    values = (to_points @ tiles).reshape(across**2, -1, channels)
    weights = (of_kernel @ kernel.reshape(taps**2, -1)).reshape(-1, channels, outputs)
    products = jnp.einsum("ptc,pco->pto", values, weights).reshape(across**2, -1)
    out = (from_points @ products).reshape(TILE, TILE, count, rows, columns, outputs)
    out = jnp.transpose(out, (2, 3, 0, 4, 1, 5)).reshape(count, rows * TILE, columns * TILE, outputs)
    return out[:, :height, :width]


def _overlapping(images: jax.Array, axis: int, tiles: int, across: int) -> jax.Array:
    """Along `axis`, of (tiles + 1) * 4 numbers, so many tiles of `across` that begin every four: one axis more."""
    shape = images.shape
    blocks = images.reshape(*shape[:axis], tiles + 1, TILE, *shape[axis + 1 :])
    first = jax.lax.slice_in_dim(blocks, 0, tiles, axis=axis)
    after = jax.lax.slice_in_dim(blocks, 1, tiles + 1, axis=axis)
    return jnp.concatenate([first, jax.lax.slice_in_dim(after, 0, across - TILE, axis=axis + 1)], axis + 1)


@functools.cache
def _both_ways(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In two dimensions, of 3 taps: input to points (36, 36), kernel to points (36, 9), points to output (16, 36)."""
    values = {size: _values(size, taps) for size in (TILE, taps, TILE + taps - 1)}
    matrices = np.linalg.inv(values[TILE + taps - 1]).T, values[taps], values[TILE].T
    return tuple(np.kron(matrix, matrix) for matrix in matrices)  # type: ignore[return-value]


def _values(size: int, taps: int) -> np.ndarray:
    """Of coefficients of a polynomial, lowest first, its values at the points, and at infinity the last of them."""
    infinity = np.eye(size)[-1:]
    return np.concatenate([np.vander(_POINTS[taps], size, increasing=True), infinity])
