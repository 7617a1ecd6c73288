"""Operations on the pixels of one image, each with one amount: what augmentation policies are put together from."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp

Operation: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""(pixels (H, W, C) in [0, 1], amount) -> pixels of the same shape, in [0, 1]."""

WHITE = 255  # the level of pixel 1
_LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue
_CENTRE, _AROUND = 5.0, 1.0  # weights of a pixel and of its eight neighbours, where an image is smoothed
_EYE_SIDE = 3  # of what these weights cover


def identity(image: jax.Array, amount: jax.Array) -> jax.Array:
    """The image as it is."""
    return image


def shear_x(image: jax.Array, amount: jax.Array) -> jax.Array:
    """Rows moved by `amount` of their distance from the top; black comes in."""
    rows, columns = _centres(image)
    return _read(image, rows, columns + amount * rows)


def shear_y(image: jax.Array, amount: jax.Array) -> jax.Array:
    """Columns moved by `amount` of their distance from the left; black comes in."""
    rows, columns = _centres(image)
    return _read(image, rows + amount * columns, columns)


def translate_x(image: jax.Array, amount: jax.Array) -> jax.Array:
    """All moved by `amount` pixels to the left; black comes in."""
    rows, columns = _centres(image)
    return _read(image, rows, columns + amount)


def translate_y(image: jax.Array, amount: jax.Array) -> jax.Array:
    """All moved by `amount` pixels upwards; black comes in."""
    rows, columns = _centres(image)
    return _read(image, rows + amount, columns)


def rotate(image: jax.Array, amount: jax.Array) -> jax.Array:
    """Turned by `amount` degrees counter-clockwise around the centre; black comes in."""
    height, width = image.shape[:2]
    rows, columns = _centres(image)
    down, right = rows - height / 2, columns - width / 2
    cos, sin = jnp.cos(jnp.deg2rad(amount)), jnp.sin(jnp.deg2rad(amount))
    return _read(image, sin * right + cos * down + height / 2, cos * right - sin * down + width / 2)


def brightness(image: jax.Array, amount: jax.Array) -> jax.Array:
    """1 + `amount` times the way from black to the image."""
    return _beyond(image, jnp.zeros_like(image), amount)


def colour(image: jax.Array, amount: jax.Array) -> jax.Array:
    """1 + `amount` times the way from the image in grey to the image; of one channel nothing changes."""
    return _beyond(image, _grey(image), amount)


def contrast(image: jax.Array, amount: jax.Array) -> jax.Array:
    """1 + `amount` times the way from its mean grey to the image."""
    return _beyond(image, _grey(image).mean(keepdims=True), amount)


def sharpness(image: jax.Array, amount: jax.Array) -> jax.Array:
    """1 + `amount` times the way from the image smoothed over 3 x 3 pixels to the image; its border stays."""
    height, width = image.shape[:2]
    if min(height, width) < _EYE_SIDE:
        return image
    places = range(_EYE_SIDE)
    total = sum(image[i : height - 2 + i, j : width - 2 + j] for i in places for j in places)
    middle = image[1:-1, 1:-1]
    smooth = (_AROUND * total + (_CENTRE - _AROUND) * middle) / (_CENTRE + 8 * _AROUND)
    return _beyond(image, image.at[1:-1, 1:-1].set(smooth), amount)


def hue(image: jax.Array, amount: jax.Array) -> jax.Array:
    """Hues of three channels turned by `amount` of the colour circle; other images stay."""
    if image.shape[-1] != 3:
        return image
    value, least = image.max(-1, keepdims=True), image.min(-1, keepdims=True)
    chroma = value - least
    red, green, blue = (image[..., i : i + 1] for i in range(3))
    towards = [green - blue, blue - red, red - green]
    sixths = [2.0 * i + way / jnp.where(chroma > 0, chroma, 1.0) for i, way in enumerate(towards)]
    place = jnp.where(value == red, sixths[0], jnp.where(value == green, sixths[1], sixths[2])) + 6.0 * amount
    far = jnp.mod(place + jnp.array([5.0, 3.0, 1.0], image.dtype).reshape(1, 1, 3), 6.0)
    return value - chroma * jnp.clip(jnp.minimum(far, 4.0 - far), 0.0, 1.0)


def posterise(image: jax.Array, amount: jax.Array) -> jax.Array:
    """Of 256 levels only the highest `amount` bits."""
    step = 2.0 ** (8.0 - amount)
    return jnp.floor(_levels(image) / step) * step / WHITE


def solarise(image: jax.Array, amount: jax.Array) -> jax.Array:
    """Inverted where the level is at least `amount`, in [0, 255]."""
    return jnp.where(_levels(image) >= amount, 1.0 - image, image)


def auto_contrast(image: jax.Array, amount: jax.Array) -> jax.Array:
    """Each channel stretched to [0, 1]; a constant one stays."""
    least, most = image.min((0, 1), keepdims=True), image.max((0, 1), keepdims=True)
    wide = most > least
    return jnp.where(wide, (image - least) / jnp.where(wide, most - least, 1.0), image)


def equalise(image: jax.Array, amount: jax.Array) -> jax.Array:
    """Each channel with its levels, out of 256, spread evenly.

    As Pillow defines it: an image with fewer than 255 pixels that aren't of its brightest level stays as it is, and so
    one of 8 x 8 always does.
    """

    def spread(plane: jax.Array) -> jax.Array:
        levels = _levels(plane).astype(jnp.int32)
        counts = jnp.zeros(WHITE + 1, jnp.int32).at[levels.ravel()].add(1)
        step = (plane.size - counts[levels.max()]) // WHITE
        below = jnp.cumsum(counts) - counts
        table = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), WHITE).astype(plane.dtype) / WHITE
        return jnp.where(step > 0, table[levels], plane)

    return jax.vmap(spread, -1, -1)(image)


def invert(image: jax.Array, amount: jax.Array) -> jax.Array:
    """The negative."""
    return 1.0 - image


OPERATIONS: Mapping[str, Operation] = {
    function.__name__: function
    for function in (
        identity,
        shear_x,
        shear_y,
        translate_x,
        translate_y,
        rotate,
        brightness,
        colour,
        contrast,
        sharpness,
        posterise,
        solarise,
        auto_contrast,
        equalise,
        invert,
        hue,
    )
}


def _centres(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The middles of all pixels in pixels from the upper left corner: rows (H, 1) and columns (1, W)."""
    rows, columns = (jnp.arange(side, dtype=image.dtype) + 0.5 for side in image.shape[:2])
    return rows[:, None], columns[None]


def _read(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """The pixels that these places (H, W) lie in; black outside of the image."""
    height, width = image.shape[:2]
    row, column = jnp.broadcast_arrays(jnp.floor(rows).astype(jnp.int32), jnp.floor(columns).astype(jnp.int32))
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    found = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[..., None], found, 0.0)


def _beyond(image: jax.Array, other: jax.Array, amount: jax.Array) -> jax.Array:
    return jnp.clip(image + amount * (image - other), 0.0, 1.0)


def _grey(image: jax.Array) -> jax.Array:
    """(H, W, 1): the brightness of three colours, the mean of any other number of channels."""
    if image.shape[-1] != 3:
        return image.mean(-1, keepdims=True)
    return (image * jnp.array(_LUMA, image.dtype).reshape(1, 1, 3)).sum(-1, keepdims=True)


def _levels(image: jax.Array) -> jax.Array:
    """Pixels as whole numbers in [0, 255]; rounded, as pixels that went to model space and back aren't exact."""
    return jnp.round(image * WHITE)
