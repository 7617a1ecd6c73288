"""Augmentation by policies that choose among operations on pixels: AutoAugment, RandAugment, and crops with jitter."""

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from dd_jax.inner.pixel_operations import OPERATIONS, WHITE, Operation, translate_x, translate_y

Policy: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""(keys (N,), pixels (N, H, W, C) in [0, 1]) -> pixels of the same shape in [0, 1], each by its own key."""

# What AutoAugment found for CIFAR-10: pairs of operations, each with its probability and magnitude out of 9.
_CIFAR10 = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.5, 0), ("equalise", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterise", 0.3, 7)),
    (("colour", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalise", 0.6, 0), ("equalise", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("colour", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalise", 0.3, 0), ("auto_contrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("colour", 0.2, 8)),
    (("solarise", 0.5, 2), ("invert", 0.0, 0)),
    (("equalise", 0.2, 0), ("auto_contrast", 0.6, 0)),
    (("equalise", 0.2, 0), ("equalise", 0.6, 0)),
    (("colour", 0.9, 9), ("equalise", 0.6, 0)),
    (("auto_contrast", 0.8, 0), ("solarise", 0.2, 8)),
    (("brightness", 0.1, 3), ("colour", 0.7, 0)),
    (("solarise", 0.4, 5), ("auto_contrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.9, 0), ("solarise", 0.8, 3)),
    (("equalise", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 0)),
)
_HIGHEST = 9  # magnitude of AutoAugment
_RANDOM = 9 / 30  # magnitude of RandAugment, as a share of the highest one

_SHEAR, _TRANSLATION, _DEGREES, _ENHANCEMENT = 0.3, 150 / 331, 30.0, 0.9  # at the highest; translation: of the side
_BITS, _BITS_LOST = 8, 4
_ROUNDING = 1e-3  # of a level that is whole but for float32

_JITTER: Mapping[str, float] = {"brightness": 0.4, "contrast": 0.4, "colour": 0.4, "hue": 0.2}  # at most

_PADDING = 4  # pixels ...
_PADDING_SHARE = 1 / 8  # ... but no more than this of the shorter side, rounded up

_RANDOM_OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "colour", "contrast", "sharpness"),
    *("posterise", "solarise", "auto_contrast", "equalise"),
)
_OPERATIONS = (*_RANDOM_OPERATIONS, "invert")  # by number


def auto_augment(keys: jax.Array, pixels: jax.Array) -> jax.Array:
    """Images (N, H, W, C) in [0, 1], each changed by one of 25 pairs of operations, as its own of `keys` (N,) says.

    Each of the two happens with its probability.
    Source: Cubuk et al. 2019, *AutoAugment*, the policy for CIFAR-10, with amounts as torchvision reads its magnitudes:
    what has a direction goes either way, colours too.
    """
    numbers = jnp.array([[_OPERATIONS.index(name) for name, *_ in pair] for pair in _CIFAR10])
    chances = jnp.array([[chance for _, chance, _ in pair] for pair in _CIFAR10], pixels.dtype)
    shares = jnp.array([[magnitude / _HIGHEST for *_, magnitude in pair] for pair in _CIFAR10], pixels.dtype)

    def drawn(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        pair_key, chance_key, sign_key = jax.random.split(key, 3)
        pair = jax.random.randint(pair_key, (), 0, len(_CIFAR10))
        happens = jax.random.uniform(chance_key, (2,), pixels.dtype) < chances[pair]
        signs = jax.random.rademacher(sign_key, (2,), pixels.dtype)
        return jnp.where(happens, numbers[pair], _OPERATIONS.index("identity")), signs * shares[pair]

    return _operated(_graded(pixels.shape), pixels, *jax.vmap(drawn)(keys))


def rand_augment(keys: jax.Array, pixels: jax.Array) -> jax.Array:
    """Images (N, H, W, C) in [0, 1], each changed by one of 14 operations, as its own of `keys` (N,) says.

    The first is to do nothing; the others have magnitude 9 of 30, in amounts as of `auto_augment`.
    Source: Cubuk et al. 2020, *RandAugment*; one operation and not two, as Cui et al. 2022, *DC-BENCH* (released code).
    """

    def drawn(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        number_key, sign_key = jax.random.split(key)
        numbers = jax.random.randint(number_key, (1,), 0, len(_RANDOM_OPERATIONS))
        return numbers, jax.random.rademacher(sign_key, (1,), pixels.dtype) * _RANDOM

    return _operated(_graded(pixels.shape), pixels, *jax.vmap(drawn)(keys))


def crop_flip_jitter(keys: jax.Array, pixels: jax.Array) -> jax.Array:
    """Images (N, H, W, C) in [0, 1], each cropped, mirrored half of the time and its colours jittered by its own key.

    Crops are out of the image with four black pixels around it (small ones: an eighth of the side). Brightness,
    contrast and saturation change by up to 40 %, hues by up to a fifth of the colour circle, in any order.
    Source: Cui et al. 2022, *DC-BENCH*, the released code ("imagenet_aug").
    """
    most = jnp.array(list(_JITTER.values()), pixels.dtype)
    reach = padding(pixels.shape[1:])

    def moved(key: jax.Array, image: jax.Array) -> jax.Array:
        place_key, mirror_key = jax.random.split(key)
        down, right = jax.random.randint(place_key, (2,), -reach, reach + 1).astype(image.dtype)
        cropped = translate_x(translate_y(image, down), right)
        return jnp.where(jax.random.bernoulli(mirror_key), cropped[:, ::-1], cropped)

    def drawn(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        order_key, amount_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(_JITTER))
        amounts = jax.random.uniform(amount_key, most.shape, most.dtype, -1.0, 1.0) * most
        return order, amounts[order]

    move_keys, jitter_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    operations = tuple(OPERATIONS[name] for name in _JITTER)
    return _operated(operations, jax.vmap(moved)(move_keys, pixels), *jax.vmap(drawn)(jitter_keys))


POLICIES: Mapping[str, Policy] = {
    "auto_augment": auto_augment,
    "rand_augment": rand_augment,
    "imagenet": crop_flip_jitter,
}


def padding(shape: tuple[int, ...]) -> int:
    """By how many pixels an image (H, W, C) is padded before it is cropped to its size again."""
    return min(_PADDING, math.ceil(_PADDING_SHARE * min(shape[:2])))


def amount_of(name: str, share: jax.Array, height: int, width: int) -> jax.Array:
    """What an operation takes at a share, in [-1, 1], of the highest magnitude; some have no direction, and no sign."""
    if name in ("translate_x", "translate_y"):
        return jnp.trunc(_TRANSLATION * (width if name == "translate_x" else height) * share)
    if name == "posterise":
        return _BITS - jnp.round(_BITS_LOST * jnp.abs(share))
    if name == "solarise":
        return jnp.ceil(WHITE * (1.0 - jnp.abs(share)) - _ROUNDING)  # levels are whole
    return share * {"shear_x": _SHEAR, "shear_y": _SHEAR, "rotate": _DEGREES}.get(name, _ENHANCEMENT)


def _graded(shape: tuple[int, ...]) -> tuple[Operation, ...]:
    """The operations by number, with shares of the highest magnitude as their amounts."""
    height, width = shape[1:3]

    def graded(name: str) -> Operation:
        return lambda image, share: OPERATIONS[name](image, amount_of(name, share, height, width))

    return tuple(map(graded, _OPERATIONS))


def _operated(
    operations: tuple[Operation, ...], pixels: jax.Array, numbers: jax.Array, amounts: jax.Array
) -> jax.Array:
    """Images (N, H, W, C) after these operations (N, T), given by number, with these amounts (N, T)."""

    def step(image: jax.Array, operation: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return lax.switch(operation[0], operations, image, operation[1]), None

    def one(item: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return lax.scan(step, item[0], item[1:])[0]

    # One by one only the operation that was drawn is computed, and side by side all of them, of which one is taken.
    items = pixels, numbers, amounts
    return lax.map(one, items) if jax.default_backend() == "cpu" else jax.vmap(one)(items)
