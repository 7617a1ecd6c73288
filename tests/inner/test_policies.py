"""Policies: which operations they choose how often and with what amounts, by keys, in model space."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from dd_jax.data.transforms import fit_transform, to_model, to_pixels
from dd_jax.errors import OptionError
from dd_jax.inner import AUGMENTS, SMOOTH_AUGMENTS, Training, augment, fit, policies, siamese
from dd_jax.inner.pixel_operations import OPERATIONS
from dd_jax.inner.policies import POLICIES, amount_of
from dd_jax.methods.sampling import SamplingOptions, check_sampling
from dd_jax.types import Batch

KINDS = tuple(POLICIES)
COMPILED = {name: jax.jit(operation) for name, operation in OPERATIONS.items()}


@functools.cache
def compiled(kind):
    return jax.jit(POLICIES[kind])


def changed_by(kind, keys, image):
    """An image as each of the keys changes it, by a policy that is compiled anew."""
    policy = jax.jit(lambda keys, image: POLICIES[kind](keys, jnp.broadcast_to(image, (len(keys), *image.shape))))
    return np.asarray(policy(keys, image))


def distances_of(found, expected):
    """The largest difference of any pixel, (found, expected)."""
    return np.abs(np.asarray(found)[:, None] - np.stack(expected)[None]).max((2, 3, 4))


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@pytest.fixture(scope="module")
def pixels() -> jax.Array:
    """Smooth in colours, so that no two operations give the same."""
    return jax.image.resize(jax.random.uniform(jax.random.key(1), (6, 4, 4, 3)), (6, 20, 18, 3), "linear")


@pytest.fixture
def only(monkeypatch):
    """AutoAugment with these pairs alone, and of its operations those that they name."""

    def take(*pairs):
        monkeypatch.setattr(policies, "_CIFAR10", pairs)
        named = dict.fromkeys(["identity", *(name for name, *_ in itertools.chain(*pairs))])
        monkeypatch.setattr(policies, "_OPERATIONS", tuple(named))

    return take


@pytest.mark.parametrize("magnitude", range(10))
def test_amounts_are_those_of_a_table_of_ten_magnitudes(magnitude):
    """As torchvision tabulates them."""
    tables = {
        "shear_x": np.linspace(0, 0.3, 10),
        "translate_x": np.trunc(np.linspace(0, 150 / 331 * 18, 10)),
        "translate_y": np.trunc(np.linspace(0, 150 / 331 * 20, 10)),
        "rotate": np.linspace(0, 30, 10),
        "colour": np.linspace(0, 0.9, 10),
    }
    for name, table in tables.items():
        for sign in (1, -1):
            found = amount_of(name, jnp.float32(sign * magnitude / 9), 20, 18)
            np.testing.assert_allclose(found, sign * table[magnitude], rtol=1e-6)
    bits = 8 - np.round(np.arange(10) / (9 / 4))
    threshold = np.linspace(255, 0, 10)[magnitude]
    for sign in (1, -1):
        share = jnp.float32(sign * magnitude / 9)
        assert float(amount_of("posterise", share, 20, 18)) == bits[magnitude]
        whole = float(amount_of("solarise", share, 20, 18))
        levels = np.arange(256)
        np.testing.assert_array_equal(levels >= whole, levels >= threshold - 1e-9)


def test_the_policy_has_25_pairs_of_known_operations():
    assert len(policies._CIFAR10) == 25
    for name, chance, magnitude in itertools.chain(*policies._CIFAR10):
        assert name in policies._OPERATIONS
        assert 0 <= chance <= 1
        assert magnitude in range(10)
    assert set(policies._OPERATIONS) == set(OPERATIONS) - {"hue"}


def test_an_operation_of_probability_one_happens_and_one_of_zero_does_not(pixels, only):
    only((("invert", 1.0, 0), ("brightness", 0.0, 9)))
    changed = jax.jit(lambda *given: POLICIES["auto_augment"](*given))
    np.testing.assert_array_equal(changed(keys_of(6), pixels), 1.0 - pixels)
    only((("invert", 0.0, 0), ("brightness", 0.0, 9)))
    changed = jax.jit(lambda *given: POLICIES["auto_augment"](*given))
    np.testing.assert_array_equal(changed(keys_of(6), pixels), pixels)


def test_one_of_a_half_happens_half_of_the_time_either_way_and_one_after_the_other(pixels, only):
    only((("brightness", 0.5, 5), ("solarise", 1.0, 4)))
    image, many = pixels[0], 400
    found = changed_by("auto_augment", keys_of(many), image)
    after = COMPILED["solarise"]
    first = [image, *(COMPILED["brightness"](image, jnp.float32(sign * 0.5)) for sign in (1, -1))]
    distances = distances_of(found, [after(one, jnp.float32(255 * 5 / 9)) for one in first])
    assert (distances.min(1) < 1e-5).all()
    shares = np.bincount(distances.argmin(1), minlength=3) / many
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.08)


def test_each_pair_is_drawn_as_often(only):
    only(*(((f"translate_{axis}", 1.0, magnitude), ("invert", 0.0, 0)) for axis in "xy" for magnitude in (3, 9)))
    image, many = jax.random.uniform(jax.random.key(3), (20, 20, 1)), 400
    found = changed_by("auto_augment", keys_of(many), image)
    moves = [
        COMPILED[f"translate_{axis}"](image, jnp.float32(sign * by))
        for axis in "xy"
        for by in (3, 9)  # of 9.06 pixels times 3/9 and 9/9
        for sign in (1, -1)
    ]
    same = distances_of(found, moves) < 1e-6
    assert (same.sum(1) == 1).all()
    np.testing.assert_allclose(same.mean(0), 1 / 8, atol=0.06)


def test_rand_augment_is_one_of_fourteen_operations_of_magnitude_nine(pixels):
    image, many = pixels[1], 702
    keys, same = keys_of(many).reshape(-1, 6), jnp.broadcast_to(pixels[1], pixels.shape)
    found = np.concatenate([compiled("rand_augment")(six, same) for six in keys])
    height, width, _ = image.shape
    amounts = {
        **dict.fromkeys(("identity", "auto_contrast", "equalise"), (0,)),
        **dict.fromkeys(("shear_x", "shear_y"), (0.09, -0.09)),
        "translate_x": (int(150 / 331 * width * 0.3), -int(150 / 331 * width * 0.3)),
        "translate_y": (int(150 / 331 * height * 0.3), -int(150 / 331 * height * 0.3)),
        "rotate": (9, -9),
        **dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), (0.27, -0.27)),
        "posterise": (7,),
        "solarise": (178.5,),
    }
    changes = [(name, COMPILED[name](image, jnp.float32(a))) for name in amounts for a in amounts[name]]
    distances = distances_of(found, [change for _, change in changes])
    assert (distances.min(1) < 1e-5).all(), "it is always one of them"
    names = np.array([name for name, _ in changes])[distances.argmin(1)]
    counts = {name: int((names == name).sum()) for name in amounts}
    assert len(counts) == 14
    assert min(counts.values()) > 20, counts
    assert max(counts.values()) < 90, counts


def test_crops_are_windows_of_the_image_in_black_mirrored_or_not(monkeypatch):
    monkeypatch.setattr(policies, "_JITTER", {"brightness": 0.0, "hue": 0.0})
    image, many = 0.1 + 0.9 * jax.random.uniform(jax.random.key(0), (10, 12, 3)), 400
    found = changed_by("imagenet", keys_of(many), image)
    padded = np.pad(image, [(2, 2), (2, 2), (0, 0)])
    windows = [padded[i : i + 10, j : j + 12] for i in range(5) for j in range(5)]
    same = distances_of(found, [*windows, *(window[:, ::-1] for window in windows)]) < 1e-5
    assert (same.sum(1) == 1).all()
    assert same.any(0).all()
    assert abs(float(same[:, 25:].mean(0).sum()) - 0.5) < 0.1


def test_jitter_takes_its_four_changes_in_any_order(pixels, monkeypatch):
    monkeypatch.setattr(policies, "padding", lambda shape: 0)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype, low, high: jnp.full(shape, high, dtype))
    image = pixels[2]
    image, many = (image + image[:, ::-1]) / 2, 200  # the same mirrored
    found = changed_by("imagenet", keys_of(many), image)
    expected = []
    for order in itertools.permutations({"brightness": 0.4, "contrast": 0.4, "colour": 0.4, "hue": 0.2}.items()):
        changed = image
        for name, amount in order:
            changed = COMPILED[name](changed, jnp.float32(amount))
        expected.append(changed)
    distances = distances_of(found, expected)
    assert (distances.min(1) < 1e-4).all()
    assert len(np.unique(distances.argmin(1))) > 12


def test_jitter_is_up_to_its_amount(monkeypatch):
    monkeypatch.setattr(policies, "_JITTER", {"brightness": 0.4})
    grey = jnp.full((4, 4, 3), 0.5)
    factors = changed_by("imagenet", keys_of(300), grey)[:, 1:3, 1:3].max((1, 2, 3)) / 0.5
    assert 0.6 <= float(factors.min()) < 0.62
    assert 1.38 < float(factors.max()) <= 1.4


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_by_its_own_key(kind, pixels):
    policy, keys = compiled(kind), keys_of(6)
    found = policy(keys, pixels)
    np.testing.assert_array_equal(found, policy(keys, pixels))
    np.testing.assert_allclose(policy(keys[::-1], pixels[::-1]), found[::-1], atol=1e-6)
    same = policy(keys_of(6, 5), jnp.broadcast_to(pixels[0], pixels.shape))
    assert len(np.unique(np.asarray(same).reshape(6, -1), axis=0)) > 2
    assert not np.array_equal(policy(keys_of(6, 9), pixels), found)


@pytest.mark.parametrize("kind", KINDS)
def test_one_by_one_side_by_side_and_under_vmap_are_the_same(kind, pixels, monkeypatch):
    keys = keys_of(6)
    found = compiled(kind)(keys, pixels)
    alone = jax.jit(jax.vmap(lambda key, image: POLICIES[kind](key[None], image[None])[0]))(keys, pixels)
    np.testing.assert_allclose(alone, found, atol=1e-6)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(jax.jit(lambda *a: POLICIES[kind](*a))(keys, pixels), found, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        *itertools.product(("auto_augment", "imagenet"), [(28, 28, 1), (5, 9, 3), (1, 1, 1), (2, 3, 4)]),
        ("rand_augment", (5, 9, 3)),  # of the same operations as "auto_augment"
    ],
)
def test_any_images(kind, shape):
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(40, *shape)), jnp.float32)
    found = compiled(kind)(keys_of(40), images)
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    assert ((found >= 0) & (found <= 1)).all(), "and so finite"


@pytest.mark.parametrize("transform", ["identity", "standardise", "zca"])
def test_images_in_model_space_are_changed_as_their_pixels(transform, pixels, only):
    only((("invert", 1.0, 0), ("invert", 0.0, 0)))
    how = fit_transform(transform, np.asarray(pixels[:, :6, :5]))
    images = to_model(how, pixels[:, :6, :5])
    found = jax.jit(lambda keys, images: augment(keys, images, "auto_augment", how))(keys_of(6), images)
    np.testing.assert_allclose(to_pixels(how, found), 1.0 - pixels[:, :6, :5], atol=2e-4)


def test_what_is_not_a_pixel_is_clipped(only):
    only((("invert", 0.0, 0), ("invert", 0.0, 0)))
    how = fit_transform("identity", np.zeros((1, 2, 2, 1)))
    images = jnp.array([-0.5, 0.25, 0.75, 1.5]).reshape(1, 2, 2, 1)
    found = jax.jit(lambda keys, images: augment(keys, images, "auto_augment", how))(keys_of(1), images)
    np.testing.assert_array_equal(found.ravel(), [0.0, 0.25, 0.75, 1.0])


@pytest.mark.parametrize("kind", KINDS)
def test_trainings_take_them_and_methods_do_not(kind, pixels, monkeypatch):
    assert kind in AUGMENTS
    assert kind not in SMOOTH_AUGMENTS
    with pytest.raises(OptionError, match=f"'{kind}' works on pixels"):
        augment(keys_of(6), pixels, kind)
    with pytest.raises(OptionError, match="works on pixels"):
        siamese(jax.random.key(0), pixels, kind)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match=f"Unknown augment '{kind}'"):
        check_sampling(SamplingOptions(augment=kind))


def test_a_training_changes_its_images_in_the_model_space_of_their_transform(pixels, only):
    """With a policy that always inverts, training on images is training on their negatives without one."""
    only((("invert", 1.0, 0), ("invert", 0.0, 0)))
    how = fit_transform("standardise", np.asarray(pixels))
    labels, key = jnp.arange(6) % 2, jax.random.key(0)
    start = jnp.zeros((pixels[0].size, 2))
    plain = Training(epochs=2, batch_size=3, learning_rate=0.1, optimiser="sgd")

    def trained(pixels, training, *transform):
        images = Batch(to_model(how, pixels), labels)

        def apply(weights, images):
            return images.reshape(len(images), -1) @ weights

        return jax.jit(lambda images: fit(apply, start, key, images, training, *transform))(images)

    inverting = dataclasses.replace(plain, augment="auto_augment")
    assert inverting.on_pixels
    assert not plain.on_pixels
    np.testing.assert_allclose(trained(pixels, inverting, how), trained(1.0 - pixels, plain), atol=1e-5)
    with pytest.raises(OptionError, match="works on pixels"):
        trained(pixels, inverting)
