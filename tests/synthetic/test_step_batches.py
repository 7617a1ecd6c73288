"""Step batches: which images a step sees, what they start as, and what is stored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.synthetic import StepBatches, class_means, sample_per_class, step_batches
from dd_jax.synthetic.step_batches import inverse_softplus


def learnable_for(num_batches: int, num_epochs: int, batch: int) -> StepBatches:
    images = jnp.arange(num_batches * batch * 4.0).reshape(num_batches, batch, 2, 2, 1)
    return StepBatches(images, jnp.linspace(-3.0, 1.0, num_batches * num_epochs))


def test_step_t_uses_batch_t_mod_s():
    synthetic = step_batches(2, num_batches=3, num_epochs=2, images_per_class=2)
    learnable = learnable_for(3, 2, 4)
    assert synthetic.num_inner_steps == 6
    of_step = jax.jit(lambda t: synthetic.batch(learnable, jax.random.key(0), t))
    for t in range(6):
        batch = of_step(t)
        np.testing.assert_array_equal(batch.images, learnable.images[t % 3])
        np.testing.assert_array_equal(batch.labels, [0, 0, 1, 1])


def test_decode_is_the_whole_set():
    synthetic = step_batches(2, num_batches=3, num_epochs=2, images_per_class=2)
    learnable = learnable_for(3, 2, 4)
    decoded = synthetic.decode(learnable)
    np.testing.assert_array_equal(decoded.images, learnable.images)
    np.testing.assert_array_equal(decoded.labels, [[0, 0, 1, 1]] * 3)
    np.testing.assert_allclose(decoded.step_sizes, np.log1p(np.exp(learnable.raw_step_sizes)), rtol=1e-5)
    assert (decoded.num_batches, decoded.num_epochs) == (3, 2)
    assert synthetic.project(learnable) is learnable


@pytest.mark.parametrize("value", [1e-6, 1e-3, 0.02, 1.0, 30.0, 500.0])
def test_softplus_round_trip(value):
    np.testing.assert_allclose(np.logaddexp(0, inverse_softplus(np.array([value]))), [value], rtol=1e-9)
    np.testing.assert_allclose(jax.nn.softplus(jnp.float32(inverse_softplus(np.array([value])))), [value], rtol=1e-5)


def test_step_sizes_start_where_they_are_told(digits):
    synthetic = step_batches(10, num_batches=2, num_epochs=3, init_step_size=0.07)
    learnable = synthetic.init(jax.random.key(0), digits)
    np.testing.assert_allclose(synthetic.decode(learnable).step_sizes, np.full(6, 0.07), rtol=1e-5)


def test_step_sizes_decay_geometrically(digits):
    synthetic = step_batches(10, num_batches=2, num_epochs=2, init_step_size=0.8, init_step_decay=0.125)
    sizes = synthetic.decode(synthetic.init(jax.random.key(0), digits)).step_sizes
    np.testing.assert_allclose(sizes, [0.8, 0.4, 0.2, 0.1], rtol=1e-5)


def test_kmeans_images_are_the_centres_of_their_class_each_once(digits):
    synthetic = step_batches(10, num_batches=2, images_per_class=2, init_images="kmeans")
    images = synthetic.init(jax.random.key(0), digits).images
    labels = np.asarray(digits.train.labels)
    for c in range(10):
        mine = np.asarray(digits.train.images)[labels == c].reshape(-1, 64)
        centres = np.asarray(images)[:, 2 * c : 2 * c + 2].reshape(4, 64)
        nearest = ((mine[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
        # Lloyd's fixed point: a centre is the mean of the images that are nearest to it.
        np.testing.assert_allclose(centres, [mine[nearest == k].mean(0) for k in range(4)], atol=1e-4)


def test_noise_is_standard_normal_and_follows_the_key(digits):
    synthetic = step_batches(10, num_batches=10, images_per_class=2)
    images, again, other = (synthetic.init(jax.random.key(seed), digits).images for seed in (0, 0, 1))
    assert images.shape == (10, 20, 8, 8, 1)
    np.testing.assert_array_equal(images, again)
    assert not np.allclose(images, other)
    np.testing.assert_allclose([images.mean(), images.var()], [0, 1], atol=0.05)


def test_real_images_are_training_images_of_their_class_and_none_comes_twice(digits):
    synthetic = step_batches(10, num_batches=4, images_per_class=3, init_images="real")
    learnable = synthetic.init(jax.random.key(0), digits)
    labels = np.asarray(synthetic.decode(learnable).labels).ravel()
    train = {image.tobytes(): int(c) for image, c in zip(*map(np.asarray, digits.train), strict=True)}
    found = [image.tobytes() for image in np.asarray(learnable.images).reshape(-1, 8, 8, 1)]
    assert [train[image] for image in found] == labels.tolist()
    assert len(set(found)) == len(found) == 120
    other = synthetic.init(jax.random.key(1), digits).images
    assert not np.array_equal(other, learnable.images)


def test_no_index_twice_while_they_last():
    labels = jnp.array([0, 1, 0, 1, 1, 0, 1, 1])
    wanted = np.array([[0, 1], [0, 1], [1, 0]])
    indices = sample_per_class(jax.random.key(0), labels, wanted)
    np.testing.assert_array_equal(np.asarray(labels)[indices], wanted)
    assert len(set(indices.ravel())) == 6
    seven = sample_per_class(jax.random.key(0), labels, np.zeros(7, int))
    assert sorted(np.bincount(seven, minlength=6)[[0, 2, 5]]) == [2, 2, 3], "three images, seven places"


def test_mean_images_are_class_means_with_noise_of_half_the_deviation(digits):
    synthetic = step_batches(10, num_batches=20, images_per_class=2, init_images="mean")
    images = np.asarray(synthetic.init(jax.random.key(0), digits).images)
    x, y = map(np.asarray, digits.train)
    means = np.stack([x[y == c].mean(0) for c in range(10)])
    np.testing.assert_allclose(class_means(digits.train, 10), means, rtol=1e-4, atol=1e-5)
    noise = images - np.repeat(means, 2, axis=0)[None]
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 0.5], atol=0.02)


def test_storage_is_four_bytes_a_number():
    synthetic = step_batches(2, num_batches=3, num_epochs=2, images_per_class=2)
    assert dd.storage_bytes(synthetic.decode(learnable_for(3, 2, 4))) == 4 * (3 * 4 * 2 * 2 + 3 * 4 + 6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_batches": 0}, "num_batches must be at least 1, but is 0"),
        ({"num_epochs": -1}, "num_epochs must be at least 1, but is -1"),
        ({"images_per_class": 0}, "images_per_class must be at least 1"),
        ({"init_step_size": 0.0}, "init_step_size must be positive"),
        ({"init_step_size": float("nan")}, "init_step_size must be positive"),
        ({"init_step_size": float("inf")}, "init_step_size must be positive"),
        ({"init_images": "reel"}, "init_images 'reel'. Did you mean 'real'"),
    ],
)
def test_errors(options, words):
    with pytest.raises(OptionError, match=words):
        step_batches(3, **options)


def test_a_distilled_set_of_real_images_has_the_datasets_dtype(digits):
    for kind in ("noise", "real", "mean"):
        learnable = step_batches(10, init_images=kind).init(jax.random.key(0), digits)
        assert {leaf.dtype for leaf in jax.tree.leaves(learnable)} == {jnp.dtype("float32")}
