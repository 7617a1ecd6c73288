"""Distribution matching: its loss, its identities, and what it converges to."""

import json

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from steps import all_steps

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.inner import class_batches, siamese
from dd_jax.methods import distribution_matching
from dd_jax.methods.distribution_matching import feature_distance, mean_features
from dd_jax.synthetic import class_means
from dd_jax.types import Protocol


@pytest.fixture(scope="module")
def linear(digits) -> dd.models.Model:
    """Its features are the pixels."""
    return dd.models.mlp(digits, hidden=())


def run(method, data, num_outer_steps, seed=1):
    state = method.init(jax.random.key(0), data, num_outer_steps)
    keys = jax.random.split(jax.random.key(seed), num_outer_steps)
    return all_steps(method.step, keys, state, method.arrays(data))


def test_one_image_of_each_class_becomes_the_class_mean(digits, linear):
    """With pixels for features the minimum is known; for random networks the next test comes near it."""
    method = distribution_matching(linear, augment="none", learning_rate=0.2, schedule="cosine", init_images="noise")
    state, info = run(method, digits, 200)
    means = class_means(digits.train, 10)
    deviation = digits.train.images.std() / np.sqrt(256 * 5)  # of a mean over some batches
    assert jnp.sqrt(jnp.square(state.learnable.images - means).mean()) < 3 * deviation
    assert info.loss[-20:].mean() < 0.01 * info.loss[0]


def test_random_networks_pull_real_images_to_the_class_mean(digits):
    wide = dd.models.mlp(digits, hidden=(256,))
    method = distribution_matching(wide, augment="none", learning_rate=0.02, num_inits=2, batch_size=64)
    start = method.init(jax.random.key(0), digits, 1).learnable.images
    state, info = run(method, digits, 300)
    means = class_means(digits.train, 10)
    before, after = (jnp.square(images - means).mean() for images in (start, state.learnable.images))
    assert after < 0.35 * before
    assert info.loss[-50:].mean() < 0.35 * info.loss[:5].mean()


def test_the_loss_is_a_sum_over_classes_of_squared_distances_of_means(digits, digits_mlp):
    params = digits_mlp.init(jax.random.key(0))
    arrays = distribution_matching(digits_mlp).arrays(digits).arrays.real
    real = class_batches(jax.random.key(1), arrays, 24)
    images = class_batches(jax.random.key(2), arrays, 3)
    keys, change = jax.random.split(jax.random.key(3), 10), jax.jit(siamese, static_argnums=2)
    expected = 0.0
    for c in range(10):
        changed = [change(keys[c], batch[c], "flip_rotate") for batch in (images, real)]
        difference = np.subtract(*(np.asarray(digits_mlp.features(params, batch)).mean(0) for batch in changed))
        expected += (difference**2).sum()
    found = jax.jit(feature_distance, static_argnums=(0, 5))(
        digits_mlp.features, params, images, real, keys, "flip_rotate"
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("change", ["none", "dsa"])
def test_nothing_is_to_be_learnt_from_the_real_batch_itself(digits, digits_mlp, change):
    """The same images, changed by the same key, have the same features."""
    params = digits_mlp.init(jax.random.key(0))
    real = class_batches(jax.random.key(1), distribution_matching(digits_mlp).arrays(digits).arrays.real, 8)
    keys = jax.random.split(jax.random.key(3), 10)

    @jax.jit
    @jax.value_and_grad
    def loss(images):
        return feature_distance(digits_mlp.features, params, images, real, keys, change)

    value, gradient = loss(real)
    np.testing.assert_allclose(value, 0, atol=1e-8)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    assert loss(real[::-1])[0] > 0.1


def test_chunks_do_not_change_mean_features(digits, digits_mlp):
    params = digits_mlp.init(jax.random.key(0))
    images = digits.train.images[:96]
    whole = digits_mlp.features(params, images).mean(0)
    np.testing.assert_allclose(mean_features(digits_mlp.features, params, images), whole, rtol=1e-4, atol=1e-6)


def test_vmap_and_map_over_inits_give_the_same_step(digits, digits_mlp):
    options = {"num_inits": 3, "batch_size": 16, "augment": "flip_rotate"}
    by_vmap, by_map = (
        run(distribution_matching(digits_mlp, over_inits=how, **options), digits, 2) for how in ("vmap", "map")
    )
    np.testing.assert_allclose(by_vmap[0].learnable.images, by_map[0].learnable.images, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_vmap[1].loss, by_map[1].loss, rtol=1e-4)


def test_a_stored_image_is_several(digits, digits_mlp):
    method = distribution_matching(digits_mlp, factor=2, batch_size=16, augment="none")
    (state, info), data = run(method, digits, 2), method.distilled
    assert state.learnable.stored.shape == (10, 8, 8, 1)
    assert data(state).images.shape == (1, 40, 8, 8, 1)
    assert np.isfinite(info.loss).all()


def test_the_set_names_its_protocol(digits, digits_mlp):
    def protocol(**options):
        method = distribution_matching(digits_mlp, **options)
        return method.distilled(method.init(jax.random.key(0), digits, 1)).protocol

    assert protocol() == Protocol("dsa", order="random")
    assert protocol(augment="dsa_no_flip").name == "dsa-digits"
    assert protocol(augment="none").name == "dc"
    assert protocol(protocol="idc").name == "idc"


def test_scale_learning_rate_and_hyperparameters(digits, digits_mlp):
    method = distribution_matching(digits_mlp, augment="none", batch_size=8)
    assert json.loads(json.dumps(method.hyperparameters)) == method.hyperparameters
    state, arrays = method.init(jax.random.key(0), digits, 5), method.arrays(digits)
    key = jax.random.key(1)
    moves = [
        method.step(key, s, arrays)[0].learnable.images - s.learnable.images
        for s in (state, method.scale_learning_rate(state, 0.5))
    ]
    np.testing.assert_allclose(moves[1], 0.5 * moves[0], rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_inits": 0}, "num_inits must be at least 1, but is 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, but is 0"),
        ({"images_per_class": 0}, "images_per_class must be at least 1"),
        ({"factor": 0}, "factor must be at least 1"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, but is 1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"augment": "dsb"}, "augment 'dsb'. Did you mean 'dsa'"),
        ({"init_images": "reel"}, "Did you mean 'real'"),
        ({"over_inits": "mapp"}, "Did you mean 'map'"),
        ({"num_init": 2}, "Did you mean 'num_inits'"),
    ],
)
def test_bad_options_say_what_is_known(digits_mlp, options, words, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match=words):
        distribution_matching(digits_mlp, **options)


def test_it_runs_and_is_judged_by_its_protocol(digits, digits_mlp, tmp_path, monkeypatch):
    quick = dd.Training(epochs=40, batch_size=16, learning_rate=0.1, optimiser="sgd", drop_last=False)
    monkeypatch.setitem(dd.PROTOCOLS, "dc", quick)
    method = distribution_matching(digits_mlp, augment="none", learning_rate=0.05, batch_size=32)
    options = {"out": tmp_path / "run", "num_eval_nets": 2, "eval_every": 20, "show_progress": False}
    whole = dd.distill(method, digits, num_outer_steps=40, **options)
    again = dd.distill(method, digits, num_outer_steps=40, **options)
    np.testing.assert_array_equal(whole.distilled.images, again.distilled.images)
    loaded = dd.load_distilled(tmp_path / "run")
    assert loaded.protocol == Protocol("dc", order="random")
    assert dd.evaluate(loaded, digits_mlp, digits, num_nets=3).mean > 0.7
