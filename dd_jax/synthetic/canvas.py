"""Canvases larger than the network's images, of which it sees random crops, across their edges too: textures.

A canvas has no edges: what leaves it on one side comes in on the other, so that copies side by side have no seams.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dd_jax.errors import DataError, OptionError, unknown_name
from dd_jax.parameterisation import PLAIN, Kind, Learnt, Parameterisation
from dd_jax.synthetic.base import Synthetic, describe
from dd_jax.types import Batch, Dataset, DistilledData, Learnable

CanvasStart: TypeAlias = Literal["side_by_side", "mirrored"]
CANVAS_STARTS: tuple[str, ...] = get_args(CanvasStart)

_SHIFTED = 1  # what a key is folded with to draw where the crops are


def on_canvas(
    synthetic: Synthetic,
    image_shape: tuple[int, int, int],
    size: int = 2,
    samples: int = 1,
    start: CanvasStart = "side_by_side",
) -> Synthetic:
    """`synthetic`, whose images become canvases, `size` times as high and wide; networks see `samples` crops of each.

    Each crop (H, W, C) is at a place of its own, drawn anew in every inner step, anywhere on the torus. Labels are
    those of the canvas.

    Args:
        synthetic: a set whose learnable has `images` (..., H, W, C), such as `pixels` and `step_batches`.
        image_shape: (H, W, C) of the crops.
        start: what a canvas starts as, of images drawn as those of `synthetic` are. "side_by_side": size * size of
            them; of real ones the seams stay through the learning. "mirrored": one image, which every second place
            across and every second place down has mirrored. Neighbours then agree where they meet, and so do the
            edges: there are no seams.

    Raises:
        OptionError: for a size or a number of samples below one, an unknown start, or an odd size of mirrored images;
            at its start DataError for a whitened dataset.

    Source: Cazenavette et al. 2022, *Wearable ImageNet: Synthesizing Tileable Textures via Dataset Distillation*,
    section 3 and the released code (--texture).
    """
    for name, count in (("canvas_size", size), ("canvas_samples", samples)):
        if count < 1:
            raise OptionError(f"{name} must be at least 1, but is {count}.")
    check_canvas_start(start, size)
    height, width, _ = image_shape
    form = Parameterisation.of(CANVAS, height=height, width=width, samples=samples)

    def init(key: jax.Array, dataset: Dataset) -> Learnable:
        if dataset.transform.kind.startswith("zca"):
            raise DataError(
                f"{dataset.name} is whitened (ZCA). Whitening filters each pixel by its place, so a crop of a "
                "whitened canvas is not a whitened image. Load the dataset without zca."
            )
        if start == "mirrored":
            one = synthetic.init(key, dataset)
            return one._replace(images=mirrored(one.images, size))
        parts = [synthetic.init(jax.random.fold_in(key, i) if i else key, dataset) for i in range(size**2)]
        rows = [[part.images for part in parts[i : i + size]] for i in range(0, size**2, size)]
        whole = jnp.concatenate([jnp.concatenate(row, -2) for row in rows], -3)
        return parts[0]._replace(images=whole)

    def batch(learnable: Learnable, key: jax.Array, t: jax.Array) -> Batch:
        canvases, labels = synthetic.batch(learnable, key, t)
        places = _places(jax.random.fold_in(jax.random.fold_in(key, _SHIFTED), t), canvases.shape, samples)
        images = crops(canvases, places, height, width)
        return Batch(images.reshape(-1, *images.shape[2:]), jnp.repeat(labels, samples, axis=0))

    def decode(learnable: Learnable) -> DistilledData:
        plain = synthetic.decode(learnable)
        labels = jnp.repeat(plain.labels, samples, axis=1)
        learnt = {"canvases": plain.learnt["images"]}
        return dataclasses.replace(plain, learnt=learnt, labels=labels, parameterisation=form)

    return Synthetic(init, batch, decode, synthetic.project, synthetic.num_inner_steps)


def check_canvas_start(start: str, size: int) -> None:
    """OptionError for an unknown start, or for mirrored images of which the last meets a copy of itself, unmirrored."""
    if start not in CANVAS_STARTS:
        raise unknown_name("canvas_start", start, CANVAS_STARTS)
    if start == "mirrored" and size % 2:
        raise OptionError(
            f"Mirrored images join at the edges of a canvas if their number across is even, but canvas_size is {size}. "
            'Use canvas_size=2, or canvas_start="side_by_side".'
        )


def mirrored(images: Float[Array, "*batch h w c"], size: int) -> Float[Array, "*batch tall broad c"]:
    """Canvases of `size` by `size` copies of an image each, every second one mirrored, across and down."""
    row = jnp.concatenate([images if i % 2 == 0 else jnp.flip(images, -2) for i in range(size)], -2)
    return jnp.concatenate([row if i % 2 == 0 else jnp.flip(row, -3) for i in range(size)], -3)


def crops(
    canvases: Float[Array, "*batch tall broad channels"],
    places: Int[Array, "*batch samples 2"],
    height: int,
    width: int,
) -> Float[Array, "*batch samples {height} {width} channels"]:
    """Of each canvas the crops whose upper left corners are at its places, (row, column), on the torus."""

    def one(canvas: jax.Array, places: jax.Array) -> jax.Array:
        rows = (places[:, :1] + jnp.arange(height)[None]) % canvas.shape[0]
        columns = (places[:, 1:] + jnp.arange(width)[None]) % canvas.shape[1]
        return canvas[rows[:, :, None], columns[:, None, :]]

    flat = jax.vmap(one)(canvases.reshape(-1, *canvases.shape[-3:]), places.reshape(-1, *places.shape[-2:]))
    return flat.reshape(*canvases.shape[:-3], *flat.shape[1:])


def _places(key: jax.Array, shape: tuple[int, ...], samples: int) -> Int[Array, "*batch samples 2"]:
    """A place for each crop of each canvas, drawn from all of them."""
    keys = jax.random.split(key)
    ends = [jax.random.randint(k, (*shape[:-3], samples), 0, side) for k, side in zip(keys, shape[-3:-1], strict=True)]
    return jnp.stack(ends, -1)


def draw_canvas(learnt: Learnt, key: jax.Array, *, height: int, width: int, samples: int) -> jax.Array:
    """Images (S, B * samples, H, W, C): crops at random places."""
    canvases = learnt["canvases"]
    return _side_by_side(crops(canvases, _places(key, canvases.shape, samples), height, width))


def decode_canvas(learnt: Learnt, *, height: int, width: int, samples: int) -> jax.Array:
    """Images (S, B * samples, H, W, C): crops evenly spread along the diagonal, from the corner on."""
    canvases = learnt["canvases"]
    spread = jnp.arange(samples)[:, None] * jnp.asarray(canvases.shape[-3:-1])[None] // samples
    return _side_by_side(crops(canvases, jnp.broadcast_to(spread, (*canvases.shape[:-3], samples, 2)), height, width))


def _side_by_side(images: jax.Array) -> jax.Array:
    return images.reshape(images.shape[0], -1, *images.shape[3:])


def check_canvas(
    learnt: Mapping[str, np.ndarray], *, height: Any = None, width: Any = None, samples: Any = None
) -> str:
    """They are canvases (S, B, H', W', C) at least as large as their crops."""
    if set(learnt) != {"canvases"} or learnt["canvases"].ndim != 5 or not learnt["canvases"].size:
        return f"canvases should be 'canvases' (steps, batch, H, W, C), found {describe(learnt)}"
    for name, value in (("height", height), ("width", width), ("samples", samples)):
        if type(value) is not int or value < 1:
            return f"{name} should be a number from 1, found {value!r:.80}"
    tall, broad = learnt["canvases"].shape[2:4]
    if height > tall or width > broad:
        return f"crops should be at most as large as their canvas, found {height} x {width} of {tall} x {broad}"
    return ""


def canvases_of(distilled: DistilledData) -> DistilledData:
    """The set with its canvases as plain images, one for each: what there is to be seen of it."""
    samples = dict(distilled.parameterisation.settings)["samples"]
    learnt = {"images": distilled.learnt["canvases"]}
    return dataclasses.replace(distilled, learnt=learnt, labels=distilled.labels[:, ::samples], parameterisation=PLAIN)


def seam_ratio(canvases: Float[np.ndarray, "... tall broad channels"]) -> float:
    """How much neighbouring pixels differ where a canvas meets its copy, as a share of what they do inside.

    The mean absolute difference over both directions: 1 where there are no seams, and more the clearer they are.
    """
    ends, inside = [], []
    for axis in (-3, -2):
        moved = np.abs(canvases - np.roll(canvases, 1, axis))
        last, others = np.split(moved, [1], axis)
        ends.append(last.mean())
        inside.append(others.mean())
    return float(np.mean(ends) / np.mean(inside))


CANVAS = Kind(
    "canvas",
    decode_canvas,
    check_canvas,
    draw_canvas,
    layout=(("canvases", "(S, B, H', W', C) float32, model space: without edges; networks see crops of them"),),
    shown=canvases_of,
)
