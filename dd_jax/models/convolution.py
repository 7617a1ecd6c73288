"""Convolution and pooling in the formulation that is fast inside a differentiated scan.

XLA's CPU backend runs `lax.conv` inside a scan, and its second derivatives, many times slower than the
same sums written as matrix products; under vmap over networks convolutions become grouped ones, slower still.
So a convolution here is a sum over kernel rows of one matrix product each, over columns gathered once; for images of
few channels or small kernels, whose products would be thin, it is one product over whole patches, and for many
channels, where copying rows costs more than multiplying them, one product of all rows whose results are shifted and
summed. The first convolution of a wide network is done together with the instance normalisation after it.
Everything about the choice is in this file: the models above it only name a layout.

Layouts: "NHWC" (batch outermost) and "CHWN" (channels first, batch innermost: long contiguous matrix products
for the narrow networks). Kernels are always (kh, kw, C_in, C_out).
"""

import functools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dd_jax.models.winograd import TAPS, convolve_winograd

Layout: TypeAlias = Literal["NHWC", "CHWN"]
Images: TypeAlias = Float[Array, "_ _ _ _"]
Padding: TypeAlias = int | tuple[int, int]

# Whole patches win up to so many input channels (6 to 20 % of a LeNet's time, and nothing is lost in memory), ...
_FEW = 3
# ... or numbers in a patch (a tenth of a ConvNet's time at 16 channels; the 150 of a LeNet's second layer: too many),
_SMALL_PATCH = 144
# and shifted results from so many channels: a tenth of an AlexCifarNet's time; LeNet (6) would lose as much.
_MANY = 32
_WIDE = 64  # channels from which Winograd's products win
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
        return _formulation(images, kernel, padding, stride, layout)(images, kernel, padding, stride, layout)
    return _convolve_native(images, kernel, padding, stride, layout)


class Deferred(NamedTuple):
    """A convolution that is left to the normalisation after it: y[n, i, j, o] = sum_k p[n, i, j, k] w[k, o].

    Attributes:
        patches: (N, H, W, K), what each output sees.
        weights: (K, C).
    """

    patches: jax.Array
    weights: jax.Array


def defers(kernel: Float[Array, "kh kw cin cout"], stride: int, layout: Layout) -> bool:
    """Whether a convolution before instance normalisation is better done by `normalised_products`."""
    few = kernel.shape[2] <= _FEW and 2 * math.prod(kernel.shape[:3]) <= kernel.shape[3]
    exact = jnp.finfo(kernel.dtype).bits >= 32  # a variance is a difference here
    return jax.default_backend() == "cpu" and layout == "NHWC" and stride == 1 and few and exact


def deferred(images: Images, kernel: Float[Array, "kh kw cin cout"], padding: int = 0) -> Deferred:
    """`convolve` at stride 1 on NHWC images, not done yet."""
    return Deferred(_patches(images, kernel, padding, 1, "NHWC"), kernel.reshape(-1, kernel.shape[3]))


def normalised_products(
    convolution: Deferred, scale: Float[Array, " C"], bias: Float[Array, " C"], epsilon: float
) -> Float[Array, "N H W C"]:
    """Instance normalisation of what a convolution gives, then scale and shift per channel.

    Of products p w of patches, the mean over an image is that of its patches times w, and the variance w' S w, where S
    are the covariances of the numbers in its patches. Both are known before the products are, which so come out
    normalised, by weights of each image's own: neither they nor their derivatives are gone through again. That is a
    tenth of an inner step of ConvNet-3/128. In float32 to 2e-5 of the largest value, and most values to 1e-6: where
    kernels see little of images that vary much, a variance is a small difference of large numbers.
    """
    patches, weights = convolution
    count, height, width, size = patches.shape
    flat = patches.reshape(count, height * width, size)
    centred = flat - flat.mean(1, keepdims=True)
    covariances = jnp.einsum("npk,npl->nkl", centred, centred) / (height * width)
    variance = (jnp.einsum("nkl,lc->nkc", covariances, weights) * weights[None]).sum(1)
    variance = jnp.where(variance < 0, 0, variance)  # by rounding
    own = weights[None] * (scale[None] * lax.rsqrt(variance + epsilon))[:, None]
    return (jnp.einsum("npk,nkc->npc", centred, own) + bias[None, None]).reshape(count, height, width, -1)


def convolve_transposed(images: Float[Array, "n h w cin"], kernel: Float[Array, "4 4 cin cout"]) -> Images:
    """Images twice as high and wide, NHWC: the transpose of a convolution by 4 x 4 with stride 2 and padding 1.

    y[n, 2 i - 1 + a, 2 j - 1 + b, o] = sum over all such (i, a), (j, b) and over c of x[n, i, j, c] k[a, b, c, o]

    One matrix product, whose results are shifted and summed, on every backend.
    """
    height, width, channels = images.shape[1:]
    weights = jnp.transpose(kernel, (2, 0, 1, 3)).reshape(channels, -1)
    parts = (images.reshape(-1, channels) @ weights).reshape(-1, height, width, 4, 4, kernel.shape[3])
    rows = _interleaved(parts, 1, 3)
    return _interleaved(rows.reshape(-1, 2 * height, width, 4, kernel.shape[3]), 2, 3)


def _interleaved(parts: jax.Array, axis: int, taps: int) -> jax.Array:
    """Along `axis` twice as many, from what each place gives by its four taps to the places around it."""
    first, second, third, fourth = (lax.index_in_dim(parts, tap, taps, keepdims=False) for tap in range(4))
    count = parts.shape[axis]
    zero = jnp.zeros_like(lax.slice_in_dim(first, 0, 1, axis=axis))
    before = jnp.concatenate([zero, lax.slice_in_dim(fourth, 0, count - 1, axis=axis)], axis)
    after = jnp.concatenate([lax.slice_in_dim(first, 1, count, axis=axis), zero], axis)
    both = jnp.stack([second + before, third + after], axis + 1)
    return both.reshape(*both.shape[:axis], 2 * count, *both.shape[axis + 2 :])


def _formulation(images, kernel, padding, stride, layout):
    small = min(images.shape[1:3]) + 2 * padding < kernel.shape[0] + 2  # tiles would be mostly padding
    tiled = stride == 1 and not small and any(kernel.shape[:2] == (taps, taps) for taps in TAPS)
    if layout == "NHWC" and tiled and kernel.shape[2] >= _WIDE:
        return _convolve_winograd
    if kernel.shape[2] <= _FEW or math.prod(kernel.shape[:3]) <= _SMALL_PATCH:
        return _convolve_patches
    return _convolve_shifts if kernel.shape[2] >= _MANY else _convolve_rows


def _convolve_native(images, kernel, padding, stride, layout):
    numbers = ("NHWC", "HWIO", "NHWC") if layout == "NHWC" else ("CHWN", "HWIO", "CHWN")
    pads = [(padding, padding)] * 2
    return lax.conv_general_dilated(images, kernel, (stride, stride), pads, dimension_numbers=numbers)


def _convolve_rows(images, kernel, padding, stride, layout):
    columns, height, width = _columns(images, kernel, padding, stride)
    gathered = jnp.concatenate(columns, channel_axis(layout))
    rows = [_strided(gathered, 1, a, height, stride) for a in range(kernel.shape[0])]
    return _products(rows, kernel.reshape(len(rows), -1, kernel.shape[3]), (height, width), layout)


def _convolve_patches(images, kernel, padding, stride, layout):
    patches = _patches(images, kernel, padding, stride, layout)
    return _products([patches], kernel.reshape(1, -1, kernel.shape[3]), patches.shape[1:3], layout)


def _patches(images, kernel, padding, stride, layout):
    """What each output sees, in place of the channels."""
    columns, height, _ = _columns(images, kernel, padding, stride)
    patches = [_strided(column, 1, a, height, stride) for a in range(kernel.shape[0]) for column in columns]
    return jnp.concatenate(patches, channel_axis(layout))


def _convolve_shifts(images, kernel, padding, stride, layout):
    columns, height, width = _columns(images, kernel, padding, stride)
    axis, outputs = channel_axis(layout), kernel.shape[3]
    gathered = jnp.concatenate(columns, axis)
    weights = jnp.moveaxis(kernel.reshape(kernel.shape[0], -1, outputs), 0, 1).reshape(1, -1, kernel.shape[0] * outputs)
    every_row = _products([gathered], weights, (gathered.shape[1], width), layout)
    rows = [lax.slice_in_dim(every_row, a * outputs, (a + 1) * outputs, axis=axis) for a in range(kernel.shape[0])]
    shifted = [_strided(row, 1, a, height, stride) for a, row in enumerate(rows)]
    return sum(shifted[1:], shifted[0])


def _convolve_winograd(images, kernel, padding, stride, layout):
    return convolve_winograd(images, kernel, padding)


def _columns(images, kernel, padding, stride):
    """What each column of the kernel meets, and the height and width of the output."""
    images = _pad(images, padding, 0.0)
    height, width = (_outputs(images.shape[axis], kernel.shape[axis - 1], stride) for axis in (1, 2))
    return [_strided(images, 2, b, width, stride) for b in range(kernel.shape[1])], height, width


def _products(rows, weights, size, layout):
    """Sum of matrix products of `rows` with their weights.

    Plain two-dimensional ones: XLA turns the gradients of anything wider into transposes and slow loops.
    """
    if layout == "NHWC":
        flat = sum(row.reshape(-1, row.shape[3]) @ w for row, w in zip(rows, weights, strict=True))
        return flat.reshape(-1, *size, weights.shape[2])
    flat = sum(w.T @ row.reshape(row.shape[0], -1) for row, w in zip(rows, weights, strict=True))
    return flat.reshape(weights.shape[2], *size, -1)


def max_pool(images: Images, window: int, stride: int, padding: int = 0) -> Images:
    """Maximum over windows, in either layout; of equal values the first in row order takes the gradient."""
    best, *others = _window_slices(_pad(images, padding, -jnp.inf), window, stride)
    for candidate in others:
        # `jnp.maximum` would split the gradient between equal values.
        best = jnp.where(candidate > best, candidate, best)
    return best


def avg_pool(images: Images, window: int, stride: int) -> Images:
    """Mean over windows without padding, in either layout."""
    if window == stride and all(size % window == 0 for size in images.shape[1:3]):
        return _mean_of_blocks(images, window)
    slices = _window_slices(images, window, stride)
    return sum(slices[1:], slices[0]) / len(slices)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _mean_of_blocks(images: Images, window: int) -> Images:
    """Mean over windows that neither overlap nor leave anything out.

    Slices are the fastest to sum, but their derivative spreads numbers out between zeros; that of a sum over two axes
    gives the same number to all, a tenth of a ConvNet's step sooner.
    """
    slices = _window_slices(images, window, window)
    return sum(slices[1:], slices[0]) / len(slices)


@_mean_of_blocks.defjvp
def _mean_of_blocks_jvp(window: int, primals: tuple[Images], tangents: tuple[Images]) -> tuple[Images, Images]:
    first, height, width, last = tangents[0].shape
    blocks = tangents[0].reshape(first, height // window, window, width // window, window, last)
    return _mean_of_blocks(primals[0], window), blocks.sum((2, 4)) / window**2


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
    scale = k + alpha * sum(windows[1:], windows[0]) / size
    if beta == 0.75:  # by square roots: powers, and the further powers of their derivatives, cost several times as much
        root = lax.rsqrt(scale)
        return images * (root * jnp.sqrt(root))
    return images * scale**-beta


def _window_slices(images: Images, window: int, stride: int) -> Sequence[Images]:
    """What stands at each place of a window, row by row."""
    height, width = (_outputs(images.shape[axis], window, stride) for axis in (1, 2))
    found: list[Images] = []
    for rows in _places(images, 1, window, stride, height):
        found += _places(rows, 2, window, stride, width)
    return found


def _places(images: Images, axis: int, window: int, stride: int, count: int) -> Sequence[Images]:
    """Along `axis`, what `count` windows have at their first, second, ... place.

    Of windows that overlap, every stride-th number is cut out once and not once for each place: the derivative of a
    slice with a stride spreads its numbers out, which is slow where several are summed.
    """
    if window <= stride or stride == 1:
        return [_strided(images, axis, place, count, stride) for place in range(window)]
    steps = count + (window - 1) // stride
    pads = [(0, 0, 0)] * images.ndim
    pads[axis] = (0, steps * stride - images.shape[axis], 0)
    split = lax.pad(images, jnp.zeros((), images.dtype), pads)
    split = split.reshape(*images.shape[:axis], steps, stride, *images.shape[axis + 1 :])
    phases = [lax.index_in_dim(split, phase, axis + 1, keepdims=False) for phase in range(stride)]
    starts = [divmod(place, stride) for place in range(window)]
    return [lax.slice_in_dim(phases[phase], first, first + count, axis=axis) for first, phase in starts]


def _pad(images: Images, padding: int, value: float) -> Images:
    if padding == 0:
        return images
    pads = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    return jnp.pad(images, pads, constant_values=value)


def _strided(images: Images, axis: int, start: int, count: int, stride: int) -> Images:
    return lax.slice_in_dim(images, start, start + (count - 1) * stride + 1, stride, axis)


def _outputs(size: int, window: int, stride: int) -> int:
    return (size - window) // stride + 1
