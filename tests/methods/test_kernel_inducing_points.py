"""Kernel inducing points: their gradient, what a step does, how they are judged, and what they reach on MNIST."""

import json

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from steps import one_step

import dd_jax as dd
from dd_jax.errors import DataError, OptionError
from dd_jax.inner import mean_over
from dd_jax.methods import kernel_inducing_points, solve_labels
from dd_jax.types import Protocol

SMALL = {"batch_size": 200, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def wide(digits) -> dd.models.Model:
    return dd.models.infinite_mlp(digits)


def steps(method, data, count, seed=1):
    state, arrays = method.init(jax.random.key(0), data, count), method.arrays(data)
    infos = []
    for i in range(count):
        state, info = one_step(method.step, jax.random.fold_in(jax.random.key(seed), i), state, arrays)
        infos.append(info)
    return state, infos


@pytest.mark.parametrize("learn", ["images", "labels", "both"])
def test_steps_lower_the_loss_and_move_only_what_is_learnt(digits, wide, learn):
    method = kernel_inducing_points(wide, learn=learn, **SMALL)
    before = method.distilled(method.init(jax.random.key(0), digits, 40))
    state, infos = steps(method, digits, 40)
    losses = [float(info.loss) for info in infos]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    after = method.distilled(state)
    assert (learn == "labels") == np.array_equal(before.images, after.images)
    assert after.labels.ndim == (2 if learn == "images" else 3)
    assert (learn == "images") == np.array_equal(before.labels, after.labels)


@pytest.mark.usefixtures("x64")
def test_the_hypergradient_is_that_of_finite_differences(digits, wide):
    method = kernel_inducing_points(wide, dtype="float64", batch_size=60)
    state, arrays = method.init(jax.random.key(0), digits, 1), method.arrays(digits)
    learnable = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), state.learnable)
    direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape, jnp.float64), learnable)

    @jax.jit
    def info(t):
        moved = jax.tree.map(lambda a, b: a + t * b, learnable, direction)
        return method.step(jax.random.key(2), state._replace(learnable=moved), arrays)[1]

    slope = jax.jit(jax.grad(lambda t: info(t).loss))(0.0)
    np.testing.assert_allclose(slope, (info(1e-5).loss - info(-1e-5).loss) / 2e-5, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda x: method.step(jax.random.key(2), state._replace(learnable=x), arrays)[1].loss))
    squares = jax.tree.map(lambda leaf: jnp.square(leaf).sum(), gradient(learnable))
    np.testing.assert_allclose(info(0.0).hypergradient_norm ** 2, sum(jax.tree.leaves(squares)), rtol=1e-8)


def test_a_batch_in_parts_is_the_whole_batch(digits, wide):
    """What several devices do; `mean_over` hands each of them a share of every class."""
    method = kernel_inducing_points(wide, batch_size=40)
    state, arrays = method.init(jax.random.key(0), digits, 1), method.arrays(digits)
    seen = []

    def spy(one, keys, num_real, at_once):
        seen.extend([jax.jit(one, static_argnums=2), keys[0], num_real])
        return mean_over(one, keys, num_real, at_once)

    module = __import__("dd_jax.methods.kernel_inducing_points", fromlist=["mean_over"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "mean_over", spy)
        method.step(jax.random.key(3), state, arrays)
    one, key, num_real = seen
    parts = jax.tree.map(lambda *leaves: sum(leaves) / 2, *(one(key, part, 2) for part in range(2)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), one(key, 0, 1), parts)
    assert num_real == 4


def test_solved_labels_minimise_the_error_on_all_real_images(digits, wide):
    images = digits.train.images[:20]
    solved = solve_labels(wide, images, digits.train)
    method = kernel_inducing_points(wide, images_per_class=2, learn="labels", init_labels="solve")
    state = method.init(jax.random.key(0), digits, 1)
    expected = solve_labels(wide, state.learnable.images, digits.train)
    np.testing.assert_array_equal(state.learnable.labels, expected)

    def error(labels):
        set_ = dd.distilled_from_arrays(images, labels, protocol=Protocol("kip"))
        logits = wide.apply(dd.train_on(set_, wide), digits.train.images)
        return float(jnp.square(logits - (jax.nn.one_hot(digits.train.labels, 10) - 0.1)).mean())

    best = error(solved)
    assert best < error(jax.nn.one_hot(digits.train.labels[:20], 10))
    for seed in range(3):
        assert best < error(solved + 0.05 * jax.random.normal(jax.random.key(seed), solved.shape))


def test_the_order_of_what_is_learnt_shows_in_accuracy(digits, wide):
    """More that is learnt is never worse, and anything is better than random images."""
    found = {}
    for learn in ("both", "images"):
        state, _ = steps(kernel_inducing_points(wide, learn=learn, **SMALL), digits, 150)
        found[learn] = dd.evaluate(kernel_inducing_points(wide, learn=learn).distilled(state), wide, digits).mean
    solved = kernel_inducing_points(wide, learn="labels", init_labels="solve")
    first = solved.distilled(solved.init(jax.random.key(0), digits, 1))
    found["solve"] = dd.evaluate(first, wide, digits).mean
    random = dd.baselines(first, wide, digits, names=["random real"])["random real"].evaluation
    assert random.n == 10
    assert found["both"] + 0.02 > found["images"] > found["solve"] > random.mean


def test_a_run_resumes_to_the_same_bits_and_its_set_keeps_soft_labels(digits, wide, tmp_path):
    method = kernel_inducing_points(wide, **SMALL)
    options = {"eval_every": 10, "show_progress": False}
    whole = dd.distill(method, digits, num_outer_steps=20, **options)

    with pytest.MonkeyPatch.context() as patch:
        module = __import__("dd_jax.runs.loop", fromlist=["stop_requests"])
        patch.setattr(module, "stop_requests", _stop_after(2))
        with pytest.raises(KeyboardInterrupt):
            dd.distill(method, digits, num_outer_steps=20, out=tmp_path / "run", **options)
    resumed = dd.distill(method, digits, num_outer_steps=20, out=tmp_path / "run", **options)
    np.testing.assert_array_equal(whole.distilled.images, resumed.distilled.images)
    np.testing.assert_array_equal(whole.distilled.labels, resumed.distilled.labels)

    loaded = dd.load_distilled(tmp_path / "run")
    assert loaded.labels.shape == (1, 10, 10)
    assert loaded.protocol == Protocol("kip", order="random")
    np.testing.assert_array_equal(loaded.labels, whole.distilled.labels)
    found = dd.evaluate(loaded, wide, digits)
    assert found.n == 1
    assert found.mean == dd.evaluate(whole.distilled, wide, digits, num_nets=7, seed=5).mean


def _stop_after(count):
    """Stand-in for Ctrl-C: asks for an end once it has been asked so often."""
    import contextlib

    asked = iter(range(10**6))

    @contextlib.contextmanager
    def stop_requests():
        yield lambda: next(asked) >= count

    return stop_requests


def test_the_network_is_what_train_on_gives(digits, wide):
    method = kernel_inducing_points(wide, **SMALL)
    distilled = method.distilled(method.init(jax.random.key(0), digits, 1))
    params = dd.train_on(distilled, wide)
    right = (wide.apply(params, digits.test.images).argmax(-1) == digits.test.labels).mean()
    found = dd.evaluate(distilled, wide, digits)
    np.testing.assert_allclose(found.mean, right, atol=2 / len(digits.test.labels))
    np.testing.assert_allclose(wide.apply(params, distilled.images[0]) + 0.1, distilled.labels[0], atol=1e-3)


def test_baselines_are_under_the_same_kernel(digits, wide):
    method = kernel_inducing_points(wide, images_per_class=2)
    distilled = method.distilled(method.init(jax.random.key(0), digits, 1))
    found = dd.baselines(distilled, wide, digits, names=["random real", "class mean", "k-means"])
    assert {name: b.evaluation.n for name, b in found.items()} == {"random real": 10, "class mean": 1, "k-means": 10}
    assert not any(b.chosen for b in found.values())
    assert found["class mean"].evaluation.mean > 0.7, "twice the same image is no trouble"


def test_what_goes_with_what_is_said(digits, digits_mlp, wide):
    method = kernel_inducing_points(wide)
    distilled = method.distilled(method.init(jax.random.key(0), digits, 1))
    with pytest.raises(OptionError, match="Kernel regression is for infinitely wide networks"):
        dd.evaluate(distilled, digits_mlp, digits)
    with pytest.raises(OptionError, match="has no weights to train in steps"):
        dd.evaluate(distilled, wide, digits, protocol="dc")
    with pytest.raises(OptionError, match="has no epochs, but num_epochs is 3"):
        dd.evaluate(distilled, wide, digits, num_epochs=3)
    with pytest.raises(OptionError, match="has no weights to train in steps"):
        dd.distill(dd.methods.unrolled(wide, num_batches=1), digits, num_outer_steps=1, show_progress=False)
    with pytest.raises(DataError, match="images"):
        dd.evaluate(distilled, dd.models.infinite_mlp(dd.models.Shapes((4, 4, 1), 10)), digits)


def test_hyperparameters_are_plain_and_the_learning_rate_is_scaled(digits, wide):
    method = kernel_inducing_points(wide, **SMALL)
    assert json.loads(json.dumps(method.hyperparameters)) == method.hyperparameters
    assert method.useful_devices(8) == 1, "its products use all cores of a CPU as they are"
    state, arrays = method.init(jax.random.key(0), digits, 5), method.arrays(digits)
    moves = [
        one_step(method.step, jax.random.key(1), s, arrays)[0].learnable.images - s.learnable.images
        for s in (state, method.scale_learning_rate(state, 0.5))
    ]
    np.testing.assert_allclose(moves[1], 0.5 * moves[0], rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learn": "image"}, "Did you mean 'images'"),
        ({"init_labels": "solved"}, "Did you mean 'solve'"),
        ({"init_labels": "solve", "learn": "images"}, "needs labels that are learnt, but learn is .images."),
        ({"dtype": "float64"}, "JAX_ENABLE_X64=1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"regulariser": 0.0}, "regulariser must be positive"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"images_per_class": 0}, "images_per_class must be at least 1"),
        ({"init_images": "reel"}, "Did you mean 'real'"),
        ({"regularizer": 1e-6}, "Did you mean 'regulariser'"),
    ],
)
def test_bad_options_say_what_is_known(wide, options, words, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match=words):
        kernel_inducing_points(wide, **options)


def test_a_finite_network_is_refused(digits_mlp):
    with pytest.raises(OptionError, match=r"but the mlp has weights. Use dd_jax\.models\.infinite_mlp"):
        kernel_inducing_points(digits_mlp)


@pytest.mark.usefixtures("optimised")
@pytest.mark.slow
@pytest.mark.parametrize(("images_per_class", "least"), [(1, 0.84), (10, 0.92)])
def test_mnist(images_per_class, least):
    """Measured: 89 and 95 % with 10,000 real images."""
    try:
        data = dd.load_dataset("mnist")
    except DataError as error:
        pytest.skip(str(error))
    some = dd.types.Batch(data.train.images[:10_000], data.train.labels[:10_000])
    data = dd.types.dataclasses.replace(data, train=some)
    method = kernel_inducing_points(dd.models.infinite_mlp(data), images_per_class=images_per_class)
    run = dd.distill(method, data, num_outer_steps=300, eval_every=100, show_progress=False)
    assert dd.evaluate(run.distilled, method.model, data).mean >= least
