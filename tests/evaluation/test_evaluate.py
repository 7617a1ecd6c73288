"""Evaluation is a plain loop of gradient steps and a count of right answers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import DataError, OptionError
from dd_jax.evaluation import evaluate_networks
from dd_jax.evaluation.measure import mixed_chunks
from dd_jax.types import DistilledData, Protocol
from dd_jax.values import quick_jit

NUM_TEST = 300  # two chunks of 128 and a part


def arrays(seed: int, count: int, shares=(0.5, 0.3, 0.2)):
    """Three classes of unequal size that overlap, so that accuracies are neither 0 nor 1."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, count, p=shares)
    images = (
        0.35 * generator.uniform(size=(count, 4, 4, 1))
        + 0.2 * np.eye(3)[labels][:, :, None, None].repeat(4, 2)[:, [0, 1, 2, 0]]
    )
    return images, labels


@pytest.fixture(scope="module")
def data() -> dd.Dataset:
    return dd.dataset_from_arrays(*arrays(0, 90), test=arrays(1, NUM_TEST), validation=arrays(2, 128))


@pytest.fixture(scope="module")
def model(data) -> dd.models.Model:
    return dd.models.mlp(data, hidden=(6,))


@pytest.fixture(scope="module")
def distilled(data) -> DistilledData:
    """Two batches gone through twice, at four different step sizes."""
    images = data.train.images[
        jnp.array([int(np.flatnonzero(data.train.labels == c)[i]) for i in (0, 1) for c in range(3)])
    ]
    labels = jnp.tile(jnp.arange(3, dtype=jnp.int32), (2, 1))
    return DistilledData({"images": images.reshape(2, 3, 4, 4, 1)}, labels, jnp.array([0.05, 0.1, 0.2, 0.3]))


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


@functools.partial(jax.jit, static_argnums=0)
def step_by_hand(apply, params, images, labels, size):
    gradient = jax.grad(lambda params: cross_entropy(apply(params, images), labels))(params)
    return jax.tree.map(lambda p, g: p - size * g, params, gradient)


def train_by_hand(distilled, model, key, step_sizes):
    params = jax.jit(model.init)(key)
    for t, size in enumerate(step_sizes):
        params = step_by_hand(model.apply, params, distilled.images[t % 2], distilled.labels[t % 2], size)
    return params


def right_by_hand(model, params, split) -> np.ndarray:
    return np.asarray(model.apply(params, split.images)).argmax(-1) == np.asarray(split.labels)


def assert_same_accuracy(found, expected, count=NUM_TEST):
    """To one image: an argmax may tip over by rounding."""
    np.testing.assert_allclose(found, expected, atol=1.01 / count)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_equals_a_plain_loop(distilled, model, data, split):
    found = dd.evaluate(distilled, model, data, num_nets=4, num_curve_nets=2, seed=5, split=split)
    real, sizes = getattr(data, split), [0.05, 0.1, 0.2, 0.3]
    keys = [jax.random.fold_in(jax.random.key(5), i) for i in range(4)]
    right = np.stack([right_by_hand(model, train_by_hand(distilled, model, key, sizes), real) for key in keys])
    assert_same_accuracy(found.accuracies, right.mean(1), len(real.labels))
    labels = np.asarray(real.labels)
    per_class = [right[:, labels == c].mean() for c in range(3)]
    np.testing.assert_allclose(found.per_class, per_class, atol=1.01 / min(np.bincount(labels)))
    assert (found.n, found.split) == (4, split)
    np.testing.assert_allclose([found.mean, found.std], [found.accuracies.mean(), found.accuracies.std()])
    along = [[right_by_hand(model, train_by_hand(distilled, model, k, sizes[:t]), real).mean() for t in (0, 2, 4)]
             for k in keys[:2]]  # fmt: skip
    assert_same_accuracy(found.curve, along, len(real.labels))


def test_per_class_weighted_by_counts_is_the_mean(distilled, model, data):
    found = dd.evaluate(distilled, model, data, num_nets=3)
    counts = np.bincount(data.test.labels, minlength=3)
    np.testing.assert_allclose(found.per_class @ counts / counts.sum(), found.mean, rtol=1e-6)


def test_the_curve_ends_where_the_accuracies_are(distilled, model, data):
    found = dd.evaluate(distilled, model, data, num_nets=3, num_curve_nets=3)
    untrained = dd.evaluate(distilled, model, data, num_nets=3, num_epochs=0)
    assert found.curve.shape == (3, 3)
    np.testing.assert_array_equal(found.curve[:, -1], found.accuracies)
    np.testing.assert_array_equal(found.curve[:, 0], untrained.accuracies)


def test_the_curve_changes_no_accuracy(distilled, model, data):
    without, some, every = (dd.evaluate(distilled, model, data, num_nets=3, num_curve_nets=n) for n in (0, 1, 9))
    np.testing.assert_array_equal(without.accuracies, some.accuracies)
    np.testing.assert_array_equal(without.accuracies, every.accuracies)
    assert [e.curve.shape for e in (without, some, every)] == [(0, 3), (1, 3), (3, 3)]


def test_the_same_seed_gives_the_same_result(distilled, model, data):
    one, again, other = (dd.evaluate(distilled, model, data, num_nets=4, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.accuracies, again.accuracies)
    assert not np.array_equal(one.accuracies, other.accuracies)
    fewer = dd.evaluate(distilled, model, data, num_nets=2, seed=1)
    np.testing.assert_array_equal(fewer.accuracies, one.accuracies[:2])


def test_further_epochs_repeat_the_last_sizes(distilled, model, data):
    key = jax.random.key(3)
    found = dd.train_on(distilled, model, key, num_epochs=4)
    expected = train_by_hand(distilled, model, key, [0.05, 0.1, 0.2, 0.3, 0.2, 0.3, 0.2, 0.3])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
    fewer = dd.train_on(distilled, model, key, num_epochs=1)
    expected = train_by_hand(distilled, model, key, [0.05, 0.1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), fewer, expected)


def test_no_epochs_is_the_untrained_network(distilled, model, data):
    found = dd.evaluate(distilled, model, data, num_nets=3, num_epochs=0, seed=5)
    params = [model.init(jax.random.fold_in(jax.random.key(5), i)) for i in range(3)]
    assert_same_accuracy(found.accuracies, [right_by_hand(model, p, data.test).mean() for p in params])
    trained = dd.train_on(distilled, model, jax.random.key(1), num_epochs=0)
    jax.tree.map(np.testing.assert_array_equal, trained, quick_jit(model.init)(jax.random.key(1)))


def test_a_fixed_init_is_one_network(distilled, model, data):
    fixed = DistilledData(*(getattr(distilled, f) for f in ("learnt", "labels", "step_sizes")),
                          protocol=Protocol(init="fixed", init_seed=11))  # fmt: skip
    found, by_name = dd.evaluate(fixed, model, data, num_nets=9), dd.evaluate(distilled, model, data, init="fixed")
    assert (found.n, by_name.n, found.std) == (1, 1, 0.0)
    params = dd.train_on(fixed, model, jax.random.key(99))
    expected = train_by_hand(distilled, model, jax.random.key(11), [0.05, 0.1, 0.2, 0.3])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), params, expected)
    assert_same_accuracy(found.accuracies, [right_by_hand(model, expected, data.test).mean()])
    assert dd.evaluate(fixed, model, data, num_nets=3, init="random").n == 3


def test_train_on_gives_the_networks_that_evaluate_measures(distilled, model, data):
    found = dd.evaluate(distilled, model, data, num_nets=2, seed=8)
    trained = [dd.train_on(distilled, model, jax.random.fold_in(jax.random.key(8), i)) for i in range(2)]
    assert_same_accuracy(found.accuracies, [right_by_hand(model, params, data.test).mean() for params in trained])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "tset"}, "split 'tset'. Did you mean 'test'"),
        ({"init": "fixd"}, "init 'fixd'. Did you mean 'fixed'"),
        ({"num_nets": 0}, "num_nets must be at least 1"),
        ({"num_epochs": -1}, "num_epochs must be at least 0"),
    ],
)
def test_bad_options(distilled, model, data, options, words):
    with pytest.raises(OptionError, match=words):
        dd.evaluate(distilled, model, data, **options)


def test_a_model_for_other_data_is_refused(distilled, data):
    for shape, classes in (((5, 4, 1), 3), ((4, 4, 1), 4)):
        with pytest.raises(DataError, match="was built for images"):
            dd.evaluate(distilled, dd.models.mlp(dd.models.Shapes(shape, classes)), data)
    with pytest.raises(DataError, match="distilled set"):
        dd.train_on(distilled, dd.models.mlp(dd.models.Shapes((5, 4, 1), 3)))


def test_a_sorted_split_is_measured_in_mixed_chunks_by_networks_that_normalise_over_the_batch():
    """Each chunk has all classes, each image counts once, and what fills up the last chunk doesn't count."""
    labels = np.sort(np.arange(2500) % 3).astype(np.int32)
    images, found = mixed_chunks(dd.Batch(jnp.arange(2500.0)[:, None, None, None], jnp.asarray(labels)))
    images, found = np.asarray(images)[..., 0, 0, 0], np.asarray(found)
    assert images.shape == found.shape == (3, 834)
    counted = found >= 0
    assert sorted(images[counted]) == list(range(2500))
    np.testing.assert_array_equal(found[counted], labels[images[counted].astype(int)])
    for chunk in found:
        assert np.bincount(chunk[chunk >= 0], minlength=3).min() >= 276


def test_batch_normalisation_is_measured_on_the_whole_split_where_that_is_small(data):
    model = dd.models.convnet(data, width=4, depth=1, norm="batch")
    params = jax.jit(model.init)(jax.random.key(0))
    found = evaluate_networks(jax.tree.map(lambda leaf: leaf[None], params), model, data)
    right = right_by_hand(model, params, data.test)
    assert_same_accuracy(found.mean, right.mean())
    alone = jax.jit(jax.vmap(lambda image: model.apply(params, image[None])[0].argmax()))(data.test.images)
    assert abs((alone == data.test.labels).mean() - right.mean()) > 0.02
