"""Ordinary training: one step by hand, schedules, and that it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.inner import Training, augment, batch_loss, fit, in_epochs, squared_error, trainer
from dd_jax.inner.stability import largest_curvature
from dd_jax.types import Batch

SIDE = 6


@pytest.fixture(scope="module")
def real() -> Batch:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(50, SIDE, SIDE, 1)).astype(np.float32)
    return Batch(jnp.asarray(images), jnp.asarray(generator.integers(0, 3, 50), jnp.int32))


@pytest.fixture(scope="module")
def model() -> dd.models.Model:
    return dd.models.mlp(dd.models.Shapes((SIDE, SIDE, 1), 3), hidden=(5,))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.1, 0.1, 0.1, 0.1]),
        ("step", [0.1, 0.1, 0.05, 0.05]),  # halved after one epoch of two steps
        ("cosine", [0.1 * 0.5 * (1 + np.cos(np.pi * i / 4)) for i in range(4)]),
    ],
)
def test_equals_optax_in_a_loop_over_the_same_minibatches(real, model, schedule, rates):
    training = Training(epochs=2, batch_size=20, learning_rate=0.1, b1=0.5, schedule=schedule, decay_epochs=1)
    seen = []
    params = model.init(jax.random.key(1))
    key = jax.random.key(2)
    for epoch in range(2):
        order = jax.random.permutation(jax.random.split(jax.random.fold_in(key, epoch))[0], 50)
        seen += [order[:20], order[20:40]]
    gradient = jax.jit(jax.grad(batch_loss(model.apply)))
    expected, adam = params, optax.adam(1.0, b1=0.5)
    moments = adam.init(params)
    for rate, chosen in zip(rates, seen, strict=True):
        updates, moments = adam.update(gradient(expected, Batch(*(leaf[chosen] for leaf in real))), moments)
        expected = jax.tree.map(lambda p, u, rate=rate: p + rate * u, expected, updates)
    found = jax.jit(lambda params, real: fit(model.apply, params, key, real, training))(params, real)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), found, expected)


def test_gradient_descent_is_optax_s_with_torch_s_order_of_decay_and_momentum(real, model):
    """v <- m v + (g + w p), p <- p - rate v; the rate falls at half; the last minibatch of each epoch is smaller."""
    training = Training(epochs=2, batch_size=20, learning_rate=0.1, schedule="drops", drops=(0.5,), drop_factor=0.1,
                        optimiser="sgd", momentum=0.9, weight_decay=0.03, drop_last=False)  # fmt: skip
    params, key = model.init(jax.random.key(1)), jax.random.key(2)
    gradient = jax.jit(jax.grad(batch_loss(model.apply)))
    expected, speed = params, jax.tree.map(jnp.zeros_like, params)
    for epoch in range(2):
        order = jax.random.permutation(jax.random.split(jax.random.fold_in(key, epoch))[0], 50)
        for chosen in (order[:20], order[20:40], order[40:]):
            found = gradient(expected, Batch(*(leaf[chosen] for leaf in real)))
            speed = jax.tree.map(lambda v, g, p: 0.9 * v + g + 0.03 * p, speed, found, expected)
            expected = jax.tree.map(lambda p, v, rate=0.1 ** (1 + epoch): p - rate * v, expected, speed)
    found = jax.jit(lambda params, real: fit(model.apply, params, key, real, training))(params, real)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), found, expected)


@pytest.mark.parametrize("drops", [(0.5,), (2 / 3, 5 / 6), (0.0,), (1.0,)])
def test_drops_come_after_their_share_of_the_epochs(real, model, drops):
    """With a whole-batch epoch each, the size of every update tells the rate."""
    training = Training(epochs=6, batch_size=50, learning_rate=0.1, schedule="drops", drops=drops, drop_factor=0.5,
                        optimiser="sgd", momentum=0.0)  # fmt: skip
    init, epoch = trainer(model.apply, training)
    gradient = jax.jit(jax.grad(batch_loss(model.apply)))
    state, step = init(model.init(jax.random.key(0))), jax.jit(epoch)
    for done in range(6):
        before, state = state.params, step(jax.random.key(0), state, real)
        rate = 0.1 * 0.5 ** sum(done >= round(drop * 6) for drop in drops)
        expected = jax.tree.map(lambda p, g, rate=rate: p - rate * g, before, gradient(before, real))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.params, expected)


def test_soft_labels_and_cutmix_train(real, model):
    soft = real._replace(labels=jax.nn.one_hot(real.labels, 3))
    training = Training(epochs=1, batch_size=16, drop_last=False)
    params, key = model.init(jax.random.key(0)), jax.random.key(5)
    hard, same = (jax.jit(lambda b: fit(model.apply, params, key, b, training))(b) for b in (real, soft))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), hard, same)
    mixed = dataclasses.replace(training, cutmix=True)
    other = jax.jit(lambda b: fit(model.apply, params, key, b, mixed))(real)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(other))
    assert any(not np.allclose(a, b) for a, b in zip(jax.tree.leaves(hard), jax.tree.leaves(other), strict=True))


def test_epochs_one_by_one_are_the_whole(real, model):
    training = Training(epochs=3, batch_size=16)
    init, epoch = trainer(model.apply, training)
    state, key = init(model.init(jax.random.key(0))), jax.random.key(5)
    step = jax.jit(epoch)
    for _ in range(3):
        state = step(key, state, real)
    whole = jax.jit(lambda real: fit(model.apply, model.init(jax.random.key(0)), key, real, training))(real)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.params, whole)
    assert int(state.epoch) == 3


def test_each_image_once_an_epoch(real, model):
    """The gradient of a linear loss sums over the images of an epoch, whatever their order."""
    init, epoch = trainer(model.apply, Training(epochs=1, batch_size=50))
    one = jax.jit(epoch)(jax.random.key(0), init(model.init(jax.random.key(0))), real)
    other = jax.jit(epoch)(jax.random.key(9), init(model.init(jax.random.key(0))), real)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one.params, other.params)


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"b1": 1.0},
        {"learning_rate": None},
        {"momentum": -0.1},
        {"weight_decay": -1.0},
        {"drop_factor": 0.0},
        {"drops": (1.5,)},
    ],
)
def test_bad_settings_are_refused(model, bad):
    with pytest.raises(OptionError, match=next(iter(bad))):
        trainer(model.apply, Training(**bad))


def test_unknown_names_are_refused(model):
    for name in ("schedule", "augment"):
        training = Training()
        object.__setattr__(training, name, "cosin")
        with pytest.raises(OptionError, match="Unknown"):
            trainer(model.apply, training)


def test_no_augmentation_is_the_identity(real):
    keys = jax.random.split(jax.random.key(0), 50)
    assert augment(keys, real.images, "none") is real.images
    with pytest.raises(OptionError, match="crop_flip"):
        augment(keys, real.images, "crop_flop")


@pytest.mark.parametrize(("side", "padding"), [(8, 1), (28, 4), (32, 4), (64, 4)])
def test_crop_flip_gives_windows_of_the_reflected_image(side, padding):
    image = jnp.arange(float(side * side)).reshape(1, side, side, 1)
    padded = np.pad(np.asarray(image[0, :, :, 0]), padding, mode="reflect")
    places = range(2 * padding + 1)
    windows = [padded[y : y + side, x : x + side] for y in places for x in places]
    expected = {change.tobytes() for window in windows for change in (window.copy(), window[:, ::-1].copy())}
    keys = jax.random.split(jax.random.key(3), 300)
    found = np.asarray(jax.jit(augment, static_argnums=2)(keys, jnp.repeat(image, 300, 0), "crop_flip"))[..., 0]
    seen = {one.tobytes() for one in found}
    assert seen <= expected
    assert len(seen) > min(100, len(expected) - 5), "each image is changed in its own way"


def test_resized_crops_keep_the_shape_and_the_range_of_a_ramp():
    ramp = jnp.broadcast_to(jnp.linspace(0.0, 1.0, 32)[None, None, :, None], (40, 32, 32, 3))
    keys = jax.random.split(jax.random.key(0), 40)
    found = np.asarray(jax.jit(augment, static_argnums=2)(keys, ramp, "resized_crop_flip"))
    assert found.shape == (40, 32, 32, 3)
    slopes = np.abs(np.diff(found[:, 16, 4:-4, 0], axis=1)).mean(1) * 31
    assert (slopes < 1.02).all(), "crops are enlarged, never shrunk"
    assert slopes.min() < 0.5
    assert (found.min(), found.max()) == (pytest.approx(0, abs=0.05), pytest.approx(1, abs=0.05))
    signs = np.sign(np.diff(found[:, 16, 10:20, 0], axis=1).mean(1))
    assert 5 < (signs > 0).sum() < 35, "about half are mirrored"


def test_it_learns(digits):
    model = dd.models.mlp(digits, hidden=(32,))
    training = Training(epochs=15, batch_size=32)
    params = jax.jit(lambda r: fit(model.apply, model.init(jax.random.key(0)), jax.random.key(1), r, training))(
        digits.train
    )
    right = model.apply(params, digits.test.images).argmax(-1) == digits.test.labels
    assert float(right.mean()) > 0.85


def test_steps_are_whole_passes(real):
    assert in_epochs(Training(steps=7, batch_size=20), 50).epochs == 4  # of two minibatches
    assert in_epochs(Training(steps=7, batch_size=20, drop_last=False), 50).epochs == 3
    assert in_epochs(Training(steps=7, batch_size=100), 50).epochs == 7
    assert in_epochs(Training(epochs=5), 50).epochs == 5
    assert in_epochs(Training(steps=7), 50).steps is None


def test_the_average_is_one_of_the_parameters_along_the_way(real, model):
    training = Training(epochs=3, batch_size=50, learning_rate=0.1, schedule="constant", average=0.6)
    init, epoch = trainer(model.apply, training)
    state = init(model.init(jax.random.key(1)))
    expected = state.params
    for _ in range(3):
        state = epoch(jax.random.key(2), state, real)
        expected = jax.tree.map(lambda a, p: 0.6 * a + 0.4 * p, expected, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.network, expected)
    found = fit(model.apply, model.init(jax.random.key(1)), jax.random.key(2), real, training)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


def test_the_largest_curvature_is_that_of_the_empirical_ntk(real, model):
    params = model.init(jax.random.key(1))
    jacobian = jax.jacrev(model.apply)(params, real.images)
    rows = np.concatenate([np.asarray(leaf).reshape(150, -1) for leaf in jax.tree.leaves(jacobian)], 1)
    expected = np.linalg.eigvalsh(rows @ rows.T).max() / 50
    np.testing.assert_allclose(largest_curvature(model.apply, params, real.images), expected, rtol=1e-3)


def test_relative_rates_are_stable_up_to_one(real):
    """In a linear network, whose Hessian is that kernel throughout."""
    linear = dd.models.mlp(dd.models.Shapes((SIDE, SIDE, 1), 3), hidden=())
    params = linear.init(jax.random.key(1))

    def error_after(rate, momentum):
        training = Training(batch_size=50, learning_rate=rate, schedule="constant", optimiser="sgd", steps=200,
                            momentum=momentum, loss="squared", relative=True)  # fmt: skip
        found = jax.jit(lambda: fit(linear.apply, params, jax.random.key(0), real, training))()
        return float(squared_error(linear.apply(found, real.images), real.labels))

    start = float(squared_error(linear.apply(params, real.images), real.labels))
    for momentum in (0.0, 0.5):
        assert error_after(0.95, momentum) < start
        assert not error_after(1.05, momentum) < 10 * start  # nor is what isn't a number
    with pytest.raises(OptionError, match="relative learning rates"):
        trainer(linear.apply, Training(relative=True))


def test_the_squared_error_is_what_it_says(real, model, monkeypatch):
    training = Training(epochs=1, batch_size=50, learning_rate=0.1, schedule="constant", optimiser="sgd", momentum=0.0,
                        loss="squared")  # fmt: skip
    params = model.init(jax.random.key(1))

    def loss(params):
        errors = model.apply(params, real.images) - (jax.nn.one_hot(real.labels, 3) - 1 / 3)
        return 0.5 * jnp.square(errors).sum(1).mean()

    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))
    for drop_last in (True, False):
        how = dataclasses.replace(training, drop_last=drop_last)
        found = fit(model.apply, params, jax.random.key(0), real, how)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match="Did you mean 'squared'"):
        trainer(model.apply, dataclasses.replace(training, loss="square"))
