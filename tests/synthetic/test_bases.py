"""Bases: mixtures by hand, plain pixels as a special case, budgets, some classes only."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import DataError, OptionError
from dd_jax.synthetic import (
    Bases,
    GrownBases,
    bases,
    bases_within,
    coefficient_penalty,
    labelled_pixels,
    pixels,
    soft_labels,
    some_of,
)
from dd_jax.synthetic.bases import check_bases, decode_bases

SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def tiny_data():
    draw = np.random.default_rng(0)
    return dd.dataset_from_arrays(draw.uniform(size=(60, *SHAPE)), np.arange(60) % 3)


@pytest.fixture(scope="module")
def learnable():
    draw = np.random.default_rng(0)
    arrays = draw.normal(size=(3, 2, 2, 1)), draw.normal(size=(6, 3))
    return Bases(*(jnp.asarray(array, jnp.float32) for array in arrays))


@pytest.fixture(scope="module")
def learnt(learnable):
    return bases(3, SHAPE, made_per_class=2, num_bases=3).decode(learnable)


def test_images_are_mixtures_enlarged(learnable, learnt):
    """In either order, as both are linear."""
    large = jax.image.resize(learnable.bases, (3, *SHAPE), "bilinear")
    expected = np.einsum("nj,jhwc->nhwc", learnable.coefficients, large)
    np.testing.assert_allclose(learnt.images[0], expected, atol=1e-6)
    np.testing.assert_array_equal(learnt.labels[0], [0, 0, 1, 1, 2, 2])
    batch = bases(3, SHAPE, made_per_class=2, num_bases=3).batch(learnable, jax.random.key(0), jnp.int32(5))
    np.testing.assert_array_equal(batch.images, learnt.images[0])
    np.testing.assert_array_equal(batch.labels, learnt.labels[0])


def test_one_hot_coefficients_at_full_resolution_are_plain_pixels(tiny_data):
    plain = pixels(3, 2, "real")
    images = plain.init(jax.random.key(0), tiny_data).images
    synthetic = bases(3, SHAPE, made_per_class=2, downscale=1, num_bases=6)
    found = synthetic.decode(Bases(images, jnp.eye(6)))
    np.testing.assert_array_equal(found.images[0], images)
    np.testing.assert_array_equal(found.labels, plain.decode(plain.init(jax.random.key(0), tiny_data)).labels)


@pytest.mark.parametrize(
    ("classes", "shape", "per_class", "made", "downscale", "count"),
    [
        (10, (28, 28, 1), 1, 4, 2, 33),  # 7,840 / (196 + 40)
        (10, (32, 32, 3), 1, 11, 2, 34),
        (100, (32, 32, 3), 10, 50, 2, 532),
        (10, (8, 8, 1), 1, 3, 3, 16),  # bases of 3 x 3: 640 / (9 + 30), rounded down
    ],
)
def test_a_budget_in_images_of_each_class_picks_the_most_bases_it_has_room_for(
    classes, shape, per_class, made, downscale, count, tiny_data
):
    assert bases_within(classes, shape, per_class, made, downscale) == count
    synthetic = bases(classes, shape, per_class, made, downscale, init_images="noise")
    learnt = jax.eval_shape(lambda key: synthetic.init(key, tiny_data), jax.random.key(0))
    floats = sum(leaf.size for leaf in jax.tree.leaves(learnt))
    budget = per_class * classes * np.prod(shape)
    assert floats <= budget < floats / count * (count + 1)


def test_storage_counts_bases_and_coefficients_and_not_the_images_made_of_them(learnt):
    assert dd.storage_bytes(learnt) == 4 * (3 * 4 + 6 * 3 + 6 + 1)  # labels and a step size are stored too


def test_some_classes_and_images_are_made_without_the_others(learnt):
    part = some_of(learnt, classes=[2, 0], made_per_class=1)
    assert part.learnt["bases"] is learnt.learnt["bases"]
    assert part.learnt["coefficients"].shape == (2, 3)
    np.testing.assert_array_equal(part.labels, [[2, 0]])
    np.testing.assert_allclose(part.images[0], learnt.images[0, jnp.asarray([4, 0])], atol=1e-6)
    np.testing.assert_array_equal(some_of(learnt).images, learnt.images)
    np.testing.assert_array_equal(some_of(learnt, made_per_class=1).labels, [[0, 1, 2]])


def test_what_cannot_be_asked_for_is_said(learnt, tiny_data):
    with pytest.raises(OptionError, match="has 0 images of class 3"):
        some_of(learnt, classes=[3])
    with pytest.raises(OptionError, match="has 2 images of class 0, but 5 were asked for"):
        some_of(learnt, made_per_class=5)
    with pytest.raises(OptionError, match="Ask for at least one"):
        some_of(learnt, classes=[])
    plain = pixels(3, 1, "real")
    with pytest.raises(DataError, match="should be made of bases, but its parameterisation is 'images'"):
        some_of(plain.decode(plain.init(jax.random.key(0), tiny_data)))
    soft = soft_labels(bases(3, SHAPE, made_per_class=2, downscale=1), 3)
    with pytest.raises(DataError, match="learnt labels have no single class"):
        some_of(soft.decode(soft.init(jax.random.key(0), tiny_data)))
    with pytest.raises(OptionError, match=r"48 numbers \(1 images of each class\), but a single one takes 154"):
        bases_within(3, SHAPE, 1, 50)
    for options in ({"downscale": 0}, {"made_per_class": 0}, {"num_bases": 0}, {"init_images": "nosie"}):
        with pytest.raises(OptionError):
            bases(3, SHAPE, **options)


@pytest.mark.parametrize(("count", "downscale"), [(9, 1), (6, 1), (4, 2)])
def test_enough_bases_start_as_the_images_themselves(tiny_data, count, downscale):
    """More than there are images, as many, and as many as small images have pixels."""
    synthetic = bases(3, SHAPE, made_per_class=2, downscale=downscale, num_bases=count, init_images="real")
    learnable = synthetic.init(jax.random.key(0), tiny_data)
    made = decode_bases(learnable._asdict(), height=4 // downscale, width=4 // downscale)[0]
    shape = len(tiny_data.train.labels), *made.shape[1:]
    known = np.asarray(jax.image.resize(tiny_data.train.images, shape, "bilinear"))
    for image, label in zip(np.asarray(made), [0, 0, 1, 1, 2, 2], strict=True):
        distance = np.abs(known - image[None]).max((1, 2, 3))
        assert distance.min() < 1e-4
        assert tiny_data.train.labels[np.argmin(distance)] == label
    sizes = np.abs(learnable.coefficients).mean(0)
    assert sizes.min() > 0.05 * sizes.max(), "every basis is in use"


def test_bases_start_as_the_same_ones_for_the_same_key(tiny_data):
    for kind in ("noise", "kmeans"):
        init = bases(3, SHAPE, made_per_class=2, num_bases=3, init_images=kind).init
        first, again, other = (init(jax.random.key(seed), tiny_data) for seed in (0, 0, 1))
        jax.tree.map(np.testing.assert_array_equal, first, again)
        assert not np.array_equal(first.bases, other.bases)


def test_the_penalty_is_on_the_coefficients_alone(learnable, tiny_data):
    found = coefficient_penalty({"images": learnable, "other": jnp.ones(3)}, 0.5, 0.25)
    a = np.asarray(learnable.coefficients)
    np.testing.assert_allclose(found, 0.5 * np.abs(a).sum() + 0.25 * np.square(a).sum(), rtol=1e-6)
    assert coefficient_penalty(labelled_pixels(3).init(jax.random.key(0), tiny_data), 1.0, 1.0) == 0


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"bases": np.ones((3, 2, 2))}, {}, "there should be 'bases'"),
        ({"images": np.ones(1)}, {}, "there should be 'bases'"),
        ({"coefficients": np.ones((6, 4))}, {}, r"coefficients should be \(N, 3\)"),
        ({"coefficients": np.ones((0, 3))}, {}, "coefficients should be"),
        ({}, {"height": 1}, "height should be 1 to 16 times 2"),
        ({}, {"width": "4"}, "width should be"),
        ({}, {"width": 33}, "width should be"),
    ],
)
def test_arrays_from_a_disk_are_looked_at(learnt, changes, settings, message):
    arrays = {name: np.asarray(array) for name, array in learnt.learnt.items()}
    assert check_bases(arrays, height=4, width=4) == ""
    found = check_bases({**arrays, **changes}, **{"height": 4, "width": 4, **settings})
    assert re.search(message, found)


def test_bases_of_an_earlier_set_are_mixed_in_and_stay(tiny_data, learnable):
    """What the earlier bases can make of the first images they make; own bases add the rest."""
    shared = learnable.bases
    synthetic = bases(3, SHAPE, made_per_class=2, num_bases=6, shared=shared)
    grown = synthetic.init(jax.random.key(0), tiny_data)
    assert isinstance(grown, GrownBases)
    np.testing.assert_array_equal(grown.shared, shared)
    found = synthetic.decode(grown)
    assert found.learnt["bases"].shape == (9, 2, 2, 1)
    np.testing.assert_array_equal(found.learnt["bases"][:3], shared)
    # Three bases and six more span all images of two by two pixels, as bases alone do.
    alone = bases(3, SHAPE, made_per_class=2, num_bases=6)
    first = alone.decode(alone.init(jax.random.key(0), tiny_data)).images
    np.testing.assert_allclose(found.images, first, atol=1e-4)
    half = found.learnt["coefficients"].at[:, 3:].set(0)
    mixed = decode_bases({**found.learnt, "coefficients": half}, height=4, width=4)
    assert float(jnp.square(mixed - first).sum()) < 0.9 * float(jnp.square(first).sum())

    def of(grown):
        images = synthetic.batch(grown, jax.random.key(1), jnp.int32(0)).images
        return jnp.square(images).sum() + coefficient_penalty(grown, 0.0, 1.0)

    gradient = jax.jit(jax.grad(of))(grown)
    assert not np.asarray(gradient.shared).any()
    assert all(np.asarray(leaf).any() for leaf in gradient.own)


def test_coefficients_of_shared_bases_count_in_the_budget():
    assert bases_within(10, (28, 28, 1), 1, 4, 2, num_shared=33) == (7840 - 33 * 40) // 236
    with pytest.raises(OptionError, match="less the coefficients of shared bases"):
        bases_within(10, (28, 28, 1), 1, 4, 2, num_shared=500)
    with pytest.raises(
        OptionError, match=re.escape("Shared bases should have the shape of these, (2, 2, 1), but have (4, 4, 1)")
    ):
        bases(3, SHAPE, shared=jnp.zeros((1, 4, 4, 1)))
