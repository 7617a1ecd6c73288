"""Gradient matching: what one outer step does, when networks are trained and drawn anew, its options, and it learns."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from cut_runs import cut_and_whole
from steps import all_steps, one_step

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.inner import DISTANCES, class_batches, draw_network, fit, networks_of
from dd_jax.methods import GradientMatchingOptions, gradient_matching
from dd_jax.methods.base import first_arrays
from dd_jax.methods.gradient_matching_options import network_training, with_loops
from dd_jax.methods.matched_gradients import class_wise, collective
from dd_jax.methods.matching import useful_devices
from dd_jax.types import Batch, Protocol

SMALL = {"images_per_class": 2, "batch_size": 8, "num_matches": 3, "inner_epochs": 2}


def states(method, data, num_outer_steps):
    """The states before and after each of some outer steps, and the infos."""
    arrays, before = first_arrays(method, data), one_step._cache_size()
    found, infos = [method.init(jax.random.key(0), data, num_outer_steps)], []
    for i in range(num_outer_steps):
        state, info = one_step(method.step, jax.random.fold_in(jax.random.key(1), i), found[-1], arrays)
        found.append(state)
        infos.append(info)
    assert one_step._cache_size() <= before + 1, "the second step does not recompile"
    return found, infos


@functools.partial(jax.jit, static_argnums=(0, 4))
def trained(apply, params, key, images, training):
    return fit(apply, params, key, images, training)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def loss_and_gradient(make, apply, distance, change, params, images, real, changes):
    """Of images (K, M, ...), which are labelled by their classes."""
    loss = make(apply, DISTANCES[distance], change)
    return jax.value_and_grad(lambda images: loss(params, labelled(images), real, changes))(images)


def labelled(images):
    """Images (K, M, ...) with their classes."""
    return Batch(images, jnp.broadcast_to(jnp.arange(len(images))[:, None], images.shape[:2]))


def first(network):
    return jax.tree.map(lambda leaf: leaf[0], network)


@pytest.mark.parametrize("num_inits", [1, 2])
def test_networks_live_for_so_many_matches_and_are_trained_between_them(model, tiny, num_inits):
    method = gradient_matching(model, **SMALL, num_inits=num_inits, inner_learning_rate=0.5)
    found, _ = states(method, tiny, 7)
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(1), i))[0] for i in range(7)]
    training = network_training(with_loops(GradientMatchingOptions(**SMALL, inner_learning_rate=0.5)))
    for i, (before, after) in enumerate(itertools.pairwise(found)):
        mine = jax.random.split(keys[i], num_inits)
        for n in range(num_inits):
            network = jax.tree.map(lambda leaf, n=n: leaf[n], after.networks)
            if i % 3 == 0:
                expected = draw_network(model, mine[n])
            else:
                fit_key, _ = jax.random.split(mine[n])
                images = Batch(before.learnable.images, jnp.repeat(jnp.arange(3), 2))
                previous = jax.tree.map(lambda leaf, n=n: leaf[n], before.networks)
                expected = trained(model.apply, previous, fit_key, images, training)
                moved = jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), previous, network))
                assert max(moved) > 1e-3
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), network, expected)
        assert int(after.matches) == i + 1


def test_a_step_goes_down_the_gradient_of_the_loss_with_momentum(model, tiny):
    method = gradient_matching(model, **SMALL, num_inits=2, learning_rate=0.3, momentum=0.5, augment="flip_rotate")
    found, infos = states(method, tiny, 3)
    arrays, velocity = method.arrays(tiny), 0.0
    for i, (before, after) in enumerate(itertools.pairwise(found)):
        _, match_key = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
        values, gradients = [], []
        for n, key in enumerate(jax.random.split(match_key, 2)):
            data_key, change_key = jax.random.split(key)
            real, changes = labelled(class_batches(data_key, arrays.arrays.real, 8)), jax.random.split(change_key, 3)
            params = jax.tree.map(lambda leaf, n=n: leaf[n], after.networks)
            images = before.learnable.images.reshape(3, 2, 4, 4, 1)
            how = class_wise, model.apply, "unit_cosine", "flip_rotate"
            value, gradient = loss_and_gradient(*how, params, images, real, changes)
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
    expected = draw_network(model, jax.random.split(key, 1)[0])
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
        images = before.learnable.images.reshape(3, 2, 4, 4, 1)
        real = labelled(class_batches(data_key, arrays.arrays.real, 8))
        how = make, model.apply, "unit_cosine", "none"
        expected, _ = loss_and_gradient(*how, first(after.networks), images, real, jax.random.split(change_key, 3))
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


def learnt(options, model, data, num_outer_steps=2):
    return states(gradient_matching(model, **SMALL, **options), data, num_outer_steps)[0][-1].learnable


def test_a_step_class_by_class_is_the_joint_one_but_for_momentum(model, tiny):
    """The gradient of a class is in its own images: without momentum it doesn't matter when the others move."""
    joint, by_class = (
        learnt({"image_steps": how, "momentum": 0.0, "learning_rate": 0.5}, model, tiny)
        for how in ("joint", "per_class")
    )
    np.testing.assert_allclose(by_class.images, joint.images, rtol=1e-4, atol=1e-5)


def test_momentum_goes_on_with_every_class(model, tiny):
    """After the step of class c the images of class k have moved by 1 + m + ... of their own gradient, K - k times."""
    options = {"momentum": 0.5, "learning_rate": 0.5}
    start = gradient_matching(model, **SMALL).init(jax.random.key(0), tiny, 1).learnable.images
    still = learnt({**options, "momentum": 0.0}, model, tiny, 1).images - start
    moved = learnt({**options, "image_steps": "per_class"}, model, tiny, 1).images - start
    for c, times in enumerate((1 + 0.5 + 0.25, 1 + 0.5, 1)):
        mine = np.s_[2 * c : 2 * c + 2]
        np.testing.assert_allclose(moved[mine], times * still[mine], rtol=1e-3, atol=1e-5)


def test_the_schedule_ends_with_the_run_whatever_the_steps_of_a_match(model, tiny):
    for how, steps in (("joint", 2), ("per_class", 6)):
        found, _ = states(gradient_matching(model, **SMALL, image_steps=how, schedule="cosine"), tiny, 2)
        assert int(found[-1].outer.step) == int(found[-1].outer.horizon) == steps


def test_clamped_images_stay_in_the_range_of_pixels(model, tiny):
    far = {"learning_rate": 50.0}
    shown = [
        np.asarray(dd.to_pixels(tiny.transform, learnt({**far, "clamp": clamp}, model, tiny).images))
        for clamp in (False, True)
    ]
    assert shown[0].max() > 1.1
    assert shown[1].min() > -1e-5
    assert shown[1].max() < 1 + 1e-5


def test_few_images_in_a_match_are_drawn_anew(model, tiny):
    """Of two of a class one moves, and over some matches either does."""
    options = {"match_images": 1, "momentum": 0.0, "image_steps": "per_class"}
    found, _ = states(gradient_matching(model, **SMALL, **options), tiny, 6)
    moved = np.stack([
        np.abs(after.learnable.images - before.learnable.images).max((1, 2, 3)) > 0
        for before, after in itertools.pairwise(found)
    ])  # fmt: skip
    assert (moved.reshape(6, 3, 2).sum(-1) == 1).all()
    assert moved.any(0).all()


def test_early_epochs_train_networks_on_real_images_before_their_first_match(model, tiny):
    options = {"images_per_class": 1, "batch_size": 8, "inner_learning_rate": 0.3, "num_training_images": 60}

    def accuracy(epochs):
        found, _ = states(gradient_matching(model, **options, early_epochs=epochs), tiny, 1)
        answers = model.apply(first(found[1].networks), tiny.train.images).argmax(-1)
        return float((answers == tiny.train.labels).mean())

    assert accuracy(60) > max(accuracy(0) + 0.2, 0.6)


def test_networks_may_be_drawn_from_a_pool(model, tiny, tmp_path):
    quick = dd.Training(epochs=1, batch_size=16)
    pool = dd.pretrain(model, tiny, num_nets=2, num_held_out=1, training=quick, out=tmp_path / "nets.safetensors")
    method = gradient_matching(model, images_per_class=1, batch_size=8, num_inits=2, experts=pool)
    assert method.hyperparameters["experts"] == pool.fingerprint
    assert method.pretrained is None, "the set is for networks from scratch"
    with pytest.raises(OptionError, match="Give them as experts in place of pretrained"):
        gradient_matching(model, pretrained=pool)
    found, _ = states(method, tiny, 4)
    known = np.asarray(jax.tree.leaves(networks_of(pool, Protocol(), "train"))[-1])
    for state in found[1:]:
        for network in np.asarray(jax.tree.leaves(state.networks)[-1]):
            assert (np.abs(known - network).max(axis=tuple(range(1, known.ndim))) < 1e-7).any()


def test_experts_are_read_for_some_lives_at_a_time(model, tiny, tmp_path):
    """Networks that live for three matches: a window has whole lives, and a run that is cut in one goes on."""
    quick = dd.Training(epochs=1, batch_size=16)
    pool = dd.pretrain(model, tiny, num_nets=5, num_held_out=0, training=quick, out=tmp_path / "nets.safetensors")
    method = gradient_matching(model, images_per_class=1, batch_size=8, num_inits=2, num_matches=3, experts=pool)
    assert method.feed.window % 3 == 0
    first, again, second = (method.feed.read(0, number) for number in (0, 0, 1))
    leaf = jax.tree.leaves(first)[-1]
    assert leaf.shape[:2] == (method.feed.window // 3, 2)
    np.testing.assert_array_equal(leaf, jax.tree.leaves(again)[-1])
    assert (leaf != jax.tree.leaves(second)[-1]).any()
    found, _ = states(method, tiny, 7)
    for life in range(3):
        np.testing.assert_array_equal(jax.tree.leaves(found[3 * life + 1].networks)[-1], leaf[life])
    few = method._replace(feed=method.feed._replace(window=3))
    cut, whole = cut_and_whole(few, tiny, tmp_path, 4, num_outer_steps=8, eval_every=2, num_eval_nets=1)
    np.testing.assert_array_equal(cut.distilled.images, whole.distilled.images)


def test_the_rate_may_go_with_the_number_of_images(model, tiny):
    """Two of a class: a fifth of the rate for ten."""
    given = learnt({"learning_rate": 0.2}, model, tiny).images
    np.testing.assert_allclose(
        learnt({"learning_rate": 1.0, "rate_by_count": True}, model, tiny).images, given, rtol=1e-5
    )


def test_labels_are_learnt_at_a_rate_of_their_own_and_arrive(model, tiny, tmp_path, monkeypatch):
    quick = dd.Training(epochs=5, batch_size=16, learning_rate=0.1, optimiser="sgd", drop_last=False, cutmix=True)
    monkeypatch.setitem(dd.PROTOCOLS, "dc", quick)
    slow, fast = (
        learnt({"learn_labels": True, "label_learning_rate": rate, "factor": 2}, model, tiny) for rate in (1e-6, 2.0)
    )
    start = gradient_matching(model, **SMALL, learn_labels=True, factor=2).init(jax.random.key(0), tiny, 1).learnable
    assert start.label_logits.shape == (24, 3)
    np.testing.assert_allclose(slow.label_logits, start.label_logits, atol=1e-3)
    assert np.abs(fast.label_logits - start.label_logits).max() > 0.01
    method = gradient_matching(model, **SMALL, learn_labels=True, label_learning_rate=5.0)
    run = dd.distill(
        method, tiny, num_outer_steps=4, eval_every=2, num_eval_nets=2, show_progress=False, out=tmp_path / "run"
    )
    loaded = dd.load_distilled(tmp_path / "run")
    assert loaded.labels.shape == (1, 6, 3)
    np.testing.assert_array_equal(loaded.labels, run.distilled.labels)
    np.testing.assert_allclose(loaded.labels.sum(-1), 1, rtol=1e-5)
    assert dd.evaluate(loaded, model, tiny, num_nets=2).n == 2


@pytest.mark.parametrize(("available", "num_inits", "classes", "best"), [
    (1, 1, 10, 1), (2, 1, 10, 2), (8, 1, 10, 5), (8, 3, 10, 6), (8, 8, 10, 8), (4, 1, 1, 1), (4, 2, 3, 3),
])  # fmt: skip
def test_devices_take_networks_and_then_classes(available, num_inits, classes, best):
    assert useful_devices(available, num_inits, classes) == best


def test_collective_steps_and_those_class_by_class_of_narrow_networks_are_not_divided(model):
    for options, devices in (({}, 3), ({"collective": True}, 1), ({"image_steps": "per_class"}, 1)):
        assert gradient_matching(model, images_per_class=1, **options).useful_devices(3) == devices


def test_the_loss_falls_and_the_set_gets_better(digits):
    model = dd.models.mlp(digits, hidden=(16,))
    method = gradient_matching(model, images_per_class=1, batch_size=128, learning_rate=0.03, init_images="noise")
    start = method.init(jax.random.key(0), digits, 300)
    state, info = all_steps(method.step, jax.random.split(jax.random.key(1), 300), start, method.arrays(digits))
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


def test_scale_learning_rate(model, tiny):
    method = gradient_matching(model, **SMALL)
    state, arrays = method.init(jax.random.key(0), tiny, 5), method.arrays(tiny)
    moves = [
        one_step(method.step, jax.random.key(1), s, arrays)[0].learnable.images - s.learnable.images
        for s in (state, method.scale_learning_rate(state, 0.5))
    ]
    np.testing.assert_allclose(moves[1], 0.5 * moves[0], rtol=1e-2, atol=1e-6)


def test_a_run_resumes_with_its_networks_and_names_its_protocol(model, tiny, tmp_path, monkeypatch):
    quick = dd.Training(epochs=5, batch_size=16, learning_rate=0.1, optimiser="sgd", drop_last=False)
    monkeypatch.setitem(dd.PROTOCOLS, "dc", quick)
    method = gradient_matching(model, **SMALL)
    options = {"num_outer_steps": 8, "eval_every": 4, "num_eval_nets": 2, "show_progress": False}
    runs = cut_and_whole(method, tiny, tmp_path, step=4, **options)  # amid the life of a network
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
        ({"image_steps": "per_clas"}, "Did you mean 'per_class'"),
        ({"image_steps": "per_class", "collective": True}, "one gradient for all classes"),
        ({"match_images": 0}, "match_images must be at least 1, or None"),
        ({"early_epochs": -1}, "early_epochs must be at least 0, but is -1"),
        ({"label_learning_rate": 0.0}, "label_learning_rate must be positive"),
        ({"formation": "multy"}, "Did you mean 'multi'"),
        ({"layers": "convolutions"}, "compares convolutions, but the mlp has none"),
        ({"augment": "dsb"}, "augment 'dsb'. Did you mean 'dsa'"),
        ({"num_match": 2}, "Did you mean 'num_matches'"),
    ],
)
def test_bad_options_say_what_is_known(model, options, words, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match=words):
        gradient_matching(model, **options)
