"""Convolution and pooling in the formulation that is fast inside a differentiated scan.

XLA's CPU backend runs `lax.conv` inside a scan, and its second derivatives, many times slower than the
same sums written as matrix products; under vmap over networks convolutions become grouped ones, slower still.
So a convolution here is a sum over kernel rows of one matrix product each, over columns gathered once.
Everything about the choice is in this file: the models above it only name a layout.

Layouts: "NHWC" (batch outermost) and "CHWN" (channels first, batch innermost: long contiguous matrix products
for the narrow networks). Kernels are always (kh, kw, C_in, C_out).
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Layout: TypeAlias = Literal["NHWC", "CHWN"]
Images: TypeAlias = Float[Array, "_ _ _ _"]
Padding: TypeAlias = int | tuple[int, int]

_NARROW = 32  # channels up to which the batch-innermost layout wins; between LeNet (16) and AlexCifarNet (64)


def layout_for(width: int) -> Layout:
    """The layout for a network whose widest convolution has `width` channels, on the default backend."""
    return "CHWN" if width <= _NARROW and jax.default_backend() == "cpu" else "NHWC"


def to_layout(images: Images, layout: Layout) -> Images:
    """NHWC images in `layout`."""
    return images if layout == "NHWC" else jnp.transpose(images, (3, 1, 2, 0))


def from_layout(images: Images, layout: Layout) -> Images:
    """Images in `layout` as NHWC."""
    return images if layout == "NHWC" else jnp.transpose(images, (3, 1, 2, 0))


def channel_axis(layout: Layout) -> int:
    """Where the channels are."""
    return 3 if layout == "NHWC" else 0


def convolve(
    images: Images, kernel: Float[Array, "kh kw cin cout"], padding: int = 0, stride: int = 1, layout: Layout = "NHWC"
) -> Images:
    """Cross-correlation of `images` with `kernel`, zero-padded on all four sides.

    y[n, i, j, o] = sum_{a, b, c} x[n, i * stride + a, j * stride + b, c] k[a, b, c, o]

    Exact to float rounding whatever the formulation; see the module's docstring for why it is this one.
    """
    if jax.default_backend() == "cpu":
        return _convolve_rows(images, kernel, padding, stride, layout)
    return _convolve_native(images, kernel, padding, stride, layout)


def _convolve_native(images, kernel, padding, stride, layout):
    numbers = ("NHWC", "HWIO", "NHWC") if layout == "NHWC" else ("CHWN", "HWIO", "CHWN")
    pads = [(padding, padding)] * 2
    return lax.conv_general_dilated(images, kernel, (stride, stride), pads, dimension_numbers=numbers)


def _convolve_rows(images, kernel, padding, stride, layout):
    kernel_height, kernel_width, _, out_channels = kernel.shape
    images = _pad(images, padding, 0.0)
    height, width = (_outputs(images.shape[axis], k, stride) for axis, k in ((1, kernel_height), (2, kernel_width)))
    axis = channel_axis(layout)
    gathered = jnp.concatenate([_strided(images, 2, b, width, stride) for b in range(kernel_width)], axis)
    weights = kernel.reshape(kernel_height, -1, out_channels)
    rows = [_strided(gathered, 1, a, height, stride) for a in range(kernel_height)]
    # Plain two-dimensional products: XLA turns the gradients of anything wider into transposes and slow loops.
    if layout == "NHWC":
        flat = sum(row.reshape(-1, row.shape[3]) @ w for row, w in zip(rows, weights, strict=True))
        return flat.reshape(-1, height, width, out_channels)
    flat = sum(w.T @ row.reshape(row.shape[0], -1) for row, w in zip(rows, weights, strict=True))
    return flat.reshape(out_channels, height, width, -1)


def max_pool(images: Images, window: int, stride: int, padding: int = 0) -> Images:
    """Maximum over windows, in either layout; of equal values the first in row order takes the gradient."""
    best, *others = _window_slices(_pad(images, padding, -jnp.inf), window, stride)
    for candidate in others:
        # `jnp.maximum` would split the gradient between equal values.
        best = jnp.where(candidate > best, candidate, best)
    return best


def avg_pool(images: Images, window: int, stride: int) -> Images:
    """Mean over windows without padding, in either layout."""
    slices = _window_slices(images, window, stride)
    return sum(slices[1:], slices[0]) / len(slices)


def local_response_norm(
    images: Images, size: int = 4, alpha: float = 0.001 / 9.0, beta: float = 0.75, k: float = 1.0, axis: int = 3
) -> Images:
    """X / (k + alpha * mean of x^2 over `size` neighbouring channels) ** beta (Krizhevsky et al. 2012, 3.3).

    The window of channel c is c - size // 2 ... c + (size - 1) // 2, zero outside, as in PyTorch.
    """
    squares = jnp.square(images)
    pads = [(0, 0)] * 4
    pads[axis] = (size // 2, (size - 1) // 2)
    squares = jnp.pad(squares, pads)
    channels = images.shape[axis]
    windows = [lax.slice_in_dim(squares, i, i + channels, axis=axis) for i in range(size)]
    mean = sum(windows[1:], windows[0]) / size
    return images * (k + alpha * mean) ** -beta


def _window_slices(images: Images, window: int, stride: int) -> Sequence[Images]:
    height, width = (_outputs(images.shape[axis], window, stride) for axis in (1, 2))
    rows = [_strided(images, 1, a, height, stride) for a in range(window)]
    return [_strided(row, 2, b, width, stride) for row in rows for b in range(window)]


def _pad(images: Images, padding: int, value: float) -> Images:
    if padding == 0:
        return images
    pads = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    return jnp.pad(images, pads, constant_values=value)


def _strided(images: Images, axis: int, start: int, count: int, stride: int) -> Images:
    return lax.slice_in_dim(images, start, start + (count - 1) * stride + 1, stride, axis)


def _outputs(size: int, window: int, stride: int) -> int:
    return (size - window) // stride + 1
