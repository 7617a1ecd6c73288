"""Convolution by 3 x 3 or 5 x 5 with few multiplications: Winograd's minimal filtering, written as matrix products.

Four numbers of a row, filtered by three, come from six numbers of the input. Taken as values of polynomials at six
points they need six multiplications where twelve would be: F(4, 3); in two dimensions F(4 x 4, 3 x 3) needs 36 where
144 would be, and F(4 x 4, 5 x 5) 64 where 400 would be. Between the points and the images lie small constant matrices,
which cost little beside the channels' products if there are many channels.

All of it is pads, reshapes, transposes and products, so that every derivative is as fast, in either mode. Tiles
are put together from four pieces of what is cut without overlap: slices with a stride would have a derivative of 36
scattered sums, and tiles that are transposed after they were put together cost XLA five times as much.

Sources: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", sections 3 and 4; Toom-Cook matrices
for any points as in Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep
Neural Networks", section 3.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from dd_jax.models.named_gradient import name_gradient

# Name of what a convolution by 3 x 3 gives, and of its input's gradient: small, and much work to compute again. Those
# of 5 x 5 are no slower to compute than to read.
CONVOLVED = "convolved"

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
    if taps == 3:
        images = name_gradient(images, CONVOLVED)
    across = TILE + taps - 1
    height, width = (size + 2 * padding - taps + 1 for size in given)
    rows, columns = -(-height // TILE), -(-width // TILE)
    whole = [(tiles + 1) * TILE for tiles in (rows, columns)]
    pads = [(padding, full - size - padding) for full, size in zip(whole, given, strict=True)]
    padded = jnp.pad(images, [(0, 0), *pads, (0, 0)])
    to_points, of_kernel, from_points = (jnp.asarray(matrix, images.dtype) for matrix in _both_ways(taps))
    tiles = _tiles(padded, rows, columns, across)
    values = (to_points @ tiles.reshape(across**2, -1)).reshape(across**2, -1, channels)
    weights = (of_kernel @ kernel.reshape(taps**2, -1)).reshape(-1, channels, outputs)
    products = jnp.einsum("ptc,pco->pto", values, weights).reshape(across**2, -1)
    out = from_points @ products
    if taps == 3:
        out = checkpoint_name(out, CONVOLVED)
    out = out.reshape(TILE, TILE, count, rows, columns, outputs)
    out = jnp.transpose(out, (2, 3, 0, 4, 1, 5)).reshape(count, rows * TILE, columns * TILE, outputs)
    return out[:, :height, :width]


def _tiles(padded: jax.Array, rows: int, columns: int, across: int) -> jax.Array:
    """Tiles that begin every four numbers, (across, across, n, rows, columns, channels), of 4 more each way."""
    count, *_, channels = padded.shape
    blocks = padded.reshape(count, rows + 1, TILE, columns + 1, TILE, channels)
    blocks = jnp.transpose(blocks, (2, 4, 0, 1, 3, 5))

    def piece(down: int, right: int) -> jax.Array:
        """What a tile has of the blocks so far below and to the right of its own: all of its own, else the first."""
        height, width = (across - TILE if beyond else TILE for beyond in (down, right))
        return blocks[:height, :width, :, down : down + rows, right : right + columns]

    return jnp.concatenate([jnp.concatenate([piece(down, 0), piece(down, 1)], 1) for down in (0, 1)], 0)


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
