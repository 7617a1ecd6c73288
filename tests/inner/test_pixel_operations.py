"""Operations on pixels, each against Pillow's, or the standard library's where Pillow has none."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from dd_jax.inner.pixel_operations import OPERATIONS

SHAPES = [(40, 34, 3), (40, 34, 1)]
COMPILED = {name: jax.jit(operation) for name, operation in OPERATIONS.items()}


def affine(*coefficients):
    return lambda image, a: image.transform(image.size, Image.Transform.AFFINE, [c(a) for c in coefficients])


def fixed(value):
    return lambda a: value


ZERO, ONE = fixed(0), fixed(1)
ITSELF = float
REFERENCES = {
    "identity": lambda image, a: image,
    "shear_x": affine(ONE, ITSELF, ZERO, ZERO, ONE, ZERO),
    "shear_y": affine(ONE, ZERO, ZERO, ITSELF, ONE, ZERO),
    "translate_x": affine(ONE, ZERO, ITSELF, ZERO, ONE, ZERO),
    "translate_y": affine(ONE, ZERO, ZERO, ZERO, ONE, ITSELF),
    "rotate": lambda image, a: image.rotate(a),
    "brightness": lambda image, a: ImageEnhance.Brightness(image).enhance(1 + a),
    "colour": lambda image, a: ImageEnhance.Color(image).enhance(1 + a),
    "contrast": lambda image, a: ImageEnhance.Contrast(image).enhance(1 + a),
    "sharpness": lambda image, a: ImageEnhance.Sharpness(image).enhance(1 + a),
    "posterise": lambda image, a: ImageOps.posterize(image, int(a)),
    "solarise": lambda image, a: ImageOps.solarize(image, a),
    "auto_contrast": lambda image, a: ImageOps.autocontrast(image),
    "equalise": lambda image, a: ImageOps.equalize(image),
    "invert": lambda image, a: ImageOps.invert(image),
}
AMOUNTS = {
    **dict.fromkeys(("shear_x", "shear_y"), (0.137, -0.283)),
    **dict.fromkeys(("translate_x", "translate_y"), (5, -3, 40)),
    "rotate": (8.7, -29.3),
    **dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), (0.9, -0.37, -0.9)),
    "posterise": (8, 5, 4),
    "solarise": (170, 28.3),
}
CASES = [(name, amount) for name in REFERENCES for amount in AMOUNTS.get(name, (0,))]
# Pillow rounds to levels on the way: where it blends, where it takes a mean, and where it stretches.
TOLERANCES = dict.fromkeys(("brightness", "colour", "contrast", "sharpness", "auto_contrast"), 2.01)


def picture(shape):
    """Smooth colours with noise, in no channel from black to white."""
    rows, columns = np.meshgrid(*(np.linspace(0, 1, side) for side in shape[:2]), indexing="ij")
    base = np.stack([rows, columns, 1 - rows * columns], -1)[..., : shape[2]]
    noise = np.random.default_rng(0).normal(size=shape)
    return np.clip(30 + 180 * base + 20 * noise, 3, 251).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "amount"), CASES)
def test_as_pillow_does(name, amount, shape):
    levels = picture(shape)
    reference = REFERENCES[name](Image.fromarray(levels.squeeze()), amount)
    expected = np.asarray(reference).reshape(shape).astype(float)
    found = COMPILED[name](jnp.asarray(levels / 255, jnp.float32), jnp.float32(amount)) * 255
    np.testing.assert_allclose(found, expected, atol=TOLERANCES.get(name, 1e-3))
    grey_alone = name == "colour" and shape[-1] == 1
    if name != "identity" and not grey_alone and (name, amount) != ("posterise", 8):
        assert not np.array_equal(expected, levels), "the reference shows something"


@pytest.mark.parametrize("turn", [0.2, -0.13, 0.5])
def test_hues_as_the_standard_library_turns_them(turn):
    colours = np.array([*itertools.product((0.0, 0.3, 1.0), repeat=3), (0.9, 0.2, 0.5)]).reshape(4, 7, 3)
    expected = np.empty_like(colours)
    for place in np.ndindex(4, 7):
        h, s, v = colorsys.rgb_to_hsv(*colours[place])
        expected[place] = colorsys.hsv_to_rgb((h + turn) % 1.0, s, v)
    found = OPERATIONS["hue"](jnp.asarray(colours, jnp.float32), jnp.float32(turn))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    grey = jnp.asarray(colours[..., :1], jnp.float32)
    assert OPERATIONS["hue"](grey, jnp.float32(turn)) is grey


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*AMOUNTS, "hue"])
def test_the_amount_of_no_change(name, shape):
    image = jnp.asarray(picture(shape) / 255, jnp.float32)
    nothing = {"posterise": 8, "solarise": 256}.get(name, 0)
    np.testing.assert_allclose(COMPILED[name](image, jnp.float32(nothing)), image, atol=1e-6)


@pytest.mark.parametrize("name", ["auto_contrast", "equalise"])
def test_a_constant_channel_stays_beside_others(name):
    image = jnp.asarray(picture(SHAPES[0]) / 255, jnp.float32).at[..., 1].set(0.4)
    found = COMPILED[name](image, jnp.float32(0))
    np.testing.assert_array_equal(found[..., 1], image[..., 1])
    assert not np.allclose(found[..., 0], image[..., 0])


def test_equalising_leaves_images_with_too_few_pixels():
    levels = picture((8, 8, 1))
    image = jnp.asarray(levels / 255, jnp.float32)
    np.testing.assert_array_equal(COMPILED["equalise"](image, jnp.float32(0)), image)
    np.testing.assert_array_equal(ImageOps.equalize(Image.fromarray(levels.squeeze())), levels.squeeze())


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3), (9, 4, 2), (3, 3, 4)])
def test_any_size_and_number_of_channels(shape):
    image = jax.random.uniform(jax.random.key(0), shape)
    every = jax.jit(lambda amount: {name: operation(image, amount) for name, operation in OPERATIONS.items()})
    for amount in (-0.3, 4.0):
        for name, found in every(jnp.float32(amount)).items():
            assert (found.shape, found.dtype) == (image.shape, image.dtype), name
            assert ((found >= 0) & (found <= 1)).all(), f"{name} is finite and in [0, 1]"
