"""FRePo: its loss, its pool of networks, and that what it learns trains networks."""

import itertools
import json

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from steps import one_step

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.methods import FrepoOptions, frepo, outer_lamb
from dd_jax.methods.frepo import feature_loss, label_margin
from dd_jax.types import Batch, Protocol

SMALL = {"pool_size": 3, "max_updates": 6, "batch_size": 64, "learning_rate": 0.01, "inner_learning_rate": 1e-3}


def steps(method, data, count):
    """The states after each step, first the one before."""
    states, arrays = [method.init(jax.random.key(0), data, count)], method.arrays(data)
    infos = []
    for i in range(count):
        state, info = one_step(method.step, jax.random.fold_in(jax.random.key(1), i), states[-1], arrays)
        states.append(state)
        infos.append(info)
    return states, infos


def test_the_loss_is_a_regression_on_features_less_the_margin(digits, digits_mlp):
    params = digits_mlp.init(jax.random.key(0))
    set_ = Batch(digits.train.images[:20], jax.nn.one_hot(digits.train.labels[:20], 10))
    real = Batch(digits.train.images[20:80], digits.train.labels[20:80])
    mine, theirs = (np.asarray(digits_mlp.features(params, b.images), np.float64) for b in (set_, real))
    gram, targets = mine @ mine.T, np.asarray(set_.labels, np.float64) - 0.1
    weights = np.linalg.solve(gram + 1e-2 * np.trace(gram) / 20 * np.eye(20), targets)
    errors = theirs @ mine.T @ weights - (np.eye(10)[np.asarray(real.labels)] - 0.1)
    found = feature_loss(digits_mlp, params, set_, real, FrepoOptions(regulariser=1e-2))
    np.testing.assert_allclose(found, 0.5 * (errors**2).mean() - 0.1, rtol=1e-3)
    without = feature_loss(digits_mlp, params, set_, real, FrepoOptions(regulariser=1e-2, margin=False))
    np.testing.assert_allclose(without - found, 0.1, rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_its_gradient_is_that_of_finite_differences(digits, digits_mlp):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), digits_mlp.init(jax.random.key(0)))
    images = digits.train.images[:60].astype(jnp.float64)
    real = Batch(images[20:], digits.train.labels[20:60])
    labels = jax.nn.one_hot(digits.train.labels[:20], 10, dtype=jnp.float64)
    keys = jax.random.split(jax.random.key(1))
    directions = jax.random.normal(keys[0], images[:20].shape), jax.random.normal(keys[1], labels.shape)

    @jax.jit
    def along(t):
        set_ = Batch(images[:20] + t * directions[0], labels + t * directions[1])
        return feature_loss(digits_mlp, params, set_, real, FrepoOptions(regulariser=1e-3))

    step = 1e-7  # short of the next kink of a ReLU
    np.testing.assert_allclose(jax.grad(along)(0.0), (along(step) - along(-step)) / (2 * step), rtol=1e-4)


def test_the_margin_counts_up_to_one_over_the_classes():
    labels = jnp.array([[1.0, 0.0, 0.0, 0.0], [0.3, 0.2, 0.1, 0.0], [0.5, 0.5, 0.0, 0.0]])
    np.testing.assert_allclose(label_margin(labels), (0.25 + 0.1 + 0.0) / 3, rtol=1e-6)


def test_a_step_trains_one_network_of_the_pool_and_replaces_the_old(digits, digits_mlp):
    states, _ = steps(frepo(digits_mlp, **SMALL), digits, 12)
    np.testing.assert_array_equal(states[0].ages, [0, 2, 4])
    seen = set()
    for before, after in itertools.pairwise(states):
        first, second = (np.asarray(s.pool.params["Dense_0"]["kernel"]) for s in (before, after))
        moved = [i for i in range(3) if not np.array_equal(first[i], second[i])]
        assert len(moved) == 1
        (i,) = moved
        change = np.abs(second[i] - first[i]).max()
        if before.ages[i] == 5:
            assert (after.ages[i], after.pool.epoch[i]) == (0, 0)
            assert change > 0.1, "another network"
            seen.add("replaced")
        else:
            assert after.ages[i] == before.ages[i] + 1
            assert change < 2e-3, "one step of Adam"
            seen.add("trained")
    assert seen == {"replaced", "trained"}


def test_the_pool_makes_a_difference_and_labels_move(digits, digits_mlp):
    found = {size: steps(frepo(digits_mlp, **SMALL | {"pool_size": size}), digits, 5)[0][-1] for size in (1, 3)}
    assert not np.allclose(found[1].learnable.images, found[3].learnable.images)
    first = jax.nn.one_hot(jnp.arange(10), 10)
    assert np.abs(found[3].learnable.labels - first).max() > 1e-3
    hard = frepo(digits_mlp, learn="images", **SMALL)
    assert hard.distilled(steps(hard, digits, 2)[0][-1]).labels.shape == (1, 10)


def test_lamb_steps_are_shares_of_what_they_change():
    learnable = {"large": jnp.full(4, 100.0), "small": jnp.full(4, 0.01)}
    optimiser = outer_lamb(0.1, schedule="constant")
    moved, _ = optimiser.update(jax.tree.map(jnp.ones_like, learnable), optimiser.init(learnable, 1), learnable)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 0.9 * b, rtol=1e-4), moved, learnable)


def test_a_run_learns_resumes_and_is_judged_by_its_protocol(digits, digits_mlp, tmp_path, monkeypatch):
    quick = dd.Training(steps=60, batch_size=500, learning_rate=0.02, schedule="constant", loss="squared", average=0.9,
                        drop_last=False)  # fmt: skip
    monkeypatch.setitem(dd.PROTOCOLS, "frepo", quick)
    method = frepo(digits_mlp, **SMALL | {"batch_size": 256})
    options = {"out": tmp_path / "run", "num_eval_nets": 2, "eval_every": 40, "show_progress": False}
    whole = dd.distill(method, digits, num_outer_steps=80, **options)
    again = dd.distill(method, digits, num_outer_steps=80, **options)
    np.testing.assert_array_equal(whole.distilled.labels, again.distilled.labels)
    losses = [row["loss"] for row in whole.history if "loss" in row]
    assert np.mean(losses[-20:]) < np.mean(losses[:10]) - 0.01
    loaded = dd.load_distilled(tmp_path / "run")
    assert loaded.protocol == Protocol("frepo", order="random")
    found, other = (dd.evaluate(loaded, digits_mlp, digits, num_nets=2, num_curve_nets=0, protocol=p)
                    for p in (None, quick))  # fmt: skip
    np.testing.assert_array_equal(found.accuracies, other.accuracies)


def test_hyperparameters_are_plain_and_the_learning_rate_is_scaled(digits, digits_mlp):
    method = frepo(digits_mlp, **SMALL)
    assert json.loads(json.dumps(method.hyperparameters)) == method.hyperparameters
    state, arrays = method.init(jax.random.key(0), digits, 5), method.arrays(digits)
    moves = [
        one_step(method.step, jax.random.key(1), s, arrays)[0].learnable.images - s.learnable.images
        for s in (state, method.scale_learning_rate(state, 0.5))
    ]
    np.testing.assert_allclose(moves[1], 0.5 * moves[0], rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pool_size": 0}, "pool_size must be at least 1"),
        ({"max_updates": 0}, "max_updates must be at least 1"),
        ({"learn": "labels"}, "learn 'labels'"),
        ({"regulariser": -1.0}, "regulariser must be positive"),
        ({"augment": "dsb"}, "Did you mean 'dsa'"),
        ({"inner_learning_rate": 0.0}, "learning_rate must be positive"),
        ({"pool_sise": 3}, "Did you mean 'pool_size'"),
    ],
)
def test_bad_options_say_what_is_known(digits_mlp, options, words, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match=words):
        frepo(digits_mlp, **options)


def test_an_infinitely_wide_network_is_refused(digits):
    with pytest.raises(OptionError, match="has no weights to train"):
        frepo(dd.models.infinite_mlp(digits))
