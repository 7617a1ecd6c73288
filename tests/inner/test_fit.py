"""Ordinary training: one step by hand, schedules, and that it learns."""

import dataclasses
import functools

import jax
import jax.flatten_util
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
ADAM = optax.adam(1.0, b1=0.5)
ADAM_UPDATE = jax.jit(ADAM.update)


@pytest.fixture(scope="module")
def real() -> Batch:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(50, SIDE, SIDE, 1)).astype(np.float32)
    return Batch(jnp.asarray(images), jnp.asarray(generator.integers(0, 3, 50), jnp.int32))


@pytest.fixture(scope="module")
def model() -> dd.models.Model:
    return dd.models.mlp(dd.models.Shapes((SIDE, SIDE, 1), 3), hidden=(5,))


@pytest.fixture(scope="module")
def start(model) -> dict:
    return jax.jit(model.init)(jax.random.key(1))


@pytest.fixture(scope="module")
def gradient(model):
    """The gradient of the cross-entropy, compiled."""
    return jax.jit(jax.grad(batch_loss(model.apply)))


def minibatches(key: jax.Array, epochs: int, size: int) -> list[np.ndarray]:
    """Which of 50 images each minibatch has."""
    orders = [
        np.asarray(jax.random.permutation(jax.random.split(jax.random.fold_in(key, e))[0], 50)) for e in range(epochs)
    ]
    return [order[first : first + size] for order in orders for first in range(0, 50, size)]


def chosen_from(real: Batch, rows: np.ndarray) -> Batch:
    return Batch(*(jnp.asarray(np.asarray(leaf)[rows]) for leaf in real))


def fitted(model, params, key, real, training):
    return jax.jit(lambda params, real: fit(model.apply, params, key, real, training))(params, real)


def assert_close(found, expected, rtol=1e-4, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, expected)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.1, 0.1, 0.1, 0.1]),
        ("step", [0.1, 0.1, 0.05, 0.05]),  # halved after one epoch of two steps
        ("cosine", [0.1 * 0.5 * (1 + np.cos(np.pi * i / 4)) for i in range(4)]),
    ],
)
def test_equals_optax_in_a_loop_over_the_same_minibatches(real, model, start, gradient, schedule, rates):
    training = Training(epochs=2, batch_size=20, learning_rate=0.1, b1=0.5, schedule=schedule, decay_epochs=1)
    key = jax.random.key(2)
    seen = [rows for rows in minibatches(key, 2, 20) if len(rows) == 20]
    expected, moments = start, ADAM.init(start)
    for rate, rows in zip(rates, seen, strict=True):
        updates, moments = ADAM_UPDATE(gradient(expected, chosen_from(real, rows)), moments)
        expected = jax.tree.map(lambda p, u, rate=rate: np.float32(p + rate * np.asarray(u)), expected, updates)
    assert_close(fitted(model, start, key, real, training), expected, rtol=2e-4, atol=2e-5)


def test_gradient_descent_is_optax_s_with_torch_s_order_of_decay_and_momentum(real, model, start, gradient):
    """v <- m v + (g + w p), p <- p - rate v; the rate falls at half; the last minibatch of each epoch is smaller."""
    training = Training(epochs=2, batch_size=20, learning_rate=0.1, schedule="drops", drops=(0.5,), drop_factor=0.1,
                        optimiser="sgd", momentum=0.9, weight_decay=0.03, drop_last=False)  # fmt: skip
    key = jax.random.key(2)
    expected, speed = jax.tree.map(np.asarray, start), jax.tree.map(np.zeros_like, start)
    for step, rows in enumerate(minibatches(key, 2, 20)):
        rate, found = 0.1 ** (1 + step // 3), gradient(expected, chosen_from(real, rows))
        speed = jax.tree.map(lambda v, g, p: np.float32(0.9 * v + np.asarray(g) + 0.03 * p), speed, found, expected)
        expected = jax.tree.map(lambda p, v, rate=rate: np.float32(p - rate * v), expected, speed)
    assert_close(fitted(model, start, key, real, training), expected, rtol=2e-4, atol=2e-5)


def test_flat_training_is_optax_s_sam_and_alone_takes_off_what_is_orthogonal_to_it(real, model, start, gradient):
    """One epoch of one batch: optax.contrib.sam for SAM, GSAM's decomposition in numpy."""
    training = Training(epochs=1, batch_size=50, learning_rate=0.1, schedule="constant", optimiser="sgd", momentum=0.0,
                        sam_rho=0.3)  # fmt: skip
    key = jax.random.key(3)
    batch = chosen_from(real, minibatches(key, 1, 50)[0])
    sam = optax.contrib.sam(optax.sgd(0.1), optax.chain(optax.contrib.normalize(), optax.sgd(0.3)), opaque_mode=True)
    here = gradient(start, batch)
    change, _ = sam.update(here, sam.init(start), start, grad_fn=lambda params, _: gradient(params, batch))
    assert_close(fitted(model, start, key, real, training), optax.apply_updates(start, change))

    worst = jax.tree.map(lambda change: -change / 0.1, change)
    flat = [jax.flatten_util.ravel_pytree(tree)[0] for tree in (start, here, worst)]
    orthogonal = flat[1] - flat[2] * (flat[1] @ flat[2]) / (flat[2] @ flat[2])
    assert abs(orthogonal @ flat[2]) < 1e-5 < np.linalg.norm(orthogonal)
    found = fitted(model, start, key, real, dataclasses.replace(training, gsam_alpha=0.4))
    expected = flat[0] - 0.1 * (flat[2] - 0.4 * orthogonal)
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(found)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("drops", [(0.5,), (2 / 3, 5 / 6), (0.0,), (1.0,)])
def test_drops_come_after_their_share_of_the_epochs(real, model, start, gradient, drops):
    """With a whole-batch epoch each, the size of every update tells the rate."""
    training = Training(epochs=6, batch_size=50, learning_rate=0.1, schedule="drops", drops=drops, drop_factor=0.5,
                        optimiser="sgd", momentum=0.0)  # fmt: skip
    init, epoch = trainer(model.apply, training)
    state, step = init(start), jax.jit(epoch)
    for done in range(6):
        before, state = state.params, step(jax.random.key(0), state, real)
        rate = 0.1 * 0.5 ** sum(done >= round(drop * 6) for drop in drops)
        expected = jax.tree.map(lambda p, g, rate=rate: p - rate * np.asarray(g), before, gradient(before, real))
        assert_close(state.params, expected)


def test_soft_labels_and_cutmix_train(real, model, start):
    soft = real._replace(labels=jax.nn.one_hot(real.labels, 3))
    training = Training(epochs=1, batch_size=16, drop_last=False)
    key = jax.random.key(5)
    hard, same = (fitted(model, start, key, images, training) for images in (real, soft))
    assert_close(hard, same)
    other = fitted(model, start, key, real, dataclasses.replace(training, cutmix=True))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(other))
    assert any(not np.allclose(a, b) for a, b in zip(jax.tree.leaves(hard), jax.tree.leaves(other), strict=True))


def test_epochs_one_by_one_are_the_whole(real, model, start):
    training = Training(epochs=3, batch_size=16)
    init, epoch = trainer(model.apply, training)
    state, key = init(start), jax.random.key(5)
    step = jax.jit(epoch)
    for _ in range(3):
        state = step(key, state, real)
    assert_close(state.params, fitted(model, start, key, real, training), rtol=1e-5)
    assert int(state.epoch) == 3


def test_each_image_once_an_epoch(real, model, start):
    """The gradient of a linear loss sums over the images of an epoch, whatever their order."""
    init, epoch = trainer(model.apply, Training(epochs=1, batch_size=50))
    step = jax.jit(epoch)
    one, other = (step(jax.random.key(seed), init(start), real) for seed in (0, 9))
    assert_close(one.params, other.params)


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
        {"sam_rho": -1.0},
        {"gsam_alpha": 0.1},
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
    right = np.argmax(jax.jit(model.apply)(params, digits.test.images), -1) == np.asarray(digits.test.labels)
    assert float(right.mean()) > 0.85


def test_steps_are_whole_passes(real):
    assert in_epochs(Training(steps=7, batch_size=20), 50).epochs == 4  # of two minibatches
    assert in_epochs(Training(steps=7, batch_size=20, drop_last=False), 50).epochs == 3
    assert in_epochs(Training(steps=7, batch_size=100), 50).epochs == 7
    assert in_epochs(Training(epochs=5), 50).epochs == 5
    assert in_epochs(Training(steps=7), 50).steps is None


def test_the_average_is_one_of_the_parameters_along_the_way(real, model, start):
    training = Training(epochs=3, batch_size=50, learning_rate=0.1, schedule="constant", average=0.6)
    init, epoch = trainer(model.apply, training)
    state, step = init(start), jax.jit(epoch)
    expected = jax.tree.map(np.asarray, start)
    for _ in range(3):
        state = step(jax.random.key(2), state, real)
        expected = jax.tree.map(lambda a, p: 0.6 * a + 0.4 * np.asarray(p), expected, state.params)
    assert_close(state.network, expected)
    assert_close(fitted(model, start, jax.random.key(2), real, training), expected)


def test_the_largest_curvature_is_that_of_the_empirical_ntk(real, model, start):
    @jax.jit
    def found_and_jacobian(params, images):
        return largest_curvature(model.apply, params, images), jax.jacrev(model.apply)(params, images)

    found, jacobian = found_and_jacobian(start, real.images)
    rows = np.concatenate([np.asarray(leaf).reshape(150, -1) for leaf in jax.tree.leaves(jacobian)], 1)
    expected = np.linalg.eigvalsh(rows @ rows.T).max() / 50
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_relative_rates_are_stable_up_to_one(real):
    """In a linear network, whose Hessian is that kernel throughout."""
    linear = dd.models.mlp(dd.models.Shapes((SIDE, SIDE, 1), 3), hidden=())
    params = jax.jit(linear.init)(jax.random.key(1))

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def error_after(rate, momentum):
        training = Training(batch_size=50, learning_rate=rate, schedule="constant", optimiser="sgd", steps=200,
                            momentum=momentum, loss="squared", relative=True)  # fmt: skip
        found = fit(linear.apply, params, jax.random.key(0), real, training)
        return squared_error(linear.apply(found, real.images), real.labels)

    start = float(jax.jit(lambda: squared_error(linear.apply(params, real.images), real.labels))())
    for momentum in (0.0, 0.5):
        assert float(error_after(0.95, momentum)) < start
        assert not float(error_after(1.05, momentum)) < 10 * start  # nor is what isn't a number
    with pytest.raises(OptionError, match="Relative learning rates"):
        trainer(linear.apply, Training(relative=True))


def test_the_squared_error_is_what_it_says(real, model, start, monkeypatch):
    training = Training(epochs=1, batch_size=50, learning_rate=0.1, schedule="constant", optimiser="sgd", momentum=0.0,
                        loss="squared")  # fmt: skip

    @jax.jit
    @jax.grad
    def slope(params):
        errors = model.apply(params, real.images) - (jax.nn.one_hot(real.labels, 3) - 1 / 3)
        return 0.5 * jnp.square(errors).sum(1).mean()

    expected = jax.tree.map(lambda p, g: p - 0.1 * np.asarray(g), start, slope(start))
    for drop_last in (True, False):
        how = dataclasses.replace(training, drop_last=drop_last)
        assert_close(fitted(model, start, jax.random.key(0), real, how), expected)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match="Did you mean 'squared'"):
        trainer(model.apply, dataclasses.replace(training, loss="square"))
