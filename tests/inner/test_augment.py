"""Augmentations: what they keep, what they change, that they are repeatable, and that they can be differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dd_jax.inner import augment, cut_mix, dsa
from dd_jax.inner import dsa as dsa_function
from dd_jax.types import Batch

module = __import__("dd_jax.inner.dsa", fromlist=["_shift"])
CHANGES = {name: getattr(module, name) for name in ("_colour", "_shift", "_cut_out", "_mirror", "_scaled", "_rotated")}
KEYS = jax.random.split(jax.random.key(3), 6)


@pytest.fixture(scope="module")
def images() -> jax.Array:
    return jax.random.normal(jax.random.key(0), (6, 16, 12, 3))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_the_shape_and_differs_from_image_to_image(images, name):
    same = jnp.broadcast_to(images[0], images.shape)
    found = jax.vmap(CHANGES[name])(KEYS, same)
    assert found.shape == images.shape
    assert len(np.unique(np.asarray(found).reshape(6, -1), axis=0)) > 1


def test_all_six_changes_are_met_and_without_mirrors_none_is(images):
    def kinds(flip):
        found = set()
        for seed in range(60):
            keys = jax.random.split(jax.random.key(seed), 6)
            changed = draw(keys, images, flip)
            matching = [n for n, f in CHANGES.items() if np.allclose(changed, jax.vmap(f)(keys, images), atol=1e-5)]
            found.update(matching)
        return found

    draw = jax.jit(dsa_function, static_argnums=2)
    assert kinds(True) == set(CHANGES)
    assert kinds(False) == set(CHANGES) - {"_mirror"}


def test_the_same_keys_change_other_images_alike(images):
    """Siamese: differentiable augmentation is linear or affine in the image, with the same coefficients."""
    keys = KEYS
    double = dsa(keys, 2.0 * images) - dsa(keys, images)
    np.testing.assert_allclose(double, dsa(keys, 3.0 * images) - dsa(keys, 2.0 * images), atol=1e-4)


def test_geometry(images):
    image = images[0]
    cut = CHANGES["_cut_out"](KEYS[1], image)
    gone = np.asarray((cut == 0).all(-1))
    rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
    assert gone.sum() == len(rows) * len(columns) > 0
    assert len(rows) <= 8
    assert len(columns) <= 6
    shifted = np.asarray(CHANGES["_shift"](KEYS[2], image))
    places = [(r, c) for r in range(16) for c in range(12) if np.allclose(shifted[r, c], image[8, 6])]
    assert len(places) == 1
    assert abs(places[0][0] - 8) <= 2
    assert abs(places[0][1] - 6) <= 2
    np.testing.assert_allclose(module._resampled(image, jnp.eye(2)), image, atol=1e-5)
    turned = module._resampled(image, jnp.array([[-1.0, 0.0], [0.0, -1.0]]))
    np.testing.assert_allclose(turned, image[::-1, ::-1], atol=1e-5)


def test_differentiable_in_the_images(x64):
    images = jax.random.normal(jax.random.key(0), (2, 6, 6, 1), jnp.float64)
    for change in CHANGES.values():
        check_grads(lambda x, change=change: jax.vmap(change)(KEYS[:2], x), (images,), order=1)


@pytest.mark.parametrize("kind", ["flip_rotate", "dsa", "dsa_no_flip"])
def test_by_name(images, kind):
    changed = augment(KEYS, images, kind)
    assert changed.shape == images.shape
    assert not np.allclose(changed, images)
    np.testing.assert_array_equal(changed, augment(KEYS, images, kind))


def test_cut_mix_mixes_labels_by_area():
    colours = jnp.arange(4.0)[:, None, None, None] * jnp.ones((4, 10, 8, 1))
    mixed = cut_mix(jax.random.key(1), Batch(colours, jnp.arange(4)), 4)
    assert mixed.labels.shape == (4, 4)
    np.testing.assert_allclose(mixed.labels.sum(1), 1, rtol=1e-6)
    for image, label in zip(np.asarray(mixed.images), np.asarray(mixed.labels), strict=True):
        shares = [np.mean(image == colour) for colour in range(4)]
        np.testing.assert_allclose(label, shares, atol=1e-6)
    soft = cut_mix(jax.random.key(1), Batch(colours, jax.nn.one_hot(jnp.arange(4), 4)), 4)
    np.testing.assert_allclose(soft.labels, mixed.labels)
