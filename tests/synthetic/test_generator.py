"""The generator: its layers against JAX's own, what an image depends on, its sets on the disk, its gradients."""

import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import lax

import dd_jax as dd
from dd_jax.errors import DataError, OptionError
from dd_jax.models.convolution import convolve_transposed
from dd_jax.synthetic import GENERATOR, Generator, dealt, draw_images, generate, generator, stepped
from dd_jax.types import Protocol

FORM = Generator((8, 8, 1), 10, num_batches=3, batch_size=7, latent_size=4, hidden=6, filters=4)
KEY = jax.random.key(0)


def made(digits, form=FORM, **options):
    """(the parameterisation, what it starts with, the set of that)"""
    synthetic = generator(form, **options)
    learnable = synthetic.init(KEY, digits)
    whole = dataclasses.replace(synthetic.decode(learnable), transform=digits.transform, class_names=digits.class_names)
    return synthetic, learnable, whole


def test_a_transposed_convolution_is_that_of_jax():
    draw = np.random.default_rng(0)
    images, kernel = (jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in ((2, 3, 5, 4), (4, 4, 4, 3)))
    expected = lax.conv_transpose(images, kernel[::-1, ::-1], (2, 2), "SAME")
    found = convolve_transposed(images, kernel)
    assert found.shape == (2, 6, 10, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    by_hand = np.zeros((2, 6, 10, 3))
    for i, j, a, b in itertools.product(range(3), range(5), range(4), range(4)):
        p, q = 2 * i - 1 + a, 2 * j - 1 + b
        if 0 <= p < 6 and 0 <= q < 10:
            by_hand[:, p, q] += np.asarray(images[:, i, j] @ kernel[a, b])
    np.testing.assert_allclose(found, by_hand, atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (7, 13, 3), (64, 40, 3)])
def test_images_of_any_size_stay_in_the_range_of_the_real_ones(shape):
    draw = np.random.default_rng(0)
    real = draw.uniform(size=(40, *shape)).astype(np.float32)
    data = dd.dataset_from_arrays(real, np.arange(40) % 2)
    form = dataclasses.replace(FORM, image_shape=shape, num_classes=2, hidden=5)
    _, _, whole = made(data, form)
    assert whole.images.shape == (3, 7, *shape)
    lowest, highest = (f(np.asarray(data.train.images), (0, 1, 2)) for f in (np.min, np.max))
    assert (np.asarray(whole.images) >= lowest - 1e-5).all()
    assert (np.asarray(whole.images) <= highest + 1e-5).all()
    assert np.asarray(whole.images).std((0, 1)).min() > 0


def test_an_image_depends_on_its_own_latent_and_class_alone(digits):
    synthetic, learnable, whole = made(digits)
    np.testing.assert_array_equal(whole.labels.ravel(), np.arange(21) % 10)
    other = dict(learnable.arrays)
    other["latents"] = other["latents"].at[1, 2].add(1.0)
    moved = np.abs(synthetic.decode(learnable._replace(arrays=other)).images - whole.images).max((2, 3, 4))
    assert moved[1, 2] > 1e-3
    moved[1, 2] = 0
    np.testing.assert_array_equal(moved, 0)
    # One step sees the latents of that step, whatever the key.
    gradient = jax.grad(lambda it: synthetic.batch(it, jax.random.key(5), jnp.int32(2)).images.sum())(learnable)
    assert np.abs(gradient.arrays["latents"][2]).max() > 0
    np.testing.assert_array_equal(gradient.arrays["latents"][:2], 0)
    for name in ("middle", "reach"):
        np.testing.assert_array_equal(gradient.arrays[name], 0)
    one_class = generate(learnable.arrays, jnp.zeros((10, 4)), jnp.arange(10), (8, 8, 1))
    assert len(np.unique(np.asarray(one_class).reshape(10, -1), axis=0)) == 10


@pytest.mark.parametrize("latents", ["curriculum", "noise"])
def test_the_batches_of_steps_are_those_of_the_set(digits, latents):
    synthetic, learnable, whole = made(digits, dataclasses.replace(FORM, latents=latents))
    key = jax.random.key(3)
    form = whole.parameterisation
    drawn = form.draw(whole.learnt, key)
    for t in range(3):
        batch = synthetic.batch(learnable, key, jnp.int32(t))
        np.testing.assert_allclose(batch.images, drawn[t], atol=1e-5)
        np.testing.assert_array_equal(batch.labels, whole.labels[t])
    again = synthetic.batch(learnable, jax.random.key(4), jnp.int32(0)).images
    assert np.allclose(again, drawn[0], atol=1e-5) == (latents == "curriculum")
    np.testing.assert_array_equal(whole.images, dataclasses.replace(whole).images)
    if latents == "noise":
        one = form.draw_batch(whole.learnt, jax.random.fold_in(key, 2), jnp.int32(2))
        np.testing.assert_allclose(one, drawn[2], atol=1e-5)
        assert "latents" not in whole.learnt


def test_a_pool_is_dealt_out_to_the_steps_with_its_labels(digits):
    synthetic, learnable, whole = made(digits, dataclasses.replace(FORM, latents="shuffled"), learn_labels=True)
    pool = np.asarray(whole.images).reshape(21, -1)
    seen = []
    for t in range(3):
        batch = synthetic.batch(learnable, KEY, jnp.int32(t))
        mine = [int(np.abs(pool - np.asarray(image).ravel()).max(1).argmin()) for image in batch.images]
        np.testing.assert_allclose(batch.labels, whole.labels.reshape(21, -1)[jnp.asarray(mine)], atol=1e-6)
        seen += mine
    assert sorted(seen) == list(range(21))
    assert seen != list(range(21))
    np.testing.assert_allclose(whole.labels.max(-1), 0.9, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_gradients_of_weights_and_latents_are_those_of_finite_differences(digits):
    _, learnable, _ = made(digits)
    arrays = {name: jnp.asarray(array, jnp.float64) for name, array in learnable.arrays.items()}
    weights = jax.random.normal(KEY, (7, 8, 8, 1), jnp.float64)
    directions = {n: jax.random.normal(jax.random.fold_in(KEY, i), a.shape, jnp.float64)
                  for i, (n, a) in enumerate(arrays.items()) if n not in ("middle", "reach")}  # fmt: skip

    @jax.jit
    def along(t, only):
        moved = {n: a + t * only[n] * directions[n] if n in directions else a for n, a in arrays.items()}
        return (generate(moved, moved["latents"][1], jnp.arange(7), (8, 8, 1)) * weights).sum()

    slope = jax.jit(jax.grad(along))
    for name in directions:
        only = {n: jnp.float64(n == name) for n in directions}
        step = 1e-6
        expected = (along(step, only) - along(-step, only)) / (2 * step)
        np.testing.assert_allclose(slope(0.0, only), expected, rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(("latents", "kind"), [("shuffled", "generator"), ("noise", "generator_of_noise")])
def test_a_set_on_the_disk_is_the_set_and_gives_the_same_new_images(digits, tmp_path, latents, kind):
    form = dataclasses.replace(FORM, latents=latents)
    _, _, whole = made(digits, form)
    dd.save_distilled(tmp_path, whole, {})
    found = dd.load_distilled(tmp_path)
    assert found.parameterisation.kind.name == kind
    np.testing.assert_array_equal(found.images, whole.images)
    numbers = sum(int(np.prod(shape)) for shape in form.shapes.values())
    assert dd.storage_bytes(found) == 4 * (numbers + 21 + 3)
    classes = np.array([3, 3, 7])
    one, again, other = (draw_images(s, jax.random.key(k), classes) for s, k in ((found, 1), (whole, 1), (found, 2)))
    np.testing.assert_array_equal(one, again)
    assert one.shape == (3, 8, 8, 1)
    assert np.abs(one - other).max() > 1e-3
    assert np.abs(one[0] - one[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"dense_0": np.zeros((3, 6), np.float32)}, {}, r"dense_0 of a generator should be \(14, 6\), found \(3, 6\)"),
        ({"spare": np.zeros(2, np.float32)}, {}, "spare of a generator should be None"),
        ({}, {"filters": 0}, "filters should be a number from 1, found 0"),
        ({}, {"latents": "noise"}, "latents should be one of curriculum, shuffled"),
        ({}, {"num_batches": 2**20, "batch_size": 2**20}, "fewer than"),
        ({}, {"num_batches": 4}, "latents of a generator should be"),
        ({}, {"depth": 4}, "other settings"),
    ],
)
def test_what_is_no_generator_is_refused(digits, changes, settings, words):
    _, _, whole = made(digits)
    learnt = {name: np.asarray(array) for name, array in whole.learnt.items()} | changes
    found = GENERATOR.check(learnt, **{**dict(whole.parameterisation.settings), **settings})
    assert re.search(words, found), found
    assert not GENERATOR.check(
        {n: np.asarray(a) for n, a in whole.learnt.items()}, **dict(whole.parameterisation.settings)
    )


def test_bad_options_and_bad_classes_are_told(digits, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match="hidden must be at least 1"):
        generator(dataclasses.replace(FORM, hidden=0))
    with pytest.raises(OptionError, match="have no labels to learn"):
        generator(dataclasses.replace(FORM, latents="noise"), learn_labels=True)
    with pytest.raises(OptionError, match="Did you mean 'shuffled'"):
        generator(dataclasses.replace(FORM, latents="shufled"))
    _, _, whole = made(digits)
    with pytest.raises(DataError, match="classes from 0 to 9"):
        draw_images(whole, KEY, np.array([3, 10]))
    with pytest.raises(DataError, match="parameterisation of this set is 'images'"):
        draw_images(dd.synthetic.as_plain(whole), KEY, np.array([3]))


def test_steps_are_learnt_beside_any_set(digits):
    plain = dealt(10, 4, 6)
    synthetic = stepped(plain, "momentum", 0.05, 0.7)
    learnable = synthetic.init(KEY, digits)
    whole = synthetic.decode(learnable)
    np.testing.assert_allclose(whole.step_sizes, 0.05, rtol=1e-5)
    np.testing.assert_allclose(whole.momenta, 0.7, rtol=1e-5)
    assert whole.arrays.keys() == {"images", "labels", "step_sizes", "momenta"}
    assert stepped(plain, "adam").decode(stepped(plain, "adam").init(KEY, digits)).momenta is None
    still = dealt(10, 4, 6, learnt=False)
    gradient = jax.grad(lambda it: still.batch(it, KEY, jnp.int32(1)).images.sum())(learnable.learnable)
    np.testing.assert_array_equal(gradient.images, 0)
    real = np.asarray(digits.train.images).reshape(-1, 64)
    classes = np.asarray(digits.train.labels)
    for image, label in zip(np.asarray(whole.images).reshape(-1, 64), whole.labels.ravel(), strict=True):
        assert label in classes[np.abs(real - image).max(1) == 0]
    for options, words in (((0.0, 0.5), "init_step_size must be positive"), ((0.1, 1.0), "init_momentum must be")):
        with pytest.raises(OptionError, match=words):
            stepped(plain, "momentum", *options)


def test_steps_with_momentum_are_repeated_and_kept(digits, digits_mlp, tmp_path):
    """By hand, in parts of one step and in one; and after a way over the disk."""
    synthetic = stepped(dealt(10, 4, 6), "momentum", 0.05, 0.7)
    learnable = synthetic.init(KEY, digits)
    learnable = learnable._replace(raw_momenta=jnp.linspace(-1.0, 2.0, 4), raw_step_sizes=jnp.linspace(-3.0, -1.0, 4))
    whole = dataclasses.replace(
        synthetic.decode(learnable), transform=digits.transform, class_names=digits.class_names,
        protocol=Protocol(rule="momentum"),
    )  # fmt: skip
    params = digits_mlp.init(KEY)
    dd.save_distilled(tmp_path, whole, {})
    loaded = dd.load_distilled(tmp_path)
    assert loaded.protocol.rule == "momentum"
    found = dd.train_on(loaded, digits_mlp, params=params)

    @jax.jit
    def by_hand(params):
        velocity = jax.tree.map(jnp.zeros_like, params)
        for t in range(4):
            gradient = jax.grad(lambda p, t=t: dd.inner.cross_entropy(
                digits_mlp.apply(p, whole.images[t]), whole.labels[t]))(params)  # fmt: skip
            velocity = jax.tree.map(lambda v, g, t=t: whole.momenta[t] * v + g, velocity, gradient)
            params = jax.tree.map(lambda p, v, t=t: p - whole.step_sizes[t] * v, params, velocity)
        return params

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, by_hand(params))
    in_one, in_parts = (
        dd.evaluate(whole, digits_mlp, digits, num_nets=2, num_curve_nets=n, curve="steps") for n in (0, 2)
    )
    np.testing.assert_array_equal(in_one.accuracies, in_parts.accuracies)
    without = dataclasses.replace(whole, momenta=None)
    with pytest.raises(DataError, match="momenta where the rule is 'momentum'"):
        dd.save_distilled(tmp_path / "other", without, {})
    with pytest.raises(DataError, match="from 0 to below 1"):
        dd.save_distilled(tmp_path / "other", dataclasses.replace(whole, momenta=jnp.ones(4)), {})
