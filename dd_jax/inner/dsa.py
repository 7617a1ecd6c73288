"""Differentiable Siamese augmentation (DSA): one kind of change for a whole batch, its amount drawn for each image."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.ndimage import map_coordinates

# Strengths of the released code.
_BRIGHTNESS, _SATURATION, _CONTRAST = 1.0, 2.0, 0.5
_SHIFT, _CUTOUT = 0.125, 0.5  # shares of the side
_SCALE, _DEGREES = 1.2, 15.0

Change = Callable[[jax.Array, jax.Array], jax.Array]


def dsa(keys: jax.Array, images: jax.Array, flip: bool = True) -> jax.Array:
    """Images (N, H, W, C) in model space, all changed in one way, each as much as its own of `keys` (N,) says.

    The ways: colour, shift, cut-out, mirror (if `flip`: not for digits), scale, rotation; what comes from outside of
    an image is zero. Differentiable in the images; the same keys change other images in the same way.
    Source: Zhao & Bilen 2021, *Dataset Condensation with Differentiable Siamese Augmentation*, section 3.3 and the
    released code (one kind at a time; its strengths).
    """
    changes = [_colour, _shift, _cut_out, *([_mirror] if flip else []), _scaled, _rotated]
    which = jax.random.randint(jax.random.fold_in(keys[0], 1), (), 0, len(changes))
    return lax.switch(which, [functools.partial(_each, change) for change in changes], keys, images)


def flip_rotate(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Images (N, H, W, C), each mirrored half of the time and turned by up to 15 degrees, by its own of `keys` (N,)."""
    mirror_keys, turn_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    return _each(_rotated, turn_keys, _each(_mirror, mirror_keys, images))


def _each(change: Change, keys: jax.Array, images: jax.Array) -> jax.Array:
    return jax.vmap(change)(keys, images)


def _colour(key: jax.Array, image: jax.Array) -> jax.Array:
    brightness, saturation, contrast = jax.random.uniform(key, (3,), image.dtype)
    image = image + (brightness - 0.5) * _BRIGHTNESS
    grey = image.mean(-1, keepdims=True)
    image = grey + (image - grey) * saturation * _SATURATION
    mean = image.mean()
    return mean + (image - mean) * (contrast + _CONTRAST)


def _shift(key: jax.Array, image: jax.Array) -> jax.Array:
    pads = [int(side * _SHIFT + 0.5) for side in image.shape[:2]]
    corner = jax.random.randint(key, (2,), 0, 2 * jnp.array(pads) + 1)
    padded = jnp.pad(image, [(pad, pad) for pad in pads] + [(0, 0)])
    return lax.dynamic_slice(padded, (corner[0], corner[1], jnp.zeros_like(corner[0])), image.shape)


def _cut_out(key: jax.Array, image: jax.Array) -> jax.Array:
    centre_key, other_key = jax.random.split(key)
    inside = jnp.bool(True)
    for axis, axis_key in enumerate((centre_key, other_key)):
        side = image.shape[axis]
        size = int(side * _CUTOUT + 0.5)
        first = jax.random.randint(axis_key, (), 0, side + 1 - size % 2) - size // 2
        places = jnp.arange(side).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        inside = inside & (places >= first) & (places < first + size)
    return jnp.where(inside, 0.0, image)


def _mirror(key: jax.Array, image: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def _scaled(key: jax.Array, image: jax.Array) -> jax.Array:
    vertical, horizontal = jax.random.uniform(key, (2,), image.dtype, 1 / _SCALE, _SCALE)
    return _resampled(image, jnp.array([[vertical, 0.0], [0.0, horizontal]]))


def _rotated(key: jax.Array, image: jax.Array) -> jax.Array:
    angle = jax.random.uniform(key, (), image.dtype, -1.0, 1.0) * jnp.deg2rad(_DEGREES)
    return _resampled(image, jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]]))


def _resampled(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """The image read, bilinearly, at its own places times `matrix`, both in units of half a side from the centre."""
    half = jnp.asarray(image.shape[:2], image.dtype) / 2
    rows, columns = jnp.meshgrid(*(jnp.arange(side) + 0.5 for side in image.shape[:2]), indexing="ij")
    places = (jnp.stack([rows, columns]) - half[:, None, None]) / half[:, None, None]
    read = jnp.tensordot(matrix, places, 1) * half[:, None, None] + half[:, None, None] - 0.5
    return jax.vmap(lambda plane: map_coordinates(plane, list(read), order=1), -1, -1)(image)
