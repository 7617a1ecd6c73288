"""Augmentations: what they keep, what they change, that they are repeatable, and that they can be differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dd_jax.inner import augment, cut_mix, dsa
from dd_jax.types import Batch

module = __import__("dd_jax.inner.dsa", fromlist=["_shift"])
CHANGES = {name: getattr(module, name) for name in ("_colour", "_shift", "_cut_out", "_mirror", "_scaled", "_rotated")}
KEYS = jax.random.split(jax.random.key(3), 6)
changed_in_every_way = jax.jit(lambda keys, images: {n: jax.vmap(f)(keys, images) for n, f in CHANGES.items()})
changed_in_one = jax.jit(dsa, static_argnums=2)


@pytest.fixture(scope="module")
def images() -> jax.Array:
    return jax.random.normal(jax.random.key(0), (6, 16, 12, 3))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_the_shape_and_differs_from_image_to_image(images, name):
    same = jnp.broadcast_to(images[0], images.shape)
    found = changed_in_every_way(KEYS, same)[name]
    assert found.shape == images.shape
    assert len(np.unique(np.asarray(found).reshape(6, -1), axis=0)) > 1


def test_all_six_changes_are_met_and_without_mirrors_none_is(images):
    def kinds(flip):
        found = set()
        for seed in range(60):
            keys = jax.random.split(jax.random.key(seed), 6)
            changed, ways = changed_in_one(keys, images, flip), changed_in_every_way(keys, images)
            found.update(name for name, way in ways.items() if np.allclose(changed, way, atol=1e-5))
        return found

    assert kinds(True) == set(CHANGES)
    assert kinds(False) == set(CHANGES) - {"_mirror"}


def test_the_same_keys_change_other_images_alike(images):
    """Siamese: differentiable augmentation is linear or affine in the image, with the same coefficients."""
    once, twice, thrice = (changed_in_one(KEYS, times * images, True) for times in (1.0, 2.0, 3.0))
    np.testing.assert_allclose(twice - once, thrice - twice, atol=1e-4)


def test_geometry(images):
    image = np.asarray(images[0])
    ways = changed_in_every_way(KEYS, jnp.broadcast_to(images[0], images.shape))
    gone = (np.asarray(ways["_cut_out"][1]) == 0).all(-1)
    rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
    assert gone.sum() == len(rows) * len(columns) > 0
    assert len(rows) <= 8
    assert len(columns) <= 6
    shifted = np.asarray(ways["_shift"][2])
    places = [(r, c) for r in range(16) for c in range(12) if np.allclose(shifted[r, c], image[8, 6])]
    assert len(places) == 1
    assert abs(places[0][0] - 8) <= 2
    assert abs(places[0][1] - 6) <= 2
    resampled = jax.jit(module._resampled)
    np.testing.assert_allclose(resampled(images[0], jnp.eye(2)), image, atol=1e-5)
    turned = resampled(images[0], jnp.array([[-1.0, 0.0], [0.0, -1.0]]))
    np.testing.assert_allclose(turned, image[::-1, ::-1], atol=1e-5)


@pytest.mark.slow
def test_differentiable_in_the_images(x64):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 1)))
    for change in map(jax.jit, CHANGES.values()):
        for key, image in zip(KEYS, images, strict=False):
            check_grads(lambda x, change=change, key=key: change(key, x), (image,), order=1)


@pytest.mark.parametrize("kind", ["flip_rotate", "dsa", "dsa_no_flip"])
def test_by_name(images, kind):
    by_name = jax.jit(augment, static_argnums=2)
    changed = by_name(KEYS, images, kind)
    assert changed.shape == images.shape
    assert not np.allclose(changed, images)
    np.testing.assert_array_equal(changed, by_name(KEYS, images, kind))


def test_cut_mix_mixes_labels_by_area():
    colours = jnp.arange(4.0)[:, None, None, None] * jnp.ones((4, 10, 8, 1))
    mixing = jax.jit(cut_mix, static_argnums=2)
    mixed = mixing(jax.random.key(1), Batch(colours, jnp.arange(4)), 4)
    assert mixed.labels.shape == (4, 4)
    np.testing.assert_allclose(mixed.labels.sum(1), 1, rtol=1e-6)
    for image, label in zip(np.asarray(mixed.images), np.asarray(mixed.labels), strict=True):
        shares = [np.mean(image == colour) for colour in range(4)]
        np.testing.assert_allclose(label, shares, atol=1e-6)
    soft = mixing(jax.random.key(1), Batch(colours, jax.nn.one_hot(jnp.arange(4), 4)), 4)
    np.testing.assert_allclose(soft.labels, mixed.labels)
