"""Batches of every class: the right images, the right number, each as likely as the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax.errors import DataError
from dd_jax.inner import by_class, class_batches, each_class, siamese
from dd_jax.types import Batch


def split(labels) -> Batch:
    """Images that say which one they are."""
    labels = jnp.asarray(labels, jnp.int32)
    return Batch(jnp.arange(len(labels), dtype=jnp.float32).reshape(-1, 1, 1, 1), labels)


def test_every_image_is_of_its_class_and_all_are_drawn_equally_often():
    labels = np.array([2, 0, 1, 2, 2, 0, 1, 2, 2])
    real = by_class(split(labels), 3)
    drawn = np.asarray(jax.jit(class_batches, static_argnums=2)(jax.random.key(0), real, 3000))
    assert drawn.shape == (3, 3000, 1, 1, 1)
    for c in range(3):
        found, times = np.unique(drawn[c].astype(int), return_counts=True)
        np.testing.assert_array_equal(found, np.flatnonzero(labels == c))
        np.testing.assert_allclose(times / 3000, 1 / len(found), atol=0.03)


def test_classes_of_different_sizes_give_batches_of_one(digits):
    batches = jax.jit(class_batches, static_argnums=2)(jax.random.key(1), by_class(digits.train, 10), 7)
    of_image = {image.tobytes(): int(c) for image, c in zip(*map(np.asarray, digits.train), strict=True)}
    found = [[of_image[image.tobytes()] for image in mine] for mine in np.asarray(batches)]
    np.testing.assert_array_equal(found, np.repeat(np.arange(10)[:, None], 7, 1))


def test_some_classes_are_drawn_as_among_all(digits):
    real, key = by_class(digits.train, 10), jax.random.key(1)
    batches = jax.jit(class_batches, static_argnums=2)
    some = batches(key, real, 5, jnp.array([7, 2]))
    np.testing.assert_array_equal(some, np.asarray(batches(key, real, 5))[[7, 2]])


def test_a_class_without_images_is_named():
    with pytest.raises(DataError, match="class 1 of 3 has none"):
        by_class(split([0, 2, 2]), 3)


def test_each_class_is_a_loop_over_classes():
    items = jnp.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(each_class(lambda x: x.sum(), items), items.sum(1))


@pytest.mark.parametrize("kind", ["dsa", "dsa_no_flip", "crop_flip", "flip_rotate"])
def test_siamese_changes_all_images_alike_whatever_the_set_they_are_in(kind):
    image = jax.random.normal(jax.random.key(0), (12, 12, 3))
    few, many = (jnp.broadcast_to(image, (n, *image.shape)) for n in (2, 5))
    changed = jax.jit(siamese, static_argnums=2)
    seen = []
    for seed in range(6):
        a, b = (np.asarray(changed(jax.random.key(seed), images, kind)) for images in (few, many))
        np.testing.assert_allclose(b, np.broadcast_to(a[0], b.shape), atol=1e-6)
        seen.append(a[0])
    assert len(np.unique(np.stack(seen), axis=0)) > 2, "another key changes otherwise"


def test_siamese_without_a_change():
    images = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    np.testing.assert_array_equal(siamese(jax.random.key(1), images, "none"), images)
