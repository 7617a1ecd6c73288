"""Gradient matching: what one outer step does, when networks are trained and drawn anew, its options, and it learns."""

import itertools
import json

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import lax

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.inner import DISTANCES, class_batches, fit
from dd_jax.methods import GradientMatchingOptions, gradient_matching
from dd_jax.methods.gradient_matching import _training, with_loops
from dd_jax.methods.matched_gradients import class_wise, collective
from dd_jax.types import Batch, Protocol

SMALL = {"images_per_class": 2, "batch_size": 8, "num_matches": 3, "inner_epochs": 2}


@pytest.fixture(scope="module")
def tiny() -> dd.Dataset:
    generator = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = generator.uniform(size=(90, 4, 4, 1)) * 0.5 + 0.25 * labels[:, None, None, None]
    return dd.dataset_from_arrays(images, labels)


@pytest.fixture(scope="module")
def model(tiny) -> dd.models.Model:
    return dd.models.mlp(tiny, hidden=(5,))


def states(method, data, num_steps):
    """The states before and after each of some outer steps, and the infos."""
    step, arrays = jax.jit(method.step), method.arrays(data)
    found, infos = [method.init(jax.random.key(0), data, num_steps)], []
    for i in range(num_steps):
        state, info = step(jax.random.fold_in(jax.random.key(1), i), found[-1], arrays)
        found.append(state)
        infos.append(info)
    assert step._cache_size() <= 1, "the second step does not recompile"
    return found, infos


def first(network):
    return jax.tree.map(lambda leaf: leaf[0], network)


@pytest.mark.parametrize("num_inits", [1, 2])
def test_networks_live_for_so_many_matches_and_are_trained_between_them(model, tiny, num_inits):
    method = gradient_matching(model, **SMALL, num_inits=num_inits, inner_learning_rate=0.5)
    found, _ = states(method, tiny, 7)
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(1), i))[0] for i in range(7)]
    training = _training(with_loops(GradientMatchingOptions(**SMALL, inner_learning_rate=0.5)))
    for i, (before, after) in enumerate(itertools.pairwise(found)):
        mine = jax.random.split(keys[i], num_inits)
        for n in range(num_inits):
            network = jax.tree.map(lambda leaf, n=n: leaf[n], after.networks)
            if i % 3 == 0:
                expected = model.init(mine[n])
            else:
                fit_key, _ = jax.random.split(mine[n])
                images = Batch(before.learnable.images, jnp.repeat(jnp.arange(3), 2))
                previous = jax.tree.map(lambda leaf, n=n: leaf[n], before.networks)
                expected = fit(model.apply, previous, fit_key, images, training)
                moved = jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), previous, network))
                assert max(moved) > 1e-3
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), network, expected)
        assert int(after.matches) == i + 1


def test_a_step_goes_down_the_gradient_of_the_loss_with_momentum(model, tiny):
    method = gradient_matching(model, **SMALL, num_inits=2, learning_rate=0.3, momentum=0.5, augment="flip_rotate")
    found, infos = states(method, tiny, 3)
    arrays, velocity = method.arrays(tiny), 0.0
    loss = class_wise(model.apply, DISTANCES["unit_cosine"], "flip_rotate")
    for i, (before, after) in enumerate(itertools.pairwise(found)):
        _, match_key = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
        values, gradients = [], []
        for n, key in enumerate(jax.random.split(match_key, 2)):
            data_key, change_key = jax.random.split(key)
            real, changes = class_batches(data_key, arrays, 8), jax.random.split(change_key, 3)
            params = jax.tree.map(lambda leaf, n=n: leaf[n], after.networks)
            images = before.learnable.images.reshape(3, 2, 4, 4, 1)
            value, gradient = jax.value_and_grad(loss, argnums=1)(params, images, real, changes)
            values.append(value)
            gradients.append(gradient.reshape(6, 4, 4, 1))
        velocity = 0.5 * velocity + sum(gradients) / 2
        expected = before.learnable.images - 0.3 * velocity
        np.testing.assert_allclose(after.learnable.images, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(infos[i].loss, np.mean(values), rtol=1e-4)


@pytest.mark.parametrize(
    ("count", "loops"), [(1, (1, 1)), (10, (10, 50)), (20, (20, 25)), (50, (50, 10)), (100, (100, 5))]
)
def test_loops_are_those_of_the_paper(count, loops):
    found = with_loops(GradientMatchingOptions(images_per_class=count))
    assert (found.num_matches, found.inner_epochs) == loops
    given = with_loops(GradientMatchingOptions(images_per_class=count, num_matches=7, inner_epochs=3))
    assert (given.num_matches, given.inner_epochs) == (7, 3)


def test_a_single_match_uses_a_network_as_it_is_drawn(model, tiny):
    method = gradient_matching(model, images_per_class=1, batch_size=8)
    found, _ = states(method, tiny, 3)
    networks = [np.asarray(jax.tree.leaves(state.networks)[-1]) for state in found]
    assert len(np.unique(np.stack(networks), axis=0)) == 4
    key = jax.random.split(jax.random.fold_in(jax.random.key(1), 0))[0]
    expected = model.init(jax.random.split(key, 1)[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), first(found[1].networks), expected)


def test_networks_may_be_trained_on_real_images(tiny, model):
    options = {**SMALL, "train_on": "real", "num_training_images": 30, "inner_learning_rate": 0.3, "inner_epochs": 20}
    method = gradient_matching(model, **options, inner_momentum=0.9)
    found, _ = states(method, tiny, 3)

    def accuracy(state):
        answers = model.apply(first(state.networks), tiny.train.images).argmax(-1)
        return float((answers == tiny.train.labels).mean())

    assert accuracy(found[3]) > max(accuracy(found[1]), 0.6)


def test_warm_up_is_class_by_class(model, tiny):
    """The losses of three networks of two matches: the first match of each of the first two is class by class."""
    options = {**SMALL, "num_matches": 2, "collective": True, "warmup_networks": 2, "warmup_matches": 1}
    method = gradient_matching(model, **options)
    found, infos = states(method, tiny, 6)
    arrays = method.arrays(tiny)
    for i, (before, after) in enumerate(itertools.pairwise(found)):
        make = class_wise if i in (0, 2) else collective
        _, match_key = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
        data_key, change_key = jax.random.split(jax.random.split(match_key, 1)[0])
        loss = make(model.apply, DISTANCES["unit_cosine"])
        images = before.learnable.images.reshape(3, 2, 4, 4, 1)
        real = class_batches(data_key, arrays, 8)
        expected = loss(first(after.networks), images, real, jax.random.split(change_key, 3))
        np.testing.assert_allclose(infos[i].loss, expected, rtol=1e-4)


def test_vmap_and_map_over_inits_give_the_same_step(model, tiny):
    by_vmap, by_map = (
        states(gradient_matching(model, **SMALL, num_inits=3, over_inits=how), tiny, 2) for how in ("vmap", "map")
    )
    for one, other in zip(by_vmap[0], by_map[0], strict=True):
        np.testing.assert_allclose(one.learnable.images, other.learnable.images, rtol=1e-4, atol=1e-5)


def test_a_stored_image_is_several(tiny, model):
    method = gradient_matching(model, **SMALL, factor=2, distance="l1")
    found, infos = states(method, tiny, 2)
    assert found[-1].learnable.stored.shape == (6, 4, 4, 1)
    distilled = method.distilled(found[-1])
    assert distilled.images.shape == (1, 24, 4, 4, 1)
    np.testing.assert_array_equal(distilled.labels, [np.repeat([0, 1, 2], 8)])
    assert np.isfinite([info.loss for info in infos]).all()
    assert not np.array_equal(found[0].learnable.stored, found[-1].learnable.stored)


def test_the_loss_falls_and_the_set_gets_better(digits):
    model = dd.models.mlp(digits, hidden=(32,))
    method = gradient_matching(model, images_per_class=1, batch_size=64, learning_rate=0.3, init_images="noise")

    @jax.jit
    def run(state, keys, arrays):
        return lax.scan(lambda state, key: method.step(key, state, arrays), state, keys)

    start = method.init(jax.random.key(0), digits, 300)
    state, info = run(start, jax.random.split(jax.random.key(1), 300), method.arrays(digits))
    losses = np.asarray(info.loss)
    assert losses[-30:].mean() < 0.6 * losses[:5].mean()
    quick = dd.Training(epochs=100, batch_size=16, learning_rate=0.1, optimiser="sgd", drop_last=False)
    before, after = (
        dd.evaluate(method.distilled(s), model, digits, num_nets=3, num_curve_nets=0, protocol=quick).mean
        for s in (start, state)
    )
    assert after > before + 0.4


def test_hyperparameters_are_json_and_say_the_loops(model):
    method = gradient_matching(model, images_per_class=10)
    assert json.loads(json.dumps(method.hyperparameters)) == method.hyperparameters
    assert (method.hyperparameters["num_matches"], method.hyperparameters["inner_epochs"]) == (10, 50)
    again = gradient_matching(model, GradientMatchingOptions(**method.hyperparameters))
    assert again.hyperparameters == method.hyperparameters
    assert gradient_matching(model, num_inits=3).useful_devices(8) == 3


def test_slower(model, tiny):
    method = gradient_matching(model, **SMALL)
    state, arrays = method.init(jax.random.key(0), tiny, 5), method.arrays(tiny)
    moves = [
        method.step(jax.random.key(1), s, arrays)[0].learnable.images - s.learnable.images
        for s in (state, method.slower(state, 0.5))
    ]
    np.testing.assert_allclose(moves[1], 0.5 * moves[0], rtol=1e-2, atol=1e-6)


def test_a_run_resumes_with_its_networks_and_names_its_protocol(model, tiny, tmp_path, monkeypatch):
    quick = dd.Training(epochs=5, batch_size=16, learning_rate=0.1, optimiser="sgd", drop_last=False)
    monkeypatch.setitem(dd.PROTOCOLS, "dc", quick)
    method = gradient_matching(model, **SMALL)
    options = {"num_steps": 8, "eval_every": 4, "num_eval_nets": 2, "show_progress": False}
    from dd_jax.runs import loop

    look = loop._Loop.look

    def interrupted(self, show):
        look(self, show)
        if self.step == 4:  # amid the life of a network
            raise SystemExit

    monkeypatch.setattr(loop._Loop, "look", interrupted)
    with pytest.raises(SystemExit):
        dd.distill(method, tiny, out=tmp_path / "cut", **options)
    monkeypatch.setattr(loop._Loop, "look", look)
    runs = [dd.distill(method, tiny, out=tmp_path / name, **options) for name in ("cut", "whole")]
    assert [row.get("loss") for row in runs[0].history] == [row.get("loss") for row in runs[1].history]
    np.testing.assert_array_equal(runs[0].distilled.images, runs[1].distilled.images)
    assert dd.load_distilled(tmp_path / "cut").protocol == Protocol("dc", order="random")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_inits": 0}, "num_inits must be at least 1, but is 0"),
        ({"num_matches": 0}, "num_matches must be at least 1, but is 0"),
        ({"num_matches": 2, "inner_epochs": 0}, "inner_epochs must be at least 1, but is 0"),
        ({"images_per_class": 0}, "images_per_class must be at least 1"),
        ({"warmup_networks": -1}, "warmup_networks must be at least 0, but is -1"),
        ({"inner_learning_rate": 0.0}, "inner_learning_rate must be positive"),
        ({"distance": "cosin"}, "distance 'cosin'. Did you mean 'cosine'"),
        ({"train_on": "reel"}, "train_on 'reel'. Did you mean 'real'"),
        ({"layers": "convolution"}, "Did you mean 'convolutions'"),
        ({"layers": "convolutions"}, "mlp has no convolutions to compare"),
        ({"augment": "dsb"}, "augment 'dsb'. Did you mean 'dsa'"),
        ({"num_match": 2}, "Did you mean 'num_matches'"),
    ],
)
def test_bad_options_say_what_is_known(model, options, words, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match=words):
        gradient_matching(model, **options)
